"""Makes rows.json: KL divergences known to 25 digits, for the tests.

    pip install numpy mpmath
    python make.py            writes rows.json
    pip install scipy
    python make.py --check    works out every answer in rows.json again from the
                              bits stored there, and compares with scipy

numpy only draws the rows and rounds them to float32 or float64. The answers
come from the stored bits: each float is turned into the exact fraction it is,
masses are summed exactly, and the logarithms and sums are mpmath's at 80 digits.
Nothing here is shared with the library.

With P = sum p and Q = sum q, 0 ln 0 = 0, and p > 0 with q = 0 giving 'inf':

    check        sum (p/P) ln((p/P) / (q/Q))      (policy normalize: the same)
    as_given     sum p ln(p/q)
    generalized  sum (p ln(p/q) - p + q)

Each row is drawn by a generator seeded with its own name, so adding or removing
a row leaves the others as they were.
"""

import json
import math
import platform
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
from mpmath import mpf

OUT = Path(__file__).resolve().parent / "rows.json"
SEED = 20240229
DIGITS = 80
mpmath.mp.dps = DIGITS

FLOAT = {"f32": np.float32, "f64": np.float64}
BIG_ENDIAN = {"f32": ">f4", "f64": ">f8"}
MASS_TOLERANCE = Fraction(1, 1000)  # "check" rows: |mass - 1| at most this

# ---------------------------------------------------------------- the answers


def real(fraction):
    return mpf(fraction.numerator) / mpf(fraction.denominator)


def log_ratio(a, b):
    """ln(a/b) of two exact positive fractions; exactly 0 when they are equal."""
    return mpf(0) if a == b else mpmath.log(real(a / b))


def answers(p, q):
    """mass_p, mass_q (exact), check, as_given, generalized of exact fractions."""
    mass_p, mass_q = sum(p), sum(q)
    if any(a > 0 and b == 0 for a, b in zip(p, q)):
        return mass_p, mass_q, mpmath.inf, mpmath.inf, mpmath.inf
    on = [(a, b) for a, b in zip(p, q) if a > 0]
    check = mpmath.fsum(
        real(a / mass_p) * log_ratio(a * mass_q, b * mass_p) for a, b in on
    )
    as_given = mpmath.fsum(real(a) * log_ratio(a, b) for a, b in on)
    generalized = as_given + real(mass_q - mass_p)
    return mass_p, mass_q, check, as_given, generalized


def decimal(x, digits):
    if x == mpmath.inf:
        return "inf"
    return "0" if x == 0 else mpmath.nstr(x, digits)


def to_hex(values, kind):
    return np.asarray(values, dtype=BIG_ENDIAN[kind]).tobytes().hex()


def from_hex(text, kind):
    return np.frombuffer(bytes.fromhex(text), dtype=BIG_ENDIAN[kind])


def exact(values):
    return [Fraction(float(v)) for v in values]  # float32 to float is exact


def fill(row):
    """Adds the answers to a row that has its bits."""
    p, q = (exact(from_hex(row[side], row["type"])) for side in "pq")
    mass_p, mass_q, check, as_given, generalized = answers(p, q)
    if row["policy"] == "check":
        for mass in (mass_p, mass_q):
            assert abs(mass - 1) <= MASS_TOLERANCE, (row["name"], float(mass))
    assert mass_p > 0 and mass_q > 0, row["name"]
    assert check >= 0 and generalized >= 0, row["name"]
    row["mass_p"] = decimal(real(mass_p), 20)
    row["mass_q"] = decimal(real(mass_q), 20)
    row["check"] = decimal(check, 25)
    row["as_given"] = decimal(as_given, 25)
    row["generalized"] = decimal(generalized, 25)
    return row


# ------------------------------------------------------------------- the rows

ROWS = []


def add(kind, name, p, q, policy="check", expect=None):
    """Rounds p and q to the type, works out the answers, keeps the row.

    expect: a published value of `check` (in nats, as many digits as published),
    or 0, or math.inf; anything else than a match stops the run.
    """
    p, q = np.atleast_1d(p), np.atleast_1d(q)
    assert p.shape == q.shape and p.ndim == 1
    row = {"name": name, "type": kind, "policy": policy,
           "p": to_hex(p, kind), "q": to_hex(q, kind)}
    for side in "pq":
        stored = from_hex(row[side], kind)
        assert np.isfinite(stored).all() and (stored >= 0).all(), name
    fill(row)
    if expect is not None:
        text, got = str(expect), mpf(row["check"])
        if expect in (0, math.inf):
            assert got == expect, (name, row["check"])
        else:
            half_unit = mpf(10) ** -len(text.split(".")[1]) / 2
            assert abs(got - mpf(text)) <= half_unit * 1.01, (name, row["check"])
    assert all((r["type"], r["name"]) != (kind, name) for r in ROWS), name
    ROWS.append(row)


def draws(kind, name):
    return np.random.default_rng([SEED, zlib.crc32(f"{kind} {name}".encode())])


def unit(x):
    x = np.asarray(x, dtype=np.float64)
    return x / x.sum()


def dirichlet(rng, alpha, bins):
    return unit(rng.dirichlet(np.full(bins, float(alpha))))


def rounded(x, kind):
    """The values x takes once stored, as float64."""
    return np.asarray(x).astype(FLOAT[kind]).astype(np.float64)


def next_up_or_down(x, kind):
    """Every other value one unit in the last place up, the rest one down."""
    x = np.asarray(x).astype(FLOAT[kind])
    toward = np.where(np.arange(x.size) % 2 == 0, 2, -1).astype(x.dtype)
    return np.where(x > 0, np.nextafter(x, toward), x)


def dirichlet_rows(kind, plan):
    smallest_normal = float(np.finfo(FLOAT[kind]).tiny)
    for alpha, sizes in plan.items():
        for bins in sizes:
            name = f"dirichlet {alpha}, {bins} bins"
            rng = draws(kind, name)
            p, q = dirichlet(rng, alpha, bins), dirichlet(rng, alpha, bins)
            # Small alphas underflow to zero: lift q so that the answer is finite.
            add(kind, name, p, np.maximum(q, smallest_normal))


def near_equal_rows(kind, plan):
    for eps, sizes in plan.items():
        for bins in sizes:
            name = f"near-equal {eps}, {bins} bins"
            rng = draws(kind, name)
            p = rounded(dirichlet(rng, 1, bins), kind)
            q = unit(p * (1 + float(eps) * rng.standard_normal(bins)))
            add(kind, name, p, q)


def special_rows(kind, sizes):
    for bins in sizes["one ulp"]:
        name = f"one-ulp neighbours, {bins} bins"
        p = dirichlet(draws(kind, name), 1, bins)
        add(kind, name, p, next_up_or_down(p, kind))
    for bins in sizes["zeros in p"]:
        name = f"zeros in p only, {bins} bins"
        rng = draws(kind, name)
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        p[rng.permutation(bins)[: max(1, bins // 3)]] = 0
        add(kind, name, unit(p), q)
    for bins in sizes["zeros in both"]:
        name = f"zeros in both, {bins} bins"
        rng = draws(kind, name)
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        off = rng.permutation(bins)[: max(1, bins // 3)]
        p[off] = 0
        q[off] = 0
        add(kind, name, unit(p), unit(q))
    for bins in sizes["infinite"]:
        name = f"infinite, q zero in the middle bin, {bins} bins"
        rng = draws(kind, name)
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        q[bins // 2] = 0
        add(kind, name, p, unit(q), expect=math.inf)
    for bins in sizes["infinite and zeros"]:
        name = f"infinite, with zeros in p and in both, {bins} bins"
        rng = draws(kind, name)
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        p[0] = p[1] = q[1] = q[bins - 1] = 0
        add(kind, name, unit(p), unit(q), expect=math.inf)
    for bins in sizes["disjoint"]:
        name = f"disjoint supports, {bins} bins"
        rng = draws(kind, name)
        left = np.arange(bins) % 2 == 0
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        add(kind, name, unit(p * left), unit(q * ~left), expect=math.inf)
    for bins in sizes["one-hot"]:
        hot = np.zeros(bins)
        hot[(bins - 1) // 2] = 1
        add(kind, f"one-hot against uniform, {bins} bins", hot, np.full(bins, 1 / bins))
    for bins in sizes["identical"]:
        name = f"identical, {bins} bins"
        p = dirichlet(draws(kind, name), 1, bins)
        add(kind, name, p, p, expect=0)
    for bins in sizes["off by 9e-4"]:
        for by_p, by_q in [(9e-4, -9e-4), (-9e-4, 9e-4)]:
            name = f"masses {1 + by_p} and {1 + by_q}, {bins} bins"
            rng = draws(kind, name)
            p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
            add(kind, name, p * (1 + by_p), q * (1 + by_q))
        name = f"proportional within the tolerance, {bins} bins"
        p = dirichlet(draws(kind, name), 1, bins)
        add(kind, name, p * (1 - 9e-4), p * (1 + 9e-4))


def ratio_rows(kind, ratios, three_bins=True):
    for text in ratios:
        ratio = float(text)
        p0, q0 = 0.25 * ratio, 0.25
        add(kind, f"ratio {text} in one of 2 bins", [p0, 1 - p0], [q0, 1 - q0])
        if three_bins:
            p0, q0 = 0.3 * ratio, 0.3
            add(kind, f"ratio {text} in one of 3 bins",
                [(1 - p0) * 0.4, p0, (1 - p0) * 0.6], [0.45, q0, 0.25])
    below_one = 1 - float(np.finfo(FLOAT[kind]).epsneg)
    for text in ["0.5", "1", "2"]:
        q0 = 0.25
        p0 = rounded(float(text) * q0, kind)
        for side, toward in [("above", 1), ("below", 0)]:
            p1 = np.nextafter(FLOAT[kind](p0), FLOAT[kind](toward))
            add(kind, f"ratio one ulp {side} {text} in one of 2 bins",
                [p1, 1 - float(p1)], [q0, 1 - q0])
    add(kind, "largest value below 1 against 1, 1 bin", [below_one], [1.0])


def tiny_rows(kind, tiny, bigs):
    for text in tiny:
        small = float(text)
        for big in bigs:
            add(kind, f"p {big} over q {text}, 2 bins",
                [float(big), 1 - float(big)], [small, 1 - small])
        add(kind, f"p {text} over q 0.25, 2 bins", [small, 1 - small], [0.25, 0.75])
    text, big = tiny[-1], bigs[0]
    for bins, where in [(7, 3), (33, 32)]:
        name = f"p {big} over q {text} in bin {where}, {bins} bins"
        rng = draws(kind, name)
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        p[where] = q[where] = 0
        p, q = unit(p) * (1 - float(big)), unit(q)
        p[where], q[where] = float(big), float(text)
        add(kind, name, p, q)
    info = np.finfo(FLOAT[kind])
    for bins in (8, 33, 129):
        name = f"subnormal tails in both, {bins} bins"
        rng = draws(kind, name)
        p, q = dirichlet(rng, 1, bins), dirichlet(rng, 1, bins)
        tail = np.arange(bins) >= bins // 2
        for x in (p, q):
            x[tail] = 0
            x /= x.sum()
            steps = 2.0 ** rng.uniform(0, info.nmant, tail.sum())
            x[tail] = np.floor(steps) * float(info.smallest_subnormal)
        add(kind, name, p, q)


def power_law_rows(kind, bins):
    rank = np.arange(1, bins + 1, dtype=np.float64)
    add(kind, f"power law 1 against power law 1.5, {bins} bins",
        unit(rank**-1), unit(rank**-1.5))
    name = f"power law 2 against its own shuffle, {bins} bins"
    p = unit(rank**-2)
    add(kind, name, p, draws(kind, name).permutation(p))


def count_rows(kind, masses, sizes):
    def counts(name, *args, **kwargs):
        add(kind, f"counts, {name}", *args, policy="normalize", **kwargs)

    # Poisson counts of one shape each, the masses as far apart as asked.
    for i, mass_p in enumerate(masses):
        for j, mass_q in enumerate(masses):
            bins = sizes[(i + j) % len(sizes)]
            name = f"poisson, masses about {mass_p} and {mass_q}, {bins} bins"
            rng = draws(kind, name)
            p = rng.poisson(float(mass_p) * dirichlet(rng, 1, bins))
            q = rng.poisson(float(mass_q) * dirichlet(rng, 1, bins))
            p[int(rng.integers(bins))] += 1  # never empty
            counts(name, p, np.where(p > 0, np.maximum(q, 1), q))
    # The same without seeing to it that q covers p.
    name = "poisson, masses about 1e3 and 3, q does not cover p, 16 bins"
    rng = draws(kind, name)
    p, q = rng.poisson(60, 16), rng.poisson(0.2, 16)
    q[0], q[5], p[5] = 1, 0, 61
    counts(name, p, q, expect=math.inf)

    for bins in sizes:
        # Nearly proportional: the answer is small and the masses are not equal.
        name = f"q is 3p rounded to integers, {bins} bins"
        p = rounded(draws(kind, name).gamma(2, 500, bins) + 1, kind)
        counts(name, p, np.round(3 * p))
        name = f"q is 1000p +- 1, {bins} bins"
        rng = draws(kind, name)
        p = rng.poisson(100, bins) + 1
        counts(name, p, 1000 * p + rng.choice([-1, 1], bins))
        name = f"q is p/3 rounded to the type, {bins} bins"
        p = draws(kind, name).poisson(1e4, bins) + 1
        counts(name, p, p * (np.float64(1) / 3))
        name = f"p is q/1e6 rounded to the type, {bins} bins"
        q = draws(kind, name).poisson(1e5, bins) + 1
        counts(name, q / 1e6, q)
        # Exactly proportional: the answer is exactly 0.
        name = f"q is exactly 2p, {bins} bins"
        p = rounded(dirichlet(draws(kind, name), 1, bins) * 1e4, kind)
        counts(name, p, 2 * p, expect=0)
        name = f"q is exactly 3p, {bins} bins"
        p = draws(kind, name).poisson(1e5, bins) + 1
        counts(name, p, 3 * p, expect=0)
    counts("p is exactly 7q, 5 bins", 7 * np.arange(1, 6), np.arange(1, 6), expect=0)
    counts("1 bin, masses 3 and 1e9", [3], [1e9], expect=0)
    counts("all in one bin of p, masses 1 and 1e9", [0, 1, 0, 0], [1, 1e9, 5, 0])
    counts("all in one bin of p, masses 1e9 and 4", [0, 1e9, 0, 0], [1, 1, 1, 1])


def published_rows():
    """Examples whose answers are in print, in nats (bits times ln 2)."""
    bits = math.log(2)
    add("f64", "Cover and Thomas, Elements of Information Theory, Example 2.3.1 "
        "(r = 1/2, s = 1/4): [0.5,0.5] || [0.25,0.75] = 1 - log2(3)/2 = 0.2075 bits",
        [0.5, 0.5], [0.25, 0.75], expect=f"{(1 - math.log2(3) / 2) * bits:.12f}")
    add("f64", "Cover and Thomas, Elements of Information Theory, Example 2.3.1, "
        "reverse: [0.25,0.75] || [0.5,0.5] = 3 log2(3)/4 - 1 = 0.1887 bits",
        [0.25, 0.75], [0.5, 0.5], expect=f"{(3 * math.log2(3) / 4 - 1) * bits:.12f}")
    binomial, uniform = [0.36, 0.48, 0.16], [1 / 3] * 3
    add("f64", "Wikipedia, Kullback-Leibler divergence, basic example (Kullback 1959, "
        "Example 2.1): Binomial(2,0.4) || uniform = 0.0852996 nats",
        binomial, uniform, expect="0.0852996")
    add("f64", "Wikipedia, Kullback-Leibler divergence, basic example (Kullback 1959, "
        "Example 2.1), reverse: uniform || Binomial(2,0.4) = 0.097455 nats",
        uniform, binomial, expect="0.097455")
    flat, tilted = [0.25] * 4, [0.2, 0.2, 0.2, 0.4]
    add("f64", "D library, std.numeric.kullbackLeiblerDivergence: "
        "[0.25,0.25,0.25,0.25] || [0.2,0.2,0.2,0.4] = 0.0719281 bits",
        flat, tilted, expect=f"{0.0719281 * bits:.7f}")
    add("f64", "D library, std.numeric.kullbackLeiblerDivergence: "
        "[0.2,0.2,0.2,0.4] || [0.25,0.25,0.25,0.25] = 0.0780719 bits",
        tilted, flat, expect=f"{0.0780719 * bits:.7f}")


def make():
    sizes = [2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129,
             255, 257, 511, 513, 1000]
    ratios = ["1.4", "1.41421356", "1.5", "1.9", "1.99", "2", "2.01", "2.1",
              "2.9", "3", "0.7", "0.5", "0.49", "0.3"]

    add("f32", "both are [1], 1 bin", [1.0], [1.0], expect=0)
    dirichlet_rows("f32", {"0.05": sizes, "1": sizes, "100": sizes})
    near_equal_rows("f32", {
        "1e-1": [2, 5, 33, 64, 1000], "1e-2": [3, 8, 31, 100, 511],
        "1e-3": [2, 4, 16, 65, 257], "1e-4": [3, 5, 31, 129, 513],
        "1e-5": [2, 3, 17, 127, 1000], "1e-6": [3, 4, 15, 64, 255]})
    special_rows("f32", {
        "one ulp": [2, 5, 16, 65], "zeros in p": [2, 3, 17, 129],
        "zeros in both": [3, 17, 257], "infinite": [2, 3, 16, 255],
        "infinite and zeros": [5, 33], "disjoint": [2, 4, 63],
        "one-hot": [2, 3, 7, 64, 1000], "identical": [2, 5, 31, 127],
        "off by 9e-4": [4, 65]})
    ratio_rows("f32", ratios)
    tiny_rows("f32", ["1e-30", "1e-37", "1e-40", "1.4e-45"], ["0.25", "1e-3"])
    power_law_rows("f32", 1000)
    count_rows("f32", ["1", "1e2", "1e4", "1e6", "1e9"], [3, 16, 65])

    add("f64", "both are [1], 1 bin", [1.0], [1.0], expect=0)
    published_rows()
    dirichlet_rows("f64", {"0.05": [3, 17], "1": [2, 5, 8, 33, 127], "100": [4, 64]})
    near_equal_rows("f64", {"1e-1": [5], "1e-3": [8], "1e-5": [3, 65],
                            "1e-8": [2, 31], "1e-10": [4, 100]})
    special_rows("f64", {
        "one ulp": [2, 16], "zeros in p": [3, 17], "zeros in both": [7],
        "infinite": [3], "infinite and zeros": [5], "disjoint": [4],
        "one-hot": [3], "identical": [5], "off by 9e-4": [4]})
    ratio_rows("f64", ["1.41421356", "2", "0.49"], three_bins=False)
    tiny_rows("f64", ["1e-300", "5e-324"], ["0.25"])
    power_law_rows("f64", 257)
    count_rows("f64", ["1", "1e9"], [3])

    meta = {
        "generated_with": "make.py in this folder",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpmath": mpmath.__version__,
        "seed": SEED,
        "working_digits": DIGITS,
        "bits": "p and q: the IEEE 754 bits of each value in big-endian hex, "
                "8 digits a value for f32 and 16 for f64, one after another",
        "conventions": "nats; P = sum p, Q = sum q; 0 ln 0 = 0; p > 0 with q = 0 is inf",
        "check": "sum (p/P) ln((p/P)/(q/Q)), 25 digits; policy normalize is the same",
        "as_given": "sum p ln(p/q), 25 digits",
        "generalized": "sum (p ln(p/q) - p + q), 25 digits",
        "mass": "mass_p = P and mass_q = Q, summed exactly, 20 digits",
        "policy": "check: both masses within 1e-3 of 1; normalize: counts of any mass",
    }
    with open(OUT, "w", encoding="ascii", newline="\n") as file:
        file.write('{"meta": ' + json.dumps(meta, indent=1) + ',\n"rows": [\n')
        file.write(",\n".join(json.dumps(row) for row in ROWS))
        file.write("\n]}\n")
    count = {kind: sum(row["type"] == kind for row in ROWS) for kind in FLOAT}
    print(f"{count['f32']} f32 rows, {count['f64']} f64 rows, {OUT.stat().st_size} bytes")


# -------------------------------------------------------------------- --check


def check():
    from scipy.special import kl_div, rel_entr

    rows = json.loads(OUT.read_text())["rows"]
    compared, ill, infinite, worst = 0, 0, 0, (0.0, "")
    for row in rows:
        again = fill({key: row[key] for key in ["name", "type", "policy", "p", "q"]})
        assert again == row, row["name"]

        p, q = (from_hex(row[side], row["type"]).astype(np.float64) for side in "pq")
        total_p, total_q = math.fsum(p), math.fsum(q)
        with np.errstate(all="ignore"):
            norm_p, norm_q = p / total_p, q / total_q
            # Rows whose float64 arithmetic itself leaves the normal range.
            values = np.concatenate([p, q, norm_p, norm_q])
            tiny = values[values > 0].min() < 1e-300
            terms = {"check": rel_entr(norm_p, norm_q), "as_given": rel_entr(p, q),
                     "generalized": kl_div(p, q)}
        for key, term in terms.items():
            want = float(row[key])
            if math.isinf(want):
                assert np.isinf(term).any(), (row["name"], key)
                infinite += 1
                continue
            got = math.fsum(term)
            # float64 rounds each p/q, so an answer is off by about 1e-16 of the
            # mass whatever its size: well conditioned means not far below it.
            mass = {"check": 1.0, "as_given": total_p, "generalized": total_p + total_q}[key]
            if tiny or abs(want) < 1e-6 * mass:
                ill += 1
                assert tiny or abs(got - want) <= 1e-14 * mass, (row["name"], key)
                continue
            error = abs(got - want) / abs(want)
            worst = max(worst, (error, f"{row['type']} {row['name']}, {key}"))
            assert error <= 1e-9, (row["name"], key, error)
            compared += 1
    print(f"{len(rows)} rows: every answer comes out the same from the stored bits")
    print(f"scipy rel_entr and kl_div: {compared} answers agree to 1e-9 relative, {infinite} are "
          f"infinite in both, {ill} are ill-conditioned in float64")
    print(f"worst relative difference {worst[0]:.1e} ({worst[1]})")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else make()

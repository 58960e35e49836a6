"""Makes gradients.json: the gradients of the divergences in both rows, known to 20 digits,
for the tests.

    pip install numpy mpmath gmpy2
    python make_gradients.py            writes gradients.json
    python make_gradients.py --check    compares it with finite differences of the definitions
    pip install torch
    python make_gradients.py --torch    compares it with PyTorch's autograd in float64

A gradient is the partial derivatives of the value of a call with respect to the numbers
given: the softmax of logits over T, and the division by the masses under check and
normalize, are part of what is differentiated. Rows are made as in make_divergences.py.
With u = dD/dp and v = dD/dq of the rows as distributions, up to a constant per row, and
the means m = sum p u of them:

    logits                             p (u - m) / T
    log-probs, check and normalize     p (u - m)
    probs, check and normalize         (u - m) / (sum of the values given)
    log-probs, otherwise               p u, with the constant
    probs, otherwise                   u, with the constant

Nothing here is shared with the library.
"""

import json
import platform
import sys
from pathlib import Path

import make_divergences as family
import mpmath
import numpy as np
from make_divergences import (AS_GIVEN, CHECK_DIGITS, DIGITS, DIVIDED, GENERALIZED,
                              Bins, kl, power, set_digits, sides, split, textbook,
                              textbook_shares)
from make_kinds import INF, LOGITS, LOGS, PROBS, from_hex
from mpmath import exp, expm1, fsum, log, log1p, mpf, sign

OUT = Path(__file__).resolve().parent / "gradients.json"

NAMES = ["kl", "reverse-kl", "jeffreys", "js:0.5", "js:0.3", "js-distance",
         "renyi:0", "renyi:0.5", "renyi:2", "renyi:inf", "tsallis:0", "tsallis:0.5", "tsallis:2",
         "alpha:-1", "alpha:0.5", "alpha:3",
         "hellinger", "tv", "chi2", "bhattacharyya", "cross-entropy", "entropy"]
# Without a derivative at p = q: 0 there, in the middle of the cone or of the kink.
CONES = ["js-distance", "hellinger", "tv", "renyi:inf"]
# What u and v leave out, where nothing divides by the masses.
CONSTANTS = {
    ("kl", AS_GIVEN): (1, -1), ("reverse-kl", AS_GIVEN): (-1, 1),
    ("cross-entropy", AS_GIVEN): (0, -1), ("cross-entropy", GENERALIZED): (0, -1),
    ("entropy", AS_GIVEN): (-1, 0), ("entropy", GENERALIZED): (-1, 0),
}


# ------------------------------------------------------------------ the gradients


def slopes(name, bins, value):
    """u and v as functions of p, q and l = ln(p/q) of a bin, and their means.

    None for a mean that has no closed form.
    """
    measure, a = split(name)
    flat = lambda p, q, l: mpf(0)
    if measure in ("js", "js-distance"):
        w = mpf(1) / 2 if a is None else a
        root = 1 if measure == "js" else 2 * value
        u = lambda p, q, l: -w * log1p((1 - w) * expm1(-l)) / root
        v = lambda p, q, l: -(1 - w) * log1p(w * expm1(l)) / root
        return u, v, None, None
    if measure == "renyi" and a == 0:
        inside = 1 - fsum(q for p, q, _ in bins if p == 0)
        return flat, lambda p, q, l: -mpf(p > 0) / inside, mpf(0), mpf(-1)
    if measure == "renyi" and a == mpmath.inf:
        assert sum(l == value for _, _, l in bins) == 1
        u = lambda p, q, l: l if l == mpmath.inf else 1 / p if l == value else mpf(0)
        v = lambda p, q, l: -1 / q if l == value else mpf(0)
        return u, v, mpf(1), mpf(-1)
    if measure == "tsallis" and a == 0:
        return flat, lambda p, q, l: mpf(p == 0), mpf(0), value
    if measure in ("renyi", "tsallis", "alpha"):
        excess = power(bins, a)
        scale = 1 / (1 + excess) if measure == "renyi" else 1 / a if measure == "alpha" else 1
        u = lambda p, q, l: scale * a / (a - 1) * expm1((a - 1) * l)
        v = lambda p, q, l: -scale * expm1(a * l)
        return u, v, scale * a / (a - 1) * excess, -scale * excess
    if measure == "hellinger":
        return (lambda p, q, l: -expm1(-l / 2) / (4 * value),
                lambda p, q, l: -expm1(l / 2) / (4 * value), value / 4, value / 4)
    if measure == "bhattacharyya":
        b = exp(-value)
        return (lambda p, q, l: -expm1(-l / 2) / (2 * b),
                lambda p, q, l: -expm1(l / 2) / (2 * b), expm1(value) / 2, expm1(value) / 2)
    return {
        "kl": (lambda p, q, l: l, lambda p, q, l: -expm1(l), value, mpf(0)),
        "reverse-kl": (lambda p, q, l: -expm1(-l), lambda p, q, l: -l, mpf(0), value),
        "jeffreys": (lambda p, q, l: l - expm1(-l), lambda p, q, l: -l - expm1(l),
                     kl(bins), kl(bins.swapped())),
        "tv": (lambda p, q, l: sign(l) / 2, lambda p, q, l: -sign(l) / 2, None, None),
        "chi2": (lambda p, q, l: 2 * expm1(l), lambda p, q, l: -expm1(2 * l), 2 * value, -value),
        "cross-entropy": (lambda p, q, l: minus_log(q), lambda p, q, l: -expm1(l), value, mpf(0)),
        "entropy": (lambda p, q, l: minus_log(p), flat, value, mpf(0)),
    }[measure]


def minus_log(x):
    return mpmath.inf if x == 0 else -log(x)


def chain(own, slope, mean, constant, side, kind, temperature, divided):
    """From u (or v) of each bin to the derivatives in the numbers given.

    own: p of the bins (or q). A number that is masked, -inf, has a derivative of 0.
    """
    if divided or kind == LOGITS:
        total = fsum(x * s for x, s in zip(own, slope) if x > 0)
        assert mean is None or abs(total - mean) <= mpf("1e-60") * (1 + abs(mean)), (total, mean)
        slope = [s - total for s in slope]
        scale = {LOGITS: 1 / mpf(temperature), LOGS: 1, PROBS: 1 / side.mass}[kind]
    else:
        slope = [s + constant for s in slope]
        scale = 1
    if kind == PROBS:
        return [s * scale for s in slope]
    return [mpf(0) if x == 0 else x * s * scale for x, s in zip(own, slope)]


def gradient(name, row, bins, value):
    """The derivatives in the values given of p and of q."""
    if all(l is None or l == 0 for l in bins.l) and name in CONES:
        return [mpf(0)] * len(bins.l), [mpf(0)] * len(bins.l)
    divided = row["policy"] in DIVIDED
    u, v, *means = slopes(name, bins, value)
    # At a bin that is 0 in both, p grows from p/q = inf, and q from p/q = 0.
    both = list(zip(bins.p, bins.q, bins.l))
    us = [u(p, q, mpmath.inf if l is None else l) for p, q, l in both]
    vs = [v(p, q, -mpmath.inf if l is None else l) for p, q, l in both]
    if not divided:
        means = None, None
    constants = CONSTANTS.get((split(name)[0], row["policy"]), (0, 0))
    return [chain(own, slope, mean, constant, side, row[kind], row["temperature"], divided)
            for own, slope, mean, constant, side, kind in
            zip((bins.p, bins.q), (us, vs), means, constants, sides(row), ("p_kind", "q_kind"))]


def has_gradient(name, row, bins):
    """renyi:0 and tsallis:0 jump where a p leaves 0, which probs do and the others do not."""
    jumps = name in ("renyi:0", "tsallis:0")
    return not (jumps and row["p_kind"] == PROBS and 0 in bins.p)


def decimal(x):
    return "0" if x == 0 else mpmath.nstr(x, 20).lstrip("+")


def fill(row):
    """Puts gradients in place of the values of a row of make_divergences.py."""
    set_digits(row, DIGITS)
    bins = Bins(*sides(row), row["policy"])
    values = row.pop("values")
    row["gradients"] = {}
    for name in NAMES:
        if name not in values or not has_gradient(name, row, bins):
            continue
        entry = {"value": values[name], "p": None, "q": None}
        if values[name] != "inf":
            value = family.answer(name, bins, row["policy"])
            for side, numbers in zip("pq", gradient(name, row, bins, value)):
                assert not any(mpmath.isnan(x) for x in numbers), (row["name"], name, side)
                entry[side] = " ".join(decimal(x) for x in numbers)
        row["gradients"][name] = entry
    return row


# ------------------------------------------------------------------- the rows


def f32_rows():
    type, both, logs, logits = "f32", (PROBS, PROBS), (LOGS, LOGS), (LOGITS, LOGITS)
    mixed = (PROBS, LOGITS)
    all_kinds = [(both, 1.0), (logs, 1.0), (logits, 1.0), (logits, 2.5), (mixed, 2.5)]

    family.random_rows(type, [(kinds, 1, bins, t) for kinds, t in all_kinds for bins in (1, 7)]
                       + [(kinds, 1, 33, t) for kinds, t in all_kinds[::3]]
                       + [(both, 1, 200, 1.0), (logits, 1, 200, 2.5)]
                       + [((LOGITS, LOGS), 1, 7, 1.0)])
    family.near_rows(type, [(kinds, eps, 7, t) for kinds, t in all_kinds
                            for eps in ("1e-2", "1e-5")]
                     + [(both, "1e-5", 33, 1.0), (logits, "1e-2", 33, 1.0)])
    family.shift_rows(type, [("far apart", 100, 0, 7, 1.0), ("1e-2", -100, 100, 7, 2.5)])
    family.support_rows(type, [(kinds, how, 7, t) for kinds, t in
                               [(both, 1.0), (logs, 1.0), (logits, 2.5), (mixed, 1.0)]
                               for how in family.SUPPORTS])
    family.support_rows(type, [(kinds, "zeros in both", 33, 1.0) for kinds in (both, logits)])
    family.peaked_rows(type, [(kinds, "in another bin", 7, 1.0) for kinds in (both, logits)])
    family.identical_rows(type, [(PROBS, 7, 1.0), (LOGS, 7, 1.0), (LOGITS, 7, 2.5)])
    family.count_rows(type, [("far apart", "300", "1e5", 7), ("near-equal", "1e6", "1e6", 7),
                             ("zeros", "100", "1e3", 7)])
    family.mass_rows(type, [(both, "far apart", "1.0005", "0.9995", 7, None),
                            (logs, "1e-2", "1.0005", "1", 7, None),
                            (logs, "far apart", "30", "0.2", 7, None)])
    family.undivided_rows(type, [(kinds, how, mass_p, mass_q, 5) for kinds in (both, logs)
                                 for how, mass_p, mass_q in
                                 [("far apart", "0.4", "3"), ("1e-2", "1", "1"),
                                  ("zeros in p", "1", "2"), ("zeros", "1", "2")]]
                          + [(logits, "far apart", "1", "1", 5)])


def other_rows():
    both, logs, logits = (PROBS, PROBS), (LOGS, LOGS), (LOGITS, LOGITS)
    three = [(both, 1.0), (logs, 1.0), (logits, 2.5)]
    family.random_rows("f64", [(kinds, 1, 7, t) for kinds, t in three])
    family.near_rows("f64", [(kinds, eps, 7, t) for kinds, t in three
                             for eps in ("1e-2", "1e-5")])
    family.support_rows("f64", [(kinds, "overlapping", 7, t) for kinds, t in three])
    for type in ("f16", "bf16"):
        family.random_rows(type, [(kinds, 1, 7, t) for kinds, t in three])
        family.near_rows(type, [(logits, "1e-1", 7, 1.0)])


def make():
    f32_rows()
    other_rows()
    rows = [fill(row) for row in family.ROWS]
    meta = {
        "generated_with": "make_gradients.py in this folder",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpmath": mpmath.__version__,
        "rows": "bits, kinds and policies as in divergences.json",
        "gradients": "by divergence: its value, 25 digits, and the derivatives in the numbers "
                     "of p and of q, 20 digits, with spaces between; null where the value is inf",
    }
    with open(OUT, "w", encoding="ascii", newline="\n") as file:
        file.write('{"meta": ' + json.dumps(meta, indent=1) + ',\n"rows": [\n')
        file.write(",\n".join(json.dumps(row) for row in rows))
        file.write("\n]}\n")
    print(f"{len(rows)} rows, {OUT.stat().st_size} bytes")


# -------------------------------------------------------------------- --check

STEP = mpf("1e-25")


def values_at(name, row, given):
    """The divergence, from its definition, of numbers that need not be floats."""
    temperature = mpf(row["temperature"])
    p, q = (textbook_shares(given[s], row[s + "_kind"], temperature, row["policy"])
            for s in "pq")
    return textbook(name, p, q, row["policy"])


def difference(name, row, given, side, way, both_sides, size=STEP):
    """The derivative along a way from what is given of a side, by a finite difference."""
    def at(step):
        moved = [x if w == 0 else x + step * w for x, w in zip(given[side], way)]
        return values_at(name, row, {**given, side: moved})
    if both_sides:
        return (at(size) - at(-size)) / (2 * size)
    return (at(size) - at(0)) / size


def one(i, bins, size):
    return [size if j == i else mpf(0) for j in range(bins)]


def check_row(row, rng):
    """Along some axes, and along a way that moves every number that may go both ways.

    Probabilities that are 0 are moved up; where the derivative is infinite, the quotient has
    to grow as the step shrinks.
    """
    compared = 0
    mpmath.mp.dps = CHECK_DIGITS
    given = {s: [mpf(float(x)) for x in from_hex(row[s], row["type"])] for s in "pq"}
    bins = len(given["p"])
    identical = given["p"] == given["q"] and row["p_kind"] == row["q_kind"]
    for name, entry in row["gradients"].items():
        if entry["value"] == "inf" or name in CONES and identical:
            continue
        for side in "pq":
            want = [mpf(x) for x in entry[side].split()]
            probs = row[side + "_kind"] == PROBS
            inside = [x > 0 if probs else x > -mpmath.inf for x in given[side]]
            largest = max([abs(w) for w in want if abs(w) < mpmath.inf], default=mpf(0))
            size = [abs(x) if probs and x != 0 else mpf(1) for x in given[side]]
            axes = rng.permutation(bins)[:4]
            ways = [one(i, bins, size[i]) for i in axes if inside[i]]
            ways.append([s * mpf(float(rng.uniform(-1, 1))) if on else mpf(0)
                         for s, on in zip(size, inside)])
            for way in ways:
                along = fsum(w * d for w, d in zip(want, way) if d != 0)
                scale = fsum(abs(w * d) for w, d in zip(want, way) if d != 0)
                got = difference(name, row, given, side, way, True)
                what = (row["type"], row["name"], name, side, mpmath.nstr(got, 22),
                        mpmath.nstr(along, 22))
                assert abs(got - along) <= mpf("1e-19") * scale + mpf("1e-33"), what
                compared += 1
            for i in range(bins):
                if inside[i] or not probs:
                    assert inside[i] or want[i] == 0
                    continue
                mass = fsum(given[side])
                way = one(i, bins, mass)
                got = difference(name, row, given, side, way, False)
                what = (row["type"], row["name"], name, side, i, mpmath.nstr(got, 22), want[i])
                along = want[i] * mass
                if abs(want[i]) < mpmath.inf:
                    assert abs(got - along) <= mpf("1e-18") * (1 + largest * mass), what
                else:
                    finer = difference(name, row, given, side, way, False, STEP ** 2)
                    grows = abs(finer) > abs(got) + 5 or abs(got) == mpmath.inf
                    assert got * want[i] > 0 and grows, what
                compared += 1
    return compared


def check():
    rows = json.loads(OUT.read_text())["rows"]
    rng = np.random.default_rng(1)
    compared = sum(check_row(row, rng) for row in rows)
    print(f"{len(rows)} rows: {compared} finite differences agree")


# -------------------------------------------------------------------- --torch


def torch_value(torch, name, p, q, policy):
    """A divergence of rows without zeros, as a tensor."""
    measure, a = split(name)
    a = None if a is None else float(a)
    log_ratio = torch.log(p) - torch.log(q)

    def js(w):
        m = w * p + (1 - w) * q
        return w * (p * torch.log(p / m)).sum() + (1 - w) * (q * torch.log(q / m)).sum()

    change = q.sum() - p.sum() if policy == GENERALIZED else 0
    powers = None if a is None else (p ** a * q ** (1 - a)).sum()
    masses = a * p.sum() + (1 - a) * q.sum() if a is not None and policy == GENERALIZED else 1
    return {
        "kl": lambda: (p * log_ratio).sum() + change,
        "reverse-kl": lambda: -(q * log_ratio).sum() - change,
        "jeffreys": lambda: ((p - q) * log_ratio).sum(),
        "js": lambda: js(a),
        "js-distance": lambda: torch.sqrt(js(0.5)),
        "renyi": lambda: (log_ratio.max() if a == INF else torch.log(powers) / (a - 1)),
        "tsallis": lambda: (powers - 1) / (a - 1),
        "alpha": lambda: (masses - powers) / (a * (1 - a)),
        "hellinger": lambda: torch.sqrt(((p.sqrt() - q.sqrt()) ** 2).sum() / 2),
        "tv": lambda: (p - q).abs().sum() / 2,
        "chi2": lambda: ((p - q) ** 2 / q).sum(),
        "bhattacharyya": lambda: -torch.log((p * q).sqrt().sum()),
        "cross-entropy": lambda: -(p * torch.log(q)).sum(),
        "entropy": lambda: -(p * torch.log(p)).sum() + 0 * q.sum(),
    }[measure]()


def torch_shares(torch, values, kind, temperature, policy):
    if kind == LOGITS:
        return torch.softmax(values / temperature, 0)
    p = torch.exp(values) if kind == LOGS else values
    return p / p.sum() if policy in DIVIDED else p


def check_torch():
    import torch

    compared, worst = 0, (0.0, "")
    for row in json.loads(OUT.read_text())["rows"]:
        given = [from_hex(row[s], row["type"]) for s in "pq"]
        zero = [x == 0 if row[s + "_kind"] == PROBS else x == -INF for x, s in zip(given, "pq")]
        keep = ~(zero[0] & zero[1])  # those that are 0 in both add nothing
        if (zero[0] != zero[1]).any() or row["family"] == "identical":
            continue
        tv = float(row["gradients"]["tv"]["value"])
        for name, entry in row["gradients"].items():
            # Near equality float64 does not know the values that these are divided by.
            if name in ("renyi:0", "tsallis:0") or tv < 0.01 and name in CONES[:2]:
                continue
            tensors = [torch.tensor(x[keep], dtype=torch.float64, requires_grad=True)
                       for x in given]
            p, q = (torch_shares(torch, x, row[s + "_kind"], row["temperature"], row["policy"])
                    for x, s in zip(tensors, "pq"))
            torch_value(torch, name, p, q, row["policy"]).backward()
            for side, tensor, x in zip("pq", tensors, given):
                want = np.array([float(x) for x in entry[side].split()])[keep]
                scale = np.abs(want).max(initial=0.0)
                error = np.abs(tensor.grad.numpy() - want).max(initial=0.0)
                # What rounding leaves of terms of size 1, where the answer is near 0.
                noise = 1e-14 * (1.0 if row[side + "_kind"] != PROBS else 1 / x.sum())
                what = f"{row['type']} {row['name']}, {name}, {side}"
                assert error <= 1e-9 * scale + noise, (what, error, scale)
                if error > noise:
                    worst = max(worst, (error / scale, what))
                compared += 1
    print(f"torch {torch.__version__}: {compared} gradients agree to 1e-9 of their largest; "
          f"worst {worst[0]:.1e} ({worst[1]})")


if __name__ == "__main__":
    {"--check": check, "--torch": check_torch}[sys.argv[1]]() if sys.argv[1:] else make()

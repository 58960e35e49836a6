"""Makes long.json: KL divergences of long rows, known to 20 digits, for the tests.

    pip install numpy mpmath gmpy2
    python make_long.py                 writes long.json (two minutes)
    python make_long.py --check         works the answers out again, in other ways
    python make_long.py --check all     also bin by bin with more digits (15 minutes)

The rows are too long to store. long.json has what is needed to draw them again,
and their answers. README-kinds.md says how to draw them.

numpy only draws the rows. Every value is a float32, and so an exact fraction. The
masses of probs are summed exactly, in integers. The exponentials, logarithms and
sums of logarithms are MPFR's (gmpy2), at 192 bits, rounded to nearest. Nothing
here is shared with the library.
"""

import json
import math
import multiprocessing
import os
import platform
import sys
import time
import zlib
from fractions import Fraction
from pathlib import Path

import gmpy2
import mpmath
import numpy as np
from gmpy2 import mpfr

OUT = Path(__file__).resolve().parent / "long.json"
BITS, CHECK_BITS = 192, 256
CHUNK = 1 << 16
PROCESSES = min(2, os.cpu_count() or 1)

PROBS_BINS = [4_097, 65_536, 1_048_577, 16_777_216]
PROBS_EPS = [1.0, 1e-2, 1e-4, 1e-6]
LOGITS_BINS = [32_000, 128_256, 262_144]
LOGITS_EPS = [1.0, 1e-2, 1e-4, 3e-5]
TEMPERATURES = [0.25, 1.0, 8.0]
LEAST_LOGITS = 1e-10  # rows of logits with a smaller answer are left out

# ------------------------------------------------------------------- the rows


def split_mix(seed, first, count):
    """Draws first, first + 1, ... of SplitMix64, the first one being draw 0."""
    with np.errstate(over="ignore"):
        step = np.arange(first + 1, first + 1 + count, dtype=np.uint64)
        z = np.uint64(seed) + step * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def values(row, start, stop):
    """Bins start to stop of p and q, as stored."""
    drawn = split_mix(row["seed"], 2 * start, 2 * (stop - start))
    first, second = drawn[0::2], drawn[1::2]
    t = ((second >> np.uint64(40)).astype(np.float64) - 2.0**23) * 2.0**-24
    if row["kind"] == "probs":
        weight = ((first >> np.uint64(44)) + np.uint64(1)).astype(np.float64)
        p = weight * 2.0**-40
        q = (weight * (1.0 + row["eps"] * t)) * 2.0**-40
    else:
        p = 16.0 * ((first >> np.uint64(40)).astype(np.float64) * 2.0**-24) - 8.0
        q = p.astype(np.float32).astype(np.float64) + row["eps"] * t
    return p.astype(np.float32), q.astype(np.float32)


def chunks(bins):
    return [(start, min(start + CHUNK, bins)) for start in range(0, bins, CHUNK)]


def plan():
    rows = []
    for bins in PROBS_BINS:
        for eps in PROBS_EPS:
            rows.append({"name": f"probs, eps {eps:g}, {bins} bins", "kind": "probs",
                         "bins": bins, "eps": eps, "temperature": 1.0})
    for bins in LOGITS_BINS:
        for eps in LOGITS_EPS:
            for temperature in TEMPERATURES:
                rows.append({"name": f"logits, eps {eps:g}, T {temperature:g}, {bins} bins",
                             "kind": "logits", "bins": bins, "eps": eps,
                             "temperature": temperature})
    return [{"name": row["name"], "kind": row["kind"], "type": "f32", "bins": row["bins"],
             "seed": zlib.crc32(row["name"].encode()), "eps": row["eps"],
             "temperature": row["temperature"]} for row in rows]


# ---------------------------------------------------------------- the answers


def scaled(x, bits):
    """float32 values times 2^bits, as integers; they must be whole."""
    whole = np.ldexp(x.astype(np.float64), bits)
    assert (whole == np.rint(whole)).all() and (np.abs(whole) < 2.0**45).all()
    return whole.astype(np.int64)


# The logarithms of probs are those of integers below 2^24 times powers of two: a
# sum of count * ln(integer) is a sum of count * ln(prime), its counts exact.
LIMIT = 1 << 24


class Primes:
    """How the integers below LIMIT fall into primes, and the logarithms of those."""

    def __init__(self, bits):
        self.bits = bits
        is_prime = np.ones(LIMIT, dtype=bool)
        is_prime[:2] = False
        for n in range(2, math.isqrt(LIMIT) + 1):
            if is_prime[n]:
                is_prime[n * n :: n] = False
        self.all = np.flatnonzero(is_prime)
        self.small = [int(n) for n in self.all[: np.searchsorted(self.all, math.isqrt(LIMIT))]]
        # What is left of each integer once the small primes are out: 1, or a prime.
        self.rest = np.arange(LIMIT)
        for step in self.powers():
            self.rest[step[1] :: step[1]] //= step[0]
        assert (is_prime[self.rest[1:]] | (self.rest[1:] == 1)).all()
        gmpy2.get_context().precision = bits
        self.logs = [gmpy2.log(n) for n in self.all.tolist()]

    def powers(self):
        for prime in self.small:
            power = prime
            while power < LIMIT:
                yield prime, power
                power *= prime

    def sum_of_logs(self, counts, twos):
        """sum of counts[n] ln n, and twos ln 2; the counts are integers."""
        by_prime = np.zeros(LIMIT, dtype=np.int64)
        np.add.at(by_prime, self.rest[1:], counts[1:])
        for prime, power in self.powers():
            by_prime[prime] += counts[power::power].sum()
        coefficients = by_prime[self.all].tolist()
        coefficients[0] += twos
        gmpy2.get_context().precision = self.bits
        return sum((c * log for c, log in zip(coefficients, self.logs) if c), mpfr(0))


def probs_sums(row, primes):
    """sum p and sum q times 2^64, sum p ln(q/p) times 2^40."""
    counts, twos, sum_p, sum_q = np.zeros(LIMIT, dtype=np.int64), 0, 0, 0
    for chunk in chunks(row["bins"]):
        p, q = values(row, *chunk)
        mantissa, exponent = np.frexp(q)
        mantissa = scaled(mantissa, 24)
        exponent = exponent.astype(np.int64) - 24 + 40
        p, q = scaled(p, 40), scaled(q, 64)
        assert (p > 0).all() and (mantissa > 0).all()
        # No sum comes near 2^63: p is at most 2^20, q times 2^64 below 2^45.
        np.add.at(counts, mantissa, p)
        np.subtract.at(counts, p, p)
        twos += int((p * exponent).sum())
        sum_p += int(p.sum()) << 24
        sum_q += int(q.sum())
    return sum_p, sum_q, primes.sum_of_logs(counts, twos)


def probs_part(task):
    """The same of some bins, bin by bin: slower, for --check. Equal bins add 0."""
    row, start, stop, bits = task
    gmpy2.get_context().precision = bits
    p, q = values(row, start, stop)
    p, q = scaled(p, 40), scaled(q, 64)
    assert (p > 0).all() and (q > 0).all()
    total, log, shift = mpfr(0), gmpy2.log, 1 << 24
    for a, b in zip(p.tolist(), q.tolist()):
        if a * shift != b:
            total += a * log(mpfr(b) / (a * shift))
    return sum(p.tolist()) << 24, sum(q.tolist()), total


def logits_part(task):
    """sum e^u, sum e^v, sum e^u (u - v) of some bins; u = a/T and v = b/T are exact.

    T is a power of two here, and a and b are integers over 2^60 below 2^64.
    """
    row, start, stop, bits = task
    gmpy2.get_context().precision = bits
    a, b = values(row, start, stop)
    temperature = mpfr(row["temperature"])
    sum_p, sum_q, total, exp = mpfr(0), mpfr(0), mpfr(0), gmpy2.exp
    for a, b in zip(a.tolist(), b.tolist()):
        u, v = a / temperature, b / temperature
        weight = exp(u)
        sum_p += weight
        sum_q += exp(v)
        total += weight * (u - v)
    return sum_p, sum_q, total


def together(row, sum_p, sum_q, total, bits):
    """mass_p, mass_q, check from the sums."""
    gmpy2.get_context().precision = bits
    if row["kind"] == "probs":
        mass_p, mass_q = mpfr(sum_p) / mpfr(2) ** 64, mpfr(sum_q) / mpfr(2) ** 64
        return mass_p, mass_q, gmpy2.log(mass_q / mass_p) - total / mpfr(2) ** 40 / mass_p
    return mpfr(1), mpfr(1), total / sum_p - gmpy2.log(sum_p / sum_q)


def work(rows, bits, bin_by_bin=False):
    """Each row with mass_p, mass_q, check."""
    part = {"probs": probs_part, "logits": logits_part}
    primes = None if bin_by_bin else Primes(bits)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for row in rows:
            if row["kind"] == "probs" and not bin_by_bin:
                yield row, *together(row, *probs_sums(row, primes), bits)
                continue
            tasks = [(row, *chunk, bits) for chunk in chunks(row["bins"])]
            parts = pool.map(part[row["kind"]], tasks, chunksize=1)
            gmpy2.get_context().precision = bits
            # In the order of the bins, whichever was done first.
            sums = (sum(column[1:], column[0]) for column in zip(*parts))
            yield row, *together(row, *sums, bits)


def decimal(x, digits=20):
    text = gmpy2.digits(x, 10, digits)
    figures, exponent, _ = text
    sign = "-" if figures.startswith("-") else ""
    figures = figures.lstrip("-").rstrip("0") or "0"
    if -5 < exponent <= digits:
        if exponent <= 0:
            return sign + "0." + "0" * -exponent + figures
        figures = figures.ljust(exponent, "0")
        return sign + (figures[:exponent] + "." + figures[exponent:]).rstrip(".")
    point = "." + figures[1:] if len(figures) > 1 else ""
    return f"{sign}{figures[0]}{point}e{exponent - 1}"


def filled(row, mass_p, mass_q, check):
    logits = row["kind"] == "logits"
    return {**row, "mass_p": "1" if logits else decimal(mass_p),
            "mass_q": "1" if logits else decimal(mass_q), "check": decimal(check)}


def make():
    began = time.monotonic()
    kept, left_out = [], []
    for row, mass_p, mass_q, check in work(plan(), BITS):
        assert check > 0, row["name"]
        if row["kind"] == "logits" and check < LEAST_LOGITS:
            left_out.append(f"{row['name']} ({float(check):.1e})")
            continue
        kept.append(filled(row, mass_p, mass_q, check))
        print(f"{time.monotonic() - began:6.0f} s  {row['name']}: {kept[-1]['check']}", flush=True)
    meta = {
        "generated_with": "make_long.py in this folder",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "gmpy2": gmpy2.version(),
        "mpfr": gmpy2.mpfr_version(),
        "working_bits": BITS,
        "rows": "drawn with SplitMix64 from the seed; README-kinds.md says how",
        "check": "sum (p/P) ln((p/P)/(q/Q)), nats, 20 digits; the policy is normalize",
        "mass": "mass_p = P and mass_q = Q, 20 digits; 1 for logits",
    }
    with open(OUT, "w", encoding="ascii", newline="\n") as file:
        file.write('{"meta": ' + json.dumps(meta, indent=1) + ',\n"rows": [\n')
        file.write(",\n".join(json.dumps(row) for row in kept))
        file.write("\n]}\n")
    print("left out, too small: " + "; ".join(left_out))
    print(f"{len(kept)} rows, {OUT.stat().st_size} bytes")


# -------------------------------------------------------------------- --check


class Random:
    """SplitMix64 one draw at a time, as it is published."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)


def plain_values(row):
    """p and q in plain Python, a bin at a time."""
    random, p, q = Random(row["seed"]), [], []
    for _ in range(row["bins"]):
        first, second = random.next(), random.next()
        t = ((second >> 40) - 8388608) / 16777216
        if row["kind"] == "probs":
            weight = float((first >> 44) + 1)
            p.append(float(np.float32(weight * 2.0**-40)))
            q.append(float(np.float32(weight * (1.0 + row["eps"] * t) * 2.0**-40)))
        else:
            a = float(np.float32(16.0 * ((first >> 40) / 16777216) - 8.0))
            p.append(a)
            q.append(float(np.float32(a + row["eps"] * t)))
    return p, q


def by_mpmath(row):
    """mass_p, mass_q, check with exact fractions and mpmath at 60 digits."""
    mpmath.mp.dps = 60

    def real(x):
        return mpmath.mpf(x.numerator) / mpmath.mpf(x.denominator)

    p, q = plain_values(row)
    if row["kind"] == "probs":
        p, q = [Fraction(x) for x in p], [Fraction(x) for x in q]
        mass_p, mass_q = real(sum(p)), real(sum(q))
        p, q = [real(x) / mass_p for x in p], [real(x) / mass_q for x in q]
    else:
        temperature = Fraction(row["temperature"])
        p, q = ([mpmath.exp(real(Fraction(x) / temperature)) for x in side] for side in (p, q))
        sum_p, sum_q = mpmath.fsum(p), mpmath.fsum(q)
        p, q = [x / sum_p for x in p], [x / sum_q for x in q]
        mass_p = mass_q = mpmath.mpf(1)
    # Every term is at least 0, whatever the sign of the logarithm.
    return mass_p, mass_q, mpmath.fsum(a * mpmath.log(a / b) - a + b for a, b in zip(p, q))


def by_float64(row):
    """check in float64, from terms that do not cancel."""
    parts = [values(row, *chunk) for chunk in chunks(row["bins"])]
    p, q = (np.concatenate(side).astype(np.float64) for side in zip(*parts))
    if row["kind"] == "logits":
        u, v = p / row["temperature"], q / row["temperature"]
        gap = v - u
        p, q = np.exp(u), np.exp(v)
        share = p / math.fsum(p)
        # ln of the mean of e^gap over p, less the mean of gap.
        mean = math.fsum(share * np.expm1(gap))
    else:
        gap = np.log1p((q - p) / p)
        share = p / math.fsum(p)
        mean = math.fsum(share * ((q - p) / p))
    with np.errstate(all="ignore"):
        # e^g - 1 - g and x - ln(1 + x), by series where they are small.
        rest = np.where(np.abs(gap) < 1e-2,
                        gap**2 * (1 / 2 + gap * (1 / 6 + gap * (1 / 24 + gap * (
                            1 / 120 + gap * (1 / 720 + gap / 5040))))),
                        np.expm1(gap) - gap)
    if abs(mean) < 1e-3:
        less = mean**2 * (1 / 2 - mean * (1 / 3 - mean * (1 / 4 - mean * (1 / 5 - mean / 6))))
    else:
        less = mean - math.log1p(mean)
    return math.fsum(share * rest) - less


def check(everything):
    rows = json.loads(OUT.read_text())["rows"]
    worst = 0.0
    for row in rows:
        want = float(row["check"])
        error = abs(by_float64(row) - want) / want
        worst = max(worst, error)
        assert error < 1e-8, (row["name"], error)
    print(f"{len(rows)} rows: float64 agrees, the largest relative difference is {worst:.1e}")
    by_hand = [row for row in rows if row["bins"] <= 65_536]
    for row in by_hand:
        mass_p, mass_q, value = by_mpmath(row)
        for key, got in [("mass_p", mass_p), ("mass_q", mass_q), ("check", value)]:
            # Both are rounded to 20 digits.
            want = mpmath.mpf(row[key])
            assert abs(got - want) <= want * mpmath.mpf("5.1e-20"), (row["name"], key)
    print(f"{len(by_hand)} rows of up to 65536 bins: mpmath gives the same 20 digits")
    if everything:
        given = ["name", "kind", "type", "bins", "seed", "eps", "temperature"]
        again = [{key: row[key] for key in given} for row in rows]
        for row, *found in work(again, CHECK_BITS, bin_by_bin=True):
            assert filled(row, *found) in rows, row["name"]
            print(f"bin by bin, {CHECK_BITS} bits: {row['name']}", flush=True)
        print(f"{len(rows)} rows: the same 20 digits, bin by bin at {CHECK_BITS} bits")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2:] == ["all"])
    else:
        make()

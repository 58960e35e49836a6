"""Makes kinds.json: KL divergences of log-probabilities, logits and
probabilities, known to 25 digits, for the tests.

    pip install numpy mpmath gmpy2
    python make_kinds.py            writes kinds.json
    pip install scipy
    python make_kinds.py --check    works out every answer in kinds.json again, with
                                    more digits, and compares with scipy

numpy only draws the rows and rounds them to the type. The answers come from the
stored bits: each value is turned into the exact fraction it is, and so is the
temperature; the exponentials, logarithms and sums are mpmath's at 100 digits.
(gmpy2 only makes mpmath faster.) Nothing here is shared with the library.

What the stored values of a side mean:

    probs        p itself
    log-probs    x with p = e^x; the mass is sum e^x
    logits       a with p = softmax(a / T); the mass is 1 by definition

With P = sum p, Q = sum q, 0 ln 0 = 0, and p > 0 with q = 0 giving 'inf':

    check        sum (p/P) ln((p/P) / (q/Q))      (policy normalize: the same)
    as_given     sum p ln(p/q)
    generalized  sum (p ln(p/q) - p + q)

Each row is drawn by a generator seeded with its own type and name, so adding or
removing a row leaves the others as they were.
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

OUT = Path(__file__).resolve().parent / "kinds.json"
SEED = 20240301
DIGITS, CHECK_DIGITS = 100, 140
mpmath.mp.dps = DIGITS

PROBS, LOGS, LOGITS = "probs", "log-probs", "logits"
KINDS = [PROBS, LOGS, LOGITS]
PAIRS = [(a, b) for a in KINDS for b in KINDS]
TEMPERATURES = [0.25, 0.5, 0.7, 1.0, 1.3, 2.0, 8.0]
INF = math.inf

TYPES = ["f32", "f64", "f16", "bf16"]
DIGITS_A_VALUE = {"f16": 4, "bf16": 4, "f32": 8, "f64": 16}
FLOAT = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
BIG_ENDIAN = {"f16": ">f2", "bf16": ">u2", "f32": ">f4", "f64": ">f8"}
SMALLEST_NORMAL = {"f16": 2.0**-14, "bf16": 2.0**-126, "f32": 2.0**-126, "f64": 2.0**-1022}
SMALLEST = {"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149, "f64": 2.0**-1074}
# "check" rows: |mass - 1| at most this.
MASS_TOLERANCE = {"f16": Fraction(1, 100), "bf16": Fraction(1, 100),
                  "f32": Fraction(1, 1000), "f64": Fraction(1, 1000)}


def least(type, kinds):
    """Rows whose `check` is above 0 but below this are left out."""
    if type == "f64":
        return mpf("1e-18")
    return mpf("1e-13") if kinds == (PROBS, PROBS) else mpf("1e-10")


# ------------------------------------------------------------------ the types


def rounded(values, type):
    """The values as stored in the type (nearest, ties to even), as float64."""
    values = np.asarray(values, dtype=np.float64)
    if type != "bf16":
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(FLOAT[type]).astype(np.float64)
    out = values.copy()
    on = np.isfinite(values) & (values != 0)
    _, exponent = np.frexp(values[on])
    step = np.ldexp(1.0, np.maximum(exponent - 8, -133))  # 8 significant bits
    out[on] = np.rint(values[on] / step) * step
    assert (np.abs(out[on]) < 2.0**128).all()
    return out


def to_hex(values, type):
    """The bits of values that the type holds exactly."""
    if type == "bf16":
        bits = np.asarray(values, dtype=np.float32).view(np.uint32)
        assert (bits & 0xFFFF == 0).all()
        text = (bits >> 16).astype(">u2").tobytes().hex()
    else:
        text = np.asarray(values, dtype=BIG_ENDIAN[type]).tobytes().hex()
    assert np.array_equal(from_hex(text, type), values)
    return text


def from_hex(text, type):
    """The stored values as float64, which holds all of them exactly."""
    raw = np.frombuffer(bytes.fromhex(text), dtype=BIG_ENDIAN[type])
    if type == "bf16":
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.float64)


# ---------------------------------------------------------------- the answers


def real(fraction):
    return mpf(fraction.numerator) / mpf(fraction.denominator)


class Side:
    """One side of a row, from its stored values, exactly.

    on: the bins with p > 0.
    weight: p where p is rational, else None (probs; log-probs that are all 0;
        logits that are all the same, whose softmax is 1/n).
    power: where p is not rational, p is proportional to e^power.
    """

    def __init__(self, values, kind, temperature):
        values = [float(v) for v in values]
        assert not any(math.isnan(v) or v == INF for v in values)
        self.kind = kind
        self.weight = self.power = None
        if kind == PROBS:
            assert all(v >= 0 for v in values)
            self.on = [v > 0 for v in values]
            self.weight = [Fraction(v) for v in values]
        else:
            self.on = [v > -INF for v in values]
            divisor = Fraction(temperature) if kind == LOGITS else 1
            self.power = [Fraction(v) / divisor if v > -INF else None for v in values]
            different = {x for x in self.power if x is not None}
            if kind == LOGITS and len(different) == 1:
                self.weight = [Fraction(int(on), sum(self.on)) for on in self.on]
            if kind == LOGS and different == {0}:
                self.weight = [Fraction(int(on)) for on in self.on]
        if self.weight is not None:
            self.sum = sum(self.weight)
            self.log_sum = mpmath.log(real(self.sum))
            self.mass = real(self.sum)
        else:
            self.sum = mpmath.fsum(mpmath.exp(real(x)) for x in self.power if x is not None)
            self.log_sum = mpmath.log(self.sum)
            self.mass = mpf(1) if kind == LOGITS else self.sum
        assert any(self.on)

    def share(self, i):
        """p_i / P."""
        if self.weight is not None:
            return real(self.weight[i] / self.sum)
        return mpmath.exp(real(self.power[i])) / self.sum

    def log(self, i):
        """ln p_i, where p is not normalized for log-probs and probs."""
        if self.weight is not None:
            return mpmath.log(real(self.weight[i]))
        return real(self.power[i]) - (self.log_sum if self.kind == LOGITS else 0)

    def log_mass(self):
        return mpf(0) if self.kind == LOGITS else self.log_sum

    def level(self):
        """Whether p is the same in all bins with p > 0."""
        values = self.weight if self.weight is not None else self.power
        return len({v for v, on in zip(values, self.on) if on}) == 1


def proportional(p, q):
    """Whether p and q are exactly proportional.

    Numbers e^x with different rational x are independent over the rationals
    (Lindemann and Weierstrass), so between a rational p and a q = c e^x only rows
    that are level on the same bins are.
    """
    if p.on != q.on:
        return False
    if p.weight is not None and q.weight is not None:
        return all(a * q.sum == b * p.sum for a, b in zip(p.weight, q.weight))
    if p.weight is None and q.weight is None:
        gaps = {a - b for a, b, on in zip(p.power, q.power, p.on) if on}
        return len(gaps) == 1
    return p.level() and q.level()


def log_ratio(p, q, i):
    """ln(p_i / q_i), exactly 0 where the two are equal."""
    if p.weight is not None and q.weight is not None:
        ratio = p.weight[i] / q.weight[i]
        return mpf(0) if ratio == 1 else mpmath.log(real(ratio))
    if p.kind == q.kind and p.weight is None and q.weight is None:
        gap = real(p.power[i] - q.power[i])
        return gap if p.kind == LOGS else gap - (p.log_sum - q.log_sum)
    return p.log(i) - q.log(i)


def answers(p, q):
    """mass_p, mass_q, check, as_given, generalized of two sides."""
    bins = [i for i, on in enumerate(p.on) if on]
    if any(not q.on[i] for i in bins):
        return p.mass, q.mass, mpmath.inf, mpmath.inf, mpmath.inf
    same = proportional(p, q)
    if same and p.kind == q.kind == LOGITS:
        return p.mass, q.mass, mpf(0), mpf(0), mpf(0)
    ratios = [log_ratio(p, q, i) for i in bins]
    mean = mpmath.fsum(p.share(i) * ratio for i, ratio in zip(bins, ratios))
    check = mpf(0) if same else mean - p.log_mass() + q.log_mass()
    as_given = mean * p.mass
    generalized = as_given + (q.mass - p.mass)
    for value in (check, as_given, generalized):
        # Nothing in between: what is not exactly 0 is far from the last digit.
        assert value == 0 or abs(value) > mpf("1e-50"), value
    return p.mass, q.mass, check, as_given, generalized


def decimal(x, digits):
    if x == mpmath.inf:
        return "inf"
    return "0" if x == 0 else mpmath.nstr(x, digits)


def fill(row):
    """Adds the policy and the answers to a row that has its bits."""
    type, temperature = row["type"], row["temperature"]
    p, q = (Side(from_hex(row[s], type), row[s + "_kind"], temperature) for s in "pq")
    mass_p, mass_q, check, as_given, generalized = answers(p, q)
    tolerance = real(MASS_TOLERANCE[type])
    off = max(abs(mass_p - 1), abs(mass_q - 1))
    # Not so near the tolerance that rounding the sum could decide.
    assert abs(off / tolerance - 1) > mpf("0.01"), (row["name"], float(off))
    row["policy"] = "check" if off < tolerance else "normalize"
    assert check >= 0 and generalized >= 0, row["name"]
    row["mass_p"] = "1" if p.kind == LOGITS else decimal(mass_p, 20)
    row["mass_q"] = "1" if q.kind == LOGITS else decimal(mass_q, 20)
    row["check"] = decimal(check, 25)
    row["as_given"] = decimal(as_given, 25)
    row["generalized"] = decimal(generalized, 25)
    return row


# ------------------------------------------------------------------- the rows

ROWS = []
LEFT_OUT = []


def add(type, name, kinds, p, q, temperature=1.0, expect=None):
    """Keeps a row of values that the type holds exactly, with its answers.

    expect: 0 or math.inf; the row stops the run if it is meant to be one of the
    two and is not, or is and was not meant to be.
    """
    p, q = np.atleast_1d(p), np.atleast_1d(q)
    assert p.shape == q.shape and p.ndim == 1 and 1 <= p.size <= 1000, name
    assert LOGITS in kinds or temperature == 1.0, name
    row = {"name": name, "type": type, "p_kind": kinds[0], "q_kind": kinds[1],
           "temperature": float(temperature), "policy": None,
           "p": to_hex(p, type), "q": to_hex(q, type)}
    fill(row)
    got = mpf(row["check"])
    if expect in (0, INF):
        assert got == expect, (name, row["check"])
    else:
        assert 0 < got < mpmath.inf, (type, name, row["check"])
        if got < least(type, kinds):
            LEFT_OUT.append((type, name, float(got)))
            return
    assert all((r["type"], r["name"]) != (type, name) for r in ROWS), name
    ROWS.append(row)


def draws(type, name):
    return np.random.default_rng([SEED, zlib.crc32(f"{type} {name}".encode())])


def normal(log_weights):
    """Logarithms of weights, shifted so that the weights add up to 1."""
    top = log_weights.max()
    return log_weights - top - math.log(math.fsum(np.exp(log_weights - top)))


def store(log_weights, kind, type, temperature, mass=1.0, shift=0.0, lift=False):
    """The stored values of a row: its logarithms, or e to them, or logits.

    mass: of probs and log-probs. shift: added to logits. lift: probs that would
    come out as 0 are made the smallest number of the type (the smallest normal
    number of f32 and f64), so that an answer stays finite.
    """
    if kind == LOGITS:
        return rounded(temperature * log_weights + shift, type)
    logs = normal(log_weights) + math.log(mass)
    if kind == LOGS:
        return rounded(logs, type)
    out = rounded(np.exp(logs), type)
    if lift:
        floor = SMALLEST[type] if type == "f16" else SMALLEST_NORMAL[type]
        out = np.where(log_weights > -INF, np.maximum(out, floor), out)
    return out


def pair(type, name, kinds, log_p, log_q, temperature=1.0, masses=(1.0, 1.0),
         shifts=(0.0, 0.0), expect=None):
    """A row from the logarithms of its two sides."""
    p = store(log_p, kinds[0], type, temperature, masses[0], shifts[0])
    q = store(log_q, kinds[1], type, temperature, masses[1], shifts[1], expect != INF)
    add(type, name, kinds, p, q, temperature, expect)


def title(start, kinds, temperature, bins):
    text = f"{start}, {kinds[0]} || {kinds[1]}"
    if LOGITS in kinds:
        text += f", T {temperature:g}"
    return text + (", 1 bin" if bins == 1 else f", {bins} bins")


class Cycle:
    """Hands out the same few things again and again."""

    def __init__(self, *things):
        self.things, self.at = things, 0

    def next(self):
        self.at += 1
        return self.things[(self.at - 1) % len(self.things)]


class Temperatures(Cycle):
    def __init__(self, *things):
        super().__init__(*(things or TEMPERATURES))

    def of(self, kinds):
        return self.next() if LOGITS in kinds else 1.0


def source(rng, what, bins, temperature):
    """Logarithms of weights: gaussian logits over T, or a Dirichlet row."""
    name, value = what.split()
    if name == "gaussian":
        return rng.normal(0, float(value), bins) / temperature
    with np.errstate(divide="ignore"):
        row = rng.dirichlet(np.full(bins, float(value)))
        return np.log(np.maximum(row, 1e-30))


def far_rows(type, plan):
    """plan: (kinds, source, bins, temperature)."""
    for kinds, what, bins, temperature in plan:
        name = title(f"far apart, {what}", kinds, temperature, bins)
        rng = draws(type, name)
        pair(type, name, kinds, source(rng, what, bins, temperature),
             source(rng, what, bins, temperature), temperature)


def near_rows(type, plan):
    """plan: (kinds, eps, bins, temperature). q is p with its logs changed by eps."""
    for kinds, eps, bins, temperature in plan:
        name = title(f"near-equal {eps}", kinds, temperature, bins)
        rng = draws(type, name)
        log_p = rng.normal(0, 1.5, bins)
        pair(type, name, kinds, log_p, log_p + float(eps) * rng.standard_normal(bins),
             temperature)


def one_ulp_rows(type, sizes):
    """Probabilities one unit in the last place apart, in a few bins or in one."""
    def moved(values, where, up):
        bits = np.frombuffer(bytes.fromhex(to_hex(values, type)),
                             dtype=BIG_ENDIAN[type].replace("f", "u")).copy()
        bits[where] += np.where(up, 1, -1).astype(bits.dtype)
        return from_hex(bits.tobytes().hex(), type)

    for bins in sizes:
        name = f"one ulp apart in some bins, probs || probs, {bins} bins"
        rng = draws(type, name)
        p = store(rng.normal(0, 1.5, bins), PROBS, type, 1.0, lift=True)
        where = np.sort(rng.permutation(bins)[: max(1, bins // 4)])
        add(type, name, (PROBS, PROBS), p, moved(p, where, rng.random(where.size) < 0.5))
        name = f"one ulp apart in the smallest bin, probs || probs, {bins} bins"
        p = store(draws(type, name).normal(0, 1.5, bins), PROBS, type, 1.0, lift=True)
        add(type, name, (PROBS, PROBS), p, moved(p, [int(p.argmin())], [True]))


def shift_rows(type, plan):
    """plan: (p kind, what, shift, bins, temperature); q is logits, shifted.

    what: `rounded` (q differs from p only by how it is rounded, shift and all),
    an eps, or `far apart`. The shift is added before the rounding.
    """
    for p_kind, what, shift, bins, temperature in plan:
        kinds = (p_kind, LOGITS)
        name = title(f"q shifted by {shift}, {what}", kinds, temperature, bins)
        rng = draws(type, name)
        log_p = log_q = rng.normal(0, 2, bins) / temperature
        if what == "far apart":
            log_q = rng.normal(0, 2, bins) / temperature
        elif what != "rounded":
            log_q = log_p + float(what) * rng.standard_normal(bins)
        pair(type, name, kinds, log_p, log_q, temperature, shifts=(0.0, float(shift)))


def both_shifted_rows(type, plan):
    for shift_p, shift_q, bins, temperature in plan:
        name = title(f"p shifted by {shift_p} and q by {shift_q}", (LOGITS, LOGITS),
                     temperature, bins)
        rng = draws(type, name)
        pair(type, name, (LOGITS, LOGITS), rng.normal(0, 2, bins), rng.normal(0, 2, bins),
             temperature, shifts=(float(shift_p), float(shift_q)))


def huge_logit_rows(type, plan, size="1e4"):
    """plan: (kinds, bins, temperature). One bin at +size, the rest at -size.

    As log-probs, 0 and -2 size; as probs, 1 and 0 (p only).
    """
    for kinds, bins, temperature in plan:
        name = title(f"logits of +-{size}, disjoint", kinds, temperature, bins)
        sides = []
        for kind, hot in zip(kinds, (0, bins - 1)):
            is_hot = np.arange(bins) == hot
            high, low = {LOGITS: (float(size), -float(size)), LOGS: (0.0, -2 * float(size)),
                         PROBS: (1.0, 0.0)}[kind]
            sides.append(rounded(np.where(is_hot, high, low), type))
        add(type, name, kinds, *sides, temperature)


def wide_logit_rows(type, plan, size="1e4"):
    for bins, temperature in plan:
        kinds = (LOGITS, LOGITS)
        name = title(f"logits even in +-{size}", kinds, temperature, bins)
        rng = draws(type, name)
        p, q = (rounded(rng.uniform(-float(size), float(size), bins), type) for _ in "pq")
        add(type, name, kinds, p, q, temperature)


def mask_rows(type, plan):
    """plan: (kinds, how, bins, temperature). Masked bins are -inf, in probs 0."""
    for kinds, how, bins, temperature in plan:
        name = title(f"masked, {how}", kinds, temperature, bins)
        rng = draws(type, name)
        log_p, log_q = rng.normal(0, 2, bins), rng.normal(0, 2, bins)
        order = rng.permutation(bins)
        third, expect = order[: max(1, bins // 3)], None
        if how == "in both":
            log_p[third] = log_q[third] = -INF
        elif how == "in q alone":
            log_q[order[0]] = -INF
            expect = INF
        elif how == "in q alone, and elsewhere in both and in p":
            log_p[order[0]] = log_q[order[0]] = log_q[order[1]] = log_p[order[2]] = -INF
            expect = INF
        elif how == "in p alone":
            log_p[third] = -INF
        elif how == "in p, fewer in q":
            log_p[third] = log_q[third[: third.size // 2]] = -INF
        elif how == "all but 3":
            log_p[order[3:]] = log_q[order[3:]] = -INF
        elif how == "one left in p":
            log_p[order[1:]] = -INF
        elif how == "the same one left in both":
            log_p[order[1:]] = log_q[order[1:]] = -INF
            expect = 0
        elif how == "another one left in q":
            log_p[order[1:]] = log_q[order[:-1]] = -INF
            expect = INF
        else:
            raise ValueError(how)
        pair(type, name, kinds, log_p, log_q, temperature, expect=expect)


def zero_rows(type, full=True):
    """Rows whose answer is exactly 0."""
    sizes = [2, 33, 200] if full else [7]
    temperatures = Temperatures()
    for kind in KINDS:
        for bins in sizes:
            temperature = temperatures.of((kind, kind))
            name = title("identical", (kind, kind), temperature, bins)
            p = store(draws(type, name).normal(0, 2, bins), kind, type, temperature)
            add(type, name, (kind, kind), p, p, temperature, expect=0)
    # Whole numbers within 8 of 0 and shifts that keep them exact.
    shifts = {"bf16": ["3", "-64"], "f16": ["3.5", "-112"]}
    for shift in shifts.get(type, ["3.5", "-1000", "96"]):
        for bins in sizes[:2]:
            temperature = temperatures.next()
            kinds = (LOGITS, LOGITS)
            name = title(f"shifted by exactly {shift}", kinds, temperature, bins)
            p = draws(type, name).integers(-8, 9, bins).astype(np.float64)
            q = p + float(shift)
            assert np.array_equal(rounded(p, type), p) and np.array_equal(rounded(q, type), q)
            add(type, name, kinds, p, q, temperature, expect=0)
    # The same in other words: log-probs x, and logits T x.
    for kinds, temperature in [((LOGS, LOGITS), 1.0), ((LOGITS, LOGS), 0.25),
                               ((LOGS, LOGITS), 8.0)][: 3 if full else 1]:
        bins = sizes[-1]
        name = title("logits are T times the log-probs", kinds, temperature, bins)
        x = store(draws(type, name).normal(0, 2, bins), LOGS, type, 1.0)
        sides = [x * temperature if kind == LOGITS else x for kind in kinds]
        add(type, name, kinds, *sides, temperature, expect=0)
    # All bins the same: the one case with probs on one side alone.
    level = [((PROBS, LOGITS), 5), ((LOGS, PROBS), 8), ((LOGITS, LOGS), 3), ((PROBS, LOGS), 1000)]
    for kinds, bins in level[: 4 if full else 1]:
        temperature = temperatures.of(kinds)
        name = title("all bins the same", kinds, temperature, bins)
        flat = np.zeros(bins)
        pair(type, name, kinds, flat, flat, temperature, shifts=(2.75, 2.75), expect=0)


def single_rows(type, pairs):
    """One bin: always 0, whatever the masses of probs and log-probs."""
    values = {PROBS: Cycle(1.0, 3.0, 0.9375), LOGS: Cycle(0.0, -2.5, 5.0),
              LOGITS: Cycle(0.0, -1000.0, 7.5)}
    temperatures = Temperatures(1.0, 0.7, 8.0)
    for kinds in pairs:
        temperature = temperatures.of(kinds)
        p, q = (rounded([values[kind].next()], type) for kind in kinds)
        add(type, title(f"one bin, {p[0]:g} and {q[0]:g}", kinds, temperature, 1),
            kinds, p, q, temperature, expect=0)


def head_and_tail_rows(type, plan, floor=1e-12, near="1e-6 to 1e-5", ceiling=1e-8):
    """plan: (kinds, order, head bins, tail bins, temperature).

    A few bins with nearly all of the mass and hardly changed, and many with hardly
    any, much changed.
    """
    low, high = (float(x) for x in near.split(" to "))
    for kinds, order, head, tail, temperature in plan:
        bins = head + tail
        name = title(f"{head} big bins changed by {near}, {tail} tiny ones by 0.1 to 1, {order}",
                     kinds, temperature, bins)
        rng = draws(type, name)
        log_p = np.concatenate([
            np.log(rng.dirichlet(np.full(head, 3.0))),
            rng.uniform(math.log(floor), math.log(ceiling), tail)])
        size = np.concatenate([
            np.exp(rng.uniform(math.log(low), math.log(high), head)),
            np.exp(rng.uniform(math.log(0.1), 0, tail))])
        log_q = log_p + size * rng.choice([-1, 1], bins)
        place = {"big first": np.arange(bins), "tiny first": np.arange(bins)[::-1],
                 "ascending": np.argsort(log_p, kind="stable"),
                 "descending": np.argsort(-log_p, kind="stable")}[order]
        pair(type, name, kinds, log_p[place], log_q[place], temperature)


def mass_rows(type, plan):
    """plan: (kinds, how, mass of p, mass of q, bins, temperature).

    Masses of probs and log-probs; `far apart`, or an eps: nearly proportional.
    """
    for kinds, how, mass_p, mass_q, bins, temperature in plan:
        masses = ", ".join(f"mass of {side} {mass}" for side, kind, mass in
                           zip("pq", kinds, (mass_p, mass_q)) if kind != LOGITS)
        what = how if how == "far apart" else f"proportional but for {how}"
        name = title(f"{masses}, {what}", kinds, temperature, bins)
        rng = draws(type, name)
        log_p = rng.normal(0, 1.5, bins)
        log_q = rng.normal(0, 1.5, bins)
        if how != "far apart":
            log_q = log_p + float(how) * log_q
        pair(type, name, kinds, log_p, log_q, temperature, (float(mass_p), float(mass_q)))


def peaked_rows(type, plan):
    for kinds, bins, temperature, depth in plan:
        name = title(f"peaked in other places, down to e^-{depth}", kinds, temperature, bins)
        rng = draws(type, name)
        log_p, log_q = (rng.uniform(-depth, -depth / 3, bins) for _ in "pq")
        log_p[0] = log_q[bins // 2] = 0.0
        pair(type, name, kinds, log_p, log_q, temperature)


def power_law_rows(type, plan):
    for kinds, bins, temperature in plan:
        rank = np.log(np.arange(1, bins + 1, dtype=np.float64))
        pair(type, title("power law 1 against 1.5", kinds, temperature, bins), kinds,
             -rank, -1.5 * rank, temperature)
    kinds, bins, temperature = plan[0]
    name = title("power law 2 against its own shuffle", kinds, temperature, bins)
    rank = np.log(np.arange(1, bins + 1, dtype=np.float64))
    pair(type, name, kinds, -2 * rank, -2 * draws(type, name).permutation(rank), temperature)


def edge_rows(type, plan, slack=(0.0, 1e-6, -1e-6, 1e-4, -1e-4, 1e-2, -1e-2, 0.1, -0.1)):
    """plan: (kinds, edge, bins, temperature, masses).

    |ln(p/q) - ln(P/Q)| is a little below or above the edge, or as near as rounding
    lets it, in every bin: up in one half of the bins and down in the other, with
    weights so that the masses stay as they are.
    """
    for kinds, edge, bins, temperature, masses in plan:
        start = f"log ratios near +-{edge}"
        if masses != (1.0, 1.0):
            start += f", masses {masses[0]:g} and {masses[1]:g}"
        name = title(start, kinds, temperature, bins)
        rng = draws(type, name)
        up = np.arange(bins) % 2 == 0
        ratio = float(edge) * (1 + rng.choice(slack, bins)) * np.where(up, 1, -1)
        p = rng.gamma(2.0, 1.0, bins) + 0.05
        change = p * np.expm1(-ratio)
        p[~up] *= -math.fsum(change[up]) / math.fsum(change[~up])
        log_p = np.log(p / math.fsum(p))
        pair(type, name, kinds, log_p, log_p - ratio, temperature, masses)


def subnormal_rows(type, sizes):
    """Probabilities with subnormal tails, zeros in p and zeros in both."""
    steps = SMALLEST_NORMAL[type] / SMALLEST[type]
    for bins in sizes:
        for q_kind in KINDS:
            kinds = (PROBS, q_kind)
            name = title("subnormal tails and zeros", kinds, 1.0, bins)
            rng = draws(type, name)
            sides = []
            tail = np.arange(bins) >= bins // 2
            for _ in "pq":
                x = rng.dirichlet(np.ones(bins))
                x[tail] = 0
                x = rounded(x / x.sum(), type)
                x[tail] = np.floor(2 ** rng.uniform(0, math.log2(steps), tail.sum()))
                x[tail] *= SMALLEST[type]
                x[~tail] = np.maximum(x[~tail], SMALLEST[type])
                sides.append(x)
            p, q = sides
            p[-1] = p[-2] = p[0] = 0
            q[-1] = 0
            if q_kind != PROBS:
                with np.errstate(divide="ignore"):
                    q = rounded(np.log(q), type)
            add(type, name, kinds, p, q)


def off_mass_rows(type, factors, bins):
    """Masses off by up to the tolerance, and by more, of probs and log-probs."""
    for by_p, by_q in factors:
        for kinds in [(PROBS, PROBS), (PROBS, LOGS), (LOGS, LOGITS)]:
            name = title(f"masses about {by_p} and {by_q}", kinds, 1.0, bins)
            rng = draws(type, name)
            pair(type, name, kinds, rng.normal(0, 1, bins), rng.normal(0, 1, bins),
                 masses=(float(by_p), float(by_q)))


def f32_rows():
    type = "f32"
    sizes = Cycle(2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129, 200)
    sources = Cycle("gaussian 1", "dirichlet 1", "gaussian 2", "gaussian 5", "dirichlet 0.2",
                    "gaussian 3")
    plan = []
    for kinds in PAIRS:
        for temperature in TEMPERATURES if LOGITS in kinds else [1.0] * 4:
            plan.append((kinds, sources.next(), sizes.next(), temperature))
    plan.append(((LOGS, LOGS), "gaussian 2", 1000, 1.0))
    plan.append(((LOGITS, LOGITS), "gaussian 2", 1000, 1.0))
    far_rows(type, plan)

    temperatures = Temperatures()
    near_rows(type, [(kinds, eps, sizes.next(), temperatures.of(kinds))
                     for kinds in PAIRS for eps in
                     ["3", "1", "1e-1", "1e-2", "1e-3", "1e-4", "3e-5"]]
              + [(kinds, "1e-3", 1000, 1.0) for kinds in [(LOGS, LOGS), (PROBS, LOGITS)]])

    shift_rows(type, [(p_kind, what, shift, sizes.next(), temperatures.next())
                      for p_kind in KINDS for shift in ["1000", "-1000", "3.5", "1e4"]
                      for what in ["rounded", "1e-2", "far apart"]])
    both_shifted_rows(type, [("1000", "-1000", 31, 1.0), ("1e4", "1e4", 65, 0.5),
                             ("-1e4", "1e4", 8, 8.0), ("3.5", "-3.5", 17, 0.25)])
    huge_logit_rows(type, [
        ((LOGITS, LOGITS), 2, 1.0), ((LOGITS, LOGITS), 33, 0.25), ((LOGITS, LOGITS), 8, 8.0),
        ((LOGITS, LOGS), 5, 1.0), ((LOGITS, LOGS), 5, 0.7), ((LOGS, LOGITS), 16, 1.0),
        ((LOGS, LOGS), 7, 1.0), ((PROBS, LOGITS), 17, 1.0), ((PROBS, LOGITS), 3, 2.0),
        ((PROBS, LOGS), 4, 1.0)])
    wide_logit_rows(type, [(2, 1.0), (50, 1.0), (100, 8.0), (65, 0.25)])

    hows = ["in both", "in q alone", "in p alone", "all but 3", "one left in p",
            "the same one left in both"]
    mask_sizes = Cycle(5, 16, 33, 64, 7, 100, 17)
    plan = []
    for kinds in PAIRS:
        for how in hows:
            bins = mask_sizes.next()
            plan.append((kinds, how, 200 if how == "all but 3" else bins, temperatures.of(kinds)))
    for kinds in [(LOGS, LOGS), (LOGITS, LOGITS), (PROBS, LOGITS)]:
        for how in ["in q alone, and elsewhere in both and in p", "in p, fewer in q",
                    "another one left in q"]:
            plan.append((kinds, how, mask_sizes.next(), temperatures.of(kinds)))
    mask_rows(type, plan)
    zero_rows(type)
    single_rows(type, PAIRS)

    orders = ["big first", "tiny first", "ascending", "descending"]
    tails = Cycle((3, 150), (8, 120), (5, 200), (1, 60), (2, 250))
    head_and_tail_rows(type, [(kinds, order, *tails.next(), temperatures.of(kinds))
                              for kinds in PAIRS for order in orders])

    plan = []
    for mass_p, mass_q in [("1e-3", "1"), ("1", "1e-3"), ("1e-3", "1e9"), ("1e9", "1e-3"),
                           ("1e9", "1e9"), ("30", "1e6"), ("1e3", "0.2")]:
        plan.append(((LOGS, LOGS), "far apart", mass_p, mass_q, sizes.next(), 1.0))
    for eps in ["1e-1", "1e-2", "1e-3", "1e-4"]:
        for mass_p, mass_q in [("1e9", "1e-3"), ("1e-3", "1e4")]:
            plan.append(((LOGS, LOGS), eps, mass_p, mass_q, sizes.next(), 1.0))
    for kinds, mass_p, mass_q in [
            ((LOGS, PROBS), "1e6", "1e3"), ((PROBS, LOGS), "1e9", "1e-3"),
            ((LOGS, LOGITS), "1e-3", "1"), ((LOGITS, LOGS), "1", "1e9"),
            ((PROBS, LOGITS), "5e5", "1"), ((LOGITS, PROBS), "1", "1e-2")]:
        for how in ["far apart", "1e-3"]:
            plan.append((kinds, how, mass_p, mass_q, sizes.next(), temperatures.of(kinds)))
    mass_rows(type, plan)

    depths = Cycle(80, 60, 45)
    peaked_rows(type, [(kinds, sizes.next(), temperatures.of(kinds), depths.next())
                       for kinds in PAIRS])
    power_law_rows(type, [((LOGS, LOGS), 1000, 1.0)]
                   + [(kinds, 200, temperatures.of(kinds)) for kinds in PAIRS
                      if kinds != (LOGS, LOGS)])
    edge_sizes = Cycle(16, 32, 64, 100)
    edge_rows(type, [(kinds, edge, edge_sizes.next(), temperatures.of(kinds), (1.0, 1.0))
                     for kinds in PAIRS for edge in ["0.5", "1", "2"]]
              + [(kinds, edge, edge_sizes.next(), 1.0, (50.0, 3.0))
                 for kinds in [(PROBS, PROBS), (LOGS, LOGS)] for edge in ["0.5", "1", "2"]])


def f64_rows():
    type = "f64"
    sizes = Cycle(2, 5, 8, 17, 33, 64, 100)
    temperatures = Temperatures()
    sources = Cycle("gaussian 1", "gaussian 3", "dirichlet 1", "gaussian 5")
    far_rows(type, [(kinds, sources.next(), sizes.next(), temperatures.of(kinds))
                    for kinds in PAIRS])
    epsilons = Cycle("1e-2", "1e-7", "1e-4", "3e-9")
    plan = [(kinds, eps, sizes.next(), temperatures.of(kinds))
            for kinds in [(LOGS, LOGS), (LOGITS, LOGITS)]
            for eps in ["1e-1", "1e-3", "1e-5", "1e-7", "1e-8", "3e-9"]]
    plan += [(kinds, epsilons.next(), sizes.next(), temperatures.of(kinds))
             for kinds in PAIRS if kinds[0] != kinds[1]]
    near_rows(type, plan)
    shift_rows(type, [(LOGITS, "1e-6", "1000", 33, 1.0), (LOGS, "1e-4", "-1000", 16, 0.7),
                      (PROBS, "1e-2", "1e4", 65, 2.0), (LOGITS, "far apart", "3.5", 7, 1.3)])
    huge_logit_rows(type, [((LOGITS, LOGITS), 4, 1.0)])
    mask_rows(type, [((LOGITS, LOGITS), "in both", 17, 1.3), ((PROBS, LOGS), "in both", 5, 1.0),
                     ((LOGS, LOGITS), "in q alone", 16, 2.0), ((LOGITS, PROBS), "in p alone", 9, 0.5),
                     ((LOGS, LOGS), "all but 3", 65, 1.0), ((LOGITS, LOGS), "one left in p", 7, 1.0)])
    zero_rows(type, full=False)
    single_rows(type, [(LOGS, LOGITS)])
    head_and_tail_rows(type, [
        ((LOGITS, LOGITS), "big first", 3, 60, 1.0), ((LOGS, LOGS), "tiny first", 5, 60, 1.0),
        ((PROBS, LOGITS), "ascending", 2, 60, 1.0), ((LOGITS, PROBS), "descending", 4, 60, 0.5)],
        near="1e-9 to 1e-8", floor=1e-16, ceiling=1e-12)
    mass_rows(type, [((LOGS, LOGS), "1e-8", "1e9", "1e-3", 33, 1.0),
                     ((LOGS, LOGITS), "1e-5", "1e-3", "1", 8, 1.0),
                     ((LOGS, PROBS), "far apart", "30", "1e6", 17, 1.0)])
    peaked_rows(type, [((LOGITS, LOGITS), 16, 0.7, 700), ((LOGS, PROBS), 5, 1.0, 600)])
    power_law_rows(type, [((LOGITS, LOGS), 129, 1.0)])
    edge_rows(type, [((LOGS, LOGITS), "0.5", 16, 1.0, (1.0, 1.0)),
                     ((LOGITS, LOGITS), "1", 32, 0.25, (1.0, 1.0)),
                     ((LOGS, LOGS), "2", 16, 1.0, (50.0, 3.0))],
              slack=(0.0, 1e-14, -1e-14, 1e-8, -1e-8, 1e-2, -1e-2))


def short_rows(type):
    """f16 and bf16."""
    sizes = Cycle(3, 8, 17, 33, 5, 64, 101, 2, 31)
    temperatures = Temperatures()
    sources = Cycle("gaussian 1", "gaussian 3", "dirichlet 1", "gaussian 2")
    far_rows(type, [(kinds, sources.next(), sizes.next(), temperatures.of(kinds))
                    for kinds in PAIRS])
    epsilons = Cycle("1e-1", "1", "3e-2")
    near_rows(type, [(kinds, epsilons.next(), sizes.next(), temperatures.of(kinds))
                     for kinds in PAIRS] + [((PROBS, PROBS), "1e-2", 201, 1.0),
                                            ((LOGITS, LOGITS), "1e-2", 65, 1.0)])
    one_ulp_rows(type, [3, 17, 64])
    shift_rows(type, [(LOGITS, "rounded", "1000", 33, 2.0), (PROBS, "far apart", "-1000", 9, 8.0),
                      (LOGS, "1e-1", "3.5", 17, 1.0), (LOGITS, "far apart", "1e4", 7, 8.0)])
    huge_logit_rows(type, [((LOGITS, LOGITS), 3, 1.0), ((LOGS, LOGITS), 8, 8.0)])
    mask_rows(type, [((PROBS, PROBS), "in both", 17, 1.0), ((LOGITS, LOGITS), "in q alone", 16, 0.5),
                     ((LOGS, LOGS), "in p alone", 33, 1.0), ((PROBS, LOGITS), "all but 3", 65, 1.3),
                     ((LOGITS, LOGS), "one left in p", 9, 0.7),
                     ((LOGS, PROBS), "the same one left in both", 5, 1.0)])
    zero_rows(type, full=False)
    single_rows(type, [(LOGITS, LOGITS), (PROBS, LOGS)])
    short = {"floor": 1e-7, "ceiling": 1e-4} if type == "f16" else {}
    head_and_tail_rows(type, [((PROBS, PROBS), "tiny first", 3, 60, 1.0),
                              ((LOGITS, LOGITS), "big first", 2, 61, 1.0),
                              ((LOGS, PROBS), "descending", 4, 40, 1.0)],
                       near="1e-2 to 1e-1", **short)
    off_mass_rows(type, [("1.006", "0.995"), ("0.97", "1.04")], 33)
    mass_rows(type, [((LOGS, LOGS), "1e-1", "1e9", "1e-3", 17, 1.0),
                     ((LOGS, LOGITS), "far apart", "1e4", "1", 8, 0.5),
                     ((PROBS, PROBS), "far apart", "5e3", "40", 31, 1.0)])
    peaked_rows(type, [((LOGITS, LOGITS), 16, 0.7, 60), ((LOGS, LOGS), 7, 1.0, 80)])
    power_law_rows(type, [((PROBS, LOGITS), 100, 1.0)])
    edge_rows(type, [((LOGITS, LOGITS), "0.5", 16, 1.0, (1.0, 1.0)),
                     ((LOGS, LOGS), "1", 32, 1.0, (1.0, 1.0)),
                     ((PROBS, PROBS), "2", 16, 1.0, (1.0, 1.0))],
              slack=(0.0, 1e-2, -1e-2, 0.1, -0.1))
    subnormal_rows(type, [15])


def make():
    f32_rows()
    f64_rows()
    short_rows("f16")
    short_rows("bf16")
    meta = {
        "generated_with": "make_kinds.py in this folder",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpmath": mpmath.__version__,
        "seed": SEED,
        "working_digits": DIGITS,
        "bits": "p and q: the bits of each value in big-endian hex, 4 digits a value for "
                "f16 and bf16, 8 for f32 and 16 for f64, one after another",
        "kinds": "probs: p; log-probs: x with p = e^x; logits: a with p = softmax(a/T), "
                 "T = temperature, exactly the double it reads as, for logits alone",
        "conventions": "nats; P = sum p, Q = sum q; 0 ln 0 = 0; p > 0 with q = 0 is inf",
        "check": "sum (p/P) ln((p/P)/(q/Q)), 25 digits; policy normalize is the same",
        "as_given": "sum p ln(p/q), 25 digits; logits as their softmax",
        "generalized": "sum (p ln(p/q) - p + q), 25 digits; logits as their softmax",
        "mass": "mass_p = P and mass_q = Q, 20 digits; 1 for logits",
        "policy": "check: both masses within 1e-3 of 1 (1e-2 for f16 and bf16); else normalize",
    }
    with open(OUT, "w", encoding="ascii", newline="\n") as file:
        file.write('{"meta": ' + json.dumps(meta, indent=1) + ',\n"rows": [\n')
        file.write(",\n".join(json.dumps(row) for row in ROWS))
        file.write("\n]}\n")
    for type in TYPES:
        rows = [row for row in ROWS if row["type"] == type]
        finite = [float(r["check"]) for r in rows if r["check"] not in ("0", "inf")]
        print(f"{len(rows)} {type} rows: {sum(r['policy'] == 'normalize' for r in rows)} to "
              f"normalize, {sum(r['check'] == 'inf' for r in rows)} inf, "
              f"{sum(r['check'] == '0' for r in rows)} zero, "
              f"the rest from {min(finite):.1e} to {max(finite):.1e}")
    for type, name, value in LEFT_OUT:
        print(f"left out, too small ({value:.1e}): {type} {name}")
    print(f"{len(ROWS)} rows, {OUT.stat().st_size} bytes")


# -------------------------------------------------------------------- --check


def check():
    from scipy.special import kl_div, log_softmax, rel_entr

    rows = json.loads(OUT.read_text())["rows"]
    mpmath.mp.dps = CHECK_DIGITS
    compared, ill, infinite, worst = 0, 0, 0, (0.0, "")
    given = ["name", "type", "p_kind", "q_kind", "temperature", "p", "q"]
    for row in rows:
        again = fill({key: row[key] for key in given})
        assert again == row, row["name"]

        values, logs, largest = {}, {}, 1.0
        for side in "pq":
            x = from_hex(row[side], row["type"])
            kind = row[side + "_kind"]
            with np.errstate(divide="ignore", under="ignore", over="ignore"):
                if kind == LOGITS:
                    x = x / row["temperature"]
                    largest = max(largest, np.abs(x[x > -INF]).max())
                    logs[side] = log_softmax(x)
                else:
                    logs[side] = np.log(x) if kind == PROBS else x
                values[side] = x if kind == PROBS else np.exp(logs[side])
            largest = max(largest, np.abs(logs[side][logs[side] > -INF]).max())
        p, q = values["p"], values["q"]
        total_p, total_q = math.fsum(p), math.fsum(q)
        with np.errstate(all="ignore"):
            both = np.concatenate([p[logs["p"] > -INF], q[logs["q"] > -INF]])
            gap = np.where(logs["p"] > -INF, logs["p"] - logs["q"], 0.0)
            shares = p / total_p
            if both.min() > 1e-300:
                terms = {"check": rel_entr(shares, q / total_q), "as_given": rel_entr(p, q),
                         "generalized": kl_div(p, q)}
            else:  # beyond float64 as numbers, but not as logarithms
                terms = {"check": shares * (gap - math.log(total_p / total_q)),
                         "as_given": p * gap, "generalized": p * gap - p + q}
        for key, term in terms.items():
            want = float(row[key])
            if math.isinf(want):
                assert np.isinf(gap).any(), (row["name"], key)
                infinite += 1
                continue
            got = math.fsum(term)
            # float64 keeps a logarithm to about 1e-16 of its size, so an answer is off
            # by that times the mass, whatever its own size.
            mass = {"check": 1.0, "as_given": total_p, "generalized": total_p + total_q}[key]
            scale = mass * largest
            if abs(want) < 1e-6 * scale:
                ill += 1
                assert abs(got - want) <= 1e-14 * scale, (row["name"], key, got, want)
                continue
            error = abs(got - want) / abs(want)
            worst = max(worst, (error, f"{row['type']} {row['name']}, {key}"))
            assert error <= 1e-9, (row["name"], key, error)
            compared += 1
    print(f"{len(rows)} rows: every answer comes out the same at {CHECK_DIGITS} digits")
    print(f"scipy: {compared} answers agree to 1e-9 relative, {infinite} are infinite in both, "
          f"{ill} are ill-conditioned in float64")
    print(f"worst relative difference {worst[0]:.1e} ({worst[1]})")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else make()

"""Makes divergences.json: every divergence of pairs of rows, known to 25 digits, for the
tests.

    pip install numpy mpmath gmpy2
    python make_divergences.py            writes divergences.json
    pip install scipy
    python make_divergences.py --check    works out every answer in divergences.json again,
                                          from other formulas, and compares with scipy

Rows are drawn, rounded and stored as in make_kinds.py, whose exact sides are used here: the
answers come from the stored bits. Under the policies check and normalize p and q are divided
by their masses; under as-given and generalized they are as they stand. Logits are always
their softmax. With E(x) = e^x - 1 and l = ln(p/q), each divergence is a sum of terms of p, q
and l that are 0 where l is, so that rows that are the same come out as exactly 0.
Nothing here is shared with the library.
"""

import json
import math
import platform
import sys
from pathlib import Path

import mpmath
import numpy as np
from make_kinds import (INF, LOGITS, LOGS, MASS_TOLERANCE, PROBS, Side, decimal, draws, from_hex,
                        least, log_ratio, proportional, real, rounded, store, title, to_hex)
from mpmath import exp, expm1, fsum, log, log1p, mpf, sqrt

OUT = Path(__file__).resolve().parent / "divergences.json"
DIGITS, CHECK_DIGITS = 100, 140

# Parameters are exactly the doubles they read as.
NAMES = ["kl", "reverse-kl", "jeffreys", "js:0.5", "js:0.3", "js-distance",
         "renyi:0", "renyi:0.5", "renyi:0.999", "renyi:2", "renyi:5", "renyi:inf",
         "tsallis:0", "tsallis:0.5", "tsallis:2",
         "alpha:-1", "alpha:0.5", "alpha:1.0001", "alpha:3",
         "hellinger", "tv", "chi2", "bhattacharyya", "cross-entropy", "entropy"]
# Refused where nothing divides by the masses.
NORMALIZED_ONLY = ["renyi", "tsallis", "bhattacharyya"]
CHECK, NORMALIZE, AS_GIVEN, GENERALIZED = "check", "normalize", "as-given", "generalized"
DIVIDED = [CHECK, NORMALIZE]


def names(policy):
    if policy in DIVIDED:
        return NAMES
    refused = NORMALIZED_ONLY + (["alpha"] if policy == AS_GIVEN else [])
    return [name for name in NAMES if name.split(":")[0] not in refused]


def split(name):
    """The measure and its parameter."""
    measure, _, parameter = name.partition(":")
    return measure, mpf(float(parameter)) if parameter else None


# ---------------------------------------------------------------- the answers


class Bins:
    """p, q and l = ln(p/q) of each bin as the policy has them; l is -inf or inf where one
    is 0, and None where both are."""

    def __init__(self, p, q, policy):
        divided = policy in DIVIDED
        same = divided and proportional(p, q)
        gap = p.log_mass() - q.log_mass() if divided else mpf(0)
        self.p, self.q, self.l = [], [], []
        for i in range(len(p.on)):
            self.p.append(self.amount(p, i, divided))
            self.q.append(self.amount(q, i, divided))
            if p.on[i] and q.on[i]:
                self.l.append(mpf(0) if same else log_ratio(p, q, i) - gap)
            else:
                self.l.append(mpmath.inf if p.on[i] else -mpmath.inf if q.on[i] else None)

    @staticmethod
    def amount(side, i, divided):
        if not side.on[i]:
            return mpf(0)
        share = side.share(i)
        return share if divided else share * side.mass

    def __iter__(self):
        """p, q and l of the bins that are not 0 in both."""
        return (bin for bin in zip(self.p, self.q, self.l) if bin[2] is not None)

    def swapped(self):
        other = object.__new__(Bins)
        other.p, other.q = self.q, self.p
        other.l = [l if l is None else -l for l in self.l]
        return other


def kl(bins):
    """sum p ln(p/q)."""
    return fsum(mpf(0) if p == 0 else p * l for p, _, l in bins)


def js(bins, w):
    def terms():
        for p, q, l in bins:
            if p > 0:  # w p ln(p/m), with m/p = 1 + (1-w) E(-l)
                yield -w * p * log1p((1 - w) * expm1(-l))
            if q > 0:
                yield -(1 - w) * q * log1p(w * expm1(l))
    return fsum(terms())


def power_term(p, q, l, a):
    """p^a q^(1-a) - a p - (1-a) q."""
    if q == 0:
        return mpmath.inf if a > 1 else -a * p
    if p == 0:
        return mpmath.inf if a < 0 else (a - 1) * q
    return q * (expm1(a * l) - a * expm1(l))


def power(bins, a):
    """The sum of power_term: sum p^a q^(1-a), less 1 where the masses are 1."""
    return fsum(power_term(p, q, l, a) for p, q, l in bins)


def renyi(bins, a):
    if a == mpmath.inf:
        return max(l for p, _, l in bins if p > 0)
    if disjoint(bins):
        return mpmath.inf
    if a == 0:
        return -log1p(-tsallis(bins, a))
    excess = power(bins, a)
    return excess if excess == mpmath.inf else log1p(excess) / (a - 1)


def disjoint(bins):
    return all(p == 0 or q == 0 for p, q, _ in bins)


def tsallis(bins, a):
    if a == 0:
        return fsum(q for p, q, _ in bins if p == 0)
    return power(bins, a) / (a - 1)


def hellinger(bins):
    def term(p, q, l):
        return q if p == 0 else p if q == 0 else q * expm1(l / 2) ** 2
    return sqrt(fsum(term(*bin) for bin in bins) / 2)


def total_variation(bins):
    def term(p, q, l):
        return q if p == 0 else p if q == 0 else abs(q * expm1(l))
    return fsum(term(*bin) for bin in bins) / 2


def chi2(bins):
    def term(p, q, l):
        return q if p == 0 else mpmath.inf if q == 0 else q * expm1(l) ** 2
    return fsum(term(*bin) for bin in bins)


def bhattacharyya(bins):
    return mpmath.inf if disjoint(bins) else -log1p(power(bins, mpf(1) / 2))


def cross_entropy(bins):
    def term(p, q):
        return mpf(0) if p == 0 else mpmath.inf if q == 0 else -p * log(q)
    return fsum(term(p, q) for p, q, _ in bins)


def answer(name, bins, policy):
    measure, a = split(name)
    extra = fsum(bins.q) - fsum(bins.p) if policy == GENERALIZED else mpf(0)
    if policy == GENERALIZED and all(l is None or l == 0 for l in bins.l):
        extra = mpf(0)
    return {
        "kl": lambda: kl(bins) + extra,
        "reverse-kl": lambda: kl(bins.swapped()) - extra,
        "jeffreys": lambda: kl(bins) + kl(bins.swapped()),
        "js": lambda: js(bins, a),
        "js-distance": lambda: sqrt(js(bins, mpf(1) / 2)),
        "renyi": lambda: renyi(bins, a),
        "tsallis": lambda: tsallis(bins, a),
        "alpha": lambda: power(bins, a) / (a * (a - 1)),
        "hellinger": lambda: hellinger(bins),
        "tv": lambda: total_variation(bins),
        "chi2": lambda: chi2(bins),
        "bhattacharyya": lambda: bhattacharyya(bins),
        "cross-entropy": lambda: cross_entropy(bins),
        "entropy": lambda: -fsum(p * log(p) for p in bins.p if p > 0),
    }[measure]()


def working_digits(p, q, start):
    """Enough digits for the sum of the smallest and the largest share of a side, squared."""
    smallest = 1.0
    for values in (p, q):
        values = values[(values > 0) & (values < INF)]
        if values.size and values.max() > 0:
            smallest = min(smallest, max(values.min(), 5e-324))
    return start + 2 * math.ceil(-math.log10(smallest))


def sides(row):
    return [Side(from_hex(row[s], row["type"]), row[s + "_kind"], row["temperature"])
            for s in "pq"]


def set_digits(row, start):
    mpmath.mp.dps = start
    if row["p_kind"] == PROBS or row["q_kind"] == PROBS:
        stored = [from_hex(row[s], row["type"]) if row[s + "_kind"] == PROBS else np.ones(1)
                  for s in "pq"]
        mpmath.mp.dps = working_digits(*stored, start)


def fill(row):
    """Adds the policy, where it is open, and the answers to a row that has its bits."""
    set_digits(row, DIGITS)
    p, q = sides(row)
    off = max(abs(p.mass - 1), abs(q.mass - 1)) / real(MASS_TOLERANCE[row["type"]])
    # Not so near the tolerance that rounding the sum could decide.
    assert abs(off - 1) > mpf("0.01"), (row["name"], float(off))
    if row["policy"] is None:
        row["policy"] = CHECK if off < 1 else NORMALIZE
    bins = Bins(p, q, row["policy"])
    values = {name: answer(name, bins, row["policy"]) for name in names(row["policy"])}
    for name, value in values.items():
        assert value == 0 or abs(value) > mpf(10) ** (-mpmath.mp.dps / 2), (row["name"], name)
        if row["policy"] != AS_GIVEN and (row["policy"], name) != (GENERALIZED, "entropy"):
            assert value >= 0 or name == "cross-entropy" or "entropy" in name, (row["name"], name)
    row["values"] = {name: decimal(value, 25) for name, value in values.items()}
    return row


# ------------------------------------------------------------------- the rows

ROWS = []


def add(type, family, name, kinds, p, q, temperature=1.0, policy=None, same=False):
    """Keeps a row of values that the type holds exactly, with its answers.

    same: the row is meant to be 0, and stops the run if it is not, or if it is and was not
    meant to be.
    """
    p, q = np.atleast_1d(p), np.atleast_1d(q)
    assert p.shape == q.shape and p.ndim == 1 and p.size >= 1, name
    assert LOGITS in kinds or temperature == 1.0, name
    row = {"name": name, "family": family, "type": type, "p_kind": kinds[0], "q_kind": kinds[1],
           "temperature": float(temperature), "policy": policy,
           "p": to_hex(p, type), "q": to_hex(q, type)}
    fill(row)
    tv = mpf(row["values"]["tv"])
    assert (tv == 0) == same, (name, row["values"])
    assert all((r["type"], r["name"]) != (type, name) for r in ROWS), name
    ROWS.append(row)


def pair(type, family, name, kinds, log_p, log_q, temperature=1.0, masses=(1.0, 1.0),
         shifts=(0.0, 0.0), policy=None, same=False):
    """A row from the logarithms of its two sides; -inf is a bin without mass."""
    p = store(log_p, kinds[0], type, temperature, masses[0], shifts[0], lift=True)
    q = store(log_q, kinds[1], type, temperature, masses[1], shifts[1], lift=True)
    add(type, family, name, kinds, p, q, temperature, policy, same)


def named(family, kinds, temperature, bins, policy=None):
    start = family if policy is None else f"{family}, {policy}"
    return title(start, kinds, temperature, bins)


def dirichlet(rng, alpha, bins, floor=1e-12):
    """Logarithms of a Dirichlet row, none below the floor: ratios stay below 1e12, and
    the divergences within f32."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(rng.dirichlet(np.full(bins, alpha)), floor))


def random_rows(type, plan):
    """plan: (kinds, alpha, bins, temperature)."""
    for kinds, alpha, bins, temperature in plan:
        name = named(f"random, dirichlet {alpha:g}", kinds, temperature, bins)
        rng = draws(type, name)
        floor = 1e-4 if type == "f16" else 1e-12
        pair(type, "random", name, kinds, dirichlet(rng, alpha, bins, floor),
             dirichlet(rng, alpha, bins, floor), temperature, same=bins == 1)


def near_rows(type, plan):
    """plan: (kinds, eps, bins, temperature). q is p changed by eps, relatively."""
    for kinds, eps, bins, temperature in plan:
        name = named(f"near-equal {eps}", kinds, temperature, bins)
        rng = draws(type, name)
        log_p = rng.normal(0, 1.5, bins)
        pair(type, "near-equal", name, kinds, log_p,
             log_p + float(eps) * rng.standard_normal(bins), temperature)


def shift_rows(type, plan):
    """plan: (what, shift of p, shift of q, bins, temperature); the shifts are rounded too."""
    kinds = (LOGITS, LOGITS)
    for what, shift_p, shift_q, bins, temperature in plan:
        name = named(f"p shifted by {shift_p} and q by {shift_q}, {what}", kinds, temperature,
                     bins)
        rng = draws(type, name)
        log_p, log_q = rng.normal(0, 2, bins), rng.normal(0, 2, bins)
        if what != "far apart":
            log_q = log_p + float(what) * rng.standard_normal(bins)
        pair(type, "shifted", name, kinds, log_p, log_q, temperature,
             shifts=(float(shift_p), float(shift_q)))


SUPPORTS = {  # bins of p alone, of q alone and of neither, in quarters
    "disjoint": (2, 2, 0), "disjoint and zeros in both": (1, 2, 1), "p inside q": (0, 2, 0),
    "q inside p": (2, 0, 0), "overlapping": (1, 1, 0), "zeros in both": (0, 0, 2),
    "p inside q and zeros in both": (0, 1, 1),
}


def support_rows(type, plan):
    """plan: (kinds, how, bins, temperature). Bins without mass are 0, or -inf."""
    for kinds, how, bins, temperature in plan:
        name = named(how, kinds, temperature, bins)
        rng = draws(type, name)
        log_p, log_q = rng.normal(0, 1.5, bins), rng.normal(0, 1.5, bins)
        order, at = rng.permutation(bins), 0
        counts = [max(1, part * bins // 4) if part else 0 for part in SUPPORTS[how]]
        if how == "disjoint":
            counts[1] = bins - counts[0]
        for count, out_of in zip(counts, ([log_q], [log_p], [log_p, log_q])):
            for side in out_of:
                side[order[at : at + count]] = -INF
            at += count
        pair(type, "supports", name, kinds, log_p, log_q, temperature)


def hot_rows(type, plan):
    """plan: (kinds, bins, temperature). All of the mass in one bin."""
    for kinds, bins, temperature in plan:
        at = np.arange(bins)
        hot = np.where(at == bins // 2, 0.0, -INF)
        other = np.where(at == 0, 0.0, -INF)
        flat = np.zeros(bins)
        for how, log_p, log_q in [("one-hot against uniform", hot, flat),
                                  ("uniform against one-hot", flat, hot),
                                  ("one-hot against the same one-hot", hot, hot),
                                  ("one-hot against another one-hot", hot, other)]:
            if bins > 1 or log_q is hot and log_p is hot:
                pair(type, "one-hot", named(how, kinds, temperature, bins), kinds, log_p, log_q,
                     temperature, same=log_p is log_q)


def peaked_rows(type, plan):
    """plan: (kinds, how, bins, temperature). 1 - 1e-6 of the mass in one bin."""
    for kinds, how, bins, temperature in plan:
        name = named(f"peaked, {how}", kinds, temperature, bins)
        rng = draws(type, name)
        logs = []
        for place in (0, 0 if how == "in the same bin" else bins // 2):
            row = np.insert(np.log(1e-6 * rng.dirichlet(np.ones(bins - 1))), place,
                            math.log1p(-1e-6))
            logs.append(np.maximum(row, math.log(1e-12)))
        pair(type, "peaked", name, kinds, *logs, temperature)


def identical_rows(type, plan, policies=(None,)):
    for kind, bins, temperature in plan:
        for policy in policies:
            name = named("identical", (kind, kind), temperature, bins, policy)
            log_p = draws(type, name).normal(0, 1.5, bins)
            pair(type, "identical", name, (kind, kind), log_p, log_p, temperature, policy=policy,
                 same=True)


def count_rows(type, plan):
    """plan: (how, mass of p, mass of q, bins). Whole numbers, to normalize."""
    for how, mass_p, mass_q, bins in plan:
        kinds = (PROBS, PROBS)
        name = named(f"counts of {mass_p} and {mass_q}, {how}", kinds, 1.0, bins)
        rng = draws(type, name)
        weights = rng.dirichlet(np.full(bins, 2.0), 2)
        if how == "near-equal":
            weights[1] = weights[0]
        p = rounded(rng.poisson(float(mass_p) * weights[0]) + 1, type)
        q = rounded(rng.poisson(float(mass_q) * weights[1]) + 1, type)
        if how == "zeros":
            p[::5], q[2::5] = 0, 0
        if how == "proportional":
            q = 3 * p
        add(type, "counts", name, kinds, p, q, policy=NORMALIZE, same=how == "proportional")


def mass_rows(type, plan):
    """plan: (kinds, how, mass of p, mass of q, bins, policy)."""
    for kinds, how, mass_p, mass_q, bins, policy in plan:
        name = named(f"masses {mass_p} and {mass_q}, {how}", kinds, 1.0, bins, policy)
        rng = draws(type, name)
        log_p, log_q = rng.normal(0, 1.5, bins), rng.normal(0, 1.5, bins)
        if how == "zeros":
            log_p[::4] = log_q[1::4] = -INF
        elif how == "zeros in p":
            log_p[::4] = -INF
        elif how != "far apart":
            log_q = log_p + float(how) * log_q
        family = "masses" if policy is None else policy
        pair(type, family, name, kinds, log_p, log_q, masses=(float(mass_p), float(mass_q)),
             policy=policy)


def undivided_rows(type, plan):
    """plan: (kinds, how, mass of p, mass of q, bins), as given and generalized."""
    mass_rows(type, [(*row, policy) for row in plan for policy in (AS_GIVEN, GENERALIZED)])


def power_law_rows(type, plan):
    """plan: (kinds, how, bins, temperature)."""
    for kinds, how, bins, temperature in plan:
        name = named(f"power law, {how}", kinds, temperature, bins)
        rank = np.log(np.arange(1, bins + 1, dtype=np.float64))
        rng = draws(type, name)
        log_q = {"1 against 1.5": -1.5 * rank, "against its shuffle": -rng.permutation(rank),
                 "near-equal 1e-3": -rank + 1e-3 * rng.standard_normal(bins)}[how]
        pair(type, "power law", name, kinds, -rank, log_q, temperature)


def huge_ratio_rows(type, plan, floor):
    """plan: (kinds, bins). Powers of p/q that the type does not hold."""
    for kinds, bins in plan:
        name = named("huge ratios", kinds, 1.0, bins)
        rng = draws(type, name)
        log_p, log_q = (rng.uniform(math.log(floor), 0, bins) for _ in "pq")
        pair(type, "huge ratios", name, kinds, log_p, log_q)


def scipy_rows():
    """Inputs of which SciPy's issues 19436, 20083 and 20779 say that jensenshannon gives
    inf, nan and nan; and close relatives of theirs."""
    both = (PROBS, PROBS)
    smallest = {"f64": 5e-324, "f32": 2.0**-149}
    add("f64", "scipy", "scipy-19436", both, [0.0, 1.0], [smallest["f64"], 1.0])
    add("f32", "scipy", "scipy-19436, its like in f32", both, [0.0, 1.0], [smallest["f32"], 1.0])
    c1 = np.array([0.027501475, 0.055202297], dtype="float32")
    c2 = np.array([0.027537677, 0.055334348], dtype="float32")
    add("f32", "scipy", "scipy-20083", both, c1, c2)
    add("f64", "scipy", "scipy-20083, the same values in f64", both, c1.astype(float),
        c2.astype(float))
    x = np.nextafter(0.5, 0)
    add("f64", "scipy", "scipy-20779", both, [x, 1 - x], [1 - x, x])
    x = np.nextafter(np.float32(0.5), np.float32(0))
    one = np.float32(1)
    add("f32", "scipy", "scipy-20779, its like in f32", both, [x, one - x], [one - x, x])


def f32_rows():
    type, both = "f32", (PROBS, PROBS)
    logs, logits = (LOGS, LOGS), (LOGITS, LOGITS)
    mixed = [(PROBS, LOGITS), (LOGS, PROBS), (LOGITS, LOGS)]

    def warm(kinds):
        return [1.0, 2.5] if LOGITS in kinds else [1.0]

    random_rows(type, [(both, alpha, bins, 1.0) for alpha in (0.05, 1, 20)
                       for bins in (1, 2, 3, 7, 16, 33, 100, 300)])
    random_rows(type, [(kinds, alpha, bins, t) for kinds in (logs, logits, *mixed)
                       for t in warm(kinds) for alpha, bins in [(0.05, 16), (1, 7), (1, 100)]])
    random_rows(type, [(logs, 1, 1, 1.0), (logits, 1, 1, 2.5)])

    epsilons = ["1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
    near_rows(type, [(both, eps, bins, 1.0) for eps in epsilons for bins in (2, 7, 33, 300)])
    near_rows(type, [(kinds, eps, bins, t) for kinds in (logs, logits, *mixed)
                     for t in warm(kinds) for eps, bins in
                     zip([*epsilons[:4], "2e-5"], (7, 33, 100, 16, 200))])
    shift_rows(type, [(what, shift_p, shift_q, bins, t) for t in (1.0, 2.5)
                      for what, shift_p, shift_q, bins in
                      [("far apart", 100, 0, 33), ("far apart", -100, 100, 7),
                       ("1e-2", 0, 100, 33), ("1e-3", 100, 100, 16)]])

    support_rows(type, [(both, how, bins, 1.0) for how in SUPPORTS for bins in (5, 33, 100)])
    support_rows(type, [(both, "disjoint", 2, 1.0)])
    support_rows(type, [(kinds, how, bins, t) for kinds in (logs, logits, *mixed)
                        for t in warm(kinds)[-1:] for how, bins in
                        zip(SUPPORTS, (16, 7, 33, 33, 16, 100, 7))])
    hot_rows(type, [(both, bins, 1.0) for bins in (1, 2, 16, 300)]
             + [(kinds, 7, 1.0) for kinds in (logs, logits)])
    peaked_rows(type, [(both, how, bins, 1.0) for how in ("in the same bin", "in another bin")
                       for bins in (3, 16, 100)])
    peaked_rows(type, [(kinds, how, 16, warm(kinds)[-1]) for kinds in (logs, logits)
                       for how in ("in the same bin", "in another bin")])
    identical_rows(type, [(PROBS, 2, 1.0), (PROBS, 33, 1.0), (PROBS, 300, 1.0), (LOGS, 33, 1.0),
                          (LOGITS, 33, 1.0), (LOGITS, 7, 2.5)])
    identical_rows(type, [(PROBS, 7, 1.0), (LOGS, 7, 1.0)], (AS_GIVEN, GENERALIZED))
    count_rows(type, [("far apart", "300", "1e5", 16), ("far apart", "1e6", "2000", 100),
                      ("far apart", "20", "30", 7), ("near-equal", "1e6", "1e6", 33),
                      ("near-equal", "1e7", "1e3", 16), ("zeros", "1e4", "500", 33),
                      ("zeros", "100", "100", 300), ("proportional", "1e4", "3e4", 16)])
    mass_rows(type, [(kinds, how, mass_p, mass_q, bins, None)
                     for kinds in (both, logs) for how, mass_p, mass_q, bins in
                     [("far apart", "1.0005", "0.9995", 33), ("far apart", "0.9995", "1.0005", 7),
                      ("1e-2", "1.0005", "1", 100), ("1e-3", "0.9995", "0.9995", 33),
                      ("zeros in p", "1.0005", "1.0005", 16)]])
    mass_rows(type, [(logs, "far apart", "1e3", "1e-2", 16, None),
                     (logs, "1e-2", "30", "1e4", 33, None), (logs, "zeros", "7", "1", 16, None)])
    undivided_rows(type, [(kinds, how, mass_p, mass_q, bins)
                          for kinds in (both, logs) for how, mass_p, mass_q, bins in
                          [("far apart", "1", "1", 2), ("far apart", "1", "1", 33),
                           ("far apart", "0.4", "3", 7), ("far apart", "50", "2", 16),
                           ("1e-1", "1", "1", 7), ("1e-2", "1", "1", 33),
                           ("zeros in p", "0.7", "1.6", 16), ("zeros", "1", "2", 16)]])
    undivided_rows(type, [((LOGS, PROBS), "far apart", "0.4", "3", 7),
                          ((PROBS, LOGITS), "far apart", "2", "1", 16),
                          ((LOGITS, LOGITS), "far apart", "1", "1", 16)])
    power_law_rows(type, [(both, "1 against 1.5", 2000, 1.0),
                          (both, "near-equal 1e-3", 2000, 1.0),
                          (logs, "against its shuffle", 2000, 1.0),
                          (logits, "against its shuffle", 2000, 2.5)])
    huge_ratio_rows(type, [(both, 16), (logs, 16)], 1e-30)


def other_rows(type):
    """f64, f16 and bf16: a few of each."""
    both, logs, logits = (PROBS, PROBS), (LOGS, LOGS), (LOGITS, LOGITS)
    random_rows(type, [(both, 1, 1, 1.0), (both, 0.05, 7, 1.0), (both, 1, 33, 1.0),
                       (both, 20, 16, 1.0), (logs, 1, 16, 1.0), (logits, 1, 33, 2.5),
                       (logits, 1, 7, 1.0), ((PROBS, LOGITS), 1, 16, 2.5),
                       ((LOGS, PROBS), 1, 7, 1.0)])
    if type == "f64":
        near_rows(type, [(both, eps, 33, 1.0) for eps in
                         ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6")]
                  + [(kinds, eps, 33, t) for kinds, t in [(logs, 1.0), (logits, 2.5)]
                     for eps in ("1e-1", "1e-3", "1e-6")])
        count_rows(type, [("far apart", "1e6", "300", 16), ("near-equal", "1e9", "1e9", 7)])
        huge_ratio_rows(type, [(both, 16)], 1e-100)
    else:
        near_rows(type, [(kinds, eps, 33, t) for kinds, t in
                         [(both, 1.0), (logs, 1.0), (logits, 1.0), (logits, 2.5)]
                         for eps in ("1e-1", "3e-2")])
    support_rows(type, [(kinds, how, 16, t) for kinds, t in [(both, 1.0), (logits, 2.5)]
                        for how in ("disjoint", "p inside q", "q inside p", "zeros in both")])
    hot_rows(type, [(both, 7, 1.0)])
    identical_rows(type, [(PROBS, 33, 1.0), (LOGITS, 7, 2.5)])
    mass_rows(type, [(both, "far apart", "1.0005", "0.9995", 7, None)])
    undivided_rows(type, [(both, "far apart", "0.4", "3", 7), (logs, "zeros in p", "1", "2", 16)])


def too_small(row):
    """Whether not enough of the row's divergence is left after the rounding of its values."""
    value = row["values"]["kl"]
    return (row["family"] == "near-equal" and value != "inf"
            and mpf(value) < least(row["type"], (row["p_kind"], row["q_kind"])))


def make():
    scipy_rows()
    f32_rows()
    for type in ["f64", "f16", "bf16"]:
        other_rows(type)
    for row in filter(too_small, ROWS):
        print(f"left out, too small: {row['type']} {row['name']}")
    ROWS[:] = [row for row in ROWS if not too_small(row)]
    meta = {
        "generated_with": "make_divergences.py in this folder",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpmath": mpmath.__version__,
        "bits": "p and q: the bits of each value in big-endian hex, 4 digits a value for "
                "f16 and bf16, 8 for f32 and 16 for f64, one after another",
        "kinds": "probs: p; log-probs: x with p = e^x; logits: a with p = softmax(a/T), "
                 "T = temperature, exactly the double it reads as, for logits alone",
        "policy": "check, normalize: p and q divided by their masses; as-given, generalized: "
                  "as they stand, without the divergences that are refused there",
        "values": "divergences by name and parameter, 25 digits, in nats; inf is infinite",
    }
    with open(OUT, "w", encoding="ascii", newline="\n") as file:
        file.write('{"meta": ' + json.dumps(meta, indent=1) + ',\n"rows": [\n')
        file.write(",\n".join(json.dumps(row) for row in ROWS))
        file.write("\n]}\n")
    for type in ["f32", "f64", "f16", "bf16"]:
        print(f"{sum(row['type'] == type for row in ROWS)} {type} rows")
    print(f"{len(ROWS)} rows, {OUT.stat().st_size} bytes")


# -------------------------------------------------------------------- --check


def textbook_shares(values, kind, temperature, policy):
    """A side as a distribution, with no regard for how many digits that takes."""
    if kind == PROBS:
        weights = list(values)
    else:
        divisor = temperature if kind == LOGITS else 1
        weights = [mpf(0) if v == -mpmath.inf else exp(v / divisor) for v in values]
    if kind != LOGITS and policy not in DIVIDED:
        return weights
    mass = fsum(weights)
    return [w / mass for w in weights]


def x_log_ratio(x, y):
    """x ln(x/y)."""
    return mpf(0) if x == 0 else mpmath.inf if y == 0 else x * log(x / y)


def textbook_power(p, q, a):
    """sum p^a q^(1-a); a bin where one of the two is 0 adds 0 or inf, and both 0."""
    def term(x, y):
        if 0 in (x, y):
            return mpmath.inf if x > 0 and a > 1 or y > 0 and a < 0 else mpf(0)
        return x ** a * y ** (1 - a)
    return fsum(term(x, y) for x, y in zip(p, q))


def textbook(name, p, q, policy):
    """A divergence as its definition has it."""
    measure, a = split(name)
    pairs = list(zip(p, q))
    half = mpf(1) / 2

    def js(w):
        middle = [w * x + (1 - w) * y for x, y in pairs]
        return (w * fsum(x_log_ratio(x, m) for x, m in zip(p, middle))
                + (1 - w) * fsum(x_log_ratio(y, m) for y, m in zip(q, middle)))

    def minus_log(x):
        return mpmath.inf if x == 0 else -log(x)

    def renyi():
        if a == 0:
            return minus_log(fsum(y for x, y in pairs if x > 0))
        if a == mpmath.inf:
            return max(mpmath.inf if y == 0 else log(x / y) for x, y in pairs if x > 0)
        total = textbook_power(p, q, a)
        return mpmath.inf if total == mpmath.inf else minus_log(total) / (1 - a)

    def tsallis():
        if a == 0:
            return fsum(y for x, y in pairs if x == 0)
        return (textbook_power(p, q, a) - 1) / (a - 1)

    def alpha():
        masses = a * fsum(p) + (1 - a) * fsum(q) if policy == GENERALIZED else 1
        return (masses - textbook_power(p, q, a)) / (a * (1 - a))

    change = fsum(q) - fsum(p) if policy == GENERALIZED else 0
    return {
        "kl": lambda: fsum(x_log_ratio(x, y) for x, y in pairs) + change,
        "reverse-kl": lambda: fsum(x_log_ratio(y, x) for x, y in pairs) - change,
        "jeffreys": lambda: fsum(x_log_ratio(x, y) + x_log_ratio(y, x) for x, y in pairs),
        "js": lambda: js(a),
        "js-distance": lambda: sqrt(abs(js(half))),
        "renyi": renyi,
        "tsallis": tsallis,
        "alpha": alpha,
        "hellinger": lambda: sqrt(fsum((sqrt(x) - sqrt(y)) ** 2 for x, y in pairs) / 2),
        "tv": lambda: fsum(abs(x - y) for x, y in pairs) / 2,
        "chi2": lambda: fsum(mpmath.inf if y == 0 < x else (x - y) ** 2 / y
                             for x, y in pairs if (x, y) != (0, 0)),
        "bhattacharyya": lambda: minus_log(fsum(sqrt(x * y) for x, y in pairs)),
        "cross-entropy": lambda: fsum(mpmath.inf if y == 0 else -x * log(y)
                                      for x, y in pairs if x > 0),
        "entropy": lambda: -fsum(x * log(x) for x in p if x > 0),
    }[measure]()


def check_textbook(rows):
    """Every answer again from the definitions, with more digits: all 25 agree."""
    for row in rows:
        set_digits(row, CHECK_DIGITS)
        temperature = mpf(row["temperature"])
        p, q = (textbook_shares([mpf(float(v)) for v in from_hex(row[s], row["type"])],
                                row[s + "_kind"], temperature, row["policy"]) for s in "pq")
        assert list(row["values"]) == names(row["policy"]), row["name"]
        for name, value in row["values"].items():
            got = textbook(name, p, q, row["policy"])
            what = (row["type"], row["name"], name, value, mpmath.nstr(got, 25))
            if value in ("0", "inf"):
                assert got == mpf(value) or value == "0" and abs(got) < mpf("1e-60"), what
            else:
                assert abs(got / mpf(value) - 1) < mpf("6e-25"), what


def check_scipy(rows):
    """Probabilities that float64 can tell apart, against scipy."""
    from scipy.spatial.distance import jensenshannon
    from scipy.special import rel_entr

    compared = 0
    for row in rows:
        if (row["p_kind"], row["q_kind"]) != (PROBS, PROBS) or row["policy"] not in DIVIDED:
            continue
        if row["family"] not in ("random", "counts", "supports", "masses"):
            continue
        p, q = (from_hex(row[s], row["type"]) for s in "pq")
        p, q = p / math.fsum(p), q / math.fsum(q)
        for name, got in [("kl", math.fsum(rel_entr(p, q))),
                          ("reverse-kl", math.fsum(rel_entr(q, p))),
                          ("js-distance", jensenshannon(p, q))]:
            want = float(row["values"][name])
            if want < 1e-3:
                continue
            assert got == want or abs(got - want) <= 1e-11 * want, (row["name"], name, got, want)
            compared += 1
    print(f"scipy: {compared} answers agree to 1e-11 relative")


def check():
    rows = json.loads(OUT.read_text())["rows"]
    check_textbook(rows)
    print(f"{len(rows)} rows: every answer comes out the same from the definitions")
    check_scipy(rows)


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else make()

"""Makes edges.json and gradient_edges.json: divergences of rows at the edges of the arithmetic, known to
25 digits, and gradients of others.

    pip install numpy mpmath gmpy2
    python make_edges.py            writes both
    python make_edges.py --check    works out every answer in them again, from other formulas

The answers are those of make_divergences.py and make_gradients.py, of the stored bits; the rows are chosen
by hand, each because some formula that is right elsewhere loses its digits there. Nothing here is shared
with the library.
"""

import json
import platform
import sys
from pathlib import Path

import make_divergences as made
import make_gradients as gradients
import mpmath
import numpy as np
from make_divergences import AS_GIVEN, GENERALIZED, INF, LOGITS, LOGS, NORMALIZE, PROBS
from make_kinds import rounded

HERE = Path(__file__).resolve().parent
EDGES, GRADIENT_EDGES = HERE / "edges.json", HERE / "gradient_edges.json"
SMALL_ORDERS = ["alpha:1e-9", "tsallis:1e-9", "renyi:1e-9", "alpha:1e-6", "alpha:-1e-9"]
NAMES = made.NAMES


def row(type, name, kinds, p, q, temperature=1.0, policy=None, names=NAMES):
    made.NAMES = names
    p, q = (rounded(np.array(side, dtype=np.float64), type) for side in (p, q))
    made.add(type, "edge", name, kinds, p, q, temperature, policy)
    if names is not NAMES and "kl" not in names:
        # It is asked for whatever the names, and nobody claims that it is right for such a row.
        del made.ROWS[-1]["values"]["tv"]


def masked(bins, fill, step):
    """Numbers of which the second half is filled with one."""
    side = np.array([1.0 + (bin * step) % 7 / 3 for bin in range(bins)])
    side[bins // 2:] = fill
    return side


def fills():
    row("f32", "all of P at a fill, cooled", [LOGITS] * 2, [-1e30] * 4, [1, 2, 3, 4], 0.7)
    row("f32", "all of Q at a fill, cooled", [PROBS, LOGITS], [.1, .2, .3, .4], [-1e30] * 4, 0.7)
    for type, p, q, temperature in [("f32", -1e20, -1e32, 4.68), ("f64", -1e30, -1e20, 1.45),
                                    ("bf16", -1e30, -3e38, 4.92)]:
        row(type, "halves at two fills, cooled", [LOGITS] * 2,
            masked(600, p, 3), masked(600, q, 5), temperature)
        row(type, "halves at two fills, cooled, of two kinds", [LOGITS, LOGS],
            masked(600, p, 3), masked(600, q, 5) - 9, temperature, NORMALIZE)
    for type in ["f32", "f64"]:
        row(type, "a fill and small orders", [LOGITS] * 2, [1, .5, .2, -1e9], [.9, .4, .3, .1],
            names=NAMES + SMALL_ORDERS)
        row(type, "far beyond a fill and smaller orders", [LOGITS, PROBS], [0, 1e17, -3],
            [.5, .25, .25], names=["tv", "alpha:1e-17", "alpha:-3e-17", "alpha:1e-16"])
    row("f32", "large numbers at a low temperature", [LOGITS] * 2, [-65000, -65000, -65000, -INF],
        [0, 1e-6, -2e-7, 3e-7], 1.7e-6)


def masses():
    row("f32", "Q of much more mass", [PROBS] * 2, [.2, .3, .5], [.5e20, .3e20, .2e20], policy=AS_GIVEN)
    row("f32", "P of much more mass", [PROBS] * 2, [.5e16, .3e16, .2e16], [.2, .3, .5], policy=AS_GIVEN)
    row("f64", "small masses", [PROBS] * 2, [1e-140, 1e-140], [1, 1e-200], policy=NORMALIZE)
    row("f64", "subnormal masses of Q", [PROBS] * 2, [.5, .5], [1e-310, 3e-310], policy=NORMALIZE)
    row("f64", "subnormal masses of P", [PROBS] * 2, [1e-310, 3e-310], [.5, .5], policy=NORMALIZE)
    row("f64", "large masses of Q", [PROBS] * 2, [1e-200, 2e-200], [1e300, 3e300], policy=NORMALIZE)
    row("f32", "powers of masses beyond the range", [LOGS] * 2, [800, 801], [0, -1], policy=GENERALIZED)
    for name, p, q in [("far", [1, 1e-30], [1e-200, 1.7e-16]),
                       ("farther", [1, 1e-30], [1e-150, 1.2345e-14])]:
        row("f64", f"{name} apart, and so are the masses", [PROBS] * 2, p, q, policy=NORMALIZE)
    row("f32", "far apart, and so are the masses", [PROBS] * 2, [.3, 1e-10, 1e-37],
        [1.1754942e-38, 1.9721523e-31, 1e-5], policy=NORMALIZE)
    for off in [1e-5, 1e-6, 1e-9]:
        p = np.array([1.0 + bin * 389 % 101 / 25 for bin in range(50)])
        q = p * (1 + off * (np.arange(50) * 577 % 97 / 48.5 - 1))
        # The largest ratio is of the first order in what is rounded.
        names = [name for name in NAMES if name != "renyi:inf" or off > 5e-6]
        row("f64", f"masses not alike, {off} apart", [PROBS] * 2, 23636797811 * p, q,
            policy=NORMALIZE, names=names)
        if off < 1e-6:
            # Nor is this one of the second order.
            del made.ROWS[-1]["values"]["tv"]
    for type in ["f32", "f64"]:
        p, q = [.6, .3], [.3, 1.25]
        row(type, "masses that balance what the rows differ by", [PROBS] * 2, p, q, policy=AS_GIVEN)
        row(type, "masses that balance it the other way", [PROBS] * 2, q, p, policy=AS_GIVEN)
    row("f64", "masses beyond the range", [PROBS] * 2, [1e308, 1e308, 1.5e308], [.2, .3, .5],
        policy=NORMALIZE)
    far = [1e308, 1e-20, 3e307]
    row("f64", "numbers too small beside their mass", [PROBS] * 2, far, [.25, .25, .5], policy=NORMALIZE)
    row("f64", "numbers of Q too small beside their mass", [PROBS] * 2, [.25, .25, .5], far,
        policy=NORMALIZE)
    row("f64", "numbers too small beside their mass, of two kinds", [LOGITS, PROBS], [1, 1, 2], far,
        policy=NORMALIZE)
    logs = np.log([.2, .3, .5])
    row("f64", "log-probs of masses next to each other", [LOGS] * 2,
        logs + np.array([1e-7, 2e-7, 1.7e-7]), logs, policy=GENERALIZED)


def ends():
    for small in [1e-12, 1e-14, 1e-16]:
        for type in ["f32", "f64"]:
            row(type, f"one bin of P, and Q next to it, {small}", [PROBS] * 2, [1, 0], [1, small])
            row(type, f"both next to one bin, {small}", [PROBS] * 2, [1, small, small / 3],
                [1, small / 2, small])
    row("f64", "next to one bin, of two kinds", [PROBS, LOGITS], [1, 1e-14], [40, 1])
    row("f32", "the largest ratio in a bin that is far below the others", [PROBS] * 2,
        [1.7172409, 5.1517227e-32], [1.4845146, 4.4535425e-32], policy=NORMALIZE,
        names=["tv", "renyi:inf"])
    for type in ["f32", "f64"]:
        row(type, "a probability of Q too small for the square", [PROBS] * 2, [.25, .25, .5],
            [.4, 1e-20, .6])
        row(type, "a far bin of logits", [LOGITS] * 2, [0, 0, -3], [0, -50, 1])
        row(type, "two far bins of logits", [LOGITS] * 2, [0, 0, -3], [0, -2, -45])


def shifts():
    q = [-1.9362716, -1.2222, -0.5079]
    for shift in [1e3, 1e6, 1e9]:
        row("f64", f"logits {shift:g} above log-probs", [LOGITS, LOGS], [shift + 1, shift + 2, shift + 3],
            q, 1.4, NORMALIZE)
    row("f32", "logits above log-probs", [LOGITS, LOGS], [2**23 + 1, 2**23 + 2, 2**23 + 3], q, 1.4,
        NORMALIZE)


def slopes():
    p = np.array([1.0 + bin * 389 % 101 / 25 for bin in range(64)])
    q = np.array([1.0 + bin * 577 % 101 / 25 for bin in range(64)])
    for mass in [1e3, 1e5, 1e7]:
        row("f32", f"P of {mass:g} times the mass of Q", [PROBS] * 2, 1.37 * mass * p / p.sum(),
            q / q.sum(), policy=NORMALIZE)
    for apart in [9, 12, 15]:
        row("f32", f"logits that are next to disjoint, {apart}", [LOGITS] * 2,
            [apart, apart - 1, apart - .3, 0, .5, 1], [0, .3, .8, apart, apart + .4, apart - .6])
    for above in [15, 20, 30, 35]:
        for type in ["f32", "f64"]:
            row(type, f"logits of which one is {above} above the others", [LOGITS] * 2,
                [above, 0, 1, .5], [3, 0, 1, .7])
            row(type, f"both have one {above} above the others", [LOGITS] * 2, [above, 0], [80, 10])
    row("f32", "log-probs next to one bin", [LOGS] * 2, [-23.971207, -3.8852477e-11],
        [-90.71088, -20.723267], policy=NORMALIZE)
    row("f32", "small log-probs as they are", [LOGS] * 2, [-76, -INF, -72.4, -70.6, -71.9],
        [-73, -88, -70.5, -71.1, -74], policy=GENERALIZED)


def write(path, rows):
    meta = {
        "generated_with": "make_edges.py in this folder",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpmath": mpmath.__version__,
        "format": "that of divergences.json, and of gradients.json",
    }
    with open(path, "w", encoding="ascii", newline="\n") as file:
        file.write('{"meta": ' + json.dumps(meta, indent=1) + ',\n"rows": [\n')
        file.write(",\n".join(json.dumps(row) for row in rows))
        file.write("\n]}\n")
    print(f"{len(rows)} rows, {path.stat().st_size} bytes")


def make():
    for rows in [fills, masses, ends, shifts]:
        rows()
    write(EDGES, made.ROWS)
    made.ROWS.clear()
    slopes()
    write(GRADIENT_EDGES, [gradients.fill(row) for row in made.ROWS])


def check():
    rows = json.loads(EDGES.read_text())["rows"]
    for row in rows:
        made.NAMES = list(row["values"])
        made.check_textbook([row])
    print(f"{len(rows)} rows: every answer comes out the same from the definitions")
    rows = json.loads(GRADIENT_EDGES.read_text())["rows"]
    rng = np.random.default_rng(1)
    compared = sum(gradients.check_row(row, rng) for row in rows)
    print(f"{len(rows)} rows: {compared} finite differences agree")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else make()

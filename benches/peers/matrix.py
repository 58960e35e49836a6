"""All rows against all rows: this library beside SciPy and PyTorch on the same data, in one run.

    python benches/peers/matrix.py [--rows N] cargo bench --bench matrix --

The words are the command that runs this library's bench. With more than 1,024 rows a side PyTorch's formulas,
which write down all pairs of bins, are left out. Every answer is held against the divergence in
f64 before it is timed. All are timed in turn, round after round, so that whatever else the machine does
hits all alike; the least time of each counts.
"""

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np
import scipy
import torch
from scipy.spatial.distance import cdist

BINS, MOST_ROUNDS, MOST_BROADCAST = 256, 5, 1024


def sides(rows):
    random = np.random.default_rng(20261126)
    return [random.dirichlet(np.ones(BINS), rows).astype(np.float32) for _ in range(2)]


def kl(p, q):
    p, q = p[:, None, :], q[None, :, :]
    return (p * torch.log(p / q)).sum(-1)


def js_distance(p, q):
    p, q = p[:, None, :], q[None, :, :]
    m = (p + q) / 2
    return (((p * torch.log(p / m)).sum(-1) + (q * torch.log(q / m)).sum(-1)) / 2).sqrt()


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(command, folder, rows, name):
    """Seconds on each backend, of the milliseconds that the bench prints."""
    words = [*command, str(rows), str(BINS), f"{folder}/p", f"{folder}/q", name]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in printed.splitlines() if line.startswith(f"{name} ")]
    return {f"kullback {words[1]}": float(words[4]) / 1e3 for words in lines}


def peers(name, form, p, q):
    """What computes it besides, once its answer is held against the divergence in f64."""
    tools, few = {}, slice(0, 64)
    wide = [torch.from_numpy(side).double() for side in (p, q)]
    if len(p) <= MOST_BROADCAST:
        tensors, compiled = [torch.from_numpy(side) for side in (p, q)], torch.compile(form, dynamic=False)
        assert torch.allclose(compiled(*tensors).double(), form(*wide), rtol=1e-2)
        tools["torch.compile"] = lambda: timed(lambda: compiled(*tensors))
        tools["PyTorch eager"] = lambda: timed(lambda: form(*tensors))
    if name == "js-distance":
        due = form(*[side[few] for side in wide])
        assert np.allclose(cdist(p[few], q[few], "jensenshannon"), due, rtol=1e-5)
        tools["SciPy cdist"] = lambda: timed(lambda: cdist(p, q, "jensenshannon"))
    return tools


def main():
    command, rows = sys.argv[1:], 512
    if command[0] == "--rows":
        rows, command = int(command[1]), command[2:]
    p, q = sides(rows)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    print(f"{datetime.date.today()}, {platform.machine()}, {threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"{rows} x {rows} x {BINS} bins; SciPy {scipy.__version__}, PyTorch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        p.tofile(f"{folder}/p")
        q.tofile(f"{folder}/q")
        for name, form in [("kl", kl), ("js-distance", js_distance)]:
            tools, best = peers(name, form, p, q), {}
            for _ in range(MOST_ROUNDS if rows <= MOST_BROADCAST else 1):
                once = {tool: time_once() for tool, time_once in tools.items()} | ours(command, folder, rows, name)
                best = {tool: min(best.get(tool, seconds), seconds) for tool, seconds in once.items()}
            for tool, seconds in best.items():
                speed = rows * rows * BINS / seconds / 1e9
                ratio = seconds / best["kullback cpu"]
                print(f"{name:<12} {tool:<14} {1e3 * seconds:>9.1f} ms {speed:>7.2f} billion/s {ratio:>7.1f} times the CPU's")


main()

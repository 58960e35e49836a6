"""Rows of each length in f32 or f64: this library beside PyTorch and SciPy on the same data, in one run.

    python benches/peers/by_type.py f32 cargo bench --bench types --

The words after the type are the command that runs this library's bench. Every answer is held against the divergence in NumPy
before it is timed. All are timed in turn, round after round, so that whatever else the machine does hits all alike;
the least time of each counts.
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
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

NUMBERS, ROUNDS = 1 << 20, 5


def drawn(kind, rows, bins):
    random = np.random.default_rng(20261128)
    if kind == "probs":
        return [random.dirichlet(np.ones(bins), rows) for _ in range(2)]
    return [3 * random.standard_normal((rows, bins)) for _ in range(2)]


def kl_of_logits(a, b):
    log_p, log_q = F.log_softmax(a, -1), F.log_softmax(b, -1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)


def kl(p, q):
    return (p * torch.log(p / q)).sum(-1)


def js(p, q):
    m = (p + q) / 2
    return (kl(p, m) + kl(q, m)) / 2


def renyi(p, q):
    return (p**0.7 * q**0.3).sum(-1).log() / -0.3


def entropy(p, q):
    return -(p * torch.log(p)).sum(-1)


def of_softmax(form):
    return lambda a, b: form(F.softmax(a, -1), F.softmax(b, -1))


FORMS = {"kl": kl, "js": js, "renyi:0.7": renyi, "entropy": entropy}


def with_gradients(form, p, q):
    sides = [side.clone().requires_grad_() for side in (p, q)]
    form(*sides).sum().backward()
    # The entropy has none in Q.
    return [side.grad for side in sides if side.grad is not None]


def expected(name, p, q):
    """In NumPy, of probabilities."""
    m = (p + q) / 2
    return {
        "kl": lambda: (p * np.log(p / q)).sum(-1),
        "js": lambda: ((p * np.log(p / m)).sum(-1) + (q * np.log(q / m)).sum(-1)) / 2,
        "renyi:0.7": lambda: np.log((p**0.7 * q**0.3).sum(-1)) / -0.3,
        "entropy": lambda: -(p * np.log(p)).sum(-1),
    }[name]()


def peers(kind, dtype, p, q):
    """What computes each of them besides, by its name and the tool's."""
    # It compiles one function for so many shapes only, and then no more.
    torch.compiler.reset()
    p, q = p.astype(dtype), q.astype(dtype)
    allowed = {"rtol": 1e-8} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-5}
    p_tensor, q_tensor = torch.from_numpy(p), torch.from_numpy(q)
    softmax = [F.softmax(side, -1).numpy() if kind == "logits" else side for side in (p_tensor, q_tensor)]
    p_probs, q_probs = [np.asarray(side).astype(np.float64) for side in softmax]
    tools = {}
    for name, form in FORMS.items():
        if kind == "logits":
            form = kl_of_logits if name == "kl" else of_softmax(form)
        compiled = torch.compile(form, dynamic=False)
        for tool, run in ("PyTorch eager", form), ("torch.compile", compiled):
            got = run(p_tensor, q_tensor).numpy()
            assert np.allclose(got, expected(name, p_probs, q_probs), **allowed), (tool, name)
            tools[name, tool] = lambda run=run: run(p_tensor, q_tensor)
        if name != "renyi:0.7":
            tools[f"{name}-gradient", "PyTorch eager"] = (
                lambda form=form: with_gradients(form, p_tensor, q_tensor)
            )
    if kind == "probs":
        tools["kl", "SciPy"] = lambda: rel_entr(p, q).sum(-1)
        tools["js", "SciPy"] = lambda: jensenshannon(p, q, axis=-1) ** 2
    return tools


def ours(command, name, kind, rows, bins, folder):
    words = [*command, name, kind, str(rows), str(bins), f"{folder}/p", f"{folder}/q"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in printed.splitlines() if " ms " in line]
    return {words[0]: float(words[3]) / 1e3 for words in lines}


def least(times, name, tool, seconds):
    times[name, tool] = min(times.get((name, tool), np.inf), seconds)


def main():
    name, command, threads = sys.argv[1], sys.argv[2:], len(os.sched_getaffinity(0))
    dtype = {"f32": "float32", "f64": "float64"}[name]
    torch.set_num_threads(threads)
    print(f"{datetime.date.today()}, {platform.machine()}, {threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"PyTorch {torch.__version__}, SciPy {scipy.__version__}; {name}, nanoseconds per bin of one side")
    tools = ["kullback", "torch.compile", "PyTorch eager", "SciPy"]
    print("| | " + " | ".join(tools) + " |\n| --- |" + " ---: |" * len(tools))
    for kind in ("probs", "logits"):
        for bins in (2, 16, 64, 1024, 32000):
            rows, times = NUMBERS // bins, {}
            p, q = drawn(kind, rows, bins)
            with tempfile.TemporaryDirectory() as folder:
                p.tofile(f"{folder}/p")
                q.tofile(f"{folder}/q")
                others = peers(kind, dtype, p, q)
                for _ in range(ROUNDS):
                    for form, seconds in ours(command, name, kind, rows, bins, folder).items():
                        least(times, form, "kullback", seconds)
                    for (form, tool), run in others.items():
                        start = time.perf_counter()
                        run()
                        least(times, form, tool, time.perf_counter() - start)
            for form in (*FORMS, "kl-gradient", "js-gradient", "entropy-gradient"):
                cells = [times.get((form, tool)) for tool in tools]
                shown = [f"{cell * 1e9 / p.size:.2f}" if cell else "–" for cell in cells]
                print(f"| `{form}`, {kind}, {bins} bins | " + " | ".join(shown) + " |", flush=True)


main()

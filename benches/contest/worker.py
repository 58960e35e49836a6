"""A tool that is a Python library, in a process of its own. See `src/worker.rs`: this is the same
conversation, one line of JSON for each line that is read.
"""

import json
import os
import pathlib
import sys
import time

LEAST = 5e-3
"""A timing lasts at least as many seconds: short calls are repeated."""


def threads():
    return int(os.environ["OMP_NUM_THREADS"])


def seconds(form, finish):
    """Of one call, the mean of as many as it takes."""
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            form()
        finish()
        elapsed = time.perf_counter() - start
        if elapsed >= LEAST:
            return elapsed / calls
        calls *= 2


def fastest(forms, finish):
    """Called once each to warm up, and once more for the comparison."""
    times = {}
    for name, form in forms.items():
        form()
        finish()
        times[name] = seconds(form, finish)
    return min(times, key=times.get)


def answer(**line):
    print(json.dumps(line), flush=True)


def opened(tools, name, folder):
    import numpy as np

    case = json.loads((folder / "case.json").read_text())
    shape = (case["rows"], case["bins"])
    p, q = (np.fromfile(folder / f"{side}.bin", np.float32).reshape(shape) for side in "pq")
    return tools[name](case, p, q)


def serve(tools, finish=lambda: None, to_numpy=lambda values: values):
    """`tools` has for each name a function of the case, P and Q. It returns what the tool is exactly,
    and the forms, by name, in which the computation may be written. Forms may hand their work to a
    device, for which `finish` waits.
    """
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    try:
        import numpy as np

        about, forms = opened(tools, name, folder)
    except ImportError as error:
        return answer(absent=str(error))
    answer(about=about)
    best = None
    for line in sys.stdin:
        if line.strip() == "check":
            best = fastest(forms, finish)
            values = np.asarray(to_numpy(forms[best]()))
            values.astype(np.float64).tofile(folder / f"{name}.bin")
            answer(form=best)
        else:
            answer(seconds=seconds(forms[best], finish))

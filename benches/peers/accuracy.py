"""The rows that the example `accuracy` drew, by PyTorch, JAX and SciPy.

    python accuracy.py FOLDER

Each tool computes D(P||Q) of each row as its user would, in the type of the row unless said
otherwise, and writes TOOL.json into the folder. All divide by the sums first, or subtract their
logarithms, so that all are asked for the same quantity. A package that is not installed is left out.
"""

import json
import math
import pathlib
import sys
import traceback


def torch_kl(upcast):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    types = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}

    def read(file, cell):
        rows = torch.frombuffer(bytearray(file.read_bytes()), dtype=types[cell["type"]])
        return (rows.float() if upcast else rows).reshape(cell["rows"], cell["bins"])

    def probs(x):
        return x / x.sum(-1, keepdim=True)

    def logs(x, kind):
        return probs(x).log() if kind == "probs" else F.log_softmax(x, -1)

    def kl(p, p_kind, q, q_kind):
        if p_kind == "probs":
            terms = F.kl_div(logs(q, q_kind), probs(p), reduction="none")
        else:
            terms = F.kl_div(logs(q, q_kind), logs(p, p_kind), reduction="none", log_target=True)
        return terms.sum(-1).double().tolist()

    return f"PyTorch {torch.__version__}, eager, on the CPU", read, kl


def jax_kl():
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    import jax.numpy as jnp
    from jax.scipy.special import rel_entr

    def probs(x):
        return x / x.sum(-1, keepdims=True)

    def logs(x, kind):
        return jnp.log(probs(x)) if kind == "probs" else jax.nn.log_softmax(x)

    def kl(p, p_kind, q, q_kind):
        p, q = jnp.asarray(p), jnp.asarray(q)
        if p_kind == q_kind == "probs":
            terms = rel_entr(probs(p), probs(q))
        else:
            log_p = logs(p, p_kind)
            terms = (probs(p) if p_kind == "probs" else jnp.exp(log_p)) * (log_p - logs(q, q_kind))
        return terms.sum(-1).astype(jnp.float64).tolist()

    return f"JAX {jax.__version__}, on the CPU", numpy_rows, kl


def scipy_kl():
    import numpy as np
    import scipy
    from scipy.special import log_softmax
    from scipy.stats import entropy

    def widened(x):
        return x.astype(np.float32) if x.dtype.itemsize == 2 else x

    def probs(x):
        return x / x.sum(-1, keepdims=True)

    def logs(x, kind):
        return np.log(probs(x)) if kind == "probs" else log_softmax(x, axis=-1)

    def kl(p, p_kind, q, q_kind):
        p, q = widened(p), widened(q)
        if p_kind == q_kind == "probs":
            return entropy(p, q, axis=-1).astype(float).tolist()
        log_p = logs(p, p_kind)
        terms = (probs(p) if p_kind == "probs" else np.exp(log_p)) * (log_p - logs(q, q_kind))
        return terms.sum(-1).astype(float).tolist()

    about = f"SciPy {scipy.__version__} with NumPy {np.__version__}; 16-bit rows upcast to f32"
    return about, numpy_rows, kl


def numpy_rows(file, cell):
    import ml_dtypes
    import numpy as np

    types = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
    return np.fromfile(file, types[cell["type"]]).reshape(cell["rows"], cell["bins"])


def answers(folder, tool, only_16_bit=False):
    about, read, kl = tool
    values = {}
    for cell in json.loads((folder / "manifest.json").read_text()):
        if only_16_bit and cell["type"] not in ("f16", "bf16"):
            continue
        p, q = read(folder / cell["p"], cell), read(folder / cell["q"], cell)
        row_values = kl(p, cell["p_kind"], q, cell["q_kind"])
        values[cell["id"]] = [v if math.isfinite(v) else None for v in row_values]
    return {"about": about, "values": values}


def main():
    folder = pathlib.Path(sys.argv[1])
    tools = {
        "torch": lambda: answers(folder, torch_kl(upcast=False)),
        "torch_f32": lambda: answers(folder, torch_kl(upcast=True), only_16_bit=True),
        "jax": lambda: answers(folder, jax_kl()),
        "scipy": lambda: answers(folder, scipy_kl()),
    }
    for name, run in tools.items():
        try:
            (folder / f"{name}.json").write_text(json.dumps(run()))
            print(f"{name}: done", file=sys.stderr)
        except ImportError as error:
            print(f"{name}: not run, {error}", file=sys.stderr)
        except Exception:
            traceback.print_exc()
            print(f"{name}: not run", file=sys.stderr)


if __name__ == "__main__":
    main()

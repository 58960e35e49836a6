"""The tools that are Python libraries, each used as its users would. The driver in `src` runs this."""

import os

from worker import serve, threads


def numpy_tool(case, p, q):
    import numpy as np

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    def probs():
        return np.sum(p * np.log(p / q), -1)

    def logits():
        log_p, log_q = log_softmax(p), log_softmax(q)
        return np.sum(np.exp(log_p) * (log_p - log_q), -1)

    forms = {"p * log(p / q)": probs} if case["kind"] == "probs" else {"log_softmax": logits}
    return f"NumPy {np.__version__}", forms


def scipy_tool(case, p, q):
    import numpy as np
    import scipy
    from scipy.special import log_softmax, rel_entr

    def probs():
        return rel_entr(p, q).sum(-1)

    def logits():
        log_p, log_q = log_softmax(p, axis=-1), log_softmax(q, axis=-1)
        return (np.exp(log_p) * (log_p - log_q)).sum(-1)

    forms = {"rel_entr": probs} if case["kind"] == "probs" else {"log_softmax": logits}
    return f"SciPy {scipy.__version__}", forms


def torch_forms(kind):
    import torch
    import torch.nn.functional as F

    def kl_div(p, q):
        return F.kl_div(q.log(), p, reduction="none").sum(-1)

    def quotient(p, q):
        return (p * torch.log(p / q)).sum(-1)

    def kl_div_of_logits(a, b):
        log_p, log_q = F.log_softmax(a, -1), F.log_softmax(b, -1)
        return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)

    if kind == "probs":
        return {"F.kl_div": kl_div, "p * log(p / q)": quotient}
    return {"F.kl_div(log_softmax)": kl_div_of_logits}


def torch_tool(case, p, q):
    import torch

    torch.set_num_threads(threads())
    p, q = torch.from_numpy(p), torch.from_numpy(q)
    forms = {name: lambda f=f: f(p, q) for name, f in torch_forms(case["kind"]).items()}
    return f"PyTorch {torch.__version__}, eager", forms


def torch_compile_tool(case, p, q):
    # Its helpers would outlive this process; there is one kernel to compile.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    import torch

    torch.set_num_threads(threads())
    p, q = torch.from_numpy(p), torch.from_numpy(q)
    forms = {}
    for name, form in torch_forms(case["kind"]).items():
        compiled = torch.compile(form, dynamic=False)
        compiled(p, q)  # The compiler's memory is not that of the computation.
        forms[name] = lambda compiled=compiled: compiled(p, q)
    return f"PyTorch {torch.__version__}, torch.compile", forms


def jax_tool(case, p, q):
    import jax
    import jax.numpy as jnp
    from jax.scipy.special import rel_entr

    p, q = jax.device_put(p), jax.device_put(q)

    def quotient(p, q):
        return (p * jnp.log(p / q)).sum(-1)

    def relative_entropy(p, q):
        return rel_entr(p, q).sum(-1)

    def of_logits(a, b):
        log_p, log_q = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
        return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)

    probs = {"p * log(p / q)": quotient, "rel_entr": relative_entropy}
    chosen = probs if case["kind"] == "probs" else {"log_softmax": of_logits}
    forms = {}
    for name, form in chosen.items():
        compiled = jax.jit(form).lower(p, q).compile()
        forms[name] = lambda compiled=compiled: compiled(p, q).block_until_ready()
    return f"JAX {jax.__version__}, jit", forms


serve(
    {
        "numpy": numpy_tool,
        "scipy": scipy_tool,
        "torch": torch_tool,
        "torch-compile": torch_compile_tool,
        "jax": jax_tool,
    }
)

"""PyTorch and Triton on a GPU that PyTorch reaches. The driver in `src` runs this.

With TRITON_INTERPRET=1 in the environment everything runs on the CPU: a trial of the programs.
"""

import os

from worker import serve

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None


def device():
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "cpu"
    raise ImportError("PyTorch finds no GPU")


def on_device(p, q):
    import torch

    return torch.from_numpy(p).to(device()), torch.from_numpy(q).to(device())


def about(what):
    import torch

    name = torch.cuda.get_device_name() if device() == "cuda" else "CPU"
    return f"{what} on {name}, resident"


def finish():
    import torch

    if device() == "cuda":
        torch.cuda.synchronize()


def torch_copy(case, p, q):
    import torch

    p, q = on_device(p, q)
    return about(f"PyTorch {torch.__version__}"), {"copy_": lambda: q.copy_(p)}


def torch_compile(case, p, q):
    import torch
    import torch.nn.functional as F

    def kl_div(p, q):
        return F.kl_div(q.log(), p, reduction="none").sum(-1)

    def quotient(p, q):
        return (p * torch.log(p / q)).sum(-1)

    def kl_div_of_logits(a, b):
        log_p, log_q = F.log_softmax(a, -1), F.log_softmax(b, -1)
        return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)

    p, q = on_device(p, q)
    probs = {"F.kl_div": kl_div, "p * log(p / q)": quotient}
    chosen = probs if case["kind"] == "probs" else {"F.kl_div(log_softmax)": kl_div_of_logits}
    forms = {}
    for name, form in chosen.items():
        compiled = torch.compile(form, dynamic=False)
        forms[name] = lambda compiled=compiled: compiled(p, q)
    return about(f"PyTorch {torch.__version__}, torch.compile"), forms


if triton:

    @triton.jit
    def kl_of_probs(p_at, q_at, out, rows, bins, part, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        """The sums of some rows over one part of their bins."""
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        first = tl.program_id(1) * part
        last = tl.minimum(first + part, bins)
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        for at in range(first, last, BLOCK):
            bin = at + tl.arange(0, BLOCK)
            places = row[:, None].to(tl.int64) * bins + bin[None, :]
            inside = (row[:, None] < rows) & (bin[None, :] < last)
            p = tl.load(p_at + places, inside, other=1.0)
            q = tl.load(q_at + places, inside, other=1.0)
            sums += p * tl.log(p / q)
        place = row * tl.num_programs(1) + tl.program_id(1)
        tl.store(out + place, tl.sum(sums, 1), row < rows)

    @triton.jit
    def kl_of_logits(a_at, b_at, out, bins, BLOCK: tl.constexpr):
        """One row, read once: each lane keeps sums relative to the largest logit that it has seen."""
        row = tl.program_id(0)
        a_at += row.to(tl.int64) * bins
        b_at += row.to(tl.int64) * bins
        a_top = tl.full((BLOCK,), -1e30, tl.float32)
        b_top = tl.full((BLOCK,), -1e30, tl.float32)
        a_mass = tl.zeros((BLOCK,), tl.float32)
        b_mass = tl.zeros((BLOCK,), tl.float32)
        sums = tl.zeros((BLOCK,), tl.float32)
        for at in range(0, bins, BLOCK):
            bin = at + tl.arange(0, BLOCK)
            a = tl.load(a_at + bin, bin < bins, other=-1e30)
            b = tl.load(b_at + bin, bin < bins, other=-1e30)
            a_new, b_new = tl.maximum(a_top, a), tl.maximum(b_top, b)
            weight, rescale = tl.exp(a - a_new), tl.exp(a_top - a_new)
            a_mass = a_mass * rescale + weight
            sums = sums * rescale + weight * (a - b)
            b_mass = b_mass * tl.exp(b_top - b_new) + tl.exp(b - b_new)
            a_top, b_top = a_new, b_new
        a_max, b_max = tl.max(a_top, 0), tl.max(b_top, 0)
        rescale = tl.exp(a_top - a_max)
        a_mass, sums = tl.sum(a_mass * rescale, 0), tl.sum(sums * rescale, 0)
        b_mass = tl.sum(b_mass * tl.exp(b_top - b_max), 0)
        kl = sums / a_mass - (a_max + tl.log(a_mass)) + (b_max + tl.log(b_mass))
        tl.store(out + row, kl)


TILE = 2048
"""Bins that a program has in hand at a time."""

ENOUGH = 2048
"""Programs that fill a device; rows are cut into parts where there are fewer."""


def triton_probs(p, q, warps):
    import torch

    rows, bins = p.shape
    block = min(triton.next_power_of_2(bins), TILE)
    tile = TILE // block
    tiles = triton.cdiv(rows, tile)
    part = max(triton.cdiv(bins * tiles, ENOUGH), 4 * block)
    part = triton.cdiv(part, block) * block
    parts = triton.cdiv(bins, part)
    out = torch.empty((rows, parts), device=p.device)
    kl_of_probs[(tiles, parts)](p, q, out, rows, bins, part, tile, block, num_warps=warps)
    return out.squeeze(-1) if parts == 1 else out.sum(-1)


def triton_logits(a, b, warps):
    import torch

    rows, bins = a.shape
    # At least one logit for each lane.
    block = min(triton.next_power_of_2(bins + 1) // 2, TILE)
    out = torch.empty(rows, device=a.device)
    kl_of_logits[(rows,)](a, b, out, bins, block, num_warps=warps)
    return out


def triton_kernel(case, p, q):
    if not triton:
        raise ImportError("Triton is not installed")
    p, q = on_device(p, q)
    kernel = triton_probs if case["kind"] == "probs" else triton_logits
    forms = {f"{warps} warps": lambda warps=warps: kernel(p, q, warps) for warps in (2, 4, 8, 16)}
    return about(f"Triton {triton.__version__}"), forms


serve(
    {"torch-copy": torch_copy, "torch-compile": torch_compile, "triton": triton_kernel},
    finish,
    lambda values: values.cpu().numpy(),
)

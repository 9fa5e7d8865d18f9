"""The softmax over a vocabulary in torch, as quick as it can be made there."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from bench.measure.clock import timed
from saffu.utils.threads import available_cpus


@functools.cache
def product_dtype() -> torch.dtype:
    """The faster of bfloat16 and float32 in matrix products of this processor."""
    torch.set_num_threads(available_cpus())
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(256, 128, dtype=dtype), torch.ones(128, 4096, dtype=dtype)
        best[dtype] = min(timed(functools.partial(torch.mm, a, b))[1].cpu for _ in range(12))
    return torch.bfloat16 if best[torch.bfloat16] < 0.8 * best[torch.float32] else torch.float32


class TiedSoftmax(torch.autograd.Function):
    """Mean cross-entropy of ``softmax(h E^T + b)``, its gradient taken on the way, so that few logits live at a time.

    Autograd would write a (tokens, V) matrix four times and read it as often; pieces of ``ROWS`` rows stay in the
    cache. Products are in bfloat16 where that is faster, sums over tokens and what concerns the targets in float32.
    """

    ROWS = 256

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embedding: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """Loss of hidden states (tokens, d) with the embedding (V, d)."""
        dtype, n = product_dtype(), len(hidden)
        h = torch.cat([hidden, hidden.new_ones(n, 1)], 1).to(dtype)  # the bias is one more column
        E = torch.cat([embedding, bias[:, None]], 1).to(dtype)
        dh, dE = torch.empty_like(h), torch.zeros(E.shape)
        logits = torch.empty(min(TiedSoftmax.ROWS, n), len(E), dtype=dtype)
        p, part, found = torch.empty_like(logits), torch.empty_like(E), torch.empty(n, 1, dtype=dtype)
        for first in range(0, n, len(logits)):
            rows = slice(first, min(first + len(logits), n))
            z, q = (buffer[: rows.stop - first] for buffer in (logits, p))
            torch.mm(h[rows], E.T, out=z)
            torch.softmax(z, 1, out=q)
            torch.gather(q, 1, targets[rows, None], out=found[rows])
            torch.mm(q, E, out=dh[rows])
            dE += torch.mm(q.T, h[rows], out=part)
        dE.index_add_(0, targets, torch.cat([hidden, hidden.new_ones(n, 1)], 1), alpha=-1)
        ctx.save_for_backward(dh[:, :-1].float() - embedding[targets], dE[:, :-1], dE[:, -1])
        ctx.n_tokens = n
        return -found.float().clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradients found on the way, scaled."""
        scale = gradients[0] / ctx.n_tokens
        dh, dE, db = (gradient * scale for gradient in ctx.saved_tensors)
        return dh, dE, db, None

"""A small transformer language model trained by backprop for a given wall time. Needs torch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

CONTEXT, D_MODEL, N_HEADS, N_LAYERS, BATCH = 64, 128, 4, 2, 32
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
Ids = NDArray[np.int32]


class Transformer(nn.Module):
    """Two pre-norm layers of causal attention and a GELU network, tied embeddings, learned positions."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, D_MODEL)
        self.positions = nn.Embedding(CONTEXT, D_MODEL)
        layer = nn.TransformerEncoderLayer(
            D_MODEL, N_HEADS, 4 * D_MODEL, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, N_LAYERS, nn.LayerNorm(D_MODEL), enable_nested_tensor=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states, (batch, time) -> (batch, time, d_model)."""
        length = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.layers(self.tokens(ids) + self.positions.weight[:length], mask=mask, is_causal=True)

    def loss(self, ids: torch.Tensor, first: int = 0, reduction: str = "mean") -> torch.Tensor:
        """Cross-entropy of ids[:, first + 1:] given what precedes them in their row."""
        hidden = self(ids[:, :-1])[:, first:]
        logits = functional.linear(hidden, self.tokens.weight, self.bias)
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, first + 1 :].flatten(), reduction=reduction)


def train(ids: Ids, vocab_size: int, seconds: float, learning_rate: float, seed: int = 0) -> Transformer:
    """Adam on random windows of the stream for so many seconds, the learning rate falling to zero as a cosine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    stream = torch.from_numpy(ids.astype(np.int64))
    model = Transformer(vocab_size)
    # Start from the unigram distribution, which the bias would otherwise spend its first steps on.
    counts = np.bincount(ids, minlength=vocab_size) + 1.0
    model.bias.data = torch.from_numpy(np.log(counts / counts.sum())).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    began = time.perf_counter()
    while (spent := (time.perf_counter() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * spent)) / 2
        starts = torch.from_numpy(rng.integers(0, stream.numel() - CONTEXT, (BATCH, 1)))
        loss = model.loss(stream[starts + torch.arange(CONTEXT + 1)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model


@torch.no_grad()
def perplexity(model: Transformer, ids: Ids) -> float:
    """Perplexity per token; every token but the first ones is given at least half a context of what precedes it."""
    model.eval()
    total = sum(float(model.loss(window, first, "sum")) for window, first in _windows(ids))
    return math.exp(total / (ids.size - 1))


def _windows(ids: Ids) -> Iterator[tuple[torch.Tensor, int]]:
    """Windows in batches that together score every token but the first once, and where in them scoring begins."""
    half = CONTEXT // 2
    stream = torch.from_numpy(ids.astype(np.int64))
    yield stream[None, : CONTEXT + 1], 0
    starts = torch.arange(half, stream.numel() - CONTEXT, half)
    for batch in starts.split(BATCH):
        yield stream[batch[:, None] + torch.arange(CONTEXT + 1)], half
    scored = int(starts[-1]) + CONTEXT if starts.numel() else CONTEXT
    if scored + 1 < stream.numel():
        rest = stream[-(CONTEXT + 1) :]
        yield rest[None], CONTEXT - (stream.numel() - 1 - scored)


def best_learning_rate(train_ids: Ids, valid_ids: Ids, vocab_size: int, seconds: float) -> float:
    """The one of ``LEARNING_RATES`` with the lowest validation perplexity after so many seconds each."""
    return min(LEARNING_RATES, key=lambda rate: perplexity(train(train_ids, vocab_size, seconds, rate), valid_ids))

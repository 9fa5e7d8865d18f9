"""The network of RecurrentLM in torch: the same arrays, the same streams, the same Adam and the same falling rate."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bench.peers.torch_softmax import TiedSoftmax
from saffu.recurrent_lm.network import TOKENS, Arrays, n_layers
from saffu.recurrent_lm.settings import STEPS, streams_of
from saffu.recurrent_lm.streams import Step, TrainingStreams
from saffu.recurrent_lm.training import BETA2, EPSILON, LEARNING_RATE, MOST_NORM
from saffu.utils.streams import TokenStream
from saffu.utils.threads import available_cpus

State = tuple[Tensor, Tensor]


class TorchRecurrent(nn.Module):
    """LSTM, with projection where the arrays have one, and tied embeddings.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Of a RecurrentLM; copied.
    dropout : float
        Of the inputs of each layer and of the outputs.
    blockwise : bool
        Whether the softmax goes block by block, in bfloat16 where that is faster; by autograd in float32 otherwise.
    """

    def __init__(self, arrays: Arrays, dropout: float, blockwise: bool) -> None:
        super().__init__()
        torch.set_num_threads(available_cpus())
        tokens = torch.from_numpy(arrays[TOKENS].copy())
        self.n_words, dim = len(tokens) - 1, tokens.shape[1] - 1
        self.embedding = nn.Parameter(tokens[:, :-1].contiguous())
        self.bias = nn.Parameter(tokens[:-1, -1].contiguous())
        self.dropout, self.blockwise, layers = dropout, blockwise, n_layers(arrays)
        cells = arrays["layer0.recurrent"].shape[1] // 4
        projected = {"proj_size": dim} if cells != dim else {}
        self.lstm = nn.LSTM(dim, cells, layers, dropout=dropout if layers > 1 else 0.0, **projected)
        with torch.no_grad():
            for layer in range(layers):
                for theirs, ours in (("weight_ih", "input"), ("weight_hh", "recurrent"), ("weight_hr", "projection")):
                    if f"layer{layer}.{ours}" in arrays:
                        array = torch.from_numpy(arrays[f"layer{layer}.{ours}"].T.copy())
                        getattr(self.lstm, f"{theirs}_l{layer}").copy_(array)
                getattr(self.lstm, f"bias_ih_l{layer}").copy_(torch.from_numpy(arrays[f"layer{layer}.bias"].copy()))
                getattr(self.lstm, f"bias_hh_l{layer}").zero_()
        self.optimiser = torch.optim.Adam(self.parameters(), betas=(0.0, BETA2), eps=EPSILON, fused=True)

    def loss(self, inputs: Tensor, targets: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Mean loss of a segment (T, streams), and the state behind it."""
        H, state = self.states(inputs, state)
        if self.blockwise:
            return TiedSoftmax.apply(H, self.embedding[: self.n_words], self.bias, targets), state
        logits = functional.linear(H, self.embedding[: self.n_words], self.bias)
        return functional.cross_entropy(logits, targets), state

    def states(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Outputs of the last layer, (T streams, D)."""
        x = functional.dropout(functional.embedding(inputs, self.embedding), self.dropout, self.training)
        H, state = self.lstm(x, state)
        return functional.dropout(H, self.dropout, self.training).flatten(0, 1), state

    def step(self, batch: tuple[Tensor, Tensor], state: State | None, rate: float) -> tuple[float, State]:
        """One step of the optimiser."""
        self.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss, state = self.loss(*batch, state)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), MOST_NORM)
        self.optimiser.step()
        return float(loss.detach()), (state[0].detach(), state[1].detach())

    @torch.no_grad()
    def perplexity(self, stream: TokenStream) -> float:
        """Perplexity of a text whose documents are read one by one."""
        self.eval()
        total, ends = 0.0, np.append(stream.starts, stream.ids.size)
        for first, last in itertools.pairwise(ends.tolist()):
            ids = torch.from_numpy(stream.ids[first:last].astype(np.int64))
            inputs = torch.cat([torch.tensor([self.n_words]), ids[:-1]])[:, None]
            H = self.states(inputs, None)[0]
            for h, targets in zip(H.split(TiedSoftmax.ROWS), ids.split(TiedSoftmax.ROWS), strict=True):
                logits = functional.linear(h, self.embedding[: self.n_words], self.bias)
                total += float(functional.cross_entropy(logits, targets, reduction="sum"))
        return float(np.exp(total / stream.ids.size))


def as_batch(step: Step) -> tuple[Tensor, Tensor]:
    """A segment of our streams as torch reads it: inputs (T, streams) and flat targets."""

    def across(values: NDArray[Any]) -> NDArray[np.int64]:
        return values.transpose(1, 0, 2).reshape(values.shape[1], -1).astype(np.int64)

    inputs = step.segment.inputs
    return torch.from_numpy(across(inputs)), torch.from_numpy(across(step.targets.reshape(inputs.shape)).reshape(-1))


def batches(stream: TokenStream, vocab_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Segments of a text that is read again and again. States are carried over the starts of documents."""
    streams, rng = TrainingStreams(stream, vocab_size, streams_of(stream.ids.size), STEPS), np.random.default_rng(seed)
    while True:
        yield from map(as_batch, streams.epoch(rng))


def trained(
    arrays: Arrays, stream: TokenStream, seconds: float, dropout: float, blockwise: bool, seed: int
) -> tuple[TorchRecurrent, int]:
    """A network trained for so many seconds, and how many tokens that were; the rate falls with the clock."""
    torch.manual_seed(seed)
    began, n_tokens, state = time.perf_counter(), 0, None
    network = TorchRecurrent(arrays, dropout, blockwise)
    for inputs, targets in batches(stream, network.n_words, seed):
        share = 1 - (time.perf_counter() - began) / seconds
        if share <= 0:
            break
        carried = state if state is not None and inputs.shape[1] == state[0].shape[1] else None
        _, state = network.step((inputs, targets), carried, share * LEARNING_RATE)
        n_tokens += targets.numel()
    return network, n_tokens

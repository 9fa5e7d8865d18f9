"""The language models in torch: a transformer decoder and an LSTM of a given size.

Both predict every token of a stream from what precedes it in its document, as the models of this package do: the first
token of a document is given a start symbol alone, and no context reaches over the start of a document.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from saffu.text import LINE_END_ID

CONTEXT = 64  # tokens that the transformer sees
UNROLLED = 64  # tokens between cuts of the gradient of the LSTM
BATCH_TOKENS = 512  # in a step: small ones do more with little time
MOST_HEADS, LAYERS = 4, 2
TOLERANCE = 0.03  # of a parameter budget
START = LINE_END_ID  # stands for the token before a document
SCORED_ROWS = 64  # windows or documents at a time

Int64 = NDArray[np.int64]


# ---- streams ---------------------------------------------------------------------------------------------------------


class Stream:
    """Token ids, the token before each of them, and where its document begins."""

    def __init__(self, ids: ArrayLike, documents: ArrayLike | None = None) -> None:
        tokens = np.asarray(ids, np.int64)
        starts = np.union1d([0], np.asarray([] if documents is None else documents, np.int64))
        self.starts = starts[starts < tokens.size]
        before = np.concatenate([[START], tokens[:-1]])
        before[self.starts] = START
        begins = np.repeat(self.starts, np.diff(self.starts, append=tokens.size))
        self.targets, self.inputs, self.begins = map(torch.from_numpy, (tokens, before, begins))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.targets.numel()


# ---- models ----------------------------------------------------------------------------------------------------------


class LanguageModel(nn.Module, ABC):
    """Embeddings that serve as input and output weights, a bias per type, and something between them.

    Attributes
    ----------
    RATES : tuple of float
        Learning rates worth trying.
    """

    RATES: tuple[float, ...]

    def __init__(self, vocab_size: int, d_model: int, dropout: float, deviation: float) -> None:
        super().__init__()
        self.vocab_size, self.d_model, self.dropout = vocab_size, d_model, dropout
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.tokens.weight, std=deviation)

    @property
    def n_parameters(self) -> int:
        """Number of weights, the embedding counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def batches(self, stream: Stream, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Hidden states (tokens, d_model) and targets (tokens,) of a stream read again and again, to be trained on."""

    @abstractmethod
    def scored(self, stream: Stream) -> Iterator[tuple[Tensor, Tensor]]:
        """Hidden states and positions in the stream of what they predict: every position once."""

    def start_from_unigrams(self, ids: Tensor) -> None:
        """Let the bias be the logarithm of add-one counts, which training would spend its first steps on."""
        log_counts = torch.log(torch.bincount(ids, minlength=self.vocab_size) + 1.0)
        self.bias.data = log_counts - log_counts.mean()  # around zero, where bfloat16 is finest

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training) if self.dropout else values


class Block(nn.Module):
    """Causal attention and a GELU network, both normed before and added to what comes in."""

    def __init__(self, d_model: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.heads = dropout, math.gcd(d_model, MOST_HEADS)
        self.norm_attention, self.norm_network = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.up, self.down = nn.Linear(d_model, inner), nn.Linear(inner, d_model)
        for linear in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(linear.weight, std=0.02 if linear in (self.qkv, self.up) else 0.02 / math.sqrt(2 * LAYERS))
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """States (batch, time, d_model) with the mask (batch, 1, time, time) of what each time may see."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm_attention(x)).chunk(3, 2)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, visible).transpose(1, 2).flatten(2)
        x = x + self._drop(self.out(seen))
        return x + self._drop(self.down(functional.gelu(self.up(self.norm_network(x)))))

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training) if self.dropout else values


class Transformer(LanguageModel):
    """Decoder: pre-norm blocks, learned positions counted from the start of the window or of the document.

    Parameters
    ----------
    vocab_size : int
    d_model : int
        Of four heads if it is a multiple of 4, else of two or one.
    inner : int, optional
        Width of the GELU networks; by default 4 d_model.
    dropout : float
        Of embeddings and of what each part of a block adds.
    """

    RATES = (1e-3, 2e-3, 4e-3, 8e-3)

    def __init__(self, vocab_size: int, d_model: int, inner: int | None = None, dropout: float = 0.0) -> None:
        super().__init__(vocab_size, d_model, dropout, deviation=0.02)
        self.positions = nn.Embedding(CONTEXT, d_model)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(d_model, inner or 4 * d_model, dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(d_model)

    def forward(self, stream: Stream, firsts: Tensor, length: int) -> Tensor:
        """Hidden states (windows, length, d_model) of the windows that begin at some positions of the stream."""
        at = firsts[:, None] + torch.arange(length)
        begins = torch.maximum(stream.begins[at], firsts[:, None]) - firsts[:, None]
        time = torch.arange(length)
        visible = (time[:, None] >= time) & (time >= begins[:, :, None])
        x = self._drop(self.tokens(stream.inputs[at]) + self.positions(time - begins))
        for block in self.blocks:
            x = block(x, visible[:, None])
        return self.norm(x)

    def batches(self, stream: Stream, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows side by side from a random offset on, in random order."""
        length = min(CONTEXT, stream.size)
        while True:
            firsts = np.arange(rng.integers(min(length, stream.size - length + 1)), stream.size - length + 1, length)
            for batch in torch.from_numpy(rng.permutation(firsts)).split(max(BATCH_TOKENS // length, 1)):
                at = batch[:, None] + torch.arange(length)
                yield self(stream, batch, length).flatten(0, 1), stream.targets[at].flatten()

    def scored(self, stream: Stream) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows half a context apart; but the first, each predicts what the one before it did not."""
        length = min(CONTEXT, stream.size)
        step = CONTEXT // 2
        firsts = torch.arange(0, stream.size - length + step, step).clamp_max(stream.size - length)
        fresh = torch.cat([torch.zeros(1, dtype=torch.long), firsts[:-1] + length])
        for batch, new in zip(firsts.split(SCORED_ROWS), fresh.split(SCORED_ROWS), strict=True):
            at = batch[:, None] + torch.arange(length)
            chosen = at >= new[:, None]
            yield self(stream, batch, length)[chosen], at[chosen]


class LSTM(LanguageModel):
    """LSTM layers as wide as the embedding; the state begins at zero with each document and is carried through it.

    Parameters
    ----------
    vocab_size, d_model : int
    layers : int
    dropout : float
        Of embeddings, between layers and of the last layer's output.
    """

    RATES = (2e-3, 5e-3, 1.2e-2, 3e-2)

    def __init__(self, vocab_size: int, d_model: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(vocab_size, d_model, dropout, deviation=0.2)
        self.layers = layers
        self.lstm = nn.LSTM(d_model, d_model, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                nn.init.ones_(parameter[d_model : 2 * d_model])  # remember, at first

    def batches(self, stream: Stream, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of documents in random order, documents longer than a fair share of the stream cut."""
        n_rows = max(min(BATCH_TOKENS // UNROLLED, stream.size // UNROLLED), 1)
        longest = math.ceil(stream.size / n_rows)
        cuts = [np.arange(first, last, longest) for first, last in _spans(stream.starts, stream.size)]
        pieces = _spans(np.concatenate(cuts), stream.size)
        endless = itertools.chain.from_iterable(rng.permutation(pieces) for _ in itertools.count())
        for hidden, at in self._read(stream, endless, n_rows, UNROLLED):
            yield hidden, stream.targets[at]

    def scored(self, stream: Stream) -> Iterator[tuple[Tensor, Tensor]]:
        """Whole documents, the longest first."""
        spans = _spans(stream.starts, stream.size)
        longest_first = spans[np.argsort(spans[:, 0] - spans[:, 1], kind="stable")]
        return self._read(stream, iter(longest_first), SCORED_ROWS, 4 * UNROLLED)

    def _read(
        self, stream: Stream, queue: Iterator[Int64], n_rows: int, length: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Hidden states and positions while rows read spans of the stream, each taking the next one when it is done."""
        state = torch.zeros(2, self.layers, 0, self.d_model)
        for kept, firsts, lasts in _rows(queue, n_rows, length):
            state = torch.cat([state, torch.zeros(2, self.layers, 1, self.d_model)], 2)[:, :, kept]
            at = firsts[:, None] + torch.arange(length)
            inside = at < lasts[:, None]
            x = self._drop(self.tokens(stream.inputs[at.clamp_max(stream.size - 1)]))
            hidden, after = self.lstm(x, (state[0].contiguous(), state[1].contiguous()))
            state = torch.stack(after).detach()
            yield self._drop(hidden[inside]), at[inside]


def _spans(starts: Int64, size: int) -> Int64:
    """First and behind the last position of the parts of a stream that begin at ``starts``, (parts, 2)."""
    return np.column_stack([starts, np.append(starts[1:], size)])


def _rows(queue: Iterator[Int64], n_rows: int, length: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Windows of up to n_rows spans read side by side.

    Yields for each row the row of the last window that it continues, or -1 if it begins a span, and the positions where
    the window begins and where the span ends.
    """
    rows: list[tuple[int, int, int]] = []
    while True:
        rows = [(row, first + length, last) for row, (_, first, last) in enumerate(rows) if first + length < last]
        rows += [(-1, int(first), int(last)) for first, last in itertools.islice(queue, n_rows - len(rows))]
        if not rows:
            return
        kept, firsts, lasts = torch.tensor(rows).T
        yield kept, firsts, lasts


# ---- sizes -----------------------------------------------------------------------------------------------------------


def transformer_of(n_parameters: int, vocab_size: int, dropout: float = 0.0) -> Transformer:
    """Transformer of about so many parameters: d_model for networks of 4 d_model, whose exact width takes up the rest.

    Raises
    ------
    ValueError
        If none is within 3 % of the budget.
    """
    wanted = _root(12 * LAYERS, vocab_size + CONTEXT, n_parameters - vocab_size)
    for step in (8, 4, 2, 1):  # the larger, the better for the machine
        d_model = step * max(round(wanted / step), 1)
        bare = vocab_size * (d_model + 1) + CONTEXT * d_model + 2 * d_model + LAYERS * (4 * d_model**2 + 9 * d_model)
        inner = round((n_parameters - bare) / (LAYERS * (2 * d_model + 1)))
        if 2 * d_model <= inner <= 8 * d_model:
            break
    return _checked(Transformer(vocab_size, d_model, max(inner, 1), dropout), n_parameters)


def lstm_of(n_parameters: int, vocab_size: int, layers: int = 1, dropout: float = 0.0) -> LSTM:
    """LSTM of about so many parameters; errors as of :func:`transformer_of`."""
    d_model = max(round(_root(8 * layers, vocab_size + 8 * layers, n_parameters - vocab_size)), 1)
    return _checked(LSTM(vocab_size, d_model, layers, dropout), n_parameters)


def _root(a: float, b: float, c: float) -> float:
    """The positive x with a x^2 + b x = c."""
    return (math.sqrt(b * b + 4 * a * max(c, 0)) - b) / (2 * a)


def _checked(model: Any, budget: int) -> Any:
    if abs(model.n_parameters / budget - 1) > TOLERANCE:
        raise ValueError(
            f"n_parameters must suit a vocabulary of {model.vocab_size}: "
            f"the model nearest to {budget} has {model.n_parameters}"
        )
    return model

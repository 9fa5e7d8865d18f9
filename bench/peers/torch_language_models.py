"""The language models in torch: a transformer decoder and an LSTM of a given size, trained by backprop.

Both predict every token of a stream from what precedes it in its document, as the models of this package do: the first
token of a document is given a start symbol alone, and no context reaches over the start of a document.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from bench.measure import timed
from bench.trials.networks import Stopwatch
from saffu._threads import available_cpus
from saffu.text import LINE_END_ID

CONTEXT = 64  # tokens that the transformer sees
UNROLLED = 64  # tokens between cuts of the gradient of the LSTM
BATCH_TOKENS = 512  # in a step: small ones do more with little time
MOST_HEADS, LAYERS = 4, 2
EVALUATIONS = 10  # on validation text while training
WARM_UP = 0.1  # share of the time in which the learning rate rises
WEIGHT_DECAY = 0.1
DROPOUTS, MOST_DROPOUT = ((3.0, 0.0), (8.0, 0.2)), 0.4  # below so many epochs
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


# ---- the softmax over the vocabulary ---------------------------------------------------------------------------------


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


# ---- training and scoring --------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A model as it was when validation perplexity was lowest, and what was seen on the way."""

    model: LanguageModel
    perplexity: float
    curve: list[tuple[float, float]]  # seconds of training, validation perplexity
    tokens_per_second: float


def train(
    model: LanguageModel,
    stream: Stream,
    valid: Stream,
    seconds: float,
    learning_rate: float,
    seed: int = 0,
    evaluations: int = EVALUATIONS,
) -> Trained:
    """AdamW for so many seconds, and the weights of the lowest perplexity on validation text.

    The learning rate rises for a tenth of the time and falls to zero as a cosine. The clock stands still while
    validation text is scored.

    Parameters
    ----------
    model : LanguageModel
        Trained in place; what is returned is a copy of it at its best.
    stream, valid : Stream
    seconds : float
    learning_rate : float
        The highest.
    seed : int
        Of the order of the text and of dropout.
    evaluations : int
        How often validation text is scored, at equal distances, last at the end.
    """
    torch.set_num_threads(available_cpus())
    torch.manual_seed(seed)
    product_dtype()  # decided before the clock runs
    model.start_from_unigrams(stream.targets)
    optimiser = torch.optim.AdamW(_groups(model), lr=learning_rate, betas=(0.9, 0.99), fused=True)
    batches, watch = model.batches(stream, np.random.default_rng(seed)), Stopwatch()
    best, lowest, n_tokens, spent = model, math.inf, 0, 0.0
    curve: list[tuple[float, float]] = []
    while spent < 1:
        rate = learning_rate * min((spent + 1e-3) / WARM_UP, (1 + math.cos(math.pi * spent)) / 2)
        n_tokens += _step(model, batches, optimiser, rate)
        with watch.paused() as elapsed:
            spent = elapsed / seconds
            if spent >= min((len(curve) + 1) / evaluations, 1):
                curve.append((elapsed, perplexity(model, valid)))
                if curve[-1][1] < lowest:
                    best, lowest = copy.deepcopy(model), curve[-1][1]
    return Trained(best, lowest, curve, n_tokens / curve[-1][0])


def _step(
    model: LanguageModel, batches: Iterator[tuple[Tensor, Tensor]], optimiser: torch.optim.Optimizer, rate: float
) -> int:
    """One step of the optimiser at that learning rate; how many tokens it took."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    model.train()
    hidden, targets = next(batches)
    loss = TiedSoftmax.apply(hidden, model.tokens.weight, model.bias, targets)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return targets.numel()


def _groups(model: LanguageModel) -> list[dict[str, Any]]:
    """Matrices, which decay, and vectors, which do not."""
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter in model.parameters():
        parts[parameter.ndim > 1].append(parameter)
    return [{"params": parts[True], "weight_decay": WEIGHT_DECAY}, {"params": parts[False], "weight_decay": 0.0}]


class Tuned(NamedTuple):
    """The learning rate that did best, and how fast it was trained."""

    learning_rate: float
    tokens_per_second: float


def best_learning_rate(
    build: Callable[[], LanguageModel],
    stream: Stream,
    valid: Stream,
    seconds: float,
    rates: Sequence[float] | None = None,
    seed: int = 0,
) -> Tuned:
    """The learning rate with the lowest validation perplexity after so many seconds each, from the same weights.

    Parameters
    ----------
    build : callable
        Returns a new model.
    stream, valid : Stream
    seconds : float
        Of each run.
    rates : sequence of float, optional
        By default those of the model's class.
    seed : int
    """
    runs: dict[float, Trained] = {}
    for rate in rates or build().RATES:
        torch.manual_seed(seed)
        runs[rate] = train(build(), stream, valid, seconds, rate, seed, evaluations=2)
    rate = min(runs, key=lambda rate: runs[rate].perplexity)
    return Tuned(rate, runs[rate].tokens_per_second)


def sensible_dropout(epochs: float) -> float:
    """None for text read about once, more the more often it is read."""
    return next((dropout for limit, dropout in DROPOUTS if epochs < limit), MOST_DROPOUT)


def perplexity(model: LanguageModel, stream: Stream) -> float:
    """Perplexity per token, every one of them scored as by :func:`log_prob`."""
    return math.exp(-float(log_prob(model, stream).mean()))


@torch.no_grad()
def log_prob(model: LanguageModel, stream: Stream) -> NDArray[np.float64]:
    """Log-probability of each token given what precedes it in its document, nats, in float32.

    The transformer sees at least half a context of what precedes, the LSTM all of it.
    """
    model.eval()
    found = torch.full((stream.size,), torch.nan, dtype=torch.float64)
    for hidden, at in model.scored(stream):
        for h, positions in zip(hidden.split(TiedSoftmax.ROWS), at.split(TiedSoftmax.ROWS), strict=True):
            logits = torch.addmm(model.bias, h, model.tokens.weight.T)
            found[positions] = -functional.cross_entropy(logits, stream.targets[positions], reduction="none").double()
    return found.numpy()

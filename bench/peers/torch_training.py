"""Language models in torch trained by backprop for a time: AdamW, the learning rate tuned, the best moment kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bench.data import corpora
from bench.data.corpora import Parts
from bench.measure.clock import Stopwatch
from bench.peers import torch_softmax
from bench.peers.torch_language_models import LanguageModel, Stream, lstm_of, transformer_of
from bench.peers.torch_softmax import TiedSoftmax
from saffu.utils.threads import available_cpus

EVALUATIONS = 10  # on validation text while training
WARM_UP = 0.1  # share of the time in which the learning rate rises
WEIGHT_DECAY = 0.1
DROPOUTS, MOST_DROPOUT = ((3.0, 0.0), (8.0, 0.2)), 0.4  # below so many epochs
KINDS: dict[str, Callable[..., LanguageModel]] = {
    "transformer": transformer_of,
    "LSTM": lstm_of,
    "LSTM, 2 layers": partial(lstm_of, layers=2),
}


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
    torch_softmax.product_dtype()  # decided before the clock runs
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


# ---- within a budget -------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One trained model."""

    name: str
    n_parameters: int
    seconds: float
    valid: float
    test: float
    learning_rate: float
    dropout: float
    epochs: float
    tokens_per_second: float


class Budget(NamedTuple):
    """What every peer is given."""

    n_parameters: int
    seconds: float
    multiples: Sequence[float] = (1,)
    tune_seconds: float = 0.0  # of each learning rate; 0 for a tenth of ``seconds``
    rates: Sequence[float] | None = None  # to try; None for those of the model's class
    dropouts: Sequence[float] = ()  # each in a run of its own, the best on validation text counts; () for one by epochs


def rows(parts: Parts, budget: Budget, kinds: Sequence[str] = ("transformer", "LSTM"), seed: int = 0) -> Iterator[Row]:
    """A row for each kind and each multiple of the time."""
    stream, test = Stream(parts.train.ids, parts.train.starts), Stream(parts.test.ids, parts.test.starts)
    part = corpora.beginning(parts.valid, corpora.VALID_TOKENS)
    valid = Stream(part.ids, part.starts)
    for kind in kinds:
        build = partial(KINDS[kind], budget.n_parameters, len(parts.vocabulary))
        tuning = budget.tune_seconds or budget.seconds / 10
        rate, speed = best_learning_rate(build, stream, valid, tuning, budget.rates, seed)
        for multiple in budget.multiples:
            seconds = multiple * budget.seconds
            suggested = sensible_dropout(speed * seconds / stream.size)
            runs = {}
            for dropout in budget.dropouts or [suggested]:
                torch.manual_seed(seed)
                runs[dropout] = train(build(dropout=dropout), stream, valid, seconds, rate, seed)
            dropout, run = min(runs.items(), key=lambda item: item[1].perplexity)
            epochs = run.tokens_per_second * seconds / stream.size
            score, size = perplexity(run.model, test), run.model.n_parameters
            yield Row(kind, size, seconds, run.perplexity, score, rate, dropout, epochs, run.tokens_per_second)

"""Language models of self-attentive units: solving and training by the clock, and tuning of either start."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.data.corpora import MIN_COUNT
from bench.data.texts import Text
from bench.measure.clock import timed
from bench.trials.tuning import tuned
from saffu import SaffuLM
from saffu.text import Chunk

RATES: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SCALES: tuple[str | float, ...] = ("glorot", 0.1, 1.0)  # of the random weights of a cold start
BATCHES = ((50_000, 64), (200_000, 256))  # tokens of the text up to which so many make a step
ALL_TRIED = 50_000  # up to so many, no setting is given up early

Setting = tuple[Any, ...]
Train = Callable[[Any, int], Sequence["Moment"]]


def solve(text: Text, **architecture: Any) -> tuple[SaffuLM, float]:
    """A solved model and the seconds that it took."""
    model, spent = timed(
        lambda: SaffuLM(min_count=MIN_COUNT, **architecture).fit(
            text.train.ids, documents=text.train.starts, vocab_size=text.n_types
        )
    )
    return model, spent.wall


# ---- training by the clock -------------------------------------------------------------------------------------------


class Moment(NamedTuple):
    """After an epoch: seconds so far (solve, steps, and the refiner's own look at its loss), nats on other text."""

    epoch: int
    seconds: float
    nll: float  # of the validation text
    test_nll: float

    @property
    def perplexity(self) -> float:
        """Of the test text."""
        return math.exp(self.test_nll)


def batch_tokens(text: Text) -> int:
    """Tokens in a step of every contender: fewer where there are few."""
    n_tokens = text.train.ids.size
    return next((batch for most, batch in BATCHES if n_tokens <= most), 1024)


def trained(
    start: SaffuLM, text: Text, epochs: int, seconds: float = 0.0, scored: bool = True, **settings: Any
) -> list[Moment]:
    """Refine, and score the start and every epoch off the clock.

    Not ``scored``, for tuning: on validation text only, after every fourth epoch and the last.
    """

    def moment(epoch: int, so_far: float, model: SaffuLM) -> Moment:
        test = _nll(model, text.test) if scored else math.nan
        return Moment(epoch, so_far, _nll(model, text.valid), test)

    moments = [moment(0, seconds, start)]

    done = before = now = 0.0

    def record(state: Any) -> None:
        nonlocal done, before, now
        if state.epoch == 1:  # also once embeddings are thawed, which is a refinement of its own
            before = now or seconds
        done, now = done + 1, before + state.seconds
        if scored or done % 4 == 0 or done == epochs:
            moments.append(moment(int(done), now, state.model()))

    start.refine(
        text.train.ids,
        epochs=epochs,
        documents=text.train.starts,
        batch_tokens=batch_tokens(text),
        callback=record,
        **settings,
    )
    return moments


def _nll(model: SaffuLM, chunk: Chunk) -> float:
    return -float(model.log_prob(chunk.ids, documents=chunk.starts).mean())


def best(moments: Sequence[Moment]) -> Moment:
    """The epoch, the start among them, that does best on validation text."""
    return min(moments, key=lambda moment: moment.nll if math.isfinite(moment.nll) else math.inf)


def best_setting(settings: Sequence[Any], run: Train, epochs: int, n_tokens: int, keep: int = 3) -> Any:
    """What does best on validation text: all settings for all epochs where there are few tokens.

    With more tokens, every setting is run for a quarter of the epochs and the best three for all. With few, the first
    steps of a random start, which leave it at the unigram, do not show where it would end.
    """
    screening = epochs if n_tokens <= ALL_TRIED else math.ceil(epochs / 4)
    return tuned(settings, run, screening, epochs, keep).setting


def remembered(run: Train) -> Train:
    """The same, each setting and number of epochs run once."""
    return functools.cache(run)

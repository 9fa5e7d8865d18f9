"""Pruning a model: the threshold that meets a loss or a size, and the scalars of what is left.

The loss of a threshold is measured on positions of the training text, each under a model that has not counted its
block: that model is pruned by its own counts at this threshold, its scalars are fitted anew, and the criterion of
priming is compared with that of the model as it was. Words that the rest of the text has seen less often than any word
of the vocabulary was seen in all of it are not measured: a vocabulary of the rest would lack them, as that of the whole
lacks the rare words of a new text. With fewer entries such words are more likely, not less, so that they would hide a
part of what the others lose: on the Brown corpus 5 % of the positions hid a quarter.

Weights are rounded as the file has them before anything is measured, so the loss is that of the file.

Loss and size change steadily with the threshold, so the threshold that meets a target is found by a secant on their
logarithms, between bounds that close in on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.log_linear import PooledModel
from saffu.ngram_lm.priming import FOLDS, Part, criterion, prime
from saffu.ngram_lm.pruned_text import PrunedText, compact_tables, rounded, step_of
from saffu.ngram_lm.pruned_text_files import write_rows, write_statistics
from saffu.ngram_lm.row_pruning import RowPruner, TableScalars
from saffu.ngram_lm.solution import Solution
from saffu.ngram_lm.weights import NgramWeights, Table
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.progress import progress_bar

MAX_LOSS = 0.005  # of perplexity
MOST_TRIALS = 12
AIM, CLOSE_ENOUGH = 0.96, 0.92  # of a target: what is aimed at, and what is taken
LONGEST_STEP = 32.0  # factor by which a threshold is changed at a time
USUAL_POWER, LEAST_POWER = 1.25, 0.1  # of the threshold that loss grows with
FIRST_THRESHOLD = 0.3  # nats per token
EVERYTHING = 1e100  # a threshold that nothing reaches
LOSS_OF_THRESHOLD = 0.016  # about how many nats are lost for each of the first threshold
LARGEST_MIN_COUNT = 10  # what a vocabulary asks of its words at most; where all are frequent none is rare
OVERHEAD, OVERHEAD_OF_ARRAY = (
    1 << 11,
    144,
)  # bytes of a file, and of each of its arrays, besides them and the vocabulary


class Pruned(NamedTuple):
    """What is left of a model: its text, the bounds of its states and its scalars."""

    text: PrunedText
    bounds: Float64 | None
    scalars: Float64


class Target(NamedTuple):
    """What is asked for: one of these, the others are None.

    Attributes
    ----------
    max_loss : float or None
        By which share perplexity may rise at most.
    target_size : int or None
        Bytes of the file.
    threshold : float or None
        Nats per token.
    """

    max_loss: float | None
    target_size: int | None
    threshold: float | None

    @property
    def step(self) -> float:
        """The step that weights are rounded to, so that this takes little of the loss that is to be expected."""
        if self.threshold is not None:
            return step_of(LOSS_OF_THRESHOLD * self.threshold)
        return step_of(MAX_LOSS if self.max_loss is None else math.log1p(self.max_loss))

    @classmethod
    def of(cls, max_loss: float | None, target_size: int | None, threshold: float | None) -> Target:
        """Check; without anything the loss is that of MAX_LOSS.

        Raises
        ------
        ValueError, TypeError
            If more than one is given, or it is no number that makes sense.
        """
        given = [
            name
            for name, value in zip(cls._fields, (max_loss, target_size, threshold), strict=True)
            if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"one of max_loss, target_size and threshold must be given, got {' and '.join(given)}")
        if not given:
            max_loss = MAX_LOSS
        return cls(
            None if max_loss is None else validate.positive(max_loss, "max_loss"),
            None if target_size is None else validate.integer(target_size, "target_size", 1),
            None if threshold is None else validate.positive(threshold, "threshold", or_zero=True),
        )


def prune(
    counted: CountedText, solution: Solution, target: Target, vocabulary_size: int, progress: bool | None
) -> Pruned:
    """Drop the entries that carry least, and fit the scalars of what is left.

    Parameters
    ----------
    counted : CountedText
    solution : Solution
    target : Target
    vocabulary_size : int
        Bytes that the vocabulary takes in the file.
    progress : bool or None

    Raises
    ------
    ValueError
        If the text is too short to measure a loss on, the size cannot be reached, or the model is a pruned one.
    """
    counts, scalars = counted.total(), solution.primed_scalars()
    statistics = counted.counts.statistics
    with progress_bar(FOLDS + MOST_TRIALS, "prune", progress) as bar:
        trials = Trials(solution, counts, bar.update, step=target.step)
        model, _ = solution.solved()
        pruner = RowPruner(model.weights, trials.table_scalars)
        words = write_statistics(statistics.unigram, statistics.followed)
        reserved = vocabulary_size + OVERHEAD + _size_of([*words.values(), scalars, np.empty(counts.order)])
        threshold = _threshold_for(target, trials, pruner, reserved, solution.bounds, bar.update)
        loss = trials.loss(threshold)
        bounds, scalars = trials.fitted(threshold)
        tables = compact_tables(rounded(pruner.tables(threshold), target.step), solution.contexts.table_radius)
    n_left = sum(table.u.size for table in tables)
    record = {
        "threshold": threshold,
        "loss": math.expm1(loss),
        "criterion": [trials.before, trials.before + loss],
        "n_entries": [counts.n_entries, n_left],
    }
    text = PrunedText(
        solution.contexts, statistics, tables, counted.start_length, record, target.step, solution.n_threads
    )
    return Pruned(text, bounds, scalars)


def _threshold_for(
    target: Target,
    trials: Trials,
    pruner: RowPruner,
    reserved: int,
    bounds: Float64 | None,
    advance: Callable[[], object],
) -> float:
    """The threshold that is given, or the largest that meets the target."""
    if target.max_loss is not None:
        most = math.log1p(target.max_loss)
        return search(lambda threshold: trials.loss(threshold) / most, most / LOSS_OF_THRESHOLD, advance)
    if target.target_size is not None:
        return _threshold_of_size(pruner, target, reserved, bounds, advance)
    assert target.threshold is not None
    return target.threshold


class Trials:
    """Pruned models of the folds of a text, at one threshold after the other.

    Parameters
    ----------
    solution : Solution
        Of the model as it is.
    counts : NgramCounts
        Of all text.
    advance : callable
        Called after each fold.
    pruner : callable
        Makes a :class:`RowPruner`, or another that chooses entries, of weights and the scalars of tables.
    step : float
        What weights are rounded to multiples of; 0 for float32.

    Attributes
    ----------
    before : float
        The criterion of the model as it is, nats per token.
    table_scalars : TableScalars
    """

    def __init__(
        self,
        solution: Solution,
        counts: NgramCounts,
        advance: Callable[[], object] = lambda: None,
        pruner: Callable[[NgramWeights, TableScalars], RowPruner] = RowPruner,
        step: float = 0.0,
    ) -> None:
        scalars = solution.primed_scalars()
        self._step, self._constant = step, solution.contexts.constant_scalars()
        self._parts = solution.folds(counts, advance)
        if sum(part.positions.size for part in self._parts) == 0:
            raise ValueError("the text is too short to measure on it what a pruned model loses")
        self._measured = [_in_vocabulary(part, counts.unigram) for part in self._parts]
        if not any(chosen.size for chosen in self._measured):
            self._measured = [np.arange(part.positions.size) for part in self._parts]
        self.before = self._criterion(self._parts, solution.bounds, scalars)
        self.table_scalars = self._scalars_of_tables(solution.bounds, scalars)
        self._pruners = [pruner(part.model.weights, self.table_scalars) for part in self._parts]
        self._done: dict[float, tuple[float, Float64 | None, Float64]] = {}

    def loss(self, threshold: float) -> float:
        """By how much the criterion rises, nats per token."""
        return self._at(threshold)[0]

    def fitted(self, threshold: float) -> tuple[Float64 | None, Float64]:
        """Bounds and scalars of what is left."""
        return self._at(threshold)[1:]

    def _at(self, threshold: float) -> tuple[float, Float64 | None, Float64]:
        if threshold not in self._done:
            pruned = [rounded(pruner.tables(threshold), self._step) for pruner in self._pruners]
            parts = [_pruned_part(*each) for each in zip(self._parts, pruned, strict=True)]
            bounds, scalars = prime(parts) if self._constant is None else (None, self._constant)
            self._done[threshold] = self._criterion(parts, bounds, scalars) - self.before, bounds, scalars
        return self._done[threshold]

    def _criterion(self, parts: Sequence[Part], bounds: Float64 | None, scalars: Float64) -> float:
        """That of priming, over the positions that are measured."""
        measured = [_only(part, chosen) for part, chosen in zip(parts, self._measured, strict=True)]
        return criterion(measured, bounds, scalars)

    def _scalars_of_tables(self, bounds: Float64 | None, scalars: Float64) -> TableScalars:
        rows, states = [], []
        for part in self._parts:
            model = PooledModel(part.model.weights, part.model.windows, part.model.induction, bounds)
            rows.append(part.rows)
            states.append(model.states(part.rows))
        n_tables = len(self._parts[0].model.weights.tables)
        return TableScalars.of(scalars, np.concatenate(rows, axis=1), np.concatenate(states), n_tables)


def _in_vocabulary(part: Part, unigram: Int64) -> Int64:
    """Positions of words that are in the vocabulary of the text without the part, given the counts of all of it."""
    left = unigram - np.bincount(part.stream.ids, minlength=unigram.size)
    rarest = min(unigram[unigram > 0].min(), LARGEST_MIN_COUNT)
    found: Int64 = np.flatnonzero(left[part.stream.ids[part.positions]] >= rarest)
    return found


def _only(part: Part, chosen: Int64) -> Part:
    """Some positions of a part."""
    return part._replace(
        positions=part.positions[chosen],
        rows=np.ascontiguousarray(part.rows[:, chosen]),
        target_u=np.ascontiguousarray(part.target_u[:, chosen]),
        keys=part.keys[chosen],
    )


def _pruned_part(part: Part, tables: Sequence[Table]) -> Part:
    """The positions of a part under the model of it with pruned tables."""
    weights = part.model.weights.with_tables(tables)
    rows = part.rows.copy()
    for row, table in zip(rows, weights.tables, strict=True):
        known = row >= 0
        row[known] = np.where(table.total[row[known]] > 0, row[known], -1)
    model = PooledModel(weights, part.model.windows, part.model.induction)
    return part._replace(model=model, rows=rows, target_u=weights.target_u(rows, part.stream.ids[part.positions]))


def _threshold_of_size(
    pruner: RowPruner, target: Target, reserved: int, bounds: Float64 | None, advance: Callable[[], object]
) -> float:
    """The threshold at which the rows leave ``reserved`` bytes of the size."""
    target_size, step = target.target_size, target.step
    assert target_size is not None

    def size(threshold: float) -> int:
        radius = len(pruner.weights.distance)
        tables = compact_tables(rounded(pruner.tables(threshold), step), radius)
        return reserved + _size_of(write_rows(tables, radius, bounds, step, pruner.weights.n_threads).values())

    smallest = size(EVERYTHING)
    if smallest > target_size:
        raise ValueError(
            f"target_size must be at least {smallest:,}, what the model takes without entries, got {target_size:,}"
        )
    inverse = search(lambda inverse: size(1.0 / inverse) / target_size, 1.0 / FIRST_THRESHOLD, advance)
    return 1.0 / inverse if inverse else EVERYTHING


def _size_of(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes + OVERHEAD_OF_ARRAY for array in arrays)


def search(share: Callable[[float], float], first: float, advance: Callable[[], object] = lambda: None) -> float:
    """The largest number found of which the share, which rises with it, is at most 1; 0 if it is for none.

    Parameters
    ----------
    share : callable
        What a number takes of a target; it may fall below zero.
    first : float
        Where to begin.
    advance : callable
        Called after each trial.

    Examples
    --------
    >>> 0.9 <= search(lambda x: x**2 / 25, first=1.0) ** 2 / 25 <= 1.0
    True
    """
    low, high, low_share = 0.0, math.inf, 0.0
    before, x = (0.0, 0.0), first
    for _ in range(MOST_TRIALS):
        found = share(x)
        advance()
        if found <= 1.0:
            is_the_end = found == low_share and low > 0.0 and high == math.inf  # nothing changes any more
            low, low_share = x, found
            if found >= CLOSE_ENOUGH or is_the_end:
                break
        else:
            high = x
        before, x = (x, found), _next(before, (x, found))
        if not low < x < high:
            x = math.sqrt(low * high)
    return low


def _next(before: tuple[float, float], now: tuple[float, float]) -> float:
    """Where the share would be what is aimed at, were it the power of the number that two trials show."""
    power, (x, found) = USUAL_POWER, now
    if found <= 0.0:
        return x * LONGEST_STEP
    if before[1] > 0.0 and before[1] != found:
        power = max(math.log(found / before[1]) / math.log(x / before[0]), LEAST_POWER)
    step: float = (AIM / found) ** (1.0 / power)
    return x * min(max(step, 1.0 / LONGEST_STEP), LONGEST_STEP)

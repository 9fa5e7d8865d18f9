"""The solution of a model: the weights and scalars that follow from what it has counted, made when they are needed.

Counting is quick, weighing takes longer, and fitting scalars longest; so neither is done before an answer asks for it,
and what has been made is kept until the counts change. After an update only the rows that a position needs are weighed,
until so many have been asked for that weighing all of them would have been cheaper.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from saffu.ngram_lm import backoff_priming, floor
from saffu.ngram_lm.backoff import BackoffTables
from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.floor import Floor
from saffu.ngram_lm.held_out_rows import CountsByRows
from saffu.ngram_lm.log_linear import PooledModel, default_scalars, previous_places
from saffu.ngram_lm.priming import FOLDS, Part, criterion, fold_parts, leave_one_out_part, n_positions, prime
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils.arrays import Float64, Int32, Int64
from saffu.utils.locks import Lock, made_once
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

NEWTON_STEPS = 16  # about as many as priming takes, for the bar
# Tokens of all text in which weighing every row costs what the rows of one position do.
TOKENS_PER_POSITION = 512
BATCH = 1 << 15  # positions scored at a time


class Solution:
    """Weights and scalars of a model; any number of threads may ask for them at once.

    Parameters
    ----------
    contexts : Contexts
    counted : CountedText
    n_threads : int, optional
    seconds : dict of str to float
        Seconds spent to "weigh" and to "prime" are added to it.

    Attributes
    ----------
    bounds : ndarray of float64, shape (n_levels,), or None
        Counts that split the states of a position; see :class:`saffu.ngram_lm.log_linear.PooledModel`.
    scalars : ndarray of float64, shape (n_states, n_columns), or None
        None until they are primed.
    share : float
        That of the floor, if the model has one.
    outdated : bool
        Whether text has come or gone since then.
    pooled : PooledModel or None
        Of all counts as they are now; None until all rows are weighed.
    """

    def __init__(
        self, contexts: Contexts, counted: CountedText, n_threads: int | None, seconds: dict[str, float]
    ) -> None:
        self.contexts, self.counted, self.n_threads, self.seconds = contexts, counted, n_threads, seconds
        self.bounds: Float64 | None = None
        self.scalars: Float64 | None = None
        self.share = 0.0
        self.outdated = False
        self.pooled: PooledModel | None = None
        self._floor_tables: BackoffTables | None = None
        self._n_asked = 0  # positions whose rows were weighed alone since the counts changed
        self._lock = Lock()

    def counts_changed(self, drop_scalars: bool = False) -> None:
        """Forget the weights, and the scalars, too, or else that they are those of all text."""
        self.pooled, self._floor_tables, self._n_asked = None, None, 0
        if drop_scalars:
            self.scalars = self.bounds = None
        else:
            self.outdated = True

    def branch(self) -> Solution:
        """The same weights and scalars, for counts that begin as these and to which text may be added."""
        scalars = self.primed_scalars()
        branch = Solution(self.contexts, self.counted.branch(), self.n_threads, dict(self.seconds))
        branch.bounds, branch.scalars, branch.outdated, branch.pooled = self.bounds, scalars, self.outdated, self.pooled
        branch.share, branch._floor_tables = self.share, self._floor_tables
        return branch

    def learn(self, stream: TokenStream) -> None:
        """Count the next checked stretch of the text, and keep the scalars."""
        self.counted.append(stream, self.n_threads, False, statistics=True)
        self.counts_changed()

    # ---- weighing and priming ----------------------------------------------------------------------------------------

    def prime(self, progress: bool | None) -> None:
        """Weigh all rows and fit the scalars, if that has not been done since the counts changed."""
        with self._lock:
            if self.pooled is None or self.scalars is None or self.outdated:
                self._prime(progress)

    def _prime(self, progress: bool | None) -> None:
        if self.counted.are_rows_read_alone and self.contexts.priming != "leave-one-out":
            self._prime_by_rows(progress)
            return
        counts, bounds, scalars = self.counted.total(), self.bounds, self.scalars
        began = time.perf_counter()
        weights = self._weights(self.counted.kept()) if self.pooled is None else self.pooled.weights
        self.seconds["weigh"] += time.perf_counter() - began
        began = time.perf_counter()
        if scalars is None or self.outdated:
            with progress_bar(FOLDS + NEWTON_STEPS, "prime", progress) as bar:
                bounds, scalars = self._fitted(PooledModel(weights, *self.contexts.pooled_windows), counts, bar.update)
        # Other threads take the scalars as a sign that all is there.
        self.pooled = PooledModel(weights, *self.contexts.pooled_windows, bounds)
        self.bounds, self.outdated = bounds, False
        self.scalars = scalars
        self.seconds["prime"] += time.perf_counter() - began

    def _prime_by_rows(self, progress: bool | None) -> None:
        """Fit the scalars, if that has not been done since the counts changed, without weighing all rows."""
        bounds, scalars = self.bounds, self.scalars
        began = time.perf_counter()
        if scalars is None or self.outdated:
            with progress_bar(FOLDS + NEWTON_STEPS, "prime", progress) as bar:
                bounds, scalars = self._fitted(None, self.counted.total(), bar.update)
            self.pooled = None  # its bounds are those of before
        self.bounds, self.outdated = bounds, False
        self.scalars = scalars
        self.seconds["prime"] += time.perf_counter() - began

    def prime_if_better(self, progress: bool | None) -> list[float]:
        """Prime, but keep the scalars if that makes the criterion higher; the criterion before and after."""
        bounds, scalars, counts = self.bounds, self.primed_scalars(), self.counted.total()
        model = PooledModel(self._weights(self.counted.kept()), *self.contexts.pooled_windows)
        with progress_bar(FOLDS + NEWTON_STEPS, "prime", progress) as bar:
            parts = self.priming_parts(model, counts, bar.update)
            self.bounds, self.scalars = prime(parts, bar.update)
        before, after = criterion(parts, bounds, scalars), criterion(parts, self.bounds, self.scalars)
        if not after <= before:
            self.bounds, self.scalars, after = bounds, scalars, before
        model.bounds = self.bounds
        self.pooled, self.outdated = model, False
        return [before, after]

    def _fitted(
        self, model: PooledModel | None, counts: NgramCounts, advance: Callable[[], object]
    ) -> tuple[Float64 | None, Float64]:
        """Bounds and scalars."""
        constant = self.contexts.constant_scalars()
        if constant is not None:
            return None, constant
        if self.contexts.is_backoff:
            parts = self.priming_parts(model, counts, advance)
            return None, backoff_priming.prime(parts, self.contexts.n_tables, advance)
        if self.counted.sample.n_tokens == 0:  # all text has been taken away again
            contexts = self.contexts
            n_others, n_suffixes = len(contexts.keys.names), contexts.order - 2
            return None, default_scalars(contexts.radius, n_suffixes, len(contexts.windows), n_others)[None]
        floors: list[BackoffTables] = []
        parts = self.priming_parts(model, counts, advance, floors)
        bounds, scalars = prime(parts, advance)
        self.share = floor.fitted_share(parts, floors, bounds, scalars) if self.contexts.floor else 0.0
        return bounds, scalars

    def priming_parts(
        self,
        model: PooledModel | None,
        counts: NgramCounts,
        advance: Callable[[], object] = lambda: None,
        floors: list[BackoffTables] | None = None,
    ) -> list[Part]:
        """The positions that scalars are fitted on; the model of all counts matters to leave-one-out alone.

        The floor of each part, if the model has one, is appended to ``floors``.
        """
        if self.contexts.priming == "leave-one-out":
            assert model is not None
            return [leave_one_out_part(model, self.counted.sample, self._priming_history, self._n_positions)]
        if self.contexts.is_backoff:
            return self.folds(counts, advance)
        by_rows = CountsByRows(self.counted, self.contexts, self.n_threads)

        def build(held: NgramCounts) -> PooledModel:
            if self.contexts.floor and floors is not None:
                floors.append(floor.tables_of(self.counted.total().subtract(held), self.n_threads))
            return by_rows.model(held)

        return self._fold_parts(by_rows, build, advance)

    def folds(self, counts: NgramCounts, advance: Callable[[], object] = lambda: None) -> list[Part]:
        """Positions of the text, each under a whole model that has not counted its block."""
        return self._fold_parts(counts, self.pooled_model, advance)

    def _fold_parts(
        self, counts: NgramCounts, build: Callable[[NgramCounts], PooledModel], advance: Callable[[], object]
    ) -> list[Part]:
        sample, history = self.counted.sample, self._priming_history
        return fold_parts(counts, sample, build, history, self._n_positions, self.n_threads, advance)

    @property
    def _n_positions(self) -> int:
        n_levels = self.contexts.order - 1
        return n_positions(2 * n_levels * len(self.contexts.columns))

    @property
    def _priming_history(self) -> int:
        windows, induction = self.contexts.windows, self.contexts.induction
        return max([*windows, induction, self.contexts.reach, self.contexts.order])

    def take(self, weights: NgramWeights, bounds: Float64 | None, scalars: Float64) -> None:
        """Answer with rows, bounds and scalars that were made elsewhere."""
        self.pooled = PooledModel(weights, *self.contexts.pooled_windows, bounds)
        self.bounds, self.scalars, self.outdated = bounds, scalars, False

    def _weights(self, counts: NgramCounts) -> NgramWeights:
        return NgramWeights(counts, self.contexts.is_backoff, self.n_threads, self.counted.counts.statistics)

    def pooled_model(self, counts: NgramCounts) -> PooledModel:
        """The pooled model of other counts."""
        weights = NgramWeights(counts, self.contexts.is_backoff, self.n_threads)
        return PooledModel(weights, *self.contexts.pooled_windows)

    # ---- weights and scalars for an answer ---------------------------------------------------------------------------

    def solved(self) -> tuple[PooledModel, Float64]:
        """All rows weighed, and the scalars: those there are, even if text has come since they were primed."""
        scalars = self.primed_scalars()
        return self._all_rows(), scalars

    @made_once("pooled")
    def _all_rows(self) -> PooledModel:
        began = time.perf_counter()
        model = PooledModel(self._weights(self.counted.kept()), *self.contexts.pooled_windows, self.bounds)
        self.seconds["weigh"] += time.perf_counter() - began
        return model

    @made_once("scalars")
    def primed_scalars(self) -> Float64:
        """The scalars of the last priming, the first of which is done here if it has not been."""
        self._prime(progress=False)
        assert self.scalars is not None
        return self.scalars

    def floor(self) -> Floor | None:
        """What is mixed into the probabilities of the pooled weights."""
        self.primed_scalars()
        return Floor(self._made_floor_tables(), self.share) if self.contexts.floor and self.share > 0.0 else None

    def floor_of(self, counts: NgramCounts) -> Floor | None:
        """The same of other counts."""
        return None if self.floor() is None else Floor(floor.tables_of(counts, self.n_threads), self.share)

    @made_once("_floor_tables")
    def _made_floor_tables(self) -> BackoffTables:
        began = time.perf_counter()
        tables = floor.tables_of(self.counted.total(), self.n_threads)
        self.seconds["weigh"] += time.perf_counter() - began
        return tables

    def log_prob(self, stream: TokenStream, positions: Int64, advance: Callable[[int], object]) -> Float64:
        """Log-probabilities, nats, of the tokens at ascending positions of a text, shape (n_positions,).

        ``advance`` is called with a number of positions when they have been scored.
        """
        found = np.empty(positions.size)
        model, rows = self.at(stream, positions)
        pool, threads = model.pool(self.primed_scalars()), resolve_threads(self.n_threads)
        previous = previous_places(stream.ids)
        for first in range(0, found.size, BATCH):
            places = slice(first, min(first + BATCH, found.size))
            batch_rows = rows[:, places]
            batch = model.batch(stream, positions[places], batch_rows, model.states(batch_rows), previous=previous)
            found[places] = pool.log_prob(batch, threads)
            advance(places.stop - first)
        mixed_in = self.floor()
        return found if mixed_in is None else mixed_in.log_prob(found, stream, positions, self.n_threads)

    def at(self, stream: TokenStream, positions: Int64) -> tuple[PooledModel, Int32]:
        """A model with the rows of some positions at least, and which rows they are, shape (n_tables, n_positions)."""
        # Contexts of suffixes are looked up from their oldest token on; nothing older matters.
        first = max(int(positions.min()) - max(self.contexts.radius, self.contexts.reach), 0)
        starts: Int64 = np.union1d([0], np.maximum(stream.starts - first, 0)).astype(np.int64)
        near = TokenStream(stream.ids[first:], starts)
        if self._is_cheaper_alone(positions.size):
            found = self.counted.counts.rows(near, positions - first, least=self.counted.least_counts())
            weights = NgramWeights.of_rows(found, self.counted.counts.statistics, self.n_threads, self.contexts.keys)
            return PooledModel(weights, *self.contexts.pooled_windows, self.bounds), found.place
        model, _ = self.solved()
        return model, np.ascontiguousarray(model.weights.contexts(near)[:, positions - first])

    def _is_cheaper_alone(self, n_positions: int) -> bool:
        """Whether it is cheaper to weigh the rows of so many positions alone than to weigh all, now or soon."""
        if self.pooled is not None or self.scalars is None or self.contexts.is_backoff or self.contexts.floor:
            return False
        self._n_asked += n_positions
        return self._n_asked * TOKENS_PER_POSITION <= self.counted.counts.n_tokens

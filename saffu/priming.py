"""Priming: how much to trust each context, fitted by Newton on the training text itself.

Two ways to keep a position from vouching for itself. *k-fold* subtracts the counts of whole blocks of text, exactly,
and fits the scalars on those blocks: what the model meets at use, text of documents it has not counted.
*Leave-one-out* takes only the position's own count from its target. It needs no second set of weights, but the other
words of its rows keep theirs, and the rest of its document stays counted, so it trusts long contexts more, and the
recent past less, than new text deserves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saffu.counts import NgramCounts
from saffu.explicit import newton
from saffu.pooled import PooledModel, default_scalars
from saffu.sample import BLOCK, Piece, TokenSample, join

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

POSITIONS = 40_000  # positions to prime on; the scalars are a hundred at most
COARSE_POSITIONS = 6_000
FOLDS = 20
STRENGTH = 10.0  # nats by which a scalar one away from its default must pay
BELOW_ZERO = 1000.0  # nats, twice, by which the scalar of a context pays that is -1: see `_minimise`


class Part(NamedTuple):
    """Positions of one stream under one set of weights, each array with a column (or entry) per position."""

    model: PooledModel
    ids: Int32
    documents: Int64
    positions: Int64
    rows: Int32
    target_u: Float64
    left_out: int

    def thin(self, every: int) -> Part:
        """Every ``every``-th position."""
        return self._replace(
            positions=self.positions[::every],
            rows=np.ascontiguousarray(self.rows[:, ::every]),
            target_u=np.ascontiguousarray(self.target_u[:, ::every]),
        )


def prime(parts: Sequence[Part], on_step: Callable[[], object] = lambda: None) -> tuple[Float64 | None, Float64]:
    """Fit the scalars of a pooled model.

    Parameters
    ----------
    parts : sequence of Part
        Their models differ in counts only.
    on_step : callable
        Called after each Newton step.

    Returns
    -------
    bounds : ndarray of float64, shape (n_levels,), or None
        Median counts that split the states of a level; None if there is nothing to prime on.
    scalars : ndarray of float64, shape (n_states, 2 + n_features)
    """
    weights = parts[0].model.weights
    start = default_scalars(len(weights.distance), len(weights.suffix), len(parts[0].model.windows))
    n = sum(part.positions.size for part in parts)
    if n == 0:
        return None, start[None]
    coarse = [part.thin(max(n // COARSE_POSITIONS, 1)) for part in parts]
    shared = _minimise(coarse, None, start[None], 1e-4, on_step)
    bounds = _median_counts(parts)
    scalars = _minimise(coarse, bounds, np.repeat(shared, 2 * bounds.size, axis=0), 1e-4, on_step)
    if n > COARSE_POSITIONS:
        # From the optimum of a sample, one Newton step on all positions is as good as many.
        scalars = _minimise(parts, bounds, scalars, 1e-3, on_step)
    return bounds, scalars


def criterion(parts: Sequence[Part], bounds: Float64 | None, scalars: Float64) -> float:
    """What priming lowers: the mean negative log-probability of the positions with these scalars, nats per token."""
    total, n = 0.0, 0
    for part in parts:
        model, batch = _with_states(part, bounds)
        total -= float(model.pool(scalars).derivatives(batch, False, model.weights.n_threads)[0].sum())
        n += part.positions.size
    return total / max(n, 1)


def _with_states(part: Part, bounds: Float64 | None) -> tuple[PooledModel, Any]:
    """The model of a part with these states, and the part as a batch of it."""
    model = PooledModel(part.model.weights, part.model.windows, part.model.induction, bounds)
    states = model.states(part.rows, part.left_out)
    return model, model.batch(part.ids, part.documents, part.positions, part.rows, states, part.target_u)


def _minimise(
    parts: Sequence[Part], bounds: Float64 | None, start: Float64, tolerance: float, on_step: Callable[[], object]
) -> Float64:
    """Newton on the mean negative log-likelihood plus a ridge towards the start, to a tolerance in nats per token.

    Where the words after a context are equally frequent, what a position leaves out makes its own word the rarest each
    time, and a scalar far below zero would seem right. So scalars of contexts hardly go below zero.
    """
    n = sum(part.positions.size for part in parts)
    ridge = STRENGTH / n
    batches = [_with_states(part, bounds) for part in parts]

    def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
        scalars, away = theta.reshape(start.shape), theta - start.ravel()
        value, gradient, hessian = ridge / 2 * float(away @ away), ridge * away, ridge * np.eye(theta.size)
        below = np.minimum(scalars, 0.0)
        below[:, :2] = 0.0  # the unigrams are no contexts
        value += BELOW_ZERO / (2 * n) * float((below * below).sum())
        gradient = gradient + BELOW_ZERO / n * below.ravel()
        hessian += BELOW_ZERO / n * np.diag((below < 0).ravel())
        for model, batch in batches:
            threads = model.weights.n_threads
            log_prob, first, second = model.pool(scalars).derivatives(batch, derivatives, threads)
            value -= float(log_prob.sum()) / n
            gradient = gradient + first.ravel() / n
            if second is not None:
                _add_blocks(hessian, second / n)
        return value if np.isfinite(value) else np.inf, gradient, hessian

    def step(*_: object) -> None:
        on_step()

    return newton(evaluate, start.ravel(), tolerance=tolerance, on_step=step).reshape(start.shape)


def _add_blocks(matrix: Float64, blocks: Float64) -> None:
    """Add square blocks along the diagonal: states share no scalar."""
    n_states, size, _ = blocks.shape
    diagonal = matrix.reshape(n_states, size, n_states, size)
    state = np.arange(n_states)
    diagonal[state, :, state, :] += blocks


def _median_counts(parts: Sequence[Part]) -> Float64:
    """Per level, the median count of the longest known suffix."""
    found = [part.model.level_and_count(part.rows, part.left_out) for part in parts]
    level, count = (np.concatenate(values) for values in zip(*found, strict=True))
    n_levels = 1 + len(parts[0].model.weights.suffix)
    return np.array([np.median(count[level == j]) if (level == j).any() else 0.0 for j in range(n_levels)])


# ---- positions to prime on -------------------------------------------------------------------------------------------


def usable_positions(documents: Int64, true_start: NDArray[np.bool_], n: int, history: int) -> Int64:
    """Positions whose whole past is at hand: in a document that begins here, or ``history`` tokens into a piece."""
    lengths = np.diff(np.append(documents, n))
    age = np.arange(n) - np.repeat(documents, lengths)
    return np.flatnonzero(np.repeat(true_start, lengths) | (age >= history))


def fold_parts(
    counts: NgramCounts,
    sample: TokenSample,
    build: Callable[[NgramCounts], PooledModel],
    history: int,
    n_threads: int | None = None,
    on_fold: Callable[[], object] = lambda: None,
) -> list[Part]:
    """Blocks of the sample, each scored by a model from which their counts are subtracted.

    A fold holds at most a twentieth of the text, so that its model is nearly the whole one; as many folds are made as
    it takes to reach 40,000 positions, up to twenty.
    """
    length = max(min(BLOCK, sample.n_tokens // FOLDS), 1)
    units = sample.units(length)
    per_fold = max(min(-(-POSITIONS // length), counts.n_tokens // (FOLDS * length)), 1)
    n_folds = min(-(-POSITIONS // (per_fold * length)), FOLDS, len(units) // per_fold)
    chosen = np.linspace(0, len(units), n_folds * per_fold, endpoint=False).astype(int)
    parts = []
    for fold in range(n_folds):
        ids, documents, true_start = join([units[j] for j in chosen[fold::n_folds]])
        held = NgramCounts.from_stream(
            ids, documents, counts.vocab_size, counts.radius, counts.order, n_threads=n_threads
        )
        model = build(counts.subtract(held))
        positions = usable_positions(documents, true_start, ids.size, min(history, length // 2))
        rows = np.ascontiguousarray(model.weights.contexts(ids, documents)[:, positions])
        target_u = model.weights.target_u(rows, ids[positions])
        parts.append(Part(model, ids, documents, positions, rows, target_u, 0))
        on_fold()
    return parts


def leave_one_out_part(model: PooledModel, sample: TokenSample, history: int) -> Part:
    """Positions of the sample under the whole model, each with its own count taken from its target."""
    pieces = [Piece(block.ids, block.starts) for block in sample.blocks]
    ids, documents, true_start = join(pieces)
    positions = usable_positions(documents, true_start, ids.size, min(history, BLOCK // 2))
    if positions.size > POSITIONS:
        positions = positions[np.linspace(0, positions.size - 1, POSITIONS).astype(np.int64)]
    rows = np.ascontiguousarray(model.weights.contexts(ids, documents)[:, positions])
    rows, target_u = model.weights.leave_one_out(rows, ids[positions])
    return Part(model, ids, documents, positions, rows, target_u, 1)

"""Priming: the weight of each context, fitted by Newton on the training text itself.

Two ways to keep a position's own count out of its probability. *k-fold* subtracts the counts of whole blocks of text,
exactly, and fits the scalars on those blocks: what the model meets at use, text of documents it has not counted.
*Leave-one-out* takes only the position's own count from its target. It needs no second set of weights, but the other
words of its rows keep theirs, and the rest of its document stays counted, so it gives long contexts more weight, and
the recent past less, than is right for new text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from saffu.explicit.newton import newton
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.log_linear import PooledModel, default_scalars
from saffu.ngram_lm.text_blocks import BLOCK
from saffu.ngram_lm.text_sample import Pieces, TokenSample
from saffu.utils.arrays import Float64, Int32, Int64, UInt64
from saffu.utils.fingerprints import mixed
from saffu.utils.streams import TokenStream

POSITIONS = 40_000  # positions to prime on; the scalars are a hundred at most
COARSE_POSITIONS = 6_000
MOST_HELD_OUT = 2 * POSITIONS  # tokens of a fold
FOLDS = 20
STRENGTH = 10.0  # nats by which a scalar one away from its default must pay
BELOW_ZERO = 1000.0  # nats, twice, by which the scalar of a context pays that is -1: see `_minimise`


class Part(NamedTuple):
    """Positions of one stream under one set of weights, each array with a column (or entry) per position.

    ``keys`` are numbers that identify positions, spread evenly over 64 bits.
    """

    model: PooledModel
    stream: TokenStream
    positions: Int64
    rows: Int32
    target_u: Float64
    left_out: int
    keys: UInt64

    def thin(self, limit: np.uint64) -> Part:
        """The positions with keys up to a limit."""
        chosen = np.flatnonzero(self.keys <= limit)
        return self._replace(
            positions=self.positions[chosen],
            rows=np.ascontiguousarray(self.rows[:, chosen]),
            target_u=np.ascontiguousarray(self.target_u[:, chosen]),
            keys=self.keys[chosen],
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
    coarse = [part.thin(_nth_key(parts, COARSE_POSITIONS)) for part in parts]
    shared = _minimise(coarse, None, start[None], 1e-4, on_step)
    bounds = _median_counts(parts)
    scalars = _minimise(coarse, bounds, np.repeat(shared, 2 * bounds.size, axis=0), 1e-4, on_step)
    if n > COARSE_POSITIONS:
        # From the optimum of a sample, one Newton step on all positions is as good as many.
        scalars = _minimise(parts, bounds, scalars, 1e-3, on_step)
    return bounds, scalars


def _nth_key(parts: Sequence[Part], n: int) -> np.uint64:
    """The key up to which there are n positions, or the largest: these are drawn as if by chance, whatever repeats."""
    keys = np.concatenate([part.keys for part in parts])
    found: np.uint64 = np.partition(keys, n - 1)[n - 1] if n < keys.size else keys.max()
    return found


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
    return model, model.batch(part.stream, part.positions, part.rows, states, part.target_u)


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


def usable_positions(pieces: Pieces, history: int) -> tuple[Int64, UInt64]:
    """Positions of joined pieces whose whole past is at hand, and their keys.

    They are of a piece that opens a document, or ``history`` tokens into a piece.
    """
    begins = np.cumsum(pieces.lengths) - pieces.lengths
    age = np.arange(pieces.lengths.sum()) - np.repeat(begins, pieces.lengths)
    positions = np.flatnonzero(np.repeat(pieces.opens, pieces.lengths) | (age >= history))
    return positions, mixed(np.repeat(pieces.keys, pieces.lengths)[positions] + age[positions].astype(np.uint64))


def fold_parts(
    counts: NgramCounts,
    sample: TokenSample,
    build: Callable[[NgramCounts], PooledModel],
    history: int,
    n_threads: int | None = None,
    on_fold: Callable[[], object] = lambda: None,
) -> list[Part]:
    """Pieces of the sample, each scored by a model from which the counts of its fold are subtracted.

    Pieces are dealt to folds in the order of the sample, which depends on the text alone. A fold holds at most about a
    twentieth of the text, so that its model is nearly the whole one; as many folds are made as it takes to reach
    40,000 tokens, up to twenty. Of more positions as many are drawn: those of more text carry more information.
    """
    length = max(min(BLOCK, sample.n_tokens // FOLDS), 1)
    pieces = sample.pieces(length)
    per_fold = max(min(MOST_HELD_OUT, counts.n_tokens // FOLDS), 1)
    before = np.cumsum(pieces.lengths) - pieces.lengths
    parts = []
    for fold in range(min(-(-POSITIONS // per_fold), FOLDS)):
        chosen = pieces.only(before // per_fold == fold)
        if chosen.keys.size:
            parts.append(_fold_part(counts, chosen, build, min(history, length // 2), n_threads))
        on_fold()
    if sum(part.positions.size for part in parts) > POSITIONS:
        limit = _nth_key(parts, POSITIONS)
        parts = [part.thin(limit) for part in parts]
    return parts


def _fold_part(
    counts: NgramCounts,
    pieces: Pieces,
    build: Callable[[NgramCounts], PooledModel],
    history: int,
    n_threads: int | None,
) -> Part:
    """Some pieces under a model that has not counted them."""
    stream = pieces.joined()
    held = counts.of_stream(stream, opens=pieces.opens, n_threads=n_threads)
    model = build(counts.subtract(held))
    positions, keys = usable_positions(pieces, history)
    rows = np.ascontiguousarray(model.weights.contexts(stream, pieces.opens)[:, positions])
    target_u = model.weights.target_u(rows, stream.ids[positions])
    return Part(model, stream, positions, rows, target_u, 0, keys)


def leave_one_out_part(model: PooledModel, sample: TokenSample, history: int) -> Part:
    """Positions of the sample under the whole model, each with its own count taken from its target."""
    pieces = sample.pieces(BLOCK)
    stream = pieces.joined()
    positions, keys = usable_positions(pieces, min(history, BLOCK // 2))
    if positions.size > POSITIONS:
        chosen = np.sort(np.argpartition(keys, POSITIONS)[:POSITIONS])
        positions, keys = positions[chosen], keys[chosen]
    rows = np.ascontiguousarray(model.weights.contexts(stream, pieces.opens)[:, positions])
    rows, target_u = model.weights.leave_one_out(rows, stream.ids[positions])
    return Part(model, stream, positions, rows, target_u, 1, keys)

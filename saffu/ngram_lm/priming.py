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

# Scalars fitted on n positions lose about p / (2 n) nats a token on new text, where p is their number: the expected
# excess of a maximum-likelihood fit, 1/2 tr(H Cov) with Cov = H^-1 / n. Measured on three corpora with 3,000 and 6,000
# positions it holds within 15 %; p is 71 there, tr(H^-1 times H without the ridge), of 78 scalars.
LOSS = 0.0015  # nats per token that may be lost so
SHARED_POSITIONS = 1_500  # to solve for the scalars that all states have in common, where the others start
COARSE_POSITIONS = 6_000  # at least, to solve for all scalars; a step on all positions follows
COARSE_PER_SCALAR = 75  # positions; with fewer, what the step leaves shows: 0.35 % in perplexity with 17 a scalar
MOST_POSITIONS = 40_000  # however many scalars there are
MOST_HELD_OUT = 2 * MOST_POSITIONS  # tokens of a fold
FOLDS = 20
# Nats per token that a last step is to gain at most. From the optimum of a sample a step on all positions gains about
# 0.006; it is trusted unless it promises much more.
TOLERANCE, COARSE_TOLERANCE, FINE_TOLERANCE = 1e-4, 1e-3, 1e-2
STRENGTH = 10.0  # nats by which a scalar one away from its default must pay
BELOW_ZERO = 1000.0  # nats, twice, by which the scalar of a context pays that is -1: see `Objective`


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


def n_positions(n_scalars: int) -> int:
    """How many positions to prime so many scalars on: no fewer than it takes to lose 0.0015 nats a token, about."""
    return min(max(round(n_scalars / (2 * LOSS)), COARSE_POSITIONS), MOST_POSITIONS)


def prime(parts: Sequence[Part], on_step: Callable[[], object] = lambda: None) -> tuple[Float64 | None, Float64]:
    """Fit the scalars of a pooled model.

    From coarse to fine: those that all states share on a few positions; then all, to the optimum of some positions;
    then one Newton step whose gradient is of all positions and whose Hessian is of some (Byrd, Chin, Neveitt and
    Nocedal 2011). That step leaves a fifth of the distance that the sample of some has left, or less, so a twentieth of
    its loss.

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
    n_near = len(weights.distance) + len(weights.suffix)
    n_others = len(weights.columns) - n_near
    start = default_scalars(len(weights.distance), len(weights.suffix), len(parts[0].model.windows), n_others)
    n = sum(part.positions.size for part in parts)
    if n == 0:
        return None, start[None]

    def step(*_: object) -> None:
        on_step()

    n_scalars = start.size * 2 * (1 + len(weights.suffix))
    n_coarse = max(COARSE_POSITIONS, COARSE_PER_SCALAR * n_scalars)
    small = n <= n_coarse
    few = parts if small else [part.thin(_nth_key(parts, SHARED_POSITIONS)) for part in parts]
    tolerance, trust = (TOLERANCE, 0.0) if small else (COARSE_TOLERANCE, COARSE_TOLERANCE)
    shared = newton(Objective(few, None, start[None]), start, tolerance=tolerance, trust=trust, on_step=step)
    bounds = _median_counts(parts)
    start = np.repeat(shared[None], 2 * bounds.size, axis=0)
    if small:
        objective = Objective(parts, bounds, start)
        return bounds, objective.scalars(newton(objective, start.ravel(), tolerance=TOLERANCE, on_step=step))
    some = [part.thin(_nth_key(parts, n_coarse)) for part in parts]
    coarse = Objective(some, bounds, start)
    theta = newton(coarse, start.ravel(), tolerance=COARSE_TOLERANCE, trust=COARSE_TOLERANCE, on_step=step)
    fine = Objective(parts, bounds, start, coarse.data_hessian)
    return bounds, fine.scalars(newton(fine, theta, tolerance=FINE_TOLERANCE, trust=FINE_TOLERANCE, on_step=step))


def _nth_key(parts: Sequence[Part], n: int) -> np.uint64:
    """The key up to which there are n positions, or the largest: these are drawn as if by chance, whatever repeats."""
    keys = np.concatenate([part.keys for part in parts])
    found: np.uint64 = np.partition(keys, n - 1)[n - 1] if n < keys.size else keys.max()
    return found


class Objective:
    """What priming lowers, for :func:`saffu.explicit.newton.newton`, in nats per token.

    The mean negative log-likelihood of some positions plus a ridge towards the start. Where the words after a context
    are equally frequent, what a position leaves out makes its own word the rarest each time, and a scalar far below
    zero would seem right. So scalars of contexts hardly go below zero.

    Parameters
    ----------
    parts : sequence of Part
    bounds : ndarray of float64, shape (n_levels,), or None
    start : ndarray of float64, shape (n_states, 2 + n_features)
    data_hessian : ndarray of float64, shape (n_states, 2 + n_features, 2 + n_features), optional
        Take this for the Hessian of the mean negative log-likelihood: that of other positions, for example.

    Attributes
    ----------
    start : ndarray of float64, shape (n_states, 2 + n_features)
    data_hessian : ndarray of float64 or None
        As given, or the last that was computed.
    """

    def __init__(
        self, parts: Sequence[Part], bounds: Float64 | None, start: Float64, data_hessian: Float64 | None = None
    ) -> None:
        self.start, self.data_hessian = start, data_hessian
        self._is_given = data_hessian is not None
        self._n = sum(part.positions.size for part in parts)
        self._batches = [_with_states(part, bounds) for part in parts]

    def scalars(self, theta: Float64) -> Float64:
        """A point as scalars of each state."""
        return theta.reshape(self.start.shape)

    def __call__(self, theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64 | None]:
        """Value, gradient and Hessian."""
        scalars, n = self.scalars(theta), self._n
        away, below = theta - self.start.ravel(), np.minimum(scalars, 0.0)
        below[:, :2] = 0.0  # the unigrams are no contexts
        value = (STRENGTH * float(away @ away) + BELOW_ZERO * float((below * below).sum())) / (2 * n)
        gradient = (STRENGTH * away + BELOW_ZERO * below.ravel()) / n
        with_second, blocks = derivatives and not self._is_given, np.zeros(1)
        for model, batch in self._batches:
            found = model.pool(scalars).derivatives(batch, with_second, model.weights.n_threads)
            value -= float(found[0].sum()) / n
            gradient = gradient + found[1].ravel() / n
            blocks = blocks if found[2] is None else blocks + found[2] / n
        if with_second:
            self.data_hessian = blocks
        value = value if np.isfinite(value) else np.inf
        if not derivatives:
            return value, gradient, None
        assert self.data_hessian is not None
        hessian = np.diag((STRENGTH + BELOW_ZERO * (below < 0).ravel()) / n)
        _add_blocks(hessian, self.data_hessian)
        return value, gradient, hessian


def criterion(parts: Sequence[Part], bounds: Float64 | None, scalars: Float64) -> float:
    """What priming lowers: the mean negative log-probability of the positions with these scalars, nats per token."""
    n = sum(part.positions.size for part in parts)
    return -sum(float(log_prob_of(part, bounds, scalars).sum()) for part in parts) / max(n, 1)


def log_prob_of(part: Part, bounds: Float64 | None, scalars: Float64) -> Float64:
    """The log-probabilities, nats, of the tokens at the positions of a part."""
    model, batch = _with_states(part, bounds)
    found: Float64 = model.pool(scalars).derivatives(batch, False, model.weights.n_threads)[0]
    return found


def _with_states(part: Part, bounds: Float64 | None) -> tuple[PooledModel, Any]:
    """The model of a part with these states, and the part as a batch of it."""
    model = PooledModel(part.model.weights, part.model.windows, part.model.induction, bounds)
    states = model.states(part.rows, part.left_out)
    return model, model.batch(part.stream, part.positions, part.rows, states, part.target_u)


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
    n_wanted: int,
    n_threads: int | None = None,
    on_fold: Callable[[], object] = lambda: None,
) -> list[Part]:
    """Pieces of the sample, each scored by a model from which the counts of its fold are subtracted.

    Pieces are dealt to folds in the order of the sample, which depends on the text alone. A fold holds at most about a
    twentieth of the text, so that its model is nearly the whole one; as many folds are made as it takes to reach
    ``n_wanted`` tokens, up to twenty. Of more positions as many are drawn: those of more text carry more information.
    """
    length = max(min(BLOCK, sample.n_tokens // FOLDS), 1)
    pieces = sample.pieces(length)
    per_fold = max(min(MOST_HELD_OUT, counts.n_tokens // FOLDS), 1)
    before = np.cumsum(pieces.lengths) - pieces.lengths
    parts = []
    for fold in range(min(-(-n_wanted // per_fold), FOLDS)):
        chosen = pieces.only(before // per_fold == fold)
        if chosen.keys.size:
            parts.append(_fold_part(counts, chosen, build, min(history, length // 2), n_threads))
        on_fold()
    if sum(part.positions.size for part in parts) > n_wanted:
        limit = _nth_key(parts, n_wanted)
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


def leave_one_out_part(model: PooledModel, sample: TokenSample, history: int, n_wanted: int) -> Part:
    """Positions of the sample under the whole model, each with its own count taken from its target."""
    pieces = sample.pieces(BLOCK)
    stream = pieces.joined()
    positions, keys = usable_positions(pieces, min(history, BLOCK // 2))
    if positions.size > n_wanted:
        chosen = np.sort(np.argpartition(keys, n_wanted)[:n_wanted])
        positions, keys = positions[chosen], keys[chosen]
    rows = np.ascontiguousarray(model.weights.contexts(stream, pieces.opens)[:, positions])
    rows, target_u = model.weights.leave_one_out(rows, stream.ids[positions])
    return Part(model, stream, positions, rows, target_u, 1, keys)

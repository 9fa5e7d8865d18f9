"""Explicit weights pooled by scalars: what a position sees, and the probability that follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saffu import _core
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils import validate
from saffu.utils.arrays import Float64, Int32, Int64, take
from saffu.utils.streams import TokenStream

Packed = _core.Packed

INDUCTION_MASS = 2.0


def window_mass(lengths: Sequence[int]) -> Float64:
    """Tokens of the unigram that a window of L tokens is smoothed by: M = L."""
    return np.array(lengths, np.float64)


def previous_places(ids: Int32) -> Int32:
    """The last place before each with the same token, or -1."""
    order = np.argsort(ids, kind="stable").astype(np.int32)
    again = ids[order[1:]] == ids[order[:-1]]
    found = np.full(ids.size, -1, np.int32)
    found[order[1:][again]] = order[:-1][again]
    return found


def default_scalars(n_distances: int, n_suffixes: int, n_windows: int, n_keyed: int = 0) -> Float64:
    """Scalars to start from and to stay near where text is scarce: (alpha, beta, lambda of each feature)."""
    distances = [0.8, *[0.2] * (n_distances - 1)]
    return np.array([0.0, 1.0, *distances, *[0.5] * n_suffixes, *[0.1] * n_keyed, *[0.2] * n_windows, 0.1])


class PooledModel:
    """``softmax(alpha log p + beta log p_cont + sum_k lambda_k x_k)`` with scalars chosen by the state of a position.

    The state of a position is how far its context is known: 2 j + 1 if its longest known suffix has j + 1
    tokens and was seen more than ``bounds[j]`` times, 2 j if not. Suffixes longer than there are bounds do not matter.
    Without bounds there is one state.

    Parameters
    ----------
    weights : NgramWeights
    windows : sequence of int
        Lengths of the document windows, tokens.
    induction : int
        Length of the induction window, tokens; 0 for none.
    bounds : ndarray of float64, shape (n_levels,), optional
    """

    def __init__(
        self, weights: NgramWeights, windows: Sequence[int], induction: int, bounds: Float64 | None = None
    ) -> None:
        self.weights, self.windows, self.induction, self.bounds = weights, tuple(windows), induction, bounds
        vocab_size = weights.vocab_size
        self._log_prior = np.zeros((2, -(-vocab_size // _core.BLOCK) * _core.BLOCK))
        self._log_prior[0, :vocab_size] = np.log(weights.unigram)
        self._log_prior[1, :vocab_size] = np.log(weights.continuation)

    @property
    def n_states(self) -> int:
        """Number of rows of the scalars."""
        return 1 if self.bounds is None else 2 * self.bounds.size

    def level_and_count(self, rows: Int32, left_out: int = 0, n_levels: int | None = None) -> tuple[Int64, Float64]:
        """Longest known suffix of each position, less one token, and how often it was seen; of the first levels."""
        n_levels = 1 + len(self.weights.suffix) if n_levels is None else n_levels
        suffixes = rows[len(self.weights.distance) :][: n_levels - 1]
        count = np.zeros(rows.shape[1])
        tables = [self.weights.distance[0], *self.weights.suffix[: n_levels - 1]]
        for table, row in zip(tables, [rows[0], *suffixes], strict=True):
            count = np.where(row >= 0, take(table.total, row) - left_out, count)
        return np.count_nonzero(suffixes >= 0, axis=0), count

    def states(self, rows: Int32, left_out: int = 0) -> Int32:
        """State of each position; with ``left_out`` = 1 as if it had not been counted itself."""
        if self.bounds is None:
            return np.zeros(rows.shape[1], np.int32)
        level, count = self.level_and_count(rows, left_out, self.bounds.size)
        return (2 * level + (count > self.bounds[level])).astype(np.int32)

    def packed_rows(self, rows: Int32) -> Int32:
        """Rows within their own tables, shape (n_contexts, T), as rows of the packed tables."""
        n_rows = int(self.weights.first_rows[-1])
        if n_rows > validate.INT32_MAX:
            raise ValueError(f"the tables must have at most {validate.INT32_MAX} rows in all, got {n_rows}")
        return np.where(rows >= 0, rows + self.weights.first_rows[self.weights.columns, None], -1).astype(np.int32)

    def batch(
        self,
        stream: TokenStream,
        positions: Int64,
        rows: Int32,
        states: Int32,
        target_u: Float64 | None = None,
        previous: Int32 | None = None,
    ) -> _core.Batch:
        """Positions of a stream, ready for the kernels; rows and target_u have shape (n_tables, n_positions).

        ``previous``, from :func:`previous_places`, saves a pass over the stream for each of many batches.
        """
        return _core.Batch(
            stream.ids,
            np.ascontiguousarray(positions, np.int64),
            np.ascontiguousarray(stream.begins(positions), np.int64),
            np.ascontiguousarray(self.packed_rows(rows).T),
            states,
            None if target_u is None else np.ascontiguousarray(target_u.T),
            previous,
        )

    def pool(self, scalars: Float64, packed: Packed | None = None) -> _core.Pool:
        """The model with these scalars, shape (n_states, 2 + n_features); ``packed`` may stand in for its rows."""
        return _core.Pool(
            self.weights.packed if packed is None else packed,
            self._log_prior,
            self.weights.unigram,
            np.ascontiguousarray(scalars),
            len(self.weights.columns),
            np.array(self.windows, np.int64),
            window_mass(self.windows),
            self.induction,
            INDUCTION_MASS,
            self.weights.n_threads,
        )

"""A bounded sample of labelled rows: what priming needs of rows that are not kept.

Which rows stay is decided by a hash of their number in the stream, so that neither the period of the stream nor the
chunks in which it comes have a say. Rows are thinned class by class, the largest classes first, and a row that stays
stands for those of its class that went.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse, vstack

from saffu import _core
from saffu._validate import Matrix

SAMPLE_ROWS = 20_000  # two scalars need no more
SAMPLE_VALUES = 1 << 23  # stored feature values; a bound on the memory that a sample takes
DEEPEST = 62  # times that a class can be halved

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


class Primed(NamedTuple):
    """Rows for priming, equal ones together, in an order that follows from their content."""

    features: Matrix
    targets: NDArray
    repeats: Float64  # the weight of each row, in rows of weight one
    weights: Float64  # the same times the rows that each stands for


class RowSample:
    """Training rows kept for priming, at most ``SAMPLE_ROWS`` of them with ``SAMPLE_VALUES`` feature values.

    Each row has a level, which half of all rows have at least one of, a quarter at least two, and so on: the leading
    zeros of a hash of its number. A row stays while its level is not below the depth of its class. The depths are the
    least with which no class has more rows than ``cap``, and ``cap`` is the largest of ``SAMPLE_ROWS``,
    ``SAMPLE_ROWS / 2``, ``SAMPLE_ROWS / 4`` .. with which all fit. More rows never lower a depth, so that the sample
    is the same in whatever chunks the rows come.

    Soft targets belong to the class of their largest share.
    """

    def __init__(
        self,
        n_seen: int = 0,
        cap: float | None = None,
        depth: Int64 | None = None,
        index: Int64 | None = None,
        level: Int64 | None = None,
        features: Matrix = None,
        targets: NDArray | None = None,
        weights: Float64 | None = None,
    ):
        self.n_seen = n_seen
        self.cap = float(SAMPLE_ROWS) if cap is None else cap
        self.depth = np.zeros(1, np.int64) if depth is None else depth
        self.index = np.empty(0, np.int64) if index is None else index
        self.level = np.empty(0, np.int64) if level is None else level
        self.features, self.targets = features, targets
        self.weights = np.empty(0) if weights is None else weights

    def add(self, features: Matrix, targets: NDArray, weights: Float64 | None, n_classes: int) -> None:
        """Take what is due from the next rows of the stream."""
        if self.depth.size < n_classes:
            self.depth = np.zeros(n_classes, np.int64)
        n = targets.shape[0]
        index = self.n_seen + np.arange(n)
        level, stratum = levels(index), strata(targets)
        due = np.flatnonzero(level >= self.depth[stratum])
        # A chunk alone may call for greater depths: find them before copying its rows.
        cap, depth = _fitting(self.cap, self.depth, level[due], stratum[due], row_sizes(features)[due])
        due = due[level[due] >= depth[stratum[due]]]
        kept = np.ones(due.size) if weights is None else weights[due]
        rows = features if due.size == n else features[due]
        self._append(RowSample(0, cap, depth, index[due], level[due], rows, targets[due], kept))
        self.n_seen += n

    def merge(self, other: RowSample) -> None:
        """Take over another stream's sample, as if its rows had come after this one's.

        If the other stream was not thinned, that gives the sample of both streams as one.
        """
        if other.features is None or other.targets is None:
            self.n_seen += other.n_seen
            return
        index = other.index + self.n_seen
        level = np.minimum(other.depth[strata(other.targets)] + levels(index), DEEPEST)
        depth = np.maximum(self.depth, other.depth)
        self._append(
            RowSample(
                0, min(self.cap, other.cap), depth, index, level, other.features, other.targets, other.weights.copy()
            )
        )
        self.n_seen += other.n_seen

    def _append(self, other: RowSample) -> None:
        """Take rows of known levels over, and thin all to a cap and depths not below those of either."""
        if self.features is None or self.targets is None:
            index, level, features, targets, weights = (
                other.index,
                other.level,
                other.features,
                other.targets,
                other.weights,
            )
        else:
            index = np.concatenate([self.index, other.index])
            level = np.concatenate([self.level, other.level])
            stack = vstack if issparse(self.features) or issparse(other.features) else np.concatenate
            features = stack([self.features, other.features])
            features = csr_array(features) if issparse(features) else features
            targets = np.concatenate([self.targets, other.targets])
            weights = np.concatenate([self.weights, other.weights])
        stratum, depth = strata(targets), np.maximum(self.depth, other.depth)
        self.cap, self.depth = _fitting(min(self.cap, other.cap), depth, level, stratum, row_sizes(features))
        keep = np.flatnonzero(level >= self.depth[stratum])
        if keep.size < index.size:
            index, level, features = index[keep], level[keep], features[keep]
            targets, weights = targets[keep], weights[keep]
        self.index, self.level, self.features, self.targets, self.weights = index, level, features, targets, weights

    def primed(self, max_rows: int) -> Primed | None:
        """At most so many of the rows, equal ones as one with their weights added; None if there are none.

        The order follows from what the rows contain, so that sums over them do not depend on that in which they came.
        """
        if self.features is None or self.targets is None or not self.index.size:
            return None
        stratum = strata(self.targets)
        cap = min(self.cap, float(max_rows))
        _, depth = _fitting(cap, self.depth, self.level, stratum, np.zeros(stratum.size, np.int64), max_rows)
        keep = np.flatnonzero((self.level >= depth[stratum]) & (self.weights > 0))
        if not keep.size:
            return None
        features = self.features if keep.size == self.index.size else self.features[keep]
        targets, weights = self.targets[keep], self.weights[keep]
        first, second = content_keys(features, targets)
        order = np.lexsort((weights, second, first))
        first, second = first[order], second[order]
        new = np.ones(order.size, bool)
        new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        begins = np.flatnonzero(new)
        rows, repeats = order[begins], np.add.reduceat(weights[order], begins)
        return Primed(features[rows], targets[rows], repeats, repeats * 2.0 ** depth[stratum[keep[rows]]])


def strata(targets: NDArray) -> Int64:
    """The class by which each row is thinned."""
    return targets.astype(np.int64) if targets.ndim == 1 else targets.argmax(axis=1)


def row_sizes(features: Matrix) -> Int64:
    """Stored values of each row."""
    if issparse(features):
        return np.diff(features.indptr).astype(np.int64)
    return np.full(features.shape[0], features.shape[1], np.int64)


def _fitting(
    cap: float, depth: Int64, level: Int64, stratum: Int64, sizes: Int64, max_rows: int | None = None
) -> tuple[float, Int64]:
    """The largest cap, halved from the given one, with which all rows fit, and the depths that it takes."""
    max_rows = SAMPLE_ROWS if max_rows is None else max_rows
    if level.size <= min(cap, max_rows) and sizes.sum() <= SAMPLE_VALUES:
        return cap, depth
    shape = depth.size, DEEPEST + 2
    place = stratum * shape[1] + level
    n_rows, n_values = (
        np.bincount(place, weights, shape[0] * shape[1]).reshape(shape)[:, ::-1].cumsum(axis=1)[:, ::-1]
        for weights in (None, sizes)
    )  # of each class, at each depth
    classes = np.arange(depth.size)
    best = cap, depth
    while True:
        deeper = (n_rows <= max(cap, 1.0)).argmax(axis=1)
        # A cap below one row: all classes are halved together, until only a row is left.
        extra = int(np.ceil(-np.log2(cap))) if cap < 1 else 0
        found = np.minimum(np.maximum(depth, deeper + extra), DEEPEST)
        left = n_rows[classes, found].sum()
        if left < 1:
            return best
        best = cap, found
        if left <= 1 or (left <= max_rows and n_values[classes, found].sum() <= SAMPLE_VALUES):
            return best
        cap /= 2.0


# ---- hashes ------------------------------------------------------------------------------------------------------


def mixed(numbers: UInt64) -> UInt64:
    """A hash of each number: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def levels(index: Int64) -> Int64:
    """The leading zeros of a hash of each number."""
    top = (mixed(index.astype(np.uint64)) >> np.uint64(64 - DEEPEST)).astype(np.float64)
    return DEEPEST - np.minimum(np.frexp(top)[1], DEEPEST).astype(np.int64)  # a float may round up


def content_keys(features: Matrix, targets: NDArray) -> tuple[UInt64, UInt64]:
    """Two hashes of each row and its target; the same for the same values, dense or sparse, in any float type.

    Each is a sum of the bits of the values, each times an odd number of its column's own, so that zeros do not count.
    Two different rows have the same pair of hashes with a probability below 2^-80.
    """
    if issparse(features):
        indptr, indices, data = features.indptr, features.indices, features.data
    else:
        indptr, indices, data = _core.compress(np.ascontiguousarray(features), 1)
    n_columns = features.shape[1]
    bits = _folded_bits(data)
    keys = []
    for seed in (1, 2):
        factors = mixed(np.arange(n_columns + 1, dtype=np.uint64) + np.uint64(seed << 40)) | np.uint64(1)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bits * factors[indices], dtype=np.uint64)])
        key = sums[indptr[1:]] - sums[indptr[:-1]]
        if targets.ndim == 1:
            key += targets.astype(np.uint64) * factors[-1]
        else:
            columns = mixed(np.arange(targets.shape[1], dtype=np.uint64) + np.uint64((seed << 40) + (1 << 39)))
            key += (_folded_bits(targets) * (columns | np.uint64(1))).sum(axis=1, dtype=np.uint64)
        keys.append(mixed(key))
    return keys[0], keys[1]


def _folded_bits(values: NDArray) -> UInt64:
    """The bits of float64, those of the exponent also in the lower half, so that products reach all of a hash."""
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    return bits ^ (bits >> np.uint64(32))

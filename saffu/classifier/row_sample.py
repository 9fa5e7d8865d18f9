"""A bounded sample of labelled rows: what priming needs of rows that are not kept.

A hash of a row's number in the stream decides whether it is kept. So the sample depends neither on a period of the
stream nor on the chunks in which it comes. The largest classes lose rows first, and the rows that are kept of a class
represent all of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, issparse, vstack

from saffu import _core
from saffu.utils import fingerprints
from saffu.utils.arrays import Array, Bools, Float64, Int64, UInt64
from saffu.utils.validate import Matrix

SAMPLE_ROWS = 20_000  # two scalars need no more
SAMPLE_VALUES = 4_000_000  # stored feature values; a bound on the memory that a sample takes


class Primed(NamedTuple):
    """Rows for priming, equal ones together, in an order that follows from their content."""

    features: Matrix
    targets: Array
    repeats: Float64  # the weight of each row, in rows of weight one
    weights: Float64  # the same times the number of rows that each represents


class RowSample:
    """Training rows kept for priming, at most ``SAMPLE_ROWS`` of them with ``SAMPLE_VALUES`` feature values.

    Each row has a key in [0, 1), a hash of its number. Of each class those with the smallest keys are kept, and as many
    of one class as of any other while it has them. At the very row with which the sample is too large it is cut to four
    fifths, so that it is the same in whatever chunks the rows come.

    Soft targets belong to the class of their largest share.

    Attributes
    ----------
    n_seen : int
        Rows of the stream so far.
    bound : ndarray of float64, shape (N,)
        Rows of a class with a key from here on are not kept.
    mass : ndarray of float64, shape (N,)
        Sum of the weights of all rows of a class.
    index, key, features, targets, weights
        Number, key and content of each row that is kept, in the order of the stream.
    """

    def __init__(
        self,
        n_seen: int = 0,
        bound: Float64 | None = None,
        mass: Float64 | None = None,
        index: Int64 | None = None,
        key: Float64 | None = None,
        features: Matrix = None,
        targets: Array | None = None,
        weights: Float64 | None = None,
    ):
        self.n_seen = n_seen
        self.bound = np.ones(1) if bound is None else bound
        self.mass = np.zeros(1) if mass is None else mass
        self.index = np.empty(0, np.int64) if index is None else index
        self.key = np.empty(0) if key is None else key
        self.features, self.targets = features, targets
        self.weights = np.empty(0) if weights is None else weights

    def add(self, features: Matrix, targets: Array, weights: Float64 | None, n_classes: int) -> None:
        """Take from the next rows of the stream those that are to be kept."""
        self._prepare(n_classes)
        n, stratum = targets.shape[0], strata(targets)
        weights = np.ones(n) if weights is None else weights
        self.mass = self.mass.copy()  # add.at does not see that an array may only be read, as of a mapped file
        np.add.at(self.mass, stratum, weights)  # one by one, whatever the chunks
        index = self.n_seen + np.arange(n)
        self._take(index, keys(index), features, targets, weights, n)

    def merge(self, other: RowSample) -> None:
        """Take over another stream's sample, as if its rows had come after this one's.

        If the other stream has lost none, that gives the sample of both streams as one.
        """
        self._prepare(other.bound.size)
        if other.features is None or other.targets is None:
            self.n_seen += other.n_seen
            return
        index = other.index + self.n_seen
        # A row that is kept has a key below the bound of its class: a new one must be, too.
        key = keys(index) * other.bound[strata(other.targets)]
        self.mass = self.mass + other.mass
        self.bound = np.minimum(self.bound, other.bound)
        self._take(index, key, other.features, other.targets, other.weights, other.n_seen)

    def _prepare(self, n_classes: int) -> None:
        if self.bound.size < n_classes:
            self.bound, self.mass = np.ones(n_classes), np.zeros(n_classes)

    def _take(
        self, index: Int64, key: Float64, features: Matrix, targets: Array, weights: Float64, n_more: int
    ) -> None:
        """Rows of the next ``n_more`` of the stream; what is dropped is found before their features are copied."""
        own = self.index.size
        stratum = strata(targets)
        sizes = row_sizes(features)
        if self.features is not None and self.targets is not None:
            index, key = np.concatenate([self.index, index]), np.concatenate([self.key, key])
            stratum = np.concatenate([strata(self.targets), stratum])
            sizes = np.concatenate([row_sizes(self.features), sizes])
        rows = np.flatnonzero(key < self.bound[stratum])
        while (end := _overfull(sizes[rows])) is not None:
            come = rows[:end]
            gone = come[~_smallest(key[come], stratum[come], sizes[come], SAMPLE_ROWS * 4 // 5, SAMPLE_VALUES * 4 // 5)]
            self.bound = self.bound.copy()  # likewise
            np.minimum.at(self.bound, stratum[gone], key[gone])
            rows = rows[key[rows] < self.bound[stratum[rows]]]
        old, new = rows[rows < own], rows[rows >= own] - own
        parts = [(features, targets, weights, new)]
        if self.features is not None and self.targets is not None:
            parts.insert(0, (self.features, self.targets, self.weights, old))
        self.features, self.targets, self.weights = _joined(parts)
        if self.features is features:
            self.features = features.copy()  # what the caller changes later is none of ours
        self.index, self.key = index[rows], key[rows]
        self.n_seen += n_more

    def primed(self, max_rows: int) -> Primed | None:
        """At most so many of the rows, equal ones as one with their weights added; None if there are none.

        The order follows from what the rows contain, so that sums over them do not depend on that in which they came.
        """
        if self.features is None or self.targets is None:
            return None
        stratum, size = strata(self.targets), np.zeros(self.index.size, np.int64)
        keep = np.flatnonzero(_smallest(self.key, stratum, size, max_rows, 0) & (self.weights > 0))
        if not keep.size:
            return None
        features = self.features if keep.size == self.index.size else self.features[keep]
        targets, weights, stratum = self.targets[keep], self.weights[keep], stratum[keep]
        first, second = content_keys(features, targets)
        order = np.lexsort((weights, second, first))
        first, second = first[order], second[order]
        new = np.ones(order.size, bool)
        new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        begins = np.flatnonzero(new)
        rows, repeats = order[begins], np.add.reduceat(weights[order], begins)
        whole = (self.bound == 1) & (
            np.bincount(strata(self.targets), minlength=self.bound.size)
            == np.bincount(stratum, minlength=self.bound.size)
        )
        kept_mass = np.bincount(stratum[rows], repeats, self.bound.size)
        stands_for = np.where(whole | (kept_mass == 0), 1.0, self.mass / np.where(kept_mass > 0, kept_mass, 1.0))
        return Primed(features[rows], targets[rows], repeats, repeats * stands_for[stratum[rows]])


def strata(targets: Array) -> Int64:
    """The class among whose rows each row is chosen."""
    return targets.astype(np.int64) if targets.ndim == 1 else targets.argmax(axis=1)


def row_sizes(features: Matrix) -> Int64:
    """Stored values of each row."""
    if issparse(features):
        indptr: Array = features.indptr
        return np.diff(indptr).astype(np.int64)
    return np.full(features.shape[0], features.shape[1], np.int64)


def _joined(parts: list[tuple[Matrix, Array, Float64, Int64]]) -> tuple[Matrix, Array, Float64]:
    """Features, targets and weights of some rows of each part."""
    chosen = [
        (features if rows.size == weights.size else features[rows], targets[rows], weights[rows])
        for features, targets, weights, rows in parts
        if rows.size or len(parts) == 1
    ] or [(features[rows], targets[rows], weights[rows]) for features, targets, weights, rows in parts[:1]]
    features, targets, weights = zip(*chosen, strict=True)
    joined = features[0]
    if len(features) > 1:
        joined = vstack(features) if any(map(issparse, features)) else np.concatenate(features)
        joined = csr_array(joined) if issparse(joined) else joined
    return joined, np.concatenate(targets), np.concatenate(weights)


def _overfull(sizes: Int64) -> int | None:
    """The number of first rows, two at least, that are too many; None if all rows are not."""
    end = min(SAMPLE_ROWS, max(int(np.searchsorted(np.cumsum(sizes), SAMPLE_VALUES, "right")), 1))
    return end + 1 if end < sizes.size else None


def _smallest(key: Float64, stratum: Int64, sizes: Int64, max_rows: int, max_values: int) -> Bools:
    """The rows of each class with the smallest keys, as many of each while it has them, so that all fit.

    At least one row is kept.
    """
    if key.size <= max_rows and sizes.sum() <= max_values:
        return np.ones(key.size, bool)
    by_key = np.argsort(key)
    order = by_key[_stable_order(stratum[by_key])]
    counts = np.bincount(stratum)
    rank = np.empty(key.size, np.int64)
    rank[order] = np.arange(key.size) - np.repeat(np.cumsum(counts) - counts, counts)
    # In turn: the first of each class, the second of each, and so on; of equal turns the smallest keys.
    in_turn = by_key[_stable_order(rank[by_key])]
    n_rows = min(max_rows, int(np.searchsorted(np.cumsum(sizes[in_turn]), max_values, "right")))
    kept = np.zeros(key.size, bool)
    kept[in_turn[: max(n_rows, 1)]] = True
    return kept


def _stable_order(numbers: Int64) -> Int64:
    """The order of small numbers, equal ones as they are."""
    return np.argsort(numbers.astype(np.uint16) if numbers.max() < 1 << 16 else numbers, kind="stable")


# ---- hashes ------------------------------------------------------------------------------------------------------


def mixed(numbers: UInt64) -> UInt64:
    """A hash of each number: a step of SplitMix64 (Steele, Lea and Flood 2014)."""
    return fingerprints.mixed(numbers + np.uint64(0x9E3779B97F4A7C15))


def keys(index: Int64) -> Float64:
    """A hash of each number, in [0, 1)."""
    return (mixed(index.astype(np.uint64)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def content_keys(features: Matrix, targets: Array) -> tuple[UInt64, UInt64]:
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


def _folded_bits(values: Array) -> UInt64:
    """The bits of float64, those of the exponent also in the lower half, so that products reach all of a hash."""
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    return bits ^ (bits >> np.uint64(32))

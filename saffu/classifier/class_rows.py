"""Rows of features in an order that follows from their content, as hidden layers are solved from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from saffu.classifier.row_keys import row_keys
from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64, UInt64
from saffu.utils.sparse import SparseRows


class Rows:
    """Rows of features, and the transpose of each class's part.

    They are in the order of their classes, and within a class in that of their keys, whatever order they come in.

    Parameters
    ----------
    features : SparseRows
        M rows of D features.
    targets : ndarray of int32, shape (M,)
        Class numbers below ``n_classes``.
    n_classes : int
        N.
    weights : ndarray of float64, shape (M,), optional
        A positive weight for each row: one of weight k counts as k rows.
    keys : ndarray of uint64, shape (M,), optional
        The key of each row; by default that of its features.
    """

    def __init__(
        self,
        features: SparseRows,
        targets: Int32,
        n_classes: int,
        weights: Float64 | None = None,
        keys: UInt64 | None = None,
    ):
        keys = row_keys(features, targets) if keys is None else keys
        order = np.lexsort((keys, targets) if weights is None else (weights, keys, targets))
        in_order = bool((order[1:] > order[:-1]).all())
        self.features = features if in_order else features.take(order)
        self.targets = targets if in_order else targets[order]
        self.weights = weights if weights is None or in_order else weights[order]
        self.keys = keys if in_order else keys[order]
        self.starts = np.searchsorted(self.targets, np.arange(n_classes + 1))
        self._transposed: dict[int, SparseRows] = {}

    @property
    def class_sizes(self) -> Int64:
        """The number of rows of each class (N,)."""
        return np.diff(self.starts)

    @property
    def n_classes(self) -> int:
        """N."""
        return self.starts.size - 1

    @property
    def mass(self) -> float:
        """How many rows these count as."""
        return float(self.targets.size if self.weights is None else self.weights.sum())

    @property
    def repeats(self) -> Float64:
        """How many rows each of these counts as (M,)."""
        return np.ones(self.targets.size) if self.weights is None else self.weights

    def weighted(self, values: Array, rows: slice | Int64) -> Array:
        """``values`` of some rows (.., H), each times the weight of its row, in the dtype of the values."""
        if self.weights is None:
            return values
        product: Array = values * self.weights[rows].astype(values.dtype)[:, None]
        return product

    def part(self, number: int) -> SparseRows:
        """The rows of one class (M_c, D)."""
        return self.features.part(*self.starts[number : number + 2])

    def transposed(self, number: int) -> SparseRows:
        """The transpose of ``part`` (D, M_c), made once."""
        if number not in self._transposed:
            self._transposed[number] = self.part(number).transposed()
        return self._transposed[number]

    def distinct(self) -> Rows:
        """Equal rows as one, with the sum of their weights."""
        new = np.ones(self.keys.size, bool)
        new[1:] = (self.keys[1:] != self.keys[:-1]) | (self.targets[1:] != self.targets[:-1])
        known = np.flatnonzero(~new)
        new[known] = ~self.features.repeat_previous(known)  # different rows can have one key
        if new.all():
            return self
        first = np.flatnonzero(new)
        rows = self.take(first)
        rows.weights = np.add.reduceat(self.repeats, first)
        return rows

    def split(self, held: Bools) -> tuple[Rows, Rows]:
        """The rows that are not marked, and those that are."""
        return self.take(np.flatnonzero(~held)), self.take(np.flatnonzero(held))

    def take(self, numbers: Int64) -> Rows:
        """The rows with these numbers."""
        return self.with_features(self.features.take(numbers), numbers)

    def with_features(self, features: SparseRows, numbers: Int64 | slice = slice(None)) -> Rows:
        """Other features of the rows with these numbers."""
        weights = None if self.weights is None else self.weights[numbers]
        return Rows(features, self.targets[numbers], self.n_classes, weights, self.keys[numbers])


Source = Callable[[], Iterable[Rows]]  # a fresh pass over all rows, batch by batch


def in_memory(rows: Rows) -> Source:
    """One batch, the same in every pass."""
    return lambda: [rows]

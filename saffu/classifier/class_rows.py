"""Rows of features in the order of their classes, as hidden layers are solved from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64
from saffu.utils.sparse import SparseRows


class Rows:
    """Rows of features in the order of their classes, and the transpose of each class's part.

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
    """

    def __init__(self, features: SparseRows, targets: Int32, n_classes: int, weights: Float64 | None = None):
        order = np.argsort(targets, kind="stable")
        in_order = bool((order[1:] > order[:-1]).all())
        self.features = features if in_order else features.take(order)
        self.targets = targets if in_order else targets[order]
        self.weights = weights if weights is None or in_order else weights[order]
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

    def split(self, held: Bools) -> tuple[Rows, Rows]:
        """The rows that are not marked, and those that are."""
        return self.take(np.flatnonzero(~held)), self.take(np.flatnonzero(held))

    def take(self, numbers: Int64) -> Rows:
        """The rows with these numbers."""
        return self.with_features(self.features.take(numbers), numbers)

    def with_features(self, features: SparseRows, numbers: Int64 | slice = slice(None)) -> Rows:
        """Other features of the rows with these numbers."""
        weights = None if self.weights is None else self.weights[numbers]
        return Rows(features, self.targets[numbers], self.n_classes, weights)


Source = Callable[[], Iterable[Rows]]  # a fresh pass over all rows, batch by batch


def in_memory(rows: Rows) -> Source:
    """One batch, the same in every pass."""
    return lambda: [rows]

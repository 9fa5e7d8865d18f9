"""Sparse rows as the kernels read them: every layer of a classifier takes its features in this form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from saffu import _core
from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64, Matrix
from saffu.utils.validate import INT32_MAX

CHUNK_VALUES = 1 << 22  # activations that are held at once: they stay in the cache, and in memory that is used again
NEARLY_FULL = 0.5  # a share of entries above which zeros take less time than the places of the others
TURNED_ROWS = 64  # that are transposed at once: they stay in the cache
COMPARED_ROWS = 1 << 16  # rows that are copied at once to be compared


class SparseRows:
    """A CSR matrix with int64 row offsets and int32 columns, whatever its size.

    Parameters
    ----------
    indptr : ndarray of int64, shape (M + 1,)
        Where each row begins in the other two.
    indices : ndarray of int32
        Columns, ascending in each row.
    data : ndarray of float32 or float64
        Values.
    n_columns : int
        D.
    n_threads : int
        Threads of the kernels.

    Examples
    --------
    >>> rows = SparseRows.of(np.array([[0.0, 2.0], [3.0, 0.0]]), n_threads=1)
    >>> rows.product(np.eye(2)).tolist()
    [[0.0, 2.0], [3.0, 0.0]]
    """

    def __init__(
        self,
        indptr: Int64,
        indices: Int32,
        data: Array,
        n_columns: int,
        n_threads: int,
    ) -> None:
        self.indptr, self.indices, self.data = indptr, indices, data
        self.n_columns, self.n_threads = n_columns, n_threads

    @classmethod
    def of(cls, matrix: Matrix, n_threads: int) -> SparseRows:
        """From what ``validate.features`` returns; zeros that are stored are left out."""
        if not issparse(matrix):
            indptr, indices, data = _core.compress(matrix, n_threads)
            return cls(indptr, indices, data, matrix.shape[1], n_threads)
        if matrix.shape[1] > INT32_MAX:
            raise ValueError(f"features must have at most {INT32_MAX} columns, got {matrix.shape[1]}")
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if not matrix.data.all():
            matrix = matrix.copy()
            matrix.eliminate_zeros()
        indptr, indices = matrix.indptr.astype(np.int64, copy=False), matrix.indices.astype(np.int32, copy=False)
        return cls(indptr, indices, matrix.data, matrix.shape[1], n_threads)

    @classmethod
    def stacked(cls, parts: list[SparseRows], n_columns: int, dtype: np.dtype[Any], n_threads: int) -> SparseRows:
        """The rows of all parts, one part after the other."""
        ends = np.cumsum([0] + [part.indptr[-1] for part in parts])
        indptr = [np.zeros(1, np.int64)] + [part.indptr[1:] + end for part, end in zip(parts, ends[:-1], strict=True)]
        indices = np.concatenate([np.empty(0, np.int32)] + [part.indices for part in parts])
        data = np.concatenate([np.empty(0, dtype)] + [part.data for part in parts])
        return cls(np.concatenate(indptr), indices, data, n_columns, n_threads)

    def __len__(self) -> int:
        return self.indptr.size - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.data.dtype

    def part(self, begin: int, end: int) -> SparseRows:
        """Consecutive rows, without a copy of their entries."""
        indptr = self.indptr[begin : end + 1]
        entries = slice(indptr[0], indptr[-1])
        return SparseRows(indptr - indptr[0], self.indices[entries], self.data[entries], self.n_columns, self.n_threads)

    def take(self, rows: NDArray[np.integer]) -> SparseRows:
        """The rows with these numbers."""
        lengths = (self.indptr[1:] - self.indptr[:-1])[rows]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        begins = np.ascontiguousarray(self.indptr[:-1][rows])
        indices, data = _core.take_rows(begins, indptr, self.indices, self.data, self.n_threads)
        return SparseRows(indptr, indices, data, self.n_columns, self.n_threads)

    def repeat_previous(self, rows: Int64) -> Bools:
        """Which of some rows, none of them the first, equal the row before them.

        Examples
        --------
        >>> rows = SparseRows.of(np.array([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]), n_threads=1)
        >>> rows.repeat_previous(np.array([1, 2])).tolist()
        [True, False]
        """
        lengths = np.diff(self.indptr)
        equal: Bools = lengths[rows] == lengths[rows - 1]
        for begin in range(0, rows.size, COMPARED_ROWS):
            chosen = begin + np.flatnonzero(equal[begin : begin + COMPARED_ROWS])
            these, before = self.take(rows[chosen]), self.take(rows[chosen] - 1)
            differ = (these.indices != before.indices) | (these.data != before.data)
            equal[chosen[np.searchsorted(these.indptr, np.flatnonzero(differ), side="right") - 1]] = False
        return equal

    def transposed(self) -> SparseRows:
        """Columns as rows."""
        if self.data.size > len(self) * self.n_columns * NEARLY_FULL:
            dense = self._as_scipy().toarray()
            turned = np.empty(dense.shape[::-1], dense.dtype)
            for begin in range(0, len(dense), TURNED_ROWS):
                turned[:, begin : begin + TURNED_ROWS] = dense[begin : begin + TURNED_ROWS].T
            return SparseRows.of(turned, self.n_threads)
        return SparseRows.of(csr_array(self._as_scipy().T), self.n_threads)

    def _as_scipy(self) -> csr_array:
        # Offsets of another type than the columns would make scipy copy both.
        indptr = self.indptr.astype(np.int32) if self.indptr[-1] < 2**31 else self.indptr
        return csr_array((self.data, self.indices, indptr), shape=(len(self), self.n_columns))

    def product(self, B: Array, bias: Array | None = None) -> Array:
        """``H @ B + bias`` (M, N), in the dtype of the values; B and bias must have it too."""
        return _core.product(self.indptr, self.indices, self.data, B, bias, self.n_threads)

    def product_double(self, B: Array, out: Float64) -> None:
        """Write ``H @ B`` into ``out``, summed in float64."""
        _core.product_double(self.indptr, self.indices, self.data, B, out, self.n_threads)

    def ceiling(self) -> Float64:
        """The largest value of each column (D,), 0 where it is empty."""
        highest = np.zeros(self.n_columns, self.dtype)
        np.maximum.at(highest, self.indices, self.data)
        return highest.astype(np.float64)

    def logits(self, W: Array, bias: Array) -> Iterator[tuple[slice, Array]]:
        """``H W + bias`` in chunks of rows that fit into memory."""
        step = max(1, CHUNK_VALUES // max(1, W.shape[1]))
        for begin in range(0, len(self), step):
            piece = slice(begin, min(begin + step, len(self)))
            yield piece, self.part(begin, piece.stop).product(W, bias)

    def activations(self, W: Array, bias: Array) -> Iterator[tuple[slice, Array]]:
        """``softmax(H W + bias)`` in chunks of rows that fit into memory."""
        for piece, logits in self.logits(W, bias):
            yield piece, _core.softmax(logits, False, self.n_threads)

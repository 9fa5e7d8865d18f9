"""Text as rows of ids and labels, which a transformer reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from saffu.transformer.functional import NOTHING
from saffu.utils.arrays import Int32, Int64, checksum, ranges


class SequenceBatch(NamedTuple):
    """Ids and labels, each (B, T), -1 where there is none; how many labels a row of all rows has on average."""

    ids: Int64
    labels: Int64
    labels_per_row: float


class Sequences:
    """Rows of ids and of what should be predicted at each of them.

    Parameters
    ----------
    ids, labels : ndarray of int64, shape (n, T)
        -1 for none; in ``ids`` only at the end of a row.
    dtype : dtype
        Of the computation.
    n_threads : int
    """

    sample_rows, check_all = 200, False

    def __init__(self, ids: Int64, labels: Int64, dtype: DTypeLike, n_threads: int) -> None:
        self.ids, self.labels, self.dtype, self.n_threads = ids, labels, np.dtype(dtype), n_threads
        self.labels_per_row = max(int((labels != NOTHING).sum()), 1) / max(len(ids), 1)
        self._lengths = (ids != NOTHING).sum(axis=1)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int64 | slice, dropout: float = 0.0, rng: np.random.Generator | None = None) -> SequenceBatch:
        """Some rows, as long as the longest of them."""
        if dropout:
            raise ValueError("dropout must be 0: a transformer has none")
        longest = int(self._lengths[rows].max(initial=1))
        return SequenceBatch(self.ids[rows, :longest], self.labels[rows, :longest], self.labels_per_row)

    def checksum(self) -> int:
        """A number that changes with the rows."""
        return checksum([self.ids, self.labels])


def windows(ids: Int32, documents: Int64, length: int, start: int) -> tuple[Int64, Int64]:
    """A text as rows of at most ``length`` tokens, each after the one before it; a document begins after ``start``.

    Returns
    -------
    ids, labels : ndarray of int64, shape (n, length)
        -1 fills the ends.
    """
    if ids.size == 0:
        return np.empty((0, length), np.int64), np.empty((0, length), np.int64)
    ends = np.append(documents[1:], ids.size)
    n_rows = -(-(ends - documents) // length)
    end = np.repeat(ends, n_rows)
    first = np.repeat(documents, n_rows) + length * ranges(np.zeros_like(n_rows), n_rows)
    last = np.minimum(first + length, end)
    place = first[:, None] + np.arange(length)
    inside = place < last[:, None]
    place = np.minimum(place, ids.size - 1)
    before = np.where(np.isin(place, documents), start, ids[np.maximum(place - 1, 0)])
    return np.where(inside, before, NOTHING), np.where(inside, ids[place], NOTHING)

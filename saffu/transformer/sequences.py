"""Text as rows of ids and labels, which a transformer reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu.transformer.functional import NOTHING
from saffu.utils.arrays import Int32, Int64, checksum, ranges
from saffu.utils.streams import TokenStream


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


def checked_rows(ids: ArrayLike, name: str, length: int, highest: int) -> Int64:
    """A matrix of at most ``length`` columns, of numbers in [0, highest] or -1."""
    found = np.asarray(ids)
    if found.ndim != 2 or found.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a matrix of integers, got {found.dtype} {found.shape}")
    if found.shape[1] > length:
        raise ValueError(f"{name} must have at most {length} columns, got {found.shape[1]}")
    if found.size and not (found.min() >= NOTHING and found.max() <= highest):
        raise ValueError(f"{name} must be in [0, {highest}] or -1, got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def labelled_rows(ids: Int64, labels: Int64, dtype: DTypeLike, n_threads: int) -> Sequences:
    """Rows of ids with a label for each place, or -1; ValueError if they do not fit each other."""
    if ids.shape != labels.shape:
        raise ValueError(f"y must have the shape of X, {ids.shape}, got {labels.shape}")
    if (np.diff((ids == NOTHING).astype(np.int8), axis=1) < 0).any() or (ids[:, :1] == NOTHING).any():
        raise ValueError("X may hold -1 only at the ends of rows, after at least one id")
    if len(ids) and not (labels != NOTHING).any():
        raise ValueError("y must hold at least one label, got -1 alone")
    return Sequences(ids, labels, dtype, n_threads)


def windows(stream: TokenStream, length: int, start: int) -> tuple[Int64, Int64]:
    """A text as rows of at most ``length`` tokens, each after the one before it; a document begins after ``start``.

    Returns
    -------
    ids, labels : ndarray of int64, shape (n, length)
        -1 fills the ends. The labels that are there are the tokens of the text in their order.
    """
    ids = stream.ids
    if ids.size == 0:
        return np.empty((0, length), np.int64), np.empty((0, length), np.int64)
    lengths = stream.lengths()
    n_rows = -(-lengths // length)
    end = np.repeat(stream.starts + lengths, n_rows)
    first = np.repeat(stream.starts, n_rows) + length * ranges(np.zeros_like(n_rows), n_rows)
    last = np.minimum(first + length, end)
    place = first[:, None] + np.arange(length)
    inside = place < last[:, None]
    place = np.minimum(place, ids.size - 1)
    before = np.where(np.isin(place, stream.starts), start, ids[np.maximum(place - 1, 0)])
    return np.where(inside, before, NOTHING), np.where(inside, ids[place], NOTHING)


class Window:
    """The last window of a document that grows token by token, cut as :func:`windows` cuts it.

    Parameters
    ----------
    context : ndarray of int32
        The document so far.
    length : int
        Of a full window.
    start : int
        What precedes a document.
    """

    def __init__(self, context: Int32, length: int, start: int) -> None:
        begin = context.size // length * length
        self._length = length
        self._ids = [start if begin == 0 else int(context[begin - 1]), *map(int, context[begin:])]

    def append(self, token: int) -> None:
        """Add the next token of the document; a full window makes place for the next one."""
        self._ids = [token] if len(self._ids) == self._length else [*self._ids, token]

    def row(self) -> Int64:
        """The window as one row of ids, (1, T); the token that follows the document is to be predicted at its end."""
        return np.array([self._ids], np.int64)

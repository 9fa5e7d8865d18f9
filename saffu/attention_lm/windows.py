"""Self-attention over windows of a token stream: which tokens a row sees, their comparisons, and the two passes.

The unit is that of arXiv 2311.07510: ``s = x_head X^T``, ``a = softmax(s W + b)``, ``z = a X`` over the embeddings X of
the tokens in a window. A window is a place in the stream; its embeddings are never copied.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.utils import validate
from saffu.utils.arrays import Array, Int32, Int64
from saffu.utils.threads import resolve_threads

MAX_CACHE_BYTES = 1 << 26  # about 4,000 types in float32
WIDE_BYTES = 1 << 10  # of an embedding, from which on a table of some of the types is quicker than computing all


class Windows:
    """Windows of a token stream: row m sees ``ids[first[m] + step * k]`` for ``k = 0 .. length[m] - 1``.

    Parameters
    ----------
    ids : array_like of int, shape (T,)
        The stream.
    first : array_like of int, shape (n,)
        Place of the element ``k = 0`` of each window.
    length : array_like of int, shape (n,)
        Tokens of each window, 0 to ``n_positions``.
    head : array_like of int, shape (n,)
        Place of the token that the others are compared with. Where the length is 0 neither place is read.
    step : {1, -1}
        Direction of the windows in the stream.
    n_positions : int, optional
        K, the greatest length that the windows may have; by default the greatest that they have.

    Attributes
    ----------
    view : saffu._core.View
        The windows as the kernels read them.

    Raises
    ------
    ValueError
        If a length is outside 0 .. K, if the arrays differ in length, or if ids are negative. Places outside of the
        stream are found when the windows are read.
    """

    def __init__(
        self,
        ids: ArrayLike,
        first: ArrayLike,
        length: ArrayLike,
        head: ArrayLike,
        step: int = 1,
        n_positions: int | None = None,
    ):
        stream = validate.token_ids(ids, keep=True)
        lengths = np.array(length)
        low, high = int(lengths.min(initial=0)), int(lengths.max(initial=0))
        n_positions = high if n_positions is None else validate.integer(n_positions, "n_positions", 0)
        if low < 0 or high > n_positions:
            raise ValueError(f"length must be between 0 and {n_positions}, got {low if low < 0 else high}")
        if step not in (1, -1):
            raise ValueError(f"step must be 1 or -1, got {step}")
        self._set(stream, np.array(first), lengths, np.array(head), int(step), n_positions)

    def _set(self, ids: Int32, first: Array, length: Array, head: Array, step: int, K: int) -> None:
        self.ids, self.step, self.n_positions = ids, step, K
        self.first = np.ascontiguousarray(first, np.int64)
        self.head = np.ascontiguousarray(head, np.int64)
        self.length = np.ascontiguousarray(length, np.int32)
        self.view = _core.View(self.ids, self.first, self.length, self.head, step, K)

    @classmethod
    def _checked(cls, ids: Int32, first: Array, length: Array, head: Array, step: int, K: int) -> Windows:
        """Of parts that are known to be right: a long stream is not read to cut a few windows from it."""
        windows = cls.__new__(cls)
        windows._set(ids, first, length, head, step, K)
        return windows

    def __len__(self) -> int:
        return self.first.size

    @classmethod
    def radial(cls, ids: ArrayLike, documents: ArrayLike | None, positions: ArrayLike, radius: int) -> Windows:
        """The last ``radius`` tokens before each position, the newest first; the newest is the head.

        Parameters
        ----------
        ids : array_like of int, shape (T,)
            The stream.
        documents : array_like of int or None
            Ascending start offsets of documents; no window reaches over one. None means one document.
        positions : array_like of int, shape (n,)
            Places of the targets, 0 to T; the tokens before a position are its context.
        radius : int
            K >= 1.
        """
        radius = validate.integer(radius, "radius", 1)
        return cls.radial_at(*_offsets(ids, documents, positions), radius)

    @classmethod
    def radial_at(cls, ids: Int32, places: Int64, offset: Int64, radius: int) -> Windows:
        """``radial`` of a checked stream at positions that are ``offset`` tokens from the start of their document."""
        newest = np.maximum(places - 1, 0)
        return cls._checked(ids, newest, np.minimum(offset, radius), newest, -1, radius)

    @classmethod
    def block(cls, ids: ArrayLike, documents: ArrayLike | None, positions: ArrayLike, block: int) -> Windows:
        """The tokens of each position's block so far, the oldest first; the newest is the head.

        Documents are cut into blocks of ``block`` tokens. A position sees the block of the token before it, up to
        that token: at least one token and at most ``block``, and none at the start of a document.

        Parameters
        ----------
        ids, documents, positions
            As for ``radial``.
        block : int
            K >= 1.
        """
        block = validate.integer(block, "block", 1)
        return cls.block_at(*_offsets(ids, documents, positions), block)

    @classmethod
    def block_at(cls, ids: Int32, places: Int64, offset: Int64, block: int) -> Windows:
        """``block`` of a checked stream at positions that are ``offset`` tokens from the start of their document."""
        length = np.where(offset > 0, (offset - 1) % block + 1, 0)
        return cls._checked(ids, places - length, length, np.maximum(places - 1, 0), 1, block)


def _offsets(ids: ArrayLike, documents: ArrayLike | None, positions: ArrayLike) -> tuple[Int32, Int64, Int64]:
    """The stream, the positions, and how far each is from the start of its document."""
    stream = validate.token_ids(ids, keep=True)
    starts = validate.document_starts(documents, stream.size)
    places = np.asarray(positions, np.int64)
    if places.ndim != 1:
        raise ValueError(f"positions must be one-dimensional, got shape {places.shape}")
    if places.size and (places.min() < 0 or places.max() > stream.size):
        raise ValueError(f"positions must be between 0 and {stream.size}, the number of tokens")
    if stream.size == 0:
        return stream, places, np.zeros_like(places)
    return stream, places, places - starts[np.searchsorted(starts, places, "right") - 1]


class ComparisonCache:
    """Comparisons of the most frequent types, ``C = X[:n] @ X[:n].T``, kept while the embeddings do not change.

    Ids are ranks by frequency, so that the most frequent types are the smallest ids. The table holds all types if it
    fits, and none if it does not and embeddings are narrow (less than 1 KB): rows that lack some of their comparisons
    are then computed as quickly. A comparison from the table has the bits of one that is computed.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (V, d), optional
        Embeddings to begin with; without them the cache is empty until ``refresh``.
    max_bytes : int
        Bound on the table.
    n_threads : int, optional
        Threads that fill it.

    Attributes
    ----------
    table : ndarray of shape (n, n) or None
        What is cached; None if nothing is.
    """

    def __init__(self, X: Array | None = None, max_bytes: int = MAX_CACHE_BYTES, n_threads: int | None = None):
        self.max_bytes = validate.integer(max_bytes, "max_bytes", 0)
        self.n_threads = resolve_threads(n_threads)
        self.table: Array | None = None
        self._source: Array | None = None
        if X is not None:
            self.refresh(X)

    def refresh(self, X: Array) -> None:
        """Fill the table from these embeddings, which must not be written to before ``invalidate``."""
        X = validate.features(X, "X")
        n = min(X.shape[0], math.isqrt(self.max_bytes // X.itemsize))
        if n < X.shape[0] and X.shape[1] * X.itemsize < WIDE_BYTES:
            n = 0
        self.table = _core.compare_all(X[:n], self.n_threads) if n else None
        self._source = X

    def invalidate(self) -> None:
        """Forget everything: the embeddings change. Until ``refresh`` all comparisons are computed."""
        self.table = self._source = None

    def table_of(self, X: Array) -> Array | None:
        """The table, or None if nothing is cached.

        Raises
        ------
        ValueError
            If it was filled from other embeddings than X.
        """
        if self._source is None or self._source is X:
            return self.table
        if self._source.__array_interface__ == X.__array_interface__:
            return self.table
        raise ValueError("the cache holds comparisons of other embeddings; refresh it with these, or invalidate it")

"""Counts of what occurs together in a stream of tokens."""

from __future__ import annotations

from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from saffu import _core
from saffu.utils import validate
from saffu.utils.arrays import Array, Int32, Int64
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads


def cooccurrence(
    ids: ArrayLike,
    distances: ArrayLike | int,
    *,
    vocab_size: int | None = None,
    documents: ArrayLike | None = None,
    n_threads: int | None = None,
) -> csr_array:
    """Count which token follows which at the given distances.

    Parameters
    ----------
    ids : array_like of int, shape (M,)
        Token ids, 0 <= id < vocab_size.
    distances : int or array_like of int
        Distances k >= 1; the pair (ids[t], ids[t + k]) counts for every k listed.
    vocab_size : int, optional
        V; by default the largest id plus one.
    documents : array_like of int, optional
        Start offsets of documents in ``ids``; pairs never cross from one document into the next.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it.

    Returns
    -------
    csr_array of int64, shape (V, V)
        Entry (c, w) is the number of times w is found at one of the distances after c; sorted columns.

    Raises
    ------
    ValueError, TypeError
        If ids are out of range or not integers, or a distance is below 1.

    Notes
    -----
    Kernels ``saffu_bucket`` and ``saffu_count_rows``: a counting sort of the positions by context, then a dense
    scratch of V counters per thread that is emitted row by row.

    Examples
    --------
    >>> cooccurrence([0, 1, 0, 1], distances=1).toarray()
    array([[0, 2],
           [1, 0]])
    """
    if vocab_size is not None:
        vocab_size = validate.size(vocab_size, "vocab_size", 0)
    stream = TokenStream.of(ids, documents, vocab_size)
    if vocab_size is None:
        vocab_size = int(stream.ids.max()) + 1 if stream.ids.size else 0
    return count_pairs(stream, stream.ids, validate.distances(distances), (vocab_size, vocab_size), n_threads)


def count_pairs(
    contexts: TokenStream, targets: Int32, distances: Int64, shape: tuple[int, int], n_threads: int | None
) -> csr_array:
    """Count pairs (contexts[t], targets[t + k]) within documents, in a table of this shape; contexts below 0 are none.

    Parameters
    ----------
    contexts : TokenStream
    targets : ndarray of int32
        As long as the stream.
    distances : ndarray of int64
        All k.
    shape : tuple of int
        Above all contexts, and above all targets.
    n_threads : int, optional

    Returns
    -------
    csr_array of int64
    """
    ids, starts = contexts
    indptr, indices, counts = _core.count(ids, targets, distances, starts, *shape, resolve_threads(n_threads))
    return as_csr(indptr, indices, counts, shape)


def as_csr(indptr: Int64, indices: Int32, counts: Array, shape: tuple[int, int]) -> csr_array:
    """Wrap arrays that are already canonical CSR, without a copy or a check of their order."""
    table = csr_array(shape, dtype=counts.dtype)
    table.data, table.indices, table.indptr = counts, indices, indptr
    table.has_canonical_format = True
    return table

"""Bit-cipher: deterministic codes of few bits for the types of a vocabulary, and embeddings made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit import bit_sets
from saffu.explicit.cooccurrence import count_pairs
from saffu.explicit.discounting import discounts, smoothed_distribution
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float32, Int32, Int64
from saffu.utils.locks import Lock, made_once
from saffu.utils.sparse import SparseRows
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

LARGEST_GUESS = 1 << 24  # a larger vocabulary has to be asked for: one stray id would take all the memory
TOLERANCE = 1e-6  # by which an entry of a code may have been rounded


@checkpoint.register("bit-cipher")
class BitCipher:
    """Codes of ``bits`` bits for up to ``2**bits - 1`` types: the more frequent a type, the fewer bits are set.

    The most frequent types get the codes with one bit set, the next those with two, and so on. Within a level,
    successive codes mostly differ in two bits, never in more than four. A code is used with unit sum: each of its k
    set bits is 1 / k. Codes distinguish types; they carry no meaning, see :func:`enriched_embeddings` for that.

    Parameters
    ----------
    bits : int
        b, at least 1.

    Attributes
    ----------
    bits : int
    vocab_size : int
        V.
    n_coded : int
        How many types have a code: ``min(V, 2**b - 1)``.
    ranking : ndarray of int64, shape (V,)
        The type of each rank, the most frequent first. The type ``ranking[i]`` has the code number i; those from
        rank ``n_coded`` on have none.
    bit_sets : ndarray of uint8, shape (V, ceil(b / 8))
        The code of each type, eight bits to a byte (``numpy.packbits``); all zero without a code.

    Notes
    -----
    Bit-cipher: Zhao and Williams, arXiv 2311.11012. The order of codes: level k adds, for each basis vector e from
    the last to the first, e to each code v of level k - 1, read from its end, whenever the sum has k bits set and is
    new. The codes of one e are those whose other bits all precede e; above level 2 these v are the first ones of the
    reversed level, and there are as many as the binomials give. So a code costs one copy, whatever b is.

    Examples
    --------
    >>> cipher = BitCipher(2).fit([5, 5, 5, 3, 3, 4], vocab_size=6)
    >>> cipher.encode([5, 3, 4, 0])
    array([[1. , 0. ],
           [0. , 1. ],
           [0.5, 0.5],
           [0. , 0. ]], dtype=float32)
    >>> cipher.decode(cipher.encode([5, 3, 4, 0]))
    array([ 5,  3,  4, -1], dtype=int32)
    """

    def __init__(self, bits: int) -> None:
        self.bits = validate.size(bits, "bits")
        self._assign(np.empty(0, np.int64))

    def fit(
        self, ids: ArrayLike | None = None, *, counts: ArrayLike | None = None, vocab_size: int | None = None
    ) -> Self:
        """Rank the types by frequency and give each its code.

        Parameters
        ----------
        ids : array_like of int, shape (M,), optional
            A token stream. Types of equal frequency are ranked by their first appearance.
        counts : array_like of float, shape (V,), optional
            Instead of ``ids``: the frequency of each type. Types of equal frequency are ranked by their id.
        vocab_size : int, optional
            V; by default the largest id plus one (at most 2**24) or the number of counts. Types of count zero are
            ranked last, by their id, and have codes as long as there are any left.

        Returns
        -------
        BitCipher
            This one.

        Raises
        ------
        ValueError, TypeError
            If not exactly one of ids and counts is given, or it is out of range or of the wrong type.

        Examples
        --------
        >>> BitCipher(2).fit(counts=[1, 5, 3]).ranking.tolist()
        [1, 2, 0]
        """
        if (ids is None) == (counts is None):
            raise ValueError("fit needs either ids or counts, not both and not neither")
        if vocab_size is not None:
            vocab_size = validate.size(vocab_size, "vocab_size", 0)
        self._assign(_rank_stream(ids, vocab_size) if ids is not None else _rank_counts(counts, vocab_size))
        return self

    def _assign(self, ranking: Int64) -> None:
        self.ranking, self.vocab_size = ranking, ranking.size
        self.n_coded = min(self.vocab_size, 2**self.bits - 1)
        self.bit_sets = np.zeros((self.vocab_size, bit_sets.width(self.bits)), np.uint8)
        self.bit_sets[ranking[: self.n_coded]] = bit_sets.code_sets(self.bits, self.n_coded)
        self._lock = Lock()
        self._codes: Float32 | None = None
        self._index: tuple[NDArray[np.void], Int64] | None = None

    @property
    @made_once("_codes")
    def codes(self) -> Float32:
        """The code of each type with unit sum, float32 (V, b); zero without a code. Computed when first asked for."""
        codes = bit_sets.unit_sum(self.bit_sets, self.bits)
        codes.flags.writeable = False
        return codes

    def encode(self, ids: ArrayLike) -> Float32:
        """The code of each token.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            0 <= id < vocab_size.

        Returns
        -------
        ndarray of float32, shape (M, b)
            Rows of unit sum, or zero where the type has no code.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers.

        Examples
        --------
        >>> BitCipher(2).fit([0, 0, 1]).encode([1, 0]).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        """
        ids = validate.token_ids(ids, "ids", self.vocab_size)
        codes = self._codes
        return bit_sets.unit_sum(self.bit_sets[ids], self.bits) if codes is None else codes[ids]

    def decode(self, codes: ArrayLike) -> Int32:
        """The type of each code: the inverse of :meth:`encode`.

        Parameters
        ----------
        codes : array_like of float, shape (M, b)
            Not negative; usually of unit sum.

        Returns
        -------
        ndarray of int32, shape (M,)
            -1 for the zero vector. A vector that is the code of no type is decoded as the type whose code is nearest
            in Euclidean distance, the most frequent of several. Such vectors are compared with every code.

        Raises
        ------
        ValueError, TypeError
            If the shape does not fit, or a value is negative, infinite, NaN or not a number.

        Examples
        --------
        >>> BitCipher(2).fit([0, 0, 1]).decode([[0.1, 0.9], [0.0, 0.0]]).tolist()
        [1, -1]
        """
        vectors = validate.features(np.asarray(codes), "codes", self.bits)
        validate.counts_like(vectors, "codes", resolve_threads(None))
        found = np.full(len(vectors), -1, np.int32)
        if self.n_coded == 0:
            return found
        step = max(1, bit_sets.CHUNK_VALUES // self.bits)
        for begin in range(0, len(vectors), step):
            found[begin : begin + step] = self._decode(vectors[begin : begin + step])
        return found

    def _decode(self, vectors: Array) -> Int64:
        sets = np.packbits(vectors > 0, axis=1)
        keys, (known, order) = bit_sets.keys(sets), self._lookup()
        place = np.minimum(np.searchsorted(known, keys), known.size - 1)
        rank = order[place]
        rounded = np.abs(vectors - bit_sets.unit_sum(sets, self.bits)).max(axis=1) <= TOLERANCE
        zero = ~sets.any(axis=1)
        others = np.flatnonzero(~zero & ~((known[place] == keys) & rounded))
        if others.size:
            rank[others] = bit_sets.nearest(vectors[others], self.codes[self.ranking[: self.n_coded]])
        return np.where(zero, -1, self.ranking[rank])

    @made_once("_index")
    def _lookup(self) -> tuple[NDArray[np.void], Int64]:
        """The bit sets in use in an order that can be searched, and their ranks."""
        keys = bit_sets.keys(self.bit_sets[self.ranking[: self.n_coded]])
        order = np.argsort(keys)
        return keys[order], order

    def __repr__(self) -> str:
        return f"{type(self).__name__}(bits={self.bits})"

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the cipher to one file; see :func:`saffu.load`. An existing file is replaced only when it is whole."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The ranking alone: codes follow from ranks."""
        return {"ranking": self.ranking}, {"bits": self.bits}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        """Undo ``_to_checkpoint``; ValueError if the ranking is not one."""
        cipher = checkpoint.parse(cls, metadata["bits"])
        ranking = arrays["ranking"]
        if ranking.dtype != np.int64 or not np.array_equal(np.sort(ranking), np.arange(ranking.size)):
            raise checkpoint.Damaged("the ranking of this BitCipher does not name each type once")
        cipher._assign(ranking)
        return cipher


# ---- ranks ---------------------------------------------------------------------------------------------------------


def _rank_stream(ids: ArrayLike, vocab_size: int | None) -> Int64:
    stream = validate.token_ids(ids, "ids", vocab_size)
    if vocab_size is None:
        vocab_size = int(stream.max()) + 1 if stream.size else 0
        if vocab_size > LARGEST_GUESS:
            raise ValueError(f"ids reach {vocab_size - 1}; number types from 0 on, or give vocab_size")
    first = np.full(vocab_size, stream.size, np.int64)
    first[stream[::-1]] = np.arange(stream.size - 1, -1, -1)  # of several values for an entry, the last one stays
    return np.lexsort((first, -np.bincount(stream, minlength=vocab_size)))


def _rank_counts(counts: ArrayLike | None, vocab_size: int | None) -> Int64:
    array = np.asarray(counts)
    if array.dtype.kind not in "fiu" or array.ndim != 1:
        raise TypeError(f"counts must be a vector of numbers, got {array.dtype} {array.shape}")
    if array.size and not (array.min() >= 0 and np.isfinite(array.max())):
        place = int(np.argmax(~(array >= 0) | np.isinf(array)))
        raise ValueError(f"counts must be finite and not negative, got {array[place]} at position {place}")
    if vocab_size is None:
        vocab_size = array.size
    elif array.size > vocab_size:
        raise ValueError(f"counts must be at most vocab_size = {vocab_size}, got {array.size}")
    return np.argsort(-np.pad(array, (0, vocab_size - array.size)).astype(np.float64), kind="stable")


# ---- embeddings ----------------------------------------------------------------------------------------------------


def enriched_embeddings(
    ids: ArrayLike,
    cipher: BitCipher,
    *,
    radii: Sequence[int] = (-2, -1, 1, 2),
    documents: ArrayLike | None = None,
    combine: str = "concatenate",
    weights: str = "counts",
    own: bool = True,
    n_threads: int | None = None,
) -> Float32:
    """Embeddings of types by the average codes of their neighbours.

    For each radius, the block of a type c is ``sum_w a(c, w) code(w) / sum_w a(c, w)`` over the types w found
    at that radius from c. Neighbours without a code count in the denominator only.

    Parameters
    ----------
    ids : array_like of int, shape (M,)
        Token ids, 0 <= id < cipher.vocab_size.
    cipher : BitCipher
        A fitted cipher of b bits.
    radii : sequence of int
        Distinct, not zero: neighbours r to the right (r > 0) or -r to the left (r < 0).
    documents : array_like of int, optional
        Start offsets of documents in ``ids``; a neighbour is in the same document.
    combine : {"concatenate", "sum"}
        What becomes of the blocks; either way the result is then normalised to unit sum.
    weights : {"counts", "ratios"}
        ``"counts"``: ``a(c, w) = n(c, w)``, how often w is that neighbour of c; frequent words dominate.
        ``"ratios"``: the explicit weight ``a(c, w) = log(1 + (n(c, w) - D(n)) / (m(c) p(w)))`` with the absolute
        discounts D, the mass m(c) that they free and the shares p of the types: how much more frequent w is beside c
        than elsewhere.
    own : bool
        Take the type's own code as one more block, the first one.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it.

    Returns
    -------
    ndarray of float32, shape (V, d)
        Not negative, rows of unit sum. ``d = b`` if summed, else b times the number of blocks, in the order of
        ``radii``. A type that never occurs has its own code as its only block that is not zero; a row is zero if
        its type has neither a neighbour with a code nor, with ``own``, a code.

    Raises
    ------
    ValueError, TypeError
        If ids are out of range, the radii are not distinct integers other than zero, or a choice is unknown.

    Notes
    -----
    Enriched bit-cipher embeddings: arXiv 2311.11012. Co-occurrences are counted by :func:`saffu.cooccurrence`; the
    left neighbours of a distance are the transpose of the right ones. Averages are products of sparse rows and codes.

    As features of the newest token in a softmax layer solved by counting, concatenated blocks predict the next word
    best and counts better than ratios; sums are mostly worse than the codes alone.

    Examples
    --------
    >>> cipher = BitCipher(2).fit([0, 0, 1, 0])
    >>> enriched_embeddings([0, 0, 1, 0], cipher, radii=[1], own=False)
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    if not isinstance(cipher, BitCipher):
        raise TypeError(f"cipher must be a BitCipher, got {type(cipher).__name__}")
    validate.choice(combine, "combine", ("concatenate", "sum"))
    validate.choice(weights, "weights", ("counts", "ratios"))
    stream = TokenStream.of(ids, documents, cipher.vocab_size)
    wanted = _radii(radii)
    averages = _Averages(stream, cipher, weights, resolve_threads(n_threads))
    found: dict[int, Float32] = {0: cipher.codes} if own else {}
    for distance in {abs(radius) for radius in wanted}:
        found |= averages.at(distance, wanted)
    blocks = [found[radius] for radius in ([0] if own else []) + wanted]
    rows: Float32 = np.concatenate(blocks, axis=1) if combine == "concatenate" else np.add.reduce(blocks)
    total = rows.sum(axis=1, dtype=np.float64, keepdims=True)
    rows /= np.where(total > 0, total, 1)
    return rows


class _Averages:
    """Average codes of the neighbours in a stream."""

    def __init__(self, stream: TokenStream, cipher: BitCipher, weights: str, n_threads: int) -> None:
        self.stream, self.codes, self.n_threads = stream, cipher.codes, n_threads
        counts = np.bincount(stream.ids, minlength=cipher.vocab_size)
        self.shares = smoothed_distribution(counts, 1 / (stream.ids.size + 1)) if weights == "ratios" else None

    def at(self, distance: int, radii: Sequence[int]) -> dict[int, Float32]:
        """The averages at those of ``distance`` and ``-distance`` that are among the radii."""
        shape = (len(self.codes), len(self.codes))
        table = count_pairs(self.stream, self.stream.ids, np.array([distance]), shape, self.n_threads)
        sides = {distance: table, -distance: table.T}
        return {radius: self._average(csr_array(side)) for radius, side in sides.items() if radius in radii}

    def _average(self, table: csr_array) -> Float32:
        rows = SparseRows.of(table, self.n_threads)
        if self.shares is not None:
            taken = discounts(rows.data)
            rows.data = _core.weigh(rows.indptr, rows.data, rows.indices, self.shares, taken, self.n_threads)[2]
        total = np.add.reduceat(np.append(rows.data, 0), rows.indptr[:-1]) * (np.diff(rows.indptr) > 0)
        rows.data = rows.data.astype(np.float32)
        average: Float32 = rows.product(self.codes)
        average /= np.maximum(total, 1e-30).astype(np.float32)[:, None]
        return average


def _radii(values: Sequence[int]) -> list[int]:
    radii = [validate.integer(radius, "radii", -validate.INT32_MAX) for radius in np.atleast_1d(np.asarray(values))]
    if not radii or 0 in radii or len(set(radii)) < len(radii):
        raise ValueError(f"radii must be distinct integers other than zero, at least one, got {radii}")
    return radii

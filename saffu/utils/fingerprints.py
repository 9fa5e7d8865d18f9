"""Which documents were counted: 64-bit fingerprints of token sequences, and multisets of them.

The fingerprint of a sequence is the sum, modulo 2^64, of a mixed number of each token and its place. So the fingerprint
of a document up to any token is a difference of one cumulative sum, and a document that comes in chunks has the
fingerprint of the same document in one. Two different sequences share one with a probability of 2^-64; a sequence that
was made to collide could be found, so this identifies text, and does not protect it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu.utils.arrays import Array, Int32, Int64, UInt64
from saffu.utils.streams import TokenStream

SLICE = 1 << 15  # tokens mixed at once: they stay in the cache


def mixed(numbers: UInt64) -> UInt64:
    """Spread numbers over 64 bits, one to one, in place: the finaliser of splitmix64 (Steele and others 2014)."""
    shifted = numbers >> np.uint64(30)
    numbers ^= shifted
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(numbers, np.uint64(27), out=shifted)
    numbers ^= shifted
    numbers *= np.uint64(0x94D049BB133111EB)
    np.right_shift(numbers, np.uint64(31), out=shifted)
    numbers ^= shifted
    return numbers


def of_prefixes(stream: TokenStream, ends: Int64, offset: int = 0, before: int = 0) -> UInt64:
    """Fingerprints of documents from their first token up to given places.

    Parameters
    ----------
    stream : TokenStream
        The first document starts at 0, or before it.
    ends : ndarray of int64, shape (n,)
        Ascending places, each behind the last token that counts; the end of every document is one of them.
    offset, before : int
        The first document begins so many tokens before the stream, and this is their fingerprint.

    Returns
    -------
    ndarray of uint64, shape (n,)

    Examples
    --------
    >>> stream = TokenStream.of([7, 3, 7, 3], documents=[0, 2])
    >>> first, whole, again = of_prefixes(stream, ends=np.array([1, 2, 4]))
    >>> bool(first != whole), bool(again == whole)
    (True, True)
    """
    ids, documents = stream
    begins = documents.copy()
    begins[:1] -= offset
    running = np.zeros(ends.size, np.uint64)
    total = np.zeros(1, np.uint64)
    for low in range(0, ids.size, SLICE):
        high = min(low + SLICE, ids.size)
        a, b = stream.documents_of(np.array([low, high - 1]))
        place = np.arange(low, high)
        if a == b:
            place -= begins[a]
        else:
            edges = np.concatenate([[low], documents[a + 1 : b + 1], [high]])
            place -= np.repeat(begins[a : b + 1], np.diff(edges))
        place <<= 31
        place |= ids[low:high]
        sums = mixed(place.view(np.uint64))
        sums[:1] += total
        np.cumsum(sums, out=sums)
        total = sums[-1:]
        i, j = np.searchsorted(ends, [low, high], side="right")
        running[i:j] = sums[ends[i:j] - low - 1]
    # What had run up when the document of each end began.
    starts = np.concatenate([np.zeros(1, np.uint64), running])[np.searchsorted(ends, documents, side="right")]
    starts[:1] -= np.uint64(before)
    found: UInt64 = running - starts[stream.documents_of(ends - 1)]
    return found


def of_documents(stream: TokenStream) -> UInt64:
    """The fingerprint of each document of a stream."""
    ids, starts = stream
    return of_prefixes(stream, np.append(starts[1:], ids.size)) if starts.size else np.empty(0, np.uint64)


class RollingHashes:
    """Hashes of any parts of a text, ``sum_i mixed(token_i) r^i`` modulo 2^64 with i counted from the part's start."""

    RATIO = 0x9E3779B97F4A7C15  # odd, and so with an inverse

    def __init__(self, ids: Int32) -> None:
        powers, self._inverse = (
            np.cumprod(np.append(np.ones(1, np.uint64), np.full(ids.size, ratio, np.uint64)))
            for ratio in (self.RATIO, pow(self.RATIO, -1, 2**64))
        )
        terms = mixed(ids.astype(np.uint64)) * powers[:-1]
        self._sums = np.cumsum(np.append(np.zeros(1, np.uint64), terms))

    def hashes(self, first: Int64, lengths: Int64 | np.int64) -> UInt64:
        """Of the parts that begin at ``first``."""
        found: UInt64 = (self._sums[first + lengths] - self._sums[first]) * self._inverse[first]
        return found


class Counted(NamedTuple):
    """Ascending distinct keys and how often each is there."""

    keys: UInt64
    counts: Int64


def unite(parts: Sequence[Counted]) -> tuple[Counted, Int64]:
    """The sum of some parts without what has become zero, and where each key is first found among all of theirs."""
    keys = np.concatenate([part.keys for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: keys.size])
    summed = np.add.reduceat(counts[order], first) if first.size else counts
    kept = summed != 0
    return Counted(keys[first[kept]], summed[kept]), order[first[kept]]


class Multiset:
    """A multiset of fingerprints; never changed in place.

    It is kept as a few sorted pieces whose sizes at least halve, so that adding n to N takes on the average a time in
    proportion to n log N. Each distinct fingerprint takes 16 bytes.

    Examples
    --------
    >>> keys = np.array([5, 7, 5], np.uint64)
    >>> Multiset().plus(keys).plus(keys[:1], -1).count(keys).tolist()
    [1, 1, 1]
    """

    def __init__(self, pieces: Sequence[Counted] = ()) -> None:
        self.pieces = list(pieces)

    def plus(self, keys: UInt64, sign: int = 1) -> Multiset:
        """With keys added, or with a sign of -1 taken away."""
        if keys.size == 0:
            return self
        distinct, counts = np.unique(keys, return_counts=True)
        return Multiset(_settled([*self.pieces, Counted(distinct, sign * counts.astype(np.int64))]))

    def merge(self, other: Multiset) -> Multiset:
        """All keys of both."""
        return Multiset(_settled(sorted([*self.pieces, *other.pieces], key=lambda piece: -piece.keys.size)))

    def count(self, keys: UInt64) -> Int64:
        """How often each of some keys is there."""
        found = np.zeros(keys.size, np.int64)
        for piece in self.pieces:
            place = np.searchsorted(piece.keys, keys)
            place[place == piece.keys.size] = 0
            found += np.where(piece.keys[place] == keys, piece.counts[place], 0)
        return found

    def holds(self, keys: UInt64) -> bool:
        """Whether all of some keys are there, each as often as it is given."""
        distinct, counts = np.unique(keys, return_counts=True)
        return bool((self.count(distinct) >= counts).all())

    def all(self) -> Counted:
        """Everything in one piece."""
        return unite(self.pieces)[0] if self.pieces else Counted(np.empty(0, np.uint64), np.empty(0, np.int64))

    def arrays(self) -> dict[str, Array]:
        """What a file keeps."""
        return dict(self.all()._asdict())

    @classmethod
    def from_arrays(cls, keys: Array, counts: Array) -> Multiset:
        """Of the arrays of a file, checked."""
        shaped = keys.dtype == np.uint64 and counts.dtype == np.int64 and keys.ndim == 1 and keys.shape == counts.shape
        if not shaped or (keys[1:] <= keys[:-1]).any() or (counts < 1).any():
            raise ValueError("the fingerprints of the documents are damaged")
        return cls([Counted(keys, counts)] if keys.size else [])


def _settled(pieces: list[Counted]) -> list[Counted]:
    while len(pieces) > 1 and pieces[-2].keys.size < 2 * pieces[-1].keys.size:
        last = pieces.pop()
        pieces[-1] = unite([pieces[-1], last])[0]
    return [piece for piece in pieces if piece.keys.size]

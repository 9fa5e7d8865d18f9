"""Blocks of documents, which a sample of text keeps or drops as a whole.

A document is cut into blocks of 8,192 tokens from its own start; its last block is what is left. The key of a block is
the fingerprint of its document up to the end of the block (:mod:`saffu.utils.fingerprints`), and the block is kept
while its key is below 2^64 / 2^k. So which blocks are kept depends on the documents and on k, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu.utils import fingerprints
from saffu.utils.arrays import Bools, Int32, Int64, UInt64, ranges
from saffu.utils.fingerprints import Counted, RollingHashes
from saffu.utils.streams import TokenStream

BLOCK = 8192  # tokens
LIMIT = 256 * BLOCK  # tokens kept, about two million
# What goes before a block of an older file, of which a part of the text is all that is known.
OPENS_UNKNOWN, INSIDE_UNKNOWN = 1, 2


def threshold(halvings: int) -> np.uint64:
    """The largest key that is kept."""
    return np.uint64((1 << max(64 - halvings, 0)) - 1)


class Cut(NamedTuple):
    """Consecutive blocks of a stream, in its order; arrays as in :class:`Blocks`, and where each begins."""

    keys: UInt64
    before: UInt64
    first: Int64
    lengths: Int64

    @classmethod
    def of(cls, stream: TokenStream, offset: int = 0, before: int = 0) -> Cut:
        """All blocks of some documents, the first of which began ``offset`` tokens before, a number of whole blocks.

        The block before has the key ``before``.
        """
        starts, sizes = stream.starts, stream.lengths()
        n_blocks = -(-sizes // BLOCK)
        document = np.repeat(np.arange(starts.size), n_blocks)
        first = starts[document] + BLOCK * ranges(np.zeros_like(n_blocks), n_blocks)
        last = np.minimum(first + BLOCK, (starts + sizes)[document])
        keys = fingerprints.of_prefixes(stream, last, offset, before)
        previous = np.concatenate([np.array([before], np.uint64), keys[:-1]])
        previous[np.searchsorted(first, starts[1:])] = 0
        return cls(keys, previous, first, last - first)

    def up_to(self, n: int) -> Cut:
        """The first n."""
        return Cut(self.keys[:n], self.before[:n], self.first[:n], self.lengths[:n])


class Blocks(NamedTuple):
    """Distinct blocks, by ascending key.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n,)
        Fingerprint of the document up to the end of the block.
    counts : ndarray of int64, shape (n,)
        How often it was counted.
    before : ndarray of uint64, shape (n,)
        Key of the block before it in its document; 0 for one that opens a document.
    lengths : ndarray of int64, shape (n,)
    ids : ndarray of int32
        Tokens, one block after the other.
    """

    keys: UInt64
    counts: Int64
    before: UInt64
    lengths: Int64
    ids: Int32

    @classmethod
    def of(cls, cut: Cut, ids: Int32, halvings: int, sign: int = 1) -> tuple[Blocks, int]:
        """Those of a stream that are kept after so many halvings or more, and how many it took."""
        keys, chosen, counts = np.unique(cut.keys, return_index=True, return_counts=True)
        lengths = cut.lengths[chosen]
        while (kept := keys <= threshold(halvings)).any() and lengths[kept].sum() > LIMIT:
            halvings += 1
        chosen, lengths = chosen[kept], lengths[kept]
        first = cut.first[chosen]
        text = ids[ranges(first, first + lengths)]
        return cls(keys[kept], sign * counts[kept].astype(np.int64), cut.before[chosen], lengths, text), halvings

    @classmethod
    def unite(cls, parts: Sequence[Blocks]) -> Blocks:
        """All blocks of some parts, without those whose counts add up to zero."""
        if not parts:
            none = np.empty(0, np.int64)
            return cls(np.empty(0, np.uint64), none, np.empty(0, np.uint64), none, np.empty(0, np.int32))
        found, place = fingerprints.unite([Counted(part.keys, part.counts) for part in parts])
        lengths = np.concatenate([part.lengths for part in parts])
        first = (np.cumsum(lengths) - lengths)[place]
        before = np.concatenate([part.before for part in parts])[place]
        ids = np.concatenate([part.ids for part in parts])
        return cls(*found, before, lengths[place], ids[ranges(first, first + lengths[place])])

    def only(self, kept: Bools) -> Blocks:
        """Some of them."""
        of_kept = np.repeat(kept, self.lengths)
        return Blocks(self.keys[kept], self.counts[kept], self.before[kept], self.lengths[kept], self.ids[of_kept])

    def thinned(self, halvings: int) -> tuple[Blocks, int]:
        """Those that are kept after so many halvings, or after the least number of more that the limit asks for."""
        while True:
            kept = self.keys <= threshold(halvings)
            if self.lengths[kept].sum() <= LIMIT:
                return (self if kept.all() else self.only(kept)), halvings
            halvings += 1

    @property
    def opens(self) -> Bools:
        """Which blocks open a document."""
        opens: Bools = (self.before == 0) | (self.before == OPENS_UNKNOWN)
        return opens


class OpenBlock(NamedTuple):
    """The last block of a document that the next chunk may continue.

    ``before`` is the key of the block before it, which ends ``offset`` tokens into the document, and ``key``, of shape
    (1,), its own: the fingerprint of the document so far.
    """

    ids: Int32
    before: int
    offset: int
    key: UInt64

    @classmethod
    def of(cls, ids: Int32, before: int, offset: int) -> OpenBlock:
        """With the key that belongs to it."""
        stream = TokenStream(ids, np.zeros(1, np.int64))
        return cls(ids, before, offset, fingerprints.of_prefixes(stream, np.array([ids.size]), offset, before))

    def blocks(self, halvings: int) -> Blocks:
        """The block as if the document ended with it, if it is kept."""
        if self.ids.size == 0 or self.key[0] > threshold(halvings):
            return Blocks.unite([])
        one = np.ones(1, np.int64)
        return Blocks(self.key, one, np.array([self.before], np.uint64), one * self.ids.size, self.ids)


NOTHING = OpenBlock.of(np.empty(0, np.int32), 0, 0)


def occur(blocks: Blocks, stream: TokenStream) -> Bools:
    """Which blocks occur in one of some documents, anywhere, by a hash of 64 bits that rolls along the text."""
    ids, starts = stream
    first = np.cumsum(blocks.lengths) - blocks.lengths
    own = RollingHashes(blocks.ids).hashes(first, blocks.lengths)
    rolling, place = RollingHashes(ids), np.arange(ids.size)
    left = np.repeat(np.append(starts[1:], ids.size), stream.lengths()) - place
    found = np.zeros(own.size, bool)
    for length in np.unique(blocks.lengths):
        same = blocks.lengths == length
        found[same] = np.isin(own[same], rolling.hashes(place[left >= length], length))
    return found

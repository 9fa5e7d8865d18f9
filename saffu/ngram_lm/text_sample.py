"""A bounded sample of text that is not kept: what priming needs of it, whatever the order in which it came.

A document is cut into blocks of 8,192 tokens from its own start; its last block is what is left. A block goes by the
fingerprint of its document up to the end of the block (:mod:`saffu.utils.fingerprints`), and is kept while that is
below 2^64 / 2^k, with the least k at which the distinct blocks kept have at most two million tokens. So the sample
depends on the documents counted, and on nothing else: not on their order, nor on the chunks that they came in, nor on
which of several models counted which of them before these were merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu.utils import fingerprints
from saffu.utils.arrays import Array, Bools, Int32, Int64, UInt64, ranges
from saffu.utils.fingerprints import Counted, Multiset, Rolling, mixed

BLOCK = 8192  # tokens
LIMIT = 256 * BLOCK  # tokens kept, about two million
# What goes before a block of an older file, of which a part of the text is all that is known.
OPENS_UNKNOWN, INSIDE_UNKNOWN = 1, 2
NO_DOCUMENTS = Multiset()


class Piece(NamedTuple):
    """Consecutive tokens; ``starts`` are the places in ``ids`` where documents begin."""

    ids: Int32
    starts: Int64


class Cut(NamedTuple):
    """Consecutive blocks of a stream, in its order; arrays as in :class:`Blocks`, and where each begins."""

    keys: UInt64
    before: UInt64
    first: Int64
    lengths: Int64

    @classmethod
    def of(cls, ids: Int32, starts: Int64, offset: int = 0, before: int = 0) -> Cut:
        """All blocks of some documents, the first of which began ``offset`` tokens before, a number of whole blocks.

        The block before has the key ``before``.
        """
        sizes = np.diff(np.append(starts, ids.size))
        n_blocks = -(-sizes // BLOCK)
        document = np.repeat(np.arange(starts.size), n_blocks)
        first = starts[document] + BLOCK * ranges(np.zeros_like(n_blocks), n_blocks)
        last = np.minimum(first + BLOCK, (starts + sizes)[document])
        keys = fingerprints.fingerprints(ids, starts, last, offset, before)
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
        How often it was heard.
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
        return (self.before == 0) | (self.before == OPENS_UNKNOWN)


class Pieces(NamedTuple):
    """Pieces of text in an order that depends on the text alone, and is as good as chance.

    ``keys`` tell them apart, ``first`` and ``lengths`` are their places in ``ids``, ``opens`` says which of them open a
    document.
    """

    keys: UInt64
    first: Int64
    lengths: Int64
    opens: Bools
    ids: Int32

    def only(self, chosen: Array) -> Pieces:
        """Some of them."""
        return Pieces(self.keys[chosen], self.first[chosen], self.lengths[chosen], self.opens[chosen], self.ids)

    def joined(self) -> Piece:
        """All of them as one stream, each the start of a document."""
        ids = self.ids[ranges(self.first, self.first + self.lengths)]
        return Piece(ids, np.cumsum(self.lengths) - self.lengths)


class Open(NamedTuple):
    """The last block of a document that the next chunk may continue.

    ``before`` is the key of the block before it, which ends ``offset`` tokens into the document, and ``key``, of shape
    (1,), its own: the fingerprint of the document so far.
    """

    ids: Int32
    before: int
    offset: int
    key: UInt64

    @classmethod
    def of(cls, ids: Int32, before: int, offset: int) -> Open:
        """With the key that belongs to it."""
        end = np.array([ids.size])
        return cls(ids, before, offset, fingerprints.fingerprints(ids, np.zeros(1, np.int64), end, offset, before))

    def blocks(self, halvings: int) -> Blocks:
        """The block as if the document ended with it, if it is kept."""
        if self.ids.size == 0 or self.key[0] > threshold(halvings):
            return Blocks.unite([])
        one = np.ones(1, np.int64)
        return Blocks(self.key, one, np.array([self.before], np.uint64), one * self.ids.size, self.ids)


NOTHING = Open.of(np.empty(0, np.int32), 0, 0)


class TokenSample:
    """Blocks of the documents heard, and the fingerprints of all of these; never changed in place.

    Attributes
    ----------
    parts : list of Blocks
        Blocks of documents, whose counts add up. Those of documents taken back are negative.
    halvings : int
        k: the share 2^-k of all distinct blocks is kept.
    open : Open or None
        The end of the document that the next chunk may continue. It is in no part.
    documents : Multiset or None
        Fingerprints of all documents but the open one; None if they are not known, in a model of an older file.
    """

    def __init__(
        self,
        parts: Sequence[Blocks] = (),
        halvings: int = 0,
        open: Open | None = None,
        documents: Multiset | None = NO_DOCUMENTS,
    ) -> None:
        self.parts, self.halvings = _settled(list(parts), halvings)
        self.open, self.documents = open, documents

    # ---- text that comes -----------------------------------------------------------------------------------------

    def plus(self, ids: Int32, starts: Int64) -> TokenSample:
        """With the next tokens of the stream; without a start at 0 they continue the open document."""
        if ids.size == 0:
            return self
        if starts.size and starts[0] == 0:
            return self.closed()._continued(NOTHING, ids, starts)
        assert self.open is not None, "no document is open"
        return self._continued(self.open, ids, np.concatenate([[0], starts + self.open.ids.size]))

    def _continued(self, open: Open, ids: Int32, starts: Int64) -> TokenSample:
        """With tokens after those of an open document; ``starts`` are counted from its last block on."""
        ids = np.concatenate([open.ids, ids]) if open.ids.size else ids
        cut = Cut.of(ids, starts, open.offset, open.before)
        last = cut.first.size - 1
        in_document = last - int(np.searchsorted(cut.first, starts[-1]))
        offset = BLOCK * in_document + (open.offset if starts.size == 1 else 0)
        still_open = Open(ids[cut.first[last] :].copy(), int(cut.before[last]), offset, cut.keys[last:].copy())
        new, halvings = Blocks.of(cut.up_to(last), ids, self.halvings)
        documents = self.documents
        if documents is not None:
            documents = documents.plus(cut.keys[np.searchsorted(cut.first, starts[1:]) - 1])
        return TokenSample([*self.parts, new], halvings, still_open, documents)

    def closed(self) -> TokenSample:
        """No document is open: what comes next begins one."""
        if self.open is None:
            return self
        documents = None if self.documents is None else self.documents.plus(self.open.key)
        return TokenSample([*self.parts, self._open_block()], self.halvings, None, documents)

    def merge(self, other: TokenSample) -> TokenSample:
        """Sample of the documents of both; the open one is the other's."""
        mine = self.closed()
        documents = None
        if mine.documents is not None and other.documents is not None:
            documents = mine.documents.merge(other.documents)
        parts = sorted([*mine.parts, *other.parts], key=lambda part: -part.ids.size)
        return TokenSample(parts, max(mine.halvings, other.halvings), other.open, documents)

    # ---- text that goes ------------------------------------------------------------------------------------------

    def without(self, ids: Int32, starts: Int64) -> TokenSample:
        """The sample without some whole documents; of equal ones the open one goes first.

        Raises
        ------
        ValueError
            If a document was not heard, or not so often.
        """
        if self.documents is None:
            return self._without_parts(ids, starts)
        keys = fingerprints.of_documents(ids, starts)
        sample = self.closed() if self.open is not None and (keys == self.open.key).any() else self
        assert sample.documents is not None
        if not sample.documents.holds(keys):
            raise ValueError("documents to forget must have been heard, and be given whole")
        taken, _ = Blocks.of(Cut.of(ids, starts), ids, sample.halvings, sign=-1)
        return TokenSample([*sample.parts, taken], sample.halvings, sample.open, sample.documents.plus(keys, -1))

    def _without_parts(self, ids: Int32, starts: Int64) -> TokenSample:
        """Where documents are not known: without every block that is a part of one of these.

        Less text to prime on does no harm, text that is no longer counted would.
        """
        blocks = Blocks.unite([*self.parts, self._open_block()])
        return TokenSample([blocks.only(~_occur(blocks, ids, starts))], self.halvings, None, None)

    # ---- what there is -------------------------------------------------------------------------------------------

    def _open_block(self) -> Blocks:
        return Blocks.unite([]) if self.open is None else self.open.blocks(self.halvings)

    def blocks(self) -> tuple[Blocks, int]:
        """All blocks, that of the open document included, and the halvings that this takes."""
        return Blocks.unite([*self.parts, self._open_block()]).thinned(self.halvings)

    @property
    def is_whole(self) -> bool:
        """Whether all text heard can be told from the sample."""
        return self.documents is not None and self.blocks()[1] == 0

    @property
    def n_tokens(self) -> int:
        """Tokens kept, as often as they were heard."""
        blocks, _ = self.blocks()
        return int((blocks.lengths * blocks.counts).sum())

    def pieces(self, length: int) -> Pieces:
        """The sample cut into pieces of at most ``length`` tokens, in an order by their keys.

        A block that was heard often is there as often, up to the limit; from there on, equal blocks are fewer in
        proportion. Where a part of the blocks is kept, one block stands for others, and equal ones for each other.
        """
        blocks, halvings = self.blocks()
        own = mixed(blocks.keys.copy())
        copies = 1 + ((blocks.counts - 1) >> halvings)
        chance = (own >> np.uint64(11)) * 2.0**-53
        share = 1.0
        while int((copies * blocks.lengths).sum()) > LIMIT and copies.max() > 1:
            share /= 2
            copies = np.floor((1 + ((blocks.counts - 1) >> halvings)) * share + chance).astype(np.int64)
        n_pieces = -(-blocks.lengths // length)
        block = np.repeat(np.arange(own.size), n_pieces)
        number = ranges(np.zeros_like(n_pieces), n_pieces)
        copy = ranges(np.zeros_like(block), copies[block])
        block, number = np.repeat(block, copies[block]), np.repeat(number, copies[block])
        offset = number * length
        keys = mixed(own[block] + (offset.astype(np.uint64) << np.uint64(32)) + copy.astype(np.uint64))
        order = np.argsort(keys, kind="stable")
        keys, block, offset = keys[order], block[order], offset[order]
        first = np.cumsum(blocks.lengths) - blocks.lengths
        lengths = np.minimum(blocks.lengths[block] - offset, length)
        return Pieces(keys, first[block] + offset, lengths, blocks.opens[block] & (offset == 0), blocks.ids)

    def whole(self) -> Piece:
        """All text heard, the open document last; for a sample that is whole."""
        blocks, _ = self.blocks()
        assert self.documents is not None
        keys, counts = self.documents.all()
        heard = np.repeat(keys, counts)
        if self.open is not None:
            heard = np.append(heard, self.open.key)
        document, block = np.arange(heard.size), np.searchsorted(blocks.keys, heard)
        documents, chain = [document], [block]
        while block.size:  # from the last block of each document to its first
            goes_on = blocks.before[block] > 0
            document, block = document[goes_on], np.searchsorted(blocks.keys, blocks.before[block[goes_on]])
            documents.append(document)
            chain.append(block)
        backwards = np.concatenate(documents[::-1])
        block = np.concatenate(chain[::-1])[np.argsort(backwards, kind="stable")]
        lengths = blocks.lengths[block]
        first = (np.cumsum(blocks.lengths) - blocks.lengths)[block]
        begins = (np.cumsum(lengths) - lengths)[blocks.before[block] == 0]
        return Piece(blocks.ids[ranges(first, first + lengths)], begins)

    def end_of_open(self, text: Piece, n: int, known: Int32) -> Int32:
        """The last tokens of the open document, at most n, found in a text that holds all documents.

        Where documents are not known, it is the last of the text; with no document open nothing is ``known``.
        """
        if known.size == 0:
            return known
        last = text.starts.size - 1
        if self.documents is not None and self.open is not None:
            last = int(np.flatnonzero(fingerprints.of_documents(*text) == self.open.key)[-1])
        end = np.append(text.starts, text.ids.size)[last + 1]
        return text.ids[max(int(text.starts[last]), end - n) : end].copy()

    def is_all(self, text: Piece) -> bool:
        """Whether a text is what was heard, document by document; also where that is not known."""
        documents = self.closed().documents
        if documents is None:
            return True
        found = Multiset().plus(fingerprints.of_documents(text.ids, text.starts)).all()
        own = documents.all()
        return np.array_equal(found.keys, own.keys) and np.array_equal(found.counts, own.counts)


def threshold(halvings: int) -> np.uint64:
    """The largest key that is kept."""
    return np.uint64((1 << max(64 - halvings, 0)) - 1)


def _settled(parts: list[Blocks], halvings: int) -> tuple[list[Blocks], int]:
    """Parts each of at most half as many tokens as the one before it, and not more than the limit."""
    if sum(part.ids.size for part in parts) > LIMIT:
        blocks, halvings = Blocks.unite(parts).thinned(halvings)
        parts = [blocks]
    while len(parts) > 1 and parts[-2].ids.size < 2 * parts[-1].ids.size:
        last = parts.pop()
        parts[-1] = Blocks.unite([parts[-1], last])
    return [part for part in parts if part.keys.size], halvings


def _occur(blocks: Blocks, ids: Int32, starts: Int64) -> Bools:
    """Which blocks occur in one of some documents, anywhere; told by a hash of 64 bits that rolls along the text."""
    first = np.cumsum(blocks.lengths) - blocks.lengths
    own = Rolling(blocks.ids).hashes(first, blocks.lengths)
    rolling, place = Rolling(ids), np.arange(ids.size)
    left = np.repeat(np.append(starts[1:], ids.size), np.diff(np.append(starts, ids.size))) - place
    found = np.zeros(own.size, bool)
    for length in np.unique(blocks.lengths):
        same = blocks.lengths == length
        found[same] = np.isin(own[same], rolling.hashes(place[left >= length], length))
    return found

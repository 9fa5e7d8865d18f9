"""A bounded sample of text that is not kept: what priming needs of it, whatever the order in which it came.

Blocks of documents (:mod:`saffu.ngram_lm.text_blocks`) are kept while their keys are below 2^64 / 2^k, with the least k
at which the distinct blocks kept have at most two million tokens. So the sample depends on the documents counted, and
on nothing else: not on their order, nor on the chunks that they came in, nor on which of several models counted which
of them before these were merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu.ngram_lm import text_blocks
from saffu.ngram_lm.text_blocks import NOTHING, Blocks, Cut, OpenBlock, occur
from saffu.utils import fingerprints
from saffu.utils.arrays import Array, Bools, Int32, Int64, UInt64, ranges
from saffu.utils.fingerprints import Multiset, mixed
from saffu.utils.streams import TokenStream

NO_DOCUMENTS = Multiset()


class Pieces(NamedTuple):
    """Pieces of text in an order that depends on the text alone, and is as good as chance.

    ``keys`` identify them, ``first`` and ``lengths`` are their places in ``ids``, ``opens`` marks those that open a
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

    def joined(self) -> TokenStream:
        """All of them as one stream, each the start of a document."""
        ids = self.ids[ranges(self.first, self.first + self.lengths)]
        return TokenStream(ids, np.cumsum(self.lengths) - self.lengths)


class TokenSample:
    """Blocks of the documents counted, and the fingerprints of all of these; never changed in place.

    Attributes
    ----------
    parts : list of Blocks
        Blocks of documents, whose counts add up. Those of documents taken away are negative.
    halvings : int
        k: the share 2^-k of all distinct blocks is kept.
    open : OpenBlock or None
        The end of the document that the next chunk may continue. It is in no part.
    documents : Multiset or None
        Fingerprints of all documents but the open one; None if they are not known, in a model of an older file.
    """

    def __init__(
        self,
        parts: Sequence[Blocks] = (),
        halvings: int = 0,
        open: OpenBlock | None = None,
        documents: Multiset | None = NO_DOCUMENTS,
    ) -> None:
        self.parts, self.halvings = _settled(list(parts), halvings)
        self.open, self.documents = open, documents

    # ---- text that comes -----------------------------------------------------------------------------------------

    def plus(self, stream: TokenStream) -> TokenSample:
        """With the next tokens of the text; without a start at 0 they continue the open document."""
        if stream.ids.size == 0:
            return self
        if not stream.continues:
            return self.closed()._continued(NOTHING, stream)
        assert self.open is not None, "no document is open"
        ids = np.concatenate([self.open.ids, stream.ids]) if self.open.ids.size else stream.ids
        starts = np.concatenate([[0], stream.starts + self.open.ids.size])
        return self._continued(self.open, TokenStream(ids, starts))

    def _continued(self, open: OpenBlock, stream: TokenStream) -> TokenSample:
        """With the tokens of a stream that begins with the open block."""
        ids, starts = stream
        cut = Cut.of(stream, open.offset, open.before)
        last = cut.first.size - 1
        in_document = last - int(np.searchsorted(cut.first, starts[-1]))
        offset = text_blocks.BLOCK * in_document + (open.offset if starts.size == 1 else 0)
        still_open = OpenBlock(ids[cut.first[last] :].copy(), int(cut.before[last]), offset, cut.keys[last:].copy())
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

    def without(self, stream: TokenStream) -> TokenSample:
        """The sample without some whole documents; of equal ones the open one goes first.

        Raises
        ------
        ValueError
            If a document was not counted, or not so often.
        """
        if self.documents is None:
            return self._without_parts(stream)
        keys = fingerprints.of_documents(stream)
        sample = self.closed() if self.open is not None and (keys == self.open.key).any() else self
        assert sample.documents is not None
        if not sample.documents.holds(keys):
            raise ValueError("documents to forget must have been counted, and be given whole")
        taken, _ = Blocks.of(Cut.of(stream), stream.ids, sample.halvings, sign=-1)
        return TokenSample([*sample.parts, taken], sample.halvings, sample.open, sample.documents.plus(keys, -1))

    def _without_parts(self, stream: TokenStream) -> TokenSample:
        """Where documents are not known: without every block that is a part of one of these.

        Less text to prime on does no harm, text that is no longer counted would.
        """
        blocks = Blocks.unite([*self.parts, self._open_block()])
        return TokenSample([blocks.only(~occur(blocks, stream))], self.halvings, None, None)

    # ---- what is kept -------------------------------------------------------------------------------------------

    def _open_block(self) -> Blocks:
        return Blocks.unite([]) if self.open is None else self.open.blocks(self.halvings)

    def blocks(self) -> tuple[Blocks, int]:
        """All blocks, that of the open document included, and the halvings that this takes."""
        return Blocks.unite([*self.parts, self._open_block()]).thinned(self.halvings)

    @property
    def is_whole(self) -> bool:
        """Whether the sample holds all text that was counted."""
        return self.documents is not None and self.blocks()[1] == 0

    @property
    def n_tokens(self) -> int:
        """Tokens kept, as often as they were counted."""
        blocks, _ = self.blocks()
        return int((blocks.lengths * blocks.counts).sum())

    def pieces(self, length: int) -> Pieces:
        """The sample cut into pieces of at most ``length`` tokens, in an order by their keys.

        A block that was counted often is there as often, up to the limit; from there on, equal blocks are fewer in
        proportion. Where a part of the blocks is kept, one block represents others, and equal ones each other.
        """
        blocks, halvings = self.blocks()
        own = mixed(blocks.keys.copy())
        copies = 1 + ((blocks.counts - 1) >> halvings)
        chance = (own >> np.uint64(11)) * 2.0**-53
        share = 1.0
        while int((copies * blocks.lengths).sum()) > text_blocks.LIMIT and copies.max() > 1:
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

    def whole(self) -> TokenStream:
        """All text counted, the open document last; for a sample that is whole."""
        blocks, _ = self.blocks()
        assert self.documents is not None
        keys, counts = self.documents.all()
        counted = np.repeat(keys, counts)
        if self.open is not None:
            counted = np.append(counted, self.open.key)
        document, block = np.arange(counted.size), np.searchsorted(blocks.keys, counted)
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
        return TokenStream(blocks.ids[ranges(first, first + lengths)], begins)

    def end_of_open(self, text: TokenStream, n: int, known: Int32) -> Int32:
        """The last tokens of the open document, at most n, found in a text that holds all documents.

        Where documents are not known, it is the last of the text; with no document open nothing is ``known``.
        """
        if known.size == 0:
            return known
        last = text.starts.size - 1
        if self.documents is not None and self.open is not None:
            last = int(np.flatnonzero(fingerprints.of_documents(text) == self.open.key)[-1])
        end = np.append(text.starts, text.ids.size)[last + 1]
        return text.ids[max(int(text.starts[last]), end - n) : end].copy()

    def is_all(self, text: TokenStream) -> bool:
        """Whether a text is what was counted, document by document; also where that is not known."""
        documents = self.closed().documents
        if documents is None:
            return True
        found = Multiset().plus(fingerprints.of_documents(text)).all()
        own = documents.all()
        return np.array_equal(found.keys, own.keys) and np.array_equal(found.counts, own.counts)


def _settled(parts: list[Blocks], halvings: int) -> tuple[list[Blocks], int]:
    """Parts each of at most half as many tokens as the one before it, and not more than the limit."""
    if sum(part.ids.size for part in parts) > text_blocks.LIMIT:
        blocks, halvings = Blocks.unite(parts).thinned(halvings)
        parts = [blocks]
    while len(parts) > 1 and parts[-2].ids.size < 2 * parts[-1].ids.size:
        last = parts.pop()
        parts[-1] = Blocks.unite([parts[-1], last])
    return [part for part in parts if part.keys.size], halvings

"""A bounded sample of a token stream: what priming needs of text that is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

BLOCK = 8192  # tokens
LIMIT = 256 * BLOCK  # tokens kept, about two million


class Piece(NamedTuple):
    """Consecutive tokens; ``starts`` are the places in ``ids`` where documents begin."""

    ids: Int32
    starts: Int64


class TokenSample:
    """Every block of 8,192 tokens while there are few, then every second, every fourth, and so on.

    Which blocks are kept depends on their number in the stream alone, so that a stream fed in any chunks leaves the
    same sample.
    """

    def __init__(self) -> None:
        self.blocks: list[Piece] = []
        self.n_seen = 0  # tokens of the stream so far
        self.stride = 1

    def append(self, ids: Int32, starts: Int64) -> None:
        """Add the next tokens of the stream."""
        first = 0
        while first < ids.size:
            number, offset = divmod(self.n_seen, BLOCK)
            last = min(first + BLOCK - offset, ids.size)
            low, high = np.searchsorted(starts, [first, last])
            self.n_seen += last - first
            if number % self.stride == 0:
                self._keep(Piece(ids[first:last].copy(), starts[low:high] - first), extends=offset > 0)
            first = last

    def _keep(self, piece: Piece, extends: bool) -> None:
        if extends and self.blocks:
            before = self.blocks.pop()
            piece = Piece(
                np.concatenate([before.ids, piece.ids]), np.concatenate([before.starts, piece.starts + before.ids.size])
            )
        self.blocks.append(piece)
        if len(self.blocks) * BLOCK > LIMIT:
            self._thin()

    def _thin(self) -> None:
        self.blocks = self.blocks[::2]
        self.stride *= 2

    def merge(self, other: TokenSample) -> TokenSample:
        """Sample of both streams, the other's after this one's."""
        both = TokenSample()
        both.stride = max(self.stride, other.stride)
        for part in (self, other):
            both.blocks += part.blocks[:: both.stride // part.stride]
        # Begin the next block afresh: a later chunk must not extend a block of another length.
        both.n_seen = -(-(self.n_seen + other.n_seen) // BLOCK) * BLOCK
        while len(both.blocks) * BLOCK > LIMIT:
            both._thin()
        return both

    def without(self, forgotten: Piece) -> TokenSample:
        """The sample of the stream without some whole documents, of equal ones the latest.

        Where every block is at hand, it is what the rest of the stream would have left. Where blocks have been dropped,
        parts of documents at the edges of a block go if they could belong to one that is forgotten: less text to prime
        on does no harm, text that is no longer counted would.

        Raises
        ------
        ValueError
            If a document is not in the sample although every block is at hand.
        """
        ids, starts, cut = self._segments()
        ends = np.append(starts, ids.size)[1:]
        kept = np.ones(starts.size, bool)
        for first, last in zip(forgotten.starts, np.append(forgotten.starts[1:], forgotten.ids.size), strict=True):
            document = forgotten.ids[first:last]
            same = np.flatnonzero(kept & ~cut & (ends - starts == document.size))
            same = same[(ids[starts[same, None] + np.arange(document.size)] == document).all(axis=1)]
            if same.size:
                kept[same[-1]] = False
            elif self.stride == 1:
                raise ValueError("documents to forget must have been heard, and be given whole")
            for j in np.flatnonzero(kept & cut & (ends - starts <= document.size)):
                kept[j] = not _holds(document, ids[starts[j] : ends[j]])
        return self._only(kept, ids, starts, ends)

    def _segments(self) -> tuple[Int32, Int64, NDArray[np.bool_]]:
        """All tokens, where documents start, and which of these may be parts: none if every block is at hand."""
        lengths = [block.ids.size for block in self.blocks]
        offsets = np.cumsum([0, *lengths])
        ids = np.concatenate([np.empty(0, np.int32), *(block.ids for block in self.blocks)])
        true = [block.starts + offset for block, offset in zip(self.blocks, offsets, strict=False)]
        starts = np.concatenate([np.empty(0, np.int64), *true])
        if self.stride == 1:
            return ids, starts, np.zeros(starts.size, bool)
        segments = np.union1d(starts, offsets[:-1][np.array(lengths) > 0]).astype(np.int64)
        ends_a_block = np.isin(np.append(segments, ids.size)[1:], offsets)
        return ids, segments, ends_a_block | ~np.isin(segments, starts)

    def _only(self, kept: NDArray[np.bool_], ids: Int32, starts: Int64, ends: Int64) -> TokenSample:
        left = TokenSample()
        of_kept = np.repeat(kept, ends - starts)
        if self.stride == 1:
            left.append(ids[of_kept], _places(of_kept)[starts[kept]])
            return left
        left.stride = self.stride
        left.n_seen = -(-self.n_seen // BLOCK) * BLOCK  # nothing may extend a block whose end may be gone
        offset = 0
        for block in self.blocks:
            mask = of_kept[offset : offset + block.ids.size]
            left.blocks.append(Piece(block.ids[mask], _places(mask)[block.starts[mask[block.starts]]]))
            offset += block.ids.size
        return left

    def whole(self) -> Piece:
        """All tokens, if every block is at hand."""
        ids, starts, _ = self._segments()
        return Piece(ids, starts)

    def end(self, n: int) -> Int32:
        """The last tokens of the last document, at most n; of a sample whose every block is at hand."""
        ids, starts, _ = self._segments()
        return ids[max(int(starts[-1]), ids.size - n) :].copy() if starts.size else ids

    def units(self, length: int) -> list[Piece]:
        """The sample cut into pieces of ``length`` tokens (the last piece of a block may be shorter)."""
        return [
            Piece(block.ids[first : first + length], _between(block.starts, first, first + length))
            for block in self.blocks
            for first in range(0, block.ids.size, length)
        ]

    @property
    def n_tokens(self) -> int:
        """Tokens kept."""
        return sum(block.ids.size for block in self.blocks)


def _holds(document: Int32, part: Int32) -> bool:
    """Whether a part occurs in a document, anywhere."""
    places = np.flatnonzero(document[: document.size - part.size + 1] == part[0])
    return any(np.array_equal(document[place : place + part.size], part) for place in places)


def _places(kept: NDArray[np.bool_]) -> Int64:
    """Where each kept element stands among those kept."""
    return np.cumsum(kept, dtype=np.int64) - kept


def _between(starts: Int64, low: int, high: int) -> Int64:
    inside = starts[(starts >= low) & (starts < high)]
    return inside - low


def join(pieces: Sequence[Piece]) -> tuple[Int32, Int64, NDArray[np.bool_]]:
    """Pieces as one stream: ids, document starts (each piece begins one), and which of those are true beginnings."""
    ids = np.concatenate([piece.ids for piece in pieces])
    offsets = np.cumsum([0, *(piece.ids.size for piece in pieces)])
    true = np.concatenate([piece.starts + offset for piece, offset in zip(pieces, offsets, strict=False)])
    starts = np.union1d(true, offsets[:-1]).astype(np.int64)
    return ids.astype(np.int32, copy=False), starts, np.isin(starts, true)

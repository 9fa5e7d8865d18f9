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

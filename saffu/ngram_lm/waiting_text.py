"""Chunks of text that wait to be counted together: one count of many tokens is cheaper than many counts and merges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from saffu.utils.arrays import Bools, Int32, Int64
from saffu.utils.streams import TokenStream

MOST = 1 << 23  # tokens that wait


class Joined(NamedTuple):
    """Text to be counted.

    Attributes
    ----------
    stream : TokenStream
    n_context : int
        The first tokens are context only: they were counted before.
    opens : ndarray of bool
        Which documents are there from their first token.
    """

    stream: TokenStream
    n_context: int
    opens: Bools


class WaitingText:
    """Consecutive chunks.

    Parameters
    ----------
    before : ndarray of int32
        The end of the document that the first chunk continues, as far as contexts reach; empty if it continues none.
    reach : int
        Tokens that contexts reach over.
    """

    def __init__(self, before: Int32, reach: int) -> None:
        self._before, self._reach = before, reach
        self._parts: list[TokenStream] = []

    @property
    def n_tokens(self) -> int:
        """How many tokens wait."""
        return sum(part.ids.size for part in self._parts)

    def add(self, stream: TokenStream) -> None:
        """The next chunk, which is kept; without a document start at 0 it continues the document before."""
        self._parts.append(stream)

    def joined(self) -> Joined:
        """All chunks."""
        ids, inside = self._parts[0] if len(self._parts) == 1 else TokenStream.concat(self._parts)
        n_context = self._before.size
        starts: Int64 = np.union1d([0], inside + n_context).astype(np.int64)
        opens = np.ones(starts.size, bool)
        opens[0] = n_context < self._reach  # a longer document has lost its beginning, out of reach
        return Joined(TokenStream(np.concatenate([self._before, ids]), starts), n_context, opens)


def end_after(stream: TokenStream, end: Int32, reach: int) -> Int32:
    """The last tokens, at most ``reach``, of the last document after a chunk, given those before it."""
    ids, starts = stream
    if starts.size:
        return ids[max(int(starts[-1]), ids.size - reach) :].copy()
    return np.concatenate([end, ids[-reach:]])[-reach:]

"""What every step of solving a network shares, and which positions of the text it is solved on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saffu.attention_lm.contexts import segment_bounds
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.units import Network
from saffu.utils.arrays import Int64, ranges
from saffu.utils.streams import TokenStream

POSITIONS = 130_000  # to solve attention and hidden layers on; layers above the first take half of them


def _ignore(n_positions: int) -> None:
    pass


@dataclass(frozen=True)
class SolveContext:
    """A network to be solved, and the text it is solved on.

    Attributes
    ----------
    network : Network
    shared : SharedCounts
        Counts of the text as it is.
    stream : TokenStream
        The text as the network reads it: on a residual, with unknown words where a new text would have them.
    seed : int
        Of the positions that are drawn, and of their order.
    attention : {"responsibilities", "gradient", "uniform"}
    progress : callable
        Called with a number of positions whenever so many more are done.
    """

    network: Network
    shared: SharedCounts
    stream: TokenStream
    seed: int = 0
    attention: str = "responsibilities"
    progress: Callable[[int], object] = _ignore

    @property
    def n_threads(self) -> int:
        """Threads of all that is solved here."""
        return self.shared.n_threads

    def sample(self, most: float = math.inf) -> Int64:
        """Positions of the text, see :func:`sample`."""
        return sample(self.stream, self.seed, most)


def sample(stream: TokenStream, seed: int, most: float = math.inf) -> Int64:
    """At most so many positions, in whole segments, each with a token of its document before it."""
    first, last = segment_bounds(stream)
    share = most / max(stream.ids.size, 1)
    if share < 1:
        chosen = np.sort(np.random.default_rng(seed).choice(first.size, int(share * first.size), replace=False))
        first, last = first[chosen], last[chosen]
    positions = ranges(first, last)
    with_context: Int64 = positions[positions > stream.begins(positions)]
    return with_context


def runs(positions: Int64) -> tuple[Int64, Int64]:
    """Ascending positions as runs of consecutive ones: the first of each run, and the one behind its last.

    Each position has a token of its document before it, so that no run reaches over the start of a document.
    """
    if positions.size == 0:
        return positions, positions
    cut = np.flatnonzero(np.diff(positions) != 1) + 1
    firsts = np.concatenate([[0], cut])
    return positions[firsts], positions[np.concatenate([cut - 1, [positions.size - 1]])] + 1

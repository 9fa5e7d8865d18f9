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
    """At most so many positions, in whole segments, each with a token of its document before it.

    Parameters
    ----------
    stream : TokenStream
    seed : int
        Of the choice, where there are more.
    most : float

    Returns
    -------
    ndarray of int64
        Ascending.
    """
    first, last = segment_bounds(stream)
    share = most / max(stream.ids.size, 1)
    if share < 1:
        chosen = np.sort(np.random.default_rng(seed).choice(first.size, int(share * first.size), replace=False))
        first, last = first[chosen], last[chosen]
    positions = ranges(first, last)
    with_context: Int64 = positions[positions > stream.begins(positions)]
    return with_context


def runs(positions: Int64, starts: Int64 | None = None) -> tuple[Int64, Int64]:
    """Ascending positions as runs of consecutive ones of one document.

    Parameters
    ----------
    positions : ndarray of int64
    starts : ndarray of int64, optional
        Where documents start; not needed if no position is the start of one.

    Returns
    -------
    first, last : ndarray of int64, shape (n_runs,)
        The first position of each run, and the one behind its last.

    Examples
    --------
    >>> first, last = runs(np.array([1, 2, 3, 7, 8]), starts=np.array([0, 3]))
    >>> first.tolist(), last.tolist()
    ([1, 3, 7], [3, 4, 9])
    """
    if positions.size == 0:
        return positions, positions
    cut = np.diff(positions) != 1
    if starts is not None:
        cut |= np.isin(positions[1:], starts)
    cut = np.flatnonzero(cut) + 1
    firsts = np.concatenate([[0], cut])
    return positions[firsts], positions[np.concatenate([cut - 1, [positions.size - 1]])] + 1

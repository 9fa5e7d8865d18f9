"""A text as streams that are read side by side: stretches of equal length in training, whole documents in scoring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from saffu.recurrent_lm.network import GROUP, Segment
from saffu.utils.arrays import Array, Bools, Int32, Int64
from saffu.utils.streams import TokenStream


def inputs_of(stream: TokenStream, vocab_size: int) -> tuple[Int64, Bools]:
    """The token before each position, V at the start of a document; and where documents start.

    Examples
    --------
    >>> inputs, starts = inputs_of(TokenStream.of([4, 0, 2], documents=[0, 2]), 5)
    >>> inputs.tolist(), starts.tolist()
    ([5, 4, 5], [True, False, True])
    """
    starts = np.zeros(stream.ids.size, np.bool_)
    starts[stream.starts] = True
    inputs = np.concatenate([np.zeros(min(stream.ids.size, 1), np.int64), stream.ids[:-1].astype(np.int64)])
    inputs[starts] = vocab_size
    return inputs, starts


def grouped(values: Array, n_streams: int) -> Array:
    """(T, streams) as (groups, T, streams of a group); the number of streams is that of one group or a multiple."""
    size = min(GROUP, n_streams)
    found = values.reshape(len(values), n_streams // size, size).transpose(1, 0, 2)
    return np.ascontiguousarray(found)


# ---- training --------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A segment to train on, and the targets of its positions, flat."""

    segment: Segment
    targets: Int32


class TrainingStreams:
    """A text of M tokens as streams of equal length, cut into segments.

    Parameters
    ----------
    stream : TokenStream
        At least one token.
    vocab_size : int
    n_streams : int
        At most; a multiple of GROUP. Short texts have fewer.
    n_steps : int
        Tokens of a segment, and of each stream at least.
    """

    def __init__(self, stream: TokenStream, vocab_size: int, n_streams: int, n_steps: int) -> None:
        self.ids = stream.ids
        self.inputs, self.starts = inputs_of(stream, vocab_size)
        fit = max(stream.ids.size // n_steps, 1)
        self.n_streams = min(n_streams, fit // GROUP * GROUP if fit > GROUP else fit)
        self.n_steps = n_steps
        self.length = -(-stream.ids.size // self.n_streams)

    @property
    def n_segments(self) -> int:
        """How many steps an epoch has."""
        return -(-self.length // self.n_steps)

    def epoch(self, rng: np.random.Generator) -> Iterator[Step]:
        """The text once, from an offset drawn; its end is followed by its start."""
        n = self.ids.size
        offset = int(rng.integers(n))
        first = offset + np.arange(self.n_streams) * n // self.n_streams
        for begin in range(0, self.length, self.n_steps):
            places = np.arange(begin, min(begin + self.n_steps, self.length))
            at = grouped((first + places[:, None]) % n, self.n_streams)
            yield Step(Segment(self.inputs[at], self.starts[at]), self.ids[at].reshape(-1))


# ---- scoring ---------------------------------------------------------------------------------------------------------


class ScoredSegment(NamedTuple):
    """A segment of documents side by side.

    Attributes
    ----------
    segment : Segment
    places : ndarray of int64, shape (N,)
        Which of the flat positions of the segment are in the text; the others fill it.
    positions : ndarray of int64, shape (N,)
        Where these are in the text.
    """

    segment: Segment
    places: Int64
    positions: Int64


class DocumentStreams:
    """The documents of a text, in their order, in streams of about equal length.

    Parameters
    ----------
    stream : TokenStream
    vocab_size : int
    n_streams : int
        At most; a multiple of GROUP.
    n_steps : int
        Tokens of a segment.
    """

    def __init__(self, stream: TokenStream, vocab_size: int, n_streams: int, n_steps: int) -> None:
        self.inputs, self.starts = inputs_of(stream, vocab_size)
        n = stream.starts.size
        self.n_streams = max(min(n_streams, n // GROUP * GROUP if n > GROUP else n), 1)
        self.n_steps, self.vocab_size = n_steps, vocab_size
        # Documents go to the stream in whose share of the text they start.
        shares = np.arange(self.n_streams + 1) * stream.ids.size / self.n_streams
        ends = np.append(stream.starts, stream.ids.size)
        bounds = ends[np.searchsorted(stream.starts, shares[1:-1])] if n else np.zeros(self.n_streams - 1, np.int64)
        self.first = np.concatenate([[0], bounds]).astype(np.int64)
        self.last = np.concatenate([bounds, [stream.ids.size]]).astype(np.int64)

    def segments(self) -> Iterator[ScoredSegment]:
        """All documents from their starts."""
        length = int((self.last - self.first).max())
        for begin in range(0, length, self.n_steps):
            places = np.arange(begin, min(begin + self.n_steps, length))
            at = grouped(self.first + places[:, None], self.n_streams)
            inside = at < grouped(np.broadcast_to(self.last, (len(places), self.n_streams)), self.n_streams)
            known = np.where(inside, at, 0)
            inputs = np.where(inside, self.inputs[known], self.vocab_size)
            segment = Segment(inputs, np.where(inside, self.starts[known], False))
            chosen = np.flatnonzero(inside)
            yield ScoredSegment(segment, chosen, at.reshape(-1)[chosen])

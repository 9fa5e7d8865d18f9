"""Training text in segments, as the refiner takes its rows, and the workers that compute them side by side.

Work is cut into chunks of whole segments, whatever the number of threads, and sums over chunks are taken in
their order: results do not depend on the threads. Within a chunk kernels and BLAS use one thread; both leave
Python's lock, so that chunks run side by side. Two pools of threads, those of BLAS and those of the kernels, would
take each other's cores.
"""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from saffu.attention_lm.contexts import SEGMENT, segment_bounds
from saffu.attention_lm.output_classes import OutputClasses
from saffu.utils.arrays import Array, Int32, Int64, checksum, ranges
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers

CHUNK = 8  # segments


class LogitSource(Protocol):
    """Another model's logits of positions of one text."""

    def fill(self, positions: Int64, out: Array) -> None:
        """Write the logits of ascending runs of positions into ``out`` (n, V)."""
        ...


class SegmentBatch(NamedTuple):
    """Segments of a text: a batch."""

    text: SegmentedText
    segments: Int64
    dropout: float
    seed: int

    @property
    def n_positions(self) -> int:
        """Positions to predict."""
        return int((self.text.last[self.segments] - self.text.first[self.segments]).sum())

    def chunks(self) -> list[tuple[slice, Int64]]:
        """Places of each chunk among the positions of the batch, and its segments."""
        lengths = self.text.last[self.segments] - self.text.first[self.segments]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        cuts = [*range(0, self.segments.size, CHUNK), self.segments.size]
        return [(slice(int(ends[i]), int(ends[j])), self.segments[i:j]) for i, j in pairwise(cuts)]


class SegmentedText:
    """A text whose rows are its segments.

    Parameters
    ----------
    stream : TokenStream
    vocab_size : int
    dtype : dtype
        Of the computation.
    n_threads : int
    source : LogitSource, optional
        Logits that come on top.
    output_classes : OutputClasses, optional
        What has an output, with a source; by default each word has.

    Attributes
    ----------
    first, last : ndarray of int64, shape (n_segments,)
    """

    sample_rows = 400  # segments whose loss is taken after every epoch
    check_all = False  # reading a corpus twice more, only to be certain, would cost as much as an epoch

    def __init__(
        self,
        stream: TokenStream,
        vocab_size: int,
        dtype: np.dtype[Any],
        n_threads: int,
        source: LogitSource | None = None,
        output_classes: OutputClasses | None = None,
    ) -> None:
        self.stream, self.vocab_size, self.dtype, self.source = stream, vocab_size, dtype, source
        self.output_classes = output_classes
        self.n_outputs = vocab_size if output_classes is None else output_classes.n_classes
        self._buffers = threading.local()  # memory that each thread uses again
        self.first, self.last = segment_bounds(stream)
        # Of the kernels outside the workers: threads of theirs would wait actively for more, on the workers' cores.
        self.n_threads = 1
        self.workers = Workers(n_threads)
        self.tokens_per_row = stream.ids.size / max(self.first.size, 1)

    def __len__(self) -> int:
        return self.first.size

    def take(self, rows: Int64 | slice, dropout: float = 0.0, rng: np.random.Generator | None = None) -> SegmentBatch:
        """A batch of segments, in the order of the text."""
        segments = np.arange(len(self))[rows] if isinstance(rows, slice) else np.sort(rows)
        seed = 0 if rng is None else int(rng.integers(2**32))
        return SegmentBatch(self, segments, dropout, seed)

    def checksum(self) -> int:
        """A number that changes with the text."""
        return checksum([self.stream.ids, self.stream.starts], str(self.vocab_size))

    def positions(self, segments: Int64) -> Int64:
        """Positions of the segments, one segment after the other."""
        return ranges(self.first[segments], self.last[segments])

    def targets(self, positions: Int64) -> Int32:
        """Which output is right at each position."""
        words: Int32 = self.stream.ids[positions]
        return words if self.output_classes is None else self.output_classes.of_word[words]

    def fill(self, positions: Int64, logits: Array) -> Array:
        """Write what lies below the outputs (n, n_outputs), if anything; nats of a word below its output (n)."""
        if self.source is None:
            return np.zeros(positions.size)
        if self.output_classes is None:
            self.source.fill(positions, logits)
            return np.zeros(positions.size)
        words, row = self._words(positions.size), np.arange(positions.size)
        self.source.fill(positions, words)
        self.output_classes.reduce(words, logits)
        own = self.stream.ids[positions]
        nats: Array = logits[row, self.output_classes.of_word[own]].astype(np.float64) - words[row, own]
        return nats

    def _words(self, n_rows: int) -> Array:
        """A buffer for logits of all words, (n_rows, V)."""
        if getattr(self._buffers, "words", np.empty(0)).shape[0] < n_rows:
            self._buffers.words = np.empty((n_rows, self.vocab_size), self.dtype)
        words: Array = self._buffers.words[:n_rows]
        return words

    def buffer(self, n_rows: int) -> Array:
        """Memory for the logits of a batch, (n_rows, n_outputs): the same each time that a thread asks."""
        size = n_rows * self.n_outputs
        if getattr(self._buffers, "logits", np.empty(0)).size < size:
            self._buffers.logits = np.empty(max(size, (self.n_threads + 1) * CHUNK * SEGMENT), self.dtype)
        logits: Array = self._buffers.logits[:size].reshape(n_rows, self.n_outputs)
        return logits

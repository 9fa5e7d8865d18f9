"""What models of one text have in common, counted once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from saffu.explicit.bit_cipher import BitCipher, enriched_embeddings
from saffu.explicit.discounting import smoothed_distribution
from saffu.utils.arrays import Float32
from saffu.utils.locks import Lock
from saffu.utils.streams import TokenStream

MEMORY_BUDGET = 1 << 28  # logits


class SharedCounts:
    """Frequencies, codes and embeddings of a text, and logits of other models of it; each made when first needed.

    Parameters
    ----------
    stream : TokenStream
        The text; at least one token.
    vocab_size : int
        V.
    n_threads : int
        Resolved, as by :func:`saffu.utils.threads.resolve_threads`.
    memory_budget : int
        Logits that may be held at once; more of them make the output of a large vocabulary better, and slower.

    Attributes
    ----------
    counts : ndarray of int64, shape (V,)
        Occurrences of each word.
    unigram : ndarray of float64, shape (V,)
        Frequencies of the words; those that never occur share that of one.

    Examples
    --------
    >>> from saffu.utils.streams import TokenStream
    >>> shared = SharedCounts(TokenStream.of([0, 1, 2, 1]), vocab_size=4, n_threads=1)
    >>> shared.counts.tolist()
    [1, 2, 1, 0]
    >>> shared.codes(2).shape
    (4, 2)
    """

    def __init__(
        self, stream: TokenStream, vocab_size: int, n_threads: int, memory_budget: int = MEMORY_BUDGET
    ) -> None:
        self.stream, self.vocab_size = stream, vocab_size
        self.counts = np.bincount(stream.ids, minlength=vocab_size)
        self.unigram = smoothed_distribution(self.counts, 1.0 / (stream.ids.size + 1.0))
        self.n_threads, self.memory_budget = n_threads, memory_budget
        self._lock = Lock()
        self._codes: dict[int, Float32] = {}
        self._embeddings: dict[int, Float32] = {}
        self._sources: dict[tuple[int, int], Any] = {}

    def codes(self, bits: int) -> Float32:
        """Bit-cipher codes of the types, (V, bits)."""
        with self._lock:
            if bits not in self._codes:
                self._codes[bits] = BitCipher(bits).fit(counts=self.counts).codes
            return self._codes[bits]

    def embeddings(self, bits: int) -> Float32:
        """Average code of the words that follow within two tokens, (V, bits)."""
        with self._lock:
            if bits not in self._embeddings:
                cipher = BitCipher(bits).fit(counts=self.counts)
                self._embeddings[bits] = enriched_embeddings(
                    self.stream.ids,
                    cipher,
                    radii=(1, 2),
                    documents=self.stream.starts,
                    combine="sum",
                    own=False,
                    n_threads=self.n_threads,
                )
            return self._embeddings[bits]

    def source(self, key: tuple[int, int], make: Callable[[], Any]) -> Any:
        """Logits of another model, by the model and the count below which words are rare to it; made once."""
        with self._lock:
            if key not in self._sources:
                self._sources[key] = make()
            return self._sources[key]

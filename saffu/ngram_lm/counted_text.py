"""What a model has counted: n-grams, a sample of the text, and the end of the document that may go on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.text_sample import TokenSample
from saffu.utils import validate
from saffu.utils.arrays import Int32, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream


class CountedText:
    """The sufficient statistics of a model, and the text that its scalars are fitted on.

    Parameters
    ----------
    contexts : Contexts

    Attributes
    ----------
    contexts : Contexts
    vocab_size : int or None
        None until the first text.
    start_length : int
        Length of the longest contexts that begin with the start token; 0 in models of files of earlier versions, which
        hold counts without it.
    counts : IncrementalCounts
    sample : TokenSample
    end : ndarray of int32
        The last tokens, as many as a context reaches over, of the document that the next text may continue.
    """

    def __init__(self, contexts: Contexts) -> None:
        self.contexts, self.start_length = contexts, contexts.start_length
        self.vocab_size: int | None = None
        self.counts = IncrementalCounts()
        self.sample = TokenSample()
        self.end: Int32 = np.empty(0, np.int32)

    @property
    def is_empty(self) -> bool:
        """Whether no text has been counted."""
        return not self.counts.pieces

    def total(self) -> NgramCounts:
        """The counts of all text."""
        self.known_vocab_size()
        return self.counts.total()

    def known_vocab_size(self) -> int:
        """The size of the vocabulary; ValueError if no text has been counted."""
        if self.is_empty or self.vocab_size is None:
            raise ValueError("the model has seen no text yet; call fit, partial_fit or update first")
        return self.vocab_size

    def empty_counts(self) -> NgramCounts:
        """Tables of the shape of this model's."""
        assert self.vocab_size is not None
        return NgramCounts(self.vocab_size, self.contexts.table_radius, self.contexts.order, self.start_length)

    # ---- text that comes and goes ------------------------------------------------------------------------------------

    def read(self, ids: ArrayLike, documents: ArrayLike | None, vocab_size: int | None) -> TokenStream:
        """Check the next stretch of text; the first one fixes the size of the vocabulary.

        Without a document start at 0 it continues the document before, if there is one.
        """
        known = self.vocab_size if vocab_size is None else vocab_size
        stream = TokenStream.of(ids, documents, known, continues=self.end.size > 0)
        if self.vocab_size is None and (stream.ids.size or vocab_size is not None):
            self.vocab_size = int(stream.ids.max()) + 1 if vocab_size is None else vocab_size
        return stream

    def append(self, stream: TokenStream, n_threads: int | None, progress: bool | None) -> NgramCounts:
        """Count the next stretch of text, which enters the sample; the caller adds what this returns to ``counts``."""
        prefix = self.end if stream.continues else self.end[:0]
        starts: Int64 = np.union1d([0], stream.starts + prefix.size).astype(np.int64)
        joined = TokenStream(np.concatenate([prefix, stream.ids]), starts)
        opens = np.ones(starts.size, bool)
        opens[0] = prefix.size < self.contexts.reach  # a longer document has lost its beginning, out of reach
        with progress_bar(self.contexts.n_tables, "count", progress) as bar:
            counts = self.empty_counts().of_stream(
                joined, n_context=prefix.size, opens=opens, n_threads=n_threads, on_table=bar.update
            )
        self.sample = self.sample.plus(stream)
        self.end = joined.ids[max(int(starts[-1]), joined.ids.size - self.contexts.reach) :].copy()
        return counts

    def subtract(self, stream: TokenStream, n_threads: int | None) -> None:
        """Take whole documents away; ValueError, and nothing has changed, if they were never counted."""
        sample = self.sample.without(stream)
        self.counts.subtract(self.empty_counts().of_stream(stream, n_threads=n_threads))
        self.sample = sample
        if sample.open is None:
            self.end = self.end[:0]

    def merge(self, other: CountedText) -> None:
        """Add all that another model of the same contexts has counted, as if its text had followed."""
        if self.vocab_size not in (None, other.vocab_size):
            raise ValueError(f"vocab_size must be equal to merge, got {self.vocab_size} and {other.vocab_size}")
        if not self.is_empty and self.start_length != other.start_length:
            raise ValueError(
                "models to merge must both count the starts of documents, or neither; one of them comes from a "
                "file of an earlier version, which does not: train it again"
            )
        counts = other.total()
        self.vocab_size, self.start_length = other.vocab_size, other.start_length
        self.counts.push(counts)
        self.sample = self.sample.merge(other.sample)
        self.end = other.end.copy()

    # ---- counting all text again -------------------------------------------------------------------------------------

    def whole_text(self, ids: ArrayLike | None, documents: ArrayLike | None) -> TokenStream:
        """All text that was counted, as given or as it was kept.

        Raises
        ------
        ValueError, TypeError
            If it is not given and only a part of it was kept, or what is given is not that which was counted.
        """
        if ids is None:
            if not self.sample.is_whole:
                raise ValueError("ids must be given: new tables are counted of all text, and the model keeps a part")
            return self.sample.whole()
        checked = validate.token_ids(ids, "ids", self.vocab_size)
        if not np.array_equal(np.bincount(checked, minlength=self.known_vocab_size()), self.total().unigram):
            raise ValueError("ids must be the text that the model has counted, all of it and nothing else")
        text = TokenStream.of(checked, documents)
        if not self.sample.is_all(text):
            raise ValueError("ids must be the text that the model has counted, with the same documents")
        return text

    def with_contexts(self, contexts: Contexts) -> CountedText:
        """The same counts for a model whose tables are these."""
        same = CountedText(contexts)
        same.vocab_size, same.start_length = self.vocab_size, self.start_length
        same.counts, same.sample, same.end = IncrementalCounts([self.total()]), self.sample, self.end
        return same

    def count_again(
        self, contexts: Contexts, text: TokenStream, n_threads: int | None, progress: bool | None
    ) -> CountedText:
        """All text counted for a model of more tables."""
        before, again = self.total(), self.with_contexts(contexts)
        with progress_bar(contexts.n_tables, "count", progress) as bar:
            counts = again.empty_counts().of_stream(text, n_threads=n_threads, on_table=bar.update)
        if any((new != old).nnz for new, old in zip(counts.distance, before.distance, strict=False)):
            raise ValueError("ids must be the text that the model has counted, with the same documents")
        again.counts = IncrementalCounts([counts])
        again.end = self.sample.end_of_open(text, contexts.reach, self.end)
        return again

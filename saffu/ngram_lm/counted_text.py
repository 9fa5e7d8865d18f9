"""What a model has counted: n-grams, a sample of the text, and the end of the document that may go on."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counting_limits import CountingLimits
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.pruned_counts import FINAL, PrunedCounts, prune
from saffu.ngram_lm.spilled_counts import SpilledCounts
from saffu.ngram_lm.text_sample import TokenSample
from saffu.ngram_lm.waiting_text import MOST, WaitingText, end_after
from saffu.utils import validate
from saffu.utils.arrays import Int32
from saffu.utils.locks import Lock
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream


class CountedText:
    """The sufficient statistics of a model, and the text that its scalars are fitted on.

    Parameters
    ----------
    contexts : Contexts
    limits : CountingLimits, optional

    Attributes
    ----------
    contexts : Contexts
    limits : CountingLimits
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

    def __init__(self, contexts: Contexts, limits: CountingLimits | None = None) -> None:
        self.contexts, self.start_length = contexts, contexts.start_length
        self.limits = CountingLimits() if limits is None else limits
        self.vocab_size: int | None = None
        self._counts = IncrementalCounts() if self.limits.memory is None else SpilledCounts(self.limits)
        self._waiting: WaitingText | None = None
        self.sample = TokenSample()
        self.end: Int32 = np.empty(0, np.int32)
        self._lock = Lock()
        self._kept: tuple[NgramCounts, NgramCounts] | None = None  # all counts, and those of them that are kept

    @property
    def counts(self) -> IncrementalCounts:
        """The counts of all text; what waits is counted first."""
        if self._waiting is not None:
            self.count_waiting(None, progress=False)
        return self._counts

    @counts.setter
    def counts(self, counts: IncrementalCounts) -> None:
        self._counts = counts

    @property
    def is_empty(self) -> bool:
        """Whether no text has been counted."""
        return self._waiting is None and not self._counts.pieces

    def total(self) -> NgramCounts:
        """The counts of all text."""
        self.known_vocab_size()
        return self.counts.total()

    def least_counts(self) -> list[int] | None:
        """For each table, the count below which an entry is to be dropped; None to keep all, or all that there is."""
        if not self.limits.min_entry or self._is_pruned:
            return None
        return self.limits.least_counts(self.contexts.table_radius, self.contexts.order)

    def kept(self) -> NgramCounts:
        """The counts of all text without the rare entries that are to be dropped."""
        total, least = self.total(), self.least_counts()
        if least is None:
            return total
        with self._lock:
            if self._kept is None or self._kept[0] is not total:
                folder = self.counts.new_folder() if isinstance(self.counts, SpilledCounts) else None
                self._kept = total, prune(total, least, self.counts.statistics, folder)
            return self._kept[1]

    @property
    def are_rows_read_alone(self) -> bool:
        """Whether priming takes the rows that it needs, instead of a copy of all tables less a few counts."""
        return self.limits.memory is not None or self.least_counts() is not None

    @property
    def _is_pruned(self) -> bool:
        return any(isinstance(piece, PrunedCounts) for piece in self._counts.pieces)

    def known_vocab_size(self) -> int:
        """The size of the vocabulary; ValueError if no text has been counted."""
        if self.is_empty or self.vocab_size is None:
            raise ValueError("the model has seen no text yet; call fit, partial_fit or update first")
        return self.vocab_size

    def empty_counts(self) -> NgramCounts:
        """Tables of the shape of this model's."""
        assert self.vocab_size is not None
        contexts = self.contexts
        return NgramCounts(self.vocab_size, contexts.table_radius, contexts.order, self.start_length, contexts.keys)

    def check_whole(self) -> None:
        """Raise ValueError if rare entries have been dropped, so that no text can be added or taken away."""
        if self._is_pruned:
            raise ValueError(FINAL)

    # ---- text that comes and goes ------------------------------------------------------------------------------------

    def read(self, ids: ArrayLike, documents: ArrayLike | None, vocab_size: int | None) -> TokenStream:
        """Check the next stretch of text; the first one fixes the size of the vocabulary.

        Without a document start at 0 it continues the document before, if there is one.
        """
        self.check_whole()
        if vocab_size is not None:
            vocab_size = validate.size(vocab_size, "vocab_size")
            if self.vocab_size not in (None, vocab_size):
                raise ValueError(f"vocab_size must stay {self.vocab_size}, as counted so far, got {vocab_size}")
        known = self.vocab_size if vocab_size is None else vocab_size
        stream = TokenStream.of(ids, documents, known, continues=self.end.size > 0)
        if self.vocab_size is None and (stream.ids.size or vocab_size is not None):
            self.vocab_size = int(stream.ids.max()) + 1 if vocab_size is None else vocab_size
        return stream

    def append(
        self,
        stream: TokenStream,
        n_threads: int | None,
        progress: bool | None,
        *,
        wait: bool = False,
        statistics: bool = False,
    ) -> None:
        """Take in the next stretch of text, in slices that the memory limit allows.

        Parameters
        ----------
        stream : TokenStream
        n_threads : int, optional
        progress : bool, optional
        wait : bool
            Whether it may be counted later, together with what follows.
        statistics : bool
            Whether to keep the statistics that the rows share current, rather than to compute them afresh.
        """
        most = self.limits.most_tokens(stream.ids.size)
        for first in range(0, stream.ids.size, most):
            inside = stream.starts[(stream.starts >= first) & (stream.starts < first + most)] - first
            part = TokenStream(stream.ids[first : first + most], inside)
            if not wait or (self._waiting and self._waiting.n_tokens + part.ids.size > self.limits.most_tokens(MOST)):
                self.count_waiting(n_threads, progress)
            before = self.sample, self.end
            if self._waiting is None:
                self._waiting = WaitingText(self.end if part.continues else self.end[:0], self.contexts.reach)
            self._waiting.add(TokenStream(part.ids.copy(), part.starts) if wait else part)
            self.sample = self.sample.plus(part)
            self.end = end_after(part, self.end, self.contexts.reach)
            if not wait:
                try:
                    self.count_waiting(n_threads, progress, statistics)
                except BaseException:
                    if self._waiting is not None:  # it was not counted, and will not be
                        self._waiting, (self.sample, self.end) = None, before
                    raise

    def count_waiting(self, n_threads: int | None, progress: bool | None, statistics: bool = False) -> None:
        """Count the text that waits, if there is any."""
        with self._lock:
            if self._waiting is None:
                return
            stream, n_context, opens = self._waiting.joined()
            with progress_bar(self.contexts.n_tables, "count", progress) as bar:
                counts = self.empty_counts().of_stream(
                    stream, n_context=n_context, opens=opens, n_threads=n_threads, on_table=bar.update
                )
            # Other threads take it as a sign that all is there; and if the disk is full, the counts are in memory.
            try:
                (self._counts.add if statistics else self._counts.push)(counts)
            finally:
                self._waiting = None

    def branch(self) -> CountedText:
        """The same counts, to which text may be added while these stay; it begins a document, and has no sample.

        Raises
        ------
        ValueError
            If rare entries have been dropped, so that no text can be added.
        """
        self.check_whole()
        branch, counts = self._without_counts(self.contexts), self.counts
        # The statistics are shared, so they are made here, for all branches.
        assert counts.statistics.n_tokens == counts.n_tokens
        branch.counts, branch.sample, branch.end = copy.copy(counts), TokenSample(), self.end[:0]
        return branch

    def subtract(self, stream: TokenStream, n_threads: int | None) -> None:
        """Take whole documents away; ValueError, and nothing has changed, if they were never counted."""
        self.check_whole()
        sample = self.sample.without(stream)
        self.counts.subtract(self.empty_counts().of_stream(stream, n_threads=n_threads))
        self.sample = sample
        if sample.open is None:
            self.end = self.end[:0]

    def merge(self, other: CountedText) -> None:
        """Add all that another model of the same contexts has counted, as if its text had followed."""
        self.check_whole()
        other.check_whole()
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
        self.check_whole()
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
        """The same counts for a model whose tables are these, or some of these."""
        same = self._without_counts(contexts)
        same.counts.push(self.total().with_keys(contexts.keys))
        return same

    def _without_counts(self, contexts: Contexts) -> CountedText:
        """The same text, for other tables."""
        same = CountedText(contexts, self.limits)
        same.vocab_size, same.start_length = self.vocab_size, self.start_length
        same.sample, same.end = self.sample, self.end
        return same

    def count_again(
        self, contexts: Contexts, text: TokenStream, n_threads: int | None, progress: bool | None
    ) -> CountedText:
        """All text counted for a model of more tables."""
        before, again = self.total(), self._without_counts(contexts)
        with progress_bar(contexts.n_tables, "count", progress) as bar:
            counts = again.empty_counts().of_stream(text, n_threads=n_threads, on_table=bar.update)
        if any((new != old).nnz for new, old in zip(counts.distance, before.distance, strict=False)):
            raise ValueError("ids must be the text that the model has counted, with the same documents")
        again.counts.push(counts)
        again.end = self.sample.end_of_open(text, contexts.reach, self.end)
        return again

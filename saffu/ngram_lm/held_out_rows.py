"""Models that have not counted a part of the text, made of the rows alone that this part names.

Priming looks at some positions of the text, each under a model of everything else. Where all counts are on disk, or
rare ones will be dropped, only the rows of these positions are read, summed and weighed. They equal those of the whole
tables to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.log_linear import PooledModel
from saffu.ngram_lm.spilled_counts import release_tables
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils.arrays import Bools, Int32
from saffu.utils.streams import TokenStream


class RowWeights(NgramWeights):
    """The weights of the rows that one stream names.

    Attributes
    ----------
    place : ndarray of int32, shape (n_tables, M)
        The row of each position of the stream in every table, or -1.
    """

    place: Int32

    def contexts(self, stream: TokenStream, opens: Bools | None = None) -> Int32:
        """Those of the stream that the rows were made for."""
        return self.place


class CountsByRows(NgramCounts):
    """All counts, from which stretches of the text can be subtracted without a copy of the rest.

    It stands for them where positions are held out: :func:`saffu.ngram_lm.priming.fold_parts` counts a stretch with
    :meth:`of_stream`, subtracts that, and has :meth:`model` build the model of the rest.

    Parameters
    ----------
    counted : CountedText
    contexts : Contexts
    n_threads : int, optional
    """

    def __init__(self, counted: CountedText, contexts: Contexts, n_threads: int | None) -> None:
        total = counted.total()
        super().__init__(total.vocab_size, total.radius, total.order, total.start_length, total.keys)
        self.n_tokens, self.unigram = total.n_tokens, total.unigram
        self._counted, self._contexts, self._n_threads = counted, contexts, n_threads

    def of_stream(
        self,
        stream: TokenStream,
        *,
        n_context: int = 0,
        opens: Bools | None = None,
        n_threads: int | None = None,
        on_table: Callable[[], object] = lambda: None,
    ) -> NgramCounts:
        """Counts of a stretch of the text, which know where they come from."""
        counts = super().of_stream(stream, n_context=n_context, opens=opens, n_threads=n_threads, on_table=on_table)
        return HeldOut(counts, stream, opens)

    def subtract(self, other: NgramCounts) -> NgramCounts:
        """What :meth:`of_stream` returned, as that of which :meth:`model` leaves out the counts."""
        if not isinstance(other, HeldOut):
            raise TypeError(f"only what was counted here can be subtracted by rows, got {type(other).__name__}")
        return other

    def model(self, held: NgramCounts) -> PooledModel:
        """The model that has not counted a stretch of the text, with the rows which that names."""
        assert isinstance(held, HeldOut)
        counts, negative = self._counted.counts, held.negative()
        rest = IncrementalCounts([self._counted.total(), negative])
        statistics = counts.statistics.changed(negative, counts.present(held))
        # What has become zero stays in a row, as it stays in tables from which counts are subtracted.
        least = self._counted.least_counts() or [0] * len(held.tables)
        rows = rest.rows(held.stream, None, held.opens, least)
        release_tables(self._counted.total())
        weights = RowWeights.of_rows(rows, statistics, self._n_threads, self.keys)
        weights.place = rows.place
        return PooledModel(weights, *self._contexts.pooled_windows)


class HeldOut(NgramCounts):
    """The counts of a stretch of text, and that text."""

    def __init__(self, counts: NgramCounts, stream: TokenStream, opens: Bools | None) -> None:
        super().__init__(counts.vocab_size, counts.radius, counts.order, counts.start_length, counts.keys)
        self.n_tokens, self.unigram = counts.n_tokens, counts.unigram
        self.distance, self.suffix, self.keyed = counts.distance, counts.suffix, counts.keyed
        self.stream, self.opens = stream, opens

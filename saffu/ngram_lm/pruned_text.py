"""What a pruned model keeps of its text: the rows that are left, and how often words are found; no counts of contexts.

Its weights are whole multiples of a step, so that they take few bits in a file; the model in memory has the same
weights, so that it answers with the same bits.

**The step.** A weight rounded to the nearest multiple is off by half a step at most, and as errors are spread evenly,
by ``step / sqrt(12)`` in root mean square. A weight that is off by d costs about ``P (1 - P) (lambda d)^2 / 2`` nats
(row_pruning.py). The P (1 - P) of the words of a position add up to less than one, so one context with a scalar of
lambda costs less than ``lambda^2 step^2 / 24``. With a step of the square root of a loss, rounding takes a few
hundredths of that loss; it is measured with it. Steps are powers of two, so that multiples are exact in float32.

Evenly spaced levels whose numbers are then coded by how often they are used need fewer bits for the same squared error
than levels that lie where weights are dense, each of as many bits (Gish and Pierce 1968, "Asymptotically efficient
quantizing"). Measured on Brown: 127 even levels 5.2 bits and a loss of 0.03 %, 127 of Lloyd (1982) 6.0 and 0.10 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.row_pruning import needed_entries
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.weights import NgramWeights, Table, prior_distributions
from saffu.utils.arrays import Array, Float64, Int32, Int64
from saffu.utils.streams import TokenStream

NOTHING: Float64 = np.empty(0)
LARGEST_STEP, LEAST_STEP = 1.0, 2.0**-18  # a finer one would be that of float32


class PrunedText(CountedText):
    """Stands for the counts of a pruned model, which are gone: what needs them is refused.

    Parameters
    ----------
    contexts : Contexts
    statistics : Statistics
        Of the text; the numbers of repeats may be empty.
    tables : sequence of Table
        From :func:`compact_tables`.
    start_length : int
    record : dict
        How the model was pruned.
    step : float
        What all weights are multiples of; 0 if they are any numbers of float32.
    n_threads : int, optional
    """

    def __init__(
        self,
        contexts: Contexts,
        statistics: Statistics,
        tables: Sequence[Table],
        start_length: int,
        record: dict[str, Any],
        step: float,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(contexts)
        self.vocab_size, self.start_length = statistics.unigram.size, start_length
        self.counts = _NoCounts(statistics.n_tokens)
        self.unigram, self.followed, self.record, self.step = statistics.unigram, statistics.followed, record, step
        priors = prior_distributions(self.unigram, self.followed, statistics.n_tokens, contexts.is_backoff)
        self.weights = NgramWeights.of_tables(tables, contexts.table_radius, priors, start_length, n_threads)

    @property
    def is_empty(self) -> bool:
        """Whether no text has been counted."""
        return False

    def total(self) -> NgramCounts:
        """Refused, as is all that follows."""
        counts_are_gone()

    def read(self, ids: ArrayLike, documents: ArrayLike | None, vocab_size: int | None) -> TokenStream:
        """Refused."""
        counts_are_gone()

    def branch(self) -> CountedText:
        """Refused."""
        counts_are_gone()

    def subtract(self, stream: TokenStream, n_threads: int | None) -> None:
        """Refused."""
        counts_are_gone()

    def merge(self, other: CountedText) -> None:
        """Refused."""
        counts_are_gone()

    def whole_text(self, ids: ArrayLike | None, documents: ArrayLike | None) -> TokenStream:
        """Refused."""
        counts_are_gone()

    def with_contexts(self, contexts: Contexts) -> CountedText:
        """Refused."""
        counts_are_gone()


class _NoCounts(IncrementalCounts):
    """The number of tokens that were counted, and nothing else."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        self._n_tokens = n_tokens

    @property
    def n_tokens(self) -> int:
        return self._n_tokens

    def total(self) -> NgramCounts:
        counts_are_gone()


def counts_are_gone() -> NoReturn:
    """Raise ValueError: the model is a pruned one."""
    raise ValueError(
        "a pruned model keeps no counts, so it can neither learn, forget, merge, grow nor be pruned again; "
        "do that with the model that it was made from, and prune the result"
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


def step_of(loss: float) -> float:
    """The step of weights that costs little of a loss, nats; 0, which stands for float32, if that has to be as fine.

    Examples
    --------
    >>> step_of(0.005), step_of(0.0)
    (0.0625, 0.0)
    """
    if loss < LEAST_STEP**2:
        return 0.0
    return min(2.0 ** math.floor(math.log2(loss) / 2), LARGEST_STEP)


def rounded(tables: Sequence[Table], step: float) -> list[Table]:
    """The tables with their weights as a file has them; rows that lose their last weight have a total of 0."""
    return [_rounded(table, step) for table in tables]


def _rounded(table: Table, step: float) -> Table:
    u = np.rint(table.u / step) * step + 0.0 if step else table.u.astype(np.float32).astype(np.float64)
    before = np.concatenate([[0], np.cumsum(u != 0.0)])
    return replace(table, total=np.where(np.diff(before[table.counts.indptr]) > 0, table.total, 0.0), u=u)


def compact_tables(tables: Sequence[Table], radius: int) -> list[Table]:
    """Rounded tables without the entries that neither have a weight nor are the context of one that has."""
    needed = needed_entries(tables, radius)
    found = []
    for j, table in enumerate(tables):
        chosen, shorter = needed[j], 0 if j == radius else j - 1
        rows = np.ones(table.total.size, bool) if j < radius else needed[shorter]
        ends = np.concatenate([[0], np.cumsum(chosen)])[table.counts.indptr]
        lengths, words = np.diff(ends)[rows], table.counts.indices[chosen]
        total = table.total[rows] if is_in_chain(j, radius) else (table.total[rows] > 0).astype(np.float64)
        found.append(table_of(lengths, words, table.u[chosen], total, table.counts.shape[1]))
    return found


def is_in_chain(j: int, radius: int) -> bool:
    """Whether table j is one of suffixes, whose totals tell how well a context is known."""
    return j == 0 or j >= radius


def table_of(lengths: Array, words: Int32, u: Float64, total: Float64, vocab_size: int) -> Table:
    """A table without counts, of lengths of rows, the words and weights of all, and the totals of rows."""
    indptr: Int64 = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    present = np.ones(words.size, np.int8)
    return Table(as_csr(indptr, words, present, (indptr.size - 1, vocab_size)), NOTHING, total, NOTHING, u)

"""What a pruned model keeps of its text: the rows that are left, and how often words are found; no counts of contexts.

In a file, integers take as few bytes as the largest of an array needs, weights are float32, and a row without a weight
is nothing but its length. A model in memory has the same weights, so that it answers with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64
from saffu.utils.streams import TokenStream

NOTHING: Float64 = np.empty(0)


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
    n_threads : int, optional
    """

    def __init__(
        self,
        contexts: Contexts,
        statistics: Statistics,
        tables: Sequence[Table],
        start_length: int,
        record: dict[str, Any],
        n_threads: int | None = None,
    ) -> None:
        super().__init__(contexts)
        self.vocab_size, self.start_length = statistics.unigram.size, start_length
        self.counts = _NoCounts(statistics.n_tokens)
        self.unigram, self.followed, self.record = statistics.unigram, statistics.followed, record
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


def rounded(tables: Sequence[Table]) -> list[Table]:
    """The tables with their weights as a file has them."""
    return [Table(t.counts, t.discounts, t.total, t.mass, t.u.astype(np.float32).astype(np.float64)) for t in tables]


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
        found.append(_table(lengths, words, table.u[chosen], total, table.counts.shape[1]))
    return found


def is_in_chain(j: int, radius: int) -> bool:
    """Whether table j is one of suffixes, whose totals tell how well a context is known."""
    return j == 0 or j >= radius


def _table(lengths: Array, words: Int32, u: Float64, total: Float64, vocab_size: int) -> Table:
    indptr: Int64 = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    present = np.ones(words.size, np.int8)
    return Table(as_csr(indptr, words, present, (indptr.size - 1, vocab_size)), NOTHING, total, NOTHING, u)


# ---- files -----------------------------------------------------------------------------------------------------------


def write_rows(tables: Sequence[Table], radius: int, bounds: Float64 | None) -> dict[str, Array]:
    """The arrays of compact tables.

    Of a total all that matters is on which side of the bounds of the states it is, so it is cut just above the highest.
    """
    highest = np.floor(bounds.max()) + 1 if bounds is not None else 1.0
    arrays: dict[str, Array] = {}
    for j, table in enumerate(tables):
        arrays[f"table{j}.lengths"] = narrow(np.diff(table.counts.indptr))
        arrays[f"table{j}.words"] = narrow(table.counts.indices)
        arrays[f"table{j}.weights"] = table.u.astype(np.float32)
        if is_in_chain(j, radius):
            arrays[f"table{j}.totals"] = narrow(np.minimum(table.total[table.total > 0], highest).astype(np.int64))
    return arrays


def write(text: PrunedText, bounds: Float64 | None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and metadata of a pruned text."""
    radius = text.contexts.table_radius
    arrays = write_rows(text.weights.tables, radius, bounds)
    arrays |= {"unigram": narrow(text.unigram), "followed": narrow(text.followed)}
    metadata = {
        **text.contexts.settings(),
        "vocab_size": text.vocab_size,
        "n_tokens": text.counts.n_tokens,
        "start_length": text.start_length,
        "pruning": text.record,
    }
    return arrays, metadata


def read(arrays: Mapping[str, Array], metadata: Mapping[str, Any], contexts: Contexts) -> PrunedText:
    """What :func:`write` wrote; everything is checked, so that no kernel can be led out of bounds."""
    vocab_size = checkpoint.parse(validate.size, metadata["vocab_size"], "vocab_size")
    unigram, followed = (_integers(arrays, name, vocab_size) for name in ("unigram", "followed"))
    n_tokens = checkpoint.parse(validate.integer, metadata["n_tokens"], "n_tokens", 0)
    start_length = checkpoint.parse(validate.integer, metadata["start_length"], "start_length", 0)
    if unigram.sum() != n_tokens or not followed.any() or start_length not in (0, contexts.start_length):
        raise checkpoint.Damaged("the numbers of words are damaged")
    radius, tables = contexts.table_radius, list[Table]()
    for j in range(contexts.n_tables):
        n_rows = vocab_size + (j == 0 and start_length > 0)
        if j >= radius:
            n_rows = tables[0 if j == radius else j - 1].u.size
        tables.append(_read_table(arrays, f"table{j}", n_rows, vocab_size, is_in_chain(j, radius)))
    record: dict[str, Any] = checkpoint.parse(dict, metadata["pruning"])
    statistics = Statistics(n_tokens, unigram, followed, np.zeros((0, 0), np.int64))
    return PrunedText(contexts, statistics, tables, start_length, record)


def _read_table(arrays: Mapping[str, Array], name: str, n_rows: int, vocab_size: int, with_totals: bool) -> Table:
    lengths, words = _integers(arrays, f"{name}.lengths", n_rows), _integers(arrays, f"{name}.words")
    ends = np.cumsum(lengths)
    n_entries = int(ends[-1]) if n_rows else 0
    u = checkpoint.checked(arrays, f"{name}.weights", np.float32, (n_entries,)).astype(np.float64)
    inner = np.ones(max(n_entries - 1, 0), bool)
    inner[ends[(ends > 0) & (ends < n_entries)] - 1] = False  # last entry of a row, followed by another row
    if words.size != n_entries or words.max(initial=0) >= vocab_size or (np.diff(words)[inner] <= 0).any():
        raise checkpoint.Damaged(f"table {name!r} is damaged")
    filled: Bools = np.bincount(np.repeat(np.arange(n_rows), lengths), u != 0.0, minlength=n_rows) > 0
    total = filled.astype(np.float64)
    if with_totals:
        total[filled] = _integers(arrays, f"{name}.totals", np.count_nonzero(filled))
        if (total[filled] < 1).any():
            raise checkpoint.Damaged(f"table {name!r} is damaged")
    return _table(lengths, words.astype(np.int32), u, total, vocab_size)


def narrow(values: Array) -> Array:
    """Integers of at least 0 in the narrowest type that holds them.

    Examples
    --------
    >>> narrow(np.array([3, 200])).dtype, narrow(np.array([3, 300])).dtype
    (dtype('uint8'), dtype('uint16'))
    """
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _integers(arrays: Mapping[str, Array], name: str, size: int | np.integer[Any] | None = None) -> Int64:
    array = arrays[name]
    wanted = array.shape if size is None else (size,)
    if array.dtype.kind != "u" or array.ndim != 1 or array.shape != wanted or array.max(initial=0) >= 2**62:
        raise checkpoint.Damaged(f"array {name!r} must be unsigned integers {wanted}, got {array.dtype} {array.shape}")
    return array.astype(np.int64)

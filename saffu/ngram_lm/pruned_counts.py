"""Tables of counts without their rare entries, whose rows know how much was dropped.

An entry is dropped if it occurs less often than its order asks for. The discounts stay those of all counts, and a row
keeps its sum: what its dropped entries would have had goes to the lower order, like what discounts free. So with
N(c) the sum of a row, dropped entries included, and D the discounts,

    mass[c] = N(c) - sum over kept w of (n(c, w) - D(n))      u = log(1 + (n - D(n)) / (mass[c] q))
    p(w | c) = (n - D(n) + mass[c] q(w)) / N(c)               n - D(n) = 0 where w was dropped or never seen

which sums to one over w if q does. A row of which nothing is kept is no context any more. The least counts do not
descend with the order, so the context of every kept entry, and its shorter form, are kept as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

from saffu.explicit.cooccurrence import as_csr
from saffu.explicit.discounting import discount_of
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.statistics import Statistics
from saffu.utils.arrays import Bools, Float64, Int64
from saffu.utils.mapped_files import ArrayFile, ArrayParts, release

MOST_ENTRIES = 1 << 22  # looked at at once
FINAL = "rare entries of these counts were dropped (min_entry): text cannot be added or taken away; train a new model"


class PrunedCounts(NgramCounts):
    """Counts that text cannot be added to or taken from: of rare n-grams it is not known how rare they are.

    Attributes
    ----------
    dropped : list of ndarray of int64
        What the dropped entries of each row of each table amount to; 0 for a row of which nothing is kept.
    statistics : Statistics
        Those of all counts.
    """

    def __init__(self, like: NgramCounts, dropped: list[Int64], statistics: Statistics) -> None:
        super().__init__(like.vocab_size, like.radius, like.order, like.start_length)
        self.n_tokens, self.unigram = like.n_tokens, like.unigram
        self.dropped, self.statistics = dropped, statistics

    def add(self, other: NgramCounts) -> NgramCounts:
        """Raise ValueError."""
        raise ValueError(FINAL)

    def subtract(self, other: NgramCounts) -> NgramCounts:
        """Raise ValueError."""
        raise ValueError(FINAL)

    def negative(self) -> NgramCounts:
        """Raise ValueError."""
        raise ValueError(FINAL)


def prune(counts: NgramCounts, least: Sequence[int], statistics: Statistics, folder: str | None = None) -> PrunedCounts:
    """Counts without the entries below the least count of their table.

    Parameters
    ----------
    counts : NgramCounts
    least : sequence of int
        For each of ``counts.tables``; those of the suffixes do not descend.
    statistics : Statistics
        Of the counts.
    folder : str, optional
        Write the tables into files there, mapped, instead of keeping them in memory.

    Returns
    -------
    PrunedCounts
    """
    radius, size = counts.radius, counts.vocab_size
    rows = np.ones(counts.chain[0].shape[0], bool)
    chain, chain_dropped = [], []
    for n, (table, n_least) in enumerate(zip(counts.chain, [least[0], *least[radius:]], strict=True)):
        kept, dropped, rows = _pruned_table(table, rows, n_least, None if folder is None else f"{folder}/suffix{n + 1}")
        chain.append(kept)
        chain_dropped.append(dropped)
    far, far_dropped = [], []
    for k, table in enumerate(counts.distance[1:], start=2):
        name = None if folder is None else os.path.join(folder, f"distance{k}")
        kept, dropped, _ = _pruned_table(table, np.ones(size, bool), least[k - 1], name)
        far.append(kept)
        far_dropped.append(dropped)
    found = PrunedCounts(counts, [chain_dropped[0], *far_dropped, *chain_dropped[1:]], statistics)
    found.distance, found.suffix = [chain[0], *far], chain[1:]
    return found


def _pruned_table(table: csr_array, rows: Bools, least: int, name: str | None) -> tuple[csr_array, Int64, Bools]:
    """Some rows of a table without rare entries, what was dropped from each, and which of all entries are kept."""
    parts = {
        part: ArrayParts(dtype) if name is None else ArrayFile(f"{name}.{part}", dtype)
        for part, dtype in (("indptr", np.int64), ("indices", np.int32), ("counts", np.int64), ("dropped", np.int64))
    }
    parts["indptr"].append(np.zeros(1, np.int64))
    entries_kept = np.zeros(table.nnz, bool)
    for first, last in _row_ranges(table):
        begin, end = int(table.indptr[first]), int(table.indptr[last])
        indptr, n = table.indptr[first : last + 1] - begin, table.data[begin:end]
        chosen = rows[first:last]
        kept = (n >= least) & np.repeat(chosen, np.diff(indptr))
        entries_kept[begin:end] = kept
        ends, dropped = _pruned_rows(indptr, n, kept)
        parts["indptr"].append(parts["indices"].size + np.cumsum(np.diff(ends)[chosen]))
        parts["indices"].append(table.indices[begin:end][kept])
        parts["counts"].append(n[kept])
        parts["dropped"].append(dropped[chosen])
        release(table.indptr, table.indices, table.data)
    indptr, indices, counts, dropped = (part.finish() for part in parts.values())
    return as_csr(indptr, indices, counts, (indptr.size - 1, table.shape[1])), dropped, entries_kept


def _pruned_rows(indptr: Int64, counts: Int64, kept: Bools) -> tuple[Int64, Int64]:
    """Offsets of rows of which some entries are kept, and what was dropped from each."""
    ends = np.concatenate([[0], np.cumsum(kept)])[indptr]
    left_out = np.concatenate([[0], np.cumsum(np.where(kept, 0, counts))])[indptr]
    return ends, np.where(np.diff(ends) > 0, np.diff(left_out), 0)


def _row_ranges(table: csr_array) -> Iterator[tuple[int, int]]:
    """Ranges of rows that together are all, of at most so many entries, or one row each."""
    cuts, n_rows = [0], table.shape[0]
    while cuts[-1] < n_rows:
        last = int(np.searchsorted(table.indptr, table.indptr[cuts[-1]] + MOST_ENTRIES, side="right")) - 1
        cuts.append(min(max(last, cuts[-1] + 1), cuts[-1] + MOST_ENTRIES, n_rows))
    return pairwise(cuts)


def prune_rows(table: csr_array, least: int) -> tuple[csr_array, Int64]:
    """The same rows without rare entries, and what was dropped from each."""
    kept = table.data >= least
    ends, dropped = _pruned_rows(table.indptr, table.data, kept)
    return as_csr(ends, table.indices[kept], table.data[kept], table.shape), dropped


def weigh_pruned(
    table: csr_array, dropped: Int64, q: Float64, discounts: Float64
) -> tuple[Float64, Float64, Float64, Float64]:
    """Sums, masses, weights u and probabilities p of a table whose rows have lost what was dropped.

    Parameters
    ----------
    table : csr_array of int64
    dropped : ndarray of int64, shape (n_rows,)
    q : ndarray of float64, shape (n_entries,)
        Lower-order probability of each entry's word.
    discounts : ndarray of float64, shape (3,)

    Returns
    -------
    total, mass : ndarray of float64, shape (n_rows,)
    u, p : ndarray of float64, shape (n_entries,)
    """
    lengths = np.diff(table.indptr)
    kept = table.data - discount_of(table.data, discounts)
    filled = np.flatnonzero(lengths)
    total, mass = dropped.astype(np.float64), np.zeros(lengths.size)
    begins = table.indptr[filled]
    if filled.size:
        total[filled] += np.add.reduceat(table.data, begins)
        mass[filled] = total[filled] - np.add.reduceat(kept, begins)
    mass_of_entry = np.repeat(mass, lengths) * q
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(kept > 0, np.log1p(kept / mass_of_entry), 0.0)
    return total, mass, u, (kept + mass_of_entry) / np.repeat(total, lengths)

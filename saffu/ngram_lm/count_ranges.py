"""Counts cut into ranges of n-grams, so that each range of all parts of a text can be summed by itself.

The entries of a chain of tables are n-grams in the order of their tokens, the oldest first: entry e of one table is row
e of the next. So a cut before a pair (row, column) of ``distance[0]`` cuts every table of the chain into two contiguous
pieces, and whatever is counted of the n-grams that begin with that pair, or one behind it, lies in the second. The
tables of larger distances are cut before pairs of their own. Cuts fall within rows, since a frequent token alone has
a twentieth of all n-grams. Ranges between the same cuts add up without the others; put side by side they are the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm.counts import NgramCounts
from saffu.utils.arrays import Array, Int32, Int64

Places = tuple[Int64, Int64]


class TableRange(NamedTuple):
    """Consecutive entries of a table, and the rows that they lie in, the first and the last of which may be parts.

    Attributes
    ----------
    lengths : ndarray of unsigned integers, shape (n_rows,)
        Entries of each row.
    indices : ndarray of int32, shape (n_entries,)
    counts : ndarray of unsigned integers, shape (n_entries,)
        Of the narrowest type that holds them, as lengths are: what is sent and kept is half as large.
    """

    lengths: Array
    indices: Int32
    counts: Array

    def add(self, rows: Int64, other: TableRange, other_rows: Int64, n_rows: int) -> tuple[TableRange, Places]:
        """The sum, in which row r has the number ``rows[r]``, and the places in it of the entries of both."""
        indptr, indices, counts, *places = _core.merge(*self._csr(), rows, *other._csr(), other_rows, n_rows, 1)
        return TableRange(_narrow(np.diff(indptr)), indices, _narrow(counts)), (places[0], places[1])

    def _csr(self) -> tuple[Int64, Int32, Int64]:
        return _offsets(self.lengths), self.indices, self.counts.astype(np.int64)


@dataclass(frozen=True)
class CountsRange:
    """What all tables hold between two cuts.

    Attributes
    ----------
    chain : list of TableRange
        Of the suffixes of 1, 2, ... tokens; row r of each but the first is entry r of the one before.
    far : list of TableRange
        Of the distances from 2 on.
    """

    chain: list[TableRange]
    far: list[TableRange]

    def add(self, other: CountsRange) -> CountsRange:
        """The counts of two parts of a text between the same cuts; exact, in any order of additions."""
        chain: list[TableRange] = []
        n_rows = self.chain[0].lengths.size
        mine = theirs = np.arange(n_rows)
        for a, b in zip(self.chain, other.chain, strict=True):
            table, (mine, theirs) = a.add(mine, b, theirs, n_rows)
            chain.append(table)
            n_rows = table.indices.size
        rows = [np.arange(table.lengths.size) for table in self.far]
        both = zip(self.far, other.far, rows, strict=True)
        return CountsRange(chain, [a.add(numbers, b, numbers, numbers.size)[0] for a, b, numbers in both])

    @property
    def sizes(self) -> Int64:
        """Entries of each table, in the order of ``chain`` and ``far``."""
        return np.array([table.indices.size for table in (*self.chain, *self.far)], np.int64)


# ---- cutting ---------------------------------------------------------------------------------------------------------


def balanced_cuts(samples: Sequence[NgramCounts], n_ranges: int) -> Int64:
    """Cuts between ranges that hold about equally many entries of the largest of some samples of the counts.

    Returns
    -------
    ndarray of int64, shape (radius, n_ranges - 1)
        Pairs as ``row * vocab_size + column``, ascending: of the chain, then of each larger distance.
    """
    largest = max(samples, key=lambda counts: counts.n_entries)
    chain, *far = largest.distance
    below = [
        np.arange(1, chain.nnz + 1)
    ]  # entries of each table up to the end of what follows from an entry of the first
    for table in largest.suffix:
        below.append(table.indptr[below[-1]])
    weights: list[Int64] = [np.sum(below, axis=0), *(np.arange(1, table.nnz + 1) for table in far)]
    return np.stack([_cuts(table, n, n_ranges) for table, n in zip(largest.distance, weights, strict=True)])


def _cuts(table: csr_array, running: Int64, n_ranges: int) -> Int64:
    """Pairs at which a running sum over the entries of a table passes equal shares of the whole."""
    if table.nnz == 0:
        return np.zeros(n_ranges - 1, np.int64)
    shares = running[-1] * np.arange(1, n_ranges) // n_ranges
    entries = np.minimum(np.searchsorted(running, shares, side="right"), table.nnz - 1)
    rows = np.searchsorted(table.indptr, entries, side="right") - 1
    cuts: Int64 = rows * table.shape[1] + table.indices[entries]
    return cuts


def cut(counts: NgramCounts, cuts: Int64) -> list[CountsRange]:
    """The ranges of all tables between cuts."""
    ends, pieces = _cut_table(counts.distance[0], cuts[0])
    chains = [pieces]
    for table in counts.suffix:
        lengths, rows, ends = np.diff(table.indptr), ends, table.indptr[ends]
        chains.append([_piece(table, lengths[a:b], c, d) for a, b, c, d in _both(rows, ends)])
    far = [_cut_table(*pair)[1] for pair in zip(counts.distance[1:], cuts[1:], strict=True)]
    return [CountsRange([table[i] for table in chains], [table[i] for table in far]) for i in range(cuts.shape[1] + 1)]


def _cut_table(table: csr_array, cuts: Int64) -> tuple[Int64, list[TableRange]]:
    """The first entry of each range of a table and the end of the last one; and the ranges."""
    ends = np.zeros(cuts.size + 2, np.int64)
    ends[-1] = table.nnz
    for i, (row, column) in enumerate(zip(*np.divmod(cuts, table.shape[1]), strict=True), 1):
        first, last = table.indptr[row : row + 2]
        ends[i] = first + np.searchsorted(table.indices[first:last], column)
    pieces = []
    for first, last, rows in zip(ends[:-1], ends[1:], _rows_between(cuts, *table.shape), strict=True):
        inside = np.clip(table.indptr[rows.start : rows.stop + 1], first, last)
        pieces.append(_piece(table, np.diff(inside), first, last))
    return ends, pieces


def _rows_between(cuts: Int64, n_rows: int, n_columns: int) -> list[slice]:
    """The rows of each range, a cut one in both."""
    cut_rows = (cuts // n_columns).tolist()
    return [slice(a, b) for a, b in zip([0, *cut_rows], [*(row + 1 for row in cut_rows), n_rows], strict=True)]


def _both(rows: Int64, ends: Int64) -> list[tuple[int, int, int, int]]:
    return list(zip(rows[:-1].tolist(), rows[1:].tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def _piece(table: csr_array, lengths: Int64, first: int, last: int) -> TableRange:
    # Copies: a slice would keep, and a pickle could send, all of the table.
    return TableRange(_narrow(lengths), table.indices[first:last].copy(), _narrow(table.data[first:last]))


def _narrow(values: Int64) -> Array:
    """In the narrowest unsigned type that holds them; none is negative."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _offsets(lengths: Array) -> Int64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


# ---- joining ---------------------------------------------------------------------------------------------------------


class JoinedRanges:
    """Tables that are filled range by range, in any order; memory for all of them is taken at once.

    Parameters
    ----------
    empty : NgramCounts
        Tables of the shape of the counts.
    cuts : ndarray of int64, shape (radius, n_ranges - 1)
    sizes : ndarray of int64, shape (n_ranges, n_tables)
        Entries of the tables of each range, :attr:`CountsRange.sizes`.
    """

    def __init__(self, empty: NgramCounts, cuts: Int64, sizes: Int64) -> None:
        self._counts, n_chain = empty, len(empty.chain)
        self._first = np.concatenate([np.zeros((1, sizes.shape[1]), np.int64), np.cumsum(sizes, axis=0)])
        n_entries = self._first[-1].tolist()
        distances = [_rows_between(which, *table.shape) for which, table in zip(cuts, empty.distance, strict=True)]
        chained = [list(starmap(slice, pairwise(ends))) for ends in self._first.T]
        self._rows = [distances[0], *chained[: n_chain - 1], *distances[1:]]
        n_rows = [empty.chain[0].shape[0], *n_entries[: n_chain - 1], *(t.shape[0] for t in empty.distance[1:])]
        self._lengths = [np.zeros(n, np.int64) for n in n_rows]
        self._indices = [np.empty(n, np.int32) for n in n_entries]
        self._data = [np.empty(n, np.int64) for n in n_entries]

    def put(self, number: int, piece: CountsRange) -> None:
        """Fill in the range with this number."""
        for j, table in enumerate((*piece.chain, *piece.far)):
            entries = slice(*self._first[number : number + 2, j])
            self._lengths[j][self._rows[j][number]] += table.lengths
            self._indices[j][entries] = table.indices
            self._data[j][entries] = table.counts

    def counts(self, unigram: Int64) -> NgramCounts:
        """All counts, when every range is there."""
        counts, n_chain = self._counts, len(self._counts.chain)
        tables = [
            as_csr(_offsets(lengths), indices, data, (lengths.size, counts.vocab_size))
            for lengths, indices, data in zip(self._lengths, self._indices, self._data, strict=True)
        ]
        counts.n_tokens, counts.unigram = int(unigram.sum()), unigram
        counts.distance, counts.suffix = [tables[0], *tables[n_chain:]], tables[1:n_chain]
        return counts

"""Sums of many tables of counts that need not fit into memory: merged by ranges of rows, written piece by piece.

The rows of a table of suffixes are the entries of the table before it, so their numbers change when that is merged. Its
merge writes, for each of the tables that are merged, where its entries have gone: the row numbers of the next level.
Both ascend, so everything is read and written from front to back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm.counts import NgramCounts
from saffu.utils.arrays import Array, Int32, Int64
from saffu.utils.mapped_files import ArrayFile, release
from saffu.utils.threads import resolve_threads

BYTES_PER_ENTRY = 64  # of what is merged at once, results and places included
MOST_ENTRIES = 1 << 22  # merged at once: more would not be quicker


def merged(pieces: Sequence[NgramCounts], folder: str, memory: int) -> NgramCounts:
    """The counts of some pieces together, as tables that are mapped from files.

    Parameters
    ----------
    pieces : sequence of NgramCounts
        Of one shape, at least one of them.
    folder : str
        Where to write; empty at first.
    memory : int
        Bytes to work in, about: a range of rows at least one row long is merged at once.

    Returns
    -------
    NgramCounts

    Raises
    ------
    OSError
        If it cannot be written.

    Notes
    -----
    Kernel ``saffu_merge``. Each entry is read once and written once, in the merge of two as often as it takes to
    merge all pieces pairwise.
    """
    first = pieces[0]
    total = NgramCounts(first.vocab_size, first.radius, first.order, first.start_length)
    total.n_tokens = sum(piece.n_tokens for piece in pieces)
    total.unigram = np.sum([piece.unigram for piece in pieces], axis=0)
    most = min(max(memory // BYTES_PER_ENTRY, 1), MOST_ENTRIES)
    n_rows = first.chain[0].shape[0]
    rows: list[Int64 | None] = [None] * len(pieces)
    chain: list[csr_array] = []
    for n in range(first.order - 1):
        merge = _Merge([piece.chain[n] for piece in pieces], rows, n_rows, most)
        keep_places = n + 2 < first.order
        table, places = merge.run(os.path.join(folder, f"suffix{n + 1}"), keep_places)
        chain.append(table)
        rows, n_rows = [*places], table.nnz
        _remove_places(folder, n)
    far = []
    for k in range(1, first.radius):
        merge = _Merge([piece.distance[k] for piece in pieces], [None] * len(pieces), first.vocab_size, most)
        far.append(merge.run(os.path.join(folder, f"distance{k + 1}"), keep_places=False)[0])
    total.distance, total.suffix = [chain[0], *far], chain[1:]
    return total


def _remove_places(folder: str, level: int) -> None:
    """Remove the places of the entries of the level before, which are used up."""
    begin = f"suffix{level}.places"
    for name in os.listdir(folder):
        if name.startswith(begin):
            os.unlink(os.path.join(folder, name))


class _Part(NamedTuple):
    """Some rows of one table and the numbers of these rows in the sum, or what has been merged of several.

    ``places`` are, for each table that has gone into it, the places of its entries, None for one that is whole.
    """

    indptr: Int64
    indices: Int32
    counts: Int64
    rows: Int64
    places: list[Int64 | None]


class TableFiles:
    """A table of counts that is written to files row by row."""

    def __init__(self, name: str, n_cols: int) -> None:
        self.n_cols = n_cols
        self._indptr = ArrayFile(f"{name}.indptr", np.int64)
        self._indices, self._counts = ArrayFile(f"{name}.indices", np.int32), ArrayFile(f"{name}.counts", np.int64)
        self._indptr.append(np.zeros(1, np.int64))

    @property
    def n_entries(self) -> int:
        """Entries written so far."""
        return self._counts.size

    def append(self, indptr: Int64, indices: Int32, counts: Int64) -> None:
        """Write the next rows, whose offsets begin at 0."""
        self._indptr.append(indptr[1:] + self.n_entries)
        self._indices.append(indices)
        self._counts.append(counts)

    def finish(self) -> csr_array:
        """All rows."""
        n_rows = self._indptr.size - 1
        arrays = self._indptr.finish(), self._indices.finish(), self._counts.finish()
        return as_csr(*arrays, (n_rows, self.n_cols))


class _Merge:
    """The merge of one table of several pieces.

    Parameters
    ----------
    tables : sequence of csr_array
    rows : sequence of ndarray of int64, or None
        For each table, the row of the sum that each of its rows is; None where they are the same.
    n_rows : int
        Rows of the sum.
    most : int
        Entries that are merged at once.
    """

    def __init__(self, tables: Sequence[csr_array], rows: Sequence[Int64 | None], n_rows: int, most: int) -> None:
        self.tables, self.rows, self.n_rows, self.most = tables, rows, n_rows, most
        self._mapped: list[Array] = [array for table in tables for array in (table.indptr, table.indices, table.data)]
        self._mapped += [numbers for numbers in rows if numbers is not None]

    def run(self, name: str, keep_places: bool) -> tuple[csr_array, list[Int64]]:
        """The sum, and for each table, if they are kept, the places of its entries in the sum."""
        out = TableFiles(name, self.tables[0].shape[1])
        places = [ArrayFile(f"{name}.places{i}", np.int64) for i in range(len(self.tables) if keep_places else 0)]
        begin, at = 0, [0] * len(self.tables)
        while begin < self.n_rows:
            end, until = self._range(begin, at)
            parts = [self._part(i, at[i], until[i], begin) for i in range(len(self.tables))]
            found = _sum(parts, end - begin, keep_places)
            for file, own in zip(places, found.places, strict=False):
                assert own is not None
                file.append(own + out.n_entries)
            out.append(found.indptr, found.indices, found.counts)
            begin, at = end, until
            release(*self._mapped)
        return out.finish(), [file.finish() for file in places]

    def _range(self, begin: int, at: list[int]) -> tuple[int, list[int]]:
        """Where a range of rows that begins there ends, and at which row of each table that is."""
        quota = max(self.most // len(self.tables), 1)
        end = min(self.n_rows, begin + self.most)
        for table, rows, first in zip(self.tables, self.rows, at, strict=True):
            n = table.shape[0]
            if first < n:
                last = int(np.searchsorted(table.indptr, table.indptr[first] + quota, side="right")) - 1
                last = max(last, first + 1)
                if last < n:
                    end = min(end, last if rows is None else int(rows[last]))
        until = [
            min(end, table.shape[0]) if rows is None else int(np.searchsorted(rows, end))
            for table, rows in zip(self.tables, self.rows, strict=True)
        ]
        return end, until

    def _part(self, i: int, first: int, last: int, begin: int) -> _Part:
        """Rows of one table for a range of rows of the sum that begins there."""
        table, rows = self.tables[i], self.rows[i]
        indptr = table.indptr[first : last + 1].astype(np.int64)
        entries = slice(int(indptr[0]), int(indptr[-1]))
        numbers = np.arange(first, last) if rows is None else rows[first:last]
        indices = table.indices[entries].astype(np.int32, copy=False)
        return _Part(indptr - indptr[0], indices, table.data[entries], numbers - begin, [None])


def _sum(parts: list[_Part], n_rows: int, keep_places: bool) -> _Part:
    """The sum of some parts, merged pairwise."""
    if len(parts) == 1:
        none = np.empty(0, np.int64)
        parts = [*parts, _Part(np.zeros(1, np.int64), none.astype(np.int32), none, none, [])]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [*(_added(a, b, n_rows, keep_places) for a, b in pairs), *parts[len(parts) - len(parts) % 2 :]]
    return parts[0]


def _added(a: _Part, b: _Part, n_rows: int, keep_places: bool) -> _Part:
    threads = resolve_threads(None)
    indptr, indices, counts, *found = _core.merge(*a[:4], *b[:4], n_rows, threads, keep_places)
    places: list[Int64 | None] = []
    for part, own in zip((a, b), found, strict=True):
        places += [own if before is None else own[before] for before in part.places] if keep_places else []
    return _Part(indptr, indices, counts, np.arange(n_rows), places)

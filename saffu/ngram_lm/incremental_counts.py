"""Counts that take in new text, and give text back, in time proportional to that text.

Weights cannot be kept up to date row by row: the discounts and the unigram stand in every row, and each token counted
changes them. So nothing is weighed beforehand. The counts are kept as a few pieces whose sizes at least double,
merged like the digits of a binary counter, and beside them the few statistics that all rows share, which a new piece
changes only at its own entries. A row is summed over the pieces when a position asks for it, and weighed on the spot
with the statistics of that moment. Numbers of entries and of rows differ from piece to piece: a context is looked up in
each, token by token, so that nothing has to be renumbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm.counts import NgramCounts, suffix_contexts, without_starts
from saffu.ngram_lm.pruned_counts import PrunedCounts, prune_rows
from saffu.ngram_lm.statistics import Statistics
from saffu.utils.arrays import Array, Bools, Int32, Int64, ranges, take
from saffu.utils.locks import Lock, made_once
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads


class Rows(NamedTuple):
    """The rows that some positions name, each once, under numbers of their own.

    ``place`` (n_tables, n_positions) has the row of each position in every table, -1 where nothing was counted.
    ``shorter[n]`` has, for each row of table n of the chain distance[0], suffix[0], ..., the row of table n - 1 whose
    context is shorter by the oldest token. ``dropped`` has, where rare entries were dropped, what those of
    each row of each table amount to. ``keyed`` are the tables of other contexts, and ``keyed_shorter[j]``
    the rows of the distance from which those of pair j fall back.
    """

    distance: list[csr_array]
    suffix: list[csr_array]
    shorter: list[Int32]
    place: Int32
    dropped: list[Int64] | None = None
    keyed: Sequence[csr_array] = ()
    keyed_shorter: Sequence[Int32] = ()


class IncrementalCounts:
    """The counts of a stream in pieces.

    Parameters
    ----------
    pieces : sequence of NgramCounts
    statistics : Statistics, optional
        Of all pieces together, if they are known.

    Attributes
    ----------
    pieces : list of NgramCounts
        Each of at most half as many entries as the one before it. Those of text that was taken away are negative.
        Neither the list nor a piece is ever changed: other threads may be reading it.
    """

    def __init__(self, pieces: Sequence[NgramCounts] = (), statistics: Statistics | None = None) -> None:
        self.pieces = list(pieces)
        self._lock = Lock()
        self._statistics = statistics
        self._whole: NgramCounts | None = None
        self._has_zeros = False

    @property
    def n_tokens(self) -> int:
        """Tokens counted."""
        return sum(piece.n_tokens for piece in self.pieces)

    @property
    @made_once("_statistics")
    def statistics(self) -> Statistics:
        """What the rows share; computed from all counts once, and kept current from then on."""
        return Statistics.of(self.total())

    def push(self, piece: NgramCounts) -> None:
        """Add counts; the statistics are computed afresh when next asked for."""
        self._statistics = None
        self._append(piece)

    def add(self, piece: NgramCounts) -> None:
        """Add counts and keep the statistics current, in time proportional to the piece."""
        if self._statistics is not None:
            self._statistics = self._statistics.changed(piece, self.present(piece))
        self._append(piece)

    def subtract(self, piece: NgramCounts) -> None:
        """Take counts away, exactly, in time proportional to the piece.

        Raises
        ------
        ValueError
            If a count would fall below zero; nothing has changed then.
        """
        before, negative = self.present(piece), piece.negative()
        short = any((old < table.data).any() for old, table in zip(before, piece.tables, strict=True))
        unigram = sum(held.unigram for held in self.pieces)
        if short or (unigram < piece.unigram).any():
            raise ValueError("counts to subtract were never added: a count would fall below zero")
        if self._statistics is not None:
            self._statistics = self._statistics.changed(negative, before)
        self._has_zeros = True
        self._append(negative)

    @made_once("_whole")
    def total(self) -> NgramCounts:
        """All counts in one piece; takes time proportional to them if there was more than one."""
        pieces = self.pieces
        while len(pieces) > 1:
            pieces = _last_two_added(pieces)
        if self._has_zeros:
            pieces = [pieces[0].pruned()]
        self.pieces, self._has_zeros = pieces, False
        return pieces[0]

    def _append(self, piece: NgramCounts) -> None:
        pieces = [*self.pieces, piece]
        while len(pieces) > 1 and pieces[-2].n_entries < 2 * pieces[-1].n_entries:
            pieces = _last_two_added(pieces)
        self.pieces, self._whole = pieces, None

    def present(self, piece: NgramCounts) -> list[Int64]:
        """The count that each entry of each table of ``piece`` has now."""
        row_of_entry = [np.repeat(np.arange(t.shape[0], dtype=np.int32), np.diff(t.indptr)) for t in piece.tables]
        found = [np.zeros(table.nnz, np.int64) for table in piece.tables]
        parents = piece.parents
        for held in self.pieces:
            places: list[Int32] = []
            for j, (mine, theirs) in enumerate(zip(piece.tables, held.tables, strict=True)):
                row = row_of_entry[j]
                if parents[j] >= 0:  # its rows are entries of another table
                    row = places[parents[j]][row]
                places.append(_core.find(theirs.indptr, theirs.indices, row, mine.indices, 1))
                known = places[j] >= 0
                found[j][known] += theirs.data[places[j][known]]
        return found

    # ---- rows --------------------------------------------------------------------------------------------------------

    def rows(
        self,
        stream: TokenStream,
        positions: Int64 | None = None,
        opens: Bools | None = None,
        least: Sequence[int] | None = None,
    ) -> Rows:
        """The rows of the contexts of some positions of a stream, summed over the pieces.

        Takes time proportional to the stream and to the length of these rows.

        Parameters
        ----------
        stream : TokenStream
        positions : ndarray of int64, optional
            By default all.
        opens : ndarray of bool, optional
            Which of the documents are there from their first token; by default all.
        least : sequence of int, optional
            For each table, the count below which an entry is dropped; by default 1.
        """
        pieces, positions = self.pieces, np.arange(stream.ids.size) if positions is None else positions
        first, n_chain = pieces[0], pieces[0].order - 1
        length, are_pruned = (
            first.start_length,
            isinstance(first, PrunedCounts) or (least is not None and max(least) > 1),
        )
        least = [1] * len(first.tables) if least is None else least
        chains = [list(suffix_contexts(piece.chain, stream, 1, opens, length)) for piece in pieces]
        names = _suffix_names(chains[0][0], stream, n_chain, length)
        age = positions - stream.begins(positions)
        summed: list[_SummedTable] = []
        shorter, places, number = [np.empty(0, np.int32)], list[Int32](), np.empty(0, np.int32)
        numbers: list[Int32] = []  # of the rows of each distance
        for n in range(n_chain):
            chosen = _DistinctContexts.of(names[n], positions, names[n][positions] >= 0)
            if n:
                shorter.append(number[chosen.column])
            number = chosen.number
            numbers += [number] * (n == 0)
            j = n and first.radius + n - 1
            summed.append(_SummedTable.of(pieces, j, [chosen.rows_in(chain[n]) for chain in chains], least))
            places.append(chosen.place_in(summed[-1].table))
        for k in range(2, first.radius + 1):
            chosen = _DistinctContexts.of(stream.ids, positions - k, age >= k)
            rows = [chosen.rows_in(stream.ids)] * len(pieces)
            numbers.append(chosen.number)
            summed.insert(k - 1, _SummedTable.of(pieces, k - 1, rows, least))
            places.insert(k - 1, chosen.place_in(summed[k - 1].table))
        tables = [found.table for found in summed]
        dropped = [found.dropped for found in summed] if are_pruned else None
        keyed, keyed_shorter, more = self._keyed_rows(stream, positions, opens, least[-1], numbers)
        near, place = tables[: first.radius], np.stack([*places, *more])
        return Rows(near, tables[first.radius :], shorter, place, dropped, keyed, keyed_shorter)

    def _keyed_rows(
        self, stream: TokenStream, positions: Int64, opens: Bools | None, least: int, numbers: Sequence[Int32]
    ) -> tuple[list[csr_array], list[Int32], list[Int32]]:
        """The tables of other contexts, the rows that pairs fall back to, and the row of each position in each context.

        ``numbers`` has the rows of each distance that the positions name.
        """
        pieces, keys = self.pieces, self.pieces[0].keys
        tables, shorter, places = list[csr_array](), list[Int32](), list[Int32]()
        if not keys:
            return tables, shorter, places
        names = keys.distinct(stream, opens)
        found = [keys.rows(piece.distance, piece.keyed, stream, opens, 1) for piece in pieces]
        columns = np.array(keys.columns)
        for j in np.unique(columns):
            own = np.flatnonzero(columns == j)  # several for the words, which have one table
            ends = (np.arange(own.size)[:, None] * stream.ids.size + positions).ravel()
            named = names[own].ravel()
            chosen = _DistinctContexts.of(named, ends, named[ends] >= 0)
            rows = [chosen.rows_in(of_piece[own].ravel()) for of_piece in found]
            tables.append(_summed([piece.keyed_tables[j] for piece in pieces], rows))
            if (tables[-1].data < least).any():
                tables[-1] = prune_rows(tables[-1], least)[0]
            if j < len(keys.skips):
                shorter.append(numbers[keys.skips[j][0] - 1][chosen.column])
            places += list(chosen.place_in(tables[-1]).reshape(own.size, -1))
        return tables, shorter, places


def _last_two_added(pieces: Sequence[NgramCounts]) -> list[NgramCounts]:
    return [*pieces[:-2], pieces[-2].add(pieces[-1])]


class _DistinctContexts(NamedTuple):
    """The distinct contexts of some positions: where one of each is, its column, and which each position has."""

    end: Int64
    column: Int64
    number: Int32

    @classmethod
    def of(cls, names: Array, ends: Int64, known: Bools) -> _DistinctContexts:
        """Contexts distinguished by the name that the stream has for them at ``ends``."""
        columns = np.flatnonzero(known)
        _, first, inverse = np.unique(names[ends[columns]], return_index=True, return_inverse=True)
        number = np.full(ends.size, -1, np.int32)
        number[columns] = inverse
        return cls(ends[columns[first]], columns[first], number)

    def rows_in(self, rows: Int32) -> Int32:
        """The row of each context, given that of each position of the stream."""
        return rows[self.end]

    def place_in(self, table: csr_array) -> Int32:
        """Row of each position, or -1 where it holds nothing."""
        sums = np.diff(np.concatenate([[0], np.cumsum(table.data)])[table.indptr])
        filled = np.append(sums > 0, False)
        return np.where(filled[self.number], self.number, np.int32(-1)).astype(np.int32)


def _suffix_names(newest: Int32, stream: TokenStream, n_chain: int, start_length: int) -> list[Int64]:
    """For n = 1..n_chain, numbers that distinguish the suffixes of n tokens before each position; -1 for none.

    Those of one token are given: the token, or the start of a document.
    """
    names, (ids, starts) = [newest.astype(np.int64)], stream
    n_tokens = int(ids.max(initial=0)) + 1
    for n in range(1, n_chain):
        older = without_starts(names[-1], starts, n) if n == start_length else names[-1]
        pair = np.full(ids.size, -1, np.int64)
        pair[1:] = np.where(older[:-1] < 0, -1, older[:-1] * n_tokens + ids[:-1])
        pair[starts] = -1
        number = np.unique(pair, return_inverse=True)[1]
        names.append(np.where(pair < 0, -1, number))
    return names


class _SummedTable(NamedTuple):
    """Some rows of one table, summed over pieces, and what was dropped from each."""

    table: csr_array
    dropped: Int64

    @classmethod
    def of(cls, pieces: Sequence[NgramCounts], j: int, rows: Sequence[Int32], least: Sequence[int]) -> _SummedTable:
        """Row i is the sum over the pieces of row ``rows[i]`` of table j, none where that is -1."""
        table = _summed([piece.tables[j] for piece in pieces], rows)
        if isinstance(pieces[0], PrunedCounts):
            return cls(table, take(pieces[0].dropped[j], rows[0]))
        if (table.data < least[j]).any():
            return cls(*prune_rows(table, least[j]))
        return cls(table, np.zeros(rows[0].size, np.int64))


def _summed(tables: Sequence[csr_array], rows: Sequence[Int32]) -> csr_array:
    """Row i is the sum of row ``rows[k][i]`` of each table k, none where that is -1."""
    own = [_rows_of(table, row) for table, row in zip(tables, rows, strict=True)]
    table, number = own[0], np.arange(rows[0].size)
    for other in own[1:]:
        n_rows, threads = number.size, resolve_threads(None)
        found = _core.merge(*_arrays(table), number, *_arrays(other), number, n_rows, threads, places=False)
        table = as_csr(*found[:3], table.shape)
    return table


def _arrays(table: csr_array) -> tuple[Array, Array, Array]:
    return table.indptr, table.indices, table.data


def _rows_of(table: csr_array, rows: Int32) -> csr_array:
    """Rows of a table, which is empty where they are -1."""
    begins = table.indptr[rows].astype(np.int64)
    lengths = np.where(rows >= 0, table.indptr[rows + 1] - begins, 0)
    entries = ranges(begins, begins + lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return as_csr(indptr, table.indices[entries], table.data[entries], (rows.size, table.shape[1]))

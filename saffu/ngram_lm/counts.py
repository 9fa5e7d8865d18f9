"""Counting: additive statistics of token streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit.cooccurrence import as_csr, count_pairs
from saffu.ngram_lm.keyed_contexts import NO_KEYS, KeyedContexts, stacked
from saffu.utils.arrays import Bools, Int32, Int64
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

IntArray = TypeVar("IntArray", Int32, Int64)
Combined = tuple[csr_array, Int64, Int64]
NEVER_ADDED = "counts to subtract were never added: a count would fall below zero"
Combine = Callable[[csr_array, Int64, csr_array, Int64, int, bool], Combined]


class NgramCounts:
    """Counts of every context table of a language model: an additive statistic of token streams.

    Two families of tables, all of int64:

    * ``distance[k - 1]``, shape (V, V): which token is found k after which, k = 1..radius;
    * ``suffix[n - 2]``: which token follows the last n tokens, n = 2..order - 1.

    Models with other contexts have the tables of these besides, ``keyed``, of :class:`KeyedContexts`.

    The contexts of a suffix table are not hashed: a suffix of n tokens *is* an entry of the table before it (its
    older part is that entry's row, its newest token the column), so row r of ``suffix[0]`` is entry r of
    ``distance[0]``, row r of ``suffix[1]`` is entry r of ``suffix[0]``, and so on.

    A start token ``<s>`` of id V precedes every document. It is a context and never predicted: ``distance[0]`` has
    a row V, shape (V + 1, V), of the first tokens of documents, and the suffixes that begin with ``<s>`` are the last
    rows of every suffix table.

    Parameters
    ----------
    vocab_size, radius, order : int
    start_length : int, optional
        Length of the longest contexts that begin with ``<s>``, tokens: by default all have them; with 1 it is
        alone; with 0 there is none, as in files of earlier versions.
    keys : KeyedContexts, optional
        Other contexts; by default none.

    Attributes
    ----------
    vocab_size, radius, order, start_length, n_tokens : int
    keys : KeyedContexts
    unigram : ndarray of int64, shape (V,)
    distance, suffix, keyed : list of csr_array
    """

    def __init__(
        self, vocab_size: int, radius: int, order: int, start_length: int | None = None, keys: KeyedContexts = NO_KEYS
    ) -> None:
        self.vocab_size, self.radius, self.order, self.n_tokens, self.keys = vocab_size, radius, order, 0, keys
        self.start_length = order - 1 if start_length is None else start_length
        self.unigram = np.zeros(vocab_size, np.int64)
        self.distance = [_empty(vocab_size, vocab_size) for _ in range(radius)]
        self.distance[0] = _empty(vocab_size + (self.start_length > 0), vocab_size)
        self.suffix = [_empty(0, vocab_size) for _ in range(order - 2)]
        self.keyed = keys.empty(vocab_size)
        self._stacked: list[csr_array] | None = None

    def of_stream(
        self,
        stream: TokenStream,
        *,
        n_context: int = 0,
        opens: Bools | None = None,
        n_threads: int | None = None,
        on_table: Callable[[], object] = lambda: None,
    ) -> NgramCounts:
        """Counts of a stream in tables like these: what can be added to them, or subtracted.

        Parameters
        ----------
        stream : TokenStream
        n_context : int
            The first tokens of the stream are context only and not counted.
        opens : ndarray of bool, optional
            Which of the documents are there from their first token; a start token precedes these (by default all), and
            not those that were cut out of a longer one.
        n_threads : int, optional
        on_table : callable
            Called after each table.
        """
        counts, ids, V = self._without_counts(), stream.ids, self.vocab_size
        counts.n_tokens = ids.size - n_context
        for k in range(2, self.radius + 1):
            counts.distance[k - 1] = _count_new(stream, ids, k, (V, V), n_context, n_threads)
            on_table()
        chain, n_rows = counts.chain, counts.distance[0].shape[0]
        contexts = _newest_tokens(stream, V, n_rows, opens)
        counter = _core.SuffixCounter(contexts, ids, stream.starts, n_rows, V, resolve_threads(n_threads))
        # Every token is the context of a position but the last of each document, and those that are not counted.
        last = np.append(stream.starts, ids.size) - 1
        counts.unigram = counter.row_lengths[:V] + np.bincount(ids[last[last >= 0]], minlength=V)
        counts.unigram -= np.bincount(ids[:n_context], minlength=V)
        for n, table in enumerate(self._counted_suffixes(counter, stream, n_context, opens, n_threads)):
            chain[n] = table
            on_table()
        counts.distance[0], counts.suffix = chain[0], chain[1:]
        for j, table in enumerate(self.keys.count(counts.distance, stream, n_context, opens, n_threads)):
            counts.keyed[j] = table
            on_table()
        return counts

    def _counted_suffixes(
        self,
        counter: _core.SuffixCounter,
        stream: TokenStream,
        n_context: int,
        opens: Bools | None,
        n_threads: int | None,
    ) -> Iterator[csr_array]:
        """The tables of suffixes of 1, 2, ... tokens: each is counted from the positions that the one before left."""
        (ids, starts), n_rows, n_tables = stream, self.distance[0].shape[0], self.order - 1
        chain, prefix = list(self.chain), TokenStream(ids[:n_context], starts[starts < n_context])
        opened = None if opens is None else opens[starts < n_context]
        uncounted = suffix_contexts(chain, prefix, 1, opened, self.start_length)
        without_start = self.vocab_size  # rows whose context does not begin with the start token
        for n in range(n_tables):
            ends_here = without_start if n + 1 == self.start_length else n_rows
            indptr, indices, data = counter.count(ends_here if n + 1 < n_tables else 0, resolve_threads(n_threads))
            chain[n] = table = as_csr(indptr, indices, data, (n_rows, self.vocab_size))
            if n_context:
                _uncount(table, next(uncounted), prefix.ids)
            yield table
            n_rows, without_start = table.nnz, int(indptr[without_start])

    @property
    def chain(self) -> list[csr_array]:
        """Tables of the suffixes of 1, 2, ... order - 1 tokens."""
        return [self.distance[0], *self.suffix]

    @property
    def tables(self) -> list[csr_array]:
        """Distance tables, then suffix tables, then those of other contexts."""
        return [*self.distance, *self.suffix, *self.keyed]

    @property
    def parents(self) -> list[int]:
        """For each table the one before it whose entries are its rows, or -1."""
        n_before = self.radius + self.order - 2
        chain = [0, *range(self.radius, n_before - 1)][: self.order - 2]
        return [*[-1] * self.radius, *chain, *self.keys.parents(n_before)]

    @property
    def n_weighed(self) -> int:
        """Number of tables where the strings of all lengths are one."""
        return self.radius + self.order - 2 + self.keys.n_single + bool(self.keys.words)

    @property
    def keyed_tables(self) -> list[csr_array]:
        """The tables of other contexts, those of the strings of all lengths below each other as one."""
        if self._stacked is None:
            n = self.keys.n_single
            self._stacked = [*self.keyed[:n], *([stacked(self.keyed[n:])] if self.keys.words else [])]
        return self._stacked

    @property
    def n_entries(self) -> int:
        """Stored counts over all tables."""
        return sum(table.nnz for table in self.tables)

    def add(self, other: NgramCounts) -> NgramCounts:
        """Return the counts of both streams together; exact, in any order of additions."""
        both = self._combine(other, _add_tables)
        both.n_tokens = self.n_tokens + other.n_tokens
        both.unigram = self.unigram + other.unigram
        return both

    def subtract(self, other: NgramCounts) -> NgramCounts:
        """Return the counts without those of ``other``, which must have been added before; entries may be zero."""
        rest = self._combine(other, _subtract_tables)
        rest.n_tokens = self.n_tokens - other.n_tokens
        rest.unigram = self.unigram - other.unigram
        return rest

    def negative(self) -> NgramCounts:
        """Every count with the other sign: what adding it takes away."""
        turned = self.with_tables([_with_data(table, -table.data) for table in self.tables])
        turned.n_tokens, turned.unigram = -self.n_tokens, -self.unigram
        return turned

    def pruned(self) -> NgramCounts:
        """The same counts without the entries of zero, but for those that are the context of another entry."""
        tables, parents = self.tables, self.parents
        kept = [table.data != 0 for table in tables]
        rows = [np.ones(table.shape[0], bool) for table in tables]
        for j in range(len(tables) - 1, -1, -1):
            if parents[j] >= 0:
                row_of_entry = np.repeat(np.arange(tables[j].shape[0]), np.diff(tables[j].indptr))
                kept[parents[j]][row_of_entry[kept[j]]] = True
        for j, parent in enumerate(parents):
            rows[j] = rows[j] if parent < 0 else kept[parent]
        return self.with_tables([_selected(table, *which) for table, *which in zip(tables, rows, kept, strict=True)])

    def _combine(self, other: NgramCounts, combine: Combine) -> NgramCounts:
        if self._shape != other._shape:
            raise ValueError(
                f"counts of different shapes cannot be combined: (vocab_size, radius, order, start_length) "
                f"{self._shape[:4]} and {other._shape[:4]}, or other contexts"
            )
        tables: list[csr_array] = []
        places: dict[int, tuple[Int64, Int64]] = {}  # of the entries of tables that are parents
        parents = self.parents
        for j, (a, b) in enumerate(zip(self.tables, other.tables, strict=True)):
            parent, same = parents[j], np.arange(a.shape[0] if parents[j] < 0 else 0)
            mine, theirs = places.get(parent, (same, same))
            n_rows = same.size if parent < 0 else tables[parent].nnz
            table, *found = combine(a, mine, b, theirs, n_rows, j in parents)
            tables.append(table)
            if j in parents:
                places[j] = found[0], found[1]
            if parent not in parents[j + 1 :]:
                places.pop(parent, None)
        return self.with_tables(tables)

    def with_keys(self, keys: KeyedContexts) -> NgramCounts:
        """The same counts without the tables of some of the other contexts."""
        if keys == self.keys:
            return self
        counts = NgramCounts(*self._shape[:4], keys)
        counts.n_tokens, counts.unigram = self.n_tokens, self.unigram
        return counts.with_tables([*self.distance, *self.suffix, *self.keys.tables_of(self.keyed, keys)])

    def with_tables(self, tables: Sequence[csr_array]) -> NgramCounts:
        """Other tables of this shape, for as many tokens."""
        counts, n_near = self._without_counts(), self.radius + self.order - 2
        counts.n_tokens, counts.unigram = self.n_tokens, self.unigram
        counts.distance, counts.suffix = list(tables[: self.radius]), list(tables[self.radius : n_near])
        counts.keyed = list(tables[n_near:])
        return counts

    @property
    def _shape(self) -> tuple[int, int, int, int, KeyedContexts]:
        return self.vocab_size, self.radius, self.order, self.start_length, self.keys

    def _without_counts(self) -> NgramCounts:
        return NgramCounts(*self._shape)


def suffix_contexts(
    chain: Sequence[csr_array],
    stream: TokenStream,
    n_threads: int | None,
    opens: Bools | None = None,
    start_length: int | None = None,
) -> Iterator[Int32]:
    """Yield, for n = 1..len(chain), the row of the suffix of n tokens that precedes each position, or -1.

    A suffix never reaches over the start of a document, but the start token may be the oldest of up to
    ``start_length`` tokens (by default all), at the documents that ``opens`` marks (by default all). A suffix that the
    tables have not seen has no row. The tables are looked up one at a time, so that a caller may fill the next one
    before it asks for the next rows.
    """
    ids, starts = stream
    n_rows, vocab_size = chain[0].shape
    context = _newest_tokens(stream, vocab_size, n_rows, opens)
    yield context
    for n in range(1, len(chain)):
        table, older = chain[n - 1], context
        if n == start_length:
            older = without_starts(older, starts, n)
        context = np.empty_like(ids)
        context[1:] = _core.find(table.indptr, table.indices, older[:-1], ids[:-1], resolve_threads(n_threads))
        context[starts] = -1
        yield context


def _newest_tokens(stream: TokenStream, vocab_size: int, n_rows: int, opens: Bools | None) -> Int32:
    """The token before each position; where documents begin the start token, if there is a row for it, or -1."""
    ids, starts = stream
    context = np.empty_like(ids)
    context[:1], context[1:] = -1, ids[:-1]
    context[starts] = -1
    if n_rows > vocab_size:
        context[starts if opens is None else starts[opens]] = vocab_size
    return context


def without_starts(suffixes: IntArray, starts: Int64, n: int) -> IntArray:
    """Suffixes of n tokens that precede each position, without those that begin with the start token."""
    lengths = np.diff(np.append(starts, suffixes.size))
    left = suffixes.copy()
    left[starts[lengths >= n] + n - 1] = -1
    return left


def _count_new(
    contexts: TokenStream, targets: Int32, k: int, shape: tuple[int, int], n_context: int, n_threads: int | None
) -> csr_array:
    """Count pairs at distance k whose target is not among the first ``n_context``; those keep an entry of zero."""
    distance = np.array([k], np.int64)
    table = count_pairs(contexts, targets, distance, shape, n_threads)
    if n_context > k:  # the context of a continued document holds no document start
        _uncount(table, contexts.ids[: n_context - k], targets[k:n_context])
    return table


def _uncount(table: csr_array, rows: Int32, cols: Int32) -> None:
    """Take one from the entry of every pair that has one; entries of zero stay."""
    entries = _core.find(table.indptr, table.indices, np.ascontiguousarray(rows), np.ascontiguousarray(cols), 1)
    np.subtract.at(table.data, entries[entries >= 0], 1)


def _add_tables(
    a: csr_array, a_rows: Int64, b: csr_array, b_rows: Int64, n_rows: int, with_places: bool = True
) -> Combined:
    """A + B with rows renumbered, and the place of each entry of A and of B in the sum, if they are wanted.

    Entries of zero stay: they are contexts whose own occurrence was counted with an earlier piece of the stream.
    """
    threads = resolve_threads(None)
    found = _core.merge(*_arrays(a), a_rows, *_arrays(b), b_rows, n_rows, threads, with_places)
    return as_csr(*found[:3], (n_rows, a.shape[1])), found[3], found[4]


def _subtract_tables(
    a: csr_array, a_rows: Int64, b: csr_array, b_rows: Int64, n_rows: int, with_places: bool = True
) -> Combined:
    """A - B with the entries of A, some now zero: a context may outlive its own occurrence by what followed it.

    The place of an entry of B that A has not, which can only be zero, is -1, and so is the number of its row in the
    next table.
    """
    if b_rows.size and b_rows.min() < 0:
        known = b_rows >= 0
        kept = np.repeat(known, np.diff(b.indptr))
        if b.data[~kept].any():
            raise ValueError(NEVER_ADDED)
        places = np.full(b.nnz, -1)
        rest, a_places, places[kept] = _subtract_tables(a, a_rows, _selected(b, known, kept), b_rows[known], n_rows)
        return rest, a_places, places
    both, a_places, b_places = _add_tables(a, a_rows, _with_data(b, -b.data), b_rows, n_rows)  # needs them itself
    data = both.data
    if both.nnz > a.nnz:
        place = np.full(both.nnz, -1)
        place[a_places] = np.arange(a.nnz)
        if data[place < 0].any():
            raise ValueError(NEVER_ADDED)
        data, b_places = data[a_places], place[b_places]
    if data.size and data.min() < 0:
        raise ValueError(NEVER_ADDED)
    return _with_data(a, data), np.arange(a.nnz), b_places


def _arrays(table: csr_array) -> tuple[Int64, Int32, Int64]:
    return table.indptr.astype(np.int64, copy=False), table.indices.astype(np.int32, copy=False), table.data


def _with_data(table: csr_array, data: Int64) -> csr_array:
    return as_csr(table.indptr, table.indices, data, table.shape)


def _selected(table: csr_array, rows: Bools, entries: Bools) -> csr_array:
    """Some rows of a table, with some of their entries; no entry of another row is selected."""
    ends = np.concatenate([[0], np.cumsum(entries)])[table.indptr]
    indptr = np.concatenate([[0], np.cumsum(np.diff(ends)[rows])])
    return as_csr(indptr, table.indices[entries], table.data[entries], (indptr.size - 1, table.shape[1]))


def _empty(n_rows: int, n_cols: int) -> csr_array:
    return as_csr(np.zeros(n_rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64), (n_rows, n_cols))

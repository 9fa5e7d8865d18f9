"""Contexts that are neither one token nor the last few: pairs that skip tokens, the present word, the place in a line.

None is hashed. A pair of tokens *is* an entry of the table of counts at their distance, so its row has the number of
that entry. A string of tokens from the beginning of a word on is an entry of the table of strings shorter by its last
token, as in the tables of suffixes. Places in a line are numbers. So tables are added, subtracted and merged like those
of suffixes: rows follow the entries of the table that they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.utils import validate
from saffu.utils.arrays import Bools, Int32, Int64
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

LONGEST_STRING = 24  # tokens from the beginning of a word to the next token
LONGEST_LINE = 80  # tokens; places further on in a line are one
MOST_SKIPS, MOST_WORDS = 16, 8
NextRows = Callable[[int, Int32, Int32], Int32]


class Strings(NamedTuple):
    """All strings of one length that begin with a word: where the next token is, their row, and the words before."""

    length: int
    positions: Int64
    rows: Int32
    n_words: Int64


@dataclass(frozen=True)
class KeyedContexts:
    """The settings of these contexts; see :class:`saffu.ExplicitLM`.

    Attributes
    ----------
    skips : tuple of pair of int
        (a, b), a < b: the tokens a and b before a position.
    words : int
        1: the tokens of the present word; 2: also these after the word before; and so on.
    delimiters : tuple of int
        Ids after which a word begins.
    line_ends : tuple of int
        Ids after which a line begins.
    """

    skips: tuple[tuple[int, int], ...] = ()
    words: int = 0
    delimiters: tuple[int, ...] = ()
    line_ends: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, skips: Sequence[Sequence[int]], words: int, delimiters: ArrayLike, line_ends: ArrayLike
    ) -> KeyedContexts:
        """Check and convert.

        Raises
        ------
        ValueError, TypeError
            If a setting is of the wrong type or out of range, or there are words without delimiters.
        """
        pairs = tuple(_pair(pair) for pair in skips)
        if len(pairs) > MOST_SKIPS or len(set(pairs)) < len(pairs):
            raise ValueError(f"skips must be at most {MOST_SKIPS} different pairs, got {list(pairs)}")
        words = validate.integer(words, "words", 0, MOST_WORDS)
        ids = tuple(_ids(delimiters, "delimiters"))
        if words and not ids:
            raise ValueError("delimiters must be given for contexts of words: the ids after which a word begins")
        return cls(pairs, words, ids if words else (), tuple(_ids(line_ends, "line_ends")))

    def __bool__(self) -> bool:
        return bool(self.skips or self.words or self.line_ends)

    def check_radius(self, radius: int) -> None:
        """Raise ValueError if a pair needs a table of counts at a larger distance."""
        for near, far in self.skips:
            if max(near, far - near) > radius:
                raise ValueError(f"skips must be of tokens and gaps within the radius, {radius}, got {(near, far)}")

    def settings(self) -> dict[str, Any]:
        """Those that are not the default, by their names, as they are saved."""
        own = {"skips": [list(pair) for pair in self.skips], "words": self.words, "delimiters": list(self.delimiters)}
        return {name: value for name, value in {**own, "line_ends": list(self.line_ends)}.items() if value}

    @property
    def names(self) -> list[str]:
        """Names of the contexts, in their order."""
        names = [f"skip {a}, {b}" for a, b in self.skips] + ["place in line"] * bool(self.line_ends)
        return [*names, *(f"word {n}" for n in range(1, self.words + 1))]

    @property
    def n_single(self) -> int:
        """Contexts that have a table of their own; the words share those of their strings."""
        return len(self.skips) + bool(self.line_ends)

    @property
    def n_tables(self) -> int:
        """Tables of counts."""
        return self.n_single + (LONGEST_STRING + 1 if self.words else 0)

    @property
    def columns(self) -> list[int]:
        """For each context the table that its rows are in, where those of the strings are one table."""
        return [*range(self.n_single), *[self.n_single] * self.words]

    @property
    def reach(self) -> int:
        """Tokens before a position that its contexts depend on."""
        longest = [b for _, b in self.skips]
        return max([0, *longest, LONGEST_STRING + 1 if self.words else 0, LONGEST_LINE if self.line_ends else 0])

    def parents(self, n_before: int) -> list[int]:
        """For each table the one whose entries are its rows, -1 for none; there are ``n_before`` tables before them."""
        single = [b - a - 1 for a, b in self.skips] + [-1] * bool(self.line_ends)
        first = n_before + self.n_single
        return [*single, *[-1, *range(first, first + LONGEST_STRING)][: self.n_tables - self.n_single]]

    def empty(self, vocab_size: int) -> list[csr_array]:
        """Tables without counts."""
        n_rows = [0] * self.n_tables
        if self.line_ends:
            n_rows[len(self.skips)] = LONGEST_LINE + 1
        if self.words:
            n_rows[self.n_single] = 1
        nothing = np.empty(0, np.int32), np.empty(0, np.int64)
        return [_table(np.zeros(n + 1, np.int64), *nothing, vocab_size) for n in n_rows]

    def tables_of(self, tables: Sequence[csr_array], fewer: KeyedContexts) -> list[csr_array]:
        """Those of the tables that fewer contexts have."""
        own = {name: [table] for name, table in zip(self.names[: self.n_single], tables, strict=False)}
        single = [table for name in fewer.names[: fewer.n_single] for table in own[name]]
        return [*single, *(tables[self.n_single :] if fewer.words else [])]

    # ---- counting ----------------------------------------------------------------------------------------------------

    def count(
        self,
        distance: Sequence[csr_array],
        stream: TokenStream,
        n_context: int,
        opens: Bools | None,
        n_threads: int | None,
    ) -> Iterator[csr_array]:
        """The tables of a stream, in their order; of the first ``n_context`` positions with entries of zero.

        ``distance`` has the tables of the same stream at distances 1, 2, ...
        """
        vocab_size, every = distance[0].shape[1], np.arange(stream.ids.size)
        for pair in self.skips:
            gap = distance[pair[1] - pair[0] - 1]
            rows = _skip_rows(pair, gap, stream, n_threads)
            yield _counted(rows, every, stream, (gap.nnz, vocab_size), n_context, n_threads)
        if self.line_ends:
            rows = self._places_in_lines(stream, opens)
            yield _counted(rows, every, stream, (LONGEST_LINE + 1, vocab_size), n_context, n_threads)
        if self.words:
            tables: list[csr_array] = []
            for found in self.strings(stream, opens, _longer(tables, n_threads)):
                shape = (tables[-1].nnz if tables else 1, vocab_size)
                tables.append(_counted(found.rows, found.positions, stream, shape, n_context, n_threads))
                yield tables[-1]

    # ---- rows --------------------------------------------------------------------------------------------------------

    def rows(
        self,
        distance: Sequence[csr_array],
        keyed: Sequence[csr_array],
        stream: TokenStream,
        opens: Bools | None,
        n_threads: int | None,
    ) -> Int32:
        """Row of each position in the tables of the contexts, shape (n_contexts, M), or -1.

        The strings are taken for one table, the rows of all lengths below each other.
        """
        found = np.full((len(self.names), stream.ids.size), -1, np.int32)
        for j, (a, b) in enumerate(self.skips):
            found[j] = _skip_rows((a, b), distance[b - a - 1], stream, n_threads)
        if self.line_ends:
            found[len(self.skips)] = self._places_in_lines(stream, opens)
        if self.words:
            strings = keyed[self.n_single :]
            first = np.cumsum([0, *(table.shape[0] for table in strings)])
            for length, at, rows, n_words in self.strings(stream, opens, _longer(strings, n_threads)):
                found[self.n_single + n_words, at] = rows + first[length]
        return found

    def distinct(self, stream: TokenStream, opens: Bools | None) -> Int64:
        """Numbers that distinguish contexts where no table is at hand, -1 for none; in the shape of :meth:`rows`."""
        found = np.full((len(self.names), stream.ids.size), -1, np.int64)
        n_tokens = int(stream.ids.max(initial=0)) + 1
        for j, (a, b) in enumerate(self.skips):
            known = np.flatnonzero(_age(stream) >= b)
            found[j, known] = stream.ids[known - b].astype(np.int64) * n_tokens + stream.ids[known - a]
        if self.line_ends:
            found[len(self.skips)] = self._places_in_lines(stream, opens)

        def number(length: int, rows: Int32, ids: Int32) -> Int32:
            inverse = np.unique(rows.astype(np.int64) * n_tokens + ids, return_inverse=True)[1]
            return np.asarray(inverse, np.int32)

        if self.words:
            first = 0
            for _, at, rows, n_words in self.strings(stream, opens, number):
                found[self.n_single + n_words, at] = rows.astype(np.int64) + first
                first += int(rows.max(initial=-1)) + 1
        return found

    def strings(self, stream: TokenStream, opens: Bools | None, next_rows: NextRows) -> Iterator[Strings]:
        """The strings of 0, 1, ... tokens, each from the beginning of a word to the next token.

        ``next_rows(length, rows, ids)`` has the rows of strings that are longer by a token, -1 for those that need not
        be followed. A string ends where its document does, and with the delimiter of its last word.
        """
        ids, starts = stream
        is_start = np.zeros(ids.size + 1, bool)
        is_start[starts], is_start[-1] = True, True
        ends_word = np.isin(ids, self.delimiters)
        before = np.concatenate([[0], np.cumsum(ends_word)])
        begins = np.zeros(ids.size, bool)
        begins[1:] = ends_word[:-1]
        begins[starts] = True if opens is None else opens
        begin = positions = np.flatnonzero(begins)
        rows = np.zeros(positions.size, np.int32)
        for length in range(LONGEST_STRING + 1):
            yield Strings(length, positions, rows, before[positions] - before[begin])
            if length == LONGEST_STRING:
                return
            rows = next_rows(length, rows, ids[positions])
            positions = positions + 1
            left = (rows >= 0) & ~is_start[positions] & (before[positions] - before[begin] < self.words)
            begin, positions, rows = begin[left], positions[left], np.ascontiguousarray(rows[left])

    def _places_in_lines(self, stream: TokenStream, opens: Bools | None) -> Int32:
        """Tokens since the beginning of the line, at most so many, or -1 where the line began before the stream."""
        ids, starts = stream
        begins = np.zeros(ids.size, bool)
        begins[1:] = np.isin(ids[:-1], self.line_ends)
        is_open = np.ones(starts.size, bool) if opens is None else opens
        begins[starts] = True
        known = np.ones(ids.size, bool)
        known[starts] = is_open
        every = np.arange(ids.size)
        begin = np.maximum.accumulate(np.where(begins, every, 0))
        places = np.minimum(every - begin, LONGEST_LINE)
        if starts.size == 0 or starts[0] > 0:
            known[:1] = False
        return np.where(known[begin] | (places == LONGEST_LINE), places, -1).astype(np.int32)


NO_KEYS = KeyedContexts()


def stacked(tables: Sequence[csr_array]) -> csr_array:
    """Tables below each other, as one."""
    ends = np.cumsum([0, *(table.nnz for table in tables)])
    indptr = [table.indptr[:-1] + end for table, end in zip(tables, ends[:-1], strict=True)]
    indices, data = (np.concatenate([getattr(table, part) for table in tables]) for part in ("indices", "data"))
    return _table(np.concatenate([*indptr, ends[-1:]]).astype(np.int64), indices, data, tables[0].shape[1])


def _pair(pair: Sequence[int]) -> tuple[int, int]:
    if np.shape(pair) != (2,):
        raise ValueError(f"skips must be pairs of distances, such as (1, 3), got {pair!r}")
    near = validate.integer(pair[0], "skips", 1)
    return near, validate.integer(pair[1], "skips", near + 1)


def _ids(ids: ArrayLike, name: str) -> list[int]:
    return sorted(set(validate.token_ids(ids, name).tolist())) if np.size(ids) else []


def _age(stream: TokenStream) -> Int64:
    """Tokens before each position in its document."""
    every: Int64 = np.arange(stream.ids.size)
    return every - stream.begins(every)


def _skip_rows(pair: tuple[int, int], gap: csr_array, stream: TokenStream, n_threads: int | None) -> Int32:
    """Entries, in the table of counts at their distance, of the tokens at two distances before each position, or -1."""
    (near, far), ids = pair, stream.ids
    rows = np.full(ids.size, -1, np.int32)
    known = np.flatnonzero(_age(stream) >= far)
    rows[known] = _find(gap, ids[known - far], ids[known - near], n_threads)
    return rows


def _find(table: csr_array, rows: Int32, columns: Int32, n_threads: int | None) -> Int32:
    return _core.find(table.indptr, table.indices, rows, columns, resolve_threads(n_threads))


def _longer(tables: Sequence[csr_array], n_threads: int | None) -> NextRows:
    """The rows of strings longer by a token, looked up in the table of their length when they are asked for."""
    return lambda length, rows, ids: _find(tables[length], rows, ids, n_threads)


def _counted(
    rows: Int32,
    positions: Int64,
    stream: TokenStream,
    shape: tuple[int, int],
    n_context: int,
    n_threads: int | None,
) -> csr_array:
    """Counts of the tokens at some positions after their rows; those of the first ones stay entries of zero."""
    targets = stream.ids[positions]
    contexts, behind = np.append(rows, np.int32(-1)), np.append(np.int32(0), targets)
    at, start = np.ones(1, np.int64), np.zeros(1, np.int64)
    table = as_csr(*_core.count(contexts, behind, at, start, *shape, resolve_threads(n_threads)), shape)
    if n_context:
        uncounted = (positions < n_context) & (rows >= 0)
        entries = _find(table, np.ascontiguousarray(rows[uncounted]), targets[uncounted], 1)
        np.subtract.at(table.data, entries, 1)
    return table


def _table(indptr: Int64, indices: Int32, data: Int64, n_cols: int) -> csr_array:
    return as_csr(indptr, indices, data, (indptr.size - 1, n_cols))

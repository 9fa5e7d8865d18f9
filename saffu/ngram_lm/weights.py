"""Explicit weights of context tables: discounts, lower orders, packed rows, and the rows of a position."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_array

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.explicit.discounting import discount_of, discounts, discounts_from, smoothed_distribution
from saffu.ngram_lm.counts import NgramCounts, suffix_contexts
from saffu.ngram_lm.incremental_counts import Rows
from saffu.ngram_lm.keyed_contexts import NO_KEYS, KeyedContexts
from saffu.ngram_lm.pruned_counts import PrunedCounts, weigh_pruned
from saffu.ngram_lm.statistics import Statistics
from saffu.utils.arrays import Bools, Float64, Int32, Int64, take
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads


@dataclass
class Table:
    """One context table with its explicit weights; row and entry arrays run parallel to ``counts``.

    Of a pruned table the counts are gone: ones stand in their place, and the discounts and masses are empty.
    """

    counts: csr_array
    discounts: Float64
    total: Float64
    mass: Float64
    u: Float64

    def entries_with_weight(self) -> tuple[Int64, Int32, Float64]:
        """Ends of rows, words and weights of those entries whose weight is not zero."""
        chosen = self.u != 0.0
        indptr = np.concatenate([[0], np.cumsum(chosen)])[self.counts.indptr]
        return indptr, self.counts.indices[chosen], self.u[chosen]


class NgramWeights:
    """Explicit sparse weights of every table of :class:`saffu.ngram_lm.counts.NgramCounts`.

    The tables are kept in the order distance 1, 2, ... radius, suffixes of 2, ... order - 1 tokens, then those of other
    contexts; their rows are numbered through, so that one integer names a row of any of them. Each is that of one
    context, but for the last, which the contexts of words share: ``columns`` has the table of each context.

    Parameters
    ----------
    counts : NgramCounts
    continuation : bool
        Below the top order of the suffix chain, count the distinct tokens before an n-gram instead of its
        occurrences, the start of a document being one of them, and prime on the continuation unigram: textbook modified
        Kneser-Ney. What begins with the start of a document has nothing before it and keeps its occurrences.
    statistics : Statistics, optional
        Of these counts, if they are at hand.
    """

    def __init__(
        self,
        counts: NgramCounts,
        continuation: bool,
        n_threads: int | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        dropped = None
        if isinstance(counts, PrunedCounts):
            statistics, dropped = counts.statistics, counts.dropped
        self._set_priors(Statistics.of(counts) if statistics is None else statistics, continuation, n_threads)
        self._start_length, self._keys, self._keyed_counts = counts.start_length, counts.keys, counts.keyed
        keyed = counts.keyed_tables
        shorter = [counts.distance[b - a - 1].indices for a, b in counts.keys.skips]  # the nearer token of each pair
        self._weigh_tables(counts.distance, counts.chain, None, continuation, dropped, keyed, shorter)

    @classmethod
    def of_rows(
        cls, rows: Rows, statistics: Statistics, n_threads: int | None = None, keys: KeyedContexts = NO_KEYS
    ) -> Self:
        """The weights of some rows alone, equal to the bit to those of the whole; not for continuation counts."""
        weights = cls.__new__(cls)
        weights._set_priors(statistics, False, n_threads)
        weights._keys = keys
        chain, keyed = [rows.distance[0], *rows.suffix], rows.keyed
        weights._weigh_tables(rows.distance, chain, rows.shorter, False, rows.dropped, keyed, rows.keyed_shorter)
        return weights

    def with_tables(self, tables: Sequence[Table]) -> Self:
        """The same model with other weights in its tables, as many as there are; entries of weight 0 cost no time."""
        weights = copy.copy(self)
        radius = len(self.distance)
        weights.distance, weights.suffix, weights.keyed = list(tables[:radius]), list(tables[radius:]), []
        weights.first_rows = np.cumsum([0, *(table.counts.shape[0] for table in tables)])
        weights.packed = _packed([table.entries_with_weight() for table in tables], np.float32, weights.n_threads)
        return weights

    @classmethod
    def of_tables(
        cls,
        tables: Sequence[Table],
        radius: int,
        priors: tuple[Float64, Float64],
        start_length: int,
        n_threads: int | None = None,
    ) -> Self:
        """Weights that are at hand, in tables in their order; entries of weight 0 are only contexts of longer ones."""
        weights = cls.__new__(cls)
        weights.unigram, weights.continuation = priors
        weights.vocab_size, weights.n_threads = weights.unigram.size, resolve_threads(n_threads)
        weights._start_length, weights._keys = start_length, NO_KEYS
        weights.distance = list(tables[:radius])
        return weights.with_tables(tables)

    def _set_priors(self, statistics: Statistics, continuation: bool, n_threads: int | None) -> None:
        self.vocab_size, self.n_threads = statistics.unigram.size, resolve_threads(n_threads)
        self.unigram, self.continuation = prior_distributions(
            statistics.unigram, statistics.followed, statistics.n_tokens, continuation
        )
        self._discounts = [discounts_from(row) for row in statistics.repeats]

    def _weigh_tables(
        self,
        distance: Sequence[csr_array],
        chain: Sequence[csr_array],
        shorter: Sequence[Int32] | None,
        types: bool,
        dropped: Sequence[Int64] | None,
        keyed: Sequence[csr_array],
        keyed_shorter: Sequence[Int32],
    ) -> None:
        """Weigh and pack; ``shorter[n]`` names the row of table n - 1 of the chain that a row of table n prolongs.

        ``dropped`` has what entries that were dropped from each row of each table amount to, ``keyed_shorter[j]`` the
        row that each row of pair j falls back to, of the distance of its nearer token.
        """
        radius, n_near = len(distance), len(distance) + len(chain) - 1
        lost: Sequence[Int64 | None] = [None] * len(self._discounts) if dropped is None else dropped
        near, near_lost = ([values[0], *values[radius:n_near]] for values in (self._discounts, lost))
        weighed, nearest = self._weigh_chain(chain, list(zip(near, near_lost, strict=True)), shorter, types)
        far, probabilities = [], {1: nearest}  # of the entries of those distances that pairs fall back to
        for k, table in enumerate(distance[1:], start=2):
            found, p = self._weigh(table, table.indices, self.unigram, self._discounts[k - 1], lost[k - 1])
            far.append(found)
            if any(k == near_token for near_token, _ in self._keys.skips):
                probabilities[k] = p
        self.distance, self.suffix = [weighed[0], *far], weighed[1:]
        self.keyed = self._weigh_keyed(keyed, keyed_shorter, probabilities, n_near)
        self.first_rows = np.cumsum([0, *(table.counts.shape[0] for table in self.tables)])
        self.packed = self.pack(np.float64 if types else np.float32)

    @property
    def tables(self) -> list[Table]:
        """Distance tables, then suffix tables, then those of other contexts."""
        return [*self.distance, *self.suffix, *self.keyed]

    @property
    def columns(self) -> list[int]:
        """The table of each context."""
        n_near = len(self.distance) + len(self.suffix)
        return [*range(n_near), *(n_near + j for j in self._keys.columns)]

    def _weigh_keyed(
        self, tables: Sequence[csr_array], shorter: Sequence[Int32], probabilities: Mapping[int, Float64], n_near: int
    ) -> list[Table]:
        """The tables of other contexts: pairs fall back to the distance of their nearer token, all else to unigrams."""
        keys, found = self._keys, list[Table]()
        for j, table in enumerate(tables):
            d = self._discounts[n_near + j] if j < keys.n_single else self._discounts[-1]
            parent, lower = table.indices, self.unigram
            if j < len(keys.skips):
                nearer = keys.skips[j][0]
                below, row_of_entry = self.distance[nearer - 1].counts, np.repeat(shorter[j], np.diff(table.indptr))
                parent = _core.find(below.indptr, below.indices, row_of_entry, table.indices, self.n_threads)
                lower = probabilities[nearer]
            found.append(self._weigh(table, parent, lower, d, None)[0])
        return found

    def _weigh_chain(
        self,
        chain: Sequence[csr_array],
        discounts_and_dropped: Sequence[tuple[Float64, Int64 | None]],
        shorter: Sequence[Int32] | None,
        continuation: bool,
    ) -> tuple[list[Table], Float64]:
        """The tables of the chain, and the probabilities of the entries of the first."""
        parents = parents_of(chain, self.n_threads, shorter)
        weighed: list[Table] = []
        lower, first = nearest, _ = self.continuation, self.vocab_size
        for n, (table, (d, dropped)) in enumerate(zip(chain, discounts_and_dropped, strict=True)):
            if continuation and n + 1 < len(chain):
                used = np.bincount(parents[n + 1][chain[n + 1].data > 0], minlength=table.nnz)
                first = table.indptr[first]  # from here on entries begin with the start token: nothing precedes them
                used[first:] = table.data[first:]
                table, d = as_csr(table.indptr, table.indices, used, table.shape), discounts(used)
            found, lower = self._weigh(table, parents[n], lower, d, dropped)
            nearest = lower if n == 0 else nearest
            weighed.append(found)
        return weighed, nearest

    def _weigh(
        self, table: csr_array, parent: Int32, lower: Float64, d: Float64, dropped: Int64 | None
    ) -> tuple[Table, Float64]:
        """The weighed table, and the probabilities of its entries: the lower order of the table above it."""
        if dropped is not None:
            total, mass, u, p = weigh_pruned(table, dropped, lower[parent], d)
            return Table(table, d, total, mass, u), p
        total, mass, u, p = _core.weigh(table.indptr, table.data, parent, lower, d, self.n_threads)
        return Table(table, d, total, mass, u), p

    def pack(self, dtype: type[np.floating[Any]]) -> _core.Packed:
        """The rows of all tables, their weights rounded to this type.

        Those of a model are float32, but for continuation counts. With float32 a log-probability is that of float64 to
        about 1e-6 nats: each weight is off by at most 2^-24 of itself, and a logit, a sum of at most n features in
        float32, by n 2^-24 of the sum of their sizes; the normaliser averages such errors over the words.
        """
        entries = [(table.counts.indptr, table.counts.indices, table.u) for table in self.tables]
        return _packed(entries, dtype, self.n_threads)

    def contexts(self, stream: TokenStream, opens: Bools | None = None) -> Int32:
        """Row, within its own table, of each context of each position: what precedes ids[t].

        ``opens`` marks the documents that are there from their first token, by default all.

        Returns
        -------
        ndarray of int32, shape (n_contexts, M)
            -1 where the document has no such context or the row holds no count. The start of a document is a context
            of the first token: row V of the first table, if the counts know it.
        """
        chain = [self.distance[0].counts, *(table.counts for table in self.suffix)]
        radius, ids = len(self.distance), stream.ids
        n_near = radius + len(self.suffix)
        found = np.full((len(self.columns), ids.size), -1, np.int32)
        for n, rows in enumerate(suffix_contexts(chain, stream, self.n_threads, opens, self._start_length)):
            found[radius + n - 1 if n else 0] = rows
        age = np.arange(ids.size) - np.repeat(stream.starts, stream.lengths())
        for k in range(2, radius + 1):
            found[k - 1, k:] = ids[:-k]
            found[k - 1, age < k] = -1
        if self._keys:
            distance = [table.counts for table in self.distance]
            found[n_near:] = self._keys.rows(distance, self._keyed_counts, stream, opens, self.n_threads)
        for rows, j in zip(found, self.columns, strict=True):
            known, table = rows >= 0, self.tables[j]
            rows[known] = np.where(table.total[rows[known]] > 0, rows[known], -1)
        return found

    def entries(self, rows: Int32, targets: Int32) -> Int32:
        """Place of each target in its row of every context, or -1; shapes (n_contexts, T), (T,) -> (n_contexts, T)."""
        tables = [self.tables[j].counts for j in self.columns]
        return np.stack(
            [
                _core.find(t.indptr, t.indices, np.ascontiguousarray(r), targets, self.n_threads)
                for t, r in zip(tables, rows, strict=True)
            ]
        )

    def target_u(self, rows: Int32, targets: Int32) -> Float64:
        """``u`` of each target in its row of every context; shapes (n_contexts, T), (T,) -> (n_contexts, T)."""
        entries = self.entries(rows, targets)
        return np.stack([take(self.tables[j].u, entry) for j, entry in zip(self.columns, entries, strict=True)])

    def leave_one_out(self, rows: Int32, targets: Int32) -> tuple[Int32, Float64]:
        """Rows and target weights of counted positions as they would be had each not been counted itself.

        Parameters
        ----------
        rows : ndarray of int32, shape (n_tables, T)
            From :meth:`contexts`.
        targets : ndarray of int32, shape (T,)

        Returns
        -------
        rows : ndarray of int32, shape (n_tables, T)
            Rows that held nothing else become -1.
        target_u : ndarray of float64, shape (n_tables, T)
            ``u`` of the target with its count, the discounts of its row and the lower orders less by one.
        """
        target_u = np.zeros(rows.shape)
        kept = rows.copy()
        chain_lower = self.continuation[targets]
        for j, (table, entry) in enumerate(zip(self.tables, self.entries(rows, targets), strict=True)):
            in_chain = j == 0 or j >= len(self.distance)
            lower = chain_lower if in_chain else self.unigram[targets]
            row = rows[j]
            total = take(table.total, row) - 1.0
            kept[j, (row < 0) | (total <= 0)] = -1
            n = take(table.counts.data, entry)
            fewer = np.maximum(n - 1, 0)
            left = fewer - discount_of(fewer, table.discounts)
            mass = take(table.mass, row) - discount_of(n, table.discounts) + discount_of(fewer, table.discounts)
            usable = kept[j] >= 0
            freed = np.where(usable, mass * lower, 1.0)
            target_u[j] = np.where(usable, np.log1p(left / freed), 0.0)
            if in_chain:
                chain_lower = np.where(usable, (left + mass * lower) / np.where(usable, total, 1.0), lower)
        return kept, target_u


def prior_distributions(unigram: Int64, followed: Int64, n_tokens: int, continuation: bool) -> tuple[Float64, Float64]:
    """The distributions p and p_cont of words from how often, and after how many types, they are found."""
    # Textbook Kneser-Ney gives a word without continuation nothing; 1e-10 keeps its perplexity finite.
    share = 1e-10 if continuation else 1.0 / (n_tokens + 1.0)
    return smoothed_distribution(unigram, share), smoothed_distribution(followed, share)


def parents_of(chain: Sequence[csr_array], n_threads: int, shorter: Sequence[Int32] | None = None) -> list[Int32]:
    """For each entry of each table of a chain, the entry of the table before that has the shortened context.

    Of the first table it is the word. ``shorter`` is as in :class:`saffu.ngram_lm.incremental_counts.Rows`; of whole
    tables, the shortened context of row r is the parent of entry r in the table before.
    """
    parents = [chain[0].indices]
    for n in range(1, len(chain)):
        row_of_entry = np.repeat(parents[n - 1] if shorter is None else shorter[n], np.diff(chain[n].indptr))
        below = chain[n - 1]
        parents.append(_core.find(below.indptr, below.indices, row_of_entry, chain[n].indices, n_threads))
    return parents


def _packed(
    tables: Sequence[tuple[Int64, Int32, Float64]], dtype: type[np.floating[Any]], n_threads: int
) -> _core.Packed:
    """The rows of all tables, given by ends of rows, words and weights, one table after the other."""
    nnz = np.cumsum([0, *(words.size for _, words, _ in tables)])
    indptr = [ends[:-1] + start for (ends, _, _), start in zip(tables, nnz, strict=False)]
    return _core.pack(
        np.concatenate([*indptr, nnz[-1:]]).astype(np.int64),
        np.concatenate([words for _, words, _ in tables]),
        np.concatenate([u for _, _, u in tables], dtype=dtype),
        n_threads,
    )

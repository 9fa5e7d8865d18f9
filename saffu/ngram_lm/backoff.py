r"""Back-off models: n-grams with a log-probability each, and contexts with a log weight each.

A back-off model knows the probability of some n-grams, and falls back to a shorter context for the others:

    p(w | c) = p of the n-gram (c, w)                  if it is known,
               bow(c) p(w | c without its oldest)      if not; bow(c) = 1 where c is no context.

**A pooled model with one set of scalars and no contexts but suffixes is one.** Let c_m be the longest known suffix of a
position, c_{m-1} the same without its oldest token, and so on; in the tables of counts the shorter suffix of a known
one is known. The model is

    p(w | c_m) = exp z_m(w) / Z(c_m),   z_m(w) = z_{m-1}(w) + lambda_m u_m(c_m, w),   Z(c_m) = sum_w exp z_m(w),

z_0 being the logits of the unigrams. For a word not seen after c_m the weight u_m is zero, so z_m = z_{m-1} and

    p(w | c_m) = exp z_{m-1}(w) / Z(c_m) = (Z(c_{m-1}) / Z(c_m)) p(w | c_{m-1}):

**the back-off weight is the ratio of the two normalisers**, bow(c_m) = Z(c_{m-1}) / Z(c_m), the same for every word.
The sum over all words need not be taken again, since only those seen after c_m differ:

    1 / bow(c_m) = 1 + sum over w seen after c_m of p(w | c_{m-1}) (exp(lambda_m u_m(c_m, w)) - 1),
    p(w | c_m)   = bow(c_m) p(w | c_{m-1}) exp(lambda_m u_m(c_m, w))    for w seen after c_m.

Each table follows from the one before it in one pass over its entries. Scalars that vary by the state of a position
break this: Z(c_{m-1}) would be that of other scalars than those that c_{m-1} has where it is the longest suffix itself.
With every lambda at 1, exp u = 1 + (n - D) / (mass q) gives bow(c) = mass(c) / N(c), the weight of interpolated
Kneser-Ney.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import logsumexp

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm.log_linear import PooledModel
from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64, ranges, take
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

START_LOG_PROB = -99.0 * float(np.log(10.0))


@dataclass(frozen=True)
class BackoffTables:
    """N-grams and contexts of a back-off model over V types; logarithms are natural.

    Rows of table n are contexts of n + 1 tokens: of the first one the types and, last, ``<s>``, which has the number V
    and is never predicted; of the next ones the entries of the table before, of which the older tokens are the row and
    the newest one the column, as in :class:`saffu.ngram_lm.counts.NgramCounts`.

    Attributes
    ----------
    unigram : ndarray of float64, shape (V,)
        Log-probabilities of the types.
    tables : list of csr_array
        Log-probabilities of the n-grams of 2, 3, ... order tokens, as data of the tables.
    weights : list of ndarray of float64
        Log back-off weights of the rows of each table.
    """

    unigram: Float64
    tables: list[csr_array]
    weights: list[Float64]

    @property
    def vocab_size(self) -> int:
        """V, the number of types."""
        return self.unigram.size

    @property
    def start_log_prob(self) -> float:
        """That of ``<s>`` where a text has it as a word, which it should not: 10 to the power of -99, as in files."""
        return START_LOG_PROB

    @property
    def order(self) -> int:
        """Tokens of the longest n-grams."""
        return len(self.tables) + 1

    def tokens(self, n: int, entries: Int64) -> list[Array]:
        """The n tokens, oldest first, of entries of the table of n-grams."""
        found: list[Array] = []
        for table in reversed(self.tables[: n - 1]):
            found.insert(0, table.indices[entries])
            entries = np.searchsorted(table.indptr, entries, side="right") - 1
        return [entries, *found]

    def score(
        self, stream: TokenStream, opens: Bools | None = None, n_threads: int | None = None
    ) -> tuple[Float64, Int32]:
        """Score every token of a stream.

        Parameters
        ----------
        stream : TokenStream
            Its ids may be V, for ``<s>`` in the middle of a document.
        opens : ndarray of bool, optional
            Which documents begin with ``<s>``; the others begin with no context. By default all do.
        n_threads : int, optional

        Returns
        -------
        log_prob : ndarray of float64, shape (M,)
            Nats.
        length : ndarray of int32, shape (M,)
            Tokens of the longest known n-gram that ends with each.
        """
        ids, starts = stream
        threads = resolve_threads(n_threads)
        found, length = self.unigram[np.minimum(ids, self.vocab_size - 1)], np.ones(ids.size, np.int32)
        found[ids == self.vocab_size] = self.start_log_prob
        rows = np.full(ids.size, -1, np.int32)
        rows[1:] = ids[:-1]
        rows[starts] = -1
        rows[starts if opens is None else starts[opens]] = self.vocab_size
        for n, (table, weights) in enumerate(zip(self.tables, self.weights, strict=True)):
            entries = _core.find(table.indptr, table.indices, rows, ids, threads)
            known = entries >= 0
            found += take(weights, rows)
            found[known] = table.data[entries[known]]
            length[known] = n + 2
            rows[1:] = entries[:-1]
            rows[starts] = -1
        return found, length

    def log_probs(self, contexts: Sequence[Int32], n: int) -> Float64:
        """Log-probabilities of every type after some contexts, shape (N, V).

        Parameters
        ----------
        contexts : sequence of ndarray of int32, shape (N,)
            From :meth:`contexts`.
        n : int
            N, how many they are.
        """
        found = np.repeat(self.unigram[None], n, axis=0)
        for table, weights, rows in zip(self.tables, self.weights, contexts, strict=True):
            found += take(weights, rows)[:, None]
            known = np.flatnonzero(rows >= 0)
            first, last = table.indptr[rows[known]], table.indptr[rows[known] + 1]
            entries = ranges(first, last)
            found[np.repeat(known, last - first), table.indices[entries]] = table.data[entries]
        return found

    def contexts(
        self, stream: TokenStream, positions: Int64, n_threads: int | None = None, opens: Bools | None = None
    ) -> list[Int32]:
        """For each table the rows that precede some positions of a stream, or -1; ``opens`` as in :meth:`score`."""
        ids, starts = stream
        threads = resolve_threads(n_threads)
        rows = np.full(ids.size, -1, np.int32)
        rows[1:] = ids[:-1]
        rows[starts] = -1
        rows[starts if opens is None else starts[opens]] = self.vocab_size
        found = []
        for table in self.tables:
            found.append(rows[positions])
            entries = _core.find(table.indptr, table.indices, rows, ids, threads)
            rows = np.full(ids.size, -1, np.int32)
            rows[1:] = entries[:-1]
            rows[starts] = -1
        return found


def of_pooled(model: PooledModel, scalars: Float64) -> BackoffTables:
    """The same function as tables of a back-off model; see the head of this module.

    Parameters
    ----------
    model : PooledModel
        Of suffixes only: distance 1, no window, no induction, one state.
    scalars : ndarray of float64, shape (1, 2 + n_features)
    """
    weights, theta = model.weights, scalars[0]
    logits = theta[0] * np.log(weights.unigram) + theta[1] * np.log(weights.continuation)
    unigram = logits - logsumexp(logits)
    shorter, parent = unigram, None
    tables: list[csr_array] = []
    back_off: list[Float64] = []
    for table, scalar in zip(weights.tables, theta[2:], strict=False):
        counts, lengths = table.counts, np.diff(table.counts.indptr)
        if parent is None:
            parent = counts.indices
        else:
            below, row_of_entry = tables[-1], np.repeat(parent, lengths)
            parent = _core.find(below.indptr, below.indices, row_of_entry, counts.indices, weights.n_threads)
        gain = scalar * table.u
        log_prob = shorter[parent]
        row = np.repeat(np.arange(lengths.size), lengths)
        more = np.bincount(row, np.exp(log_prob) * np.expm1(gain), minlength=lengths.size)
        back_off.append(0.0 - np.log1p(more))  # no negative zeros
        shorter = np.minimum(log_prob + gain + back_off[-1][row], 0.0)
        tables.append(as_csr(counts.indptr, counts.indices, shorter, counts.shape))
    if tables and tables[0].shape[0] == weights.vocab_size:  # counts of earlier versions know no start of documents
        first, n_rows = tables[0], weights.vocab_size + 1
        tables[0] = as_csr(np.append(first.indptr, first.nnz), first.indices, first.data, (n_rows, first.shape[1]))
        back_off[0] = np.append(back_off[0], 0.0)
    return BackoffTables(unigram, tables, back_off)

"""Which entries of the explicit rows a model can do without, and the rows that are left.

**What an entry is worth.** A position adds ``lambda_k u_k(c, w)`` to the logit of word w for each of its contexts.
Without the entry (c, w) of table k that logit is lower by ``d = lambda_k u_k(c, w)`` and the normaliser by the factor
``1 - P (1 - e^-d)``, P the probability of w there. So the log-likelihood falls by ``d + log(1 - P (1 - e^-d))`` where w
follows, and by ``log(1 - P (1 - e^-d))`` where it does not. What is to be expected in new text is the row's own
interpolated distribution, ``P(w | c) = (n(c, w) - D + m(c) q(w)) / N(c)``, in which discounting has taken from each
count what it owes to chance. The expected loss at a position with this context is then::

    loss(P, d) = P d + log(1 - P (1 - e^-d)),

the relative entropy between "w or not" with and without the entry: never negative, about ``P (1 - P) d^2 / 2`` for
small d. It is multiplied with the share p(c) of positions that have the context. For a suffix p(c) is what the
pruned order below says of it, the product of P along the suffix, not its relative frequency: of the contexts seen once
most are never seen again. With lambda = 1 and one chain of suffixes this is the criterion of Stolcke (1998,
"Entropy-based pruning of backoff language models"), there summed over all words of the row. Scalars differ between the
states of a position; to second order their root mean square over the positions that know table k stands for all of
them. Priming needs the scalars of far contexts to be small, so their entries hardly carry anything.

**What an entry costs.** It takes its share ``1 / n_entries`` of the file, and at each position with its context time:
that of adding it up, 1, and its part of that of its block, consecutive words whose exponentials are taken if one of
them is touched: ``BLOCK_TIME / max(1, entries of the block that a position touches)``. The times of all entries are
added up, too, and the two shares of an entry averaged; it stays if its loss is at least the threshold times this cost.
So the threshold is in nats per token: what all entries together would be worth if each were at the threshold. Of a
context of a frequent word, whose rows are long and are met at many positions, an entry has to be worth more, and of a
rare word, which has its block for itself.

**What becomes of the row.** The words without an entry, seen or not, have to take over the probability of those
dropped. In the log-linear model all of them have one and the same weight, 0, so the weights of the kept entries fall by
a shift s(c), which is that of the words without an entry as a group. Their probability under the row's distribution,
``sum P``, has to be that under the rest of the model, ``sum P e^(-lambda u)``, times ``e^(lambda s)``::

    s = log( sum P / sum P e^(-lambda u) ) / lambda        (sums over words that are not kept).

For lambda = 1 this says that the distribution of the row, kept P(w | c) and ``m' q`` else, sums to one: the mass of the
dropped entries goes to the freed mass m'. That distribution is also what the order above falls back to. Since an
entry is lost against s, not against 0, entries are chosen twice, the second time by ``d = lambda (u - s)``.

Measured on the Brown corpus at 30 % of the entries, loss in nats on held-out blocks, scalars fitted anew: no shift
0.021, the mass of dropped entries shared with the kept ones (what changing m alone would do) 0.017, lambda = 1 0.0106,
this shift 0.0089, chosen twice 0.0076 with 28 % less to touch. ``python -m bench.results pruning`` compares criteria.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from saffu import _core
from saffu.explicit.discounting import discount_of
from saffu.ngram_lm.weights import NgramWeights, Table, parents_of
from saffu.utils.arrays import Bools, Float64, Int32, Int64

# Of a block, in those of entries. Measured on Brown at a loss of 0.8 %: 15 % more tokens/s than with 0 (3: 12 %).
BLOCK_TIME = 10.0
PASSES = 2  # times that entries are chosen
LEAST_SCALAR, LARGEST_SCALAR = 0.01, 1.0  # in shifts, which outside of this range would be extreme or not finite
NO_MASS = 1e-12  # of a distribution: what rounding leaves of it


class TableScalars(NamedTuple):
    """The scalar of each table over the positions that know its context, shape (n_tables,) each."""

    mean: Float64
    root_mean_square: Float64

    @classmethod
    def of(cls, scalars: Float64, rows: Int32, states: Int32, n_tables: int) -> TableScalars:
        """From scalars (n_states, n_columns), and the rows (n_tables, T) and states (T,) of positions."""
        known = [np.bincount(states[row >= 0], minlength=len(scalars)) for row in rows]
        share = np.stack(known) / np.maximum([[of_table.sum()] for of_table in known], 1)
        by_table = scalars[:, 2 : 2 + n_tables].T
        return cls((share * by_table).sum(axis=1), np.sqrt((share * by_table**2).sum(axis=1)))


def expected_loss(p: Float64, d: Float64) -> Float64:
    """Relative entropy of "w or not" when its logit falls by d, nats.

    Examples
    --------
    >>> expected_loss(np.array([0.5]), np.array([np.log(3)])).round(3).tolist()
    [0.144]
    """
    loss: Float64 = p * d + np.log1p(p * np.expm1(-d))
    return loss


class RowPruner:
    """Makes pruned tables of the weights of a model, at any threshold.

    Parameters
    ----------
    weights : NgramWeights
    scalars : TableScalars

    Attributes
    ----------
    n_entries : int
    time : float
        Of all entries that a position touches on the average.
    visits : list of ndarray of float64, shape (n_rows,)
        Expected share of positions that have the context of each row of each table.
    """

    def __init__(self, weights: NgramWeights, scalars: TableScalars) -> None:
        self.weights, self.scalars = weights, scalars
        radius = len(weights.distance)
        self._chain = [0, *range(radius, len(weights.tables))]
        chain_counts = [weights.tables[j].counts for j in self._chain]
        self._parents = dict(zip(self._chain, parents_of(chain_counts, weights.n_threads), strict=True))
        self.visits = self._expected_visits()
        self.n_entries = sum(table.counts.nnz for table in weights.tables)
        touched = np.zeros(-(-weights.vocab_size // _core.BLOCK))
        for share, table in zip(self.visits, weights.tables, strict=True):
            touched += _sums(_block_of_entry(table), share[_row_of_entry(table)], touched.size)
        self._time_in_block = 1.0 + BLOCK_TIME / np.maximum(touched, 1.0)
        self.time = float(touched @ self._time_in_block)

    def tables(self, threshold: float) -> list[Table]:
        """All tables with the weights that are left, zero where an entry is dropped; totals of empty rows are zero.

        With a threshold of 0 nothing is dropped and every weight is what it was, to the bit.
        """
        found: list[Table] = list(self.weights.tables)
        lower = new_lower = self.weights.continuation
        for j in self._chain:
            found[j], lower, new_lower = self._pruned(
                j, threshold, lower[self._parents[j]], new_lower[self._parents[j]]
            )
        for j in range(1, len(self.weights.distance)):
            q = self.weights.unigram[found[j].counts.indices]
            found[j], _, _ = self._pruned(j, threshold, q, q)
        return found

    def _expected_visits(self) -> list[Float64]:
        tables, unigram = self.weights.tables, self.weights.unigram
        begins = tables[0].total[unigram.size :] / max(tables[0].total.sum(), 1.0)  # of documents
        found = [unigram] * len(tables)
        share, lower = np.append(unigram, begins), self.weights.continuation
        for j in self._chain:
            row = _row_of_entry(tables[j])
            found[j], lower = share, _probabilities(tables[j], row, lower[self._parents[j]])
            share = share[row] * lower
        return found

    def _pruned(self, j: int, threshold: float, q: Float64, new_q: Float64) -> tuple[Table, Float64, Float64]:
        """Table j, and the probability of each entry before and after; q is that of the order below, before and after.

        Of a row in which nothing has changed the bits do not change.
        """
        table = self.weights.tables[j]
        row = _row_of_entry(table)
        p = _probabilities(table, row, q)
        kept = self.choose(j, threshold, table, row, p, q)
        dropped = (table.counts.data > 0) & ~kept
        changed = (_sums(row, dropped | (new_q != q), table.total.size) > 0)[row]
        u = table.u + np.log(q / new_q) - self._shift(j, table, row, kept, p, q, new_q)[row]
        left = np.where(kept, np.where(changed, u, table.u), 0.0)
        new_p = np.where(changed, np.where(kept, p, _freed(row, kept, p, new_q, table.total.size)[row] * new_q), p)
        filled = _sums(row, left != 0.0, table.total.size) > 0
        return replace(table, total=np.where(filled, table.total, 0.0), u=left), p, new_p

    def choose(self, j: int, threshold: float, table: Table, row: Int64, p: Float64, q: Float64) -> Bools:
        """Which entries stay."""
        seen: Bools = table.counts.data > 0
        if threshold <= 0.0:
            return seen
        time = self._time_in_block[_block_of_entry(table)] / max(self.time, NO_MASS)
        least = threshold * (1.0 / (self.n_entries * np.maximum(self.visits[j], NO_MASS)[row]) + time) / 2
        scalar, kept = self.scalars.root_mean_square[j], seen
        gap = table.u
        for again in range(PASSES):
            if again:
                gap = table.u - self._shift(j, table, row, kept, p, q, q)[row]
            kept = seen & (expected_loss(p, scalar * gap) >= least)
        return kept

    def _shift(self, j: int, table: Table, row: Int64, kept: Bools, p: Float64, q: Float64, new_q: Float64) -> Float64:
        """The weight of the words without an entry, for each row."""
        scalar = min(max(float(self.scalars.mean[j]), LEAST_SCALAR), LARGEST_SCALAR)
        n_rows = table.total.size
        freed = table.mass / np.maximum(table.total, 1.0)
        unseen, new_unseen = (np.maximum(1.0 - _sums(row, below, n_rows), 0.0) * freed for below in (q, new_q))
        p_dropped = np.where(kept, 0.0, p)
        rest = p_dropped * np.exp(-scalar * (table.u + np.log(q / new_q)))
        before = _sums(row, p_dropped, n_rows) + unseen
        after = _sums(row, rest, n_rows) + unseen ** (1.0 - scalar) * new_unseen**scalar
        usable = (before > NO_MASS) & (after > NO_MASS) & (table.total > 0)
        shift = np.zeros(n_rows)
        shift[usable] = np.log(before[usable] / after[usable]) / scalar
        return shift


def needed_entries(tables: Sequence[Table], radius: int) -> list[Bools]:
    """Entries with a weight, and those that are the context of such a one."""
    needed = [table.u != 0.0 for table in tables]
    chain = [0, *range(radius, len(tables))]
    for shorter, longer in zip(chain[-2::-1], chain[:0:-1], strict=True):
        needed[shorter] |= np.diff(_counted(needed[longer])[tables[longer].counts.indptr]) > 0
    return needed


def _counted(chosen: Bools) -> Int64:
    """How many are chosen before each place, and in all."""
    return np.concatenate([[0], np.cumsum(chosen)])


def _row_of_entry(table: Table) -> Int64:
    return np.repeat(np.arange(table.total.size), np.diff(table.counts.indptr))


def _block_of_entry(table: Table) -> Int64:
    blocks: Int64 = table.counts.indices.astype(np.int64) // _core.BLOCK
    return blocks


def _sums(row: Int64, values: Float64 | Bools, n_rows: int) -> Float64:
    sums: Float64 = np.bincount(row, values, minlength=n_rows).astype(np.float64, copy=False)
    return sums


def _probabilities(table: Table, row: Int64, q: Float64) -> Float64:
    """Interpolated probability of each entry; that of the order below in a row without counts."""
    left = table.counts.data - discount_of(table.counts.data, table.discounts)
    total = table.total[row]
    p: Float64 = np.where(total > 0, (left + table.mass[row] * q) / np.maximum(total, 1.0), q)
    return p


def _freed(row: Int64, kept: Bools, p: Float64, q: Float64, n_rows: int) -> Float64:
    """What q is multiplied with for the words that are not kept, so that each row sums to one."""
    rest = 1.0 - _sums(row, np.where(kept, p, 0.0), n_rows)
    rest_below = 1.0 - _sums(row, np.where(kept, q, 0.0), n_rows)
    return np.maximum(rest, NO_MASS) / np.maximum(rest_below, NO_MASS)

"""What all rows of explicit weights share of the counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saffu.explicit.discounting import repeats
from saffu.ngram_lm.counts import NgramCounts
from saffu.utils.arrays import Int64


@dataclass(frozen=True)
class Statistics:
    """What every row of explicit weights depends on, besides its own counts.

    Attributes
    ----------
    n_tokens : int
    unigram : ndarray of int64, shape (V,)
    followed : ndarray of int64, shape (V,)
        Number of distinct tokens before each token; the start of a document is one of them.
    repeats : ndarray of int64, shape (n_tables, 6)
        ``repeats[j, k]`` entries of table j occur k times; the last column is of those that occur more often, too.
        The strings of all lengths are one table here.
    """

    n_tokens: int
    unigram: Int64
    followed: Int64
    repeats: Int64

    @classmethod
    def of(cls, counts: NgramCounts) -> Statistics:
        """Those of all counts."""
        nearest = counts.distance[0]
        followed = np.bincount(nearest.indices[nearest.data > 0], minlength=counts.vocab_size)
        return cls(
            counts.n_tokens, counts.unigram, followed, _by_table(counts, [repeats(t.data) for t in counts.tables])
        )

    def changed(self, piece: NgramCounts, before: Sequence[Int64]) -> Statistics:
        """Those after a piece has been added to counts that held ``before[j]`` at the entries of its table j."""
        after = [old + table.data for old, table in zip(before, piece.tables, strict=True)]
        moved = [repeats(new) - repeats(old) for new, old in zip(after, before, strict=True)]
        arrived = (after[0] > 0).astype(np.int64) - (before[0] > 0)
        followed = self.followed.copy()
        np.add.at(followed, piece.distance[0].indices, arrived)
        found = self.repeats + _by_table(piece, moved)
        return Statistics(self.n_tokens + piece.n_tokens, self.unigram + piece.unigram, followed, found)


def _by_table(counts: NgramCounts, values: Sequence[Int64]) -> Int64:
    """Values of each table as rows, those of the strings of all lengths added up."""
    n = counts.n_weighed - bool(counts.keys.words)
    return np.stack([*values[:n], *([np.sum(values[n:], axis=0)] if counts.keys.words else [])])

"""Discounts of counts, and distributions that leave some mass for what was never seen."""

from __future__ import annotations

import numpy as np

from saffu.utils.arrays import Float64, Int64

SMALLEST_DISCOUNT = 1e-3
MOST_REPEATS = 5  # entries that occur so often, or more often, are counted together
_AT_ONCE = 1 << 20  # counts that are looked at at once: tables may be larger than memory


def repeats(counts: Int64) -> Int64:
    """How many of these counts are 1, 2, 3, 4, and 5 or more, at these indices; shape (6,), nothing at 0."""
    found = np.zeros(MOST_REPEATS + 1, np.int64)
    for first in range(0, counts.size, _AT_ONCE):
        found += np.bincount(np.minimum(counts[first : first + _AT_ONCE], MOST_REPEATS), minlength=found.size)
    found[0] = 0
    return found


def discounts(counts: Int64) -> Float64:
    """Discounts D(1), D(2), D(3+) of a table, from its counts of counts.

    With n_k the number of entries that occur k times, ``D(k) = k - (k + 1) Y n_{k+1} / n_k`` and
    ``Y = n_1 / (n_1 + 2 n_2)`` (Chen and Goodman 1998, modified Kneser-Ney). Where a small table makes that
    undefined, the discount below it is used (first 1/2), and each is kept within [0.001, k] so that every row
    frees some mass.

    Parameters
    ----------
    counts : ndarray of int64

    Returns
    -------
    ndarray of float64, shape (3,)

    Examples
    --------
    >>> discounts(np.array([1, 1, 1, 2, 2, 3, 7])).round(3).tolist()
    [0.429, 1.357, 1.357]
    """
    return discounts_from(repeats(counts))


def discounts_from(counts_of_counts: Int64) -> Float64:
    """Discounts from the numbers of entries that occur 1, 2, 3 and 4 times, at these indices."""
    n = counts_of_counts.astype(np.float64)
    shared = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.0
    found = np.empty(3)
    previous = 0.5
    for k in (1, 2, 3):
        if shared and n[k] and n[k + 1]:
            previous = k - (k + 1) * shared * n[k + 1] / n[k]
        found[k - 1] = previous = min(max(previous, SMALLEST_DISCOUNT), k)
    return found


def discount_of(counts: Int64, table_discounts: Float64) -> Float64:
    """D(n) of every count; D(0) = 0."""
    found: Float64 = np.concatenate([[0.0], table_discounts])[np.minimum(counts, 3)]
    return found


def smoothed_distribution(counts: Int64, unseen_share: float) -> Float64:
    """Relative frequencies in which the types never seen, if there are any, share ``unseen_share``."""
    unseen = counts == 0
    if not unseen.any():
        shares: Float64 = counts / counts.sum()
        return shares
    seen = counts * ((1.0 - unseen_share) / max(counts.sum(), 1))
    return np.where(unseen, unseen_share / np.count_nonzero(unseen), seen)

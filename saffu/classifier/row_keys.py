"""Keys of labelled rows: 64-bit hashes of what a row contains.

What is left to chance in the solution of hidden layers (the random partition into sub-classes, the held-out rows)
follows these keys. So it depends neither on the order of the rows nor on how often equal ones occur, and a row that is
dropped leaves the others where they are.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from saffu.classifier.row_sample import mixed
from saffu.utils.arrays import Float64, Int32, Int64, UInt64
from saffu.utils.sparse import SparseRows

SLICE = 1 << 14  # stored values that are hashed at once: they stay in the cache
SPREAD = np.uint64(0xD6E8FEB86659FD93)  # odd; spreads the bits of a value
HALF = np.uint64(32)
EXPONENT = np.uint64(0x7FF0000000000000)  # the bits of a float64 that hold its exponent
ONE = np.uint64(0x3FF0000000000000)  # those of 1.0
SCALE_BITS = np.uint64(11)  # as many


def row_keys(features: SparseRows, targets: Int32) -> UInt64:
    """A key for each row and its class; the same for the same values, dense or sparse, in float32 or float64.

    The upper 53 bits are a sum of hashed values, each times an odd number of its column's own, so that zeros do not
    count; the values are divided by the largest power of two that is not above the largest value of the row. The other
    11 bits are that power: another unit of the features, larger by a power of two, leaves the order of the keys
    as it is. Two different rows have the same key with a probability of at most 2^-53. Rows that were made to collide
    could be found.

    Parameters
    ----------
    features : SparseRows
        M rows of D features.
    targets : ndarray of int32, shape (M,)
        Class numbers.

    Returns
    -------
    ndarray of uint64, shape (M,)
    """
    factors = mixed(np.arange(features.n_columns + 1, dtype=np.uint64)) | np.uint64(1)
    keys = (targets.astype(np.uint64) + np.uint64(1)) * factors[-1]
    powers = np.zeros(targets.size, np.uint64)
    occupied = np.flatnonzero(np.diff(features.indptr))
    starts = np.append(features.indptr[occupied], features.indptr[-1])
    cuts = np.unique(np.append(np.searchsorted(starts, np.arange(0, starts[-1], SLICE)), occupied.size))
    for first, last in pairwise(cuts):
        begin, end = starts[first], starts[last]
        values = np.add(features.data[begin:end], 0.0, dtype=np.float64).view(np.uint64)  # of -0.0 it makes 0.0
        present = values != 0
        lengths = np.diff(starts[first : last + 1])
        scales = np.maximum.reduceat(values, starts[first:last] - begin) & EXPONENT
        powers[occupied[first:last]] = scales
        values -= np.repeat(scales - ONE, lengths)
        values *= SPREAD
        values ^= values >> HALF
        values *= factors.take(features.indices[begin:end])
        values *= present  # no zero that is stored counts
        keys[occupied[first:last]] += np.add.reduceat(values, starts[first:last] - begin)
    return (mixed(keys) << SCALE_BITS) | (powers >> (np.uint64(63) - SCALE_BITS))


def derived(keys: UInt64, number: int) -> UInt64:
    """Other keys for the same rows; those of one number are in an order unrelated to that of another."""
    return mixed((keys >> SCALE_BITS) ^ mixed(np.full(1, number % 2**64, np.uint64)))


def equal_parts(weights: Float64, n_parts: int) -> Int64:
    """Cut consecutive rows into parts of equal weight; the part of each row is that in which its middle lies."""
    ends = np.cumsum(weights)
    middles = (ends - 0.5 * weights) / ends[-1:]
    return np.minimum((middles * n_parts).astype(np.int64), n_parts - 1)

"""How sure a perplexity is, and whether one model is better than another: by drawing the parts of a text anew.

Log-probabilities of neighbouring tokens go together, so documents are drawn and not tokens: as many as there are, with
replacement (Efron and Tibshirani 1993, chapter 13). Two models are compared on the same documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from saffu.utils.arrays import Float64, Int64
from saffu.utils.streams import TokenStream

FEWEST = 20  # units that an interval can be made of
MOST = 2000  # units; beyond, neighbours are one
BLOCK = 500  # tokens of a unit where there are too few documents
LEVEL = 0.95
DRAWS, FLIPS = 2000, 9999
_AT_ONCE = 1 << 21  # numbers that are drawn at a time


class Interval(NamedTuple):
    """The ends of a confidence interval; NaN where a text is too short for one."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """How two models differ on a text.

    Attributes
    ----------
    difference : float
        Nats per token that the second loses more than the first; negative where the second is better.
    interval : Interval
        Of the difference.
    p_value : float
        How often a difference at least as large would come about if in each unit it were chance which model is which;
        two-sided.
    n_units : int
        Documents, or groups or blocks of tokens, that were drawn.
    """

    difference: float
    interval: Interval
    p_value: float
    n_units: int


def units(stream: TokenStream) -> Int64:
    """Where the parts of a text begin that are drawn as wholes.

    Documents, some neighbours together where there are more than 2,000; blocks of 500 tokens where there are fewer
    than 20 documents; nothing where the text has fewer than 20 of such blocks, too.

    Examples
    --------
    >>> units(TokenStream.of(np.zeros(10_100, int))).size
    20
    >>> units(TokenStream.of(np.zeros(300, int), np.arange(0, 300, 10))).tolist()[:3]
    [0, 10, 20]
    """
    starts = stream.starts
    if starts.size < FEWEST:
        n_blocks = stream.ids.size // BLOCK
        if n_blocks < FEWEST:
            return np.empty(0, np.int64)
        starts = np.arange(n_blocks) * stream.ids.size // n_blocks
    if starts.size > MOST:
        starts = starts[np.arange(MOST) * starts.size // MOST]
    return starts


def nats_interval(log_prob: Float64, stream: TokenStream) -> Interval:
    """The interval of the mean negative log-probability of a token, nats; 95 %.

    Parameters
    ----------
    log_prob : ndarray of float64, shape (M,)
        Of the tokens of the text.
    stream : TokenStream
        The text.

    Examples
    --------
    >>> log_prob = -np.random.default_rng(0).exponential(2, 20_000)
    >>> [round(end, 2) for end in nats_interval(log_prob, TokenStream.of(np.zeros(20_000, int)))]
    [1.96, 2.01]
    """
    begins = units(stream)
    if begins.size == 0:
        return Interval(np.nan, np.nan)
    return _interval(-np.add.reduceat(log_prob, begins), _sizes(begins, stream))


def paired_test(first: Float64, second: Float64, stream: TokenStream) -> PairedTest:
    """Compare two models by their log-probabilities of the tokens of one text.

    Parameters
    ----------
    first, second : ndarray of float64, shape (M,)
        Nats.
    stream : TokenStream
        The text.

    Notes
    -----
    A permutation test by signs: in each unit, what one model loses more than the other gets a sign by chance, 9,999
    times.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> first = -rng.exponential(2, 20_000)
    >>> found = paired_test(first, first - 0.1 + 0.1 * rng.normal(size=20_000), TokenStream.of(np.zeros(20_000, int)))
    >>> round(found.difference, 2), found.p_value, found.n_units
    (0.1, 0.0001, 40)
    """
    differ = first != second  # equal ones may both be -inf
    more = np.subtract(first, second, out=np.zeros(first.size), where=differ)
    begins = units(stream)
    difference = float(more.mean())
    if begins.size == 0 or not np.isfinite(more).all():
        return PairedTest(difference, Interval(np.nan, np.nan), np.nan, begins.size)
    sums = np.add.reduceat(more, begins)
    return PairedTest(difference, _interval(sums, _sizes(begins, stream)), _p_value(sums), begins.size)


def _sizes(begins: Int64, stream: TokenStream) -> Int64:
    return np.diff(np.append(begins, stream.ids.size))


def _interval(sums: Float64, sizes: Int64) -> Interval:
    """The interval of the sum of some units over their tokens."""
    if not np.isfinite(sums).all():
        return Interval(np.nan, np.nan)
    rng = np.random.default_rng(0)
    means = [np.empty(0)]
    for n_draws in _parts(DRAWS, sums.size):
        drawn = rng.integers(0, sums.size, (n_draws, sums.size))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _p_value(sums: Float64) -> float:
    """The share of signs by chance under which the sum is at least as far from zero as it is, itself included."""
    rng = np.random.default_rng(1)
    found, least = 1, abs(float(sums.sum())) * (1 - 1e-12)  # but for rounding
    for n_flips in _parts(FLIPS, sums.size):
        signs = rng.integers(0, 2, (n_flips, sums.size), np.int8) * 2.0 - 1.0
        found += int(np.count_nonzero(np.abs(np.einsum("ij,j->i", signs, sums)) >= least))
    return found / (FLIPS + 1)


def _parts(n_rows: int, n_columns: int) -> Iterator[int]:
    """Numbers of rows of a table that are made at a time."""
    size = max(_AT_ONCE // n_columns, 1)
    return (min(size, n_rows - first) for first in range(0, n_rows, size))

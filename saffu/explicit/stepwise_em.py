"""Stepwise EM: how much of the counts so far those of one more part of the data replace."""

from __future__ import annotations

FIRST, DECAY = 0.7, 0.6
WITHIN = 0.5  # of its share of the data, which a part replaces at least


def stepwise_rate(step: int, n: int, total: int) -> float:
    """The share of the counts that those of a part replace.

    Parameters
    ----------
    step : int
        1, 2, ...: how many parts have been counted, this one included.
    n, total : int
        Examples in the part, and in all of the data.

    Notes
    -----
    Cappe and Moulines 2009: the shares fall by a power between a half and one, so that the counts settle; here not
    below half of what the part is of the data.

    Examples
    --------
    >>> round(stepwise_rate(2, 10, 1000), 3), stepwise_rate(1000, 100, 200)
    (0.462, 0.25)
    """
    falling: float = FIRST / step**DECAY
    return max(falling, WITHIN * n / total)

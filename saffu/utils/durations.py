"""Amounts of time as users write them."""

from __future__ import annotations

import re

UNITS = {"": 1.0, "S": 1.0, "M": 60.0, "H": 3600.0, "D": 86400.0}
LEAST, MOST = 1.0, 30 * UNITS["D"]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([SMHD]?)", re.ASCII | re.IGNORECASE)
EXPECTED = "seconds, or a time such as '90s', '15m' or '1.5h'"


def duration(value: float | str, name: str) -> float:
    """An amount of time in seconds.

    Parameters
    ----------
    value : float or str
        Seconds, or a number with one of the units s, m, h and d: ``"90s"``, ``"15m"``, ``"1.5h"``.
    name : str
        What an error calls it.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If it is none, or not between one second and 30 days.

    Examples
    --------
    >>> duration("15m", "budget"), duration(2.5, "budget")
    (900.0, 2.5)
    """
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            raise ValueError(f"{name} must be {EXPECTED}, got {value!r}")
        seconds = float(found[1]) * UNITS[found[2].upper()]
    elif isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be {EXPECTED}, got {type(value).__name__}")
    else:
        seconds = float(value)
    if not LEAST <= seconds <= MOST:
        raise ValueError(f"{name} must be at least 1s and at most 30d, got {value!r}")
    return seconds


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them.

    Examples
    --------
    >>> clock(59.9), clock(5400)
    ('0:59', '1:30:00')
    """
    minutes, left = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"

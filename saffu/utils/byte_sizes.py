"""Amounts of memory as users write them."""

from __future__ import annotations

import re

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LEAST, MOST = 1 << 20, 1 << 50
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.ASCII | re.IGNORECASE)


def byte_size(value: int | str, name: str) -> int:
    """An amount of memory in bytes.

    Parameters
    ----------
    value : int or str
        Bytes, or a number with one of the units K, M, G and T, which are powers of 1024: ``"512M"``, ``"2G"``,
        ``"1.5GiB"``.
    name : str
        What an error calls it.

    Returns
    -------
    int

    Raises
    ------
    ValueError, TypeError
        If it is none, or not between one mebibyte and a pebibyte.

    Examples
    --------
    >>> byte_size("2G", "memory_limit") == 2 * 1024**3
    True
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f"{name} must be bytes, or a size such as '512M' or '2G', got {type(value).__name__}")
    found = _SIZE.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{name} must be bytes, or a size such as '512M' or '2G', got {value!r}")
    size = int(float(found[1]) * UNITS[found[2].upper()])
    if not LEAST <= size <= MOST:
        raise ValueError(f"{name} must be at least 1M and at most 1024T, got {value!r}")
    return size

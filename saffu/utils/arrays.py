"""Names for the types of arrays, and the few functions of arrays that every package needs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Bools: TypeAlias = NDArray[np.bool_]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Int32: TypeAlias = NDArray[np.int32]
Int64: TypeAlias = NDArray[np.int64]
UInt64: TypeAlias = NDArray[np.uint64]
# An array or a csr_array, told apart by scipy.sparse.issparse, which type checkers do not follow.
Matrix: TypeAlias = Any


def ranges(first: Int64, last: Int64) -> Int64:
    """All of ``first[i], first[i] + 1, ..., last[i] - 1``, one i after the other.

    Examples
    --------
    >>> ranges(np.array([3, 8]), np.array([6, 10])).tolist()
    [3, 4, 5, 8, 9]
    """
    lengths = np.maximum(last - first, 0)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    numbers: Int64 = np.arange(total) + np.repeat(first - ends + lengths, lengths)
    return numbers


def checksum(arrays: Iterable[Array], text: str = "") -> int:
    """CRC-32 of a text and of arrays with their dtypes and shapes."""
    total = zlib.crc32(text.encode())
    for array in arrays:
        total = zlib.crc32(f"{array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, total)
    return total


def take(values: Array, index: Array) -> Array:
    """``values[index]``, and zero where the index is -1.

    Examples
    --------
    >>> take(np.array([5, 6]), np.array([1, -1])).tolist()
    [6, 0]
    """
    found = np.zeros(index.shape, values.dtype)
    known = index >= 0
    found[known] = values[index[known]]
    return found

"""Integers of at least 0 in few bytes of a file.

The lowest bytes of all values come first, then the next, as many as the largest value has, so that bytes alike in
distribution stand together; then DEFLATE (RFC 1951) gives each byte a Huffman code, and equal bytes in a row next to
nothing. Longer matches are not looked for (``Z_RLE``): for gaps between sorted words they cost 5 times the time and
make the file larger.

A stream is decoded to the number of values that is asked for, never to more, so that a damaged or forged one cannot
fill the memory.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from saffu.utils.arrays import Array, Int32, Int64
from saffu.utils.checkpoint import Damaged

LARGEST_BYTES = 7  # of a value
MOST_FROM_A_BYTE = 1032  # bytes that one of DEFLATE can stand for: 258 for every two bits


def encode(values: Array) -> NDArray[np.uint8]:
    """The bytes of a vector of integers from 0 to 2^56 - 1.

    Raises
    ------
    ValueError
        If a value is out of this range.

    Examples
    --------
    >>> encode(np.full(1000, 3)).size < 50
    True
    """
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    if lowest < 0 or highest >= 1 << 8 * LARGEST_BYTES:
        raise ValueError(f"values must be from 0 to 2^{8 * LARGEST_BYTES} - 1, got {lowest} to {highest}")
    n_bytes = max(1, -(-highest.bit_length() // 8))
    places = np.ascontiguousarray(values, "<i8").view(np.uint8).reshape(-1, 8)[:, :n_bytes]
    compressor = zlib.compressobj(strategy=zlib.Z_RLE)
    coded = compressor.compress(places.T.tobytes()) + compressor.flush()
    return np.frombuffer(coded, np.uint8)


def decode(coded: Array, n_values: int, below: int = 1 << 8 * LARGEST_BYTES) -> Int32 | Int64:
    """What :func:`encode` wrote.

    Parameters
    ----------
    coded : ndarray of uint8
    n_values : int
        How many there must be.
    below : int
        What each must be smaller than.

    Returns
    -------
    ndarray of int32 or, where ``below`` exceeds 2^31, int64, shape (n_values,)

    Raises
    ------
    Damaged
        If the bytes do not stand for so many values of this range.

    Examples
    --------
    >>> decode(encode(np.array([3, 70000, 0])), 3).tolist()
    [3, 70000, 0]
    """
    damaged = Damaged(f"coded integers must be {n_values:,} from 0 to {below - 1:,}")
    if coded.dtype != np.uint8 or coded.ndim != 1 or n_values > MOST_FROM_A_BYTE * coded.size:
        raise damaged
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(coded.tobytes(), n_values * LARGEST_BYTES + 1)
    except zlib.error as error:
        raise damaged from error
    wide = np.dtype(np.int32 if below <= 1 << 31 else np.int64)
    n_bytes = len(plain) // max(n_values, 1)
    fits = len(plain) == n_bytes * n_values and n_bytes <= wide.itemsize and (n_bytes > 0 or n_values == 0)
    if not fits or not decompressor.eof or decompressor.unused_data:
        raise damaged
    values = np.zeros(n_values, wide)
    for place in range(n_bytes):
        part = np.frombuffer(plain, np.uint8, n_values, place * n_values)
        values |= np.left_shift(part, 8 * place, dtype=wide) if place else part
    if values.max(initial=0) >= below or values.min(initial=0) < 0:
        raise damaged
    return values

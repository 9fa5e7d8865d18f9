"""Codes as sets of bits: their order, and the search among them."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from saffu.utils.arrays import Array, Float32, Int64

Bits = NDArray[np.uint8]

CHUNK_VALUES = 1 << 22  # of a batch of codes that is decoded at once


def code_sets(bits: int, n: int) -> Bits:
    """The first ``n`` codes in their order as bit sets, uint8 (n, ceil(bits / 8)); see :class:`BitCipher`."""
    basis = np.packbits(np.eye(bits, dtype=bool), axis=1)
    levels, missing = [basis[:n]], n - bits
    below = basis
    for k in range(2, bits + 1):
        if missing <= 0:
            break
        below = _next_level(basis, below[::-1], k, missing)
        levels.append(below)
        missing -= len(below)
    return np.concatenate(levels)


def _next_level(basis: Bits, below: Bits, k: int, n: int) -> Bits:
    """The first ``n`` codes of level ``k``, given the whole level before it, reversed."""
    parts = []
    for last in range(len(basis) - 1, k - 2, -1):  # the last set bit
        # Codes of the level below that use earlier bits only: at the end of level 1, which alone was not built so.
        size = comb(last, k - 1)
        rest = below[len(below) - size :] if k == 2 else below[:size]
        parts.append(rest[:n] | basis[last])
        n -= len(parts[-1])
        if n == 0:
            break
    return np.concatenate(parts)


def width(bits: int) -> int:
    """Bytes of a bit set."""
    return (bits + 7) // 8


def unit_sum(sets: Bits, bits: int) -> Float32:
    """Codes of bit sets, float32 (n, bits): each of the k bits set is 1 / k."""
    codes = np.unpackbits(sets, axis=1, count=bits).astype(np.float32)
    codes /= np.maximum(codes.sum(axis=1, keepdims=True), 1)
    return codes


def keys(sets: Bits) -> NDArray[np.void]:
    """Each bit set as one item that can be sorted and searched for."""
    return np.ascontiguousarray(sets).view(f"V{sets.shape[1]}").ravel()


def nearest(vectors: Array, codes: Float32) -> Int64:
    """The number of the nearest code of each vector: the largest ``x . c - |c|^2 / 2``, the first of several."""
    codes = codes.astype(vectors.dtype, copy=False)
    half = np.square(codes).sum(axis=1) / 2
    found = np.empty(len(vectors), np.int64)
    step = max(1, CHUNK_VALUES // len(codes))
    for begin in range(0, len(vectors), step):
        found[begin : begin + step] = np.argmax(vectors[begin : begin + step] @ codes.T - half, axis=1)
    return found

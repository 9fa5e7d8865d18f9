"""The safetensors format: written array by array without a copy in memory, and read as memory-mapped arrays.

A file is the length of its header (8 bytes), the header (JSON, spaces at its end) and the arrays one behind the other.
Those of wider numbers come first, so each begins at a multiple of its numbers' width.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from saffu.utils.arrays import Array
from saffu.utils.mapped_files import release

TYPES = {
    **{"BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "F16": np.float16},
    **{"U32": np.uint32, "I32": np.int32, "F32": np.float32, "U64": np.uint64, "I64": np.int64, "F64": np.float64},
}
_NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
_SLICE = 1 << 26  # bytes written at once
SMALL = 1 << 16  # bytes of an array that is read rather than mapped
LARGEST_SUM = 2**32 - 1
LONGER = 10  # bytes by which metadata may become longer: the digits of a checksum of themselves


def write(path: str, arrays: Mapping[str, Array], describe: Callable[[Mapping[str, int]], dict[str, str]]) -> None:
    """Write arrays to a file, in one pass over them.

    Parameters
    ----------
    path : str
    arrays : mapping of str to ndarray
        In C order.
    describe : callable
        Given the CRC-32 of each array (:func:`checksum`), returns the metadata: texts by their names. With smaller
        checksums they may have ten bytes more at most.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    little = {name: np.asarray(array, array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    names = sorted(little, key=lambda name: (-little[name].itemsize, _type_of(little[name]), name))
    entries: dict[str, Any] = {}
    end = 0
    for name in names:
        begin, end = end, end + little[name].nbytes
        entries[name] = {"dtype": _type_of(little[name]), "shape": little[name].shape, "data_offsets": [begin, end]}
    sums = dict.fromkeys(sorted(names), LARGEST_SUM)
    length = -(-(len(_header(describe(sums), entries)) + LONGER) // 8) * 8
    with open(path, "wb") as file:
        file.write(bytes(8 + length))
        for name in names:
            sums[name] = _start(little[name])
            for piece in _pieces(little[name]):
                file.write(piece)
                sums[name] = zlib.crc32(piece, sums[name])
        file.seek(0)
        header = _header(describe(sums), entries).ljust(length)
        assert len(header) == length
        file.write(length.to_bytes(8, "little") + header)


def checksum(array: Array) -> int:
    """CRC-32 of the type, the shape and the bytes of a contiguous array, in the byte order of the file."""
    little = np.asarray(array, array.dtype.newbyteorder("<"))
    total = _start(little)
    for piece in _pieces(little):
        total = zlib.crc32(piece, total)
    return total


def read_mapped(path: str | os.PathLike[str], entries: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """The arrays of a file, read-only; all but small ones are memory-mapped, and none is checked.

    Parameters
    ----------
    path : str or path
    entries : mapping
        Of the header: the type, the shape and the place of each array.

    Yields
    ------
    name : str
    array : ndarray

    Raises
    ------
    ValueError, TypeError, LookupError
        If an entry does not describe a part of the file.
    """
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin = 8 + int.from_bytes(content[:8], "little")
    for name, entry in entries.items():
        first, last = entry["data_offsets"]
        dtype, shape = np.dtype(TYPES[entry["dtype"]]), tuple(entry["shape"])
        n = int(np.prod(shape, dtype=object))
        if not 0 <= first <= last <= len(content) - begin or last - first != n * dtype.itemsize:
            raise ValueError(f"array {name!r} does not fit the file")
        array = np.frombuffer(content, dtype.newbyteorder("<"), n, begin + first).reshape(shape) if n else None
        if array is None or array.nbytes <= SMALL or not array.flags.aligned or not array.dtype.isnative:
            array = np.empty(shape, dtype) if array is None else array.astype(dtype)
        yield name, array


def _header(metadata: Mapping[str, str], entries: Mapping[str, Any]) -> bytes:
    return json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":"), ensure_ascii=False).encode()


def _type_of(array: Array) -> str:
    return _NAMES[array.dtype.newbyteorder("=")]


def _start(little: Array) -> int:
    return zlib.crc32(f"{little.dtype.str} {little.shape}".encode())


def _pieces(little: Array) -> Iterator[memoryview]:
    flat = little.reshape(-1).view(np.uint8)
    for begin in range(0, flat.size, _SLICE):
        yield flat[begin : begin + _SLICE].data
        release(little)

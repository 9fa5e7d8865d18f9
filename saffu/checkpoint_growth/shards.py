"""Checkpoints of several safetensors files: read tensor by tensor, and written in one pass, shard by shard.

A file is the length of its header (8 bytes), the header (JSON, spaces at its end) and the tensors one behind the other.
Numbers of 16 bits are float32 in memory; they are rounded once, to the nearest, ties to even, when they are written.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saffu.utils.arrays import Array

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What files call a type, what users do, and how numbers stand in the file and in memory.
DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
NAMES = {name: code for code, name in DTYPES.items()}
_STORED = {"F64": "<f8", "F32": "<f4", "BF16": "<u2", "F16": "<f2"}
_HEADER_LIMIT = 100_000_000  # bytes; the limit of safetensors itself
_PIECE = 1 << 22  # numbers that are converted at once


@dataclass(frozen=True)
class Stored:
    """Where a tensor is."""

    path: str
    code: str
    shape: tuple[int, ...]
    begin: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers in memory."""
        return np.dtype(np.float64 if self.code == "F64" else np.float32)

    def read(self) -> Array:
        """The tensor; OSError if the file is cut short."""
        n = math.prod(self.shape)
        whole, stored = np.empty(n, self.dtype), np.dtype(_STORED[self.code])
        with open(self.path, "rb") as file:
            file.seek(self.begin)
            for first in range(0, n, _PIECE):
                some = whole[first : first + _PIECE]
                found = np.frombuffer(file.read(some.size * stored.itemsize), stored)
                if found.size < some.size:
                    raise OSError(f"{self.path!r} is cut short")
                some[:] = _widened(found) if self.code == "BF16" else found
        return whole.reshape(self.shape)


def tensors_in(folder: str) -> dict[str, Stored]:
    """Where each tensor of a checkpoint is.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no checkpoint, or a file cannot be read.
    ValueError
        If a file is none of safetensors, or a tensor has numbers that cannot be grown.
    """
    found: dict[str, Stored] = {}
    for path in _files(folder):
        found |= _header(path)
    return found


def _files(folder: str) -> list[str]:
    index, one = os.path.join(folder, INDEX), os.path.join(folder, ONE_FILE)
    if os.path.exists(index):
        with open(index, encoding="utf-8") as file:
            try:
                return [os.path.join(folder, name) for name in sorted(set(json.load(file)["weight_map"].values()))]
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise ValueError(f"{index!r} does not say in which file each tensor is") from error
    if os.path.exists(one):
        return [one]
    others = [name for name in sorted(os.listdir(folder)) if name.endswith((".bin", ".pt", ".pth", ".h5", ".gguf"))]
    has = f"it has {others[0]!r}, which save_pretrained turns into safetensors" if others else "it has neither"
    raise FileNotFoundError(f"{folder!r} must have {ONE_FILE} or {INDEX}; {has}")


def _header(path: str) -> dict[str, Stored]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            entries = json.loads(file.read(length)) if 2 <= length <= min(size, _HEADER_LIMIT) else None
        except ValueError:
            entries = None
    if not isinstance(entries, dict):
        raise ValueError(f"{path!r} is no safetensors file")
    entries.pop("__metadata__", None)
    found = {}
    for name, entry in entries.items():
        try:
            code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(f"{path!r} does not say where tensor {name!r} is") from error
        if end + 8 + length > size:
            raise ValueError(f"{path!r} is cut short: it has {size} bytes and should have {end + 8 + length} at least")
        if code in DTYPES and end - begin != math.prod(shape) * np.dtype(_STORED[code]).itemsize:
            raise ValueError(f"tensor {name!r} in {path!r} does not have as many bytes as its shape asks for")
        found[name] = Stored(path, code, shape, begin + 8 + length)
    return found


# ---- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """A tensor to be written."""

    name: str
    code: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """In the file."""
        return math.prod(self.shape) * np.dtype(_STORED[self.code]).itemsize


def in_shards(tensors: Sequence[Planned], shard_bytes: int) -> dict[str, list[Planned]]:
    """The files of a checkpoint and the tensors of each: as many in one as fit, and at least one.

    Examples
    --------
    >>> three = [Planned(name, "F32", (2, 2)) for name in "abc"]
    >>> list(in_shards(three, 32))
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    shards: list[list[Planned]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(other.n_bytes for other in shards[-1]) + tensor.n_bytes > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    if len(shards) == 1:
        return {ONE_FILE: shards[0]}
    return {f"model-{n:05}-of-{len(shards):05}.safetensors": shard for n, shard in enumerate(shards, 1)}


def write_shard(
    path: str, tensors: Sequence[Planned], make: Callable[[str], Array], advance: Callable[[int], Any]
) -> None:
    """Write a file.

    Parameters
    ----------
    path : str
    tensors : sequence of Planned
    make : callable
        Given a name, returns the tensor; asked for in the order of the file.
    advance : callable
        Told how many more bytes are written.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.n_bytes
        entries[tensor.name] = {"dtype": tensor.code, "shape": tensor.shape, "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header = header.ljust(-(-len(header) // 8) * 8)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in tensors:
            for piece in _pieces(make(tensor.name), tensor.code):
                file.write(piece.data)
                advance(piece.nbytes)
        file.flush()
        os.fsync(file.fileno())


def index_of(shards: Mapping[str, Sequence[Planned]]) -> dict[str, Any]:
    """What the index of a checkpoint says."""
    where = {tensor.name: file for file, tensors in shards.items() for tensor in tensors}
    total = sum(tensor.n_bytes for tensors in shards.values() for tensor in tensors)
    return {"metadata": {"total_size": total}, "weight_map": where}


def _pieces(array: Array, code: str) -> Iterator[Array]:
    flat = np.ascontiguousarray(array).reshape(-1)
    for first in range(0, flat.size, _PIECE):
        some = flat[first : first + _PIECE]
        yield _rounded(some) if code == "BF16" else some.astype(_STORED[code], copy=False)


def _widened(bits: Array) -> Array:
    """Numbers of bfloat16, given as 16 bits, in float32."""
    return (bits.astype("<u4") << np.uint32(16)).view("<f4")


def _rounded(numbers: Array) -> Array:
    """Bits of numbers in bfloat16, to the nearest, ties to even; what is not a number stays none."""
    bits = numbers.astype("<f4", copy=False).view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(numbers), np.uint32(0x7FC0), rounded).astype("<u2")

"""Arrays in files, written piece by piece and read as memory-mapped arrays: only what is looked at takes memory."""

from __future__ import annotations

import mmap
import os
import weakref
from contextlib import suppress
from typing import IO, Any

import numpy as np

from saffu.utils.arrays import Array


def mapped(path: str | os.PathLike[str], dtype: np.dtype[Any] | type, n: int) -> Array:
    """The n numbers of a file, mapped into memory and read-only.

    The file may be removed while the array is in use, where the system allows that.

    Parameters
    ----------
    path : str or path
        Holds the numbers and nothing else.
    dtype : dtype
    n : int

    Returns
    -------
    ndarray, shape (n,)
    """
    if n == 0:
        return np.empty(0, dtype)
    with open(path, "rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype, n)


def release(*arrays: Array) -> None:
    """Give back the memory in which the system keeps parts of mapped arrays; they are read again when next needed."""
    for array in arrays:
        file = _mapping(array)
        if file is not None and hasattr(file, "madvise"):
            file.madvise(mmap.MADV_DONTNEED)


def is_mapped(array: Array) -> bool:
    """Whether an array is mapped from a file."""
    return _mapping(array) is not None


def _mapping(array: Array) -> mmap.mmap | None:
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) else None


class ArrayFile:
    """An array that is written to a file piece by piece.

    Parameters
    ----------
    path : str
        A new file.
    dtype : dtype

    Raises
    ------
    OSError
        If it cannot be written; the message names its folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = ArrayFile(f"{folder}/numbers", np.int64)
    ...     file.append(np.arange(2))
    ...     file.append(np.arange(3))
    ...     numbers = file.finish().copy()
    >>> numbers.tolist()
    [0, 1, 0, 1, 2]
    """

    def __init__(self, path: str, dtype: np.dtype[Any] | type) -> None:
        self.path, self.dtype, self.size = path, np.dtype(dtype), 0
        try:
            self._file = open(path, "xb")  # noqa: SIM115 (closed by finish)
        except OSError as error:
            raise self._failed(error) from error
        weakref.finalize(self, _close, self._file)  # where writing has failed

    def append(self, values: Array) -> None:
        """Write the next numbers, which are converted if they are of another type."""
        try:
            self._file.write(np.ascontiguousarray(values, self.dtype).data)
        except OSError as error:
            raise self._failed(error) from error
        self.size += values.size

    def finish(self) -> Array:
        """Close the file and return all of it, mapped."""
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error
        return mapped(self.path, self.dtype, self.size)

    def _failed(self, error: OSError) -> OSError:
        return OSError(f"cannot write into {os.path.dirname(self.path)!r}: {error.strerror}")


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):
        file.close()


class ArrayParts:
    """The same in memory: for results that are small enough."""

    def __init__(self, dtype: np.dtype[Any] | type) -> None:
        self.dtype, self.size = np.dtype(dtype), 0
        self._parts: list[Array] = [np.empty(0, self.dtype)]

    def append(self, values: Array) -> None:
        """Keep the next numbers."""
        self._parts.append(values.astype(self.dtype))
        self.size += values.size

    def finish(self) -> Array:
        """All of them."""
        return np.concatenate(self._parts)

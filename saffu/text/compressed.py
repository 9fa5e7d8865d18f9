"""Compressed files: gzip, bzip2, xz and Zstandard. The first bytes of a file decide, not its name.

What reads Zstandard is part of Python from 3.14 on; before, the extra ``zstd`` installs it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # what follows "BZh" and a digit: a block, or the end of an empty stream
_LONGEST = 10  # bytes after which the kind is known
_PIECE = 1 << 17


def stream(raw: IO[bytes], name: str) -> IO[bytes]:
    """Return what a file holds as a stream: decompressed, or the file itself.

    Parameters
    ----------
    raw : binary file
        At its beginning, able to go back there.
    name : str
        How messages call it.

    Returns
    -------
    binary file

    Raises
    ------
    ValueError
        If what would decompress it is not installed; the message names the extra.
    """
    position = raw.tell()
    head = raw.read(_LONGEST)
    raw.seek(position)
    if head.startswith(b"\x1f\x8b\x08"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if head.startswith(b"BZh") and head[3:4].isdigit() and head[4:].startswith(_BZIP2_BLOCKS):
        return bz2.BZ2File(raw)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(raw)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstandard(raw, name)
    return raw


def read(file: IO[bytes], size: int, name: str) -> bytes:
    """Read up to so many bytes of what :func:`stream` returned.

    Parameters
    ----------
    file : binary file
    size : int
        Bytes; of Zstandard a few more may come.
    name : str
        How messages call it.

    Returns
    -------
    bytes
        Empty at the end of the file.

    Raises
    ------
    ValueError
        If the compressed data are damaged.
    OSError
        If the file cannot be read.
    """
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, _DamagedFrame) as error:
        raise ValueError(f"{name} is damaged: {str(error).rstrip('.')}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{name} is damaged: {str(error).rstrip('.')}") from error  # of bzip2, which has no other


# ---- Zstandard -------------------------------------------------------------------------------------------------------


class _DamagedFrame(Exception):
    """Zstandard data that cannot be decompressed."""


def _zstandard(raw: IO[bytes], name: str) -> IO[bytes]:
    new_frame, errors = _decompressors(name)
    return _Frames(raw, new_frame, errors)  # type: ignore[return-value]


def _decompressors(name: str) -> tuple[Callable[[], Any], type[Exception]]:
    """What makes a decompressor of one frame, and what it raises."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]

        return zstd.ZstdDecompressor, zstd.ZstdError
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError as error:
        raise ValueError(
            f"{name} is compressed with Zstandard; pip install 'saffu[zstd]' lets saffu read it"
        ) from error
    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


class _Frames:
    """Reads one frame after the other; a frame that is cut short is an error, which the library leaves to its user."""

    def __init__(self, raw: IO[bytes], new_frame: Callable[[], Any], errors: type[Exception]) -> None:
        self._raw, self._new_frame, self._errors = raw, new_frame, errors
        self._frame: Any = None  # that which is being read
        self._next = b""  # the beginning of the frame after it

    def read(self, size: int) -> bytes:
        """Up to so many bytes, or some more: what one piece of the file gives is not cut."""
        parts: list[bytes] = []
        held = 0
        while held < size:
            data, self._next = self._next or self._raw.read(_PIECE), b""
            if not data:
                if self._frame is not None:
                    raise EOFError("Compressed file ended before the end of its last frame")
                break
            parts.append(self._decompressed(data))
            held += len(parts[-1])
        return b"".join(parts)

    def _decompressed(self, data: bytes) -> bytes:
        self._frame = self._frame or self._new_frame()
        try:
            found: bytes = self._frame.decompress(data)
        except self._errors as error:
            raise _DamagedFrame(str(error)) from error
        if self._frame.eof:
            self._next, self._frame = self._frame.unused_data, None
        return found

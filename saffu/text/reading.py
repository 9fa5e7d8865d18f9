"""A file as text: decompressed, decoded and cut into blocks, so that memory does not grow with its size."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import stat
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeAlias

from saffu.text import compressed
from saffu.text.tokenizers import BYTE_ORDER_MARK

BLOCK_BYTES = 1 << 22
STANDARD_INPUT = "-"

Advance: TypeAlias = Callable[[int], Any]


class TextFile:
    """A file, plain or compressed, that is read as text as often as needed.

    Parameters
    ----------
    path : str
        ``-`` is standard input. What can be read once only (standard input, a pipe) is copied to a temporary file at
        the first reading.
    as_bytes : bool
        Take every byte as a character, instead of decoding UTF-8 with line ends of every kind.

    Raises
    ------
    OSError
        If it is missing or a folder.
    ValueError
        If it is standard input and closed, or what would decompress it is not installed.
    """

    def __init__(self, path: str, as_bytes: bool) -> None:
        self.path, self.as_bytes = path, as_bytes
        self._copy: IO[bytes] | None = None
        if path == STANDARD_INPUT and sys.stdin is None:
            raise ValueError("standard input ('-') is closed")
        if not self.is_pipe:
            with open(path, "rb") as raw:
                compressed.stream(raw, self.name)

    @property
    def name(self) -> str:
        """How messages call it."""
        return "standard input" if self.path == STANDARD_INPUT else repr(self.path)

    @property
    def is_pipe(self) -> bool:
        """Whether it can be read only once, so that opening it to look at its beginning would break it."""
        return self.path == STANDARD_INPUT or stat.S_ISFIFO(os.stat(self.path).st_mode)

    @property
    def n_bytes(self) -> int | None:
        """Size on disk; None if it is standard input or a pipe."""
        return None if self.is_pipe else os.path.getsize(self.path)

    def blocks(self, advance: Advance | None = None) -> Iterator[str]:
        """Text in blocks cut after a line end, or at least after a space; the last one ends with a line end.

        Parameters
        ----------
        advance : callable, optional
            Called with the number of bytes read from disk since the last call.

        Raises
        ------
        ValueError
            If the file is damaged, or holds bytes that are not UTF-8; the message says where.
        """
        decode = _decode_latin_1 if self.as_bytes else _Utf8(self.name)
        rest, last = "", "\n"
        for data, final in self._pieces(advance):
            text = rest + decode(data, final)
            cut = len(text) if final else _last_cut(text)
            block, rest = text[:cut], text[cut:]
            if block:
                last = block[-1]
            if final and last != "\n":
                block += "\n"
            if block:
                yield block

    def _pieces(self, advance: Advance | None) -> Iterator[tuple[bytes, bool]]:
        """Decompressed bytes, each time with whether the file has ended; the last ones are none."""
        with self._open() as raw:
            stream = compressed.stream(raw, self.name)
            position, data = 0, b"-"
            while data:
                data = compressed.read(stream, BLOCK_BYTES, self.name)
                if advance is not None:
                    advance(raw.tell() - position)
                    position = raw.tell()
                yield data, not data

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """The file as it lies on disk."""
        if self.is_pipe:
            yield self._copied()
        else:
            with open(self.path, "rb") as raw:
                yield raw

    def _copied(self) -> IO[bytes]:
        """A copy of what can be read once only, at its beginning."""
        if self._copy is None:
            copy = self._copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
            weakref.finalize(self, copy.close)
            if self.path == STANDARD_INPUT:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with open(self.path, "rb") as pipe:
                    shutil.copyfileobj(pipe, copy)
        self._copy.seek(0)
        return self._copy


def _last_cut(text: str) -> int:
    """Where to cut a block so that no line is cut if possible, and no word unless it fills the block."""
    return text.rfind("\n") + 1 or text.rfind(" ") + 1 or len(text)


# ---- bytes to characters ---------------------------------------------------------------------------------------------


def _decode_latin_1(data: bytes, final: bool) -> str:
    """Every byte as the character of that number."""
    return data.decode("latin-1")


class _Utf8:
    """Incremental UTF-8 decoder that reads every kind of line end as one and says where it failed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bytes = codecs.getincrementaldecoder("utf-8")("strict")
        self.lines = io.IncrementalNewlineDecoder(self.bytes, translate=True)
        self.position, self.line, self.begun = 0, 1, False

    def __call__(self, data: bytes, final: bool) -> str:
        """Decode the next bytes; ``final`` says that they are the last."""
        if self.position == 0 and _looks_like_utf16(data):
            raise ValueError(f"{self.name} is not UTF-8 but looks like UTF-16; convert it, or use the bytes tokenizer")
        held_back = self.bytes.getstate()[0]
        try:
            text = self.lines.decode(data, final)
        except UnicodeDecodeError as error:
            position = self.position - len(held_back) + error.start
            line = self.line + (held_back + data)[: error.start].count(b"\n")
            byte = f"byte 0x{error.object[error.start]:02x} at position {position} (line {line})"
            raise ValueError(f"{self.name} is not UTF-8: {byte}; convert it, or use the bytes tokenizer") from None
        if text and not self.begun:
            text, self.begun = text.removeprefix(BYTE_ORDER_MARK), True
        self.position += len(data)
        self.line += data.count(b"\n")
        return text


def _looks_like_utf16(data: bytes) -> bool:
    """Whether data begin with a byte order mark of UTF-16, or have more zero bytes than any text in UTF-8."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or data.count(0) * 100 > len(data)

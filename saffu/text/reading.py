"""A file as text: decompressed, decoded and cut into blocks, so that memory does not grow with its size."""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import IO, Any, TypeAlias

from saffu.text import compressed
from saffu.text.tokenizers import BYTE_ORDER_MARK

BLOCK_BYTES = 1 << 22
BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")  # some of those that separate documents; enough to cut a file at
STANDARD_INPUT = "-"

_TO_THE_END = sys.maxsize
_LOOK_AHEAD = 1 << 16

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
        self.first, self.last = 0, _TO_THE_END  # the bytes that are read
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
        """Bytes on disk that are read; None if it is standard input or a pipe."""
        return None if self.is_pipe else min(self.last, os.path.getsize(self.path)) - self.first

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
        decode = _decode_latin_1 if self.as_bytes else _Utf8(self.name, self.first, self._line)
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
            stream = compressed.stream(raw, self.name) if self._is_whole else raw
            raw.seek(self.first)
            position, left, data = self.first, self.last - self.first, b"-"
            while data:
                data = compressed.read(stream, min(BLOCK_BYTES, left), self.name)
                left -= len(data)
                if advance is not None:
                    advance(raw.tell() - position)
                    position = raw.tell()
                yield data, not data

    @property
    def _is_whole(self) -> bool:
        return self.first == 0 and self.last == _TO_THE_END

    def _line(self) -> int:
        """The number of the line at which reading begins."""
        with self._open() as raw:
            pieces = range(0, self.first, BLOCK_BYTES)
            return 1 + sum(raw.read(min(BLOCK_BYTES, self.first - begin)).count(b"\n") for begin in pieces)

    def parts(self, n_bytes: int) -> list[TextFile]:
        """The file cut behind blank lines into parts of about so many bytes; a compressed one is a single part.

        Their text, where blank lines separate documents, is the documents of the file.
        """
        with self._open() as raw:
            if not self._is_whole or compressed.stream(raw, self.name) is not raw:
                return [self]
            cuts = list(_cuts(raw, n_bytes, os.path.getsize(self.path)))
        parts = []
        for first, last in pairwise([0, *cuts, _TO_THE_END]):
            part = TextFile(self.path, self.as_bytes)
            part.first, part.last = first, last
            parts.append(part)
        return parts

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


def _cuts(raw: IO[bytes], n_bytes: int, size: int) -> Iterator[int]:
    """Places behind blank lines, each the first at least ``n_bytes`` behind the one before."""
    place = _blank_line_end(raw, n_bytes)
    while place is not None and place < size:
        yield place
        place = _blank_line_end(raw, place + n_bytes)


def _blank_line_end(raw: IO[bytes], begin: int) -> int | None:
    """Where the first blank line of a file that is not before ``begin`` ends."""
    raw.seek(begin)
    rest = b""
    while more := raw.read(_LOOK_AHEAD):
        data = rest + more
        found = BLANK_LINE.search(data)
        if found:
            return raw.tell() - len(data) + found.end()
        rest = data[data.rfind(b"\n") :] if b"\n" in data else b""
    return None


def _last_cut(text: str) -> int:
    """Where to cut a block so that no line is cut unless it fills the block, and no word unless it does."""
    if "\n" not in text and (len(text) < BLOCK_BYTES or text.isspace()):
        return 0  # whether its line is blank is known when that has ended
    return text.rfind("\n") + 1 or text.rfind(" ") + 1 or len(text)


# ---- bytes to characters ---------------------------------------------------------------------------------------------


def _decode_latin_1(data: bytes, final: bool) -> str:
    """Every byte as the character of that number."""
    return data.decode("latin-1")


class _Utf8:
    """Incremental UTF-8 decoder that reads every kind of line end as one and says where it failed.

    It may begin ``first`` bytes into the file, at the start of the line whose number ``line`` finds out.
    """

    def __init__(self, name: str, first: int, line: Callable[[], int]) -> None:
        self.name = name
        self.bytes = codecs.getincrementaldecoder("utf-8")("strict")
        self.lines = io.IncrementalNewlineDecoder(self.bytes, translate=True)
        self.position, self.begun = first, first > 0
        self.n_lines, self.first_line = 0, line

    def __call__(self, data: bytes, final: bool) -> str:
        """Decode the next bytes; ``final`` says that they are the last."""
        if self.position == 0 and _looks_like_utf16(data):
            raise ValueError(f"{self.name} is not UTF-8 but looks like UTF-16; convert it, or use the bytes tokenizer")
        held_back = self.bytes.getstate()[0]
        try:
            text = self.lines.decode(data, final)
        except UnicodeDecodeError as error:
            position = self.position - len(held_back) + error.start
            line = self.first_line() + self.n_lines + (held_back + data)[: error.start].count(b"\n")
            byte = f"byte 0x{error.object[error.start]:02x} at position {position} (line {line})"
            raise ValueError(f"{self.name} is not UTF-8: {byte}; convert it, or use the bytes tokenizer") from None
        if text and not self.begun:
            text, self.begun = text.removeprefix(BYTE_ORDER_MARK), True
        self.position += len(data)
        self.n_lines += data.count(b"\n")
        return text


def _looks_like_utf16(data: bytes) -> bool:
    """Whether data begin with a byte order mark of UTF-16, or have more zero bytes than any text in UTF-8."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or data.count(0) * 100 > len(data)

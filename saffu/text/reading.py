"""Bytes of a file into text."""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, Any

from saffu.text import compressed
from saffu.text.tokenizers import BYTE_ORDER_MARK

BLOCK_BYTES = 1 << 22
STANDARD_INPUT = "-"


class Utf8:
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


def pieces(
    name: str, raw: IO[bytes], stream: IO[bytes], advance: Callable[[int], Any] | None
) -> Iterator[tuple[bytes, bool]]:
    """Bytes of a stream in blocks, each with whether it is the last (which is empty)."""
    position, data = 0, b"-"
    while data:
        data = compressed.read(stream, BLOCK_BYTES, name)
        if advance is not None:
            advance(raw.tell() - position)
            position = raw.tell()
        yield data, not data


def last_cut(text: str) -> int:
    """Where to cut a block so that no line is cut if possible, and no word unless it fills the block."""
    return text.rfind("\n") + 1 or text.rfind(" ") + 1 or len(text)


def is_pipe(path: str) -> bool:
    """Whether a path is standard input or a pipe: it can be read once only, and opening it to look would break it."""
    return path == STANDARD_INPUT or stat.S_ISFIFO(os.stat(path).st_mode)


def shown_name(path: str) -> str:
    """How messages call a file."""
    return "standard input" if path == STANDARD_INPUT else repr(path)

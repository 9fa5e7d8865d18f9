r"""Text into token ids and back: tokenizers, the vocabulary, files as streams of documents.

Decisions. Text is tokenized a block (about four million characters) at a time with one regular expression, so that
the work per token stays in C and memory does not grow with the corpus. A line end is a token of its own: ``"\n"``
becomes ``<eos>``, and ``"\n\n"`` is a line end after which a new document begins. Documents are separated by blank
lines, which yield no token, or they are whole files, and then a blank line is just one more ``<eos>``.

A text gives the same tokens whether it comes from a file or as a string: line ends of every kind are one, and a byte
order mark at the beginning is no text. (Bytes are taken as they are.)
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np

from saffu.text import compressed
from saffu.text.reading import STANDARD_INPUT, Utf8, is_pipe, last_cut, pieces, shown_name
from saffu.text.tokenizers import (
    BLANK_LINES,
    DOCUMENTS,
    LEADING_BLANK_LINES,
    default_documents,
    default_min_count,
    splitter,
)
from saffu.text.vocabulary import Vocabulary
from saffu.utils import validate
from saffu.utils.arrays import Int32, Int64


class Chunk(NamedTuple):
    """A stretch of a token stream.

    Attributes
    ----------
    ids : ndarray of int32, shape (M,)
    documents : ndarray of int64
        Offsets in ``ids`` at which documents begin. Without a 0, the chunk continues the document before it.
    n_characters : int
        How many characters the tokens stand for, line ends included.
    """

    ids: Int32
    documents: Int64
    n_characters: int


class Corpus:
    r"""Text files read as one stream, block by block, as often as needed.

    Parameters
    ----------
    paths : str, path or sequence of them
        Text in UTF-8, plain or compressed by gzip, bzip2, xz or Zstandard (the extra ``zstd``), whatever the names;
        ``-`` is standard input. What can be read once only (standard input, a pipe) is copied to a temporary file at
        the first reading.
    tokenizer : {"words", "whitespace", "chars", "bytes"}
        All but ``"bytes"`` read ``\r\n`` and ``\r`` as line ends; ``"bytes"`` takes files as they are.
    documents : {"blank-line", "file"}, optional
        By default ``"file"`` for chars and bytes, else ``"blank-line"``. Every file begins a document.

    Raises
    ------
    FileNotFoundError, OSError
        If a file is missing or is a folder.
    ValueError
        If standard input is named and closed, or what would decompress a file is not installed.

    Warns
    -----
    UserWarning
        At the end of the first reading, for each file that holds no text beside others that do.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        tokenizer: str = "words",
        documents: str | None = None,
    ) -> None:
        default = default_documents(tokenizer)
        self.tokenizer = tokenizer
        self.documents = validate.choice(documents or default, "documents", DOCUMENTS)
        self.paths = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        self._spools: dict[str, IO[bytes]] = {}  # copies of what can be read only once
        if not self.paths:
            raise ValueError("paths must name at least one file")
        if self.paths.count(STANDARD_INPUT) > 1:
            raise ValueError("standard input ('-') can be named only once")
        if STANDARD_INPUT in self.paths and sys.stdin is None:
            raise ValueError("standard input ('-') is closed")
        for path in self.paths:
            if not is_pipe(path):
                with open(path, "rb") as raw:
                    compressed.stream(raw, shown_name(path))
        self._empty: set[str] = set()  # files that were found to hold no text
        self._is_part = False

    @property
    def n_bytes(self) -> int | None:
        """Size of the files on disk, or None where standard input or a pipe is among them."""
        return None if any(map(is_pipe, self.paths)) else sum(map(os.path.getsize, self.paths))

    def build_vocabulary(self, min_count: int | None = None, advance: Callable[[int], Any] | None = None) -> Vocabulary:
        """Read the corpus once and collect its types.

        Parameters
        ----------
        min_count : int, optional
            Types seen less often become ``<unk>``; by default 3, for chars and bytes 1.
        advance : callable, optional
            As in :meth:`chunks`.

        Returns
        -------
        Vocabulary
            With the tokenizer and the documents of this corpus.
        """
        min_count = default_min_count(self.tokenizer) if min_count is None else min_count
        return Vocabulary.build(self.token_lists(advance), min_count, self.tokenizer, self.documents)

    def token_lists(self, advance: Callable[[int], Any] | None = None) -> Iterator[list[str]]:
        """Iterate over the tokens, one list for each block; see :meth:`chunks`."""
        for _, tokens, _ in self._tokenized_blocks(advance):
            yield tokens

    def chunks(self, vocabulary: Vocabulary, advance: Callable[[int], Any] | None = None) -> Iterator[Chunk]:
        """Iterate over the corpus as ids, about four million characters at a time.

        Parameters
        ----------
        vocabulary : Vocabulary
        advance : callable, optional
            Called with the number of bytes read from disk since the last call, for a progress bar.

        Yields
        ------
        Chunk

        Raises
        ------
        ValueError
            If no file holds any text, or one holds bytes that are not UTF-8, or is damaged (compressed files); or if
            the vocabulary belongs to another tokenizer.
        """
        if vocabulary.tokenizer != self.tokenizer:
            raise ValueError(f"vocabulary must be of {self.tokenizer!r} tokens, got one of {vocabulary.tokenizer!r}")
        for begins_document, tokens, n_characters in self._tokenized_blocks(advance):
            ids, starts = vocabulary.encode_block(tokens)
            starts = starts[starts < ids.size]
            if begins_document:
                starts = np.concatenate([np.zeros(1, np.int64), starts])
            yield Chunk(ids, starts, n_characters)

    def read(self, vocabulary: Vocabulary, advance: Callable[[int], Any] | None = None) -> Chunk:
        """Read the whole corpus into one chunk; parameters and errors as in :meth:`chunks`."""
        offset, ids, starts, n_characters = 0, [], [], 0
        for chunk in self.chunks(vocabulary, advance):
            ids.append(chunk.ids)
            starts.append(chunk.documents + offset)
            offset += chunk.ids.size
            n_characters += chunk.n_characters
        return Chunk(np.concatenate(ids), np.concatenate(starts), n_characters)

    def _tokenized_blocks(self, advance: Callable[[int], Any] | None) -> Iterator[tuple[bool, list[str], int]]:
        """Blocks of tokens: whether a document begins with the block, its tokens, how many characters they are."""
        split = splitter(self.tokenizer, self.documents)
        empties: list[str] = []
        for path in self.paths:
            document_due, line_due, empty, n_characters = True, True, True, 0
            for text in self._blocks(path, advance):
                if self.documents == "blank-line":
                    blank = LEADING_BLANK_LINES.match(text) if line_due else None
                    if blank:
                        document_due, text, n_characters = True, text[blank.end() :], 0
                    text = BLANK_LINES.sub("\n\n", text)
                tokens = split(text)
                n_characters += self._count_characters(text)
                if tokens:
                    yield document_due, tokens, n_characters
                    empty, n_characters = False, 0
                    document_due, line_due = tokens[-1] == "\n\n", tokens[-1] in ("\n", "\n\n")
            if empty:
                empties.append(path)
        all_of_them = len(empties) == len(self.paths)
        untold = [path for path in empties if all_of_them or path not in self._empty]
        self._empty.update(empties)
        if not self._is_part:
            self._tell(untold, all_of_them)

    def parts(self) -> list[Corpus]:
        """A corpus of each file, which may hold no text; :meth:`check_parts` tells of these in the end."""
        found = [Corpus(path, self.tokenizer, self.documents) for path in self.paths]
        for part in found:
            part._is_part = True
        return found

    @staticmethod
    def check_parts(parts: Sequence[Corpus]) -> None:
        """Say of parts that have been read what reading the whole would say of files that hold no text."""
        empties = [path for part in parts for path in part.paths if path in part._empty]
        Corpus._tell(empties, len(empties) == len(parts))

    @staticmethod
    def _tell(empties: Sequence[str], all_of_them: bool) -> None:
        if all_of_them and empties:
            others = ", nor does any other file" if len(empties) > 1 else ""
            raise ValueError(f"{shown_name(empties[0])} holds no text{others}")
        for path in empties:
            warnings.warn(f"{shown_name(path)} holds no text and is left out", stacklevel=5)

    def _count_characters(self, text: str) -> int:
        separators = text.count("\n\n") if self.documents == "blank-line" else 0
        if self.tokenizer != "bytes":
            return len(text) - separators
        is_first = np.frombuffer(text.encode("latin-1"), np.uint8) & 0xC0 != 0x80
        return int(np.count_nonzero(is_first)) - separators

    def _blocks(self, path: str, advance: Callable[[int], Any] | None) -> Iterator[str]:
        """Text in blocks cut behind a line end, or at least behind a space; the last one ends with a line end."""
        decode = (lambda data, final: data.decode("latin-1")) if self.tokenizer == "bytes" else Utf8(shown_name(path))
        rest, last = "", "\n"
        with self._open(path) as (raw, stream):
            for data, final in pieces(shown_name(path), raw, stream, advance):
                text = rest + decode(data, final)
                cut = len(text) if final else last_cut(text)
                block, rest = text[:cut], text[cut:]
                if block:
                    last = block[-1]
                if final and last != "\n":
                    block += "\n"
                if block:
                    yield block

    @contextmanager
    def _open(self, path: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The file as it lies on disk and its decompressed stream."""
        if is_pipe(path):
            raw = self._spool(path)
            yield raw, compressed.stream(raw, shown_name(path))
        else:
            with open(path, "rb") as raw:
                yield raw, compressed.stream(raw, shown_name(path))

    def _spool(self, path: str) -> IO[bytes]:
        """A copy of what can be read once only, at its beginning."""
        if path not in self._spools:
            copy = self._spools[path] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the corpus)
            weakref.finalize(self, copy.close)
            if path == STANDARD_INPUT:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with open(path, "rb") as pipe:
                    shutil.copyfileobj(pipe, copy)
        self._spools[path].seek(0)
        return self._spools[path]

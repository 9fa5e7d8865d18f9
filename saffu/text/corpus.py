r"""Text files as one stream of documents of token ids, read a block at a time and as often as needed.

Decisions. Text is tokenized a block (about four million characters) at a time with one regular expression, so that
the work per token stays in C and memory does not grow with the corpus. A line end is a token of its own: ``"\n"``
becomes ``<eos>``, and ``"\n\n"`` is a line end after which a new document begins. Documents are separated by blank
lines, which yield no token; or they are the lines that are not blank; or they are whole files, and then a blank line is
just one more ``<eos>``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from saffu.text.reading import STANDARD_INPUT, Advance, TextFile
from saffu.text.tokenizers import (
    DOCUMENTS,
    LEADING_BLANK_LINES,
    SEPARATORS,
    checked_tokenizer,
    default_documents,
    default_min_count,
    splitter,
)
from saffu.text.vocabulary import Vocabulary
from saffu.utils import validate
from saffu.utils.arrays import Int32, Int64
from saffu.utils.streams import TokenStream


class Chunk(NamedTuple):
    """A stretch of the token stream of a corpus.

    Attributes
    ----------
    ids : ndarray of int32, shape (M,)
    starts : ndarray of int64
        Offsets in ``ids`` at which documents start. Without a 0, the chunk continues the document before it.
    n_characters : int
        How many characters the tokens stand for, line ends included.
    n_bytes : int
        How many bytes these are in UTF-8; 0 if that is not known.

    Examples
    --------
    >>> import numpy as np
    >>> Chunk(np.array([2, 3, 1], np.int32), np.array([0]), 4).stream
    TokenStream(ids=array([2, 3, 1], dtype=int32), starts=array([0]))
    """

    ids: Int32
    starts: Int64
    n_characters: int
    n_bytes: int = 0

    @property
    def stream(self) -> TokenStream:
        """The same tokens and documents, as models read them."""
        return TokenStream(self.ids, self.starts)


class Corpus:
    r"""Text files read as one stream, block by block, as often as needed.

    Parameters
    ----------
    paths : str, path or sequence of them
        Text in UTF-8, plain or compressed by gzip, bzip2, xz or Zstandard (the extra ``zstd``), whatever the names;
        ``-`` is standard input. What can be read once only (standard input, a pipe) is copied to a temporary file at
        the first reading.
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object
        As in :func:`tokenize`. All but ``"bytes"`` read ``\r\n`` and ``\r`` as line ends; ``"bytes"`` takes files as
        they are.
    documents : {"blank-line", "line", "file"}, optional
        By default ``"file"`` for chars and bytes, else ``"blank-line"``. Every file begins a document.

    Attributes
    ----------
    paths : list of str
    tokenizer : str or SubwordTokenizer
    documents : str

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

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     book = pathlib.Path(folder, "book.txt")
    ...     _ = book.write_text("the cat sat .\n\nthe dog sat .\n")
    ...     corpus = Corpus(book, tokenizer="words")
    ...     vocabulary = corpus.build_vocabulary(min_count=2)
    ...     text = corpus.read(vocabulary)
    >>> vocabulary.types
    ['<unk>', '<eos>', 'the', 'sat', '.']
    >>> text.ids.tolist(), text.starts.tolist()
    ([2, 0, 3, 4, 1, 2, 0, 3, 4, 1], [0, 5])
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        tokenizer: Any = "words",
        documents: str | None = None,
    ) -> None:
        self.tokenizer = checked_tokenizer(tokenizer)
        default = default_documents(self.tokenizer)
        self.documents = validate.choice(documents or default, "documents", DOCUMENTS)
        self.paths = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        if not self.paths:
            raise ValueError("paths must name at least one file")
        if self.paths.count(STANDARD_INPUT) > 1:
            raise ValueError("standard input ('-') can be named only once")
        self._files = [TextFile(path, as_bytes=tokenizer == "bytes") for path in self.paths]
        self._empty: set[TextFile] = set()  # files that were found to hold no text
        self._is_part = False

    @property
    def n_bytes(self) -> int | None:
        """Size of the files on disk, or None where standard input or a pipe is among them."""
        sizes = [file.n_bytes for file in self._files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def build_vocabulary(self, min_count: int | None = None, *, advance: Advance | None = None) -> Vocabulary:
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
        lists = self.token_lists(advance=advance)
        return Vocabulary.build(lists, min_count=min_count, tokenizer=self.tokenizer, documents=self.documents)

    def token_lists(self, *, advance: Advance | None = None) -> Iterator[list[str]]:
        """Iterate over the tokens, one list for each block; see :meth:`chunks`."""
        for _, tokens, *_ in self.tokenized_blocks(advance):
            yield tokens

    def chunks(self, vocabulary: Vocabulary, *, advance: Advance | None = None) -> Iterator[Chunk]:
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
        for begins_document, tokens, n_characters, n_bytes in self.tokenized_blocks(advance):
            ids, starts = vocabulary.encode_block(tokens)
            starts = starts[starts < ids.size]
            if begins_document:
                starts = np.concatenate([np.zeros(1, np.int64), starts])
            yield Chunk(ids, starts, n_characters, n_bytes)

    def read(self, vocabulary: Vocabulary, *, advance: Advance | None = None) -> Chunk:
        """Read the whole corpus into one chunk; parameters and errors as in :meth:`chunks`."""
        chunks = list(self.chunks(vocabulary, advance=advance))
        whole = TokenStream.concat(chunk.stream for chunk in chunks)
        n_characters, n_bytes = sum(chunk.n_characters for chunk in chunks), sum(chunk.n_bytes for chunk in chunks)
        return Chunk(whole.ids, whole.starts, n_characters, n_bytes)

    def texts(self, *, advance: Advance | None = None) -> Iterator[str]:
        """Iterate over the text as it is read, a block of whole lines at a time; see :meth:`chunks`."""
        for file in self._files:
            yield from file.blocks(advance)

    def with_tokenizer(self, tokenizer: Any) -> Corpus:
        """The same files, read once where they can be read only once, under a tokenizer that is not ``"bytes"``.

        Parameters
        ----------
        tokenizer : str or object
            As in :class:`Corpus`.
        """
        other = Corpus(self.paths, tokenizer=tokenizer, documents=self.documents)
        if "bytes" in (self.tokenizer, other.tokenizer):
            raise ValueError("tokenizer must not be 'bytes', which reads files in another way")
        other._files = self._files
        return other

    def parts(self) -> list[Corpus]:
        """A corpus of each file. Any of them may hold no text: pass them to :meth:`check_parts` when they are read."""
        return [self._part([file]) for file in self._files]

    def split(self, n_bytes: int) -> list[Corpus]:
        """Parts of whole documents, of about so many bytes each, which can be read by as many processes.

        Large files are cut behind blank lines, if these separate documents and nothing is compressed; small ones that
        follow each other are together. Token lists and chunks of the parts, one after the other, are those of the
        corpus. Any part may hold no text.

        Parameters
        ----------
        n_bytes : int

        Returns
        -------
        list of Corpus

        Raises
        ------
        ValueError
            If standard input or a pipe is among the files, or ``n_bytes`` is not positive.
        """
        n_bytes = validate.integer(n_bytes, "n_bytes", 1)
        if self.n_bytes is None:
            raise ValueError("paths must be files that can be read by several processes, not standard input or a pipe")
        can_cut = self.documents == "blank-line"
        pieces = [piece for file in self._files for piece in (file.parts(n_bytes) if can_cut else [file])]
        groups: list[list[TextFile]] = []
        held = 0
        for piece in pieces:
            size = piece.n_bytes or 0
            if not groups or held + size > n_bytes:
                groups.append([])
                held = 0
            groups[-1].append(piece)
            held += size
        return [self._part(files) for files in groups]

    def _part(self, files: list[TextFile]) -> Corpus:
        part = Corpus([file.path for file in files], tokenizer=self.tokenizer, documents=self.documents)
        part._files, part._is_part = files, True
        return part

    @staticmethod
    def check_parts(parts: Sequence[Corpus]) -> None:
        """Raise and warn about parts that hold no text as reading the whole corpus would.

        Raises
        ------
        ValueError
            If none of the parts held any text.

        Warns
        -----
        UserWarning
            For each part that held none beside others that did.
        """
        empty = [file for part in parts for file in part._files if file in part._empty]
        _report_empty(empty, len(empty) == len(parts))

    def tokenized_blocks(self, advance: Advance | None) -> Iterator[tuple[bool, list[str], int, int]]:
        """Blocks of tokens: whether a document begins there, the tokens, how many characters and bytes they are."""
        empty: list[TextFile] = []
        for file in self._files:
            is_empty = True
            for block in self._blocks_of(file, advance):
                yield block
                is_empty = False
            if is_empty:
                empty.append(file)
        all_of_them = len(empty) == len(self._files)
        new = [file for file in empty if all_of_them or file not in self._empty]
        self._empty.update(empty)
        if not self._is_part:
            _report_empty(new, all_of_them)

    def _blocks_of(self, file: TextFile, advance: Advance | None) -> Iterator[tuple[bool, list[str], int, int]]:
        """The same of one file."""
        split = splitter(self.tokenizer, self.documents)
        document_due, line_due, n_characters, n_bytes = True, True, 0, 0
        for text in file.blocks(advance):
            if self.documents in SEPARATORS:
                blank = LEADING_BLANK_LINES.match(text) if line_due else None
                if blank:
                    document_due, text, n_characters, n_bytes = True, text[blank.end() :], 0, 0
                text = SEPARATORS[self.documents].sub("\n\n", text)
            tokens = split(text)
            separators = text.count("\n\n") if self.documents in SEPARATORS else 0
            n_characters += self._count_characters(text) - separators
            n_bytes += (len(text) if self.tokenizer == "bytes" else len(text.encode())) - separators
            if tokens:
                yield document_due, tokens, n_characters, n_bytes
                n_characters, n_bytes = 0, 0
                document_due, line_due = tokens[-1] == "\n\n", tokens[-1] in ("\n", "\n\n")

    def _count_characters(self, text: str) -> int:
        if self.tokenizer != "bytes":
            return len(text)
        is_first = np.frombuffer(text.encode("latin-1"), np.uint8) & 0xC0 != 0x80  # of the bytes of a character
        return int(np.count_nonzero(is_first))


def _report_empty(files: Sequence[TextFile], all_of_them: bool) -> None:
    """Raise if no file holds any text, else warn of those that hold none."""
    if all_of_them and files:
        others = ", nor does any other file" if len(files) > 1 else ""
        raise ValueError(f"{files[0].name} holds no text{others}")
    for file in files:
        warnings.warn(f"{file.name} holds no text and is left out", stacklevel=5)

r"""Text into token ids and back: tokenisers, the vocabulary, files as streams of documents.

Decisions. Text is tokenised a block (about four million characters) at a time with one regular expression, so that
the work per token stays in C and memory does not grow with the corpus. A line end is a token of its own: ``"\n"``
becomes ``<eos>``, and ``"\n\n"`` is a line end after which a new document begins. Documents are separated by blank
lines, which yield no token, or they are whole files, and then a blank line is just one more ``<eos>``.

A text gives the same tokens whether it comes from a file or as a string: line ends of every kind are one, and a byte
order mark at the beginning is no text. (Bytes are taken as they are.)
"""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import unicodedata
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise, repeat
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from saffu.text import compressed
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Int32, Int64

UNKNOWN, LINE_END = "<unk>", "<eos>"
UNKNOWN_ID, LINE_END_ID = 0, 1
DOCUMENT_END_ID = -1  # within one block only: a line end after which a document begins; abs() makes it LINE_END_ID
TOKENISERS = ("words", "whitespace", "chars", "bytes")
DOCUMENTS = ("blank-line", "file")
BLOCK_BYTES = 1 << 22
STANDARD_INPUT = "-"
BYTE_ORDER_MARK = "\ufeff"

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LEADING_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)+")


# ---- tokenisers ------------------------------------------------------------------------------------------------------


@cache
def _combining_marks() -> str:
    r"""The inside of a character class: combining marks, which ``\w`` leaves out, and the joiners within words."""
    marks = [c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M" or c in (0x200C, 0x200D)]
    firsts = [c for c, before in zip(marks, [-1, *marks], strict=False) if c != before + 1]
    lasts = [c for c, after in zip(marks, [*marks[1:], -1], strict=True) if c != after - 1]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(firsts, lasts, strict=True))


def _word_pattern() -> str:
    # (?!\s) keeps the common case, a word before a space, away from the slow test for combining marks.
    inside = rf"(?!\s)(?:['’\-]\w+|(?<=\d)[.,](?=\d)\w+|[{_combining_marks()}]+\w*)"
    return rf"\w+(?:{inside})*|{UNKNOWN}|{LINE_END}|[^\w\s]"


@cache
def _splitter(tokeniser: str, documents: str) -> Callable[[str], list[str]]:
    """The function that turns a block of text into tokens, line ends and document ends included."""
    if tokeniser in ("chars", "bytes") and documents == "file":
        return list
    pattern = {"words": _word_pattern, "whitespace": lambda: r"\S+"}.get(tokeniser, lambda: r"[^\n]")()
    line_end = r"\n\n?" if documents == "blank-line" else r"\n"
    return re.compile(f"{pattern}|{line_end}").findall


def default_documents(tokeniser: str) -> str:
    """How documents are separated unless told: blank lines are content where every character is a token."""
    validate.choice(tokeniser, "tokeniser", TOKENISERS)
    return "file" if tokeniser in ("chars", "bytes") else "blank-line"


def default_min_count(tokeniser: str) -> int:
    """How often a type must be seen to be kept, unless told: every character, words from three on."""
    validate.choice(tokeniser, "tokeniser", TOKENISERS)
    return 1 if tokeniser in ("chars", "bytes") else 3


def tokenise(text: str, tokeniser: str = "words") -> list[str]:
    r"""Split text into tokens.

    Parameters
    ----------
    text : str
        Any text; for ``"bytes"`` its UTF-8 bytes are the tokens, each written as the character of that number.
    tokeniser : {"words", "whitespace", "chars", "bytes"}
        ``"words"``: Unicode words (with inner apostrophes, hyphens and combining marks), numbers, single punctuation
        marks. ``"whitespace"``: runs of non-space. A line end is the token ``"\n"``, whatever the tokeniser; all but
        ``"bytes"`` read ``\r\n`` and ``\r`` as line ends and leave out a byte order mark at the beginning.

    Returns
    -------
    list of str

    Examples
    --------
    >>> tokenise("It isn't so, he said.")
    ['It', "isn't", 'so', ',', 'he', 'said', '.']
    """
    validate.choice(tokeniser, "tokeniser", TOKENISERS)
    return _splitter(tokeniser, "file")(_as_read(text, tokeniser))


def _as_read(text: str, tokeniser: str) -> str:
    """A text as it would be read from a file."""
    if tokeniser != "bytes":
        return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")
    try:
        return text.encode().decode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(_has_surrogate("text", text, error)) from None


def _has_surrogate(name: str, text: str, error: UnicodeEncodeError) -> str:
    return f"{name} must be what UTF-8 can hold, got the lone surrogate {text[error.start]!r}"


def detokenise(tokens: Iterable[str], tokeniser: str = "words") -> str:
    r"""Join tokens into readable text, the inverse of :func:`tokenise` up to spacing (exact for chars and bytes).

    Line ends of every kind come back as ``"\n"``, but for bytes.

    Parameters
    ----------
    tokens : iterable of str
        ``"\n"`` and ``<eos>`` end a line.
    tokeniser : {"words", "whitespace", "chars", "bytes"}

    Returns
    -------
    str
    """
    joiner = Joiner(tokeniser)
    return "".join([*map(joiner.add, tokens), joiner.finish()])


class Joiner:
    """Joins tokens one at a time, for text that is shown while it is generated.

    Parameters
    ----------
    tokeniser : {"words", "whitespace", "chars", "bytes"}
    """

    _CLOSING = frozenset(".,;:!?%)]}»”’…")
    _OPENING = frozenset("([{«“‘#@$£€¡¿")
    _QUOTES = frozenset("\"'`")

    def __init__(self, tokeniser: str = "words") -> None:
        self.tokeniser = validate.choice(tokeniser, "tokeniser", TOKENISERS)
        self._add = {"words": self._add_word, "whitespace": self._add_spaced}.get(tokeniser, self._add_character)
        self._glue = True  # the next token follows without a space
        self._open_quotes: set[str] = set()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: str) -> str:
        """Return the text that ``token`` adds."""
        if token in (LINE_END, "\n"):
            self._glue = True
            self._open_quotes.clear()
            return self._decoder.decode(b"\n")
        return self._add(token)

    def finish(self) -> str:
        """Return what is still held back: for bytes, a character that was left incomplete."""
        return self._decoder.decode(b"", final=True)

    def _add_spaced(self, token: str) -> str:
        space = "" if self._glue else " "
        self._glue = False
        return space + token

    def _add_word(self, token: str) -> str:
        closes = token in self._CLOSING or token in self._open_quotes
        space = "" if self._glue or closes else " "
        if token in self._QUOTES:
            self._open_quotes ^= {token}
        self._glue = token in self._OPENING or token in self._open_quotes
        return space + token

    def _add_character(self, token: str) -> str:
        if self.tokeniser == "chars":
            return "\ufffd" if token == UNKNOWN else token
        return self._decoder.decode(b"\xff" if token == UNKNOWN else token.encode("latin-1"))


# ---- vocabulary ------------------------------------------------------------------------------------------------------


class Vocabulary:
    """The types of a corpus and their ids: ``<unk>`` is 0, ``<eos>`` is 1, then by descending frequency.

    Parameters
    ----------
    types : iterable of str
        The types from id 2 on, each once.
    tokeniser : {"words", "whitespace", "chars", "bytes"}
        How text becomes tokens.
    documents : {"blank-line", "file"}, optional
        How documents are separated in files; by default ``"file"`` for chars and bytes, else ``"blank-line"``.
    min_count : int
        How often a type was seen at least; kept for the record.

    Attributes
    ----------
    types : list of str, length V
        The type of each id.

    Raises
    ------
    ValueError, TypeError
        If a type stands twice, is no string, or is one that no file can hold (a lone surrogate; for ``"bytes"``,
        anything but one character below 256).
    """

    def __init__(
        self, types: Iterable[str], tokeniser: str = "words", documents: str | None = None, min_count: int = 1
    ) -> None:
        default = default_documents(tokeniser)
        self.tokeniser = tokeniser
        self.documents = validate.choice(documents or default, "documents", DOCUMENTS)
        self.min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
        self.types = [UNKNOWN, LINE_END, *types]
        _check_types(self.types, tokeniser)
        self._ids = dict(zip(self.types, range(len(self.types)), strict=True))
        if len(self._ids) != len(self.types):
            [(repeated, _)] = Counter(self.types).most_common(1)
            raise ValueError(f"types must be distinct and not {UNKNOWN} or {LINE_END}, got {repeated!r} again")
        self._ids |= {"\n": LINE_END_ID, "\n\n": DOCUMENT_END_ID}

    @classmethod
    def build(
        cls,
        token_lists: Iterable[Iterable[str]],
        min_count: int = 1,
        tokeniser: str = "words",
        documents: str | None = None,
    ) -> Vocabulary:
        """Collect the types of a stream of token lists, such as :meth:`Corpus.token_lists`.

        Parameters
        ----------
        token_lists : iterable of iterables of str
            Consumed once, one list at a time.
        min_count : int
            Types seen less often become ``<unk>``.
        tokeniser, documents
            As in :class:`Vocabulary`.

        Returns
        -------
        Vocabulary
            Types by descending frequency, ties by first appearance.
        """
        min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
        counts: Counter[str] = Counter()
        for tokens in token_lists:
            if isinstance(tokens, str):
                raise TypeError("token_lists must yield lists of tokens, got a string; split it with tokenise first")
            counts.update(tokens)
        for special in (UNKNOWN, LINE_END, "\n", "\n\n"):
            del counts[special]
        # Counter keeps the order of first appearance and sorted is stable, so ties fall as they came.
        ranked = sorted(counts.items(), key=lambda item: -item[1])
        return cls([kind for kind, count in ranked if count >= min_count], tokeniser, documents, min_count)

    def __len__(self) -> int:
        return len(self.types)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        """Whether both turn every text into the same ids."""
        if not isinstance(other, Vocabulary):
            return NotImplemented
        mine, theirs = ((v.tokeniser, v.documents, v.types) for v in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]  # as for every container that compares by content

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} types, tokeniser={self.tokeniser!r}, documents={self.documents!r})"

    def encode(self, tokens: Sequence[str]) -> Int32:
        """Return the id of each token; tokens outside the vocabulary are 0, ``<unk>``.

        Parameters
        ----------
        tokens : sequence of str, length M

        Returns
        -------
        ndarray of int32, shape (M,)
        """
        if isinstance(tokens, str):
            raise TypeError("tokens must be a sequence of tokens, got a string; use encode_text")
        ids = self._look_up(tokens)
        return np.abs(ids, out=ids)

    def encode_text(self, text: str) -> tuple[Int32, Int64]:
        """Return the ids of a text and the offsets at which documents begin after the first.

        They are those that :class:`Corpus` gives for a file with this text, but that no ``<eos>`` is added at the end,
        so that a prompt can be continued; where the text ends with a document, the last offset is its length.
        """
        text = _as_read(text, self.tokeniser)
        if self.documents == "blank-line":
            blank = _LEADING_BLANK_LINES.match(text)
            text = _BLANK_LINES.sub("\n\n", text[blank.end() :] if blank else text)
        return self._encode_block(_splitter(self.tokeniser, self.documents)(text))

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the type of each id.

        Raises
        ------
        ValueError, TypeError
            If ids are not integers in [0, V).
        """
        return list(map(self.types.__getitem__, validate.token_ids(ids, "ids", len(self)).tolist()))

    def detokenise(self, ids: ArrayLike) -> str:
        """Return readable text for ids."""
        return detokenise(self.decode(ids), self.tokeniser)

    def unknown_rate(self, ids: ArrayLike) -> float:
        """Return the share of ``<unk>`` among ids, 0 where there are none."""
        ids = validate.token_ids(ids, "ids", len(self))
        return float(np.mean(ids == UNKNOWN_ID)) if ids.size else 0.0

    def _look_up(self, tokens: Sequence[str]) -> Int32:
        return np.fromiter(map(self._ids.get, tokens, repeat(UNKNOWN_ID)), np.int32, len(tokens))

    def _encode_block(self, tokens: Sequence[str]) -> tuple[Int32, Int64]:
        """Ids, and the offsets behind each document end (the last may equal the number of tokens)."""
        ids = self._look_up(tokens)
        starts = np.flatnonzero(ids == DOCUMENT_END_ID) + 1
        return np.abs(ids, out=ids), starts.astype(np.int64)

    def _to_checkpoint(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and metadata of a model file; the types as one run of UTF-8 with V + 1 byte offsets."""
        encoded = [kind.encode() for kind in self.types]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        arrays: dict[str, np.ndarray] = {"types": np.frombuffer(b"".join(encoded), np.uint8), "type_offsets": offsets}
        return arrays, {"tokeniser": self.tokeniser, "documents": self.documents, "min_count": self.min_count}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> Vocabulary:
        blob, offsets = arrays["types"].tobytes(), arrays["type_offsets"]
        if offsets.ndim != 1 or offsets.size < 3 or offsets[0] != 0 or offsets[-1] != len(blob):
            raise checkpoint.Damaged("the offsets of the vocabulary do not fit its types")
        cuts = offsets.tolist()
        types = checkpoint.parse(lambda: [blob[start:end].decode() for start, end in pairwise(cuts)])
        if types[:2] != [UNKNOWN, LINE_END]:
            raise checkpoint.Damaged(f"the vocabulary does not begin with {UNKNOWN} and {LINE_END}")
        settings = (metadata[name] for name in ("tokeniser", "documents", "min_count"))
        return checkpoint.parse(cls, types[2:], *settings)


def _check_types(types: Sequence[Any], tokeniser: str) -> None:
    """Refuse what could not be saved, or not be joined to text."""
    try:
        joined = "".join(types)
    except TypeError:
        other = next(kind for kind in types if not isinstance(kind, str))
        raise TypeError(f"types must be strings, got {other!r}") from None
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        raise ValueError(_has_surrogate("types", joined, error)) from None
    if tokeniser == "bytes":
        other = next((kind for kind in types[2:] if len(kind) != 1 or kind > "\xff"), None)
        if other is not None:
            raise ValueError(f"types of bytes must be single characters below 256, got {other!r}")


class ModelVocabulary:
    """The attribute ``vocabulary`` of a language model: None, or a vocabulary of as many types as the model has.

    The model's ``vocab_size`` may raise ValueError as long as it is not known.
    """

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        return None if model is None else vars(model).get("vocabulary")

    def __set__(self, model: Any, vocabulary: Any) -> None:
        if vocabulary is not None:
            if not isinstance(vocabulary, Vocabulary):
                raise TypeError(f"vocabulary must be a saffu.text.Vocabulary or None, got {type(vocabulary).__name__}")
            self._check_size(model, vocabulary)
        vars(model)["vocabulary"] = vocabulary

    @staticmethod
    def size(vocabulary: Vocabulary | None, vocab_size: int | None) -> int | None:
        """The size that new text of a model shall have: that of its vocabulary, unless there is none."""
        if vocabulary is None or vocab_size is None:
            return vocab_size if vocabulary is None else len(vocabulary)
        if vocab_size != len(vocabulary):
            raise ValueError(f"vocab_size must be {len(vocabulary)}, the size of the vocabulary, got {vocab_size}")
        return vocab_size

    @staticmethod
    def _check_size(model: Any, vocabulary: Vocabulary) -> None:
        try:
            size = model.vocab_size
        except (AttributeError, ValueError):  # not made yet, or has seen no text yet
            return
        if len(vocabulary) != size:
            raise ValueError(f"vocabulary must have {size} types, as the model has, got one of {len(vocabulary)}")


# ---- files -----------------------------------------------------------------------------------------------------------


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
    tokeniser : {"words", "whitespace", "chars", "bytes"}
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
        tokeniser: str = "words",
        documents: str | None = None,
    ) -> None:
        default = default_documents(tokeniser)
        self.tokeniser = tokeniser
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
            if not _is_pipe(path):
                with open(path, "rb") as raw:
                    compressed.stream(raw, _name(path))
        self._empty: set[str] = set()  # files that were found to hold no text
        self._is_part = False

    @property
    def n_bytes(self) -> int | None:
        """Size of the files on disk, or None where standard input or a pipe is among them."""
        return None if any(map(_is_pipe, self.paths)) else sum(map(os.path.getsize, self.paths))

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
            With the tokeniser and the documents of this corpus.
        """
        min_count = default_min_count(self.tokeniser) if min_count is None else min_count
        return Vocabulary.build(self.token_lists(advance), min_count, self.tokeniser, self.documents)

    def token_lists(self, advance: Callable[[int], Any] | None = None) -> Iterator[list[str]]:
        """Iterate over the tokens, one list for each block; see :meth:`chunks`."""
        for _, tokens, _ in self._tokenised_blocks(advance):
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
            the vocabulary belongs to another tokeniser.
        """
        if vocabulary.tokeniser != self.tokeniser:
            raise ValueError(f"vocabulary must be of {self.tokeniser!r} tokens, got one of {vocabulary.tokeniser!r}")
        for begins_document, tokens, n_characters in self._tokenised_blocks(advance):
            ids, starts = vocabulary._encode_block(tokens)
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

    def _tokenised_blocks(self, advance: Callable[[int], Any] | None) -> Iterator[tuple[bool, list[str], int]]:
        """Blocks of tokens: whether a document begins with the block, its tokens, how many characters they are."""
        split = _splitter(self.tokeniser, self.documents)
        empties: list[str] = []
        for path in self.paths:
            document_due, line_due, empty, n_characters = True, True, True, 0
            for text in self._blocks(path, advance):
                if self.documents == "blank-line":
                    blank = _LEADING_BLANK_LINES.match(text) if line_due else None
                    if blank:
                        document_due, text, n_characters = True, text[blank.end() :], 0
                    text = _BLANK_LINES.sub("\n\n", text)
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
        found = [Corpus(path, self.tokeniser, self.documents) for path in self.paths]
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
            raise ValueError(f"{_name(empties[0])} holds no text{others}")
        for path in empties:
            warnings.warn(f"{_name(path)} holds no text and is left out", stacklevel=5)

    def _count_characters(self, text: str) -> int:
        separators = text.count("\n\n") if self.documents == "blank-line" else 0
        if self.tokeniser != "bytes":
            return len(text) - separators
        is_first = np.frombuffer(text.encode("latin-1"), np.uint8) & 0xC0 != 0x80
        return int(np.count_nonzero(is_first)) - separators

    def _blocks(self, path: str, advance: Callable[[int], Any] | None) -> Iterator[str]:
        """Text in blocks cut behind a line end, or at least behind a space; the last one ends with a line end."""
        decode = (lambda data, final: data.decode("latin-1")) if self.tokeniser == "bytes" else _Utf8(_name(path))
        rest, last = "", "\n"
        with self._open(path) as (raw, stream):
            for data, final in _pieces(_name(path), raw, stream, advance):
                text = rest + decode(data, final)
                cut = len(text) if final else _last_cut(text)
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
        if _is_pipe(path):
            raw = self._spool(path)
            yield raw, compressed.stream(raw, _name(path))
        else:
            with open(path, "rb") as raw:
                yield raw, compressed.stream(raw, _name(path))

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


class _Utf8:
    """Incremental UTF-8 decoder that reads every kind of line end as one and says where it failed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bytes = codecs.getincrementaldecoder("utf-8")("strict")
        self.lines = io.IncrementalNewlineDecoder(self.bytes, translate=True)
        self.position, self.line, self.begun = 0, 1, False

    def __call__(self, data: bytes, final: bool) -> str:
        if self.position == 0 and _looks_like_utf16(data):
            raise ValueError(f"{self.name} is not UTF-8 but looks like UTF-16; convert it, or use the bytes tokeniser")
        held_back = self.bytes.getstate()[0]
        try:
            text = self.lines.decode(data, final)
        except UnicodeDecodeError as error:
            position = self.position - len(held_back) + error.start
            line = self.line + (held_back + data)[: error.start].count(b"\n")
            byte = f"byte 0x{error.object[error.start]:02x} at position {position} (line {line})"
            raise ValueError(f"{self.name} is not UTF-8: {byte}; convert it, or use the bytes tokeniser") from None
        if text and not self.begun:
            text, self.begun = text.removeprefix(BYTE_ORDER_MARK), True
        self.position += len(data)
        self.line += data.count(b"\n")
        return text


def _looks_like_utf16(data: bytes) -> bool:
    """Whether data begin with a byte order mark of UTF-16, or have more zero bytes than any text in UTF-8."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or data.count(0) * 100 > len(data)


def _pieces(
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


def _last_cut(text: str) -> int:
    """Where to cut a block so that no line is cut if possible, and no word unless it fills the block."""
    return text.rfind("\n") + 1 or text.rfind(" ") + 1 or len(text)


def _is_pipe(path: str) -> bool:
    """Whether a path is standard input or a pipe: it can be read once only, and opening it to look would break it."""
    return path == STANDARD_INPUT or stat.S_ISFIFO(os.stat(path).st_mode)


def _name(path: str) -> str:
    return "standard input" if path == STANDARD_INPUT else repr(path)

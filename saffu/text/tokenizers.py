"""Text into tokens and back.

A text gives the same tokens whether it comes from a file or as a string: line ends of every kind are one, and a byte
order mark at the beginning is no text. (Bytes are taken as they are.)
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

from saffu.text.special import LINE_END, REPLACEMENT, UNKNOWN
from saffu.text.subword_joiner import SubwordJoiner
from saffu.text.subwords import SubwordTokenizer
from saffu.utils import validate

TOKENIZERS = ("words", "whitespace", "chars", "bytes")
DOCUMENTS = ("blank-line", "line", "file")
BYTE_ORDER_MARK = "\ufeff"

BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
Tokenizer: TypeAlias = str | SubwordTokenizer

# What stands between documents; it is read as one "\n\n".
SEPARATORS = {"blank-line": BLANK_LINES, "line": re.compile(r"\n(?:[^\S\n]*\n)*")}
LEADING_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)+")


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


def _pattern(tokenizer: str) -> str:
    """A regular expression for one token within a line."""
    if tokenizer == "words":
        return _word_pattern()
    return r"\S+" if tokenizer == "whitespace" else r"[^\n]"


def checked_tokenizer(tokenizer: Any) -> Tokenizer:
    """A tokenizer by its name, or that of another library.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    if isinstance(tokenizer, str):
        return validate.choice(tokenizer, "tokenizer", TOKENIZERS)
    return SubwordTokenizer.of(tokenizer)


def has_pieces(tokenizer: Tokenizer) -> bool:
    """Whether tokens are pieces of words: characters, bytes or those of another library."""
    return tokenizer in ("chars", "bytes") or isinstance(tokenizer, SubwordTokenizer)


def splitter(tokenizer: Tokenizer, documents: str) -> Callable[[str], list[str]]:
    """The function that turns a block of text into tokens, line ends and document ends included."""
    if isinstance(tokenizer, str):
        return _splitter(tokenizer, documents)
    line_ends = re.compile(_line_end(documents))

    def split(text: str) -> list[str]:
        ends = [*line_ends.findall(text), ""]
        tokens: list[str] = []
        for line, end in zip(tokenizer.named(line_ends.split(text)), ends, strict=True):
            tokens += line
            tokens.append(end)
        return tokens[:-1]

    return split


def _line_end(documents: str) -> str:
    return r"\n\n?" if documents in SEPARATORS else r"\n"


@cache
def _splitter(tokenizer: str, documents: str) -> Callable[[str], list[str]]:
    """The same of a tokenizer with a name."""
    if tokenizer in ("chars", "bytes") and documents == "file":
        return list
    pattern = _pattern(tokenizer)
    return re.compile(f"{pattern}|{_line_end(documents)}").findall


def default_documents(tokenizer: Any) -> str:
    """How documents are separated by default.

    Parameters
    ----------
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object

    Returns
    -------
    {"blank-line", "file"}
        ``"file"`` for chars and bytes, where every character is a token and blank lines are content.

    Examples
    --------
    >>> default_documents("words")
    'blank-line'
    """
    return "file" if checked_tokenizer(tokenizer) in ("chars", "bytes") else "blank-line"


def default_min_count(tokenizer: Any) -> int:
    """How often a type must be seen by default to be kept.

    Parameters
    ----------
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object

    Returns
    -------
    int
        1 for pieces of words (chars, bytes and tokenizers of other libraries), 3 for words.

    Examples
    --------
    >>> default_min_count("chars")
    1
    """
    return 1 if has_pieces(checked_tokenizer(tokenizer)) else 3


def tokenize(text: str, *, tokenizer: Any = "words") -> list[str]:
    r"""Split text into tokens.

    Parameters
    ----------
    text : str
        Any text; for ``"bytes"`` its UTF-8 bytes are the tokens, each written as the character of that number.
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object
        ``"words"``: Unicode words (with inner apostrophes, hyphens and combining marks), numbers, single punctuation
        marks. ``"whitespace"``: runs of non-space. A line end is the token ``"\n"``, whatever the tokenizer; all but
        ``"bytes"`` read ``\r\n`` and ``\r`` as line ends and leave out a byte order mark at the beginning. Or a
        tokenizer of another library, as in :meth:`SubwordTokenizer.of`: tokens are the names of its pieces.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError, TypeError
        If the tokenizer is not one of these, or shall represent a lone surrogate, but for words and chars.

    Examples
    --------
    >>> tokenize("It isn't so, he said.")
    ['It', "isn't", 'so', ',', 'he', 'said', '.']
    """
    tokenizer = checked_tokenizer(tokenizer)
    return splitter(tokenizer, "file")(as_read(text, tokenizer))


def as_read(text: str, tokenizer: Tokenizer) -> str:
    """A text as it would be read from a file.

    Raises
    ------
    ValueError
        If it has no bytes in UTF-8 (lone surrogates) and the tokenizer is ``"bytes"`` or of another library.
    """
    if tokenizer == "bytes" or not isinstance(tokenizer, str):
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(surrogate_message("text", text, error)) from None
        if tokenizer == "bytes":
            return encoded.decode("latin-1")
    return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")


def document_tokens(text: str, tokenizer: Tokenizer, documents: str, whole: bool = False) -> list[str]:
    """Tokens of a text, line ends and document ends included, as they would be read from a file.

    A file that does not end with a line end is given one; the text only if it is ``whole``.
    """
    if not isinstance(text, str):
        raise TypeError(f"texts must be strings, got {type(text).__name__}")
    text = as_read(text, tokenizer)
    if whole and text and text[-1] != "\n":
        text += "\n"
    if documents in SEPARATORS:
        blank = LEADING_BLANK_LINES.match(text)
        text = SEPARATORS[documents].sub("\n\n", text[blank.end() :] if blank else text)
    return splitter(tokenizer, documents)(text)


def surrogate_message(name: str, text: str, error: UnicodeEncodeError) -> str:
    """The message for a text that no file can hold: it names the lone surrogate."""
    return f"{name} must be what UTF-8 can hold, got the lone surrogate {text[error.start]!r}"


def detokenize(tokens: Iterable[str], *, tokenizer: Any = "words") -> str:
    r"""Join tokens into readable text, the inverse of :func:`tokenize` up to spacing (exact for chars and bytes).

    Pieces of a tokenizer of another library give the text that the library makes of them, line by line.

    Line ends of every kind come back as ``"\n"``, but for bytes.

    Parameters
    ----------
    tokens : iterable of str
        ``"\n"`` and ``<eos>`` end a line.
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object

    Returns
    -------
    str

    Examples
    --------
    >>> detokenize(["It", "isn't", "so", ",", "he", "said", "."])
    "It isn't so, he said."
    """
    tokenizer = checked_tokenizer(tokenizer)
    if isinstance(tokenizer, SubwordTokenizer):
        lines: list[list[str]] = [[]]
        for token in tokens:
            if token in (LINE_END, "\n"):
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(map(tokenizer.text, lines))
    joiner = Joiner(tokenizer)
    return "".join([*map(joiner.add, tokens), joiner.finish()])


class Joiner:
    """Joins tokens one at a time, for text that is shown while it is generated.

    Parameters
    ----------
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object

    Examples
    --------
    >>> joiner = Joiner("words")
    >>> [joiner.add(token) for token in ("Well", ",", "so")]
    ['Well', ',', ' so']
    """

    _CLOSING = frozenset(".,;:!?%)]}»”’…")
    _OPENING = frozenset("([{«“‘#@$£€¡¿")
    _QUOTES = frozenset("\"'`")

    def __init__(self, tokenizer: Any = "words") -> None:
        self.tokenizer = checked_tokenizer(tokenizer)
        self._pieces = SubwordJoiner(self.tokenizer) if isinstance(self.tokenizer, SubwordTokenizer) else None
        known = {"words": self._add_word, "whitespace": self._add_spaced}
        self._add = known.get(str(self.tokenizer), self._add_character)
        self._glue = True  # the next token follows without a space
        self._open_quotes: set[str] = set()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: str) -> str:
        """Return the text that ``token`` adds."""
        if self._pieces is not None:
            return self._pieces.add(token)
        if token in (LINE_END, "\n"):
            self._glue = True
            self._open_quotes.clear()
            return self._decoder.decode(b"\n")
        return self._add(token)

    def finish(self) -> str:
        """Return what is still held back: a character that was left incomplete."""
        if self._pieces is not None:
            return self._pieces.finish()
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
        if self.tokenizer == "chars":
            return REPLACEMENT if token == UNKNOWN else token
        return self._decoder.decode(b"\xff" if token == UNKNOWN else token.encode("latin-1"))

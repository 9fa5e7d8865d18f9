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

from saffu.utils import validate

UNKNOWN, LINE_END = "<unk>", "<eos>"
TOKENIZERS = ("words", "whitespace", "chars", "bytes")
DOCUMENTS = ("blank-line", "line", "file")
BYTE_ORDER_MARK = "\ufeff"

BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
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


@cache
def splitter(tokenizer: str, documents: str) -> Callable[[str], list[str]]:
    """The function that turns a block of text into tokens, line ends and document ends included."""
    if tokenizer in ("chars", "bytes") and documents == "file":
        return list
    pattern = _pattern(tokenizer)
    line_end = r"\n\n?" if documents in SEPARATORS else r"\n"
    return re.compile(f"{pattern}|{line_end}").findall


def default_documents(tokenizer: str) -> str:
    """How documents are separated by default.

    Parameters
    ----------
    tokenizer : {"words", "whitespace", "chars", "bytes"}

    Returns
    -------
    {"blank-line", "file"}
        ``"file"`` for chars and bytes, where every character is a token and blank lines are content.

    Examples
    --------
    >>> default_documents("words")
    'blank-line'
    """
    validate.choice(tokenizer, "tokenizer", TOKENIZERS)
    return "file" if tokenizer in ("chars", "bytes") else "blank-line"


def default_min_count(tokenizer: str) -> int:
    """How often a type must be seen by default to be kept.

    Parameters
    ----------
    tokenizer : {"words", "whitespace", "chars", "bytes"}

    Returns
    -------
    int
        1 for chars and bytes, 3 for words.

    Examples
    --------
    >>> default_min_count("chars")
    1
    """
    validate.choice(tokenizer, "tokenizer", TOKENIZERS)
    return 1 if tokenizer in ("chars", "bytes") else 3


def tokenize(text: str, *, tokenizer: str = "words") -> list[str]:
    r"""Split text into tokens.

    Parameters
    ----------
    text : str
        Any text; for ``"bytes"`` its UTF-8 bytes are the tokens, each written as the character of that number.
    tokenizer : {"words", "whitespace", "chars", "bytes"}
        ``"words"``: Unicode words (with inner apostrophes, hyphens and combining marks), numbers, single punctuation
        marks. ``"whitespace"``: runs of non-space. A line end is the token ``"\n"``, whatever the tokenizer; all but
        ``"bytes"`` read ``\r\n`` and ``\r`` as line ends and leave out a byte order mark at the beginning.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If the tokenizer is not one of these, or ``"bytes"`` shall represent a lone surrogate.

    Examples
    --------
    >>> tokenize("It isn't so, he said.")
    ['It', "isn't", 'so', ',', 'he', 'said', '.']
    """
    validate.choice(tokenizer, "tokenizer", TOKENIZERS)
    return splitter(tokenizer, "file")(as_read(text, tokenizer))


def as_read(text: str, tokenizer: str) -> str:
    """A text as it would be read from a file.

    Raises
    ------
    ValueError
        If it has no bytes in UTF-8 (lone surrogates) and the tokenizer is ``"bytes"``.
    """
    if tokenizer != "bytes":
        return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")
    try:
        return text.encode().decode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(surrogate_message("text", text, error)) from None


def document_tokens(text: str, tokenizer: str, documents: str, whole: bool = False) -> list[str]:
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


def detokenize(tokens: Iterable[str], *, tokenizer: str = "words") -> str:
    r"""Join tokens into readable text, the inverse of :func:`tokenize` up to spacing (exact for chars and bytes).

    Line ends of every kind come back as ``"\n"``, but for bytes.

    Parameters
    ----------
    tokens : iterable of str
        ``"\n"`` and ``<eos>`` end a line.
    tokenizer : {"words", "whitespace", "chars", "bytes"}

    Returns
    -------
    str

    Examples
    --------
    >>> detokenize(["It", "isn't", "so", ",", "he", "said", "."])
    "It isn't so, he said."
    """
    joiner = Joiner(tokenizer)
    return "".join([*map(joiner.add, tokens), joiner.finish()])


class Joiner:
    """Joins tokens one at a time, for text that is shown while it is generated.

    Parameters
    ----------
    tokenizer : {"words", "whitespace", "chars", "bytes"}

    Examples
    --------
    >>> joiner = Joiner("words")
    >>> [joiner.add(token) for token in ("Well", ",", "so")]
    ['Well', ',', ' so']
    """

    _CLOSING = frozenset(".,;:!?%)]}»”’…")
    _OPENING = frozenset("([{«“‘#@$£€¡¿")
    _QUOTES = frozenset("\"'`")

    def __init__(self, tokenizer: str = "words") -> None:
        self.tokenizer = validate.choice(tokenizer, "tokenizer", TOKENIZERS)
        self._add = {"words": self._add_word, "whitespace": self._add_spaced}.get(tokenizer, self._add_character)
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
        if self.tokenizer == "chars":
            return "\ufffd" if token == UNKNOWN else token
        return self._decoder.decode(b"\xff" if token == UNKNOWN else token.encode("latin-1"))

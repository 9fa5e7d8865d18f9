"""Tokenizers of other libraries, whose tokens are pieces of words: Hugging Face ``tokenizers``, ``sentencepiece``, any.

Decisions. A line is tokenized at a time and line ends are tokens of their own, as with every other tokenizer: what ends
a line in the text of a model is ``<eos>``, whatever its tokenizer. No tokens are added that stand for no text, such as
those that begin a sentence for a neural network. A piece is known by the name that its library gives it; that for
unknown text is ``<unk>``. A vocabulary has every piece of its tokenizer, seen or not. A line of a file of more than
four million characters is cut behind a space, and its parts are tokenized one by one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from os import PathLike, fspath
from typing import Any

from saffu.text.special import REPLACEMENT, UNKNOWN
from saffu.utils import validate

LEAST_PIECES = 257  # of byte pair encoding: a piece for each byte, and one more
MOST_PIECES = 1 << 24
LIBRARIES = ("tokenizers", "sentencepiece")  # whose tokenizers a model file can hold


class SubwordTokenizer(ABC):
    """A tokenizer of another library: made by :meth:`of` or :meth:`read`, or trained by :meth:`train_bpe`.

    Attributes
    ----------
    library : str
        Whose it is.
    pieces : list of str
        The names of all pieces that text can be made of, where they are known.
    path : str or None
        The file that it was read from.

    Examples
    --------
    >>> tokenizer = SubwordTokenizer.train_bpe(["low lower lowest"] * 9, vocab_size=260)
    >>> ids = tokenizer.encode(["lower"])[0]
    >>> tokenizer.decode(ids)
    'lower'
    """

    library: str
    path: str | None = None

    def __init__(self, names: dict[int, str], *, unknown: int | None, hidden: Iterable[int] = ()) -> None:
        self._names, self._unknown = names, unknown
        if unknown is not None:
            names[unknown] = UNKNOWN
        without = {*hidden}
        self.pieces = [name for number, name in names.items() if number not in without and number != unknown]
        self._numbers = {name: number for number, name in names.items()}

    # ---- where they come from ----------------------------------------------------------------------------------------

    @staticmethod
    def of(tokenizer: Any) -> SubwordTokenizer:
        """A tokenizer of any library.

        Parameters
        ----------
        tokenizer : object
            Of ``tokenizers``, ``sentencepiece`` or ``transformers``; or any that has ``encode(text).ids``, or gives
            ``tokenizer(text)["input_ids"]``, and ``decode(ids)`` to join text. A model file holds those of the three
            libraries but for those of ``transformers`` that are written in Python.

        Returns
        -------
        SubwordTokenizer
            Of a copy, where that can be stored; so later changes do not matter.

        Raises
        ------
        TypeError
            If it is none of these.
        """
        if isinstance(tokenizer, SubwordTokenizer):
            return tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if hasattr(backend, "to_str") and hasattr(backend, "encode_batch"):
            return HuggingFaceTokenizer(backend.to_str())
        if hasattr(tokenizer, "serialized_model_proto"):
            return SentencePieceTokenizer(tokenizer.serialized_model_proto())
        return OtherTokenizer(tokenizer)

    @staticmethod
    def read(path: str | PathLike[str]) -> SubwordTokenizer:
        """Read a file ``.json`` of Hugging Face tokenizers, or ``.model`` of sentencepiece.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is no tokenizer, or its name ends otherwise.
        ImportError
            If its library is not installed; the extra ``tokenizers`` installs it.
        """
        path = fspath(path)
        kinds = {".json": "tokenizers", ".model": "sentencepiece"}
        library = next((library for suffix, library in kinds.items() if path.endswith(suffix)), None)
        if library is None:
            raise ValueError(f"path must end with {' or '.join(kinds)}, got {path!r}")
        with open(path, "rb") as file:
            stored = file.read()
        try:
            found = restored(library, stored)
        except ValueError as error:
            raise ValueError(f"{path!r} is no tokenizer of {library}: {error}") from error
        found.path = path
        return found

    @staticmethod
    def train_bpe(texts: Iterable[str], *, vocab_size: int) -> SubwordTokenizer:
        """Byte pair encoding of a text, trained by the library ``tokenizers``: no text is unknown to it.

        Parameters
        ----------
        texts : iterable of str
            Any number of lines each.
        vocab_size : int
            How many pieces there may be, from 257 on.

        Raises
        ------
        ImportError
            If ``tokenizers`` is not installed.
        """
        vocab_size = validate.integer(vocab_size, "vocab_size", LEAST_PIECES, MOST_PIECES)
        library = _tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator((text.split("\n") for text in texts), trainer)
        return HuggingFaceTokenizer(tokenizer.to_str())

    # ---- text to pieces and back -------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The library's number of each piece of each line."""

    @abstractmethod
    def decode(self, numbers: Sequence[int]) -> str:
        """The text of pieces of a line."""

    @abstractmethod
    def store(self) -> bytes:
        """The tokenizer as bytes, of which :func:`restored` makes it again; ValueError if that cannot be."""

    def named(self, lines: Sequence[str]) -> Iterator[list[str]]:
        """The names of the pieces of each line."""
        for numbers in self.encode(lines):
            yield [self._name(number) for number in numbers]

    def text(self, names: Iterable[str]) -> str:
        """The text of a line of pieces; for what is unknown, if the library has no text for it, a replacement."""
        parts = []
        for known, group in groupby(map(self._number, names), lambda number: number is not None):
            numbers = [number for number in group if number is not None]
            parts.append(self.decode(numbers) if known else REPLACEMENT)
        return "".join(parts)

    def texts_within(self, names: Iterable[str]) -> list[str]:
        """The text that each piece adds to a line in which it does not come first."""
        before = next((piece for piece in self.pieces if self.text([piece]).isalpha()), None)
        if before is None:
            return [self.text([name]) for name in names]
        first = len(self.text([before]))
        return [self.text([before, name])[first:] for name in names]

    def _name(self, number: int) -> str:
        name = self._names.get(number)
        return str(number) if name is None else name

    def _number(self, name: str) -> int | None:
        return self._numbers.get(name)

    # ---- what it is --------------------------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        return restored, (self.library, self.store())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, type(self)) and self.store() == other.store()

    def __hash__(self) -> int:
        return hash((self.library, len(self._names)))

    def __str__(self) -> str:
        return f"{self.library}, {len(self._names)} pieces"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._names)} pieces>"


class HuggingFaceTokenizer(SubwordTokenizer):
    """A tokenizer of the library ``tokenizers``.

    Parameters
    ----------
    stored : str
        Its JSON.
    """

    library = "tokenizers"

    def __init__(self, stored: str) -> None:
        Tokenizer = _tokenizers().Tokenizer
        try:
            self._tokenizer = Tokenizer.from_str(stored)
        except Exception as error:  # the library raises nothing more special
            raise ValueError(str(error)) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._stored: str = self._tokenizer.to_str()
        known = self._tokenizer.get_vocab(with_added_tokens=True)
        names = {number: name for name, number in sorted(known.items(), key=lambda pair: pair[1])}
        model = json.loads(self._stored)["model"]
        unknown = known.get(model.get("unk_token"), model.get("unk_id"))
        added = self._tokenizer.get_added_tokens_decoder()
        special = (number for number, token in added.items() if token.special)
        super().__init__(names, unknown=unknown, hidden=special)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The number of each piece of each line."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(lines, add_special_tokens=False)]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of pieces of a line."""
        text: str = self._tokenizer.decode(numbers, skip_special_tokens=False)
        return text

    def store(self) -> bytes:
        """Its JSON."""
        return self._stored.encode()


class SentencePieceTokenizer(SubwordTokenizer):
    """A tokenizer of ``sentencepiece``.

    Parameters
    ----------
    stored : bytes
        What a file ``.model`` holds.
    """

    library = "sentencepiece"

    def __init__(self, stored: bytes) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise _missing("sentencepiece") from error
        if not stored:
            raise ValueError("it is empty")
        self._stored = stored
        try:
            self._processor = SentencePieceProcessor(model_proto=stored)
        except (RuntimeError, OSError) as error:
            raise ValueError(str(error)) from error
        numbers = range(self._processor.get_piece_size())
        names = {number: self._processor.id_to_piece(number) for number in numbers}
        no_text = (self._processor.is_control, self._processor.is_unused)
        hidden = (number for number in numbers if any(test(number) for test in no_text))
        super().__init__(names, unknown=self._processor.unk_id(), hidden=hidden)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The number of each piece of each line."""
        found: list[list[int]] = self._processor.encode(list(lines), out_type=int)
        return found

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of pieces of a line."""
        text: str = self._processor.decode(list(numbers))
        return text

    def store(self) -> bytes:
        """What a file ``.model`` holds."""
        return self._stored


class OtherTokenizer(SubwordTokenizer):
    """Any object that turns text into numbers; its pieces are named by these.

    Parameters
    ----------
    tokenizer : object
        As in :meth:`SubwordTokenizer.of`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.library = tokenizer, type(tokenizer).__name__
        if not callable(tokenizer) and not hasattr(tokenizer, "encode"):
            raise TypeError(
                "tokenizer must be a name, or have encode(text).ids or (text)['input_ids'], "
                f"got {type(tokenizer).__name__}"
            )
        size = len(tokenizer) if hasattr(tokenizer, "__len__") else getattr(tokenizer, "vocab_size", 0)
        names = {number: str(number) for number in range(size)}
        unknown, hidden = getattr(tokenizer, "unk_token_id", None), getattr(tokenizer, "all_special_ids", ())
        super().__init__(names, unknown=unknown, hidden=hidden)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The number of each piece of each line."""
        return [[int(number) for number in self._line(line)] for line in lines]

    def _line(self, line: str) -> Iterable[Any]:
        if callable(self._tokenizer):
            settings = {"add_special_tokens": False} if hasattr(self._tokenizer, "all_special_ids") else {}
            found: Iterable[Any] = self._tokenizer(line, **settings)["input_ids"]
            return found
        numbers: Iterable[Any] = self._tokenizer.encode(line).ids
        return numbers

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of pieces of a line."""
        if not hasattr(self._tokenizer, "decode"):
            raise TypeError(f"tokenizer must have decode(ids) to join text, {self.library} has none")
        text: str = self._tokenizer.decode(list(numbers))
        return text

    def _number(self, name: str) -> int | None:
        return self._unknown if name == UNKNOWN else int(name) if name.isdecimal() else None

    def store(self) -> bytes:
        """Raise ValueError: what it is made of is not known."""
        raise ValueError(
            "a model file can hold tokenizers of the libraries tokenizers, sentencepiece and transformers (those it "
            f"calls fast), but not {self.library}; to save the model without one, set its vocabulary to None"
        )

    def __reduce__(self) -> Any:
        return OtherTokenizer, (self._tokenizer,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OtherTokenizer) and self._tokenizer == other._tokenizer

    __hash__ = SubwordTokenizer.__hash__


def restored(library: str, stored: bytes) -> SubwordTokenizer:
    """A tokenizer of what :meth:`SubwordTokenizer.store` returned.

    Raises
    ------
    ValueError
        If it is none of the library, or the library is none whose tokenizers can be stored.
    ImportError
        If the library is not installed.
    """
    if library == "tokenizers":
        try:
            text = stored.decode()
        except UnicodeDecodeError as error:
            raise ValueError(str(error)) from error
        return HuggingFaceTokenizer(text)
    if library == "sentencepiece":
        return SentencePieceTokenizer(stored)
    raise ValueError(f"tokenizer must be of one of {', '.join(LIBRARIES)}, got one of {library!r}")


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise _missing("tokenizers") from error
    return tokenizers


def _missing(library: str) -> ImportError:
    return ImportError(f"{library} is not installed; pip install 'saffu[tokenizers]' installs it")

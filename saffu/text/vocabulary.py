"""The types of a text and their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.text.special import LINE_END, UNKNOWN
from saffu.text.subwords import SubwordTokenizer, restored
from saffu.text.tokenizers import (
    DOCUMENTS,
    Tokenizer,
    checked_tokenizer,
    default_documents,
    detokenize,
    document_tokens,
    has_pieces,
    surrogate_message,
)
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Int32, Int64

UNKNOWN_ID, LINE_END_ID = 0, 1
NO_TYPES = (UNKNOWN, LINE_END, "\n", "\n\n")  # tokens that stand for types outside the vocabulary, or for line ends
DOCUMENT_END_ID = -1  # within one block only: a line end after which a document begins; abs() makes it LINE_END_ID


class Vocabulary:
    """The types of a corpus and their ids: ``<unk>`` is 0, ``<eos>`` is 1, then by descending frequency.

    Parameters
    ----------
    types : iterable of str
        The types from id 2 on, each once.
    tokenizer : {"words", "whitespace", "chars", "bytes"} or object
        How text becomes tokens; or a tokenizer of another library, as in :meth:`SubwordTokenizer.of`.
    documents : {"blank-line", "line", "file"}, optional
        How documents are separated in files; by default ``"file"`` for chars and bytes, else ``"blank-line"``.
    min_count : int
        How often a type was seen at least; kept for the record.

    Attributes
    ----------
    types : list of str, length V
        The type of each id.
    tokenizer : str or SubwordTokenizer
    documents : str
    min_count : int

    Raises
    ------
    ValueError, TypeError
        If a type occurs twice, is no string, or is one that no file can hold (a lone surrogate; for ``"bytes"``,
        anything but one character below 256).

    Examples
    --------
    >>> vocabulary = Vocabulary(["cat", "sat"])
    >>> vocabulary.types
    ['<unk>', '<eos>', 'cat', 'sat']
    >>> vocabulary.encode(["cat", "flew"]).tolist()
    [2, 0]
    """

    def __init__(
        self, types: Iterable[str], *, tokenizer: Any = "words", documents: str | None = None, min_count: int = 1
    ) -> None:
        self.tokenizer = checked_tokenizer(tokenizer)
        default = default_documents(self.tokenizer)
        self.documents = validate.choice(documents or default, "documents", DOCUMENTS)
        self.min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
        self.types = [UNKNOWN, LINE_END, *types]
        _check_types(self.types, tokenizer)
        self._ids = dict(zip(self.types, range(len(self.types)), strict=True))
        if len(self._ids) != len(self.types):
            [(repeated, _)] = Counter(self.types).most_common(1)
            raise ValueError(f"types must be distinct and not {UNKNOWN} or {LINE_END}, got {repeated!r} again")
        self._ids |= {"\n": LINE_END_ID, "\n\n": DOCUMENT_END_ID}

    @classmethod
    def build(
        cls,
        token_lists: Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        tokenizer: Any = "words",
        documents: str | None = None,
    ) -> Vocabulary:
        """Collect the types of a stream of token lists, such as :meth:`Corpus.token_lists`.

        Parameters
        ----------
        token_lists : iterable of iterables of str
            Consumed once, one list at a time.
        min_count : int
            Types seen less often become ``<unk>``.
        tokenizer, documents
            As in :class:`Vocabulary`.

        Returns
        -------
        Vocabulary
            Types by descending frequency, ties by first appearance; then the other pieces of a tokenizer of another
            library, unless ``min_count`` is above 1.

        Raises
        ------
        ValueError, TypeError
            If ``min_count`` is not a positive integer, or the lists are strings.

        Examples
        --------
        >>> Vocabulary.build([["a", "b"], ["b"]]).types
        ['<unk>', '<eos>', 'b', 'a']
        """
        counts: Counter[str] = Counter()
        for tokens in token_lists:
            if isinstance(tokens, str):
                raise TypeError("token_lists must yield lists of tokens, got a string; split it with tokenize first")
            counts.update(tokens)
        return cls.from_counts(counts, min_count=min_count, tokenizer=tokenizer, documents=documents)

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], *, min_count: int = 1, tokenizer: Any = "words", documents: str | None = None
    ) -> Vocabulary:
        """The types of a text of which is known how often each was seen.

        Parameters
        ----------
        counts : mapping of str to int
            Line ends and special tokens in it are passed over.
        min_count, tokenizer, documents
            As in :meth:`build`.

        Returns
        -------
        Vocabulary
            Types by descending frequency, ties in the order of the mapping.

        Raises
        ------
        ValueError, TypeError
            If ``min_count`` is not a positive integer, or a type is none; see :class:`Vocabulary`.

        Examples
        --------
        >>> Vocabulary.from_counts({"a": 1, "b": 5, "c": 2}, min_count=2).types
        ['<unk>', '<eos>', 'b', 'c']
        """
        min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
        frequent = [(kind, n) for kind, n in counts.items() if n >= min_count and kind not in NO_TYPES]
        # Counter keeps the order of first appearance and sorted is stable, so ties fall as they came.
        types = [kind for kind, _ in sorted(frequent, key=lambda item: -item[1])]
        tokenizer = checked_tokenizer(tokenizer)
        types += unseen_pieces(tokenizer, types, min_count)
        return cls(types, tokenizer=tokenizer, documents=documents, min_count=min_count)

    def __len__(self) -> int:
        return len(self.types)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        """Whether both turn every text into the same ids."""
        if not isinstance(other, Vocabulary):
            return NotImplemented
        mine, theirs = ((v.tokenizer, v.documents, v.types) for v in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]  # as for every container that compares by content

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} types, tokenizer={self.tokenizer!r}, documents={self.documents!r})"

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

        Parameters
        ----------
        text : str

        Returns
        -------
        ids : ndarray of int32, shape (M,)
        starts : ndarray of int64

        Raises
        ------
        ValueError
            If the tokenizer is ``"bytes"`` and the text holds a lone surrogate.

        Examples
        --------
        >>> ids, starts = Vocabulary(["a", "b"]).encode_text("a b")
        >>> ids.tolist(), starts.tolist()
        ([2, 3], [])
        """
        return self.encode_block(document_tokens(text, self.tokenizer, self.documents))

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the type of each id.

        Parameters
        ----------
        ids : array_like of int, shape (M,)

        Returns
        -------
        list of str, length M

        Raises
        ------
        ValueError, TypeError
            If ids are not integers in [0, V).
        """
        return list(map(self.types.__getitem__, validate.token_ids(ids, "ids", len(self)).tolist()))

    def detokenize(self, ids: ArrayLike) -> str:
        r"""Return readable text for ids.

        Parameters
        ----------
        ids : array_like of int, shape (M,)

        Returns
        -------
        str

        Examples
        --------
        >>> Vocabulary(["a", "b"]).detokenize([2, 3, 1, 2])
        'a b\na'
        """
        return detokenize(self.decode(ids), tokenizer=self.tokenizer)

    @property
    def has_pieces(self) -> bool:
        """Whether tokens are pieces of words: characters, bytes or those of another library."""
        return has_pieces(self.tokenizer)

    def type_texts(self) -> list[str]:
        """What each type adds to a line in which it does not come first, length V."""
        if isinstance(self.tokenizer, SubwordTokenizer):
            return self.tokenizer.texts_within(self.types)
        return self.types if self.has_pieces else [f" {kind}" for kind in self.types]

    def unknown_rate(self, ids: ArrayLike) -> float:
        """Return the share of ``<unk>`` among ids, 0 where there are no ids.

        Parameters
        ----------
        ids : array_like of int, shape (M,)

        Returns
        -------
        float
            In [0, 1].
        """
        ids = validate.token_ids(ids, "ids", len(self))
        return float(np.mean(ids == UNKNOWN_ID)) if ids.size else 0.0

    def _look_up(self, tokens: Sequence[str]) -> Int32:
        return np.fromiter(map(self._ids.get, tokens, repeat(UNKNOWN_ID)), np.int32, len(tokens))

    def encode_block(self, tokens: Sequence[str]) -> tuple[Int32, Int64]:
        """Ids, and the offsets behind each document end (the last may equal the number of tokens)."""
        ids = self._look_up(tokens)
        starts = np.flatnonzero(ids == DOCUMENT_END_ID) + 1
        return np.abs(ids, out=ids), starts.astype(np.int64)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and metadata of a model file; the types as one run of UTF-8 with V + 1 byte offsets."""
        encoded = [kind.encode() for kind in self.types]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        arrays: dict[str, Array] = {"types": np.frombuffer(b"".join(encoded), np.uint8), "type_offsets": offsets}
        name = self.tokenizer
        if isinstance(name, SubwordTokenizer):
            arrays["tokenizer"] = np.frombuffer(name.store(), np.uint8)
            name = name.library
        return arrays, {"tokenizer": name, "documents": self.documents, "min_count": self.min_count}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Vocabulary:
        blob, offsets = arrays["types"].tobytes(), arrays["type_offsets"]
        if offsets.ndim != 1 or offsets.size < 3 or offsets[0] != 0 or offsets[-1] != len(blob):
            raise checkpoint.Damaged("the offsets of the vocabulary do not fit its types")
        cuts = offsets.tolist()
        types = checkpoint.parse(lambda: [blob[start:end].decode() for start, end in pairwise(cuts)])
        if types[:2] != [UNKNOWN, LINE_END]:
            raise checkpoint.Damaged(f"the vocabulary does not begin with {UNKNOWN} and {LINE_END}")
        tokenizer = metadata["tokeniser" if "tokeniser" in metadata else "tokenizer"]  # files of before spell it so
        if "tokenizer" in arrays:
            tokenizer = checkpoint.parse(restored, tokenizer, arrays["tokenizer"].tobytes())
        settings = {name: metadata[name] for name in ("documents", "min_count")}
        return checkpoint.parse(cls, types[2:], tokenizer=tokenizer, **settings)


def unseen_pieces(tokenizer: Tokenizer, seen: Iterable[str], min_count: int) -> list[str]:
    """Pieces of a tokenizer of another library that are types, although they were not seen in a text."""
    if isinstance(tokenizer, str) or min_count > 1:
        return []
    known = {*seen, *NO_TYPES}
    return [piece for piece in tokenizer.pieces if piece not in known]


def _check_types(types: Sequence[Any], tokenizer: Tokenizer) -> None:
    """Refuse what could not be saved, or not be joined to text."""
    try:
        joined = "".join(types)
    except TypeError:
        other = next(kind for kind in types if not isinstance(kind, str))
        raise TypeError(f"types must be strings, got {other!r}") from None
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        raise ValueError(surrogate_message("types", joined, error)) from None
    if tokenizer == "bytes":
        other = next((kind for kind in types[2:] if len(kind) != 1 or kind > "\xff"), None)
        if other is not None:
            raise ValueError(f"types of bytes must be single characters below 256, got {other!r}")


class ModelVocabulary:
    """The attribute ``vocabulary`` of a language model: None, or a vocabulary of as many types as the model has.

    The model's ``vocab_size`` may raise ValueError as long as it is not known.

    Examples
    --------
    >>> class Model:
    ...     vocabulary = ModelVocabulary()
    ...     vocab_size = 3
    >>> model = Model()
    >>> model.vocabulary = Vocabulary(["cat"])
    >>> model.vocabulary = Vocabulary(["cat", "dog"])
    Traceback (most recent call last):
    ValueError: vocabulary must have 3 types, as the model has, got one of 4
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
    def size(vocabulary: Vocabulary | None, vocab_size: int | None, /) -> int | None:
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

"""Texts as sparse rows of counted n-grams, which are known by 64-bit hashes.

No token is made in Python, and no vocabulary of strings is kept: a text becomes bytes, and a kernel makes the hashes of
its n-grams (``_core/src/ngrams.c``). The tokens are those of :func:`saffu.text.tokenize` but for line ends.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from saffu import _core
from saffu.text import TOKENIZERS, tokenize
from saffu.utils import validate
from saffu.utils.arrays import Int32, Int64, UInt64
from saffu.utils.sparse import SparseRows

WORD, DIGIT, SPACE, MARK, OTHER = 1, 2, 4, 8, 16  # classes of characters, as the kernel knows them
ALL_BITS = 2**64 - 1
BATCH_BYTES = 1 << 25  # of text, whose hashes are held at once


class Ngrams(NamedTuple):
    """Which n-grams of a text are its features.

    Attributes
    ----------
    longest : int
        Tokens of the longest; all shorter ones are features, too.
    tokenizer : {"words", "whitespace", "chars", "bytes"}
    lowercase : bool
        Whether capital and small letters are one.
    bits : int
        Bits of a hash that are kept: 64, or fewer, so that there are at most ``2**bits`` features.
    """

    longest: int
    tokenizer: str
    lowercase: bool
    bits: int

    @classmethod
    def of(cls, ngrams: Any, tokenizer: Any, lowercase: Any, buckets: Any) -> Ngrams:
        """Checked settings of a classifier; the number of buckets is rounded up to a power of two."""
        longest = validate.integer(ngrams, "ngrams", 1, _core.MAX_NGRAM)
        validate.choice(tokenizer, "tokenizer", TOKENIZERS)
        if not isinstance(lowercase, (bool, np.bool_)):
            raise TypeError(f"lowercase must be True or False, got {lowercase!r}")
        bits = 64
        if buckets is not None:
            bits = (validate.integer(buckets, "buckets", 2, 2**31 - 1) - 1).bit_length()
        return cls(longest, tokenizer, bool(lowercase), bits)

    def hashes(self, texts: Sequence[str], n_threads: int) -> tuple[Int64, UInt64]:
        """Hashes of the n-grams of all texts, and where those of each begin: of each token those that end with it."""
        pieces = [text.lower() for text in texts] if self.lowercase else texts
        encoded = [piece.encode("utf-8", "surrogatepass") for piece in pieces]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        together = np.frombuffer(b"".join(encoded), np.uint8)
        mask = ALL_BITS ^ (ALL_BITS >> self.bits)
        kind = TOKENIZERS.index(self.tokenizer)
        return _core.hash_ngrams(together, offsets, character_classes(), kind, self.longest, mask, n_threads)

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text, whose n-grams are its features."""
        found = tokenize(text.lower() if self.lowercase else text, tokenizer=self.tokenizer)
        return [token for token in found if token != "\n" or self.tokenizer in ("chars", "bytes")]


def texts_of(values: Any, owner: str) -> list[str]:
    """A list of texts from what a user gives: a list, an array of strings or a column of a table.

    Raises
    ------
    TypeError
        If it is a single string, or holds anything else than strings.
    """
    if isinstance(values, (str, bytes)):
        raise TypeError(f"X must be a list of texts, got one {type(values).__name__}; put it into a list")
    if getattr(values, "ndim", 1) != 1:
        raise ValueError(f"X must be a vector of texts, got an array of {values.ndim} dimensions: Reshape your data")
    if not isinstance(values, Iterable):
        raise TypeError(f"X must be a list of texts, got {type(values).__name__}")
    texts = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"X must hold strings, as {owner} reads texts; got {text!r} at position {place}")
    return texts


def batches_of(texts: Sequence[str]) -> list[slice]:
    """Consecutive texts whose hashes may be held at once."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    if not ends.size:
        return [slice(0, 0)]
    wanted = np.arange(BATCH_BYTES, int(ends[-1]) + BATCH_BYTES, BATCH_BYTES)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(ends, wanted, side="left") + 1, [ends.size]]))
    cuts = cuts[cuts <= ends.size]
    return [slice(int(a), int(b)) for a, b in pairwise(cuts)]


@cache
def character_classes() -> NDArray[np.uint8]:
    r"""The class of every character: of words, digits and white space as of ``\w``, ``\d`` and ``\s``, and marks."""
    classes = np.full(_core.N_CODES, OTHER, np.uint8)
    classes[[ord(mark) for mark in combining_marks()]] = MARK
    characters = np.arange(_core.N_CODES, dtype=np.uint32).view("U1")
    classes[np.char.isalnum(characters)] = WORD
    classes[np.char.isdecimal(characters)] |= DIGIT
    classes[np.char.isspace(characters)] = SPACE
    classes[ord("_")] = WORD
    return classes


def combining_marks() -> Iterator[str]:
    """What :func:`saffu.text.tokenize` takes for a part of the word before it, though it is no letter."""
    for code in range(0x300, 0x20000):
        if unicodedata.category(chr(code))[0] == "M" or code in (0x200C, 0x200D):
            yield chr(code)


class Known:
    """The n-grams that are features, by their hashes.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (D,)
        Distinct, one for each column; ascending or not.
    """

    def __init__(self, hashes: UInt64) -> None:
        self.hashes_by_column = hashes
        in_order = bool((hashes[1:] > hashes[:-1]).all())
        self._order: Int32 | None = None if in_order else np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = np.ascontiguousarray(hashes if self._order is None else hashes[self._order])
        if (self._hashes[1:] <= self._hashes[:-1]).any():
            raise ValueError("the hashes of n-grams must be distinct")
        bits = max(hashes.size - 1, 0).bit_length()
        bounds = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else np.empty(0, np.uint64)
        inner = np.searchsorted(self._hashes, bounds)
        self._first: Int32 = np.concatenate([[0], inner, [hashes.size]]).astype(np.int32)

    def rows(self, indptr: Int64, hashes: UInt64, n_threads: int) -> SparseRows:
        """How often each of the known n-grams occurs in each text, float32; those of a row as they first occur."""
        lengths, indices, counts = _core.match_ngrams(indptr, hashes, self._hashes, self._first, n_threads)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        begins = np.ascontiguousarray(indptr[:-1])
        taken, data = _core.take_rows(begins, ends, indices, counts, n_threads)
        columns = taken if self._order is None else self._order[taken]
        return SparseRows(ends, columns, data, self._hashes.size, n_threads)

    def columns(self, hashes: UInt64) -> Int64:
        """The column of each hash, or -1."""
        if not self._hashes.size:
            return np.full(hashes.size, -1)
        places = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        columns = places if self._order is None else self._order[places].astype(np.int64)
        return np.where(self._hashes[places] == hashes, columns, -1)


def as_scipy(rows: SparseRows) -> csr_array:
    """The same as a matrix of scipy."""
    return csr_array((rows.data, rows.indices, rows.indptr), shape=(len(rows), rows.n_columns))

"""CooccurrenceVectorizer: texts as counts of the pairs of words that occur near each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array

from saffu import _core
from saffu.explicit.cooccurrence import count_pairs
from saffu.text import TOKENIZERS, Vocabulary, tokenize
from saffu.utils import validate
from saffu.utils.arrays import Array, Int32, Int64
from saffu.utils.settings import Settings, not_fitted
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

FIRST_WORD = 2  # ids below are those of words that are not in the vocabulary, and of line ends


class CooccurrenceVectorizer(Settings):
    """Turns texts into counts of pairs of words: how often the second follows the first at a distance of 1 to window.

    What ``sklearn.feature_extraction.text.CountVectorizer`` is to words, this is to pairs of them. The sum of all rows
    is what :func:`saffu.cooccurrence` counts in all texts.

    Parameters
    ----------
    window : int
        Largest distance between the words of a pair, in words; 1 for bigrams alone.
    tokenizer : {"words", "whitespace", "chars", "bytes"}
        How texts become words, as in :func:`saffu.text.tokenize`; ends of lines are passed over.
    lowercase : bool
        Whether to convert texts to lower case.
    ordered : bool
        Whether "dog bites" and "bites dog" are different pairs.
    min_count : int
        How often a word must be seen; rarer ones are in no pair, but keep their places between others.
    min_documents : int
        In how many texts a pair must be found.
    max_features : int, optional
        Keep the so many pairs that are found most often.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it.

    Attributes
    ----------
    vocabulary_ : saffu.text.Vocabulary
        The words.
    cooccurrence_ : csr_array of int64, shape (V, V)
        How often each word was found after each other in the texts of ``fit``, in all pairs of the vocabulary's words;
        in the upper triangle alone if pairs have no order.
    pairs_ : ndarray of int32, shape (F, 2)
        The ids of the words of each feature, in ascending order.

    Notes
    -----
    Kernels ``saffu_count_rows`` (the counts of pairs) and ``saffu_find`` (the feature that a pair is).

    Examples
    --------
    >>> vectorizer = CooccurrenceVectorizer(window=2)
    >>> vectorizer.fit_transform(["the cat sat", "the cat ran", "a cat sat"]).toarray()
    array([[1, 0, 1, 1, 0, 0, 0],
           [0, 1, 1, 0, 1, 0, 0],
           [1, 0, 0, 0, 0, 1, 1]])
    >>> vectorizer.get_feature_names_out()[:3].tolist()
    ['cat sat', 'cat ran', 'the cat']
    """

    _estimator_type = "transformer"
    vocabulary_: Vocabulary
    cooccurrence_: csr_array
    pairs_: Int32
    _table: csr_array | None = None  # a row for each first word and a column for each second: the features in order

    def __init__(
        self,
        window: int = 5,
        *,
        tokenizer: str = "words",
        lowercase: bool = True,
        ordered: bool = True,
        min_count: int = 1,
        min_documents: int = 1,
        max_features: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.window, self.tokenizer, self.lowercase, self.ordered = window, tokenizer, lowercase, ordered
        self.min_count, self.min_documents, self.max_features = min_count, min_documents, max_features
        self.n_threads = n_threads

    def fit(self, raw_documents: Iterable[str], y: Any = None) -> Self:
        """Collect the words and the pairs of words.

        Parameters
        ----------
        raw_documents : iterable of str, length M
            Read once.
        y : optional
            Without effect; pipelines give it.

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range, the texts are one string or no strings, or no pair is left.
        """
        self.fit_transform(raw_documents)
        return self

    def fit_transform(self, raw_documents: Iterable[str], y: Any = None) -> csr_array:
        """:meth:`fit`, then :meth:`transform` of the same texts, which are read once.

        Parameters
        ----------
        raw_documents : iterable of str, length M
        y : optional
            Without effect; pipelines give it.

        Returns
        -------
        csr_array of int64, shape (M, F)

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`.
        """
        self._check()
        texts, vocabulary = _read_new(self._tokens(raw_documents), self.min_count, self.tokenizer)
        counts = self._count_all(texts, len(vocabulary))
        found = self._features(texts, counts)
        kept = self._kept(found)
        if not kept.size:
            raise ValueError(
                f"raw_documents must hold pairs of words within {self.window} words that are in {self.min_documents} "
                f"of them, got none; words seen fewer than {self.min_count} times are in no pair"
            )
        first = np.repeat(np.arange(len(vocabulary), dtype=np.int32), np.diff(counts.indptr))
        self.vocabulary_, self.cooccurrence_ = vocabulary, counts
        self.pairs_ = np.stack([first[kept], counts.indices[kept]], axis=1).astype(np.int32)
        self._table = csr_array((np.ones(kept.size, bool), tuple(self.pairs_.T)), shape=counts.shape)
        return found[:, kept]

    def transform(self, raw_documents: Iterable[str]) -> csr_array:
        """Count the pairs of ``fit`` in texts.

        Parameters
        ----------
        raw_documents : iterable of str, length M

        Returns
        -------
        csr_array of int64, shape (M, F)
            How often each pair is found in each text; sorted columns.

        Raises
        ------
        ValueError, TypeError
            If the texts are one string or no strings. scikit-learn's NotFittedError if there was no fit.
        """
        table = self._known()
        return self._features(_read(self._tokens(raw_documents), self.vocabulary_), table)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Array:
        """The pairs: both words with a space between, an array of objects of shape (F,).

        Parameters
        ----------
        input_features : optional
            Without effect; texts have no names.
        """
        self._known()
        types = np.array(self.vocabulary_.types, dtype=object)
        return np.array([f"{one} {other}" for one, other in types[self.pairs_]], dtype=object)

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        validate.integer(self.window, "window", 1, validate.LARGEST["radius"])
        validate.choice(self.tokenizer, "tokenizer", TOKENIZERS)
        validate.integer(self.min_count, "min_count", 1)
        validate.integer(self.min_documents, "min_documents", 1)
        if self.max_features is not None:
            validate.integer(self.max_features, "max_features", 1)

    def _tokens(self, raw_documents: Iterable[str]) -> Iterable[list[str]]:
        if isinstance(raw_documents, str):
            raise ValueError("raw_documents must be an iterable of texts, got one string")
        for place, text in enumerate(raw_documents):
            if not isinstance(text, str):
                raise TypeError(f"raw_documents must be strings, got {type(text).__name__} at place {place}")
            tokens = tokenize(text.lower() if self.lowercase else text, tokenizer=self.tokenizer)
            yield [token for token in tokens if token != "\n"]

    def _count_all(self, texts: _Texts, vocab_size: int) -> csr_array:
        """Counts of all pairs of known words, in canonical order."""
        known = np.where(texts.ids < FIRST_WORD, np.int32(-1), texts.ids)
        stream = TokenStream(known, np.unique(texts.starts[texts.starts < known.size]))
        distances = np.arange(1, self.window + 1, dtype=np.int64)
        counts = count_pairs(stream, texts.ids, distances, (vocab_size, vocab_size), self.n_threads)
        first = np.repeat(np.arange(vocab_size, dtype=np.int32), np.diff(counts.indptr))
        of_words = counts.indices >= FIRST_WORD
        first, second = self._in_order(first[of_words], counts.indices[of_words])
        return coo_array((counts.data[of_words], (first, second)), shape=counts.shape).tocsr()

    def _in_order(self, first: Int32, second: Int32) -> tuple[Int32, Int32]:
        """Pairs as they are, or the lower id of each first if pairs have no order."""
        return (first, second) if self.ordered else (np.minimum(first, second), np.maximum(first, second))

    def _features(self, texts: _Texts, table: csr_array) -> csr_array:
        """How often each entry of the table, in its order, is found in each text."""
        indptr, indices = table.indptr.astype(np.int64, copy=False), table.indices.astype(np.int32, copy=False)
        text_of = np.repeat(np.arange(texts.starts.size, dtype=np.int64), np.diff(texts.starts, append=texts.ids.size))
        rows, columns = [], []
        for distance in range(1, min(self.window, texts.ids.size - 1) + 1):
            together = np.flatnonzero(text_of[:-distance] == text_of[distance:])
            first, second = self._in_order(texts.ids[together], texts.ids[together + distance])
            entry = _core.find(indptr, indices, first, second, resolve_threads(self.n_threads))
            rows.append(text_of[together[entry >= 0]])
            columns.append(entry[entry >= 0])
        shape = texts.starts.size, table.nnz
        if not rows:
            return csr_array(shape, dtype=np.int64)
        places = np.concatenate(rows), np.concatenate(columns)
        return coo_array((np.ones(places[0].size, np.int64), places), shape=shape).tocsr()

    def _kept(self, found: csr_array) -> Int64:
        """Columns of the features that are frequent enough."""
        in_texts = np.bincount(found.indices, minlength=found.shape[1])
        kept = np.flatnonzero(in_texts >= self.min_documents)
        if self.max_features is not None and kept.size > self.max_features:
            total = found.sum(axis=0)[kept]
            kept = np.sort(kept[np.argsort(-total, kind="stable")[: self.max_features]])
        return kept

    def _known(self) -> csr_array:
        if self._table is None:
            raise not_fitted(self)
        return self._table

    def __sklearn_is_fitted__(self) -> bool:
        return self._table is not None

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: here a transformer of texts."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=False, string=True),
        )


class _Texts(NamedTuple):
    """Texts as ids, one behind the other, and the offset at which each begins; those of empty texts are the next's."""

    ids: Int32
    starts: Int64

    @classmethod
    def of(cls, parts: list[Int32]) -> _Texts:
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        return cls(np.concatenate([np.empty(0, np.int32), *parts]), np.cumsum(lengths) - lengths)


def _read(token_lists: Iterable[list[str]], vocabulary: Vocabulary) -> _Texts:
    return _Texts.of([vocabulary.encode(tokens) for tokens in token_lists])


def _read_new(token_lists: Iterable[list[str]], min_count: int, tokenizer: str) -> tuple[_Texts, Vocabulary]:
    """Texts, and the vocabulary that is made of them, in one reading."""
    numbers: dict[str, int] = {}
    parts = [
        np.fromiter((numbers.setdefault(token, len(numbers)) for token in tokens), np.int32, len(tokens))
        for tokens in token_lists
    ]
    texts = _Texts.of(parts)
    counts = np.bincount(texts.ids, minlength=len(numbers))
    vocabulary = Vocabulary.from_counts(
        dict(zip(numbers, counts.tolist(), strict=True)), min_count=min_count, tokenizer=tokenizer
    )
    return _Texts(vocabulary.encode(list(numbers))[texts.ids], texts.starts), vocabulary

"""Language models asked one word at a time: what has to be remembered of the words so far, and what it costs.

A *key* stands for that in a hashable form: words after which every future is the same have equal keys where the model
is one of back-off. Logarithms of single words are to base 10, as the programs that ask in this way want them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left

import numpy as np

from saffu.ngram_lm.arpa import LN10
from saffu.ngram_lm.backoff_lm import BackoffLM
from saffu.ngram_lm.model import ExplicitLM
from saffu.ngram_lm.scorer import PooledText
from saffu.utils.arrays import Bools, Float64, Int32
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

Key = tuple[int, ...]
LONGEST = 1 << 20  # tokens that are remembered
MANY = 1 << 12  # tokens; fewer are scored on one thread


class Scorer(ABC):
    """Scores of token numbers; keys are what states hold, and no context at all is the empty key."""

    order: int
    start: int | None  # the number of <s>, where it may stand within a sentence
    begin: Key  # of the start of a sentence
    steps_are_quick: bool

    @abstractmethod
    def score(self, stream: TokenStream, opens: Bools) -> tuple[Float64, Int32]:
        """Log-probabilities, nats, and lengths of n-grams of a stream; ``opens``: which documents begin with <s>."""

    @abstractmethod
    def step(self, key: Key, word: int) -> tuple[float, int, Key]:
        """Base-10 log-probability and length of the n-gram of one word, and the key after it."""

    @staticmethod
    def of(model: LanguageModel) -> Scorer:
        """The quickest that there is for a model."""
        if isinstance(model, BackoffLM):
            return OfNgrams(model)
        if isinstance(model, ExplicitLM):
            return OfNgrams(model.to_backoff()) if model.is_backoff else OfContexts(model)
        return OfHistory(model)


class OfNgrams(Scorer):
    """A back-off model. A key holds, for each length of context, its row in the table of that length, or -1."""

    steps_are_quick = True

    def __init__(self, model: BackoffLM) -> None:
        self.tables = tables = model.tables
        self.order, self.start, self.begin = model.order, model.vocab_size, (model.vocab_size,) if tables.tables else ()
        # Numbers come out of memoryviews several times quicker than out of arrays.
        self._unigram = np.append(tables.unigram, tables.start_log_prob).data
        arrays = [(t.indptr, t.indices, t.data, w) for t, w in zip(tables.tables, tables.weights, strict=True)]
        self._views = [[array.data for array in of_table] for of_table in arrays]

    def score(self, stream: TokenStream, opens: Bools) -> tuple[Float64, Int32]:
        """Log-probabilities and lengths of a stream."""
        return self.tables.score(stream, opens, 1 if stream.ids.size < MANY else None)

    def step(self, key: Key, word: int) -> tuple[float, int, Key]:
        """Log-probability, length and key of one word."""
        views = self._views
        log_prob, length, rows = self._unigram[word], 1, [word]
        for n, row in enumerate(key):
            entry = -1
            if row >= 0:
                indptr, indices, data, weights = views[n]
                last = indptr[row + 1]
                entry = bisect_left(indices, word, indptr[row], last)
                if entry < last and indices[entry] == word:
                    log_prob, length = data[entry], n + 2
                else:
                    entry = -1
                    log_prob += weights[row]
            rows.append(entry)
        del rows[len(views) :]
        while rows and not self._matters(len(rows) - 1, rows[-1]):
            rows.pop()
        return log_prob / LN10, length, tuple(rows)

    def _matters(self, n: int, row: int) -> bool:
        """Whether a context has a continuation or a weight."""
        indptr, _, _, weights = self._views[n]
        return row >= 0 and (indptr[row + 1] > indptr[row] or weights[row] != 0.0)


class OfHistory(Scorer):
    """Any language model. A key holds the tokens so far, the start of a sentence being V.

    Without a start of the sentence a model is asked as if there were one, since it knows no other beginning.
    """

    start = None
    steps_are_quick = False

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.begin = model, (model.vocab_size,)
        self.history = LONGEST  # of a model that does not tell how many tokens can matter
        self.order: int = getattr(getattr(model, "residual", None), "order", 1)

    def score(self, stream: TokenStream, opens: Bools) -> tuple[Float64, Int32]:
        """Log-probabilities and lengths of a stream."""
        age = np.arange(stream.ids.size) - np.repeat(stream.starts, stream.lengths())
        log_prob = self.model.log_prob(stream.ids, documents=stream.starts, progress=False)
        return log_prob, np.minimum(age + 1, self.order).astype(np.int32)

    def step(self, key: Key, word: int) -> tuple[float, int, Key]:
        """Log-probability, length and key of one word."""
        opens = key[:1] == self.begin
        ids = np.array([*key[opens:], word], np.int32)
        log_prob, lengths = self.score(TokenStream(ids, np.zeros(1, np.int64)), np.array([opens]))
        return float(log_prob[-1]) / LN10, int(lengths[-1]), (*key, word)[-self.history :]


class OfContexts(OfHistory):
    """An ExplicitLM with any contexts, windows among them."""

    model: ExplicitLM

    def __init__(self, model: ExplicitLM) -> None:
        super().__init__(model)
        self.order, self.history = model.order, model.history

    def score(self, stream: TokenStream, opens: Bools) -> tuple[Float64, Int32]:
        """Log-probabilities and lengths of a stream."""
        pooled, scalars = self.model.solution.solved()
        weights, ids = pooled.weights, stream.ids
        rows = weights.contexts(stream, opens)
        threads, floor = resolve_threads(self.model.n_threads), self.model.solution.floor()
        text = PooledText(
            pooled,
            scalars,
            stream,
            np.arange(ids.size),
            rows,
            threads,
            floor=floor,
            opens=None if floor is None else opens,
        )
        entries = weights.entries(rows, ids)
        radius = len(weights.distance)
        chain = entries[[0, *range(radius, radius + len(weights.suffix))]]
        longest = (np.arange(2, len(chain) + 2)[:, None] * (chain >= 0)).max(axis=0, initial=1)
        return text.log_prob(), longest.astype(np.int32)

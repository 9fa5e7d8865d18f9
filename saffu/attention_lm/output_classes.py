"""Output classes: words that an output tells apart, and classes of those that it does not.

On top of a model that knows each word well, an output of its own for every rare word costs most of the time and learns
next to nothing. So the most frequent words have an output each, and the others share those of their classes:

    logits(w) = z(w) + (h O + o)[class(w)]

with z the logits of the other model. The words of a class keep the proportions that z gives them, so the softmax over
the vocabulary is one over the classes, with ``log sum_w exp z(w)`` over its words as the logit below a class.
"""

from __future__ import annotations

import numpy as np

from saffu import _core
from saffu.utils.arrays import Array, Int32


class OutputClasses:
    """A partition of the vocabulary.

    Parameters
    ----------
    of_word : ndarray of int32, shape (V,)
        The class of each word; classes are 0, 1, ..., each with a word at least.

    Attributes
    ----------
    n_classes : int
    """

    def __init__(self, of_word: Int32) -> None:
        self.of_word = np.array(of_word, np.int32)
        sizes = np.bincount(self.of_word)
        if of_word.size == 0 or (sizes == 0).any():
            raise ValueError("every output class must have a word")
        self.n_classes = sizes.size
        self._words = np.argsort(self.of_word, kind="stable").astype(np.int32)
        self._begins = np.concatenate([[0], np.cumsum(sizes)])

    @classmethod
    def frequent(cls, counts: Array, n_words: int, classes: Array) -> OutputClasses:
        """An output class for each of the ``n_words`` most frequent words, and one for each class of the others.

        Parameters
        ----------
        counts : ndarray of int, shape (V,)
            Occurrences; of words as frequent, the first ones go first.
        n_words : int
        classes : ndarray of int, shape (V,)
            Which of the other words go together.
        """
        rank = np.empty(counts.size, np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(counts.size)
        n_words = min(n_words, counts.size)
        rest = rank >= n_words
        rank[rest] = n_words + np.unique(classes[rest], return_inverse=True)[1]
        return cls(rank.astype(np.int32))

    def reduce(self, logits: Array, out: Array) -> None:
        """Logits of the words (n, V) to those of the output classes, ``out`` (n, n_classes)."""
        _core.log_sums(logits, self._words, self._begins, out, 1)

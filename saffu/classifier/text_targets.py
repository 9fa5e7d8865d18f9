"""Labels of texts: one for each, or a list of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from saffu.classifier import inputs
from saffu.classifier.labels import Classes, distinct, numbers_of
from saffu.utils import validate
from saffu.utils.arrays import Array, Bools, Int64

LISTS = (list, tuple, set, frozenset)


class TextLabels(NamedTuple):
    """The labels of some texts, one text after the other.

    Attributes
    ----------
    labels : ndarray
        Integers, booleans or strings.
    indptr : ndarray of int64, shape (M + 1,)
        Where those of each text begin.
    several : bool
        Whether they came as lists.
    """

    labels: Array
    indptr: Int64
    several: bool

    @classmethod
    def of(cls, y: Any, n_texts: int, owner: str) -> TextLabels:
        """Checked labels, a vector of them or a list of lists.

        Raises
        ------
        ValueError, TypeError
            If there are too few or too many, or they are not of one kind.
        """
        if isinstance(y, (str, bytes)):
            raise TypeError(f"y must be a list of labels, got one {type(y).__name__}")
        if isinstance(y, (list, tuple)) and y and all(isinstance(each, LISTS) for each in y):
            return cls._of_lists(y, n_texts)
        target = inputs.target(y, owner)
        if validate.is_soft(target):
            raise ValueError("y must be a vector of labels, or lists of labels, got a matrix")
        return cls(inputs.labels(target, n_texts), np.arange(n_texts + 1), False)

    @classmethod
    def _of_lists(cls, lists: Any, n_texts: int) -> TextLabels:
        if len(lists) != n_texts:
            raise ValueError(f"y must have one list of labels for each of the {n_texts} texts, got {len(lists)}")
        sets = [sorted(set(each), key=str) for each in lists]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(each) for each in sets], dtype=np.int64)])
        flat = [label for each in sets for label in each]
        return cls(validate.labels(flat, "y", len(flat)), indptr, True)

    def equal(self, other: TextLabels) -> Bools:
        """Whether each text has the same labels in both."""
        mine, theirs = self._sets(), other._sets()
        return np.array([a == b for a, b in zip(mine, theirs, strict=True)], bool)

    def _sets(self) -> list[frozenset[Any]]:
        flat = self.labels.tolist()
        return [frozenset(flat[a:b]) for a, b in pairwise(self.indptr.tolist())]

    def matrix(self, classes: Classes) -> csr_array:
        """1 where a text has a label, (M, N)."""
        numbers = numbers_of(self.labels, classes)
        return csr_array(
            (np.ones(numbers.size, np.float32), numbers, self.indptr), shape=(self.indptr.size - 1, classes.size)
        )


def known_classes(labels: TextLabels, classes: ArrayLike | None, before: Classes | None) -> Classes:
    """The labels that may occur: those asked for and those known before, or else those that do."""
    if classes is None:
        return distinct(labels.labels)
    known = distinct(validate.labels(classes, "classes", np.size(classes)))
    numbers_of(labels.labels, known)
    if before is not None and before.size:
        numbers_of(before, known, "classes")
    return known

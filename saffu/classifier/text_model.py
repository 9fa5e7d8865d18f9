"""A linear classifier of texts, solved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saffu.classifier.labels import Classes
from saffu.classifier.text_calibration import Calibration
from saffu.classifier.text_features import Known, Ngrams
from saffu.utils.arrays import Float32
from saffu.utils.sparse import SparseRows


@dataclass(frozen=True)
class TextModel:
    """What predicts.

    Attributes
    ----------
    ngrams : Ngrams
        How texts are read.
    classes : ndarray, shape (N,)
    known : Known
        The D n-grams that it reads.
    scale : ndarray of float32, shape (D,)
        The weight of each n-gram in the length of a text.
    weights : ndarray of float32, shape (D, N)
        What each adds to the scores of labels in a text of length one.
    calibration : Calibration
        From scores to logits.
    facts : dict
        What the folds chose.
    """

    ngrams: Ngrams
    classes: Classes
    known: Known
    scale: Float32
    weights: Float32
    calibration: Calibration
    facts: dict[str, Any]

    def rows(self, texts: Sequence[str], n_threads: int) -> SparseRows:
        """The values of the n-grams of each text."""
        indptr, hashes = self.ngrams.hashes(texts, n_threads)
        return weighed(self.known.rows(indptr, hashes, n_threads), self.scale)

    def logits(self, texts: Sequence[str], n_threads: int) -> Float32:
        """Logits of the labels of each text, (M, N)."""
        return self.calibration.logits(self.rows(texts, n_threads).product(self.weights))


def weighed(counts: SparseRows, scale: Float32) -> SparseRows:
    """``log(1 + count) scale``, each row divided by its length."""
    values = np.log1p(counts.data)
    values *= scale[counts.indices]
    sums = np.concatenate([np.zeros(1), np.cumsum(values * values, dtype=np.float64)])
    squares = sums[counts.indptr[1:]] - sums[counts.indptr[:-1]]
    norms = np.sqrt(np.maximum(squares, 1e-12)).astype(np.float32)
    values /= np.repeat(norms, np.diff(counts.indptr))
    return SparseRows(counts.indptr, counts.indices, values, counts.n_columns, counts.n_threads)

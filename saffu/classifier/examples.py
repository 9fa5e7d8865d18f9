"""Rows of features with their class numbers, handed out in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from saffu.utils.arrays import Int32, Int64, checksum
from saffu.utils.validate import Matrix

Batch = tuple[Matrix, Int32]


class Examples:
    """Checked features and class numbers, from which batches of rows are taken.

    Parameters
    ----------
    features : ndarray or csr_array, shape (M, D)
        float32 or float64; an array is C-contiguous.
    targets : ndarray of int32, shape (M,)
        Class numbers.
    n_threads : int
        Threads for the kernels.
    blas : bool
        Whether a step on these rows multiplies dense matrices beside the features. With dense features it does anyway.

    Attributes
    ----------
    dtype : dtype
        That of the features.
    n_threads : int
        Threads for the kernels in a step on a batch: one if BLAS, which has threads of its own, does the products. The
        threads of both wait for work actively, and take each other's cores: alternating between the two pools takes
        several times as long as keeping the kernels to one thread.
    """

    sample_rows, check_all = 10_000, True

    def __init__(self, features: Matrix, targets: Int32, n_threads: int, blas: bool = False):
        self.features = features
        self.targets = targets
        self.dtype: np.dtype[Any] = features.dtype
        self.n_threads = 1 if blas or not issparse(features) else n_threads
        self._buffer = np.empty((0, features.shape[1]), features.dtype)

    def __len__(self) -> int:
        return self.targets.size

    def take(self, rows: Int64 | slice, dropout: float = 0.0, rng: np.random.Generator | None = None) -> Batch:
        """Features and targets of some rows.

        Parameters
        ----------
        rows : ndarray of int64 or slice
            Numbers of the rows.
        dropout : float
            Probability that a feature of a row becomes zero; those that stay are divided by ``1 - dropout``.
        rng : Generator, optional
            Where chance comes from; needed if ``dropout`` is above zero.

        Returns
        -------
        features, targets
            To be read only, and only until the next call: dense features of given rows lie in a buffer that is used
            again, those of a slice are a view.
        """
        features = self._rows(rows)
        if dropout > 0:
            assert rng is not None
            features = _dropped(features, dropout, rng)
        return features, self.targets[rows]

    def _rows(self, rows: Int64 | slice) -> Matrix:
        if issparse(self.features) or isinstance(rows, slice):
            return self.features[rows]
        if self._buffer.shape[0] < rows.size:
            self._buffer = np.empty((rows.size, self.features.shape[1]), self.dtype)
        # Rows are in range; any other mode would go through one more buffer.
        return np.take(self.features, rows, axis=0, out=self._buffer[: rows.size], mode="clip")

    def checksum(self) -> int:
        """A number that changes with the data, for telling one data set from another."""
        whole = self.features
        parts = [whole.data, whole.indices, whole.indptr] if issparse(whole) else [whole]
        return checksum([*parts, self.targets], f"{whole.shape}")


def _dropped(features: Matrix, dropout: float, rng: np.random.Generator) -> Matrix:
    stored = features.data if issparse(features) else features
    keep = rng.random(stored.shape, dtype=np.float32) >= dropout
    kept = stored * np.multiply(keep, 1 / (1 - dropout), dtype=stored.dtype)
    if not issparse(features):
        return kept
    return csr_array((kept, features.indices, features.indptr), shape=features.shape)

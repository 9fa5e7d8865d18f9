"""Sums of features per class: what an explicit solution is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from saffu import _core
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.threads import resolve_threads


def moments(
    H: Any,
    y: ArrayLike,
    *,
    n_classes: int | None = None,
    sample_weight: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Float64:
    """Sum the features of each class: ``F = H^T Y``, the generalised co-occurrence matrix.

    Parameters
    ----------
    H : array_like or sparse matrix, shape (M, D)
        Features, float32 or float64 (other numbers are converted); a sparse matrix is taken as CSR.
    y : array_like, shape (M,) or (M, N)
        Class numbers, 0 <= y < N, also in a column, or soft targets: floats, also in one column, or several columns.
    n_classes : int, optional
        N; by default the largest class number plus one, or the number of columns of ``y``.
    sample_weight : array_like, shape (M,), optional
        A weight for each row.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it.

    Returns
    -------
    ndarray of float64, shape (D, N)
        Stored class by class: it is the transpose of a C-ordered array.

    Raises
    ------
    ValueError, TypeError
        If lengths do not match, or a label is not an integer or out of range.

    Notes
    -----
    Kernels ``saffu_moments_labels``, ``saffu_moments_soft`` and their CSR forms. Sums are float64, each in ascending
    order of the rows; no one-hot matrix is built.

    Examples
    --------
    >>> moments([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0])
    array([[6., 3.],
           [8., 4.]])
    """
    threads = resolve_threads(n_threads)
    H = validate.features(H, "H")
    weights = validate.sample_weights(sample_weight, H.shape[0])
    if n_classes is not None:
        n_classes = validate.integer(n_classes, "n_classes", 1)
    if validate.is_soft(y) or (np.ndim(y) == 2 and np.asarray(y).dtype.kind == "f"):
        targets = validate.features(y, "y", n_classes)
        if targets.shape[0] != H.shape[0]:
            raise ValueError(f"y must have one row for each of the {H.shape[0]} rows of H, got {targets.shape[0]}")
        n_classes = targets.shape[1]
    else:
        targets = validate.class_numbers(y, "y", H.shape[0], n_classes)
        if n_classes is None:
            n_classes = int(targets.max()) + 1 if targets.size else 0
    F, mass = np.empty((n_classes, H.shape[1])), np.empty(n_classes)
    add_moments(H, targets, weights, F, mass, False, threads)
    return F.T


def add_moments(
    H: validate.Matrix,
    targets: Array,
    weights: Float64 | None,
    F: Float64,
    mass: Float64,
    add: bool,
    n_threads: int,
) -> None:
    """Write F (N, D) and mass (N), or add to them, from validated features and class numbers or soft targets."""
    if issparse(H):
        indptr, indices, data = H.indptr.astype(np.int64, copy=False), H.indices, H.data
        sparse_kernel = _core.moments_csr_labels if targets.ndim == 1 else _core.moments_csr_soft
        sparse_kernel(indptr, indices, data, targets, weights, F, mass, add, n_threads)
    else:
        dense_kernel = _core.moments_labels if targets.ndim == 1 else _core.moments_soft
        dense_kernel(H, targets, weights, F, mass, add, n_threads)

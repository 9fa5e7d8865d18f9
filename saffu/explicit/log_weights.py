"""The explicit solution of a softmax layer: weights that are logarithms of counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.utils import validate
from saffu.utils.arrays import Array
from saffu.utils.threads import resolve_threads


def log_weights(F: ArrayLike, K: float, *, smoothing: float = 0.0, n_threads: int | None = None) -> Array:
    """Solve a softmax layer explicitly: ``U = log F - ((K - 1) / K) log S``, S the column sums of F.

    Parameters
    ----------
    F : array_like, shape (D, N)
        Non-negative counts, such as ``moments`` returns; float32 or float64, in C or Fortran order, without a copy.
    K : float
        The priming number, the mean 1-norm of the feature vectors. With ``K = inf`` the result is the likelihood part
        alone, ``log F - log S``, to be used with a bias of log prior probabilities.
    smoothing : float
        Added to every entry of F first.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it.

    Returns
    -------
    ndarray, shape (D, N)
        The weights, in the dtype and memory order of F. A count of 0 has weight -inf.

    Raises
    ------
    ValueError
        If F has a negative or non-finite entry, or K is not positive.

    Notes
    -----
    Williams and Zhao, "Explicit Foundation Model Optimization with Self-Attentive Feed-Forward Neural Units"
    (arXiv 2311.07510) and arXiv 2311.07498. It is multinomial naive Bayes with the prior folded in. Kernels
    ``saffu_log_weights_by_class`` and ``saffu_log_weights_by_feature``.

    Examples
    --------
    >>> log_weights([[1.0, 3.0], [3.0, 1.0]], K=1)
    array([[0.        , 1.09861229],
           [1.09861229, 0.        ]])
    """
    threads = resolve_threads(n_threads)
    smoothing = validate.positive(smoothing, "smoothing", or_zero=True)
    if isinstance(K, (bool, str)) or not hasattr(K, "__float__") or not float(K) > 0:
        raise ValueError(f"K must be a positive number, the mean 1-norm of the features, got {K!r}")
    matrix = np.asarray(F)
    if matrix.ndim != 2:
        raise ValueError(f"F must be a matrix (features, classes), got shape {matrix.shape}")
    by_class = matrix.flags.f_contiguous and not matrix.flags.c_contiguous
    stored = validate.features(matrix.T if by_class else matrix, "F")
    exponent = 1.0 - 1.0 / float(K)
    try:
        U, _ = _core.log_weights(stored, by_class, smoothing, exponent, threads)
    except ValueError:
        validate.counts_like(np.ascontiguousarray(matrix.reshape(matrix.shape), stored.dtype), "F", threads)
        raise
    return U.T if by_class else U

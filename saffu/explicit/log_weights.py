"""Weights from counts, and priming: the convex fit of a handful of scalars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

from saffu import _core
from saffu.utils import validate
from saffu.utils.threads import resolve_threads

Evaluation = tuple[float, NDArray[np.float64] | None, NDArray[np.float64] | None]


# ---- moments -----------------------------------------------------------------------------------------------------


def moments(
    H: Any,
    y: ArrayLike,
    n_classes: int | None = None,
    sample_weight: ArrayLike | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
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
    targets: NDArray,
    weights: NDArray[np.float64] | None,
    F: NDArray[np.float64],
    mass: NDArray[np.float64],
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


# ---- weights -----------------------------------------------------------------------------------------------------


def log_weights(F: ArrayLike, K: float, smoothing: float = 0.0, n_threads: int | None = None) -> NDArray:
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


# ---- priming -----------------------------------------------------------------------------------------------------


def newton(
    evaluate: Callable[[NDArray[np.float64], bool], Evaluation],
    theta: ArrayLike,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 20,
    on_step: Callable[[int, NDArray[np.float64], float], None] | None = None,
) -> NDArray[np.float64]:
    """Minimise a smooth convex function of a few scalars by damped Newton steps.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(theta, derivatives)`` returns (value, gradient, Hessian); the last two may be None unless
        ``derivatives`` is true.
    theta : array_like, shape (P,)
        Where to start; the value there must be finite.
    tolerance : float
        Stop when a step promises a decrease of the value below this (in its units: nats for a loss).
    max_steps : int
        Stop after so many steps in any case.
    on_step : callable, optional
        Called as ``on_step(step, theta, value)`` after each step.

    Returns
    -------
    ndarray of float64, shape (P,)
        The best point found: the value never rises from step to step.

    Notes
    -----
    A ridge of 1e-9 of the largest curvature is added to the Hessian, so that a scalar on which the value does not
    depend stays where it is. A step is halved until the value falls by at least 1e-4 of what its slope promises.
    """
    theta = np.array(theta, np.float64)
    value, gradient, hessian = evaluate(theta, True)
    for step in range(1, max_steps + 1):
        assert gradient is not None
        assert hessian is not None
        largest = float(np.max(np.diag(hessian), initial=0.0))
        if not largest > 0:
            break
        direction = np.linalg.solve(hessian + 1e-9 * largest * np.eye(theta.size), -gradient)
        promise = -float(gradient @ direction)
        if not promise > 0:
            break
        last = promise / 2 <= tolerance
        found = _backtrack(evaluate, theta, value, direction, promise, not last)
        if found is None:
            break
        theta, (value, gradient, hessian) = found
        if on_step is not None:
            on_step(step, theta, value)
        if last:
            break
    return theta


def _backtrack(
    evaluate, theta, value: float, direction, promise: float, derivatives: bool
) -> tuple[NDArray[np.float64], Evaluation] | None:
    """The first of the steps 1, 1/2, 1/4 .. that lowers the value enough, or None."""
    length = 1.0
    while length > 1e-9:
        candidate = theta + length * direction
        # The full step is nearly always right, so it is evaluated once, with all that the next step needs.
        evaluation = evaluate(candidate, derivatives and length == 1.0)
        if evaluation[0] <= value - 1e-4 * length * promise:
            return candidate, evaluate(candidate, True) if derivatives and length < 1.0 else evaluation
        length /= 2
    return None


def primed_loss(
    groups: list[NDArray[np.float64]], targets: NDArray, weights: NDArray[np.float64] | None, n_threads: int
) -> Callable[[NDArray[np.float64], bool], Evaluation]:
    """Mean cross-entropy of ``softmax(sum_f theta_f groups[f])``, with derivatives by theta, for ``newton``.

    Parameters
    ----------
    groups : list of P ndarrays of float64, shape (M, N)
        The contribution of each group of features to the logits.
    targets : ndarray
        Class numbers, int32 (M,), or soft targets, float64 (M, N).
    weights : ndarray of float64, shape (M,), optional
        A weight for each row.
    n_threads : int
        Threads of the kernels.

    Returns
    -------
    callable
        ``evaluate(theta, derivatives)``: gradient_f = mean (E_p[x_f] - x_f(y)), Hessian_fg = mean Cov_p(x_f, x_g).
    """
    n_rows, soft = groups[0].shape[0], targets.ndim == 2
    share = np.full(n_rows, 1.0 / n_rows) if weights is None else weights / weights.sum()
    at_target = np.array([np.einsum("mi,mi->m", x, targets) if soft else x[np.arange(n_rows), targets] for x in groups])
    observed = at_target @ share

    def evaluate(theta: NDArray[np.float64], derivatives: bool) -> Evaluation:
        logits = theta[0] * groups[0]
        for scalar, group in zip(theta[1:], groups[1:], strict=True):
            logits += scalar * group
        loss = (
            _core.cross_entropy_soft(logits, targets, n_threads)
            if soft
            else _core.cross_entropy_labels(logits, targets, n_threads)
        )
        value = float(loss @ share)
        if not derivatives:
            return value, None, None
        p = _core.softmax(logits, False, n_threads)
        weighted = [p * x for x in groups]
        expected = np.array([x.sum(axis=1) for x in weighted])
        second = np.array([[float(np.einsum("mi,mi,m->", a, b, share)) for b in groups] for a in weighted])
        return value, expected @ share - observed, second - (expected * share) @ expected.T

    return evaluate

"""The loss of a softmax over a pool of logits, each times a scalar, and its derivatives by the scalars."""

from __future__ import annotations

import numpy as np

from saffu import _core
from saffu.utils.arrays import Float32, Float64, Int32

CACHED = 1 << 17  # floats


def softmax_pool(groups: list[Float32], y: Int32, theta: Float64) -> tuple[float, Float64, Float64]:
    """Sum of the losses of ``softmax(sum_f theta_f x_f)`` and its derivatives by theta.

    Parameters
    ----------
    groups : list of P ndarrays of float32, shape (n, V)
        The logits x_f.
    y : ndarray of int32, shape (n,)
        Which word is right.
    theta : ndarray of float64, shape (P,)

    Returns
    -------
    loss : float
        Nats.
    gradient : ndarray of float64, shape (P,)
        ``sum E[x_f] - x_f(y)``.
    hessian : ndarray of float64, shape (P, P)
        ``sum Cov(x_f, x_g)``.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0]], np.float32)
    >>> loss, gradient, hessian = softmax_pool([x], np.array([1], np.int32), np.array([0.0]))
    >>> round(loss, 4), gradient.tolist(), hessian.tolist()
    (0.6931, [-0.5], [[0.25]])
    """
    n_groups, width = len(groups), groups[0].shape[1]
    scalars = theta.astype(np.float32)
    value, gradient, hessian = 0.0, np.zeros(n_groups), np.zeros((n_groups, n_groups))
    step = max(CACHED // (n_groups * width), 1)  # rows that stay in a core's cache
    for begin in range(0, y.size, step):
        X = np.stack([group[begin : begin + step] for group in groups])
        labels = y[begin : begin + step]
        logits = (scalars @ X.reshape(n_groups, -1)).reshape(X.shape[1:])
        value += float(_core.cross_entropy_labels(logits, labels, 1).sum())
        P = _core.softmax(logits, False, 1)
        weighted = X * P
        means = weighted.sum(axis=2, dtype=np.float64)
        gradient += (means - X[:, np.arange(labels.size), labels]).sum(axis=1)
        hessian += weighted.reshape(n_groups, -1) @ X.reshape(n_groups, -1).T - means @ means.T
    return value, gradient, hessian

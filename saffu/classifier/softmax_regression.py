"""Softmax regression: the loss of a single layer, and its gradients.

Parameters are a dict of ``"weights"`` (D, N) and ``"bias"`` (N,), of one dtype.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from saffu import _core
from saffu.classifier.softmax_mlp import product, product_transposed
from saffu.utils.arrays import Array, Float64, Int32, Matrix


def losses(parameters: Mapping[str, Array], X: Matrix, y: Int32, n_threads: int) -> Float64:
    """Cross-entropy of each row, in nats, shape (M,)."""
    logits = product(X, parameters["weights"], parameters["bias"], n_threads)
    return _core.cross_entropy_labels(logits, y, n_threads)


def loss_and_gradients(
    parameters: Mapping[str, Array], X: Matrix, y: Int32, n_threads: int, out: Mapping[str, Array]
) -> float:
    """Write the gradients of the mean cross-entropy, ``X^T (p - y)`` and the sum of p - y, each over M; return it."""
    logits = product(X, parameters["weights"], parameters["bias"], n_threads)
    loss = _core.cross_entropy_labels(logits, y, n_threads).mean()
    delta = _core.softmax(logits, False, n_threads)
    delta[np.arange(y.size), y] -= 1
    delta /= y.size
    product_transposed(X, delta, n_threads, out["weights"])
    np.sum(delta, axis=0, out=out["bias"])
    return float(loss)

"""A stack of softmax layers under a mixture of classes: its function, its loss and the gradients.

Parameters are a dict of arrays of one dtype, float32 or float64::

    "hidden0.weights" (D, H0), "hidden0.bias" (H0), "hidden1.weights" (H0, H1), "hidden1.bias" (H1), ...
    "output.weights" (H, N)

and the network is, row by row,

    h_0 = softmax(x W_0 + b_0),   h_1 = softmax(h_0 W_1 + b_1),   ...,   p = h softmax(O)

Each row of softmax(O) is a distribution over the classes, so that p is one too: a mixture over the last hidden states.

Decisions. The loss never forms p: ``log p(y) = log sum_k exp(z_k + log softmax(O)_ky) - log sum_k exp z_k``, from the
logits z of the last hidden layer. That is finite, and has exact gradients, however saturated the softmax is in float32,
where p itself would be 0; and it costs O(H) for a row instead of O(H N). Its gradient by z is ``softmax(z) - r``, and
r, the posterior of the hidden states given the class, is all that the gradient by O needs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array, issparse

from saffu import _core
from saffu.utils.arrays import Array, Float64, Int32, Int64
from saffu.utils.validate import Matrix

Parameters = Mapping[str, Array]


def depth(parameters: Parameters) -> int:
    """Number of hidden layers."""
    return sum(name.startswith("hidden") and name.endswith(".weights") for name in parameters)


# ---- products --------------------------------------------------------------------------------------------------------


def product(X: Matrix, W: Array, bias: Array, n_threads: int) -> Array:
    """``X W + bias``; X dense or CSR, all C-contiguous and of one dtype."""
    if issparse(X):
        return _core.product(*_parts(X), W, bias, n_threads)
    Z: Array = np.matmul(X, W)
    Z += bias
    return Z


def product_transposed(X: Matrix, dZ: Array, n_threads: int, out: Array) -> None:
    """Write ``X^T dZ`` into ``out``; X dense or CSR, all of one dtype."""
    if issparse(X):
        _core.product(*_parts(csr_array(X.T)), dZ, None, n_threads, out)
    else:
        np.matmul(X.T, dZ, out=out)


def _parts(X: csr_array) -> tuple[Int64, Int32, Array]:
    return X.indptr.astype(np.int64, copy=False), X.indices.astype(np.int32, copy=False), X.data


# ---- forward ---------------------------------------------------------------------------------------------------------


def forward(parameters: Parameters, X: Matrix, n_threads: int) -> tuple[list[Array], Array]:
    """Hidden activations and class probabilities.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        As described at the head of the module.
    X : ndarray or csr_array, shape (M, D)
        C-contiguous if dense, in the dtype of the parameters.
    n_threads : int
        Threads of the kernels; products of dense matrices are left to BLAS.

    Returns
    -------
    activations : list of ndarray
        h_0 (M, H0), h_1 (M, H1), ...
    p : ndarray, shape (M, N)
        Rows of unit sum. An entry may be 0 where it is too small for the dtype; ``losses`` has no such limit.
    """
    activations, logits = _last_logits(parameters, X, n_threads)
    activations.append(_core.softmax(logits, False, n_threads))
    return activations, activations[-1] @ _core.softmax(parameters["output.weights"], False, n_threads)


def _last_logits(parameters: Parameters, X: Matrix, n_threads: int) -> tuple[list[Array], Array]:
    """Activations of all hidden layers but the last, and the logits of the last."""
    activations: list[Array] = []
    below = X
    for layer in range(depth(parameters)):
        logits = product(below, parameters[f"hidden{layer}.weights"], parameters[f"hidden{layer}.bias"], n_threads)
        if layer + 1 < depth(parameters):
            below = _core.softmax(logits, False, n_threads)
            activations.append(below)
    return activations, logits


def _log_output(parameters: Parameters, n_threads: int) -> Array:
    """The log of softmax(O), class by class: (N, H)."""
    return np.ascontiguousarray(_core.softmax(parameters["output.weights"], True, n_threads).T)


# ---- loss ------------------------------------------------------------------------------------------------------------


def losses(parameters: Parameters, X: Matrix, y: Int32, n_threads: int) -> Float64:
    """Cross-entropy of each row, in nats, shape (M,); see ``loss_and_gradients``."""
    logits = _last_logits(parameters, X, n_threads)[1]
    return -_core.mixture(logits, _log_output(parameters, n_threads), y, n_threads)


def loss_and_gradients(
    parameters: Parameters,
    X: Matrix,
    y: Int32,
    weights: Float64 | None = None,
    n_threads: int = 1,
    out: dict[str, Array] | None = None,
) -> tuple[float, dict[str, Array]]:
    """Mean cross-entropy and its gradient by every parameter.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        As described at the head of the module; finite.
    X : ndarray or csr_array, shape (M, D)
        C-contiguous if dense, in the dtype of the parameters.
    y : ndarray of int32, shape (M,)
        Class numbers.
    weights : ndarray of float64, shape (M,), optional
        A weight for each row; the mean is the weighted one.
    n_threads : int
        Threads of the kernels; products of dense matrices are left to BLAS.
    out : dict of str to ndarray, optional
        Arrays like the parameters, for the gradients.

    Returns
    -------
    loss : float
        In nats; finite even where a probability is 0 in the dtype.
    gradients : dict of str to ndarray
        Like the parameters; ``out`` if it was given.

    Raises
    ------
    ValueError
        If a class number is out of range.

    Notes
    -----
    Kernels ``saffu_mixture`` and ``saffu_softmax_backward``. With r the posterior of the last hidden states h given
    the class, dz = h - r and, for each class c, ``dO_kc = sum_m r_mk softmax(O)_kc - sum over the rows of c of r_mk``.
    """
    gradients = {name: np.empty_like(value) for name, value in parameters.items()} if out is None else out
    n_rows = y.shape[0]
    scale = np.full(n_rows, 1 / n_rows) if weights is None else weights / weights.sum()
    activations, delta = _last_logits(parameters, X, n_threads)
    log_output = _log_output(parameters, n_threads)
    log_prob, posterior = _core.mixture_backward(delta, log_output, y, scale, n_threads)
    _output_gradient(posterior, y, log_output, gradients["output.weights"], n_threads)
    for layer in reversed(range(depth(parameters))):
        below = activations[layer - 1] if layer else X
        product_transposed(below, delta, n_threads, gradients[f"hidden{layer}.weights"])
        np.sum(delta, axis=0, out=gradients[f"hidden{layer}.bias"])
        if layer:
            delta = np.matmul(delta, parameters[f"hidden{layer}.weights"].T)
            _core.softmax_backward(below, delta, n_threads)
    return -float(log_prob @ scale), gradients


def _output_gradient(posterior: Array, y: Int32, log_output: Array, out: Array, n_threads: int) -> None:
    """Write dO (H, N) from the scaled posteriors (M, H) and log softmax(O)^T (N, H)."""
    seen, mass = np.empty(log_output.shape), np.empty(log_output.shape[0])
    _core.moments_labels(posterior, y, None, seen, mass, False, n_threads)
    expected = np.exp(log_output)
    expected *= seen.sum(axis=0)
    np.subtract(expected.T, seen.T, out=out)

"""The explicit solution of a softmax layer as the start of a softmax head in torch; needs the extra ``torch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from saffu.classifier.softmax_layer import SoftmaxLayer
from saffu.utils.arrays import Array, Bools, Float64, Matrix
from saffu.utils.torch_tensors import Tensor, array_of, matrix_of, torch

ROWS = 4096  # whose features a body computes at once
IGNORED = -100  # the label that torch's losses leave out


def warm_start_(
    linear: torch.nn.Linear,
    X: Any,
    y: Any,
    *,
    body: Callable[[Any], Tensor] | None = None,
    ignore_index: int = IGNORED,
    smoothing: float = 0.1,
    n_threads: int | None = None,
) -> torch.nn.Linear:
    """Solve a softmax head by counting, and write the solution into its weight and bias.

    One pass over the rows; then train it as from any other start. Rates that suit a random start are often too large.

    Parameters
    ----------
    linear : torch.nn.Linear
        The head, D inputs and N classes, on any device. Without a bias the shares of the classes are spread over the
        weights, which is exact if the features of every row have the same sum.
    X : tensor, array_like or sparse matrix, shape (.., D)
        Non-negative, finite features, dense or sparse; what comes after ReLU, softmax or sigmoid is. With ``body``
        what that takes, row by row.
    y : tensor or array_like, shape (..)
        Class numbers below N, or soft targets of shape (M, N). Classes without rows start equally unlikely.
    body : callable, optional
        What makes features of X, usually a ``torch.nn.Module``: it is called on 4,096 rows at a time, without
        gradients; a module is in evaluation mode meanwhile.
    ignore_index : int
        Rows of this label are left out.
    smoothing : float
        As for :class:`saffu.SoftmaxLayer`.
    n_threads : int, optional
        By default every available CPU. The solution does not depend on it.

    Returns
    -------
    torch.nn.Linear
        ``linear`` itself.

    Raises
    ------
    ValueError, TypeError
        If a feature is negative or not finite, shapes do not fit the head, or a label is no class.

    Notes
    -----
    Williams and Zhao, arXiv 2311.07498: :class:`saffu.SoftmaxLayer`, from whose weights each feature's mean over the
    classes is taken away, which softmax does not see.

    Examples
    --------
    >>> X, y = torch.tensor([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]]), torch.tensor([0, 0, 1, 1])
    >>> head = warm_start_(torch.nn.Linear(2, 2), X, y)
    >>> head(X).argmax(1)
    tensor([0, 0, 1, 1])
    """
    if not isinstance(linear, torch.nn.Linear):
        raise TypeError(f"linear must be a torch.nn.Linear, got {type(linear).__name__}")
    targets = _targets(y, linear.out_features)
    soft = targets.ndim == 2
    kept = None if soft else targets != ignore_index
    classes = np.arange(linear.out_features) if soft else np.unique(targets[kept])
    if classes.size == 0:
        raise ValueError("y must hold at least one label, got none")
    if classes[0] < 0 or classes[-1] >= linear.out_features:
        raise ValueError(f"y must be in [0, {linear.out_features}), as linear has it, got {classes[[0, -1]].tolist()}")
    layer, begin = SoftmaxLayer(smoothing=smoothing, n_threads=n_threads), 0
    for features in _batches(X, body):
        _check_width(features, linear.in_features)
        part = slice(begin, begin + features.shape[0])
        begin += features.shape[0]
        if begin > targets.shape[0]:
            break
        _count(layer, features, targets[part], None if kept is None else kept[part], classes)
    if begin != targets.shape[0]:
        raise ValueError(f"X must have a row for each of the {targets.shape[0]} labels of y, got {begin} or more")
    _write(linear, *_solution(layer, classes, linear.in_features, linear.out_features))
    return linear


def _targets(y: Any, n_classes: int) -> Array:
    """Class numbers (M,), or soft targets (M, N)."""
    given = array_of(y) if isinstance(y, Tensor) else np.asarray(y)
    if given.dtype.kind == "f" and given.ndim == 2 and given.shape[1] == n_classes > 1:
        return given
    if given.dtype.kind not in "iu":
        raise TypeError(f"y must be class numbers or soft targets (M, {n_classes}), got {given.dtype} {given.shape}")
    return given.reshape(-1).astype(np.int64, copy=False)


def _batches(X: Any, body: Callable[[Any], Tensor] | None) -> Iterator[Matrix]:
    """Features batch by batch, each an array or a csr_array of rows; without a body all at once."""
    if body is None:
        yield _rows(matrix_of(X))
        return
    modules = list(body.modules()) if isinstance(body, torch.nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules[:1]:
            module.eval()
        with torch.no_grad():
            for begin in range(0, len(X), ROWS):
                yield _rows(matrix_of(body(X[begin : begin + ROWS])))
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _rows(features: Any) -> Matrix:
    """All but the last axis as rows."""
    if issparse(features):
        return csr_array(features)
    dense = np.asarray(features)
    return dense.reshape(-1, dense.shape[-1]) if dense.ndim > 2 else dense


def _check_width(features: Matrix, n_features: int) -> None:
    if features.ndim != 2 or features.shape[1] != n_features:
        raise ValueError(f"X must have {n_features} features, as linear has it, got shape {tuple(features.shape)}")


def _count(layer: SoftmaxLayer, features: Matrix, targets: Array, kept: Bools | None, classes: Array) -> None:
    if kept is not None and not kept.all():
        features, targets = features[np.flatnonzero(kept)], targets[kept]
    layer.partial_fit(features, targets, classes=None if targets.ndim == 2 else classes)


def _solution(layer: SoftmaxLayer, classes: Array, n_features: int, n_classes: int) -> tuple[Float64, Float64, float]:
    """Centred weights (D, N) and bias (N,) of all classes, and the mean sum of the features of a row."""
    mass = float(layer.class_mass.sum())
    mean_sum = float(layer.counts.sum()) / mass
    if classes.size == n_classes:
        weights, bias = layer.weights, layer.bias
    else:  # counts of zero and the smoothing: all features equally likely, and next to no share
        scalars, smoothing = layer.scalars, float(layer.smoothing)
        weights = np.full((n_features, n_classes), -scalars["likelihood"] * np.log(n_features))
        bias = np.full(n_classes, scalars["prior"] * np.log(smoothing / (mass + smoothing * n_classes)))
        weights[:, classes], bias[classes] = layer.weights, layer.bias
    return weights - weights.mean(axis=1, keepdims=True), bias - bias.mean(), mean_sum


def _write(linear: torch.nn.Linear, weights: Float64, bias: Float64, mean_sum: float) -> None:
    if linear.bias is None and mean_sum > 0:
        weights = weights + bias / mean_sum
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T)))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(bias))

"""The explicit solution of a softmax layer as the start of a softmax head in torch; needs the extra ``torch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse, vstack

from saffu.classifier.network import ExplicitNetwork
from saffu.classifier.softmax_layer import SoftmaxLayer
from saffu.explicit.newton import newton, primed_loss
from saffu.utils.arrays import Array, Bools, Float64, Matrix
from saffu.utils.threads import resolve_threads
from saffu.utils.torch_tensors import Tensor, array_of, matrix_of, torch

ROWS = 4096  # whose features a body computes at once
PRIMED_ROWS = 20_000  # to which a scalar is fitted
IGNORED = -100  # the label that torch's losses leave out


def warm_start_(
    linear: torch.nn.Linear,
    X: Any,
    y: Any,
    *,
    body: Callable[[Any], Tensor] | None = None,
    corrections: int = 0,
    complement: bool = False,
    smoothing: float = 0.1,
    n_threads: int | None = None,
) -> torch.nn.Linear:
    """Solve a softmax head by counting, and write the solution into its weight and bias.

    One pass over the rows, and a few more with ``corrections``; then train it as from any other start. Rates that suit
    a random start are often too large.

    Parameters
    ----------
    linear : torch.nn.Linear
        The head, D inputs and N classes, on any device. Without a bias the shares of the classes are spread over the
        weights, which is exact if the features of every row have the same sum.
    X : tensor, array_like or sparse matrix, shape (.., D)
        Non-negative, finite features, dense or sparse; what comes after ReLU, softmax or sigmoid is. With ``body``
        what that takes, row by row.
    y : tensor or array_like, shape (..)
        Class numbers below N, or soft targets of shape (M, N). Rows of label -100 are left out, as by torch's losses.
        Classes without rows start equally unlikely.
    body : callable, optional
        What makes features of X, usually a ``torch.nn.Module``: it is called on 4,096 rows at a time, without
        gradients; a module is in evaluation mode meanwhile.
    corrections : int
        At most so many times the counts are moved by how far the head misses the classes, as those of the hidden units
        of :class:`saffu.ExplicitNetwork`, as long as held-out rows gain by it. Each takes a pass over the features,
        which are all in memory then, and the start is nearer to the optimum: for bodies whose epochs take long.
    complement : bool
        Whether the absence of a feature counts too, as for :class:`saffu.ExplicitNetwork`: for pixels and the like,
        not for counts.
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
        If a feature is negative or not finite, shapes do not fit the head, or a label is no class; with corrections or
        complements also if a class has no rows, or targets are soft.

    Notes
    -----
    Williams and Zhao, arXiv 2311.07498: :class:`saffu.SoftmaxLayer`, or the hidden layer of an
    :class:`saffu.ExplicitNetwork` with one unit for each class. Each feature's mean weight over the classes is taken
    away, which softmax does not see.

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
    kept = None if soft else targets != IGNORED
    classes = np.arange(linear.out_features) if soft else np.unique(targets[kept])
    if classes.size == 0:
        raise ValueError("y must hold at least one label, got none")
    if classes[0] < 0 or classes[-1] >= linear.out_features:
        raise ValueError(f"y must be in [0, {linear.out_features}), as linear has it, got {classes[[0, -1]].tolist()}")
    rows = _labelled(_batches(X, body), targets, kept, linear.in_features)
    if corrections or complement:
        if soft or classes.size < linear.out_features:
            raise ValueError("y must hold labels of every class, as corrections and complements need them")
        settings: dict[str, Any] = {"smoothing": smoothing, "n_threads": n_threads}
        settings |= {"corrections": corrections, "complement": complement, "rounds": 1}
        network = ExplicitNetwork(linear.out_features, **settings)
        _write(linear, *_network_solution(network, list(rows)))
        return linear
    layer = SoftmaxLayer(smoothing=smoothing, n_threads=n_threads)
    for features, own in rows:
        layer.partial_fit(features, own, classes=None if soft else classes)
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


def _labelled(
    batches: Iterator[Matrix], targets: Array, kept: Bools | None, n_features: int
) -> Iterator[tuple[Matrix, Array]]:
    """Batches of features and their targets, without the rows that are left out."""
    begin = 0
    for features in batches:
        if features.ndim != 2 or features.shape[1] != n_features:
            raise ValueError(f"X must have {n_features} features, as linear has it, got shape {tuple(features.shape)}")
        part = slice(begin, begin + features.shape[0])
        begin += features.shape[0]
        if begin > targets.shape[0]:
            break
        own = targets[part]
        if kept is None or kept[part].all():
            yield features, own
        else:
            yield features[np.flatnonzero(kept[part])], own[kept[part]]
    if begin != targets.shape[0]:
        raise ValueError(f"X must have a row for each of the {targets.shape[0]} labels of y, got {begin} or more")


def _network_solution(network: ExplicitNetwork, rows: list[tuple[Matrix, Array]]) -> tuple[Float64, Float64, float]:
    """Centred weights (D, N) and bias (N,) of a layer with a unit for each class, and the mean sum of the features.

    The network's output softens what the units decide. The head has no such output: one scalar on its logits brings it
    as near to the network's probabilities as it gets.
    """
    parts, labels = zip(*rows, strict=True)
    X = parts[0] if len(parts) == 1 else (vstack(parts, "csr") if issparse(parts[0]) else np.concatenate(parts))
    network.fit(X, np.concatenate(labels))
    weights, bias = _centred(network.weights[0].astype(np.float64), network.bias[0].astype(np.float64))
    some = X[np.unique(np.linspace(0, X.shape[0] - 1, PRIMED_ROWS, dtype=np.int64))]
    logits = np.ascontiguousarray(some @ weights + bias)
    targets = network.predict_proba(some).astype(np.float64)
    scale = float(newton(primed_loss([logits], targets, None, resolve_threads(network.n_threads)), [1.0])[0])
    return scale * weights, scale * bias, float(X.sum(axis=1).mean())


def _centred(weights: Float64, bias: Float64) -> tuple[Float64, Float64]:
    return weights - weights.mean(axis=1, keepdims=True), bias - bias.mean()


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
    return *_centred(weights, bias), mean_sum


def _write(linear: torch.nn.Linear, weights: Float64, bias: Float64, mean_sum: float) -> None:
    if linear.bias is None and mean_sum > 0:
        weights = weights + bias / mean_sum
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T)))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(bias))

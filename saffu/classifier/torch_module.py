"""Classifiers solved by counting as torch modules, and these modules as classifiers; needs the extra ``torch``.

A module remembers the classifier that it was made of, whose classes, counts and scalars go with its parameters when it
becomes a classifier again. Neither is changed by what becomes of the other.
"""

from __future__ import annotations

import numpy as np

from saffu.classifier import network, softmax_layer
from saffu.utils.arrays import Array
from saffu.utils.torch_tensors import Tensor, array_of, parameter_of, torch


def _product(X: Tensor, linear: torch.nn.Linear) -> Tensor:
    """Logits of dense or sparse rows, in the dtype of the weights."""
    X = X.to(linear.weight.dtype)
    if X.layout is torch.strided:
        return torch.nn.functional.linear(X, linear.weight, linear.bias)
    product: Tensor = torch.sparse.mm(X, linear.weight.T)
    return product + linear.bias


def _set(linear: torch.nn.Linear, weights: Array, bias: Array, dtype: torch.dtype | None, copy: bool) -> None:
    """Give a linear layer weights (D, N) and bias (N,)."""
    linear.weight = parameter_of(weights.T, dtype=dtype, copy=copy)
    linear.bias = parameter_of(bias, dtype=dtype, copy=copy)


def _linears(layers: torch.nn.ModuleList) -> list[torch.nn.Linear]:
    return [layer for layer in layers if isinstance(layer, torch.nn.Linear)]


class SoftmaxLayer(torch.nn.Linear):
    """:class:`saffu.SoftmaxLayer` in torch: a linear layer that gives logits.

    Parameters
    ----------
    model : saffu.SoftmaxLayer
        A fitted layer.
    dtype : torch.dtype, optional
        Of the parameters; by default torch's own, float32 unless it was set.
    copy : bool
        Without effect: the weights are centred first, which copies them.

    Attributes
    ----------
    source : saffu.SoftmaxLayer
        ``model``, whose ``classes_`` are the labels of the logits.

    Examples
    --------
    >>> import saffu
    >>> layer = saffu.SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0]], ["ham", "ham", "spam"])
    >>> module = SoftmaxLayer(layer)
    >>> layer.classes_[int(module(torch.tensor([[4.0, 1.0]])).argmax())]
    np.str_('ham')
    """

    def __init__(self, model: softmax_layer.SoftmaxLayer, *, dtype: torch.dtype | None = None, copy: bool = True):
        found = model._parameters(1.0, np.float64)
        n_features, n_classes = found["weights"].shape
        super().__init__(n_features, n_classes, device="meta")
        self.source = model
        _set(self, found["weights"], found["bias"], dtype, copy)

    def forward(self, X: Tensor) -> Tensor:
        """Logits (.., N) of features (.., D), which are dense or, as a matrix, sparse."""
        return _product(X, self)

    def to_model(self) -> softmax_layer.SoftmaxLayer:
        """A classifier with copies of these parameters; its counts and scalars are those of ``source``."""
        weights, bias = np.array(array_of(self.weight).T), array_of(self.bias).copy()
        return self.source._with_parameters({"weights": weights, "bias": bias}, [])


class ExplicitNetwork(torch.nn.Module):
    """:class:`saffu.ExplicitNetwork` in torch: it gives log-probabilities.

    Parameters
    ----------
    model : saffu.ExplicitNetwork
        A solved network.
    dtype : torch.dtype, optional
        Of the parameters; by default torch's own, float32 unless it was set.
    copy : bool
        False leaves the hidden layers' parameters where the network has them, if it is of that dtype: for prediction
        only, since a step of training would change both.

    Attributes
    ----------
    hidden : torch.nn.ModuleList
        A linear layer for each hidden layer, whose softmax is the next one's input.
    output : torch.nn.Parameter, shape (H, N)
        The logits O of the mixture's components.
    source : saffu.ExplicitNetwork
        ``model``, whose ``classes_`` are the labels of the outputs.

    Examples
    --------
    >>> import saffu
    >>> X, y = [[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], [0, 0, 1, 1]
    >>> module = ExplicitNetwork(saffu.ExplicitNetwork(hidden=(2,)).fit(X, y))
    >>> module(torch.tensor(X)).argmax(1)
    tensor([0, 0, 1, 1])
    """

    def __init__(self, model: network.ExplicitNetwork, *, dtype: torch.dtype | None = None, copy: bool = True):
        super().__init__()
        self.source = model
        self.hidden = torch.nn.ModuleList()
        for weights, bias in zip(model.weights, model.bias, strict=True):
            n_inputs, n_units = weights.shape
            linear = torch.nn.Linear(n_inputs, n_units, device="meta")
            _set(linear, weights, bias, dtype, copy)
            self.hidden.append(linear)
        self.output = parameter_of(model.output, dtype=dtype, copy=copy)

    def forward(self, X: Tensor) -> Tensor:
        """Log-probabilities (M, N) of rows (M, D), dense or sparse; exact, with exact gradients, however small."""
        first, *rest = _linears(self.hidden)
        logits = _product(X, first)
        for linear in rest:
            logits = linear(torch.softmax(logits, -1))
        components = torch.log_softmax(logits, -1)[..., None] + torch.log_softmax(self.output, -1)
        return torch.logsumexp(components, -2)

    def to_model(self) -> network.ExplicitNetwork:
        """A classifier with copies of these parameters; its counts and scalars are those of ``source``."""
        parameters = {"output.weights": array_of(self.output)}
        for depth, linear in enumerate(_linears(self.hidden)):
            parameters[f"hidden{depth}.weights"] = np.ascontiguousarray(array_of(linear.weight).T)
            parameters[f"hidden{depth}.bias"] = array_of(linear.bias)
        return self.source._with_parameters(parameters, [])

"""Encoders of patches and convolutional networks as torch modules, and back; needs the extra ``torch``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from saffu.classifier.torch_module import ExplicitNetwork
from saffu.patches import convnet, patch_encoder
from saffu.patches.geometry import Geometry
from saffu.patches.heads import ABSENT
from saffu.patches.softmax_ridge import SoftmaxRidge
from saffu.utils.arrays import Float32
from saffu.utils.torch_tensors import Tensor, array_of, parameter_of, tensor_of, torch


class PatchEncoder(torch.nn.Module):
    """:class:`saffu.PatchEncoder` in torch: it gives pooled responsibilities.

    Parameters
    ----------
    model : saffu.PatchEncoder
        With units.
    dtype : torch.dtype, optional
        Of the parameters; by default torch's own, float32 unless it was set.
    copy : bool
        False leaves the weights where the encoder has them, if they are of that dtype: for prediction only, since a
        step of training would change both.

    Attributes
    ----------
    weights : torch.nn.Parameter, shape (n_inputs, K)
        The log-rates of the units; the last row is the bias.
    whitening : Tensor or None
        Decorrelates differences; no parameter, but part of the state.
    source : saffu.PatchEncoder
        ``model``.

    Notes
    -----
    Patches are stored here, unlike in the kernel: n_inputs numbers for each place of each image of a batch.

    Examples
    --------
    >>> import saffu
    >>> encoder = saffu.PatchEncoder((4, 4), patch=2, units=3, pool=1).fit(np.eye(16))
    >>> module = PatchEncoder(encoder)
    >>> module(torch.eye(16)).shape
    torch.Size([16, 3])
    >>> module(torch.eye(16)).sum(1).round().unique().tolist()
    [9.0]
    """

    whitening: Tensor | None
    row_cells: Tensor
    column_cells: Tensor

    def __init__(
        self, model: patch_encoder.PatchEncoder, *, dtype: torch.dtype | None = None, copy: bool = True
    ) -> None:
        super().__init__()
        self.geometry, self.contrast = model.geometry, model.contrast
        self.source = model
        self.weights = parameter_of(model.weights_, dtype=dtype, copy=copy)
        white, real = self.contrast.whitening, self.weights.dtype
        self.register_buffer("whitening", None if white is None else tensor_of(white, dtype=real))
        for name, cells in zip(("row_cells", "column_cells"), _cells(self.geometry), strict=True):
            self.register_buffer(name, tensor_of(cells, dtype=real), persistent=False)

    def forward(self, X: Tensor) -> Tensor:
        """Responsibilities (M, cells K) of images (M, D), summed over the places of each cell."""
        found: Tensor = self.pooled(X).flatten(1)
        return found

    def pooled(self, X: Tensor) -> Tensor:
        """The same by cells, (M, cells, K)."""
        p = torch.softmax(self._inputs(X) @ self.weights[:-1] + self.weights[-1], -1)
        return torch.einsum("myxk,yr,xc->mrck", p, self.row_cells, self.column_cells).flatten(1, 2)

    def _inputs(self, X: Tensor) -> Tensor:
        """What units see of the patch at each place, (M, rows, columns, n_inputs - 1)."""
        (tall, wide), step = self.geometry.patch, self.geometry.stride
        images = X.to(self.weights.dtype).reshape(-1, *self.geometry.shape) * self.contrast.scale
        patches = images.unfold(1, tall, step).unfold(2, wide, step).permute(0, 1, 2, 4, 5, 3).flatten(3)
        mean = patches.mean(-1, keepdim=True)
        z = patches - mean
        if self.contrast.kind == "deviation":
            square = (z * z).mean(-1, keepdim=True)
            # The slope of a root at zero is infinite: patches of one value have the deviation of a negligible square.
            z = z / (torch.sqrt(square.clamp(min=torch.finfo(z.dtype).tiny)) + self.contrast.spread)
        else:
            z = z / self.contrast.spread
        if self.whitening is not None:
            z = z @ self.whitening.T
        return torch.cat([z.clamp(min=0), (-z).clamp(min=0), mean, 1 - mean], -1)

    def to_model(self) -> patch_encoder.PatchEncoder:
        """An encoder with a copy of these weights; its contrast is that of ``source``."""
        return self.source.with_weights(_float32(self.weights))


def _cells(geometry: Geometry) -> list[Float32]:
    """For each direction, which cell a row or column of places lies in: ones, shape (places, cells)."""
    return [
        np.eye(cells, dtype=np.float32)[np.arange(places) * cells // places]
        for places, cells in zip(geometry.places, geometry.pool, strict=True)
    ]


def _float32(tensor: Tensor) -> Float32:
    """A copy, as models of images have their parameters."""
    return np.array(array_of(tensor), np.float32, order="C")


class ExplicitConvNet(torch.nn.Module):
    """:class:`saffu.ExplicitConvNet` in torch: it gives log-probabilities.

    Parameters
    ----------
    model : saffu.ExplicitConvNet
        A solved network.
    dtype : torch.dtype, optional
        Of the parameters; by default torch's own, float32 unless it was set.
    copy : bool
        False leaves parameters where the network has them, if they are of that dtype: for prediction only, since a
        step of training would change both.

    Attributes
    ----------
    encoder : PatchEncoder
        The local units.
    layer : torch.nn.Linear or None
        Of the square roots of their pooled responsibilities, if the head has one.
    network : ExplicitNetwork or None
        Of the responsibilities themselves, if the head has one.
    powers : torch.nn.Parameter, shape (1,) or (2,)
        Of the layer and of the network, as far as there are both.
    source : saffu.ExplicitConvNet
        ``model``, whose ``classes_`` are the labels of the outputs.

    Examples
    --------
    >>> import saffu
    >>> X, y = np.repeat(np.eye(16), 2, axis=0), np.repeat(np.arange(16) % 4 // 2, 2)
    >>> model = saffu.ExplicitConvNet((4, 4), patch=2, units=4, pool=2, head="layer").fit(X, y)
    >>> module = ExplicitConvNet(model)
    >>> model.classes_[module(torch.tensor(X[:2])).argmax(1)].tolist() == y[:2].tolist()
    True
    """

    def __init__(self, model: convnet.ExplicitConvNet, *, dtype: torch.dtype | None = None, copy: bool = True) -> None:
        super().__init__()
        how: dict[str, Any] = {"dtype": dtype, "copy": copy}
        head = model.solution.head
        self.source = model
        self.encoder = PatchEncoder(model.encoder_, **how)
        self.layer = None if head.layer is None else _linear(head.layer, **how)
        self.network = None if head.network is None else ExplicitNetwork(head.network, **how)
        self.powers = parameter_of(head.powers, **how)

    def forward(self, X: Tensor) -> Tensor:
        """Log-probabilities (M, N) of images (M, D)."""
        pooled = self.encoder(X)
        parts = []
        if self.layer is not None:
            parts.append(torch.log_softmax(self.layer(torch.sqrt(pooled + ABSENT)), -1))
        if self.network is not None:
            parts.append(self.network(pooled))
        return torch.log_softmax(torch.stack(parts, -1) @ self.powers, -1)

    def to_model(self) -> convnet.ExplicitConvNet:
        """A classifier with copies of these parameters; its contrast, classes and ridge are those of ``source``."""
        solution = self.source.solution
        layer = None if self.layer is None else SoftmaxRidge(_float32(self.layer.weight.T), _float32(self.layer.bias))
        network = None if self.network is None else self.network.to_model()
        powers = np.array(array_of(self.powers), np.float64)
        head = replace(solution.head, layer=layer, network=network, powers=powers)
        return self.source.with_solution(replace(solution, encoder=self.encoder.to_model(), head=head))


def _linear(layer: SoftmaxRidge, dtype: torch.dtype | None, copy: bool) -> torch.nn.Linear:
    """The layer of a head."""
    n_features, n_classes = layer.weights.shape
    made = torch.nn.Linear(n_features, n_classes, device="meta")
    made.weight = parameter_of(layer.weights.T, dtype=dtype, copy=copy)
    made.bias = parameter_of(layer.bias, dtype=dtype, copy=copy)
    return made

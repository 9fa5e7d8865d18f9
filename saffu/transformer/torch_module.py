"""The same transformer as a torch module, so that models trained in torch can grow; needs the extra ``torch``.

Arrays have the names and shapes of :func:`saffu.transformer.sizes.sizes_of`, and all of :mod:`saffu.grow` takes these
modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.text import Vocabulary
from saffu.transformer import model
from saffu.transformer.functional import ACTIVATIONS, EPSILON, MASKED, NOTHING
from saffu.transformer.sizes import LAYER_PARTS, layer_name, sizes_of
from saffu.utils import validate
from saffu.utils.arrays import Array
from saffu.utils.torch_tensors import Tensor, array_of, tensor_of, torch


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return x * (math.sqrt(x.shape[-1]) / torch.sqrt((x * x).sum(-1, keepdim=True) + EPSILON)) * gain


class Layer(torch.nn.Module):
    """Attention and perceptron; parameters by their parts' names."""

    attention_gain: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    merge: Tensor
    mlp_gain: Tensor
    expand: Tensor
    expand_bias: Tensor
    contract: Tensor
    contract_bias: Tensor

    def __init__(self, arrays: Mapping[str, Tensor], activation: str) -> None:
        super().__init__()
        for part, value in arrays.items():
            setattr(self, part, torch.nn.Parameter(value))
        self.activate = torch.nn.functional.relu if activation == "relu" else torch.nn.functional.gelu

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States of all places, (B, T, h), after the layer."""
        n = _norm(x, self.attention_gain)
        q, k, v = (torch.einsum("bth,ehk->betk", n, W) for W in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        a = torch.softmax(scores.masked_fill(~mask, MASKED), -1)
        x = x + torch.einsum("betv,evh->bth", a @ v, self.merge)
        n = _norm(x, self.mlp_gain)
        return x + self.activate(n @ self.expand + self.expand_bias) @ self.contract + self.contract_bias


class Transformer(torch.nn.Module):
    """:class:`saffu.Transformer` in torch.

    Parameters
    ----------
    arrays : mapping of str to array
        By the names of :func:`saffu.transformer.sizes.sizes_of`; arrays are copied, tensors taken as they are. Those of
        a :class:`saffu.Transformer` are its ``arrays``.
    activation : {"relu", "gelu"}
    causal : bool

    Attributes
    ----------
    growth : list of dict
        What the model has grown by, oldest first.
    vocabulary : saffu.text.Vocabulary or None

    Raises
    ------
    ValueError
        If an array is missing, unknown, or does not fit the others.

    Examples
    --------
    >>> import saffu
    >>> from saffu.torch import Transformer
    >>> module = Transformer(saffu.Transformer(5, hidden=4, layers=1, positions=8).arrays)
    >>> module(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 5])
    >>> saffu.grow.hidden(module, 6).output.shape
    torch.Size([6, 5])
    """

    def __init__(self, arrays: Mapping[str, Any], *, activation: str = "relu", causal: bool = True) -> None:
        super().__init__()
        found = {name: v if isinstance(v, Tensor) else tensor_of(np.asarray(v)) for name, v in arrays.items()}
        n_layers = len(sizes_of(found))
        self.activation, self.causal = validate.choice(activation, "activation", ACTIVATIONS), bool(causal)
        self.embedding = torch.nn.Parameter(found["embedding"])
        self.positions = torch.nn.Parameter(found["positions"])
        self.output = torch.nn.Parameter(found["output"])
        self.layers = torch.nn.ModuleList(
            Layer({part: found[layer_name(layer, part)] for part in LAYER_PARTS}, self.activation)
            for layer in range(n_layers)
        )
        self.growth: list[dict[str, Any]] = []
        self.vocabulary: Vocabulary | None = None

    @classmethod
    def of(cls, source: model.Transformer, *, dtype: torch.dtype | None = None, copy: bool = True) -> Self:
        """The module of a :class:`saffu.Transformer`; see :func:`saffu.torch.to_module`."""
        dtype = dtype or torch.get_default_dtype()
        tensors = {name: tensor_of(array, dtype=dtype, copy=copy) for name, array in source.arrays.items()}
        module = cls(tensors, activation=source.activation, causal=source.causal)
        module.growth, module.vocabulary = [dict(record) for record in source.growth], source.vocabulary
        return module

    def to_model(self) -> model.Transformer:
        """A :class:`saffu.Transformer` of copies of the parameters."""
        found = model.Transformer.from_arrays(self.arrays, activation=self.activation, causal=self.causal)
        found.growth, found.vocabulary = [dict(record) for record in self.growth], self.vocabulary
        return found

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T), -1 at the ends of short rows."""
        T = ids.shape[1]
        x = self.embedding[ids.clamp(min=0)] + self.positions[:T]
        if self.causal:
            mask = torch.ones(T, T, dtype=torch.bool, device=ids.device).tril()[None, None]
        else:
            mask = (ids != NOTHING)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        return x @ self.output

    @property
    def arrays(self) -> dict[str, Array]:
        """Copies of all parameters as numpy arrays."""
        found = {name: getattr(self, name) for name in ("embedding", "positions", "output")}
        for layer, module in enumerate(self.layers):
            found |= {layer_name(layer, part): getattr(module, part) for part in LAYER_PARTS}
        return {name: array_of(value).copy() for name, value in found.items()}

    def with_arrays(self, arrays: Mapping[str, ArrayLike]) -> Self:
        """A module of other arrays on the same device, in the same mode; its optimiser has to be made anew."""
        other = type(self)(arrays, activation=self.activation, causal=self.causal)
        other = other.to(self.output.device).train(self.training)
        other.growth, other.vocabulary = [dict(record) for record in self.growth], self.vocabulary
        return other

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

from saffu.transformer.functional import ACTIVATIONS, EPSILON, MASKED, NOTHING
from saffu.transformer.sizes import LAYER_PARTS, layer_name, sizes_of
from saffu.utils import validate
from saffu.utils.arrays import Array

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # pragma: no cover - this module is of no use without torch
    raise ImportError("saffu.torch needs torch: pip install 'saffu[torch]'") from error


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return x * (math.sqrt(x.shape[-1]) / torch.sqrt((x * x).sum(-1, keepdim=True) + EPSILON)) * gain


class Layer(nn.Module):
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
            setattr(self, part, nn.Parameter(value))
        self.activate = nn.functional.relu if activation == "relu" else nn.functional.gelu

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States of all places, (B, T, h), after the layer."""
        n = _norm(x, self.attention_gain)
        q, k, v = (torch.einsum("bth,ehk->betk", n, W) for W in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        a = torch.softmax(scores.masked_fill(~mask, MASKED), -1)
        x = x + torch.einsum("betv,evh->bth", a @ v, self.merge)
        n = _norm(x, self.mlp_gain)
        return x + self.activate(n @ self.expand + self.expand_bias) @ self.contract + self.contract_bias


class Transformer(nn.Module):
    """:class:`saffu.Transformer` in torch.

    Parameters
    ----------
    arrays : mapping of str to array
        By the names of :func:`saffu.transformer.sizes.sizes_of`; copied. Those of a :class:`saffu.Transformer` are its
        ``arrays``.
    activation : {"relu", "gelu"}
    causal : bool

    Attributes
    ----------
    growth : list of dict
        What the model has grown by, oldest first.

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

    def __init__(self, arrays: Mapping[str, ArrayLike], *, activation: str = "relu", causal: bool = True) -> None:
        super().__init__()
        found = {name: torch.tensor(np.asarray(value)) for name, value in arrays.items()}
        n_layers = len(sizes_of(found))
        self.activation, self.causal = validate.choice(activation, "activation", ACTIVATIONS), bool(causal)
        self.embedding = nn.Parameter(found["embedding"])
        self.positions = nn.Parameter(found["positions"])
        self.output = nn.Parameter(found["output"])
        self.layers = nn.ModuleList(
            Layer({part: found[layer_name(layer, part)] for part in LAYER_PARTS}, self.activation)
            for layer in range(n_layers)
        )
        self.growth: list[dict[str, Any]] = []

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
        return {name: value.detach().cpu().numpy().copy() for name, value in found.items()}

    def with_arrays(self, arrays: Mapping[str, ArrayLike]) -> Self:
        """A module of other arrays on the same device, in the same mode; its optimiser has to be made anew."""
        other = type(self)(arrays, activation=self.activation, causal=self.causal)
        other = other.to(self.output.device).train(self.training)
        other.growth = [dict(record) for record in self.growth]
        return other

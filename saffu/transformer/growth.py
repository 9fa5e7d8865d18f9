"""A transformer grown to given sizes by composing the six expansions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from saffu.transformer import expansions
from saffu.utils import validate
from saffu.utils.initializers import Init

if TYPE_CHECKING:
    from saffu.transformer.model import Transformer

Model = TypeVar("Model", bound="Transformer")

SIZES = ("layers", "heads", "hidden", "mlp", "value", "key")


def grown(model: Model, sizes: Mapping[str, int], seed: int, init: Init) -> Model:
    """Enlarge to ``sizes``, by the names of :data:`SIZES`; expansions follow each other in that order.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, or a size is smaller than what there is.
    """
    if unknown := sorted(set(sizes) - set(SIZES)):
        raise TypeError(f"sizes must be some of {', '.join(SIZES)}, got {unknown[0]!r}")
    if "layers" in sizes:
        model = _with_layers(model, sizes["layers"], seed, init)
    if "heads" in sizes:
        model = _with_heads(model, sizes["heads"], seed, init)
    for name, expand in (
        ("hidden", expansions.hidden),
        ("mlp", expansions.mlp),
        ("value", expansions.head_dim),
        ("key", expansions.key_dim),
    ):
        if name in sizes:
            model = expand(model, sizes[name], seed=seed, init=init)
    return model


def _with_layers(model: Model, layers: int, seed: int, init: Init) -> Model:
    present = len(model.sizes)
    if validate.size(layers, "layers", 0) < present:
        raise ValueError(f"layers must be at least {present}, as there are now: a model can grow only, got {layers}")
    for _ in range(layers - present):
        model = expansions.add_layer(model, seed=seed, init=init)
    return model


def _with_heads(model: Model, heads: int, seed: int, init: Init) -> Model:
    heads = validate.size(heads, "heads")
    for layer, size in enumerate(model.sizes):
        if heads < size.heads:
            raise ValueError(f"heads must be at least {size.heads}, as there are in layer {layer}, got {heads}")
        model = expansions.add_heads(model, heads - size.heads, layers=layer, seed=seed, init=init)
    return model

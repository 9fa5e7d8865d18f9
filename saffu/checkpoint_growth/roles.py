"""What a family of models is described by: the role of each of its tensors, axis by axis.

A decoder computes, with a residual state x of ``hidden`` numbers,

    x = embedding[token];   x += merge(attend(norm(x)));   x += contract(activate(expand(norm(x))));   head(norm(x))

so each axis of each tensor means one of few things, and what growth does to a tensor follows from its axes alone. An
axis that *reads* meets only zeros behind the old numbers of a state, so its new entries are free; one that *writes*
into the state must not disturb it, so its new entries are zero. A tensor's entry is zero where any of its axes asks for
that, free where one is new and none does, and otherwise the old entry, times the tensor's scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Config = Mapping[str, Any]
New = Literal["free", "zero", "mean"]
Kind = Literal["weight", "bias", "gain"]


class LayerSizes(NamedTuple):
    """Sizes of a layer.

    Examples
    --------
    >>> LayerSizes(heads=8, kv_heads=2, key=16, value=16, mlp=256).heads
    8
    """

    heads: int
    kv_heads: int
    key: int
    value: int
    mlp: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model; those of the vocabulary, of what may stand in a text and of positions never change."""

    hidden: int
    vocabulary: int
    inputs: int
    positions: int
    layers: tuple[LayerSizes, ...]

    def of(self, axis: Axis, layer: int | None) -> int:
        """How many entries an axis has, in a layer or outside of all (None)."""
        owner: Any = self if layer is None or hasattr(self, axis.size) else self.layers[layer]
        found: int = getattr(owner, axis.size)
        return found


@dataclass(frozen=True)
class Axis:
    """What an axis counts, and what its new entries are."""

    size: str
    new: New = "free"


VOCABULARY, INPUTS, POSITIONS = Axis("vocabulary"), Axis("inputs"), Axis("positions")
READ, GAIN = Axis("hidden"), Axis("hidden")
WRITE, SHIFT = Axis("hidden", "zero"), Axis("hidden", "zero")
WRITE_MEAN = Axis("hidden", "mean")  # where norms subtract the mean of the state: the new numbers are that mean
QUERY_HEADS, MERGED_HEADS, GROUPS = Axis("heads"), Axis("heads", "zero"), Axis("kv_heads")
QUERY, KEY, VALUE, MERGED = Axis("key"), Axis("key", "zero"), Axis("value"), Axis("value", "zero")
EXPAND, CONTRACT = Axis("mlp"), Axis("mlp", "zero")


@dataclass(frozen=True)
class Role:
    """The role of a tensor, or of one part of a fused tensor.

    Parameters
    ----------
    name : str
        With ``{layer}`` for the number of the layer, in every layer.
    axes : tuple of tuples of Axis
        For each axis of the tensor what it is made of, outermost first: rows of a query matrix are heads times widths.
    kind : {"weight", "bias", "gain"}
        Free new entries of weights are random (or what the caller makes of them), of biases 0, of gains 1.
    scales : tuple of str
        Names in :data:`saffu.checkpoint_growth.scales.SCALES`; old entries are multiplied by their product.
    silent : bool
        Whether it is zero in a new layer, which then adds nothing to the state.
    when : str
        An entry of the config without which there is no such tensor; with ``not`` before it, one with which there is
        none.
    parts : tuple of Role
        Of a fused tensor, one behind the other along axis ``fused``.
    """

    name: str
    axes: tuple[tuple[Axis, ...], ...] = ()
    kind: Kind = "weight"
    scales: tuple[str, ...] = ()
    silent: bool = False
    when: str = ""
    parts: tuple[Role, ...] = ()
    fused: int = 0

    @property
    def in_layers(self) -> bool:
        """Whether every layer has one."""
        return "{layer}" in self.name

    def present(self, config: Config) -> bool:
        """Whether a model of this config has the tensor."""
        if self.when.startswith("not "):
            return not config.get(self.when.removeprefix("not "))
        return not self.when or bool(config.get(self.when))

    def inputs(self, sizes: Sizes, layer: int | None) -> int:
        """How many numbers go into each that a weight makes; for embeddings, their width."""
        if self.parts:
            return self.parts[0].inputs(sizes, layer)
        flat = [axis for axes in self.axes for axis in axes]
        read = [axis for axis in flat if axis in (READ, MERGED_HEADS, MERGED, CONTRACT)]
        return math.prod(sizes.of(axis, layer) for axis in (read or flat[-1:]))

    def shape(self, sizes: Sizes, layer: int | None) -> tuple[int, ...]:
        """Shape of the tensor."""
        if self.parts:
            shapes = [part.shape(sizes, layer) for part in self.parts]
            whole = list(shapes[0])
            whole[self.fused] = sum(shape[self.fused] for shape in shapes)
            return tuple(whole)
        shape = []
        for axes in self.axes:
            shape.append(math.prod(sizes.of(axis, layer) for axis in axes))
        return tuple(shape)


@dataclass(frozen=True)
class Family:
    """A family of models.

    Parameters
    ----------
    name : str
        As messages call it.
    roles : tuple of Role
        Of all tensors.
    keys : mapping
        Under which name the config has ``hidden``, ``layers``, ``heads``, ``kv_heads``, ``head_dim`` (or ``key`` and
        ``value``), ``mlp``, ``vocabulary``, ``inputs`` and ``positions``; those it lacks follow from others.
    defaults : mapping
        Entries that a config may lack; a function of the config gives what depends on others.
    prefix : str
        Of the names in a model with a head, which the same model without one lacks.
    ignored : tuple of str
        Regular expressions of names of constants that some checkpoints hold; they are left out.
    epsilon : str
        The entry of the config that norms add to the mean square; it is scaled with the width.
    gain_offset : float
        What norms add to their stored gain.
    rotary : bool
        Whether queries and keys are rotated by positions, in pairs (i, i + width / 2).
    square_heads : bool
        Whether the width of a head is hidden / heads, and cannot be chosen.
    normed_heads : bool
        Whether queries and keys are normed, so that heads cannot become wider.
    divisible : bool
        Whether hidden must be a multiple of heads though heads have a width of their own.
    refusals : tuple of functions
        Each gives a reason why a config cannot be grown, or None.
    layer_lists : tuple of str
        Entries of the config that have an entry for each layer.
    """

    name: str
    roles: tuple[Role, ...]
    keys: Mapping[str, str]
    defaults: Mapping[str, Any]
    prefix: str
    ignored: tuple[str, ...] = ()
    epsilon: str = ""
    gain_offset: float = 0.0
    rotary: bool = True
    square_heads: bool = False
    normed_heads: bool = False
    divisible: bool = False
    refusals: tuple[Callable[[Config], str | None], ...] = ()
    layer_lists: tuple[str, ...] = ()

    def complete(self, config: Config) -> dict[str, Any]:
        """A config with its defaults."""
        whole = dict(config)
        for name, value in self.defaults.items():
            if whole.get(name) is None:
                whole[name] = value(whole) if callable(value) else value
        return whole

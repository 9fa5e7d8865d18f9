"""What growth will do to each tensor of a model, before anything is done."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saffu.checkpoint_growth import sizes as model_sizes
from saffu.checkpoint_growth.families import FAMILIES, config_of_arrays
from saffu.checkpoint_growth.heads import NEW, head_maps, padded, rotary_map
from saffu.checkpoint_growth.roles import Axis, Config, Family, Role, Sizes
from saffu.checkpoint_growth.scales import SCALES, Change, embedding_factor
from saffu.utils.arrays import Int64

CONFIG = "config.json"


@dataclass(frozen=True)
class Step:
    """What becomes of one tensor.

    Attributes
    ----------
    name : str
        Of the larger model.
    source : str or None
        The old tensor; None in a new layer.
    old_shape, shape : tuple of int
    scale : float or tuple of float
        What old entries are multiplied by; of a fused tensor, of each part.
    copied, zero, mean, free : int
        How many entries are old (and scaled), zero, means of old ones, and free.
    inputs : int
        How many numbers go into each that a weight makes.
    """

    name: str
    source: str | None
    old_shape: tuple[int, ...]
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    copied: int
    zero: int
    mean: int
    free: int
    inputs: int = field(repr=False)
    role: Role = field(repr=False)
    old_layer: int | None = field(repr=False)
    new_layer: int | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model grows; :func:`saffu.grow.plan` makes one.

    Attributes
    ----------
    family : Family
    old, new : Sizes
    old_config, config : dict
        Of the model, completed, and of the larger one.
    sources : tuple of int or None
        For each layer of the larger model the old one that it was.
    target : dict
        What was asked for, as :func:`saffu.grow.plan` takes it.
    embedding_factors : pair of float
        What the family multiplies embeddings by, before and after.

    Examples
    --------
    >>> import saffu
    >>> print(plan(saffu.Transformer(5, hidden=4, layers=1, positions=8), key=6))
    saffu.Transformer: hidden 4, layers 1, mlp 16, heads 1, kv_heads 1, head_dim 4
             grown to: hidden 4, layers 1, mlp 16, heads 1, kv_heads 1, key 6, value 4
    parameters 296 -> 312
    <BLANKLINE>
    tensor                     shape                    copied  times  zero  mean  free
    embedding                  6 x 4                        24
    positions                  8 x 4                        32
    layer*.attention_gain x 1  4                             4
    layer*.query x 1           1 x 4 x 4  -> 1 x 4 x 6      16  1.225                 8
    layer*.key x 1             1 x 4 x 4  -> 1 x 4 x 6      16            8
    layer*.value x 1           1 x 4 x 4                    16
    layer*.merge x 1           1 x 4 x 4                    16
    layer*.mlp_gain x 1        4                             4
    layer*.expand x 1          4 x 16                       64
    layer*.expand_bias x 1     16                           16
    layer*.contract x 1        16 x 4                       64
    layer*.contract_bias x 1   4                             4
    output                     4 x 5                        20
    """

    family: Family
    old: Sizes
    new: Sizes
    old_config: Config
    config: Config
    sources: tuple[int | None, ...]
    target: Mapping[str, Any]
    embedding_factors: tuple[float, float]

    @property
    def steps(self) -> list[Step]:
        """One step for each tensor, in the order of the layers."""
        return list(_steps(self))

    @property
    def n_parameters(self) -> tuple[int, int]:
        """How many numbers the model has before and after."""
        steps = self.steps
        return sum(math.prod(s.old_shape) for s in steps if s.source), sum(math.prod(s.shape) for s in steps)

    def __str__(self) -> str:
        from saffu.checkpoint_growth.report import table

        return table(self)


def plan(config: Any, *, places: model_sizes.Places = None, dtype: str | None = None, **target: Any) -> Plan:
    """Plan how a decoder grows, exactly: what becomes of each tensor.

    Parameters
    ----------
    config : dict, transformers config or model, folder of a checkpoint, saffu.Transformer or saffu.torch.Transformer
    places : {"end", "spread"} or sequence of int, optional
        Where new layers stand: how many old layers come before each; behind all by default.
    dtype : str, optional
        In which both models compute; by default what the config says.
    **target : int
        Sizes to reach, some of ``hidden``, ``layers``, ``mlp``, ``heads``, ``kv_heads`` and ``head_dim`` (``key`` and
        ``value`` in a :class:`saffu.Transformer`); the others stay as they are, but for as many key/value heads as
        heads where that was so.

    Returns
    -------
    Plan
        Its ``steps`` say what is copied, scaled, zero and free in each tensor; printed, it is a table of them.

    Raises
    ------
    ValueError, TypeError
        If the family is unknown, or the growth cannot be exact; the message says why.

    Examples
    --------
    >>> small = {"model_type": "llama", "vocab_size": 50, "hidden_size": 8, "intermediate_size": 16,
    ...          "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> larger = plan(small, hidden=12, mlp=24)
    >>> larger.n_parameters
    (1464, 2484)
    >>> down = next(step for step in larger.steps if "down_proj" in step.name)
    >>> down.copied, down.zero, down.free
    (128, 160, 0)
    """
    given = config_of(config)
    family = family_of(given)
    whole = family.complete(given)
    old = model_sizes.sizes_of(family, whole)
    asked = model_sizes.checked_target(family, target)
    sources = model_sizes.layer_sources(len(old.layers), asked.get("layers", len(old.layers)), places)
    new = model_sizes.new_sizes(family, whole, old, asked, sources)
    changed = model_sizes.new_config(family, whole, old, new, sources)
    kind = dtype or dtype_of(given)
    factors = embedding_factor(old.hidden, kind), embedding_factor(new.hidden, kind)
    return Plan(
        family=family,
        old=old,
        new=new,
        old_config=whole,
        config=changed,
        sources=sources,
        target=asked | {"places": places},
        embedding_factors=factors,
    )


def config_of(source: Any) -> dict[str, Any]:
    """The config of a model, of a folder, or itself, as a dict."""
    if isinstance(source, (str, os.PathLike)):
        path = os.path.join(source, CONFIG)
        with open(path, encoding="utf-8") as file:
            try:
                source = json.load(file)
            except ValueError as error:
                raise ValueError(f"{path!r} is no JSON: {error}") from error
    if hasattr(source, "with_arrays"):
        return config_of_arrays(source.arrays)
    source = getattr(source, "config", source)
    if not isinstance(source, Mapping) and hasattr(source, "to_dict"):
        source = source.to_dict()
    if not isinstance(source, Mapping):
        raise TypeError(
            f"config must be a dict, a transformers config or model, or a folder, got {type(source).__name__}"
        )
    return dict(source)


def family_of(config: Config) -> Family:
    """The family of a config; ValueError if it is unknown, or the model is one that cannot be grown."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"model_type must be one of {', '.join(sorted(FAMILIES))}, got {kind!r}")
    family = FAMILIES[kind]
    for refusal in family.refusals:
        if reason := refusal(config):
            raise ValueError(f"this model cannot be grown: {reason}")
    return family


def dtype_of(config: Config) -> str:
    """Of what numbers a config says that its model is."""
    return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")


# ---- steps -----------------------------------------------------------------------------------------------------------


def _steps(planned: Plan) -> Iterator[Step]:
    roles = [role for role in planned.family.roles if role.present(planned.config)]
    inside = [role for role in roles if role.in_layers]
    first = roles.index(inside[0]) if inside else len(roles)
    for role in roles[:first]:
        yield _step(planned, role, None, None)
    for new_layer, old_layer in enumerate(planned.sources):
        for role in inside:
            yield _step(planned, role, old_layer, new_layer)
    for role in roles[first:]:
        if not role.in_layers:
            yield _step(planned, role, None, None)


def _step(planned: Plan, role: Role, old_layer: int | None, new_layer: int | None) -> Step:
    shape = role.shape(planned.new, new_layer)
    name, inputs = role.name.format(layer=new_layer), role.inputs(planned.new, new_layer)
    if new_layer is not None and old_layer is None:
        total = math.prod(shape)
        zero = total if role.silent or role.kind == "bias" else 0
        return Step(name, None, (), shape, (), 0, zero, 0, total - zero, inputs, role, None, new_layer)
    parts = role.parts or (role,)
    scales = tuple(scale_of(planned, part, old_layer, new_layer) for part in parts)
    counts = [_counts(part, maps_of(planned, part, old_layer, new_layer)) for part in parts]
    copied, zero, mean, free = (sum(some) for some in zip(*counts, strict=True))
    source, old_shape = role.name.format(layer=old_layer), role.shape(planned.old, old_layer)
    return Step(name, source, old_shape, shape, scales, copied, zero, mean, free, inputs, role, old_layer, new_layer)


def maps_of(planned: Plan, role: Role, old_layer: int | None, new_layer: int | None) -> list[list[Int64]]:
    """For each axis of a tensor, the maps of what it is made of."""
    return [[_map(planned, axis, old_layer, new_layer) for axis in axes] for axes in role.axes]


def _map(planned: Plan, axis: Axis, old_layer: int | None, new_layer: int | None) -> Int64:
    old, new = planned.old.of(axis, old_layer), planned.new.of(axis, new_layer)
    if axis.size in ("heads", "kv_heads"):
        assert old_layer is not None
        assert new_layer is not None
        before, after = planned.old.layers[old_layer], planned.new.layers[new_layer]
        queries, groups = head_maps((before.heads, after.heads), (before.kv_heads, after.kv_heads))
        return queries if axis.size == "heads" else groups
    if axis.size == "key" and planned.family.rotary:
        return rotary_map(old, new)
    return padded(old, new)


def scale_of(planned: Plan, role: Role, old_layer: int | None, new_layer: int | None) -> float:
    """The factor of the old entries of a tensor."""
    change = Change(planned.config, planned.old, planned.new, old_layer, new_layer, planned.embedding_factors)
    return math.prod(SCALES[name](change) for name in role.scales)


def _counts(role: Role, maps: Sequence[Sequence[Int64]]) -> tuple[int, int, int, int]:
    """How many entries are copied, zero, means and free."""
    total = copied = not_zero = no_mean = 1
    for axes, found in zip(role.axes, maps, strict=True):
        for axis, places in zip(axes, found, strict=True):
            old = int((places != NEW).sum())
            total *= places.size
            copied *= old
            not_zero *= old if axis.new in ("zero", "mean") else places.size
            no_mean *= old if axis.new in ("zero",) else places.size
    mean = no_mean - not_zero
    free = not_zero - copied
    if role.kind == "bias":  # whose free entries are zero
        return copied, total - copied - mean, mean, 0
    return copied, total - not_zero - mean, mean, free


def layer_of(name: str, role: Role) -> int | None:
    """The number of the layer in a name of this role; None outside of layers, or if the name is of another role."""
    found = re.fullmatch(re.escape(role.name).replace(r"\{layer\}", r"(\d+)"), name)
    return int(found[1]) if found and role.in_layers else None

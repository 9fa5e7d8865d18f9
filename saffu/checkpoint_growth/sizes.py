"""Sizes of a model from its config and a target, and the config of the larger one; what cannot be exact is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saffu.checkpoint_growth.heads import head_maps, rotary_map
from saffu.checkpoint_growth.roles import Config, Family, LayerSizes, Sizes
from saffu.utils import validate

TARGETS = ("hidden", "layers", "mlp", "heads", "kv_heads", "head_dim", "key", "value")
IN_LAYERS = TARGETS[2:]
LARGEST = validate.LARGEST | {"kv_heads": validate.LARGEST["heads"]}
# Kinds of rotation whose frequencies are functions of base^(-2 i / head_dim) alone.
ROTATIONS = ("default", "linear", "llama3")
Places = str | Sequence[int] | None
Target = Mapping[str, int]


# ---- what there is ---------------------------------------------------------------------------------------------------


def sizes_of(family: Family, config: Config) -> Sizes:
    """Sizes that a complete config gives."""
    keys = family.keys
    hidden, vocabulary = _entry(config, keys["hidden"]), _entry(config, keys["vocabulary"])
    n = _entry(config, keys["layers"])
    each = {name: _entries(config, keys[name], n) for name in IN_LAYERS if name in keys}
    layers = []
    for layer in range(n):
        size = {name: values[layer] for name, values in each.items()}
        heads = size["heads"]
        kv_heads = size.get("kv_heads", heads)
        if heads % kv_heads:
            raise ValueError(f"the config has {heads} heads in {kv_heads} groups, which is no whole number in each")
        if family.square_heads and hidden % heads:
            raise ValueError(f"the config has a hidden size of {hidden}, which is no multiple of its {heads} heads")
        width = size.get("head_dim", hidden // heads)
        layers.append(LayerSizes(heads, kv_heads, size.get("key", width), size.get("value", width), size["mlp"]))
    for name in family.layer_lists:
        if not isinstance(config.get(name), (list, tuple)) or len(config[name]) != n:
            raise ValueError(f"the config's {name} must have an entry for each of {n} layers, got {config.get(name)!r}")
    inputs = _entry(config, keys["inputs"]) if "inputs" in keys else vocabulary
    positions = _entry(config, keys["positions"]) if "positions" in keys else 0
    return Sizes(hidden, vocabulary, inputs, positions, tuple(layers))


def _entry(config: Config, name: str) -> int:
    return _positive(config.get(name), name)


def _entries(config: Config, name: str, n: int) -> list[int]:
    """An entry for each layer; one number is that of all."""
    value = config.get(name)
    if not isinstance(value, (list, tuple)):
        return [_positive(value, name)] * n
    if len(value) != n:
        raise ValueError(f"the config's {name} must have an entry for each of {n} layers, got {len(value)}")
    return [_positive(one, name) for one in value]


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"the config's {name} must be a positive whole number, got {value!r}")
    return value


# ---- what there shall be ---------------------------------------------------------------------------------------------


def checked_target(family: Family, target: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that were asked for, by name.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown or none that the family has, or a size is no positive integer.
    """
    given = {name: value for name, value in target.items() if value is not None}
    for name in given:
        if name not in TARGETS:
            raise TypeError(f"a target must be some of {', '.join(TARGETS)}, got {name!r}")
        if name not in family.keys:
            raise ValueError(
                f"{family.name} has no {name} to choose, but {', '.join(n for n in TARGETS if n in family.keys)}"
            )
    return {name: validate.integer(value, name, 1, LARGEST[name]) for name, value in given.items()}


def new_sizes(family: Family, config: Config, old: Sizes, target: Target, sources: Sequence[int | None]) -> Sizes:
    """Sizes of the larger model.

    Raises
    ------
    ValueError
        If no larger model of these sizes computes the same.
    """
    hidden = _not_smaller("hidden", target.get("hidden", old.hidden), old.hidden)
    layers, last = [], 0
    for source in sources:
        last = last if source is None else source
        before = old.layers[last]
        after = _layer(family, hidden, before, target)
        if source is not None:
            _check_layer(family, config, before, after)
        if family.divisible and hidden % after.heads:
            raise ValueError(
                f"hidden must be a multiple of heads, got {hidden} and {after.heads}: transformers refuses other "
                f"configs of {family.name}"
            )
        layers.append(after)
    return Sizes(hidden, old.vocabulary, old.inputs, old.positions, tuple(layers))


def _layer(family: Family, hidden: int, before: LayerSizes, target: Target) -> LayerSizes:
    """Sizes of a layer that had those before."""
    heads = target.get("heads", before.heads)
    every_head = before.kv_heads == before.heads
    kv_heads = target.get("kv_heads", heads if every_head else before.kv_heads)
    if family.square_heads and hidden % heads:
        raise ValueError(f"hidden must be a multiple of heads in {family.name}, got {hidden} and {heads}")
    width = hidden // heads if family.square_heads else target.get("head_dim")
    key = target.get("key", before.key) if width is None else width
    value = target.get("value", before.value) if width is None else width
    return LayerSizes(heads, kv_heads, key, value, target.get("mlp", before.mlp))


def _check_layer(family: Family, config: Config, before: LayerSizes, after: LayerSizes) -> None:
    for name in LayerSizes._fields:
        _not_smaller(_called(family, name), getattr(after, name), getattr(before, name))
    if after.heads % after.kv_heads:
        raise ValueError(f"heads must be a multiple of kv_heads, got {after.heads} and {after.kv_heads}")
    head_maps((before.heads, after.heads), (before.kv_heads, after.kv_heads))
    if after.key != before.key and family.rotary:
        _check_rotation(family, config, before.key, after.key)


def _called(family: Family, name: str) -> str:
    """A size as the user calls it."""
    if name not in ("key", "value") or name in family.keys:
        return name
    return "hidden / heads, the width of a head," if family.square_heads else "head_dim"


def _not_smaller(name: str, new: int, old: int) -> int:
    if new < old:
        raise ValueError(f"{name} must be at least {old}, as it is now: a model can grow only, got {new}")
    return new


def _check_rotation(family: Family, config: Config, old: int, new: int) -> None:
    if family.normed_heads:
        raise ValueError(
            f"head_dim of {family.name} must stay {old}, got {new}: it norms queries and keys, so new numbers of both "
            "would have to be zero to keep the norms, and where both are zero no gradient reaches either"
        )
    rotation = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rotation.get("rope_type", rotation.get("type", "default"))
    if kind not in ROTATIONS:
        raise ValueError(
            f"head_dim must stay {old}, got {new}: rotation of the kind {kind!r} depends on the width in other ways "
            "than by base^(-2 i / head_dim), so no wider head has the old frequencies"
        )
    rotary_map(old, new)


# ---- layers ----------------------------------------------------------------------------------------------------------


def layer_sources(old: int, new: int, places: Places) -> tuple[int | None, ...]:
    """For each layer of the larger model the old one that it was, or None.

    Parameters
    ----------
    old, new : int
        How many layers there are and will be.
    places : {"end", "spread"} or sequence of int, optional
        How many old layers come before each new one; "spread" puts new layers between old ones evenly, "end" (the
        default) behind all.

    Examples
    --------
    >>> layer_sources(2, 4, [0, 1])
    (None, 0, None, 1)
    >>> layer_sources(3, 5, "spread")
    (0, None, 1, None, 2)
    """
    n = _not_smaller("layers", new, old) - old
    if places is None or (isinstance(places, str) and places == "end"):
        chosen = [old] * n
    elif isinstance(places, str):
        validate.choice(places, "places", ("end", "spread"))
        chosen = [1 + i * old // n for i in range(n)]
    else:
        chosen = sorted(validate.integer(place, "places", 0, old) for place in places)
        if len(chosen) != n:
            raise ValueError(f"places must have one entry for each of {n} new layers, got {len(chosen)}")
    sources: list[int | None] = []
    for layer in range(old + 1):
        sources += [None] * chosen.count(layer)
        sources += [layer] if layer < old else []
    return tuple(sources)


# ---- the config ------------------------------------------------------------------------------------------------------


def new_config(family: Family, config: Config, old: Sizes, new: Sizes, sources: Sequence[int | None]) -> dict[str, Any]:
    """The config of the larger model."""
    keys, changed = family.keys, dict(config)
    changed |= {keys["hidden"]: new.hidden, keys["layers"]: len(new.layers)}
    for name in IN_LAYERS:
        if name in keys:
            values = [getattr(layer, "key" if name == "head_dim" else name) for layer in new.layers]
            changed[keys[name]] = values[0] if len(set(values)) == 1 else values
    if family.epsilon:
        changed[family.epsilon] = config[family.epsilon] * old.hidden / new.hidden
    for name in family.layer_lists:
        changed[name] = _per_layer(config[name], sources)
    return changed


def _per_layer(values: Sequence[Any], sources: Sequence[int | None]) -> list[Any]:
    """An entry for each layer; a new one takes that of the layer before it, or else of the first."""
    found, last = [], values[0]
    for source in sources:
        last = last if source is None else values[source]
        found.append(last)
    return found

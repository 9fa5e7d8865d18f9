"""Sizes of a model from its config and a target, and the config of the larger one; what cannot be exact is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from saffu.checkpoint_growth.heads import head_maps, rotary_map
from saffu.checkpoint_growth.roles import Config, Family, LayerSizes, Sizes
from saffu.utils import validate

TARGETS = ("hidden", "layers", "mlp", "heads", "kv_heads", "head_dim")
# Kinds of rotation whose frequencies are functions of base^(-2 i / head_dim) alone.
ROTATIONS = ("default", "linear", "llama3")
Places = str | Sequence[int] | None


def sizes_of(family: Family, config: Config) -> Sizes:
    """Sizes that a complete config gives."""
    keys = family.keys
    heads, hidden = _entry(config, keys["heads"]), _entry(config, keys["hidden"])
    kv_heads = _entry(config, keys["kv_heads"]) if "kv_heads" in keys else heads
    width = _entry(config, keys["head_dim"]) if "head_dim" in keys else hidden // heads
    if heads % kv_heads:
        raise ValueError(f"the config has {heads} heads in {kv_heads} groups, which is not a whole number for each")
    if family.square_heads and hidden % heads:
        raise ValueError(f"the config has a hidden size of {hidden}, which is no multiple of its {heads} heads")
    layer = LayerSizes(heads, kv_heads, width, width, _entry(config, keys["mlp"]))
    positions = _entry(config, keys["positions"]) if "positions" in keys else 0
    layers = (layer,) * _entry(config, keys["layers"])
    return Sizes(hidden, _entry(config, keys["vocabulary"]), positions, layers)


def _entry(config: Config, name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"the config's {name} must be a positive whole number, got {value!r}")
    return value


def checked_target(family: Family, old: Sizes, target: Mapping[str, Any]) -> dict[str, int]:
    """What is to be reached, whole: every size by its name.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, a size is smaller than it is now, or sizes do not fit each other.
    """
    layer = old.layers[0]
    now = dict(zip(TARGETS, (old.hidden, len(old.layers), layer.mlp, layer.heads, layer.kv_heads, layer.key), strict=True))
    given = {name: value for name, value in target.items() if value is not None}
    for name in given:
        if name not in TARGETS:
            raise TypeError(f"a target must be some of {', '.join(TARGETS)}, got {name!r}")
        if name in ("kv_heads", "head_dim") and name not in family.keys:
            what = "hidden / heads" if name == "head_dim" else "heads"
            raise ValueError(f"{family.name} has no {name} to choose: it is {what}")
    whole = now | {name: validate.integer(value, name, 1) for name, value in given.items()}
    if "kv_heads" not in given and layer.kv_heads == layer.heads:
        whole["kv_heads"] = whole["heads"]
    if family.square_heads and whole["hidden"] % whole["heads"]:
        raise ValueError(f"hidden must be a multiple of heads in {family.name}, got {whole['hidden']} and {whole['heads']}")
    if family.square_heads:
        whole["head_dim"] = whole["hidden"] // whole["heads"]
    for name, least in now.items():
        if whole[name] < least:
            inferred = "" if name in given else f" (it is {'hidden / heads' if name == 'head_dim' else 'heads'})"
            raise ValueError(
                f"{name} must be at least {least}, as it is now: a model can grow only, got {whole[name]}{inferred}"
            )
    return whole


def new_sizes(family: Family, config: Config, old: Sizes, whole: Mapping[str, int]) -> Sizes:
    """Sizes of the larger model.

    Raises
    ------
    ValueError
        If no larger model of these sizes computes the same.
    """
    heads, groups, width = whole["heads"], whole["kv_heads"], whole["head_dim"]
    if heads % groups:
        raise ValueError(f"heads must be a multiple of kv_heads, got {heads} and {groups}")
    if family.divisible and whole["hidden"] % heads:
        raise ValueError(
            f"hidden must be a multiple of heads, got {whole['hidden']} and {heads}: transformers refuses other configs "
            f"of {family.name}"
        )
    before = old.layers[0]
    head_maps((before.heads, heads), (before.kv_heads, groups))
    if width != before.key and family.rotary:
        _check_rotation(family, config, before.key, width)
    layer = LayerSizes(heads, groups, width, width, whole["mlp"])
    return Sizes(whole["hidden"], old.vocabulary, old.positions, (layer,) * whole["layers"])


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
    (0, None, 1, 2, None)
    """
    n = new - old
    if places is None or (isinstance(places, str) and places == "end"):
        chosen = [old] * n
    elif isinstance(places, str):
        validate.choice(places, "places", ("end", "spread"))
        chosen = [math.ceil((i + 1) * old / (n + 1)) if n < old else 1 + i * old // n for i in range(n)]
    else:
        chosen = sorted(validate.integer(place, "places", 0, old) for place in places)
        if len(chosen) != n:
            raise ValueError(f"places must have one entry for each of {n} new layers, got {len(chosen)}")
    sources: list[int | None] = []
    for layer in range(old + 1):
        sources += [None] * chosen.count(layer)
        sources += [layer] if layer < old else []
    return tuple(sources)


def new_config(family: Family, config: Config, old: Sizes, new: Sizes, sources: Sequence[int | None]) -> dict[str, Any]:
    """The config of the larger model."""
    layer, keys = new.layers[0], family.keys
    values = {
        "hidden": new.hidden,
        "layers": len(new.layers),
        "mlp": layer.mlp,
        "heads": layer.heads,
        "kv_heads": layer.kv_heads,
        "head_dim": layer.key,
    }
    changed = dict(config) | {keys[name]: value for name, value in values.items() if name in keys}
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

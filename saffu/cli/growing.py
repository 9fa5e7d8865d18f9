"""Any model grown by names and values, as they come from a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from saffu import grow
from saffu.attention_lm.model import SaffuLM
from saffu.ngram_lm.model import ExplicitLM
from saffu.transformer.model import Transformer
from saffu.utils.initializers import Init


class Text(NamedTuple):
    """What new parts are solved on."""

    ids: ArrayLike
    documents: ArrayLike | None


def _number(text: str) -> int:
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


UNITS = dict.fromkeys(("bits", "block", "radius", "heads", "layers", "hidden"), _number)
SETTINGS: dict[type, dict[str, Callable[[str], Any]]] = {
    ExplicitLM: {"radius": _number, "order": _number, "windows": _numbers, "induction": _number},
    SaffuLM: {**UNITS, "contexts": _names},
    Transformer: dict.fromkeys(("mlp", "heads", "head_dim", "key_dim", "hidden"), _number),
}


def grown(
    model: Any,
    settings: Sequence[str],
    layers: Sequence[int | None] = (),
    init: Init = "normal",
    rng: int = 0,
    text: Text | None = None,
    progress: bool = False,
) -> Any:
    """A larger model.

    Parameters
    ----------
    model : ExplicitLM, SaffuLM or Transformer
    settings : sequence of str
        ``NAME=VALUE`` each: what the model should have, see ``SETTINGS``; numbers of ``windows`` have commas between,
        names of ``contexts`` a plus.
    layers : sequence of int or None
        A layer to add for each: how many come before it, None for all.
    init : {"normal", "zeros"} or callable
    rng : int
    text : Text, optional
        What new contexts and units are solved on.
    progress : bool

    Raises
    ------
    ValueError, TypeError
        If the model cannot grow so; the message names the setting.
    """
    values = _parsed(model, settings)
    data: dict[str, Any] = {} if text is None else {"ids": text.ids, "documents": text.documents}
    if isinstance(model, Transformer):
        if text is not None:
            raise ValueError("data is for models that are solved; a transformer is grown, then refined")
        return _transformer(model, values, layers, init, rng)
    if isinstance(model, ExplicitLM):
        if layers:
            raise ValueError("an explicit model has no layers to add")
        return model.grow(**data, **values, progress=progress)
    for place in layers:
        n = values.get("layers", model.layers)
        if place not in (None, n):
            raise ValueError(f"a layer of units is added above all {n}, got place {place}")
        values["layers"] = n + 1
    return model.grow(**data, **values, init=init, rng=rng, progress=progress)


def check_settings(model: Any, settings: Sequence[str]) -> None:
    """Raise now what :func:`grown` would raise of settings that cannot be read."""
    _parsed(model, settings)


def _parsed(model: Any, settings: Sequence[str]) -> dict[str, Any]:
    known = next((names for kind, names in SETTINGS.items() if isinstance(model, kind)), None)
    if known is None:
        raise TypeError(f"{type(model).__name__} cannot grow")
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"expected NAME=VALUE with one of {', '.join(known)} for {type(model).__name__}, got {setting!r}"
            )
        try:
            values[name] = known[name](value)
        except ValueError:
            raise ValueError(f"{name} must be a whole number, or several, got {value!r}") from None
    return values


def _transformer(
    model: Transformer, values: Mapping[str, int], layers: Sequence[int | None], init: Init, seed: int
) -> Transformer:
    for place in layers:
        model = grow.add_layer(model, place, init=init, seed=seed)
    names = {"head_dim": "value", "key_dim": "key"}
    sizes: dict[str, Any] = {names.get(name, name): value for name, value in values.items()}
    return model.grow(seed=seed, init=init, **sizes)

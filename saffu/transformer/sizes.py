"""Names and shapes of a transformer's arrays: all of a model is a dictionary of them, and sizes are read off it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from saffu.utils import validate
from saffu.utils.arrays import Array

Arrays = dict[str, Array]

LAYER_PARTS = (
    "attention_gain",
    "query",
    "key",
    "value",
    "merge",
    "mlp_gain",
    "expand",
    "expand_bias",
    "contract",
    "contract_bias",
)


class LayerSizes(NamedTuple):
    """Heads E, widths k of queries and keys and v of values of a head, and p of the perceptron.

    Examples
    --------
    >>> LayerSizes(heads=2, key=4, value=4, mlp=32).mlp
    32
    """

    heads: int
    key: int
    value: int
    mlp: int


def by_name(sizes: Sequence[LayerSizes]) -> dict[str, int | tuple[int, ...]]:
    """Each size of the layers by its name: one number where all layers have the same, else one for each."""
    each = {name: tuple(getattr(size, name) for size in sizes) for name in LayerSizes._fields}
    return {name: values[0] if len(set(values)) == 1 else values for name, values in each.items()}


def layer_name(layer: int, part: str) -> str:
    """The name of an array of a layer."""
    return f"layer{layer}.{part}"


def layer_shapes(hidden: int, sizes: LayerSizes) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a layer, by part."""
    heads, key, value, mlp = sizes
    return {
        "attention_gain": (hidden,),
        "query": (heads, hidden, key),
        "key": (heads, hidden, key),
        "value": (heads, hidden, value),
        "merge": (heads, value, hidden),
        "mlp_gain": (hidden,),
        "expand": (hidden, mlp),
        "expand_bias": (mlp,),
        "contract": (mlp, hidden),
        "contract_bias": (hidden,),
    }


def shapes_of(vocab_size: int, hidden: int, positions: int, sizes: Sequence[LayerSizes]) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays of a model, by name; there is one more embedding, for what precedes a document."""
    shapes: dict[str, tuple[int, ...]] = {"embedding": (vocab_size + 1, hidden), "positions": (positions, hidden)}
    for layer, size in enumerate(sizes):
        shapes |= {layer_name(layer, part): shape for part, shape in layer_shapes(hidden, size).items()}
    return shapes | {"output": (hidden, vocab_size)}


def layer_sizes(
    hidden: int,
    layers: int,
    heads: int | Sequence[int],
    key: int | Sequence[int] | None,
    value: int | Sequence[int] | None,
    mlp: int | Sequence[int] | None,
) -> list[LayerSizes]:
    """Sizes of the layers from numbers for all or for each; by default k = v = hidden / heads, and p = 4 hidden."""
    each_heads = _each(heads, "heads", layers)
    width = [max(hidden // n, 1) for n in each_heads]
    keys = width if key is None else _each(key, "key", layers)
    values = width if value is None else _each(value, "value", layers)
    mlps = [4 * hidden] * layers if mlp is None else _each(mlp, "mlp", layers)
    return [LayerSizes(*numbers) for numbers in zip(each_heads, keys, values, mlps, strict=True)]


def _each(value: int | Sequence[int], name: str, layers: int) -> list[int]:
    """A size for each layer."""
    values = [value] * layers if isinstance(value, (int, np.integer)) else list(value)
    if len(values) != layers:
        raise ValueError(f"{name} must be a number or one for each of {layers} layers, got {len(values)}")
    return [validate.size(one, name) for one in values]


def sizes_of(arrays: Mapping[str, Any]) -> list[LayerSizes]:
    """Sizes of the layers, in their order; everything is checked.

    Parameters
    ----------
    arrays : mapping of str to array
        ``embedding`` (n_inputs, h), ``positions`` (S, h), ``output`` (h, n_outputs), and for each layer n from 0 the
        arrays ``layer{n}.query`` (E, h, k), ``.key`` (E, h, k), ``.value`` (E, h, v), ``.merge`` (E, v, h),
        ``.attention_gain`` (h,), ``.mlp_gain`` (h,), ``.expand`` (h, p), ``.expand_bias`` (p,), ``.contract`` (p, h)
        and ``.contract_bias`` (h,).

    Raises
    ------
    ValueError
        If an array is missing, unknown, or of a shape that does not fit the others; the message names it.
    """
    _check_names(arrays)
    hidden = _shape(arrays, "embedding", 2)[1]
    expected: dict[str, tuple[int, ...]] = {"positions": (_shape(arrays, "positions", 2)[0], hidden)}
    expected["output"] = (hidden, _shape(arrays, "output", 2)[1])
    found = []
    for layer in range(n_layers(arrays)):
        heads, _, key = _shape(arrays, layer_name(layer, "query"), 3)
        value, mlp = _shape(arrays, layer_name(layer, "value"), 3)[2], _shape(arrays, layer_name(layer, "expand"), 2)[1]
        found.append(LayerSizes(heads, key, value, mlp))
        expected |= {layer_name(layer, part): s for part, s in layer_shapes(hidden, found[-1]).items()}
    for name, shape in expected.items():
        if tuple(arrays[name].shape) != shape or min(shape) < 1:
            raise ValueError(f"array {name!r} must have shape {shape}, none of it 0, got {tuple(arrays[name].shape)}")
    return found


def n_layers(arrays: Mapping[str, Any]) -> int:
    """How many layers the names of some arrays speak of."""
    return len({name.partition(".")[0] for name in arrays if name.startswith("layer")})


def _check_names(arrays: Mapping[str, Any]) -> None:
    wanted = {"embedding", "positions", "output"}
    wanted |= {layer_name(layer, part) for layer in range(n_layers(arrays)) for part in LAYER_PARTS}
    if missing := sorted(wanted - set(arrays)):
        raise ValueError(f"array {missing[0]!r} is missing")
    if unknown := sorted(set(arrays) - wanted):
        raise ValueError(f"array {unknown[0]!r} is none of a transformer's")


def _shape(arrays: Mapping[str, Any], name: str, n_axes: int) -> tuple[int, ...]:
    shape = tuple(arrays[name].shape)
    if len(shape) != n_axes:
        raise ValueError(f"array {name!r} must have {n_axes} axes, got shape {shape}")
    return shape


def copied(arrays: Mapping[str, ArrayLike]) -> Arrays:
    """Copies of arrays in C order; ValueError if they are not finite, or not all float32 or all float64."""
    found = {name: np.array(value, order="C") for name, value in arrays.items()}
    for name, value in found.items():
        if value.dtype not in (np.float32, np.float64) or not np.isfinite(value).all():
            raise ValueError(f"array {name!r} must be finite float32 or float64, got {value.dtype}")
    if len({value.dtype for value in found.values()}) > 1:
        raise ValueError("arrays must be all float32 or all float64, got both")
    return found

"""Function-preserving growth of transformers (Gesmundo and Maile, arXiv 2308.06103).

Six expansions, each of which returns a larger model that computes what the given one does, to rounding:

    mlp         p -> p'     definition 3.1    new rows of W_2 are zero
    add_heads   E -> E'     definition 3.2    new heads have W_O = 0
    head_dim    v -> v'     definition 3.3    new rows of W_O are zero
    key_dim     k -> k'     definition 3.4    new columns of W_K are zero, the old ones times sqrt(k' / k)
    hidden      h -> h'     definition 3.5    new columns of I, P, W_2, b_2, W_O are zero, old gains times sqrt(h / h')
    add_layer   N -> N + 1  definition 3.6    W_O, W_2 and b_2 of the layer are zero

They compose in any order. New numbers that need not be zero are free: random, zero or what a function of the caller's
makes of them. A model is a :class:`saffu.Transformer`, a :class:`saffu.torch.Transformer`, or a plain dictionary of
arrays by the names of :func:`saffu.transformer.sizes.sizes_of`; the larger one is of the same kind, and the given model
stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from saffu.transformer.sizes import LayerSizes, layer_name, layer_shapes, sizes_of
from saffu.utils import validate
from saffu.utils.arrays import Array
from saffu.utils.initializers import Init, Initializer

Model = TypeVar("Model")
Arrays = dict[str, Array]


def mlp(
    model: Model,
    size: int,
    *,
    layers: int | Iterable[int] | None = None,
    init: Init = "normal",
    seed: int = 0,
) -> Model:
    """Widen the perceptrons to ``size`` hidden units (definition 3.1).

    Parameters
    ----------
    model : Transformer, torch Transformer or dict of arrays
    size : int
        p', at least p.
    layers : int or list of int, optional
        Which layers, from 0; all by default.
    init : {"normal", "zeros"} or callable
        What the free new numbers are: normal, of standard deviation 1 / sqrt(inputs), and biases zero; zero; or the
        new part of ``init(name, shape)``, an array of the whole new shape. Where all that is new is zero, no gradient
        may reach it.
    seed : int
        Of what is random.

    Returns
    -------
    A larger model of the same kind.

    Raises
    ------
    ValueError, TypeError
        If ``size`` is smaller than what there is, a layer does not exist, or ``init`` is unknown or gives another
        shape.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(5, hidden=4, layers=2, positions=8)
    >>> larger = mlp(model, 20, layers=1)
    >>> [size.mlp for size in larger.sizes]
    [16, 20]
    >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
    True
    """

    def one(work: _Work[Model], layer: int, old: LayerSizes) -> None:
        new = old._replace(mlp=_not_smaller(size, old.mlp, "size", layer))
        work.widen(layer, new, zero=("contract",))

    return _grown(model, "mlp", {"size": size}, one, layers, init, seed)


def add_heads(
    model: Model,
    count: int = 1,
    *,
    layers: int | Iterable[int] | None = None,
    init: Init = "normal",
    seed: int = 0,
) -> Model:
    """Add attention heads (definition 3.2); ``count`` of them, the other arguments as in :func:`mlp`.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(5, hidden=4, layers=2, positions=8)
    >>> larger = add_heads(model, 2)
    >>> [size.heads for size in larger.sizes]
    [3, 3]
    >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
    True
    """
    count = validate.integer(count, "count", 0, validate.LARGEST["heads"])

    def one(work: _Work[Model], layer: int, old: LayerSizes) -> None:
        work.widen(layer, old._replace(heads=old.heads + count), zero=("merge",))

    return _grown(model, "add_heads", {"count": count}, one, layers, init, seed)


def head_dim(
    model: Model,
    size: int,
    *,
    layers: int | Iterable[int] | None = None,
    init: Init = "normal",
    seed: int = 0,
) -> Model:
    """Widen the values of every head to ``size`` (definition 3.3); arguments as in :func:`mlp`.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(5, hidden=4, layers=2, positions=8)
    >>> larger = head_dim(model, 6)
    >>> [size.value for size in larger.sizes]
    [6, 6]
    >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
    True
    """

    def one(work: _Work[Model], layer: int, old: LayerSizes) -> None:
        new = old._replace(value=_not_smaller(size, old.value, "size", layer))
        work.widen(layer, new, zero=("merge",))

    return _grown(model, "head_dim", {"size": size}, one, layers, init, seed)


def key_dim(
    model: Model,
    size: int,
    *,
    layers: int | Iterable[int] | None = None,
    init: Init = "normal",
    seed: int = 0,
) -> Model:
    """Widen the queries and keys of every head to ``size`` (definition 3.4); arguments as in :func:`mlp`.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(5, hidden=4, layers=2, positions=8)
    >>> larger = key_dim(model, 6)
    >>> [size.key for size in larger.sizes]
    [6, 6]
    >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
    True
    """

    def one(work: _Work[Model], layer: int, old: LayerSizes) -> None:
        new = old._replace(key=_not_smaller(size, old.key, "size", layer))
        work.scale(layer_name(layer, "key"), math.sqrt(new.key / old.key))
        work.widen(layer, new, zero=("key",))

    return _grown(model, "key_dim", {"size": size}, one, layers, init, seed)


def hidden(
    model: Model,
    size: int,
    *,
    layers: int | Iterable[int] | None = None,
    init: Init = "normal",
    seed: int = 0,
) -> Model:
    """Widen the states to ``size`` (definition 3.5), in all layers at once; arguments as in :func:`mlp`.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(5, hidden=4, layers=2, positions=8)
    >>> larger = hidden(model, 6)
    >>> larger.hidden
    6
    >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
    True
    """
    work = _Work(model, init, seed)
    if layers is not None and set(_chosen(layers, len(work.sizes))) != set(range(len(work.sizes))):
        raise ValueError("layers must be all layers: the states are of one width in the whole model")
    old = work.arrays["output"].shape[0]
    new = _not_smaller(size, old, "size")
    for layer, sizes in enumerate(work.sizes):
        for gain in ("attention_gain", "mlp_gain"):
            work.scale(layer_name(layer, gain), math.sqrt(old / new))
        work.widen(layer, sizes, zero=("merge", "contract", "contract_bias"), hidden=new)
    for name in ("embedding", "positions"):
        work.pad(name, (len(work.arrays[name]), new), zero=True)
    work.pad("output", (new, work.arrays["output"].shape[1]), zero=False)
    return work.result("hidden", {"size": new})


def add_layer(
    model: Model,
    place: int | None = None,
    *,
    heads: int | None = None,
    key: int | None = None,
    value: int | None = None,
    mlp: int | None = None,
    init: Init = "normal",
    seed: int = 0,
) -> Model:
    """Insert a layer (definition 3.6).

    Parameters
    ----------
    model : Transformer, torch Transformer or dict of arrays
    place : int, optional
        How many layers come before it; by default all.
    heads, key, value, mlp : int, optional
        Its sizes; by default those of the layer before it, or else after it.
    init, seed
        As in :func:`mlp`. Gains are 1.

    Returns
    -------
    A larger model of the same kind.

    Raises
    ------
    ValueError, TypeError
        If the place is beyond the layers there are, or a size is missing where there is no layer to take it from.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(5, hidden=4, layers=2, positions=8)
    >>> larger = add_layer(model, 1, heads=2)
    >>> [size.heads for size in larger.sizes]
    [1, 2, 1]
    >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
    True
    """
    work = _Work(model, init, seed)
    n = len(work.sizes)
    place = n if place is None else validate.integer(place, "place", 0)
    if place > n:
        raise ValueError(f"place must be at most {n}, the number of layers, got {place}")
    beside = work.sizes[max(place - 1, 0)]._asdict() if n else {}
    given = {"heads": heads, "key": key, "value": value, "mlp": mlp}
    chosen = beside | {name: validate.size(size, name) for name, size in given.items() if size is not None}
    if missing := [name for name in given if name not in chosen]:
        raise ValueError(f"{missing[0]} must be given: there is no layer to take it from")
    work.insert(place, LayerSizes(**chosen))
    return work.result("add_layer", {"place": place, **chosen})


# ---- what the expansions have in common ------------------------------------------------------------------------------


class _Work(Generic[Model]):
    """Arrays of a model while they are enlarged."""

    def __init__(self, model: Model, init: Init, seed: int) -> None:
        self.model = model
        found = model if isinstance(model, Mapping) else getattr(model, "arrays", None)
        if not isinstance(found, Mapping):
            raise TypeError(
                "model must be a saffu.Transformer, a saffu.torch.Transformer or a dict of arrays, "
                f"got {type(model).__name__}"
            )
        self.arrays: Arrays = {name: np.array(value) for name, value in found.items()}
        self.sizes = sizes_of(self.arrays)
        self.free = Initializer(init, validate.integer(seed, "seed", 0))

    def scale(self, name: str, factor: float) -> None:
        """Multiply an array."""
        self.arrays[name] = (self.arrays[name] * factor).astype(self.arrays[name].dtype)

    def pad(self, name: str, shape: tuple[int, ...], zero: bool) -> None:
        """Make an array larger: the old one is its first corner, the rest zero or free."""
        old = self.arrays[name]
        if old.shape == shape:
            return
        new = np.zeros(shape) if zero else self.free(name, shape)
        new = np.array(new, old.dtype)
        new[tuple(slice(0, n) for n in old.shape)] = old
        self.arrays[name] = new

    def widen(self, layer: int, sizes: LayerSizes, zero: tuple[str, ...], hidden: int | None = None) -> None:
        """Pad all arrays of a layer to its new sizes; what is new in ``zero`` is zero."""
        width = self.arrays["output"].shape[0] if hidden is None else hidden
        for part, shape in layer_shapes(width, sizes).items():
            self.pad(layer_name(layer, part), shape, part in zero)

    def insert(self, place: int, sizes: LayerSizes) -> None:
        """Put a layer that adds nothing before layer number ``place``."""
        for layer in range(len(self.sizes) - 1, place - 1, -1):
            for part in layer_shapes(1, sizes):
                self.arrays[layer_name(layer + 1, part)] = self.arrays.pop(layer_name(layer, part))
        width, dtype = self.arrays["output"].shape[0], self.arrays["output"].dtype
        for part, shape in layer_shapes(width, sizes).items():
            name = layer_name(place, part)
            if part in ("merge", "contract", "contract_bias"):
                made: Array = np.zeros(shape)
            else:
                made = np.ones(shape) if part.endswith("gain") else self.free(name, shape)
            self.arrays[name] = np.array(made, dtype)

    def result(self, kind: str, facts: dict[str, Any]) -> Model:
        """The larger model, of the kind of the given one."""
        sizes_of(self.arrays)
        given: Any = self.model
        if isinstance(given, Mapping):
            larger: Any = {name: np.array(value) for name, value in self.arrays.items()}
        else:
            larger = given.with_arrays(self.arrays)
            larger.growth.append({"kind": kind, **facts})
        found: Model = larger
        return found


def _grown(
    model: Model,
    kind: str,
    facts: dict[str, Any],
    one: Callable[[_Work[Model], int, LayerSizes], None],
    layers: int | Iterable[int] | None,
    init: Init,
    seed: int,
) -> Model:
    """Expand some layers."""
    work = _Work(model, init, seed)
    chosen = _chosen(layers, len(work.sizes))
    for layer in chosen:
        one(work, layer, work.sizes[layer])
    return work.result(kind, facts | {"layers": chosen})


def _chosen(layers: int | Iterable[int] | None, n: int) -> list[int]:
    """Numbers of layers, ascending."""
    if layers is None:
        return list(range(n))
    numbers = [layers] if isinstance(layers, (int, np.integer)) else list(layers)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            raise TypeError(f"layers must be numbers of layers, got {number!r}")
        if not 0 <= number < n:
            raise ValueError(f"layers must be in [0, {n}), got {number}")
    return sorted({int(number) for number in numbers})


def _not_smaller(size: int, old: int, name: str, layer: int | None = None) -> int:
    size = validate.integer(size, name, 1, validate.LARGEST["mlp"])
    if size < old:
        where = "" if layer is None else f" in layer {layer}"
        raise ValueError(f"{name} must be at least {old}, which it is now{where}: a model can grow only, got {size}")
    return size

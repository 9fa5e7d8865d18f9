"""One tensor made larger, as its step of the plan says."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from saffu.checkpoint_growth.heads import NEW
from saffu.checkpoint_growth.plan import Plan, Step, maps_of
from saffu.checkpoint_growth.roles import Role
from saffu.utils import validate
from saffu.utils.arrays import Array, Int64
from saffu.utils.initializers import INITS, Init

Free = Callable[[Step, Any], Array]


class FreeNumbers:
    """Free entries of tensors by name: normal, zero, or what a function makes of them.

    Each tensor has random numbers of its own, whatever was made before it. Their standard deviation is that which the
    config gives new weights (``initializer_range``), else 1 / sqrt(inputs).

    Parameters
    ----------
    planned : Plan
    init : {"normal", "zeros"} or callable
        A function takes the name and the shape of a tensor of the larger model.
        One with a method ``tensor(planned, step)`` is given what is known of it instead.
    seed : int

    Raises
    ------
    ValueError, TypeError
        If ``init`` is unknown or the seed negative.
    """

    def __init__(self, planned: Plan, init: Init = "normal", seed: int = 0) -> None:
        self._planned, self._deviation = planned, planned.config.get("initializer_range")
        self._init = init if callable(init) else validate.choice(init, "init", INITS)
        self._seed = validate.integer(seed, "seed", 0)

    def __call__(self, step: Step, dtype: Any) -> Array:
        """A whole new tensor, of which the free entries are taken."""
        if step.role.kind == "gain":
            return np.ones(step.shape, dtype)
        if step.role.kind == "bias" or self._init == "zeros":
            return np.zeros(step.shape, dtype)
        if callable(self._init):
            of_step = getattr(self._init, "tensor", None)
            found = of_step(self._planned, step) if of_step else self._init(step.name, step.shape)
            made = np.array(found, dtype)
            if made.shape != step.shape:
                raise ValueError(f"init must give an array of shape {step.shape} for {step.name!r}, got {made.shape}")
            return made
        made = np.random.default_rng([self._seed, zlib.crc32(step.name.encode())]).standard_normal(step.shape, dtype)
        made *= self._deviation or 1 / math.sqrt(step.inputs)
        return made


def warn_of_zeros(planned: Plan, init: Init) -> None:
    """Warn where all that is new would be zero, so that no gradient reaches it."""
    if init == "zeros" and any(step.free and step.role.kind == "weight" for step in planned.steps):
        warnings.warn(
            "with init='zeros' all new numbers are zero, and no gradient reaches those of them whose other side is "
            "zero, too; init='normal' keeps the function as well, and everything new learns",
            UserWarning,
            stacklevel=4,
        )


def check_shape(step: Step, shape: tuple[int, ...]) -> None:
    """ValueError if an old tensor has another shape than the config gives it."""
    if tuple(shape) != step.old_shape:
        raise ValueError(f"tensor {step.source!r} must have shape {step.old_shape} by the config, got {tuple(shape)}")


def grown(planned: Plan, step: Step, old: Array | None, free: Free, dtype: Any) -> Array:
    """The larger tensor.

    Parameters
    ----------
    planned : Plan
    step : Step
        Of that plan.
    old : ndarray or None
        The old tensor, of ``dtype``; None in a new layer.
    free : callable
        Makes free entries; see :class:`FreeNumbers`.
    dtype : numpy dtype
        float32 or float64.

    Raises
    ------
    ValueError
        If the old tensor has another shape than the config gives it.
    """
    role, offset = step.role, planned.family.gain_offset if step.role.kind == "gain" else 0.0
    if old is None:
        new = np.zeros(step.shape, dtype) if role.silent else free(step, dtype)
        return new - np.dtype(dtype).type(offset) if offset else new
    check_shape(step, old.shape)
    if step.shape == step.old_shape and set(step.scale) == {1.0}:
        return np.array(old, dtype)
    new = free(step, dtype) if step.free else np.zeros(step.shape, dtype)
    for role, scale, some, into in _parts(planned, step, old, new):
        _fill(planned, step, role, scale, some, into, offset)
    return new


def moment(planned: Plan, step: Step, old: Array, power: int, beside: float = 0.0) -> Array:
    """What an optimiser keeps for each entry of a tensor, for the larger one.

    Parameters
    ----------
    planned : Plan
    step : Step
        Of that plan, with a source.
    old : ndarray
        Of the shape of the old tensor.
    power : int
        -1 where it goes with the gradient, -2 where it goes with its square: the gradient by an entry that is
        multiplied by s is 1 / s of what it was.
    beside : float
        What new entries are.
    """
    new = np.full(step.shape, beside, old.dtype)
    for role, scale, some, into in _parts(planned, step, old, new):
        maps = maps_of(planned, role, step.old_layer, step.new_layer)
        _place(planned, step, role, maps, some * old.dtype.type(scale**power), into)
    return new


def _parts(planned: Plan, step: Step, old: Array, new: Array) -> Iterator[tuple[Role, float, Array, Array]]:
    """The parts of a fused tensor, or the tensor: role and factor, the old part, and a view of the new one."""
    fused, begin, began = step.role.fused, 0, 0
    if not step.role.parts:
        yield step.role, step.scale[0], old, new
    for role, scale in zip(step.role.parts, step.scale, strict=False):
        end = begin + role.shape(planned.new, step.new_layer)[fused]
        ended = began + role.shape(planned.old, step.old_layer)[fused]
        before = (slice(None),) * fused
        yield role, scale, old[(*before, slice(began, ended))], new[(*before, slice(begin, end))]
        begin, began = end, ended


def _place(planned: Plan, step: Step, role: Role, maps: Sequence[Sequence[Int64]], old: Array, new: Array) -> Array:
    """Put old entries in their places of ``new``, a view; returns it with an axis for each thing that is counted."""
    places = [some for each in maps for some in each]
    axes = [axis for some in role.axes for axis in some]
    view = new.reshape([planned.new.of(axis, step.new_layer) for axis in axes], copy=False)
    before = old.reshape([planned.old.of(axis, step.old_layer) for axis in axes])
    view[_index([np.flatnonzero(some != NEW) for some in places])] = before[_index([p[p != NEW] for p in places])]
    return view


def _fill(planned: Plan, step: Step, role: Role, scale: float, old: Array, new: Array, offset: float) -> None:
    """Put scaled old entries, zeros and means in their places of ``new``, a view, whose other entries stay."""
    maps = maps_of(planned, role, step.old_layer, step.new_layer)
    if scale != 1.0:
        old = (old + old.dtype.type(offset)) * old.dtype.type(scale)
    elif offset:
        old = old + old.dtype.type(offset)
    view = _place(planned, step, role, maps, old, new)
    axes = [axis for some in role.axes for axis in some]
    places = [some for each in maps for some in each]
    for kind in ("zero", "mean"):  # means come last, so that those of zeros are zero
        for number, (axis, some) in enumerate(zip(axes, places, strict=True)):
            before: tuple[Any, ...] = (slice(None),) * number
            added = np.flatnonzero(some == NEW)
            if axis.new == kind and added.size:
                kept = view[(*before, _span(np.flatnonzero(some != NEW)))]
                view[(*before, added)] = 0 if kind == "zero" else np.mean(kept, number, np.float64, keepdims=True)
    if offset:
        view -= view.dtype.type(offset)


def _index(places: Sequence[Int64]) -> Any:
    """An index of these places of every axis; of slices where they can be, which need no copy."""
    spans = [_span(some) for some in places]
    return tuple(spans) if all(isinstance(span, slice) for span in spans) else np.ix_(*places)


def _span(places: Int64) -> Any:
    """Places as a slice if they are consecutive."""
    if places.size and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return places

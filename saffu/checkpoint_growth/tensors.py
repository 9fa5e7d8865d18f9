"""One tensor made larger, as its step of the plan says."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saffu.checkpoint_growth.heads import NEW
from saffu.checkpoint_growth.plan import Plan, Step
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
    init : {"normal", "zeros"} or callable
        A function takes the name and the shape of a tensor of the larger model.
    seed : int
    deviation : float, optional

    Raises
    ------
    ValueError, TypeError
        If ``init`` is unknown or the seed negative.
    """

    def __init__(self, init: Init = "normal", seed: int = 0, deviation: float | None = None) -> None:
        self._init = init if callable(init) else validate.choice(init, "init", INITS)
        self._seed, self._deviation = validate.integer(seed, "seed", 0), deviation

    def __call__(self, step: Step, dtype: Any) -> Array:
        """A whole new tensor, of which the free entries are taken."""
        if step.role.kind == "gain":
            return np.ones(step.shape, dtype)
        if step.role.kind == "bias" or self._init == "zeros":
            return np.zeros(step.shape, dtype)
        if callable(self._init):
            made = np.array(self._init(step.name, step.shape), dtype)
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
    if old.shape != step.old_shape:
        raise ValueError(f"tensor {step.source!r} must have shape {step.old_shape} by the config, got {old.shape}")
    if step.shape == step.old_shape and set(step.scale) == {1.0}:
        return np.array(old, dtype)
    new = free(step, dtype) if step.free else np.zeros(step.shape, dtype)
    if not role.parts:
        _fill(planned, step, role, step.scale[0], old, new, offset)
        return new
    begin, began = 0, 0
    for part, scale in zip(role.parts, step.scale, strict=True):
        end = begin + part.shape(planned.new, step.new_layer)[role.fused]
        ended = began + part.shape(planned.old, step.old_layer)[role.fused]
        before = (slice(None),) * role.fused
        _fill(
            planned, step, part, scale, old[(*before, slice(began, ended))], new[(*before, slice(begin, end))], offset
        )
        begin, began = end, ended
    return new


def _fill(planned: Plan, step: Step, role: Role, scale: float, old: Array, new: Array, offset: float) -> None:
    """Put scaled old entries, zeros and means in their places of ``new``, a view, whose other entries stay."""
    maps = planned.maps(role, step.old_layer, step.new_layer)
    axes = [axis for some in role.axes for axis in some]
    places = [places for some in maps for places in some]
    inner = [[planned.new.of(axis, step.new_layer) for axis in some] for some in role.axes]
    view = new.reshape([n for some in inner for n in some], copy=False)
    before = old.reshape([planned.old.of(axis, step.old_layer) for axis in axes])
    kept = [np.flatnonzero(some != NEW) for some in places]
    into = _index(kept)
    from_old = _index([some[some != NEW] for some in places])
    taken = before[from_old] if from_old else before
    if scale != 1.0:
        taken = (taken + taken.dtype.type(offset)) * taken.dtype.type(scale)
    elif offset:
        taken = taken + taken.dtype.type(offset)
    for axis, (kind, some) in enumerate(zip(axes, places, strict=True)):
        added = np.flatnonzero(some == NEW)
        if added.size and kind.new == "zero":
            view[(slice(None),) * axis + (added,)] = 0
    view[into] = taken
    for axis, (kind, some) in enumerate(zip(axes, places, strict=True)):
        added = np.flatnonzero(some == NEW)
        if added.size and kind.new == "mean":
            mean = np.mean(view[(slice(None),) * axis + (_span(kept[axis]),)], axis, dtype=np.float64, keepdims=True)
            view[(slice(None),) * axis + (added,)] = mean
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

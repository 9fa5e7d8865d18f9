"""A plan as text: what becomes of each kind of tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from saffu.checkpoint_growth.plan import Plan, Step, dtype_of
from saffu.checkpoint_growth.roles import Sizes

HALF_OF_THE_LAST_PLACE = {"bfloat16": "2^-8", "float16": "2^-11"}
HEADER = ("tensor", "shape", "", "copied", "times", "zero", "mean", "free")


def table(planned: Plan) -> str:
    """Sizes before and after, and a line for tensors of one role that grow alike."""
    before, after = planned.n_parameters
    lines = [
        f"{planned.family.name}: {_sizes(planned.old)}",
        f"{'grown to':>{len(planned.family.name)}}: {_sizes(planned.new)}",
        f"parameters {before:,} -> {after:,}",
        *_epsilon(planned),
        *_rounding(planned),
        "",
        *_aligned([HEADER, *(_cells(list(some)) for _, some in itertools.groupby(_by_role(planned), _alike))]),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _sizes(sizes: Sizes) -> str:
    each = {
        name: {getattr(layer, name) for layer in sizes.layers} for name in ("mlp", "heads", "kv_heads", "key", "value")
    }
    if each["key"] == each["value"]:
        each["head_dim"] = each.pop("key")
        del each["value"]
    many = (f"{name} {'/'.join(str(size) for size in sorted(some))}" for name, some in each.items())
    return f"hidden {sizes.hidden}, layers {len(sizes.layers)}, {', '.join(many)}"


def _epsilon(planned: Plan) -> Iterable[str]:
    name = planned.family.epsilon
    if name and planned.config[name] != planned.old_config[name]:
        yield f"{name} {planned.old_config[name]:g} -> {planned.config[name]:g}"


def _rounding(planned: Plan) -> Iterable[str]:
    """What numbers of 16 bits lose; a factor that is a power of two loses nothing."""
    dtype = dtype_of(planned.config)
    lossy = any(step.mean or any(math.frexp(scale)[0] != 0.5 for scale in step.scale) for step in planned.steps)
    if dtype in HALF_OF_THE_LAST_PLACE and lossy:
        yield f"{dtype}: each scaled number, and each mean, is off by at most {HALF_OF_THE_LAST_PLACE[dtype]} of itself"


def _by_role(planned: Plan) -> list[Step]:
    """Steps of a role together, those of new layers behind the others."""
    order = {role.name: number for number, role in enumerate(planned.family.roles)}
    return sorted(planned.steps, key=lambda step: (order[step.role.name], *map(str, _alike(step))))


def _alike(step: Step) -> tuple[Any, ...]:
    return step.role.name, step.source is None, step.shape, step.old_shape, step.scale


def _cells(steps: Sequence[Step]) -> tuple[str, ...]:
    first = steps[0]
    name = first.role.name.format(layer="*") + (f" x {len(steps)}" if first.role.in_layers else "")
    shape = " x ".join(map(str, first.shape))
    old = "new layer" if first.source is None else " x ".join(map(str, first.old_shape))
    scale = " ".join(f"{factor:.4g}" for factor in first.scale) if set(first.scale) - {1.0} else ""
    counts = (first.copied, first.zero, first.mean, first.free)
    copied, *others = (f"{count:,}" if count else "" for count in counts)
    return name, old, f"-> {shape}" if old != shape else "", copied, scale, *others


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row in rows:
        cells = [cell.ljust(w) if n < 3 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells)

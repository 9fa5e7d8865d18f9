"""How a model or a checkpoint calls the tensors of a plan, and whether it has those of its family and no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from saffu.checkpoint_growth.plan import Plan


def names_in(planned: Plan, given: Collection[str]) -> Callable[[str], str | None]:
    """How a model calls its tensors: a function from names of the plan; None for those of a head that it lacks.

    Raises
    ------
    ValueError
        If the model lacks a tensor, or has one that is none of its family's.
    """
    family = planned.family
    whole = any(name.startswith(family.prefix) for name in given)

    def name_in(name: str) -> str | None:
        if whole:
            return name
        return name.removeprefix(family.prefix) if name.startswith(family.prefix) else None

    found = (name_in(step.source) for step in planned.steps if step.source)
    wanted = {name for name in found if name is not None}
    allowed = {name_in(role.name) for role in family.roles if not role.in_layers and not role.present(planned.config)}
    for name in sorted(set(given) - wanted - allowed):
        if not any(re.fullmatch(pattern, name) for pattern in family.ignored):
            raise ValueError(f"tensor {name!r} is none that {family.name} has, so how it grows is not known")
    if missing := sorted(name for name in wanted if name not in given):
        raise ValueError(f"tensor {missing[0]!r} of {family.name} is missing")
    return name_in

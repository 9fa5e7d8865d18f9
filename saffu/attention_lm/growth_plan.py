"""Which units a network grows by when it is asked to be larger.

A new unit joins the highest layer there is, or makes a new one above it, so that what the others see stays as it is.
"""

from __future__ import annotations

from saffu.attention_lm import units
from saffu.attention_lm.hidden_layers import Plan
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters, Sizes, Unit


def planned(network: Network, old: Sizes, new: Sizes) -> Plan:
    """The units to add, layer by layer.

    Another context has as many heads as the others; a longer one has one more unit, of that length; more heads are so
    many units of each context; more hidden units go to one more unit of each. Further layers are laid out as all are.

    Parameters
    ----------
    network : Network
        As it is.
    old, new : Sizes
        What it was asked to have, and what it is to have.

    Raises
    ------
    ValueError
        If something would have to shrink, or cannot be added to this network.
    """
    _check_larger(old, new)
    top, plan = network.n_layers - 1, []
    local = [context for context in new.contexts if context != "document"]
    for context, size in new.contexts.items():
        heads = 1 if context == "document" else new.heads
        if context not in old.contexts:
            if context == "document" and top:
                raise ValueError("contexts cannot be given a document here: it is seen by the first layer alone")
            plan += [(top, context, size, new.hidden)] * heads
            continue
        if size > old.contexts[context]:
            plan.append((top, context, size, new.hidden))
        if context == "document" and top:
            continue
        if context != "document":
            plan += [(top, context, size, new.hidden)] * (new.heads - old.heads)
        if new.hidden > old.hidden:
            plan.append((top, context, size, new.hidden - old.hidden))
    if new.layers > old.layers and not local:
        raise ValueError("layers above the first see blocks or the last tokens: add one of them to contexts")
    for layer in range(old.layers, new.layers):
        plan += [(layer, context, new.contexts[context], new.hidden) for context in local for _ in range(new.heads)]
    return _numbered(network, plan)


def _check_larger(old: Sizes, new: Sizes) -> None:
    for name in ("heads", "layers", "hidden"):
        if getattr(new, name) < getattr(old, name):
            raise ValueError(f"{name} must be at least {getattr(old, name)}: a model can grow only")
    for context, size in old.contexts.items():
        if context not in new.contexts:
            raise ValueError(f"contexts must keep {context!r}: a model can grow only")
        if new.contexts[context] < size:
            setting = "radius" if context == "radial" else "block"
            raise ValueError(f"{setting} must be at least {size}: a model can grow only")


def _numbered(network: Network, plan: list[tuple[int, str, int, int]]) -> Plan:
    """Units with heads that are free, in the order of their layers."""
    taken: dict[tuple[int, str], int] = {}
    for unit in network.units:
        place = unit.layer, unit.context
        taken[place] = max(taken.get(place, 0), unit.head + 1)
    found = []
    for layer, context, size, hidden in sorted(plan, key=lambda each: each[0]):
        head = taken.get((layer, context), 0)
        taken[layer, context] = head + 1
        found.append((Unit(layer, context, head, size), hidden))
    return found


def grown_network(network: Network, plan: Plan) -> Network:
    """The network with the units of a plan after its own."""
    own = [*network.units, *(unit for unit, _ in plan)]
    return network._replace(units=own, n_layers=1 + max(unit.layer for unit in own))


def shapes(network: Network, plan: Plan, parameters: Parameters) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of the units of a plan, by name."""
    widths = {unit.name: parameters[f"{unit.name}.bias"].size for unit in network.units}
    widths |= {unit.name: hidden for unit, hidden in plan}
    bits = parameters[EMBEDDINGS].shape[1]
    found: dict[str, tuple[int, ...]] = {}
    everyone = [*network.units, *(unit for unit, _ in plan)]
    for unit, hidden in plan:
        below = sum(widths[other.name] for other in everyone if other.layer == unit.layer - 1)
        found |= units.shapes(unit, below if unit.layer else bits, hidden)
    return found

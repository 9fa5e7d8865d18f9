"""Units that a solved network grows by: which ones, and what they are made of.

A new unit joins the highest layer there is, or makes a new one above it, so that what the others see stays as it is. It
enters with an output of zero and the function of the network is the same; or it is solved on text, as all units are
(:mod:`saffu.attention_lm.solver`), by what the network as it stands leaves unsaid, and enters with a scalar fitted by
Newton.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from saffu.attention_lm import em_attention as explicit_attention
from saffu.attention_lm import output_layer as output
from saffu.attention_lm import units
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.loss import Network
from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.solver import (
    POSITIONS,
    Rows,
    SharedCounts,
    hidden_layers,
    joined_words,
    sample,
    upper_attention,
)
from saffu.attention_lm.sufficient_statistics import WORD_MASS, EmbeddingStatistics, OutputStatistics
from saffu.attention_lm.units import Unit
from saffu.utils.arrays import Array, Float32, Float64
from saffu.utils.initializers import Initializer
from saffu.utils.streams import TokenStream

Plan = list[tuple[Unit, int]]  # units, and how many hidden units each has


class Sizes(NamedTuple):
    """What a network is asked to have: contexts with K of each, heads, layers, hidden units of a unit."""

    contexts: dict[str, int]
    heads: int
    layers: int
    hidden: int


def planned(network: Network, old: Sizes, new: Sizes) -> Plan:
    """The units to add, layer by layer.

    Another context has as many heads as the others; a longer one has one more unit, of that length; more heads are so
    many units of each context; more hidden units go to one more unit of each. Further layers are laid out as all are.

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


def shapes(network: Network, plan: Plan, parameters: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of the units of a plan, by name."""
    widths = {unit.name: parameters[f"{unit.name}.bias"].size for unit in network.units}
    widths |= {unit.name: hidden for unit, hidden in plan}
    bits = parameters["embeddings.logits"].shape[1]
    found: dict[str, tuple[int, ...]] = {}
    everyone = [*network.units, *(unit for unit, _ in plan)]
    for unit, hidden in plan:
        below = sum(widths[other.name] for other in everyone if other.layer == unit.layer - 1)
        found |= units.shapes(unit, below if unit.layer else bits, hidden)
    return found


# ---- without text ----------------------------------------------------------------------------------------------------


def silent(network: Network, plan: Plan, parameters: Mapping[str, Float32], free: Initializer) -> dict[str, Float32]:
    """Parameters of the new units, free; their output weights (n_outputs, H) under ``output.weights`` are zero."""
    made = {
        name: np.asarray(free(name, shape), np.float32) for name, shape in shapes(network, plan, parameters).items()
    }
    width = sum(hidden for _, hidden in plan)
    return made | {"output.weights": np.zeros((len(parameters["output.weights"]), width), np.float32)}


def split_classes(
    parameters: Mapping[str, Float32], network: Network, times: int, free: Initializer
) -> dict[str, Float32]:
    """Embeddings and what sees them with each class as so many equal ones, a power of two: nothing changes.

    Comparisons become so many times smaller, and attention weights as much larger. The weights of the copies move apart
    by what is new, and together stay what they were.
    """
    found = {"embeddings.logits": np.tile(parameters["embeddings.logits"], times)}
    for unit in network.units:
        if unit.layer:
            continue
        name, weights = f"{unit.name}.weights", parameters[f"{unit.name}.weights"]
        pairs = [_apart(weights, new) for new in np.asarray(free(name, (times // 2, *weights.shape)))]
        found[name] = np.concatenate([copy for pair in pairs for copy in pair])
        if unit.context != "document":
            found[f"{unit.name}.attention"] = parameters[f"{unit.name}.attention"] * np.float32(times)
    return found


def _apart(weights: Float32, new: Array) -> tuple[Float32, Float32]:
    """``weights`` plus and minus something new, at most half of them, where both are exact: the mean stays as it is."""
    size, unit = np.abs(weights) / 2, np.spacing(np.abs(weights)).astype(np.float64)
    step = np.round(np.clip(new, -size, size) / unit) * unit
    one, other = (weights + step).astype(np.float32), (weights - step).astype(np.float32)
    exact = one.astype(np.float64) + other == 2.0 * weights
    return np.where(exact, one, weights), np.where(exact, other, weights)


# ---- from text -------------------------------------------------------------------------------------------------------


class Solved(NamedTuple):
    """Parameters of the new units, their output weights (n_outputs, H) apart, scalars, and what these follow from."""

    parameters: dict[str, Float32]
    weights: Float32
    scalars: Float64
    evidence: OutputStatistics


def solved(
    network: Network,
    plan: Plan,
    parameters: Mapping[str, Float32],
    evidence: OutputStatistics,
    classes: EmbeddingStatistics,
    cells: OutputClasses | None,
    text: SegmentedText,
    attention: str,
    room: int,
    seed: int,
    tick: Callable[[int], Any],
) -> Solved:
    """Solve the units of a plan on a text.

    Parameters
    ----------
    network : Network
        As it stands.
    plan : list of (Unit, int)
    parameters : mapping of str to ndarray
        Of the network as it stands.
    evidence, classes, cells
        What they follow from.
    text : SegmentedText
    attention : {"responsibilities", "gradient", "uniform"}
        That of the new units; with "gradient" it is solved by responsibilities.
    room : int
        Logits that may be held at once.
    seed : int
    tick : callable
        Told of positions done.
    """
    stream = text.stream
    shared = SharedCounts(stream.ids, stream.starts, text.vocab_size, text.workers.n_threads, room)
    larger, mine = grown_network(network, plan), dict(parameters)
    X = units.embeddings(parameters, shared.n_threads)
    words = {
        unit.name: _words(evidence, block, cells, shared.unigram)
        for unit, block in zip(network.units, units.blocks(network.units, parameters), strict=True)
    }
    for layer in sorted({unit.layer for unit, _ in plan}):
        own = [each for each in plan if each[0].layer == layer]
        starts = _first_layer(larger, own, X, classes, shared, stream, attention, seed, tick, mine)
        if layer:
            starts = {unit.name: joined_words(words, larger, layer) for unit, _ in own}
        for name, each in hidden_layers(larger, mine, own, X, starts, shared, stream, seed, tick).items():
            mine |= {f"{name}.weights": each.weights, f"{name}.bias": each.bias}
            words[name] = each.B
    rows = Rows(larger, mine, X, shared, text, known=len(network.units))
    every = sample(stream, seed)
    weights, _, scalars, told = output.solve(rows, every, seed)
    tick(every.size)
    return Solved({name: mine[name] for name in mine if name not in parameters}, weights, scalars[1:], told)


def _first_layer(
    network: Network,
    own: Plan,
    X: Float32,
    classes: EmbeddingStatistics,
    shared: SharedCounts,
    stream: TokenStream,
    attention: str,
    seed: int,
    tick: Callable[[int], Any],
    parameters: dict[str, Float32],
) -> dict[str, Float32]:
    """Add the attention of new units to the parameters; words of the classes that each of them sees, by name."""
    new = [unit for unit, _ in own]
    if new[0].layer:
        for unit in new:
            parameters |= upper_attention(unit)
        return {}
    mixture = _FixedEmbeddings(stream, new, network.span, X, classes.words[0], shared, attention)
    found = explicit_attention.solve(mixture, sample(stream, seed, POSITIONS), seed, tick=tick)
    parameters |= found.attention
    return {unit.name: B for unit, B in zip(new, found.B, strict=True)}


class _FixedEmbeddings(AttentiveMixture):
    """Explicit attention with embeddings that stay as they are."""

    def __init__(
        self,
        stream: TokenStream,
        new: list[Unit],
        span: int,
        X: Float32,
        words: Float32,
        shared: SharedCounts,
        attention: str,
    ) -> None:
        super().__init__(stream, new, span, X, X, shared.unigram, attention, shared.n_threads)
        self._fixed = self.X = X
        self.B = [words for _ in new]

    def maximise(self, pace: float) -> None:
        """New words, shares and attention from the counts."""
        super().maximise(pace)
        self.X = self._fixed


def _words(evidence: OutputStatistics, block: slice, cells: OutputClasses | None, unigram: Float64) -> Float32:
    """Words of the hidden units of one unit, (V, hidden), columns of unit sum, by what was observed."""
    observed = evidence.observed[:, block].astype(np.float64)
    if cells is not None:
        mass = np.bincount(cells.of_word, unigram, minlength=cells.n_classes)
        observed = observed[cells.of_word] * (unigram / np.maximum(mass[cells.of_word], 1e-300))[:, None]
    observed += WORD_MASS * unigram[:, None]
    return (observed / observed.sum(axis=0)).astype(np.float32)

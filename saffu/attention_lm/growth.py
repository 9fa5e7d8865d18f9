"""Growth of a solved network: new units with the same function, or solved on text by what the network lacks.

A new unit (:mod:`saffu.attention_lm.growth_plan`) enters with an output of zero and the function of the network is the
same; or it is solved on text, as all units are (:mod:`saffu.attention_lm.solver`), by how far the network as it is
misses the words, and enters with a scalar fitted by Newton.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from saffu.attention_lm import em_attention, output_layer, units
from saffu.attention_lm.contexts import parse_contexts
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.growth_plan import grown_network, planned, shapes
from saffu.attention_lm.hidden_layers import Plan, first_attention_above, joined_words, solve_hidden_layers
from saffu.attention_lm.hidden_states import HiddenStates
from saffu.attention_lm.residual import training_text
from saffu.attention_lm.scoring import mean_loss
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solve_context import POSITIONS, SolveContext
from saffu.attention_lm.solver import total_positions
from saffu.attention_lm.sufficient_statistics import WORD_MASS, OutputStatistics, Solution
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters, Unit
from saffu.utils import validate
from saffu.utils.arrays import Array, Float32, Float64
from saffu.utils.initializers import Init, Initializer
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread, resolve_threads

if TYPE_CHECKING:
    from saffu.attention_lm.network_model import NetworkModel

Model = TypeVar("Model", bound="NetworkModel")

MEMORY_BUDGET = 1 << 27  # logits that are held at once
SIZES = ("bits", "block", "radius", "heads", "layers", "hidden", "contexts")


class SolvedUnits(NamedTuple):
    """Parameters of the new units, their output weights (n_outputs, H) apart, scalars, and what these follow from."""

    parameters: Parameters
    weights: Float32
    scalars: Float64
    statistics: OutputStatistics

    def after(self, solution: Solution) -> Solution:
        """A network with these units after its own."""
        weights = np.concatenate([solution.parameters["output.weights"], self.weights], axis=1)
        return replace(
            solution.with_parameters({**self.parameters, "output.weights": weights}),
            output=solution.output.beside(self.statistics),
            scalars=np.concatenate([solution.scalars, self.scalars]),
        )


def checked_sizes(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is to grow to, by the names of its settings; those that are None are left out.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown or a value is no size.
    """
    for name in sizes:
        if name not in SIZES:
            raise TypeError(f"grow got an unknown setting {name!r}; known are {', '.join(SIZES)}")
    given = {name: sizes[name] for name in SIZES if sizes.get(name) is not None}
    return {
        name: parse_contexts(value) if name == "contexts" else validate.size(value, name)
        for name, value in given.items()
    }


def grown(
    model: Model, sizes: Mapping[str, Any], stream: TokenStream | None, init: Init, seed: int, progress: bool | None
) -> Model:
    """A larger model, see :meth:`SaffuLM.grow`.

    Parameters
    ----------
    model : SaffuLM
    sizes : mapping
        As :func:`checked_sizes` gives them.
    stream : TokenStream, optional
        What new units are solved on.
    init : {"normal", "zeros"} or callable
    seed : int
    progress : bool, optional
    """
    free = Initializer(init, seed)
    changed = {name: value for name, value in sizes.items() if name != "bits"}
    start = _with_bits(model, sizes["bits"], free) if "bits" in sizes else model
    larger = start._copy(**changed)
    plan = planned(start._network, start._sizes(), larger._sizes())
    larger._network = grown_network(start._network, plan)
    record: dict[str, Any] = {"kind": "units", **changed, "added": [unit.name for unit, _ in plan]}
    if plan:
        if stream is None:
            larger._solution = silent(start._network, plan, start._fitted, free).after(start._fitted)
        else:
            record["losses"] = _add_solved(start, larger, plan, stream, progress)
        larger.growth.append(record)
    return larger


def _with_bits(model: Model, bits: int, free: Initializer) -> Model:
    """The same function with each class as several equal ones."""
    times = bits // model.bits
    if times * model.bits != bits or times < 1 or times & (times - 1):
        raise ValueError(f"bits must be {model.bits}, as they are now, or 2, 4, 8 ... times that, got {bits}")
    solution, larger = model._fitted, model._copy(bits=bits)
    if times > 1:
        split = solution.with_parameters(split_classes(solution.parameters, model._network, times, free))
        larger._solution = replace(split, embeddings=solution.embeddings.split(times))
        larger.growth.append({"kind": "bits", "bits": bits})
    return larger


def _add_solved(start: Model, larger: Model, plan: Plan, stream: TokenStream, progress: bool | None) -> list[float]:
    """Solve the units of a plan; the loss before and after."""
    text = training_text(start, stream, resolve_threads(start.n_threads))
    shared = SharedCounts(text.stream, text.vocab_size, text.workers.n_threads, MEMORY_BUDGET)
    total = total_positions(plan, text.stream, "responsibilities")
    with progress_bar(total, "grow", progress) as bar, one_blas_thread():
        context = SolveContext(start._network, shared, text.stream, start.seed, start.attention, bar.update)
        found = solved(context, plan, start._fitted, text)
        larger._solution = found.after(start._fitted)
        before, after = (mean_loss(model, text) for model in (start, larger))
        if not after <= before:
            found = found._replace(weights=0 * found.weights, scalars=0 * found.scalars)
            larger._solution = found.after(start._fitted)
            after = before
    return [before, after]


# ---- without text ----------------------------------------------------------------------------------------------------


def silent(network: Network, plan: Plan, solution: Solution, free: Initializer) -> SolvedUnits:
    """New units whose parameters are free and whose output weights are zero."""
    wanted = shapes(network, plan, solution.parameters)
    made: Parameters = {name: np.asarray(free(name, shape), np.float32) for name, shape in wanted.items()}
    weights = np.zeros((len(solution.parameters["output.weights"]), sum(hidden for _, hidden in plan)), np.float32)
    statistics = OutputStatistics.none(weights.shape, len(plan), solution.output.counts)
    return SolvedUnits(made, weights, np.zeros(len(plan)), statistics)


def split_classes(parameters: Parameters, network: Network, times: int, free: Initializer) -> Parameters:
    """Embeddings and what sees them with each class as so many equal ones, a power of two: nothing changes.

    Comparisons become so many times smaller, and attention weights as much larger. The weights of the copies move apart
    by what is new, and together stay what they were.
    """
    found: Parameters = {EMBEDDINGS: np.tile(parameters[EMBEDDINGS], times)}
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


def solved(context: SolveContext, plan: Plan, solution: Solution, text: SegmentedText) -> SolvedUnits:
    """Solve the units of a plan on a text.

    Parameters
    ----------
    context : SolveContext
        With the network as it is. The attention of new units that is to be "gradient" is solved by responsibilities.
    plan : list of (Unit, int)
    solution : Solution
        Of the network as it is.
    text : SegmentedText
        The stream of the context, with the logits of the residual.
    """
    network, parameters, shared = context.network, solution.parameters, context.shared
    larger, mine = replace(context, network=grown_network(network, plan)), dict(parameters)
    X = units.embeddings(parameters, shared.n_threads)
    words = {
        unit.name: _words(solution, block, shared.unigram)
        for unit, block in zip(network.units, units.blocks(network.units, parameters), strict=True)
    }
    for layer in sorted({unit.layer for unit, _ in plan}):
        own = [each for each in plan if each[0].layer == layer]
        starts = _solve_attention(larger, own, X, solution, mine)
        if layer:
            starts = {unit.name: joined_words(words, larger.network, layer) for unit, _ in own}
        for name, each in solve_hidden_layers(larger, mine, own, X, starts).items():
            mine |= {f"{name}.weights": each.weights, f"{name}.bias": each.bias}
            words[name] = each.B
    every = context.sample()
    output = output_layer.solve(HiddenStates(larger, mine, X, text, len(network.units)), every, context.seed)
    context.progress(every.size)
    made = {name: mine[name] for name in mine if name not in parameters}
    return SolvedUnits(made, output.weights, output.scalars[1:], output.statistics)


def _solve_attention(
    context: SolveContext, own: Plan, X: Float32, solution: Solution, parameters: Parameters
) -> dict[str, Float32]:
    """Add the attention of new units of one layer to the parameters; by name, words of the classes that each sees."""
    new = [unit for unit, _ in own]
    if new[0].layer:
        for unit in new:
            parameters |= first_attention_above(unit)
        return {}
    mixture = _FixedEmbeddings(context, new, X, solution.embeddings.words[0])
    found = em_attention.solve(mixture, context.sample(POSITIONS), context.seed, progress=context.progress)
    parameters |= found.attention
    return {unit.name: B for unit, B in zip(new, found.B, strict=True)}


class _FixedEmbeddings(AttentiveMixture):
    """Explicit attention with embeddings that stay as they are."""

    def __init__(self, context: SolveContext, new: list[Unit], X: Float32, words: Float32) -> None:
        unigram, span = context.shared.unigram, context.network.span
        super().__init__(context.stream, new, span, X, X, unigram, context.attention, context.n_threads)
        self._fixed = self.X = X
        self.B = [words for _ in new]

    def maximise(self, pace: float) -> None:
        """New words, shares and attention from the counts."""
        super().maximise(pace)
        self.X = self._fixed


def _words(solution: Solution, block: slice, unigram: Float64) -> Float32:
    """Words of the hidden units of one unit, (V, hidden), columns of unit sum, by what was observed."""
    observed, classes = solution.output.observed[:, block].astype(np.float64), solution.output_classes
    if classes is not None:
        mass = np.bincount(classes.of_word, unigram, minlength=classes.n_classes)
        observed = observed[classes.of_word] * (unigram / np.maximum(mass[classes.of_word], 1e-300))[:, None]
    observed += WORD_MASS * unigram[:, None]
    words: Float32 = (observed / observed.sum(axis=0)).astype(np.float32)
    return words

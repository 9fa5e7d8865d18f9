"""Solving a network of units from the bottom up: embeddings and attention, hidden layers, output, scalars.

Nothing here follows a gradient through layers. Embeddings and attention come from
:mod:`saffu.attention_lm.em_attention`, the hidden layers from :mod:`saffu.attention_lm.em_hidden`, and the output from
:mod:`saffu.attention_lm.output_layer`: logarithms of counts, and one scalar a unit.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from saffu.attention_lm import em_attention, gradient_attention, output_layer
from saffu.attention_lm.em_attention import AttentionSolution, AttentiveMixture
from saffu.attention_lm.hidden_layers import Plan, first_attention_above, joined_words, solve_hidden_layers
from saffu.attention_lm.hidden_states import HiddenStates
from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.residual import training_source
from saffu.attention_lm.segments import LogitSource, SegmentedText
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solve_context import POSITIONS, SolveContext
from saffu.attention_lm.sufficient_statistics import EmbeddingStatistics, Solution
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters, Unit
from saffu.utils import fingerprints
from saffu.utils.arrays import Float32, Int64
from saffu.utils.fingerprints import Multiset
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread

if TYPE_CHECKING:
    from saffu.attention_lm.network_model import NetworkModel

Model = TypeVar("Model", bound="NetworkModel")


def fit_shared(model: Model, shared: SharedCounts, *, progress: bool | None = None) -> Model:
    """Solve a model on a text that was counted before, for another model.

    Parameters
    ----------
    model : SaffuLM
        It is solved from the start, as :meth:`SaffuLM.fit` would on the text of the counts.
    shared : SharedCounts
        Of a checked text.
    progress : bool, optional
        Whether to show a bar on a terminal.

    Returns
    -------
    SaffuLM
        The model.

    Raises
    ------
    ValueError
        If the text is empty, or the residual has another vocabulary or was made of another text.

    Examples
    --------
    >>> import saffu
    >>> from saffu.utils.streams import TokenStream
    >>> shared = SharedCounts(TokenStream.of([0, 1, 2] * 50), vocab_size=3, n_threads=1)
    >>> models = [fit_shared(saffu.SaffuLM(bits=3, radius=2, hidden=n), shared) for n in (4, 6)]
    >>> [int(model.distribution([0, 1]).argmax()) for model in models]
    [2, 2]
    """
    if shared.stream.ids.size == 0:
        raise ValueError("ids must hold at least one token, got none")
    model._checked_size(shared.vocab_size)
    began = time.perf_counter()
    source = training_source(model, shared)
    solving = time.perf_counter()
    network = Network.of(model._sizes(), model.span)
    stream = shared.stream if source is None else source.stream
    plan = [(unit, model.hidden) for unit in network.units]
    with (
        progress_bar(total_positions(plan, stream, model.attention), "solve", progress) as bar,
        one_blas_thread(),
    ):
        context = SolveContext(network, shared, stream, model.seed, model.attention, bar.update)
        solution, losses = solve(context, model.bits, model.hidden, source, model.words)
    model._network, model._solution, model.attention_losses = network, solution, losses
    model._documents = Multiset().plus(fingerprints.of_documents(shared.stream))
    model.history, model.growth = None, []
    model.seconds = {"solve": time.perf_counter() - solving, "residual": solving - began}
    return model


def total_positions(plan: Plan, stream: TokenStream, attention: str) -> int:
    """The most positions that solving the units of a plan reports: rounds end where they gain no more."""
    whole, part = stream.ids.size, min(stream.ids.size, POSITIONS)
    total = 2 * whole  # attention settles, and the output is solved, on all
    if any(unit.layer == 0 for unit, _ in plan):
        total += (em_attention.READINGS + em_attention.ROUNDS) * part
        if attention == "gradient":
            total += gradient_attention.MOST_PASSES * min(part, gradient_attention.POSITIONS)
    return total + sum(part // 2 if unit.layer else part for unit, _ in plan)


def solve(
    context: SolveContext, bits: int, hidden: int, source: LogitSource | None, n_words: int
) -> tuple[Solution, list[float]]:
    """Solve a network.

    Parameters
    ----------
    context : SolveContext
    bits, hidden : int
        Width of the embeddings and of each unit.
    source : LogitSource, optional
        Another model's logits of the text, as if it had not been counted.
    n_words : int
        With it, as many of the most frequent words have an output each; the others share those of their classes.

    Returns
    -------
    solution : Solution
    attention_losses : list of float
        What the rounds of explicit attention reached, nats per token.
    """
    network, shared = context.network, context.shared
    every = context.sample()
    found, embeddings = _solve_attention(context, bits, every)
    parameters: Parameters = {EMBEDDINGS: _logits(found.X), **found.attention}
    words: dict[str, Float32] = {}
    for layer in range(network.n_layers):
        _solve_layer(context, layer, hidden, found, parameters, words)
    output_classes = None
    if source is not None and n_words < shared.counts.size:
        likeliest = _likeliest_units(network.units[0], parameters, words)
        output_classes = OutputClasses.frequent(shared.counts, n_words, likeliest)
    text = SegmentedText(
        context.stream, shared.counts.size, np.dtype(np.float32), context.n_threads, source, output_classes
    )
    output = output_layer.solve(HiddenStates(context, parameters, found.X, text), every, context.seed)
    context.progress(every.size)
    parameters |= {"output.weights": output.weights, "output.bias": output.bias}
    return Solution(parameters, output.statistics, embeddings, output.scalars, output_classes), found.losses


def _solve_attention(context: SolveContext, bits: int, every: Int64) -> tuple[AttentionSolution, EmbeddingStatistics]:
    """Embeddings and attention of the first layer, and what they follow from."""
    local, shared = _local_units(context.network), context.shared
    mixture = AttentiveMixture(
        context.stream,
        local,
        context.network.span,
        shared.codes(bits),
        shared.embeddings(bits),
        shared.unigram,
        context.attention,
        context.n_threads,
    )
    positions = context.sample(POSITIONS)
    found = em_attention.solve(mixture, positions, context.seed, progress=context.progress, every=every)
    if context.attention == "gradient":
        found.losses = gradient_attention.solve(mixture, positions, context.seed, context.progress)
        found.attention = mixture.parameters
    mass = mixture.counts.arrays["embeddings"].sum(axis=1) + np.float32(em_attention.EMBEDDING_MASS)
    more, words = np.zeros_like(found.X), np.stack(found.B)
    names = tuple(unit.name for unit in local)
    return found, EmbeddingStatistics(found.X, mass, more, words, found.shares, dict(found.attention), names)


def _solve_layer(
    context: SolveContext,
    layer: int,
    hidden: int,
    found: AttentionSolution,
    parameters: Parameters,
    words: dict[str, Float32],
) -> None:
    """Add the hidden layers of the units of one layer to the parameters, and the words of their hidden states."""
    network = context.network
    of_classes = {unit.name: B for unit, B in zip(_local_units(network), found.B, strict=True)}
    plan = [(unit, hidden) for unit in network.units if unit.layer == layer]
    starts: dict[str, Float32] = {}
    for unit, _ in plan:
        parameters |= first_attention_above(unit) if layer else {}
        starts[unit.name] = joined_words(words, network, layer) if layer else of_classes.get(unit.name, found.B[0])
    for name, each in solve_hidden_layers(context, parameters, plan, found.X, starts).items():
        parameters |= {f"{name}.weights": each.weights, f"{name}.bias": each.bias}
        words[name] = each.B


def _local_units(network: Network) -> list[Unit]:
    """The units that embeddings are solved with: those of the first layer that see the tokens just before."""
    first = [unit for unit in network.units if unit.layer == 0]
    # A document depends too little on a single word to shape embeddings beside the tokens just before it.
    return [unit for unit in first if unit.context != "document"] or first


def _likeliest_units(unit: Unit, parameters: Parameters, words: dict[str, Float32]) -> Int64:
    """The hidden unit of a unit that most often goes before each word."""
    numbers: Int64 = (words[unit.name] * np.exp(parameters[f"{unit.name}.bias"])).argmax(axis=1)
    return numbers


def _logits(X: Float32) -> Float32:
    """Logits of which X is the softmax, centred."""
    logits = np.log(np.maximum(X, np.float32(1e-12)))
    centred: Float32 = logits - logits.mean(axis=1, keepdims=True)
    return centred

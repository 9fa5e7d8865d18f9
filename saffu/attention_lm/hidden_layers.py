"""Hidden layers of a network's units, solved one layer at a time by :mod:`saffu.attention_lm.em_hidden`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, TypeVar

import numpy as np

from saffu.attention_lm import em_hidden, units
from saffu.attention_lm.hidden_states import PART
from saffu.attention_lm.solve_context import POSITIONS, SolveContext, runs
from saffu.attention_lm.units import Network, Parameters, Unit
from saffu.utils.arrays import Float32, Int64
from saffu.utils.threads import Workers

T = TypeVar("T")
Plan: TypeAlias = list[tuple[Unit, int]]  # units, and how many hidden units each has

MOST_INPUTS = 1 << 28  # numbers that units of one layer see and that are held at once


def solve_hidden_layers(
    context: SolveContext, parameters: Parameters, plan: Plan, X: Float32, starts: Mapping[str, Float32]
) -> dict[str, em_hidden.Layer]:
    """Solve the hidden layers of some units of one layer.

    Parameters
    ----------
    context : SolveContext
    parameters : dict of str to ndarray
        Everything below, and the attention of these units.
    plan : list of (Unit, int)
        The units, and how many hidden units each has.
    X : ndarray of float32, shape (V, bits)
        Embeddings.
    starts : mapping of str to ndarray
        By name, words (V, inputs) of what each unit sees.

    Returns
    -------
    dict of str to Layer
        By the names of the units.
    """
    shared, stream = context.shared, context.stream
    positions = context.sample(POSITIONS / 2 if plan[0][0].layer else POSITIONS)
    y, workers = stream.ids[positions], Workers(context.n_threads)

    def one(seen: tuple[tuple[Unit, int], Float32]) -> em_hidden.Layer:
        (unit, hidden), Z = seen
        return em_hidden.solve(Z, y, starts[unit.name], shared.codes(hidden), shared.unigram, 1, context.seed)

    found: dict[str, em_hidden.Layer] = {}
    width = max(starts[unit.name].shape[1] for unit, _ in plan)
    for hidden in {hidden for _, hidden in plan}:
        shared.codes(hidden)  # before workers ask for them at once
    for group in _groups(plan, positions.size * width, workers):
        seen = _aggregated(context, parameters, [unit for unit, _ in group], positions, X, workers)
        solved = workers.map(one, zip(group, seen, strict=True))
        del seen  # before the next group is seen
        for (unit, _), each in zip(group, solved, strict=True):
            found[unit.name] = each
            context.progress(positions.size)
    return found


def first_attention_above(unit: Unit) -> Parameters:
    """Heads above the first layer start at one position each, the newest first; nothing is known of their targets."""
    bias = np.zeros(unit.size, np.float32)
    newest = unit.head % unit.size
    bias[newest if unit.context == "radial" else -1 - newest] = np.log(4.0)
    return {
        f"{unit.name}.attention": np.zeros((unit.size, unit.size), np.float32),
        f"{unit.name}.attention_bias": bias,
    }


def joined_words(words: Mapping[str, Float32], network: Network, layer: int) -> Float32:
    """Words of the joined hidden states of the layer below."""
    return np.concatenate([words[unit.name] for unit in network.units if unit.layer == layer - 1], axis=1)


def _groups(plan: list[T], size: int, workers: Workers) -> Iterator[list[T]]:
    """As many units at a time as see no more numbers than may be held; ``size`` is what one of them sees."""
    most = max(MOST_INPUTS // max(size, 1), workers.n_threads)
    for begin in range(0, len(plan), most):
        yield plan[begin : begin + most]


def _aggregated(
    context: SolveContext, parameters: Parameters, own: list[Unit], positions: Int64, X: Float32, workers: Workers
) -> list[Float32]:
    """What units of one layer see at some positions."""
    layer = own[0].layer
    below = [unit for unit in context.network.units if unit.layer < layer]

    def part(begin: int) -> list[Float32]:
        seen = context.network.chunk(context.stream, *runs(positions[begin : begin + PART]))
        source = units.joined(units.forward(parameters, below, seen, X)[0], below, layer - 1) if below else X
        return [units.aggregate(parameters, unit, seen, source)[0][seen.scored] for unit in own]

    parts = workers.map(part, range(0, max(positions.size, 1), PART))
    return [np.concatenate(Z) for Z in zip(*parts, strict=True)]

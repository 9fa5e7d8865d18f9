"""Learning on the spot: a solved network learns new text, or forgets text, in time proportional to that text.

Hidden layers and attention stay as they are. What follows from counts is renewed: embeddings, by their expected counts
in the new text, and output weights, by the change of their lifts (see :mod:`saffu.attention_lm.sufficient_statistics`):

    O += theta (log lift after - log lift before)

so that weights that were refined move by as much as the counts do. Unit after unit learns what those before it lack, as
in solving. Forgetting takes the same counts away and undoes the same changes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saffu import _core
from saffu.attention_lm import units
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.softmax_pool import softmax_pool
from saffu.attention_lm.solve_context import runs
from saffu.attention_lm.sufficient_statistics import OutputStatistics, Solution
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters
from saffu.explicit.newton import newton
from saffu.utils.arrays import Float32, Float64, Int64
from saffu.utils.streams import TokenStream

ROWS = 256  # positions whose logits are held at once
PART = 1 << 13  # positions whose hidden states are computed at once


def learned(network: Network, solution: Solution, text: SegmentedText, prime: bool) -> Solution:
    """The network with new text taken in.

    Parameters
    ----------
    network : Network
    solution : Solution
    text : SegmentedText
        Whole documents, and the logits of another model that has not counted them.
    prime : bool
        Fit the scalars to the new text, too, as the network before predicts it: so it is text that was not counted.
        Their own text, which is not kept, holds them by its curvature (a quadratic approximation of its loss).
    """
    before = _with_embeddings(network, solution, text, 1)
    counted = _TextStatistics(network, before.parameters, text)
    theta, statistics = before.scalars, before.output
    if prime:
        theta, curvature = counted.primed(before)
        statistics = replace(statistics, curvature=curvature)
    statistics = replace(statistics, counts=statistics.counts + counted.counts)
    bias = before.parameters["output.bias"] + _bias_change(before, statistics, theta)
    O = before.parameters["output.weights"].copy()  # noqa: E741 - the name of the equation
    for i, block in enumerate(counted.blocks):
        statistics = statistics.plus(block, *counted.count(block, O, bias, statistics.n_versus_unigram))
        O[:, block] += theta[1 + i] * statistics.lift(block) - before.scalars[1 + i] * before.output.lift(block)
    after = before.with_parameters({"output.weights": O, "output.bias": bias})
    return replace(after, output=statistics, scalars=theta)


def unlearned(network: Network, solution: Solution, text: SegmentedText) -> Solution:
    """The network with text given back: the undoing of :func:`learned`, the scalars kept.

    The counts of words are exact; expectations of hidden states are those of the network as it is, and so the same as
    they were when the text was learned only if nothing else was learned since.
    """
    counted = _TextStatistics(network, solution.parameters, text)
    statistics = replace(solution.output, counts=solution.output.counts - counted.counts)
    O, bias = solution.parameters["output.weights"], solution.parameters["output.bias"]  # noqa: E741
    parts = [counted.count(block, O, bias, statistics.n_versus_unigram) for block in counted.blocks]
    for block, (observed, expected) in zip(counted.blocks, parts, strict=True):
        statistics = statistics.plus(block, -observed, None if expected is None else -expected)
    O = O.copy()  # noqa: E741
    for block, scalar in zip(counted.blocks, solution.scalars[1:], strict=True):
        O[:, block] += scalar * (statistics.lift(block) - solution.output.lift(block))
    bias = bias + _bias_change(solution, statistics, solution.scalars)
    after = solution.with_parameters({"output.weights": O, "output.bias": bias})
    return _with_embeddings(network, replace(after, output=statistics), text, -1)


def check_counted(statistics: OutputStatistics, stream: TokenStream) -> None:
    """Raise ValueError if a text has more of a word than were counted."""
    left = statistics.counts - np.bincount(stream.ids, minlength=statistics.counts.size)
    if left.min() < 0:
        raise ValueError(f"ids must be text learned before, but hold more of token {int(left.argmin())} than it has")


def _bias_change(before: Solution, statistics: OutputStatistics, theta: Float64) -> Float32:
    """By how much the unigram's part of the logits moves; nothing on another model."""
    if statistics.n_versus_unigram == 0:
        return np.zeros_like(before.parameters["output.bias"])
    change = theta[0] * np.log(statistics.unigram) - before.scalars[0] * np.log(before.output.unigram)
    centred: Float32 = (change - change.mean()).astype(np.float32)
    return centred


# ---- embeddings ------------------------------------------------------------------------------------------------------


def _with_embeddings(network: Network, solution: Solution, text: SegmentedText, sign: int) -> Solution:
    """Embeddings with the expected counts of a text added or taken away: one step of EM for the tokens in it."""
    stream = text.stream
    positions = _positions(stream)
    if positions.size == 0:
        return solution
    before = solution.embeddings
    local = [unit for unit in network.units if unit.name in before.units]
    unigram = solution.output.unigram
    mixture = AttentiveMixture(stream, local, network.span, before.X, before.X, unigram, "uniform", text.n_threads)
    mixture.X, mixture.B, mixture.shares = before.X, list(before.words), before.shares
    mixture.parameters = dict(before.attention)
    after = before.plus(np.float32(sign) * mixture.expect(positions).arrays["embeddings"])
    touched = np.unique(stream.ids).astype(np.int64)
    logits = solution.parameters[EMBEDDINGS].copy()
    logits[touched] += after.log_embeddings(touched) - before.log_embeddings(touched)
    return replace(solution.with_parameters({EMBEDDINGS: logits}), embeddings=after)


def _positions(stream: TokenStream) -> Int64:
    """Those with a token of their document before them."""
    positions = np.arange(stream.ids.size)
    with_context: Int64 = positions[positions > stream.begins(positions)]
    return with_context


# ---- output ----------------------------------------------------------------------------------------------------------


class _TextStatistics:
    """A text under a network: its words, hidden states, and the logits below."""

    def __init__(self, network: Network, parameters: Parameters, text: SegmentedText) -> None:
        self.text, self.n_threads = text, text.n_threads
        self.counts = np.bincount(text.stream.ids, minlength=text.vocab_size)
        self.positions = _positions(text.stream)
        self.y = text.targets(self.positions)
        X = units.embeddings(parameters, self.n_threads)
        parts = [np.empty((0, parameters["output.weights"].shape[1]), np.float32)]
        for begin in range(0, self.positions.size, PART):
            seen = network.chunk(text.stream, *runs(self.positions[begin : begin + PART]))
            parts.append(units.hidden(units.forward(parameters, network.units, seen, X)[0], seen))
        self.H: Float32 = np.concatenate(parts)
        self.blocks = units.blocks(network.units, parameters)

    def _parts(self) -> list[slice]:
        return [slice(begin, begin + ROWS) for begin in range(0, self.y.size, ROWS)]

    def _below(self, part: slice) -> Float32:
        logits = np.zeros((self.y[part].size, self.text.n_outputs), np.float32)
        self.text.fill(self.positions[part], logits)
        return logits

    def count(
        self,
        block: slice,
        O: Float32,  # noqa: E741
        bias: Float32,
        n_versus_unigram: int,
    ) -> tuple[Float64, Float64 | None]:
        """Sums of the hidden states of a unit at the places of each word, and what those before it expect of them."""
        observed = np.zeros((self.text.n_outputs, block.stop - block.start))
        H = np.ascontiguousarray(self.H[:, block])
        _core.moments_labels(H, self.y, None, observed, np.zeros(len(observed)), True, self.n_threads)
        if block.start < n_versus_unigram:
            return observed, None
        expected = np.zeros_like(observed)
        for part in self._parts():
            P = self._below(part)
            P += bias
            P += self.H[part, : block.start] @ O[:, : block.start].T
            expected += _core.softmax(P, False, self.n_threads).T @ H[part]
        return observed, expected

    def primed(self, solution: Solution) -> tuple[Float64, Float64]:
        """Scalars fitted to this text as the network predicts it, held by their own, and the curvature of both."""
        statistics, start = solution.output, solution.scalars
        own = 0 if statistics.n_versus_unigram else 1  # the scalar of another model stays 1
        held = statistics.curvature[own:, own:] + np.eye(start.size - own)
        lifts = [statistics.lift(block) for block in self.blocks]
        log_unigram = np.log(statistics.unigram).astype(np.float32)
        O, bias = solution.parameters["output.weights"], solution.parameters["output.bias"]  # noqa: E741
        last = held

        def groups(part: slice) -> list[Float32]:
            """What the scalars do not change, then what each multiplies."""
            H = self.H[part]
            scaled = [H[:, block] @ lift.T for block, lift in zip(self.blocks, lifts, strict=True)]
            if not own:
                scaled.insert(0, np.tile(log_unigram, (len(H), 1)))
            rest = self._below(part) + bias + H @ O.T
            for scalar, x in zip(start[own:], scaled, strict=True):
                rest -= np.float32(scalar) * x
            return [rest, *scaled]

        def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
            nonlocal last
            away = theta - start[own:]
            value, gradient, hessian = 0.5 * float(away @ held @ away), held @ away, held.copy()
            for part in self._parts():
                found = softmax_pool(groups(part), self.y[part], np.append(1.0, theta))
                value, gradient, hessian = value + found[0], gradient + found[1][1:], hessian + found[2][1:, 1:]
            last = hessian
            return value, gradient, hessian

        theta = np.append(start[:own], newton(evaluate, start[own:], tolerance=1e-4))
        curvature = statistics.curvature.copy()
        curvature[own:, own:] = last
        return theta, curvature

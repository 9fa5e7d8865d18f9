"""Learning on the spot: a solved network takes in new text, or gives text back, in time proportional to that text.

Hidden layers and attention stay as they are. What follows from counts is renewed: embeddings, by their expected counts
in the new text, and output weights, by the change of their lifts (see :mod:`saffu.attention_lm.sufficient_statistics`):

    O += theta (log lift after - log lift before)

so that weights that were refined move by as much as the counts say. Unit after unit learns what those before it leave
unsaid, as in solving. Giving back takes the same counts away and undoes the same changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from saffu import _core
from saffu.attention_lm import units
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.loss import Network
from saffu.attention_lm.output_layer import pooled
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.solver import runs
from saffu.attention_lm.sufficient_statistics import EmbeddingStatistics, OutputStatistics
from saffu.explicit.newton import newton
from saffu.utils.arrays import Float32, Float64, Int64
from saffu.utils.streams import TokenStream

ROWS = 256  # positions whose logits are held at once
PART = 1 << 13  # positions whose hidden states are computed at once


@dataclass(frozen=True)
class Known:
    """A network and what it follows from; never changed in place."""

    parameters: dict[str, Float32]
    evidence: OutputStatistics
    classes: EmbeddingStatistics
    scalars: Float64


def learned(network: Network, known: Known, text: SegmentedText, prime: bool) -> Known:
    """The network with new text taken in.

    Parameters
    ----------
    network : Network
    known : Known
    text : SegmentedText
        Whole documents, and the logits of another model that has not counted them.
    prime : bool
        Fit the scalars to the new text, too, as the network before says it: so it is text that was not counted. Their
        own text, which is not kept, holds them by its curvature (a quadratic approximation of its loss).
    """
    known = _with_classes(network, known, text, 1)
    heard = _Heard(network, known.parameters, text)
    theta, evidence = known.scalars, known.evidence
    if prime:
        theta, curvature = heard.primed(known)
        evidence = replace(evidence, curvature=curvature)
    evidence = replace(evidence, counts=evidence.counts + heard.counts)
    bias = known.parameters["output.bias"] + _bias_change(known, evidence, theta)
    O = known.parameters["output.weights"].copy()  # noqa: E741 - the name of the equation
    for i, block in enumerate(heard.blocks):
        evidence = evidence.plus(block, *heard.count(block, O, bias, evidence.n_alone))
        O[:, block] += theta[1 + i] * evidence.lift(block) - known.scalars[1 + i] * known.evidence.lift(block)
    parameters = {**known.parameters, "output.weights": O, "output.bias": bias}
    return Known(parameters, evidence, known.classes, theta)


def unlearned(network: Network, known: Known, text: SegmentedText) -> Known:
    """The network with text given back: the undoing of :func:`learned`, the scalars kept.

    The counts of words are exact; expectations of hidden states are those of the network as it is, and so the same as
    they were when the text was learned only if nothing else was learned since.
    """
    heard = _Heard(network, known.parameters, text)
    evidence = replace(known.evidence, counts=known.evidence.counts - heard.counts)
    O, bias = known.parameters["output.weights"], known.parameters["output.bias"]  # noqa: E741
    counted = [heard.count(block, O, bias, evidence.n_alone) for block in heard.blocks]
    for block, (observed, expected) in zip(heard.blocks, counted, strict=True):
        evidence = evidence.plus(block, -observed, None if expected is None else -expected)
    O = O.copy()  # noqa: E741
    for block, scalar in zip(heard.blocks, known.scalars[1:], strict=True):
        O[:, block] += scalar * (evidence.lift(block) - known.evidence.lift(block))
    bias = bias + _bias_change(known, evidence, known.scalars)
    parameters = {**known.parameters, "output.weights": O, "output.bias": bias}
    return _with_classes(network, Known(parameters, evidence, known.classes, known.scalars), text, -1)


def check_heard(evidence: OutputStatistics, stream: TokenStream) -> None:
    """Raise ValueError if a text has more of a word than were counted."""
    left = evidence.counts - np.bincount(stream.ids, minlength=evidence.counts.size)
    if left.min() < 0:
        raise ValueError(
            f"ids must be text heard before, but there is more of token {int(left.argmin())} than was heard"
        )


def _bias_change(known: Known, evidence: OutputStatistics, theta: Float64) -> Float32:
    """By how much the unigram's part of the logits moves; nothing on another model."""
    if evidence.n_alone == 0:
        return np.zeros_like(known.parameters["output.bias"])
    change = theta[0] * np.log(evidence.unigram) - known.scalars[0] * np.log(known.evidence.unigram)
    return (change - change.mean()).astype(np.float32)


# ---- embeddings ------------------------------------------------------------------------------------------------------


def _with_classes(network: Network, known: Known, text: SegmentedText, sign: int) -> Known:
    """Embeddings with the expected counts of a text added or taken away: one step of EM for the tokens in it."""
    stream = text.stream
    positions = _positions(stream)
    if positions.size == 0:
        return known
    before = known.classes
    local = [unit for unit in network.units if unit.name in before.units]
    mixture = AttentiveMixture(
        stream, local, network.span, before.X, before.X, known.evidence.unigram, "uniform", text.n_threads
    )
    mixture.X, mixture.B, mixture.shares = before.X, list(before.words), before.shares
    mixture.parameters = dict(before.attention)
    after = before.plus(np.float32(sign) * mixture.expect(positions).arrays["embeddings"])
    touched = np.unique(stream.ids).astype(np.int64)
    logits = known.parameters["embeddings.logits"].copy()
    logits[touched] += after.log_embeddings(touched) - before.log_embeddings(touched)
    return replace(known, classes=after, parameters={**known.parameters, "embeddings.logits": logits})


def _positions(stream: TokenStream) -> Int64:
    """Those with a token of their document before them."""
    positions = np.arange(stream.ids.size)
    return positions[positions > stream.begins(positions)]


# ---- output ----------------------------------------------------------------------------------------------------------


class _Heard:
    """A text under a network: its words, hidden states, and the logits below."""

    def __init__(self, network: Network, parameters: dict[str, Float32], text: SegmentedText) -> None:
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
        n_alone: int,
    ) -> tuple[Float64, Float64 | None]:
        """Sums of the hidden states of a unit at the places of each word, and what those before it expect of them."""
        observed = np.zeros((self.text.n_outputs, block.stop - block.start))
        H = np.ascontiguousarray(self.H[:, block])
        _core.moments_labels(H, self.y, None, observed, np.zeros(len(observed)), True, self.n_threads)
        if block.start < n_alone:
            return observed, None
        expected = np.zeros_like(observed)
        for part in self._parts():
            P = self._below(part)
            P += bias
            P += self.H[part, : block.start] @ O[:, : block.start].T
            expected += _core.softmax(P, False, self.n_threads).T @ H[part]
        return observed, expected

    def primed(self, known: Known) -> tuple[Float64, Float64]:
        """Scalars fitted to this text as the network says it, held by their own, and the curvature of both."""
        evidence, start = known.evidence, known.scalars
        own = 0 if evidence.n_alone else 1  # the scalar of another model stays 1
        held = evidence.curvature[own:, own:] + np.eye(start.size - own)
        lifts = [evidence.lift(block) for block in self.blocks]
        log_unigram = np.log(evidence.unigram).astype(np.float32)
        O, bias = known.parameters["output.weights"], known.parameters["output.bias"]  # noqa: E741
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
                found = pooled(groups(part), self.y[part], np.append(1.0, theta))
                value, gradient, hessian = value + found[0], gradient + found[1][1:], hessian + found[2][1:, 1:]
            last = hessian
            return value, gradient, hessian

        theta = np.append(start[:own], newton(evaluate, start[own:], tolerance=1e-4))
        curvature = evidence.curvature.copy()
        curvature[own:, own:] = last
        return theta, curvature

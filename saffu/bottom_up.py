"""Solving a network of units from the bottom up: embeddings and attention, hidden layers, output, scalars.

Nothing here follows a gradient through layers. Embeddings and attention come from :mod:`saffu.explicit_attention`, the hidden
layers from :mod:`saffu.latent`, and the output weights are logarithms of counts:

    O_wi = log(F_wi / (S_i p(w)))        F = sum_m h_m (x) y_m,  S its sums over the words
    O_wi = log(F_wi / E_wi)              E = sum_m h_m (x) p_m,  on top of a model that says p_m

so that without another model a hidden unit tells by how much it makes a word likelier, and with one, by how much
likelier it is than that model thinks. Last, one scalar for each unit, and one for the unigram, are fitted by Newton on
positions that were left out of F (Williams and Zhao, arXiv 2311.07498 and 2311.07510, are the source of the first form).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saffu import _core, explicit_attention, latent, units
from saffu.cipher import BitCipher, enriched_embeddings
from saffu.context import Stream, ranges
from saffu.explicit import newton
from saffu.ngram import smoothed_distribution
from saffu.passages import LogitSource, Passages
from saffu.text_loss import Network

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

POSITIONS = 400_000  # to solve embeddings, attention and hidden layers on
COMPARED_POSITIONS = 40_000  # to compare a model's expectations with
PRIMING_POSITIONS = 3_000
OUTPUT_MASS = 3.0  # tokens of the unigram that the words of a hidden unit are smoothed by
COMPARED_MASS = 2.0  # occurrences added to what was observed and to what was expected
PART = 1 << 14  # positions at once
COMPARED, ROWS = 1024, 256  # positions whose logits are held at once
RIDGE = 1e-3  # nats by which a scalar one away from its start must pay, twice


class SharedCounts:
    """What models of one text have in common: frequencies, codes and embeddings by their neighbours.

    Parameters
    ----------
    ids : ndarray of int32, shape (M,)
    documents : ndarray of int64
    vocab_size : int
    n_threads : int
    """

    def __init__(self, ids: Int32, documents: Int64, vocab_size: int, n_threads: int) -> None:
        self.stream = Stream(ids, documents)
        self.counts = np.bincount(ids, minlength=vocab_size)
        self.unigram = smoothed_distribution(self.counts, 1.0 / (ids.size + 1.0))
        self.n_threads = n_threads
        self._codes: dict[int, Float32] = {}
        self._embeddings: dict[int, Float32] = {}
        self.sources: dict[tuple[int, int], Any] = {}  # logits of other models, by model and what it calls rare

    def codes(self, bits: int) -> Float32:
        """Bit-cipher codes of the types, (V, bits)."""
        if bits not in self._codes:
            self._codes[bits] = BitCipher(bits).fit(counts=self.counts).codes
        return self._codes[bits]

    def embeddings(self, bits: int) -> Float32:
        """Average code of the words that follow within two tokens, (V, bits)."""
        if bits not in self._embeddings:
            cipher = BitCipher(bits).fit(counts=self.counts)
            self._embeddings[bits] = enriched_embeddings(
                self.stream.ids, cipher, (1, 2), self.stream.documents, "sum", own=False, n_threads=self.n_threads
            )
        return self._embeddings[bits]


def sample(stream: Stream, seed: int) -> Int64:
    """At most 400,000 positions, in whole segments, each with a token of its document before it."""
    first, last = stream.segments()
    share = POSITIONS / max(stream.ids.size, 1)
    if share < 1:
        chosen = np.sort(np.random.default_rng(seed).choice(first.size, int(share * first.size), replace=False))
        first, last = first[chosen], last[chosen]
    positions = ranges(first, last)
    return positions[positions > stream.begins(positions)]


def solve(
    network: Network,
    shared: SharedCounts,
    stream: Stream,
    bits: int,
    hidden: int,
    attention: str,
    source: LogitSource | None,
    seed: int,
    tick: Callable[[int], Any],
) -> tuple[dict[str, Float32], dict[str, Any]]:
    """Parameters of a network, and what the rounds of explicit attention reached.

    Parameters
    ----------
    network : Network
    shared : SharedCounts
    stream : Stream
        The text, or the text as another model reads it: as long, with the same documents.
    bits, hidden : int
        Width of the embeddings and of each unit.
    attention : {"responsibilities", "uniform"}
    source : LogitSource, optional
        Another model's logits of the text, as if it had not been counted.
    seed : int
    tick : callable
        Told of positions done.
    """
    positions = sample(stream, seed)
    first = [unit for unit in network.units if unit.layer == 0]
    # A document says too little of a single word to shape embeddings beside the tokens just before it.
    local = [unit for unit in first if unit.context != "document"] or first
    mixture = explicit_attention.AttentiveMixture(
        stream,
        local,
        {unit.context: unit.size for unit in local},
        network.span,
        shared.codes(bits),
        shared.embeddings(bits),
        shared.unigram,
        attention,
        shared.n_threads,
    )
    found = explicit_attention.solve(mixture, positions, seed, tick=tick)
    parameters: dict[str, Float32] = {"embeddings.logits": _logits(found.X), **found.attention}
    words: dict[str, Float32] = {}
    told = {unit.name: B for unit, B in zip(local, found.B, strict=True)}
    for layer in range(network.n_layers):
        for unit in network.units:
            if unit.layer == layer:
                start = _joined_words(words, network, layer) if layer else told.get(unit.name, found.B[0])
                if layer:
                    parameters |= _upper_attention(unit)
                Z, y = _aggregated(network, parameters, unit, stream, positions, found.X)
                solved = latent.solve(Z, y, start, shared.codes(hidden), shared.unigram, shared.n_threads, seed)
                parameters[f"{unit.name}.weights"] = solved.weights
                parameters[f"{unit.name}.bias"] = solved.bias
                words[unit.name] = solved.B
                tick(positions.size)
    output = _Output(network, parameters, shared, stream, found.X, source)
    parameters |= output.solve(positions, seed)
    tick(positions.size)
    return parameters, {"attention_losses": found.losses, "scalars": output.scalars}


def _logits(X: Float32) -> Float32:
    """Logits of which X is the softmax, centred."""
    logits = np.log(np.maximum(X, np.float32(1e-12)))
    return logits - logits.mean(axis=1, keepdims=True)


def _upper_attention(unit: units.Unit) -> dict[str, Float32]:
    """Heads above the first layer start at one position each, the newest first; nothing is known of their targets."""
    bias = np.zeros(unit.size, np.float32)
    newest = unit.head % unit.size
    bias[newest if unit.context == "radial" else -1 - newest] = np.log(4.0)
    return {
        f"{unit.name}.attention": np.zeros((unit.size, unit.size), np.float32),
        f"{unit.name}.attention_bias": bias,
    }


def _joined_words(words: dict[str, Float32], network: Network, layer: int) -> Float32:
    """Words of the joined hidden states of the layer below."""
    return np.concatenate([words[unit.name] for unit in network.units if unit.layer == layer - 1], axis=1)


def _aggregated(
    network: Network, parameters: dict[str, Float32], unit: units.Unit, stream: Stream, positions: Int64, X: Float32
) -> tuple[Float32, Int32]:
    """What a unit sees at some positions, and the words that follow."""
    parts = []
    below = [u for u in network.units if u.layer < unit.layer]
    for begin in range(0, max(positions.size, 1), PART):
        chosen = positions[begin : begin + PART]
        first, last = _runs(chosen)
        seen = network.chunk(stream, first, last)
        source = X
        if below:
            passed = units.forward(parameters, below, seen, X)[0]
            source = units.joined(passed, below, unit.layer - 1)
        Z = units.aggregate(parameters, unit, seen, source)[0]
        parts.append(Z[seen.scored])
    return np.concatenate(parts), stream.ids[positions]


def _runs(positions: Int64) -> tuple[Int64, Int64]:
    """Ascending positions as runs of consecutive ones within segments' lengths, so that no run crosses a document."""
    if positions.size == 0:
        return positions, positions
    cut = np.flatnonzero(np.diff(positions) != 1) + 1
    firsts = np.concatenate([[0], cut])
    return positions[firsts], positions[np.concatenate([cut - 1, [positions.size - 1]])] + 1


# ---- output ----------------------------------------------------------------------------------------------------------


class _Output:
    """Counts of hidden states and words, their logarithms, and a scalar for each unit."""

    def __init__(
        self,
        network: Network,
        parameters: dict[str, Float32],
        shared: SharedCounts,
        stream: Stream,
        X: Float32,
        source: LogitSource | None,
    ) -> None:
        self.network, self.parameters, self.shared, self.X, self.source = network, parameters, shared, X, source
        self.stream = stream
        self.text = Passages(stream, shared.unigram.size, np.dtype(np.float32), shared.n_threads, source)
        widths = [parameters[f"{unit.name}.bias"].size for unit in network.units]
        self.blocks = [slice(end - width, end) for end, width in zip(np.cumsum(widths), widths, strict=True)]
        self.scalars: list[float] = []

    def solve(self, positions: Int64, seed: int) -> dict[str, Float32]:
        """Output weights and bias: unit after unit, each given what the model with those before it expects."""
        order = np.random.default_rng(seed).permutation(positions)
        n_primed = min(PRIMING_POSITIONS, positions.size // 10)
        primed, counted = np.sort(order[:n_primed]), np.sort(order[n_primed:])
        compared = np.sort(order[n_primed : n_primed + COMPARED_POSITIONS])
        O = np.zeros((self.shared.unigram.size, self.blocks[-1].stop), np.float32)  # noqa: E741 - the equation's name
        theta = np.array([1.0])
        for i, block in enumerate(self.blocks):
            alone = i == 0 and self.source is None
            O[:, block] = self._lift(counted, block) if alone else self._lift_over(compared, O, theta, block)
            theta = self._prime(O, primed, np.append(theta, 0.7))
        self.scalars = theta.tolist()
        for block, scalar in zip(self.blocks, theta[1:], strict=True):
            O[:, block] *= np.float32(scalar)
        bias = theta[0] * np.log(self.shared.unigram) if self.source is None else np.zeros(self.shared.unigram.size)
        return {"output.weights": O, "output.bias": (bias - bias.mean()).astype(np.float32)}

    def _hidden(self, positions: Int64) -> Float32:
        seen = self.network.chunk(self.stream, *_runs(positions))
        return units.hidden(units.forward(self.parameters, self.network.units, seen, self.X)[0], seen)

    def _lift(self, positions: Int64, block: slice) -> Float32:
        """By how much each hidden unit makes each word likelier than the unigram has it, a logarithm."""
        F, mass = np.zeros((self.shared.unigram.size, block.stop - block.start)), np.zeros(self.shared.unigram.size)
        for begin in range(0, positions.size, PART):
            chosen = positions[begin : begin + PART]
            H = np.ascontiguousarray(self._hidden(chosen)[:, block])
            _core.moments_labels(H, self.stream.ids[chosen], None, F, mass, True, self.shared.n_threads)
        smooth = OUTPUT_MASS * self.shared.unigram[:, None]
        lift = (F + smooth) / (F.sum(axis=0) + OUTPUT_MASS) / self.shared.unigram[:, None]
        return np.log(lift).astype(np.float32)

    def _lift_over(self, positions: Int64, O: Float32, theta: Float64, block: slice) -> Float32:  # noqa: E741
        """By how much each hidden unit makes each word likelier than the model so far expects, a logarithm."""
        shape = self.shared.unigram.size, block.stop - block.start
        F, E, mass = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
        for begin in range(0, positions.size, COMPARED):
            chosen = positions[begin : begin + COMPARED]
            H = self._hidden(chosen)
            P = self._base(chosen, theta[0])
            for known, scalar in zip(self.blocks, theta[1:], strict=False):
                P += (np.float32(scalar) * H[:, known]) @ O[:, known].T
            P = _core.softmax(P, False, self.shared.n_threads)
            told = np.ascontiguousarray(H[:, block])
            E += P.T @ told
            _core.moments_labels(told, self.stream.ids[chosen], None, F, mass, True, self.shared.n_threads)
        return np.log((F + COMPARED_MASS) / (E + COMPARED_MASS)).astype(np.float32)

    def _base(self, positions: Int64, scalar: float) -> Float32:
        """Logits of the unigram, or of the other model."""
        logits = self.text.buffer(positions.size)
        if self.source is None:
            logits[:] = scalar * np.log(self.shared.unigram)
        else:
            self.source.fill(positions, logits)
        return logits

    def _prime(self, O: Float32, positions: Int64, start: Float64) -> Float64:  # noqa: E741
        """(scalar of the unigram, or 1 for another model; scalars of the first units), by Newton."""
        if positions.size == 0:
            return start
        H, y, n = self._hidden(positions), self.stream.ids[positions], positions.size
        blocks = self.blocks[: start.size - 1]

        def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
            away = theta - start
            value, gradient = 0.5 * RIDGE * float(away @ away), RIDGE * away
            hessian = RIDGE * np.eye(theta.size)
            for begin in range(0, n, ROWS):
                rows = slice(begin, min(begin + ROWS, n))
                groups = [self._base(positions[rows], 1.0)] + [H[rows, block] @ O[:, block].T for block in blocks]
                part = _pooled(groups, y[rows], theta, self.shared.n_threads)
                value, gradient, hessian = value + part[0] / n, gradient + part[1] / n, hessian + part[2] / n
            if self.source is not None:  # the other model stands as it is
                gradient[0] = 0.0
                hessian[0, 1:] = hessian[1:, 0] = 0.0
            return value, gradient, hessian

        return newton(evaluate, start, tolerance=1e-4)


def _pooled(groups: list[Float32], y: Int32, theta: Float64, n_threads: int) -> tuple[float, Float64, Float64]:
    """Sum of the losses of ``softmax(sum_f theta_f x_f)`` and its derivatives by theta."""
    logits = sum(np.float32(t) * x for t, x in zip(theta, groups, strict=True))
    P = _core.softmax(logits, False, n_threads)
    row = np.arange(y.size)
    value = -float(np.log(np.maximum(P[row, y], 1e-38), dtype=np.float64).sum())
    weighted = [P * x for x in groups]
    means = np.stack([w.sum(axis=1, dtype=np.float64) for w in weighted])
    gradient = np.array([(mean - x[row, y]).sum() for mean, x in zip(means, groups, strict=True)])
    second = np.array([[np.einsum("nw,nw->", w, x, dtype=np.float32) for x in groups] for w in weighted])
    return value, gradient, second - means @ means.T

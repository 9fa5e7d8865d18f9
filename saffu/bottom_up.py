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
from saffu.context import Stream
from saffu.explicit import newton
from saffu.ngram import smoothed_distribution
from saffu.passages import LogitSource, Passages
from saffu.text_loss import Network

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

POSITIONS = 400_000  # to solve embeddings, attention and hidden layers on
RESIDUAL_POSITIONS = 60_000  # to compare another model with
PRIMING_POSITIONS = 3_000
OUTPUT_MASS = 3.0  # tokens of the unigram that the words of a hidden unit are smoothed by
RESIDUAL_MASS = 2.0  # occurrences added to what was observed and to what was expected
PART = 1 << 14  # positions at once
ROWS = 256  # positions whose logits are held at once


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

    def sample(self, seed: int) -> Int64:
        """At most 400,000 positions, in whole segments, each with a token of its document before it."""
        first, last = self.stream.segments()
        share = POSITIONS / max(self.stream.ids.size, 1)
        chosen = np.arange(first.size)
        if share < 1:
            chosen = np.sort(np.random.default_rng(seed).choice(first.size, int(share * first.size), replace=False))
        positions = np.concatenate([np.arange(a, b) for a, b in zip(first[chosen], last[chosen], strict=True)])
        return positions[positions > self.stream.begins(positions)]


def solve(
    network: Network,
    shared: SharedCounts,
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
    bits, hidden : int
        Width of the embeddings and of each unit.
    attention : {"responsibilities", "uniform"}
    source : LogitSource, optional
        Another model's logits of the text, as if it had not been counted.
    seed : int
    tick : callable
        Told of positions done.
    """
    positions = shared.sample(seed)
    first = [unit for unit in network.units if unit.layer == 0]
    mixture = explicit_attention.AttentiveMixture(
        shared.stream,
        first,
        network.sizes,
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
    for layer in range(network.n_layers):
        for number, unit in enumerate(network.units):
            if unit.layer == layer:
                start = found.B[number] if layer == 0 else _joined_words(words, network, layer)
                if layer:
                    parameters |= _upper_attention(unit)
                Z, y = _aggregated(network, parameters, unit, shared.stream, positions, found.X)
                solved = latent.solve(Z, y, start, shared.codes(hidden), shared.unigram, shared.n_threads, seed)
                parameters[f"{unit.name}.weights"] = solved.weights
                parameters[f"{unit.name}.bias"] = solved.bias
                words[unit.name] = solved.B
                tick(positions.size)
    output = _Output(network, parameters, shared, found.X, source)
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
    for begin in range(0, positions.size, PART):
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
        X: Float32,
        source: LogitSource | None,
    ) -> None:
        self.network, self.parameters, self.shared, self.X, self.source = network, parameters, shared, X, source
        self.text = Passages(shared.stream, shared.unigram.size, np.dtype(np.float32), shared.n_threads, source)
        widths = [parameters[f"{unit.name}.bias"].size for unit in network.units]
        self.blocks = [slice(end - width, end) for end, width in zip(np.cumsum(widths), widths, strict=True)]
        self.scalars: list[float] = []

    def solve(self, positions: Int64, seed: int) -> dict[str, Float32]:
        """Output weights and bias."""
        order = np.random.default_rng(seed).permutation(positions)
        if self.source is not None:
            order = order[: RESIDUAL_POSITIONS + PRIMING_POSITIONS]
        n_primed = min(PRIMING_POSITIONS, positions.size // 10)
        primed, counted = np.sort(order[:n_primed]), np.sort(order[n_primed:])
        O = self._lift(counted)  # noqa: E741 - the name of the equation
        theta = self._prime(O, primed)
        self.scalars = theta.tolist()
        for block, scalar in zip(self.blocks, theta[1:], strict=True):
            O[:, block] *= np.float32(scalar)
        bias = theta[0] * np.log(self.shared.unigram) if self.source is None else np.zeros(self.shared.unigram.size)
        return {"output.weights": O, "output.bias": (bias - bias.mean()).astype(np.float32)}

    def _hidden(self, positions: Int64) -> Float32:
        seen = self.network.chunk(self.shared.stream, positions, positions + 1)
        return units.hidden(units.forward(self.parameters, self.network.units, seen, self.X)[0], seen)

    def _lift(self, positions: Int64) -> Float32:
        """By how much each hidden unit makes each word likelier than it is without, (V, H), a logarithm."""
        shape = self.shared.unigram.size, self.blocks[-1].stop
        F, mass = np.zeros(shape), np.zeros(shape[0])
        E = np.zeros(shape)
        ids, threads = self.shared.stream.ids, self.shared.n_threads
        for begin in range(0, positions.size, PART):
            chosen = positions[begin : begin + PART]
            H = self._hidden(chosen)
            _core.moments_labels(H, ids[chosen], None, F, mass, True, threads)
            if self.source is not None:
                self._expect(chosen, H, E)
        if self.source is None:
            smooth = OUTPUT_MASS * self.shared.unigram[:, None]
            lift = (F + smooth) / (F.sum(axis=0) + OUTPUT_MASS) / self.shared.unigram[:, None]
        else:
            lift = (F + RESIDUAL_MASS) / (E + RESIDUAL_MASS)
        return np.log(lift).astype(np.float32)

    def _expect(self, positions: Int64, H: Float32, E: Float64) -> None:
        """E += the words that the other model expects, times the hidden states."""
        assert self.source is not None
        for begin in range(0, positions.size, 4 * ROWS):
            rows = slice(begin, min(begin + 4 * ROWS, positions.size))
            P = self.text.buffer(rows.stop - begin)
            self.source.fill(positions[rows], P)
            E += _core.softmax(P, False, self.shared.n_threads).T @ H[rows]

    def _prime(self, O: Float32, positions: Int64) -> Float64:  # noqa: E741
        """(scalar of the unigram, or 1 for another model; scalar of each unit), by Newton."""
        start = np.array([1.0] + [0.5] * len(self.blocks))
        if positions.size == 0:
            return start
        H, y = self._hidden(positions), self.shared.stream.ids[positions]
        log_unigram = np.log(self.shared.unigram).astype(np.float32)
        fixed = self.source is not None

        def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
            value, gradient, hessian = 0.0, np.zeros(theta.size), np.zeros((theta.size, theta.size))
            for begin in range(0, positions.size, ROWS):
                rows = slice(begin, begin + ROWS)
                groups = [H[rows, block] @ O[:, block].T for block in self.blocks]
                base = self.text.buffer(len(groups[0]))
                if self.source is None:
                    base[:] = log_unigram
                else:
                    self.source.fill(positions[rows], base)
                parts = _pooled([base, *groups], y[rows], theta, self.shared.n_threads)
                value, gradient, hessian = value + parts[0], gradient + parts[1], hessian + parts[2]
            if fixed:
                gradient[0], hessian[0], hessian[:, 0] = 0.0, 0.0, 0.0
            n = positions.size
            ridge = 1e-3 * (theta - start)
            return value / n + 0.5 * float(ridge @ (theta - start)), gradient / n + ridge, hessian / n + 1e-3 * np.eye(theta.size)

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




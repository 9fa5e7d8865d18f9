"""Solving a network of units from the bottom up: embeddings and attention, hidden layers, output, scalars.

Nothing here follows a gradient through layers. Embeddings and attention come from
:mod:`saffu.attention_lm.em_attention`, the hidden layers from :mod:`saffu.attention_lm.em_hidden`, and the output from
:mod:`saffu.attention_lm.output_layer`: logarithms of counts, and one scalar a unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from saffu.attention_lm import em_attention as explicit_attention
from saffu.attention_lm import em_hidden as latent
from saffu.attention_lm import gradient_attention as gradient_targets
from saffu.attention_lm import output_layer as output
from saffu.attention_lm import units
from saffu.attention_lm.contexts import segment_bounds
from saffu.attention_lm.loss import Network
from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.segments import LogitSource, SegmentedText
from saffu.attention_lm.sufficient_statistics import EmbeddingStatistics, OutputStatistics
from saffu.explicit.bit_cipher import BitCipher, enriched_embeddings
from saffu.explicit.discounting import smoothed_distribution
from saffu.utils.arrays import Float32, Float64, Int32, Int64, ranges
from saffu.utils.locks import Lock
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers

T = TypeVar("T")

POSITIONS = 130_000  # to solve attention and hidden layers on; layers above the first take half of them
PART = 1 << 13  # positions at once
SEEN = 1 << 28  # numbers that units of one layer see and that are held at once


class SharedCounts:
    """What models of one text have in common: frequencies, codes and embeddings by their neighbours.

    Parameters
    ----------
    ids : ndarray of int32, shape (M,)
    documents : ndarray of int64
    vocab_size : int
    n_threads : int
    room : int
        Logits that may be held at once; more of them make the output of a large vocabulary better, and slower.
    """

    def __init__(self, ids: Int32, documents: Int64, vocab_size: int, n_threads: int, room: int = 1 << 28) -> None:
        self.stream = TokenStream(ids, documents)
        self.counts = np.bincount(ids, minlength=vocab_size)
        self.unigram = smoothed_distribution(self.counts, 1.0 / (ids.size + 1.0))
        self.n_threads, self.room = n_threads, room
        self._lock = Lock()
        self._codes: dict[int, Float32] = {}
        self._embeddings: dict[int, Float32] = {}
        self.sources: dict[tuple[int, int], Any] = {}

    def codes(self, bits: int) -> Float32:
        """Bit-cipher codes of the types, (V, bits)."""
        with self._lock:
            if bits not in self._codes:
                self._codes[bits] = BitCipher(bits).fit(counts=self.counts).codes
            return self._codes[bits]

    def embeddings(self, bits: int) -> Float32:
        """Average code of the words that follow within two tokens, (V, bits)."""
        with self._lock:
            if bits not in self._embeddings:
                cipher = BitCipher(bits).fit(counts=self.counts)
                self._embeddings[bits] = enriched_embeddings(
                    self.stream.ids, cipher, (1, 2), self.stream.starts, "sum", own=False, n_threads=self.n_threads
                )
            return self._embeddings[bits]

    def source(self, key: tuple[int, int], make: Callable[[], Any]) -> Any:
        """Logits of another model, by the model and what it calls rare; made once."""
        with self._lock:
            if key not in self.sources:
                self.sources[key] = make()
            return self.sources[key]


def sample(stream: TokenStream, seed: int, most: float = math.inf) -> Int64:
    """At most so many positions, in whole segments, each with a token of its document before it."""
    first, last = segment_bounds(stream)
    share = most / max(stream.ids.size, 1)
    if share < 1:
        chosen = np.sort(np.random.default_rng(seed).choice(first.size, int(share * first.size), replace=False))
        first, last = first[chosen], last[chosen]
    positions = ranges(first, last)
    return positions[positions > stream.begins(positions)]


def most_positions(network: Network, plan: list[tuple[units.Unit, int]], stream: TokenStream, attention: str) -> int:
    """The most positions that solving the units of a plan tells ``tick`` of: rounds end where they gain no more."""
    whole, part = stream.ids.size, min(stream.ids.size, POSITIONS)
    told = 2 * whole  # attention settles, and the output is solved, on all
    if any(unit.layer == 0 for unit, _ in plan):
        told += (explicit_attention.READINGS + explicit_attention.ROUNDS) * part
        if attention == "gradient":
            told += gradient_targets.MOST_PASSES * min(part, gradient_targets.POSITIONS)
    return told + sum(part // 2 if unit.layer else part for unit, _ in plan)


class Solved(NamedTuple):
    """A solved network.

    Attributes
    ----------
    parameters : dict of str to ndarray of float32
    attention_losses : list of float
        What the rounds of explicit attention reached.
    scalars : ndarray of float64, shape (1 + n_units,)
    cells : OutputClasses or None
        What the outputs are, unless each word has one.
    evidence : OutputStatistics
    classes : EmbeddingStatistics
    """

    parameters: dict[str, Float32]
    attention_losses: list[float]
    scalars: Float64
    cells: OutputClasses | None
    evidence: OutputStatistics
    classes: EmbeddingStatistics


def solve(
    network: Network,
    shared: SharedCounts,
    stream: TokenStream,
    bits: int,
    hidden: int,
    attention: str,
    source: LogitSource | None,
    n_words: int,
    seed: int,
    tick: Callable[[int], Any],
) -> Solved:
    """Solve a network.

    Parameters
    ----------
    network : Network
    shared : SharedCounts
    stream : TokenStream
        The text, or the text as another model reads it: as long, with the same documents.
    bits, hidden : int
        Width of the embeddings and of each unit.
    attention : {"responsibilities", "gradient", "uniform"}
    source : LogitSource, optional
        Another model's logits of the text, as if it had not been counted.
    n_words : int
        With it, as many of the most frequent words have an output each; the others share those of their classes.
    seed : int
    tick : callable
        Told of positions done.
    """
    every = sample(stream, seed)
    found, classes = _attention(network, shared, stream, bits, attention, every, seed, tick)
    parameters: dict[str, Float32] = {"embeddings.logits": _logits(found.X), **found.attention}
    words: dict[str, Float32] = {}
    for layer in range(network.n_layers):
        _solve_layer(layer, network, shared, stream, hidden, found, seed, tick, parameters, words)
    cells = None
    if source is not None and n_words < shared.counts.size:
        cells = OutputClasses.frequent(shared.counts, n_words, _classes(network.units[0], parameters, words))
    text = SegmentedText(stream, shared.counts.size, np.dtype(np.float32), shared.n_threads, source, cells)
    rows = Rows(network, parameters, found.X, shared, text)
    weights, bias, scalars, evidence = output.solve(rows, every, seed)
    tick(every.size)
    parameters |= {"output.weights": weights, "output.bias": bias}
    return Solved(parameters, found.losses, scalars, cells, evidence, classes)


def _attention(
    network: Network,
    shared: SharedCounts,
    stream: TokenStream,
    bits: int,
    attention: str,
    every: Int64,
    seed: int,
    tick: Callable[[int], Any],
) -> tuple[explicit_attention.Solution, EmbeddingStatistics]:
    """Embeddings and attention of the first layer, and what they follow from."""
    local = local_units(network)
    mixture = explicit_attention.AttentiveMixture(
        stream,
        local,
        network.span,
        shared.codes(bits),
        shared.embeddings(bits),
        shared.unigram,
        attention,
        shared.n_threads,
    )
    positions = sample(stream, seed, POSITIONS)
    found = explicit_attention.solve(mixture, positions, seed, tick=tick, every=every)
    if attention == "gradient":
        found.losses = gradient_targets.solve(mixture, positions, seed, tick)
        found.attention = mixture.parameters
    mass = mixture.counts.arrays["embeddings"].sum(axis=1) + np.float32(explicit_attention.EMBEDDING_MASS)
    more = np.zeros_like(found.X)
    names = tuple(unit.name for unit in local)
    return found, EmbeddingStatistics(
        found.X, mass, more, np.stack(found.B), found.shares, dict(found.attention), names
    )


def _solve_layer(
    layer: int,
    network: Network,
    shared: SharedCounts,
    stream: TokenStream,
    hidden: int,
    found: explicit_attention.Solution,
    seed: int,
    tick: Callable[[int], Any],
    parameters: dict[str, Float32],
    words: dict[str, Float32],
) -> None:
    """Add the hidden layers of the units of one layer to the parameters, and the words of their hidden states."""
    told = {unit.name: B for unit, B in zip(local_units(network), found.B, strict=True)}
    own = [(unit, hidden) for unit in network.units if unit.layer == layer]
    starts: dict[str, Float32] = {}
    for unit, _ in own:
        parameters |= upper_attention(unit) if layer else {}
        starts[unit.name] = joined_words(words, network, layer) if layer else told.get(unit.name, found.B[0])
    solved = hidden_layers(network, parameters, own, found.X, starts, shared, stream, seed, tick)
    for name, each in solved.items():
        parameters |= {f"{name}.weights": each.weights, f"{name}.bias": each.bias}
        words[name] = each.B


def hidden_layers(
    network: Network,
    parameters: dict[str, Float32],
    own: list[tuple[units.Unit, int]],
    X: Float32,
    starts: Mapping[str, Float32],
    shared: SharedCounts,
    stream: TokenStream,
    seed: int,
    tick: Callable[[int], Any],
) -> dict[str, latent.Layer]:
    """Solve the hidden layers of some units of one layer.

    Parameters
    ----------
    network : Network
    parameters : dict of str to ndarray
        Everything below, and the attention of these units.
    own : list of (Unit, int)
        The units, and how many hidden units each has.
    X : ndarray of float32, shape (V, bits)
    starts : mapping of str to ndarray
        By name, words (V, inputs) of what each unit sees.
    shared, stream, seed, tick
        As in :func:`solve`.
    """
    layer = own[0][0].layer
    positions = sample(stream, seed, POSITIONS / 2 if layer else POSITIONS)
    y, workers = stream.ids[positions], Workers(shared.n_threads)

    def one(seen: tuple[tuple[units.Unit, int], Float32]) -> latent.Layer:
        (unit, hidden), Z = seen
        return latent.solve(Z, y, starts[unit.name], shared.codes(hidden), shared.unigram, 1, seed)

    found: dict[str, latent.Layer] = {}
    width = max(starts[unit.name].shape[1] for unit, _ in own)
    for hidden in {hidden for _, hidden in own}:
        shared.codes(hidden)  # before workers ask for them at once
    for group in _groups(own, positions.size * width, workers):
        seen = _aggregated(network, parameters, [unit for unit, _ in group], stream, positions, X, workers)
        solved = workers.map(one, zip(group, seen, strict=True))
        del seen  # before the next group is seen
        for (unit, _), each in zip(group, solved, strict=True):
            found[unit.name] = each
            tick(positions.size)
    return found


def _classes(unit: units.Unit, parameters: dict[str, Float32], words: dict[str, Float32]) -> Int64:
    """The hidden unit that most often goes before each word."""
    return (words[unit.name] * np.exp(parameters[f"{unit.name}.bias"])).argmax(axis=1)


class Rows:
    """Hidden states of positions, and the logits that they are added to, as the output layer counts them.

    ``known`` units of the network have their output already, in ``parameters``: they belong to what lies below.
    """

    def __init__(
        self,
        network: Network,
        parameters: dict[str, Float32],
        X: Float32,
        shared: SharedCounts,
        text: SegmentedText,
        known: int = 0,
    ) -> None:
        self.network, self.parameters, self.X, self.text = network, parameters, X, text
        self.stream, self.n_outputs = text.stream, text.n_outputs
        self.counts, self.unigram, self.workers = shared.counts, shared.unigram, text.workers
        self.room = shared.room
        self._log_unigram = np.log(shared.unigram).astype(np.float32)
        self._below = network.units[:known]
        self.blocks = units.blocks(network.units[known:], parameters)
        self.alone = text.source is None and not known

    def hidden(self, positions: Int64) -> Float32:
        """Hidden states of the units whose output is to be solved, side by side, (n, H)."""
        H = np.empty((positions.size, self.blocks[-1].stop), np.float32)

        def fill(begin: int) -> None:
            part = slice(begin, begin + PART)
            chunk = self.network.chunk(self.stream, *runs(positions[part]))
            seen, _ = units.forward(self.parameters, self.network.units, chunk, self.X)
            H[part] = units.hidden(seen[len(self._below) :], chunk)

        self.workers.map(fill, range(0, positions.size, PART))
        return H

    def targets(self, positions: Int64) -> Int32:
        """The outputs that are right."""
        return self.text.targets(positions)

    def base(self, positions: Int64, out: Float32) -> None:
        """Write the logits of the unigram, or of the other model and of the known units, (n, n_outputs)."""
        if self.alone:
            out[:] = self._log_unigram
            return
        self.text.fill(positions, out)
        if self._below:
            chunk = self.network.chunk(self.stream, *runs(positions))
            seen, _ = units.forward(self.parameters, self._below, chunk, self.X)
            units.add_logits(self.parameters, units.hidden(seen, chunk), out, self.text.source is not None)


def local_units(network: Network) -> list[units.Unit]:
    """The units that embeddings are solved with: those of the first layer that see the tokens just before."""
    first = [unit for unit in network.units if unit.layer == 0]
    # A document says too little of a single word to shape embeddings beside the tokens just before it.
    return [unit for unit in first if unit.context != "document"] or first


def _logits(X: Float32) -> Float32:
    """Logits of which X is the softmax, centred."""
    logits = np.log(np.maximum(X, np.float32(1e-12)))
    return logits - logits.mean(axis=1, keepdims=True)


def upper_attention(unit: units.Unit) -> dict[str, Float32]:
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


def _groups(own: list[T], size: int, workers: Workers) -> Iterator[list[T]]:
    """As many units at a time as see no more numbers than may be held; ``size`` is what one of them sees."""
    most = max(SEEN // max(size, 1), workers.n_threads)
    for begin in range(0, len(own), most):
        yield own[begin : begin + most]


def _aggregated(
    network: Network,
    parameters: dict[str, Float32],
    own: list[units.Unit],
    stream: TokenStream,
    positions: Int64,
    X: Float32,
    workers: Workers,
) -> list[Float32]:
    """What units of one layer see at some positions."""
    layer = own[0].layer
    below = [unit for unit in network.units if unit.layer < layer]

    def part(begin: int) -> list[Float32]:
        seen = network.chunk(stream, *runs(positions[begin : begin + PART]))
        source = units.joined(units.forward(parameters, below, seen, X)[0], below, layer - 1) if below else X
        return [units.aggregate(parameters, unit, seen, source)[0][seen.scored] for unit in own]

    parts = workers.map(part, range(0, max(positions.size, 1), PART))
    return [np.concatenate(Z) for Z in zip(*parts, strict=True)]


def runs(positions: Int64) -> tuple[Int64, Int64]:
    """Ascending positions as runs of consecutive ones within segments' lengths, so that no run crosses a document."""
    if positions.size == 0:
        return positions, positions
    cut = np.flatnonzero(np.diff(positions) != 1) + 1
    firsts = np.concatenate([[0], cut])
    return positions[firsts], positions[np.concatenate([cut - 1, [positions.size - 1]])] + 1

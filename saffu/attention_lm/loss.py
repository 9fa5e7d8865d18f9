"""The loss of a network of units on segments of text, and its gradients.

For a batch of N positions and a vocabulary of V words nearly all of the work is in three products of H V N
multiply-adds: logits, the gradient by the hidden states, and that by the output weights. The first two run over chunks
of positions, the third over blocks of words; each is split over the workers, none is done twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from saffu import _core
from saffu.attention_lm import units
from saffu.attention_lm.segments import SegmentBatch, SegmentedText
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters
from saffu.attention_lm.windows import ComparisonCache
from saffu.utils.arrays import Array, Float64, Int64

WORDS = 2048  # words in a block of the output's gradient


class Embeddings(NamedTuple):
    """Embeddings of the words.

    Attributes
    ----------
    X : ndarray, shape (V, bits)
    cache : ComparisonCache or None
        Their comparisons, if they do not move.
    moving : bool
        Whether their gradient is asked for.
    """

    X: Array
    cache: ComparisonCache | None
    moving: bool


def losses(network: Network, parameters: Parameters, batch: SegmentBatch, embeddings: Embeddings) -> Float64:
    """Loss of each segment of a batch.

    Parameters
    ----------
    network : Network
    parameters : dict of str to ndarray
    batch : SegmentBatch
    embeddings : Embeddings

    Returns
    -------
    ndarray of float64, shape (n_segments,)
        Nats, over the average number of positions of a segment of the text: their mean over all segments is the loss
        per token.
    """
    text = batch.text

    def one(item: tuple[slice, Int64]) -> Float64:
        segments = item[1]
        first, last = text.first[segments], text.last[segments]
        loss = position_losses(network, parameters, text, embeddings, first, last)
        return np.add.reduceat(loss, np.cumsum(last - first) - (last - first)) / text.tokens_per_row

    parts = text.workers.map(one, batch.chunks())
    return np.concatenate(parts) if parts else np.empty(0)


def position_losses(
    network: Network, parameters: Parameters, text: SegmentedText, embeddings: Embeddings, first: Int64, last: Int64
) -> Float64:
    """Negative log-probability of the token at each position of some runs.

    Parameters
    ----------
    network : Network
    parameters : dict of str to ndarray
    text : SegmentedText
    embeddings : Embeddings
    first, last : ndarray of int64, shape (n_runs,)
        Runs ``first[i] .. last[i] - 1``, each in one document.

    Returns
    -------
    ndarray of float64, shape (n,)
        Nats.
    """
    seen = network.chunk(text.stream, first, last)
    positions = seen.positions[seen.scored]
    H = units.hidden(units.forward(parameters, network.units, seen, embeddings.X, embeddings.cache)[0], seen)
    logits = np.empty((positions.size, text.n_outputs), embeddings.X.dtype)
    within = text.fill(positions, logits)
    units.add_logits(parameters, H, logits, text.source is not None)
    return within + _core.cross_entropy_labels(logits, text.targets(positions), 1)


def loss_and_gradients(
    network: Network,
    parameters: Parameters,
    batch: SegmentBatch,
    embeddings: Embeddings,
    gradients: Parameters,
) -> float:
    """Mean loss of a batch, nats per token; its gradients are written into the given arrays.

    Parameters
    ----------
    network : Network
    parameters : dict of str to ndarray
    batch : SegmentBatch
    embeddings : Embeddings
        Moving, if there is an array for their gradient.
    gradients : dict of str to ndarray
        Of the shapes of the parameters. Kernel ``saffu_cross_entropy_backward``.
    """
    text, n = batch.text, batch.n_positions
    G = text.buffer(n)
    H = np.empty((n, parameters["output.weights"].shape[1]), G.dtype)
    small = {name: value for name, value in gradients.items() if name not in ("output.weights", EMBEDDINGS)}

    def one(item: tuple[slice, Int64]) -> tuple[float, dict[str, Array], Array | None]:
        place, segments = item
        seen = network.chunk(text.stream, text.first[segments], text.last[segments])
        passed, sources = units.forward(parameters, network.units, seen, embeddings.X, embeddings.cache)
        h, logits = H[place], G[place]
        h[:] = units.hidden(passed, seen)
        kept = _dropout(batch, place, h)
        positions = seen.positions[seen.scored]
        within = text.fill(positions, logits)
        own = {name: np.zeros_like(value) for name, value in small.items()}
        units.add_logits(parameters, h, logits, text.source is not None)
        share = np.full(positions.size, 1.0 / n)
        loss = (within + _core.cross_entropy_backward(logits, text.targets(positions), share, 1)).sum()
        own["output.bias"] += logits.sum(axis=0)
        dH = logits @ parameters["output.weights"]
        if kept is not None:
            dH *= kept
        dX = np.zeros_like(embeddings.X) if embeddings.moving else None
        units.backward(parameters, network.units, seen, passed, sources, dH, own, dX)
        return float(loss), own, dX

    parts = text.workers.map(one, batch.chunks())
    for name, value in small.items():
        np.sum([own[name] for _, own, _ in parts], axis=0, out=value)
    if embeddings.moving:
        dX = gradients[EMBEDDINGS]
        np.sum([part for _, _, part in parts if part is not None], axis=0, out=dX)
        units.embedding_gradient(embeddings.X, dX, text.n_threads)
    _output_gradient(text, H, G, gradients)
    return sum(loss for loss, _, _ in parts) / n


def _dropout(batch: SegmentBatch, place: slice, h: Array) -> Array | None:
    """Zero hidden states by chance, in place; what they were multiplied by."""
    if batch.dropout == 0:
        return None
    rng = np.random.default_rng([batch.seed, place.start])
    kept = (rng.random(h.shape, np.float32) >= batch.dropout).astype(h.dtype)
    kept /= h.dtype.type(1 - batch.dropout)
    h *= kept
    return kept


def _output_gradient(text: SegmentedText, H: Array, G: Array, gradients: Parameters) -> None:
    def words(begin: int) -> None:
        block = slice(begin, begin + WORDS)
        np.matmul(G[:, block].T, H, out=gradients["output.weights"][block])

    text.workers.map(words, range(0, G.shape[1], WORDS))

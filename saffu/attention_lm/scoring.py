"""Log-probabilities of a text under a model: of its tokens, or whole rows of them, many positions at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu import _core
from saffu.attention_lm import loss, units
from saffu.attention_lm.loss import Embeddings
from saffu.attention_lm.residual import TextSource, new_text
from saffu.attention_lm.segments import CHUNK, SegmentedText
from saffu.attention_lm.solve_context import runs
from saffu.attention_lm.units import EMBEDDINGS
from saffu.attention_lm.windows import ComparisonCache
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread, resolve_threads

if TYPE_CHECKING:
    from saffu.attention_lm.network_model import NetworkModel

ROWS = 256  # positions whose logits are computed at once


def fixed_embeddings(model: NetworkModel, dtype: DTypeLike = np.float32) -> Embeddings:
    """The embeddings of a model as they are, with their comparisons cached."""
    logits = model._fitted.parameters[EMBEDDINGS].astype(dtype)
    X = _core.softmax(logits, False, resolve_threads(model.n_threads))
    return Embeddings(X, ComparisonCache(X, n_threads=model.n_threads), False)


def log_prob(
    model: NetworkModel, stream: TokenStream, dtype: DTypeLike = np.float32, progress: bool | None = None
) -> Float64:
    """Log-probability of every token of a text.

    Parameters
    ----------
    model : NetworkModel
    stream : TokenStream
        The text, checked.
    dtype : {float32, float64}
        What it is computed in.
    progress : bool, optional
        Whether to show a bar on a terminal.

    Returns
    -------
    ndarray of float64, shape (M,)
        Nats.
    """
    parameters = {name: value.astype(dtype) for name, value in model._fitted.parameters.items()}
    text, fixed = new_text(model, stream, dtype), fixed_embeddings(model, dtype)

    def one(segments: Int64) -> Float64:
        first, last = text.first[segments], text.last[segments]
        found = loss.position_losses(model._network, parameters, text, fixed, first, last)
        bar.update(found.size)
        return found

    chunks = [np.arange(i, min(i + CHUNK, len(text))) for i in range(0, len(text), CHUNK)]
    with progress_bar(stream.ids.size, "score", progress) as bar, one_blas_thread():
        parts = text.workers.map(one, chunks)
    return -np.concatenate([*parts, np.empty(0)])


def checked_positions(positions: ArrayLike, n_tokens: int) -> Int64:
    """Positions in [0, n_tokens] as a vector; ValueError or TypeError if they are none."""
    array = np.asarray(positions)
    if array.ndim != 1:
        raise ValueError(f"positions must be one-dimensional, got shape {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"positions must be integers, got dtype {array.dtype}")
    if array.size and (array.min() < 0 or array.max() > n_tokens):
        raise ValueError(f"positions must be between 0 and {n_tokens}, the number of tokens")
    return array.astype(np.int64)


def log_probs(model: NetworkModel, stream: TokenStream, positions: Int64) -> Float64:
    """Log-probabilities of all words at some positions of a text.

    Parameters
    ----------
    model : NetworkModel
    stream : TokenStream
        The text of M tokens, checked.
    positions : ndarray of int64, shape (N,)
        In [0, M].

    Returns
    -------
    ndarray of float64, shape (N, V)
        Nats.
    """
    solution, network = model._fitted, model._network
    # The token behind the text may be any: no position sees itself.
    starts = stream.starts if stream.ids.size else np.zeros(1, np.int64)
    longer = TokenStream(np.append(stream.ids, np.int32(0)), starts)
    source = None if model.residual is None else TextSource(model.residual, longer)
    fixed, classes, threads = fixed_embeddings(model), solution.output_classes, resolve_threads(model.n_threads)
    distinct, places = np.unique(positions, return_inverse=True)
    found = np.empty((distinct.size, model.vocab_size))
    with one_blas_thread():
        for begin in range(0, distinct.size, ROWS):
            part = distinct[begin : begin + ROWS]
            seen = network.chunk(longer, *runs(part, starts))
            H = units.hidden(units.forward(solution.parameters, network.units, seen, fixed.X, fixed.cache)[0], seen)
            outputs = np.empty((part.size, len(solution.parameters["output.bias"])), np.float32)
            units.add_logits(solution.parameters, H, outputs, below=False)
            logits = np.zeros((part.size, model.vocab_size), np.float32)
            if source is not None:
                source.fill(part, logits)
            logits += outputs if classes is None else outputs[:, classes.of_word]
            found[begin : begin + ROWS] = _core.softmax(logits.astype(np.float64), True, threads)
    rows: Float64 = found[places.reshape(-1)]
    return rows


def mean_loss(model: NetworkModel, text: SegmentedText) -> float:
    """Mean loss of up to ``text.sample_rows`` segments of a text, nats per token."""
    # By chance and not evenly spaced: text often alternates between its sources.
    rng = np.random.default_rng(model.seed)
    rows = np.sort(rng.choice(len(text), min(text.sample_rows, len(text)), replace=False))
    batch = text.take(rows)
    losses: Array = loss.losses(model._network, model._fitted.parameters, batch, fixed_embeddings(model))
    return float(losses.sum() * text.tokens_per_row / batch.n_positions)


def attention(model: NetworkModel, stream: TokenStream) -> dict[str, Float64]:
    """What the units of the first layer attend to in a text of M tokens.

    Parameters
    ----------
    model : NetworkModel
    stream : TokenStream
        The text, checked; one document.

    Returns
    -------
    dict of str to ndarray of float64, shape (M, M)
        For each unit that attends to tokens, by its name: row t is the attention of the position after token t, of unit
        sum; zero outside of its window.
    """
    network, T = model._network, stream.ids.size
    longer = TokenStream(np.append(stream.ids, np.int32(0)), np.zeros(1, np.int64))
    seen_at = network.chunk(longer, np.array([0]), np.array([T + 1]))
    fixed, found = fixed_embeddings(model), {}
    for unit in network.units:
        if unit.layer or unit.context == "document":
            continue
        A = units.aggregate(model._fitted.parameters, unit, seen_at, fixed.X, fixed.cache)[1]
        assert A is not None
        windows = seen_at.windows[0][unit.view]
        row, k = np.nonzero(np.arange(windows.n_positions) < windows.length[:, None])
        table = np.zeros((T + 1, T + 1))
        table[row, windows.first[row] + windows.step * k] = A[row, k]
        found[unit.name] = table[1:, :-1]  # the first position sees nothing, and no position the token behind the text
    return found

"""Scoring of text by a transformer: log-probabilities of its tokens, and distributions of what follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.transformer.functional import NOTHING, forward, label_losses
from saffu.transformer.sequences import SequenceBatch, Sequences, Window, windows
from saffu.transformer.sizes import Arrays
from saffu.utils import validate
from saffu.utils.arrays import Float64, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

if TYPE_CHECKING:
    from saffu.transformer.model import Transformer

SCORED_ROWS = 16  # sequences at once in scoring


def rows_of(model: Transformer, stream: TokenStream) -> tuple[Int64, Int64]:
    """A text as rows of ids and labels; ValueError if the model is not causal."""
    _check_causal(model)
    return windows(stream, model.positions, model.vocab_size)


def label_losses_of(model: Transformer, arrays: Arrays, batch: SequenceBatch) -> Float64:
    """Loss of each label of a batch, nats, (B, T); zero where there is none."""
    logits = forward(arrays, batch.ids, model.causal, model.activation).logits
    return label_losses(logits, batch.labels, resolve_threads(model.n_threads))


def log_prob(model: Transformer, stream: TokenStream, progress: bool | None) -> Float64:
    """Log-probability of every token given those before it in its window, nats, shape (M,)."""
    rows = Sequences(*rows_of(model, stream), model.dtype, resolve_threads(model.n_threads))
    found = [np.empty(0)]
    with progress_bar(len(rows), "score", progress) as bar:
        for begin in range(0, len(rows), SCORED_ROWS):
            batch = rows.take(slice(begin, begin + SCORED_ROWS))
            losses = label_losses_of(model, model.arrays, batch)
            found.append(-losses[batch.labels != NOTHING])
            bar.update(len(batch.ids))
    return np.concatenate(found)


def log_probs(model: Transformer, stream: TokenStream, positions: ArrayLike) -> Float64:
    """Log-probabilities of all tokens at some positions, nats, shape (N, V)."""
    asked = _positions(positions, stream.ids.size)
    # One more token, of which the label alone is read, makes a place for what follows the text.
    starts = stream.starts if stream.ids.size else np.zeros(1, np.int64)
    rows, labels = rows_of(model, TokenStream(np.append(stream.ids, np.int32(0)), starts))
    row, column = np.divmod(np.flatnonzero(labels != NOTHING)[asked], model.positions)
    found = np.empty((asked.size, model.vocab_size))
    for one in np.unique(row):
        chosen = np.flatnonzero(row == one)
        logits = model.logits(rows[one : one + 1])[0, column[chosen]]
        found[chosen] = _core.softmax(logits.astype(np.float64), True, 1)
    return found


def reader(model: Transformer, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
    """The distribution after a document that grows: a function that gives it, and one that appends a token."""
    _check_causal(model)
    checked = validate.token_ids(context, "context", model.vocab_size)
    window = Window(checked, model.positions, model.vocab_size)

    def distribution() -> Float64:
        logits = model.logits(window.row())[:, -1].astype(np.float64)
        probabilities: Float64 = _core.softmax(logits, False, 1)[0]
        return probabilities

    return distribution, window.append


def _check_causal(model: Transformer) -> None:
    if not model.causal:
        raise ValueError(
            "a model that is not causal sees what it should predict: it is no language model; it has logits, and "
            "saffu.refine trains it on ids and labels"
        )


def _positions(positions: ArrayLike, n_tokens: int) -> Int64:
    """Positions of a text of ``n_tokens``, that behind its end included."""
    found = np.asarray(positions)
    if found.size == 0:
        return np.empty(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(f"positions must be a vector of integers, got {found.dtype} {found.shape}")
    if found.min() < 0 or found.max() > n_tokens:
        raise ValueError(f"positions must be in [0, {n_tokens}], got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def attention(model: Transformer, stream: TokenStream) -> dict[str, Float64]:
    """What the heads attend to in a text of M tokens, at most ``positions``.

    Returns
    -------
    dict of str to ndarray of float64, shape (M, M)
        For each head, by the numbers of its layer and of itself in it: row t is the attention of token t, of unit sum.
    """
    if not 0 < stream.ids.size <= model.positions:
        raise ValueError(f"ids must be 1 to {model.positions} tokens, got {stream.ids.size}")
    layers = forward(model.arrays, stream.ids[None].astype(np.int64), model.causal, model.activation).layers
    return {
        f"layer{layer + 1}.head{head + 1}": table.astype(np.float64)
        for layer, seen in enumerate(layers)
        for head, table in enumerate(seen.attention[0])
    }

"""Log-probabilities of a text under a network: of its tokens, or whole rows of them; and documents token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from saffu import _core
from saffu.recurrent_lm import network, output_layer
from saffu.recurrent_lm.network import TOKENS, Arrays, Segment, State
from saffu.recurrent_lm.streams import DocumentStreams
from saffu.utils.arrays import Array, Float64, Int32, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers, one_blas_thread

STREAMS, STEPS = 64, 64  # documents that are read side by side, and tokens of each at once
READ = 256  # tokens of one document that are read at once


def log_prob(workers: Workers, arrays: Arrays, stream: TokenStream, progress: bool | None) -> Float64:
    """Log-probability of every token of a text given those before it in its document, nats, shape (M,)."""
    found, tokens = np.empty(stream.ids.size), arrays[TOKENS]
    with progress_bar(stream.ids.size, "score", progress) as bar, one_blas_thread():
        for positions, H in _states(workers, arrays, stream):
            found[positions] = output_layer.log_prob(workers, tokens, H, stream.ids[positions])
            bar.update(positions.size)
    return found


def log_prob_rows(workers: Workers, arrays: Arrays, stream: TokenStream) -> Callable[[Int64], Float64]:
    """The log-probabilities of all tokens, nats, (N, V), at N positions of a text, to be asked many times.

    The text is read once, when it is first asked; its states are kept, D numbers a token.
    """
    longer = stream.with_next(0)  # what the added token is does not matter: no position sees itself
    kept: list[Array] = []

    def rows(positions: Int64) -> Float64:
        with one_blas_thread():
            if not kept:
                kept.append(states(workers, arrays, longer))
            return output_layer.log_probs(workers, arrays[TOKENS], kept[0][positions])

    return rows


def states(workers: Workers, arrays: Arrays, stream: TokenStream) -> Array:
    """The outputs of the last layer that predict each token of a text, (M, D)."""
    tokens = arrays[TOKENS]
    found = np.empty((stream.ids.size, tokens.shape[1] - 1), tokens.dtype)
    for positions, H in _states(workers, arrays, stream):
        found[positions] = H
    return found


def _states(workers: Workers, arrays: Arrays, stream: TokenStream) -> Iterator[tuple[Int64, Array]]:
    """Positions and the states that predict them, segment by segment."""
    if stream.ids.size == 0:
        return
    documents = DocumentStreams(stream, len(arrays[TOKENS]) - 1, STREAMS, STEPS)
    state = network.zero_state(arrays, documents.n_streams)
    for scored in documents.segments():
        found = network.forward(workers, arrays, scored.segment, state)
        state = found.state
        yield scored.positions, found.outputs.reshape(-1, found.outputs.shape[-1])[scored.places]


class Session:
    """A document that is read token by token, its state carried.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Not changed in place by anybody as long as the session is used.
    context : array_like of int
        How the document begins.
    """

    def __init__(self, arrays: Arrays, context: Int32) -> None:
        self._arrays, self._workers = arrays, Workers(1)
        self._n_words = len(arrays[TOKENS]) - 1
        self._state: State = network.zero_state(arrays, 1)
        self._output = np.empty((1, arrays[TOKENS].shape[1] - 1), arrays[TOKENS].dtype)
        self._read(np.array([self._n_words], np.int64))
        for begin in range(0, context.size, READ):
            self._read(context[begin : begin + READ].astype(np.int64))

    def push(self, token: int) -> None:
        """Append a token."""
        self._read(np.array([token], np.int64))

    def distribution(self) -> Float64:
        """Probabilities of the next token, (V,)."""
        with one_blas_thread():
            logits = output_layer.logits(self._arrays[TOKENS], self._output)
        probabilities: Float64 = _core.softmax(logits.astype(np.float64), False, 1)[0]
        return probabilities

    def _read(self, inputs: Int64) -> None:
        segment = Segment(inputs[None, :, None], np.zeros((1, inputs.size, 1), np.bool_))
        with one_blas_thread():
            found = network.forward(self._workers, self._arrays, segment, self._state)
        self._state, self._output = found.state, np.ascontiguousarray(found.outputs[0, -1])

"""The output layer: the softmax over the vocabulary of many positions, its loss and its gradients.

    loss = - mean_n log softmax([h_n 1] T^T)[y_n]          T = [E bias], the array ``tokens`` without its last row

Positions come in blocks of ``ROWS``, whose logits are turned into gradients in place and multiplied with T while
they are in the cache; then the gradient by T is summed over all positions, ``COLUMNS`` words at a time. Neither depends
on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from saffu import _core
from saffu.utils.arrays import Array, Float64, Int32
from saffu.utils.threads import Workers

ROWS = 560  # positions whose logits are computed at once in training
SCORED_ROWS = 256
COLUMNS = 2048  # words whose gradients are computed at once
LOGITS = 1 << 25  # that are held at once, unless a block of positions alone has more


def with_ones(H: Array) -> Array:
    """[H 1]."""
    wide = np.empty((len(H), H.shape[1] + 1), H.dtype)
    wide[:, :-1] = H
    wide[:, -1] = 1
    return wide


class OutputGradients(NamedTuple):
    """Mean loss in nats, and its gradient by the states."""

    loss: float
    states: Array


class OutputLayer:
    """The softmax over a vocabulary, with the memory that its logits need.

    Parameters
    ----------
    workers : Workers
    """

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._logits: Array | None = None

    def loss_and_gradients(self, tokens: Array, H: Array, targets: Int32, d_tokens: Array) -> OutputGradients:
        """Loss of some positions; the gradient by ``tokens`` is written to ``d_tokens``.

        Parameters
        ----------
        tokens : ndarray, shape (V + 1, D + 1)
        H : ndarray, shape (N, D)
        targets : ndarray of int32, shape (N,)
        d_tokens : ndarray, shape (V + 1, D + 1)
        """
        n, n_words = len(H), len(tokens) - 1
        T, wide, scale = tokens[:n_words], with_ones(H), np.full(n, 1 / n)
        held = min(n, max(LOGITS // n_words // ROWS, 1) * ROWS)
        if self._logits is None or len(self._logits) < held or self._logits.dtype != H.dtype:
            self._logits = np.empty((held, n_words), H.dtype)
        buffer, losses, dH = self._logits, np.empty(n), np.empty_like(wide)

        for first in range(0, n, held):
            block = slice(first, min(first + held, n))
            X = buffer[: block.stop - first]

            def rows(begin: int, first: int = first, X: Array = X) -> None:
                part, here = slice(first + begin, first + min(begin + ROWS, len(X))), X[begin : begin + ROWS]
                np.matmul(wide[part], T.T, out=here)
                losses[part] = _core.cross_entropy_backward(here, targets[part], scale[part], 1)
                np.matmul(here, T, out=dH[part])

            def columns(begin: int, block: slice = block, X: Array = X) -> None:
                part = slice(begin, min(begin + COLUMNS, n_words))
                if block.start == 0:
                    np.matmul(X[:, part].T, wide[block], out=d_tokens[part])
                else:
                    d_tokens[part] += X[:, part].T @ wide[block]

            self.workers.map(rows, range(0, len(X), ROWS))
            self.workers.map(columns, range(0, n_words, COLUMNS))
        d_tokens[n_words] = 0
        return OutputGradients(float(losses.mean()), np.ascontiguousarray(dH[:, :-1]))


def logits(tokens: Array, H: Array) -> Array:
    """Logits of all words, (N, V)."""
    found: Array = with_ones(H) @ tokens[:-1].T
    return found


def log_prob(workers: Workers, tokens: Array, H: Array, targets: Int32) -> Float64:
    """Log-probability of the target of each state, nats, (N,)."""
    found = np.empty(len(H))

    def one(begin: int) -> None:
        part = slice(begin, begin + SCORED_ROWS)
        found[part] = -_core.cross_entropy_labels(logits(tokens, H[part]), targets[part], 1)

    workers.map(one, range(0, len(H), SCORED_ROWS))
    return found


def log_probs(workers: Workers, tokens: Array, H: Array) -> Float64:
    """Log-probabilities of all words after each state, nats, (N, V); each row sums to one in float64."""
    found = np.empty((len(H), len(tokens) - 1))

    def one(begin: int) -> None:
        part = slice(begin, begin + SCORED_ROWS)
        found[part] = _core.softmax(logits(tokens, H[part]).astype(np.float64), True, 1)

    workers.map(one, range(0, len(H), SCORED_ROWS))
    return found

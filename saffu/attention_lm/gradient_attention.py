"""Attention solved by gradient targets: what a position would do for the softmax that the network is.

Responsibilities (:mod:`saffu.attention_lm.em_attention`) ask which position explains the word alone, in a mixture. The
network pools positions before its softmax, in logits:

    p = softmax(log p_0 + sum_u pi_u z_u L_u)        z_u = a_u X        L_jw = log(B(w | j) / p_0(w))

where p_0 is the unigram. The gain of log p(y) from more attention to position k is, to first order,
``g_k = pi x_k L (y - p)``, and ``tau_k ~ a_k exp(eta g_k)``, an exponentiated-gradient target, takes the place of the
responsibilities: W is scaled by the logarithm of observed over expected co-occurrences of comparisons and attention,
as there. ``eta`` is halved until the loss falls; when no eta helps, attention is solved. There is no gradient step: no
weight moves along its gradient, targets do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saffu import _core
from saffu.attention_lm.contexts import chunk
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.units import Unit, aggregate
from saffu.attention_lm.windows import Windows
from saffu.utils.arrays import Float32, Int64

POSITIONS = 20_000  # at most
ROWS = 256  # positions whose logits are held at once
ROUNDS, TOLERANCE = 20, 1e-3  # nats per token
ETA, LEAST_ETA = 4.0, 1 / 16
MOST_PASSES = ROUNDS + 7  # eta is halved at most so often, once for each pass that did not help


class _Pooling:
    """Positions of a text, and the network's softmax over the words as attention changes."""

    def __init__(self, mixture: AttentiveMixture, positions: Int64) -> None:
        self.mixture = mixture
        self.seen = chunk(mixture.stream, positions, positions + 1, mixture.views, 1, mixture.span)
        self.y = mixture.stream.ids[positions]
        self._log_unigram = np.log(mixture.unigram).astype(np.float32)
        tiny = np.float32(1e-30)
        self._lifts = [np.log(np.maximum(B, tiny)) - self._log_unigram[:, None] for B in mixture.B]

    def passes(self) -> list[tuple[Float32, Float32 | None, Float32 | None]]:
        """Z, A and S of each unit, as attention is now."""
        mixture = self.mixture
        return [
            aggregate(mixture.parameters, unit, self.seen, mixture.X, None, mixture.n_threads) for unit in mixture.units
        ]

    def loss(self, Z: list[Float32]) -> tuple[float, list[Float32]]:
        """Mean loss in nats, and for each unit how log p(y) changes with z, (n, bits)."""
        total, slopes = 0.0, [np.empty_like(z) for z in Z]
        shares = self.mixture.shares.astype(np.float32)
        for begin in range(0, self.y.size, ROWS):
            rows = slice(begin, min(begin + ROWS, self.y.size))
            logits = np.tile(self._log_unigram, (rows.stop - begin, 1))
            for share, z, lift in zip(shares, Z, self._lifts, strict=True):
                logits += (share * z[rows]) @ lift.T
            total += float(_core.cross_entropy_backward(logits, self.y[rows], None, self.mixture.n_threads).sum())
            for share, slope, lift in zip(shares, slopes, self._lifts, strict=True):
                slope[rows] = -share * (logits @ lift)
        return total / self.y.size, slopes

    def gains(self, unit: Unit, slope: Float32) -> Float32:
        """``g_k = x_k . slope`` of each position of the windows, (n, K)."""
        windows, stream, X = self.seen.windows[0][unit.view], self.mixture.stream.ids, self.mixture.X
        # The slopes are the heads that the tokens are compared with: rows behind the embeddings.
        ids = np.concatenate([stream, len(X) + np.arange(len(slope), dtype=np.int32)])
        heads = stream.size + np.arange(len(slope))
        places = Windows(ids, windows.first, windows.length, heads, windows.step, windows.n_positions)
        return _core.comparisons(places.view, np.concatenate([X, slope]), None, self.mixture.n_threads)


def solve(
    mixture: AttentiveMixture, positions: Int64, seed: int = 0, progress: Callable[[int], object] = lambda n: None
) -> list[float]:
    """Go on from the attention of a solved mixture.

    Parameters
    ----------
    mixture : AttentiveMixture
        Its attention is renewed, its embeddings and words stay.
    positions : ndarray of int64
        Places of the words to predict, each with a token of its document before it; at most 20,000 are used.
    seed : int
        Of their choice.
    progress : callable
        Called with a number of positions whenever so many more are done.

    Returns
    -------
    list of float
        The loss before each round and after the last, nats per token: it falls.
    """
    if positions.size > POSITIONS:
        positions = np.sort(np.random.default_rng(seed).choice(positions, POSITIONS, replace=False))
    if positions.size == 0:
        return []
    pooling, eta = _Pooling(mixture, positions), ETA
    passes = pooling.passes()
    loss, slopes = pooling.loss([Z for Z, _, _ in passes])
    losses = [loss]
    for _ in range(ROUNDS):
        targets = [
            None if A is None or S is None else (A, S, pooling.gains(unit, slope))
            for unit, (_, A, S), slope in zip(mixture.units, passes, slopes, strict=True)
        ]
        before = {name: value.copy() for name, value in mixture.parameters.items()}
        while eta >= LEAST_ETA:
            for unit, target in zip(mixture.units, targets, strict=True):
                if target is not None:
                    _scale(mixture, unit, *target, eta)
            passes = pooling.passes()
            loss, slopes = pooling.loss([Z for Z, _, _ in passes])
            progress(positions.size)
            if loss < losses[-1]:
                break
            eta /= 2
            mixture.parameters = {name: value.copy() for name, value in before.items()}
        else:
            return losses
        losses.append(loss)
        if losses[-2] - loss < TOLERANCE:
            break
    return losses


def _scale(mixture: AttentiveMixture, unit: Unit, A: Float32, S: Float32, gains: Float32, eta: float) -> None:
    """Move W and w of a unit towards the targets, by observed over expected co-occurrences."""
    gains = np.where(A > 0, gains, -np.inf)
    highest = gains.max(axis=1, keepdims=True, initial=-1e30)
    tau = A * np.exp(np.float32(eta) * (gains - highest))
    tau /= np.maximum(tau.sum(axis=1, keepdims=True), 1e-30)
    for part, observed, expected in (
        ("attention", S.T @ tau, S.T @ A),
        ("attention_bias", tau.sum(axis=0), A.sum(axis=0)),
    ):
        known = expected > 1e-6
        ratio = np.log(np.maximum(observed, 1e-3 * expected) / np.where(known, expected, 1), where=known, out=None)
        mixture.parameters[f"{unit.name}.{part}"] += np.where(known, ratio / mixture.reach, 0).astype(np.float32)

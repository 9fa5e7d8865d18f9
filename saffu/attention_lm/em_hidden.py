"""A hidden layer of a unit, solved by counting: units are classes of contexts, found by EM from the words that follow.

    h = softmax(z U + u)        p(y) = sum_i h_i B(y | i)

is a mixture over the hidden units i. Expectation: ``r_i ~ h_i B(y | i)``, the share of each unit in the word that
came. Maximisation: B are the words of each unit, and U the explicit solution (arXiv 2311.07498) of a softmax layer
with inputs z and targets r, ``U_ji = log F_ji - log S_i`` and ``u_i = log S_i``, times one scalar, how much
the inputs are to be trusted, fitted by Newton as EM goes.

Targets start as the papers have them, from the bit-cipher codes of the words, here given to the classes that the
attention found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from saffu import _core
from saffu.explicit.stepwise_em import stepwise_rate
from saffu.utils.arrays import Array, Float32, Float64, Int32, Int64

PART = 1 << 14  # examples whose counts are mixed in at once
CACHED = 512  # examples whose hidden states stay in a core's cache
READINGS = 3
INPUT_MASS = 50.0  # examples with the average input that each hidden unit is smoothed by
WORD_MASS = 2.0  # tokens of the unigram that the words of a unit are smoothed by
SCALES = (0.2, 200.0)


class Layer(NamedTuple):
    """Weights (D, hidden), bias (hidden), and the words of each hidden unit (V, hidden), columns of unit sum."""

    weights: Float32
    bias: Float32
    B: Float32


class _Solver:
    """Counts of one layer, and the parameters that follow from them."""

    def __init__(self, Z: Float32, y: Int32, unigram: Float64, hidden: int, n_threads: int) -> None:
        self.Z, self.y, self.unigram, self.n_threads = Z, y, unigram, n_threads
        self.scale = 1.0
        self.inputs: Float64 = np.zeros((Z.shape[1], hidden))
        # Words are kept * words: the counts so far lose weight by one scalar, not by a pass over all of them.
        self.words: Float64 = np.zeros((unigram.size, hidden))
        self.kept = 1.0
        self.mass: Float64 = np.zeros(hidden)  # of all words
        self.mean = np.maximum(Z.mean(axis=0, dtype=np.float64), 1e-12)

    def absorb(self, rows: Array, R: Float32, inputs: Float32 | Float64, share: float) -> None:
        """Mix the counts of some examples with targets R into those so far, as if they were all.

        ``inputs`` are their sums of z by target, as :meth:`respond` gives them.
        """
        times = share * len(self.Z) / max(len(rows), 1)
        if share < 1:
            self.kept *= 1 - share
        else:
            self.words[:], self.kept = 0, 1.0
        weights = np.full(len(rows), times / self.kept)
        _core.moments_labels(R, self.y[rows], weights, self.words, np.zeros(len(self.words)), True, self.n_threads)
        self.mass = (1 - share) * self.mass + times * R.sum(axis=0, dtype=np.float64)
        self.inputs = (1 - share) * self.inputs + times * inputs
        mass = self.inputs.sum(axis=0)
        lift = (self.inputs + INPUT_MASS * self.mean[:, None]) / (mass + INPUT_MASS) / self.mean[:, None]
        self.U = np.log(lift).astype(np.float32)
        self.u = np.log(np.maximum(mass, 1e-3) / mass.sum()).astype(np.float32)

    def word_shares(self, words: Array) -> Float32:
        """B of some words, (n, hidden)."""
        counts = self.kept * self.words[words] + WORD_MASS * self.unigram[words, None]
        return (counts / (self.mass + WORD_MASS)).astype(np.float32)

    def respond(self, rows: Array) -> tuple[Float32, Float64]:
        """Targets of some examples, and their sums of z by target; one Newton step of the scale on the way."""
        R, inputs = np.empty((len(rows), self.words.shape[1]), np.float32), np.zeros_like(self.inputs)
        slope, curvature = 0.0, 1e-3
        for begin in range(0, len(rows), CACHED):
            part = slice(begin, begin + CACHED)
            Z = self.Z[rows[part]]
            log_ratios = Z @ self.U
            H = _core.softmax(self.scale * log_ratios + self.u, False, self.n_threads)
            shares = np.multiply(H, self.word_shares(self.y[rows[part]]), out=R[part])
            shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-30)
            inputs += Z.T @ shares
            mean = np.einsum("ni,ni->n", H, log_ratios)
            slope += float((np.einsum("ni,ni->n", shares, log_ratios) - mean).sum()) / len(rows)
            H *= log_ratios
            curvature += float((np.einsum("ni,ni->n", H, log_ratios) - mean**2).sum()) / len(rows)
        self.scale = float(np.clip(self.scale + 0.5 * slope / curvature, *SCALES))
        return R, inputs


def solve(Z: Float32, y: Int32, B: Float32, codes: Float32, unigram: Float64, n_threads: int, seed: int = 0) -> Layer:
    """Solve the hidden layer of a unit.

    Parameters
    ----------
    Z : ndarray of float32, shape (M, D)
        What the unit sees, rows of unit sum.
    y : ndarray of int32, shape (M,)
        The words that followed.
    B : ndarray of float32, shape (V, D)
        Words of each input, columns of unit sum.
    codes : ndarray of float32, shape (V, hidden)
        Codes of the words.
    unigram : ndarray of float64, shape (V,)
    n_threads : int
    seed : int
        Of the order of the examples.
    """
    if len(Z) == 0:  # no token has one before it: all hidden units are alike
        hidden = codes.shape[1]
        words = np.repeat(unigram[:, None].astype(np.float32), hidden, axis=1)
        return Layer(np.zeros((Z.shape[1], hidden), np.float32), np.zeros(hidden, np.float32), words)
    solver = _Solver(Z, y, unigram, codes.shape[1], n_threads)
    rng = np.random.default_rng(seed)
    for step, rows in enumerate(_parts(len(Z), rng), start=1):
        if step == 1:
            first = Z[rows]
            R = _first_targets(first, B[y[rows]], codes[y[rows]])
            solver.absorb(rows, R, first.T @ R, 1.0)
        else:
            solver.absorb(rows, *solver.respond(rows), stepwise_rate(step, len(rows), len(Z)))
    return Layer(np.float32(solver.scale) * solver.U, solver.u, solver.word_shares(np.arange(unigram.size)))


def _parts(n: int, rng: np.random.Generator) -> Iterator[Int64]:
    for _ in range(READINGS):
        order = rng.permutation(n)
        for begin in range(0, n, PART):
            yield np.sort(order[begin : begin + PART])


def _first_targets(Z: Float32, likelihood: Float32, codes: Float32) -> Float32:
    """The classes of the inputs, dealt out to the hidden units; the codes tell apart units of the same class."""
    classes, hidden = Z.shape[1], codes.shape[1]
    dealt = np.zeros((classes, hidden), np.float32)
    most = np.arange(max(classes, hidden))
    dealt[most % classes, most % hidden] = 1.0
    R = np.asarray((Z * likelihood) @ dealt, np.float32)
    R /= np.maximum(R.sum(axis=1, keepdims=True), 1e-30)
    if hidden > classes:
        R *= codes + np.float32(0.1 / hidden)
    R += np.float32(1e-3 / hidden)
    R /= R.sum(axis=1, keepdims=True)
    return R

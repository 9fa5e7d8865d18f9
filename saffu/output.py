"""The output of a network of units, solved by counting: what each hidden unit says of each word.

    O_wi = log(F_wi / (S_i p(w)))        F = sum_m h_m (x) y_m,  S its sums over the words
    O_wi = log(F_wi / E_wi)              E = sum_m h_m (x) p_m,  p_m what the model so far says

The first form (arXiv 2311.07498, with the prior apart) is for the first unit of a model that stands on the unigram:
by how much a hidden unit makes a word likelier. The second is for every further unit, and for all of a model that
stands on another one: by how much likelier the word is than expected without the unit, so that nothing is told
twice. After each unit one scalar for each of those solved, and one for the unigram, are fitted by Newton on
positions that the counts leave out.
"""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs

from saffu import _core
from saffu.evidence import Evidence, lift_of_expected, lift_of_unigram
from saffu.explicit import newton
from saffu.passages import Workers

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

COMPARED_POSITIONS = 40_000  # on which observed and expected are compared
PRIMING_POSITIONS = 3_000
RIDGE = 1e-3  # nats by which a scalar one away from its start must pay, twice
FIRST_SCALAR = 0.7
ROWS, WAVE = 256, 16  # positions whose logits are held at once, and how many such parts are added up at once


class Rows(Protocol):
    """Positions of a text under a network whose output is to be solved."""

    counts: Int64  # of the words
    unigram: Float64
    n_outputs: int
    workers: Workers
    blocks: list[slice]  # columns of each unit
    alone: bool  # whether the logits below are those of the unigram

    def hidden(self, positions: Int64) -> Float32:
        """Hidden states (n, H)."""
        ...

    def targets(self, positions: Int64) -> Int32:
        """The outputs that are right."""
        ...

    def base(self, positions: Int64, out: Float32) -> None:
        """Write the logits below, (n, n_outputs)."""
        ...


def solve(rows: Rows, positions: Int64, seed: int) -> tuple[Float32, Float32, Float64, Evidence]:
    """Solve the output.

    Parameters
    ----------
    rows : Rows
    positions : ndarray of int64
        Where words are counted, less some that the scalars are fitted on.
    seed : int
        Of that choice.

    Returns
    -------
    weights : ndarray of float32, shape (n_outputs, H)
        O transposed, with the scalars in it.
    bias : ndarray of float32, shape (n_outputs,)
        The unigram's part of the logits, centred; zero on another model.
    scalars : ndarray of float64, shape (1 + n_units,)
        Of the unigram and of each unit.
    evidence : Evidence
        What these follow from.
    """
    order = np.random.default_rng(seed).permutation(positions)
    n_primed = min(PRIMING_POSITIONS, positions.size // 10)
    counted = np.sort(order[n_primed:])
    compared = _Compared(rows, np.sort(order[n_primed : n_primed + COMPARED_POSITIONS]))
    primed = _Compared(rows, np.sort(order[:n_primed]))
    O = np.zeros((rows.n_outputs, rows.blocks[-1].stop), np.float32)  # noqa: E741 - the name of the equation
    theta = np.array([1.0])
    observed, expected = np.zeros_like(O), np.zeros_like(O)
    for i, block in enumerate(rows.blocks):
        if i == 0 and rows.alone:
            observed[:, block] = _observed(rows, counted, block)
            O[:, block] = lift_of_unigram(observed[:, block], rows.unigram)
        else:
            observed[:, block], expected[:, block] = compared.count(O, theta, block)
            O[:, block] = lift_of_expected(observed[:, block], expected[:, block])
        theta = primed.prime(O, np.append(theta, FIRST_SCALAR))
    for block, scalar in zip(rows.blocks, theta[1:], strict=True):
        O[:, block] *= np.float32(scalar)
    bias = theta[0] * np.log(rows.unigram) if rows.alone else np.zeros(rows.n_outputs)
    told = np.ascontiguousarray(expected[:, rows.blocks[0].stop if rows.alone else 0 :])
    evidence = Evidence(observed, told, rows.counts, primed.curvature)
    return O, (bias - bias.mean()).astype(np.float32), theta, evidence


def _observed(rows: Rows, positions: Int64, block: slice) -> Float64:
    """Sums of hidden states at the places of each word."""
    F, mass = np.zeros((rows.unigram.size, block.stop - block.start)), np.zeros(rows.unigram.size)
    step = ROWS * 8 * WAVE
    for begin in range(0, positions.size, step):
        chosen = positions[begin : begin + step]
        H = np.ascontiguousarray(rows.hidden(chosen)[:, block])
        _core.moments_labels(H, rows.targets(chosen), None, F, mass, True, rows.workers.n_threads)
    return F


class _Compared:
    """Positions with their hidden states, at which the model so far is asked what it expects."""

    def __init__(self, rows: Rows, positions: Int64) -> None:
        self.rows, self.positions = rows, positions
        self.y = rows.targets(positions)
        self.H = rows.hidden(positions) if positions.size else np.zeros((0, rows.blocks[-1].stop), np.float32)
        self._room = threading.local()
        self.curvature = np.zeros((1 + len(rows.blocks),) * 2)

    def _parts(self) -> list[slice]:
        n = self.positions.size
        return [slice(begin, min(begin + ROWS, n)) for begin in range(0, n, ROWS)]

    def _base(self, part: slice) -> Float32:
        """Logits below, in memory that the thread uses again."""
        if not hasattr(self._room, "logits"):
            self._room.logits = np.empty((ROWS, self.rows.n_outputs), np.float32)
        logits = self._room.logits[: part.stop - part.start]
        self.rows.base(self.positions[part], logits)
        return logits

    def count(self, O: Float32, theta: Float64, block: slice) -> tuple[Float64, Float64]:  # noqa: E741
        """Sums of hidden states at the places of each word, and what the model so far expects of them."""
        scaled = O[:, : block.start] * np.repeat(
            theta[1:], [b.stop - b.start for b in self.rows.blocks[: theta.size - 1]]
        )
        scaled = np.ascontiguousarray(scaled, np.float32)
        gemm = get_blas_funcs("gemm", (scaled,))

        def excess(part: slice) -> Float32:
            """Expected less observed co-occurrences."""
            P = self._base(part)
            P *= np.float32(theta[0])
            if block.start:
                gemm(1.0, scaled.T, self.H[part, : block.start].T, 1.0, P.T, trans_a=1, overwrite_c=1)
            _core.cross_entropy_backward(P, self.y[part], None, 1)
            return P.T @ self.H[part, block]

        shape = self.rows.n_outputs, block.stop - block.start
        F, more, parts = np.zeros(shape), np.zeros(shape, np.float32), self._parts()
        H = np.ascontiguousarray(self.H[:, block])
        _core.moments_labels(H, self.y, None, F, np.zeros(len(F)), True, self.rows.workers.n_threads)
        for begin in range(0, len(parts), WAVE):
            more += sum(self.rows.workers.map(excess, parts[begin : begin + WAVE]))
        return F, np.maximum(F + more, 0)

    def prime(self, O: Float32, start: Float64) -> Float64:  # noqa: E741
        """(scalar of the unigram, or 1 for another model; scalars of the first units), by Newton."""
        n = self.positions.size
        if n == 0:
            return start
        blocks = self.rows.blocks[: start.size - 1]

        def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
            def one(part: slice) -> tuple[float, Float64, Float64]:
                groups = [self._base(part)] + [self.H[part, block] @ O[:, block].T for block in blocks]
                return pooled(groups, self.y[part], theta)

            parts = self.rows.workers.map(one, self._parts())
            away = theta - start
            value = sum(part[0] for part in parts) / n + 0.5 * RIDGE * float(away @ away)
            gradient = sum(part[1] for part in parts) / n + RIDGE * away
            hessian = sum(part[2] for part in parts) / n + RIDGE * np.eye(theta.size)
            if not self.rows.alone:  # the other model stands as it is
                gradient[0] = 0.0
                hessian[0, 1:] = hessian[1:, 0] = 0.0
            self.curvature[: theta.size, : theta.size] = n * hessian
            return value, gradient, hessian

        return newton(evaluate, start, tolerance=1e-4)


def pooled(groups: list[Float32], y: Int32, theta: Float64) -> tuple[float, Float64, Float64]:
    """Sum of the losses of ``softmax(sum_f theta_f x_f)`` and its derivatives by theta."""
    logits = groups[0] * np.float32(theta[0])
    for t, x in zip(theta[1:], groups[1:], strict=True):
        logits += np.float32(t) * x
    losses = _core.cross_entropy_labels(logits, y, 1)
    P = _core.softmax(logits, False, 1)
    row = np.arange(y.size)
    means, second = np.empty((len(groups), y.size)), np.empty((len(groups), len(groups)))
    for f, x in enumerate(groups):
        weighted = P * x
        means[f] = weighted.sum(axis=1)
        for g, other in enumerate(groups[: f + 1]):
            second[f, g] = second[g, f] = float(np.vdot(weighted, other))
    gradient = np.array([(mean - x[row, y]).sum() for mean, x in zip(means, groups, strict=True)])
    return float(losses.sum()), gradient, second - means @ means.T

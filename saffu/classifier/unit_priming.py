"""Priming of hidden layers: three scalars, fitted by Newton to rows that the units were solved without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saffu import _core
from saffu.explicit.newton import Evaluation, newton
from saffu.utils.arrays import Array, Float64, Int32

SIGNIFICANT = 2.0  # nats over all held-out rows: a scalar that gains less is not fitted
TYPICAL = (1.5, 1.0, 2.0)  # primed scalars, in units of where they start: geometric means over 17 data sets
HELD = (15.0, 10.0, 15.0)  # rows' worth by which they are drawn there: in few hundred rows one moves none by much


@dataclass
class Scores:
    """What held-out rows look like to units that were solved without them."""

    likelihood: Array  # (M, H): log-likelihoods, up to a constant a row
    log_share: Float64  # (H,)
    log_output: Float64  # (H, N): log p(class | unit)
    targets: Int32  # (M,)
    weights: Float64 | None = None  # (M,): how many rows each counts as

    @property
    def mass(self) -> float:
        """How many rows these count as."""
        return float(self.targets.size if self.weights is None else self.weights.sum())


def mixture_loss(pieces: list[Scores]) -> Callable[[Float64, bool], Evaluation]:
    """Mean cross-entropy of ``softmax(s l + a log share) softmax(t log output)`` by (s, a, t), for ``newton``.

    The second derivative is Gauss and Newton's, ``mean_m sum_y p' p'^T / p``: positive, whatever the point.
    """
    n_rows = sum(piece.mass for piece in pieces)
    step = 2048

    def evaluate(theta: Float64, derivatives: bool) -> Evaluation:
        value, gradient, hessian = 0.0, np.zeros(3), np.zeros((3, 3))
        for piece in pieces:
            output = _core.softmax(np.ascontiguousarray(theta[2] * piece.log_output), False, 1)
            for begin in range(0, piece.targets.size, step):
                rows = slice(begin, begin + step)
                found = _rows_loss(piece, rows, theta, output, derivatives)
                value += found[0]
                gradient += found[1]
                hessian += found[2]
        return value / n_rows, gradient / n_rows, hessian / n_rows

    return evaluate


def _rows_loss(
    piece: Scores, rows: slice, theta: Array, output: Array, derivatives: bool
) -> tuple[float, Array | float, Array | float]:
    likelihood, targets = piece.likelihood[rows].astype(np.float64), piece.targets[rows]
    h = _core.softmax(theta[0] * likelihood + theta[1] * piece.log_share, False, 1)  # BLAS has the other threads
    p = np.maximum(h @ output, 1e-300)
    at_target = p[np.arange(targets.size), targets]
    weights = None if piece.weights is None else piece.weights[rows]
    value = -float(np.log(at_target).sum() if weights is None else weights @ np.log(at_target))
    if not derivatives:
        return value, 0.0, 0.0
    by_scale = h * (likelihood - np.einsum("mh,mh->m", h, likelihood)[:, None])
    by_share = h * (piece.log_share - (h @ piece.log_share)[:, None])
    by_output = output * (piece.log_output - (output * piece.log_output).sum(axis=1, keepdims=True))
    slopes = np.stack([by_scale @ output, by_share @ output, h @ by_output])  # of p, (3, M, N)
    by_row = slopes[:, np.arange(targets.size), targets] / at_target
    gradient = -(by_row.sum(axis=1) if weights is None else by_row @ weights)
    slopes /= np.sqrt(p)
    if weights is not None:
        slopes *= np.sqrt(weights)[:, None]
    flat = slopes.reshape(3, -1)
    return value, gradient, flat @ flat.T


def primed(pieces: list[Scores], start: Float64) -> Float64:
    """The scalars that fit held-out rows, drawn towards typical ones.

    Rows of separable classes would let them grow without end, and that of the shares has no effect where all units
    have the same share.
    """
    loss = mixture_loss(pieces)
    centre = start * TYPICAL
    weight = np.array(HELD) / sum(piece.mass for piece in pieces)

    def evaluate(theta: Float64, derivatives: bool) -> Evaluation:
        value, gradient, hessian = loss(theta, derivatives)
        off = theta / centre - 1.0
        value += 0.5 * float(weight @ (off * off))
        if not derivatives:
            return value, None, None
        assert gradient is not None
        assert hessian is not None
        return value, gradient + weight * off / centre, hessian + np.diag(weight * centre**-2)

    return newton(evaluate, centre, tolerance=1e-8)


def class_scale(pieces: list[Scores]) -> float:
    """The scale that fits held-out rows best when only it is free.

    No feature counts more than once: the papers' formula, scale 1, is the upper bound. It is also the result where one
    unit a class does not help, as for the corners of a square of which opposite ones belong together.
    """
    loss = mixture_loss(pieces)

    def evaluate(theta: Float64, derivatives: bool) -> Evaluation:
        value, gradient, hessian = loss(np.array([theta[0], 1.0, 1.0]), derivatives)
        if not derivatives:
            return value, None, None
        assert gradient is not None
        assert hessian is not None
        return value, gradient[:1], hessian[:1, :1]

    scale = newton(evaluate, [1e-3])
    n_rows = sum(piece.mass for piece in pieces)
    gain = n_rows * (evaluate(np.zeros(1), False)[0] - evaluate(scale, False)[0])
    return float(np.clip(scale[0], 1e-3, 1.0)) if scale[0] > 0 and gain > SIGNIFICANT else 1.0

"""Least squares with a ridge on sparse rows, by conjugate gradients, for many ridges at the price of one.

With X the rows (M, D) and Y the targets (M, N), ``W = X' A`` minimises ``|X W - Y|^2 + ridge |W|^2`` where
``(X X' + ridge) A = Y``. These systems have M unknowns for each class, whatever D, and differ in a multiple of the
identity only: one sequence of products with X and its transpose solves them all (Jegerlehner, hep-lat/9612014,
equations 2.42 to 2.46). The columns of Y are solved side by side, each with step sizes of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saffu.utils.arrays import Array, Float32, Float64
from saffu.utils.sparse import SparseRows

TOLERANCE = 1e-2  # of the residual's norm, over that of Y: far below what held-out rows can tell
MOST_STEPS = 40
TINY = 1e-30


def ridge_duals(
    X: SparseRows, X_t: SparseRows, Y: Float32, ridges: Sequence[float], tolerance: float = TOLERANCE
) -> list[Float32]:
    """Solve ``(X X' + ridge) A = Y`` for each ridge.

    Parameters
    ----------
    X, X_t : SparseRows of float32
        M rows of D features, and their transpose.
    Y : ndarray of float32, shape (M, N)
        Targets.
    ridges : sequence of float
        Positive and ascending.
    tolerance : float
        Of the residual of the first ridge, whose system converges last.

    Returns
    -------
    list of ndarray of float32, shape (M, N)
        A of each ridge.
    """
    shifts = np.array(ridges, np.float64) - ridges[0]
    residual, direction = Y.copy(), Y.copy()
    found = [np.zeros_like(Y) for _ in ridges]
    directions = [Y.copy() for _ in ridges[1:]]
    square = _squares(residual)
    target = tolerance**2 * square
    zeta = np.ones((2, shifts.size, Y.shape[1]))  # of the step before and of this one
    step, turn = np.ones(Y.shape[1]), np.zeros(Y.shape[1])  # beta and alpha of the paper; its beta has the other sign
    for _ in range(MOST_STEPS):
        if (square <= target).all():
            break
        image = X.product(X_t.product(direction))
        image += np.float32(ridges[0]) * direction
        before, step = step, np.where(square > target, square / np.maximum(_dots(direction, image), TINY), 0.0)
        zeta, ratio = _next_zeta(zeta, shifts, before, step, turn)
        found[0] += step.astype(np.float32) * direction
        for k, p in enumerate(directions, 1):
            found[k] += (step * ratio[k]).astype(np.float32) * p
        residual -= step.astype(np.float32) * image
        new = _squares(residual)
        turn = np.where(step > 0, new / np.maximum(square, TINY), 0.0)
        square = new
        direction = residual + turn.astype(np.float32) * direction
        for k, p in enumerate(directions, 1):
            p *= (turn * ratio[k] ** 2).astype(np.float32)
            p += zeta[1, k].astype(np.float32) * residual
    return found


def _next_zeta(
    zeta: Float64, shifts: Float64, before: Float64, step: Float64, turn: Float64
) -> tuple[Float64, Float64]:
    """How much shorter than the first system's the residuals of the others are, and by what their steps differ."""
    old, now = zeta
    denominator = step * turn * (old - now) + old * before * (1 + shifts[:, None] * step)
    new = np.where(step > 0, now * old * before / np.where(denominator == 0, 1.0, denominator), now)
    return np.stack([now, new]), new / np.where(now == 0, 1.0, now)


def _squares(values: Float32) -> Float64:
    return _dots(values, values)


def _dots(a: Array, b: Array) -> Float64:
    """Inner products of columns, in float64."""
    products: Float64 = np.einsum("mn,mn->n", a, b, dtype=np.float64, casting="same_kind")
    return products

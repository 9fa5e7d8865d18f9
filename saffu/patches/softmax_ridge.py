"""Softmax regression with a ridge on dense features, as a sequence of least squares with one Gram matrix.

With features A (M, d), standardised, targets Y (M, N) and p = softmax(A V + prior), the Hessian of the cross-entropy is
at most ``A' A / 2M`` for each class (Boehning, Annals of the Institute of Statistical Mathematics 44, 1992). So

    W = V + (A' A / 2M + ridge)^-1 (A' (Y - p) / M - ridge V)

lowers the loss wherever V is. The first step from V = 0 is least squares with a ridge; each further one moves the
weights by observed minus expected co-occurrences, measured by the same matrix, which is factored once. Steps are
extrapolated as Nesterov does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from saffu import _core
from saffu.utils.arrays import Float32, Int32
from saffu.utils.threads import one_blas_thread

STEPS = 40
MANY_ROWS, STEPS_OF_MANY = 10, 20  # rows a feature, from which on a layer is found in fewer steps and not overfitted
SEARCH_STEPS = 12  # of each ridge of a search, which begins where the one before ended
RIDGES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
STEADY = 1e-2  # of the mean deviation, added to that of each feature: those that hardly vary stay small
STIFFEST = 1e6  # a ridge that no rounding asks for
ROUNDING = 1e-5  # the least ridge, beside a diagonal of ones: with less, what rounding does to the Gram matrix lets
# steps grow without end


@dataclass(frozen=True)
class SoftmaxRidge:
    """A fitted layer: logits are ``features @ weights + bias``.

    Attributes
    ----------
    weights : ndarray of float32, shape (d, N)
    bias : ndarray of float32, shape (N,)
    """

    weights: Float32
    bias: Float32

    def logits(self, features: Float32) -> Float32:
        """Of features (M, d)."""
        found: Float32 = features @ self.weights + self.bias
        return found


def standardized(features: Float32) -> tuple[Float32, Float32]:
    """Subtract the means of the columns and divide by their deviations, in place; return both."""
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    features -= mean
    square = np.einsum("md,md->d", features, features, dtype=np.float64, casting="same_kind")
    deviation = np.sqrt(square / len(features))
    deviation = (deviation + max(STEADY * float(deviation.mean()), 1e-12)).astype(np.float32)
    features /= deviation
    return mean, deviation


class RidgeProblem:
    """Features and targets, for which layers with any ridge are solved.

    Parameters
    ----------
    features : ndarray of float32, shape (M, d)
        Standardised in place; M is at least 1.
    targets : ndarray of int32, shape (M,)
        Class numbers below N.
    n_classes : int
        N.
    n_threads : int
        Of the kernel that measures gradients; the Gram matrix is left to those of BLAS.
    """

    def __init__(self, features: Float32, targets: Int32, n_classes: int, n_threads: int):
        self._mean, self._deviation = standardized(features)
        self._features, self._targets, self._n_threads = features, targets, n_threads
        share = np.bincount(targets, minlength=n_classes) + 1.0
        self._prior = np.log(share / share.sum()).astype(np.float32)
        self._gram = features.T @ features
        self._gram *= np.float32(0.5 / len(features))
        self._weights = np.zeros((features.shape[1], n_classes), np.float32)

    def solve(self, ridge: float, steps: int | None = None) -> SoftmaxRidge:
        """The layer with this ridge, in units of the mean diagonal of the Gram matrix over M, which is about 1.

        Steps begin at the layer that was solved last.
        """
        rows, features = self._features.shape
        steps = steps or (STEPS_OF_MANY if rows >= MANY_ROWS * features else STEPS)
        self._weights = self._solved(np.float32(max(ridge, ROUNDING)), steps)
        weights = self._weights / self._deviation[:, None]
        return SoftmaxRidge(weights, self._prior - self._mean @ weights)

    def _solved(self, ridge: np.float32, steps: int) -> Float32:
        """The weights of standardised features."""
        ahead = weights = self._weights
        pace = 1.0
        # Threads of BLAS that wait for their next product would take the cores from those of the kernel.
        with one_blas_thread():
            factor, ridge = self._factored(ridge)
            for _ in range(steps):
                moved = ahead + cho_solve(factor, self._ascent(ahead) - ridge * ahead, check_finite=False)
                faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
                ahead = moved + np.float32((pace - 1) / faster) * (moved - weights)
                weights, pace = moved, faster
        return weights

    def _factored(self, ridge: np.float32) -> tuple[tuple[Float32, bool], np.float32]:
        """The bound's Cholesky factor, and the ridge: larger where rounding leaves the Gram matrix indefinite."""
        while ridge < STIFFEST:
            bound = self._gram.copy()
            bound.flat[:: len(bound) + 1] += ridge
            with suppress(LinAlgError):
                return cho_factor(bound, overwrite_a=True, check_finite=False), ridge
            ridge *= np.float32(4)
        raise LinAlgError("the features of a layer with a ridge are not finite")

    def _ascent(self, weights: Float32) -> Float32:
        """Observed minus expected: A' (Y - p) / M."""
        _, sums, _ = _core.regression_gradients(
            self._features, weights, self._prior, self._targets, False, self._n_threads
        )
        slope = sums.sum(axis=0)[:-1] / -self._targets.size
        return np.ascontiguousarray(slope, np.float32)


def best_ridge(
    problem: RidgeProblem, features: Float32, targets: Int32, ridges: Sequence[float] = RIDGES
) -> tuple[float, SoftmaxRidge, float]:
    """The ridge with the lowest mean cross-entropy on other rows, its layer and that loss.

    Ridges descend, and the search ends where the loss rises: it has one minimum, between too stiff and too loose.
    """
    found: list[tuple[float, float, SoftmaxRidge]] = []
    for ridge in ridges:
        layer = problem.solve(ridge, SEARCH_STEPS)
        loss = float(_core.cross_entropy_labels(layer.logits(features), targets, 1).mean())
        if found and not loss < found[-1][0]:
            break
        found.append((loss, ridge, layer))
    loss, ridge, layer = found[-1]
    return ridge, layer, loss

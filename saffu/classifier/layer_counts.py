"""The sufficient statistics of a softmax layer, and the weights that follow from them.

What is counted: the features of the rows of each class, the weight of these rows, and a bounded sample of the rows
themselves, to which two scalars are fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse import issparse

from saffu import _core
from saffu.classifier import softmax_regression
from saffu.classifier.examples import Batch
from saffu.classifier.labels import Classes, same
from saffu.classifier.layer_scalars import fitted_scalars
from saffu.classifier.row_sample import Primed, RowSample, row_sizes
from saffu.explicit.log_weights import log_weights
from saffu.explicit.moments import add_moments
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64, Int32, Matrix
from saffu.utils.locks import Lock, made_once
from saffu.utils.threads import resolve_threads

SCORE_VALUES = 1 << 23  # rows times classes in one priming
CHUNK_VALUES = 1 << 27  # stored feature values that are counted between two steps of a progress bar
PRIMINGS = ("primed", "mean-norm")


@dataclass(frozen=True)
class LayerSettings:
    """The checked settings of a layer; see :class:`saffu.SoftmaxLayer`."""

    priming: str
    smoothing: float

    @classmethod
    def of(cls, priming: Any, smoothing: Any) -> LayerSettings:
        """Check settings; ValueError or TypeError if one is out of its range."""
        return cls(validate.choice(priming, "priming", PRIMINGS), validate.positive(smoothing, "smoothing"))


@dataclass(frozen=True)
class Solution:
    """Weights (D, N), bias (N,) and the two scalars in them."""

    weights: Float64
    bias: Float64
    scalars: dict[str, float]


class LayerCounts:
    """What a layer has counted.

    Any number of threads may ask for the solution at once; one that counts must be alone.

    Parameters
    ----------
    settings : LayerSettings
        How the counts are made into weights.
    classes : ndarray, shape (N,)
        The label of each class.
    soft : bool
        Whether targets are distributions over the classes.
    n_threads : int, optional
        Threads of the kernels.

    Attributes
    ----------
    F : ndarray of float64, shape (N, D)
        The features of the rows of each class, summed; empty until something is counted.
    mass : ndarray of float64, shape (N,)
        The weight of these rows, summed.
    sample : RowSample
        Some of the rows.
    """

    def __init__(self, settings: LayerSettings, classes: Classes, soft: bool, n_threads: int | None):
        self.settings, self.classes, self.soft, self.n_threads = settings, classes, soft, n_threads
        self.F: Float64 = np.empty((0, 0))
        self.mass: Float64 = np.empty(0)
        self.sample = RowSample()
        self._lock = Lock()
        self._solution: Solution | None = None

    # ---- counting ----------------------------------------------------------------------------------------------------

    def add_in_chunks(self, H: Matrix, targets: Array, weights: Float64 | None, on_rows: Callable[[int], Any]) -> None:
        """Count rows as ``add`` does, with the same bits, and report how many were counted."""
        step = max(1, CHUNK_VALUES * H.shape[0] // max(1, int(row_sizes(H).sum())))
        for begin in range(0, H.shape[0], step):
            piece = slice(begin, begin + step)
            whole = step >= H.shape[0]
            self.add(H if whole else H[piece], targets[piece], None if weights is None else weights[piece])
            on_rows(min(step, H.shape[0] - begin))

    def add(self, H: Matrix, targets: Array, weights: Float64 | None) -> None:
        """Count checked rows.

        Parameters
        ----------
        H : ndarray or csr_array, shape (M, D)
            Features.
        targets : ndarray
            Class numbers, int32 (M,), or soft targets (M, N).
        weights : ndarray of float64, shape (M,), optional
            A weight for each row.
        """
        n_classes = self.classes.size
        first = self.F.shape[0] == 0
        if first:
            self.F, self.mass = np.empty((n_classes, H.shape[1])), np.empty(n_classes)
        elif not self.F.flags.writeable:  # as of a memory-mapped pickle
            self.F, self.mass = self.F.copy(), self.mass.copy()
        add_moments(H, targets, weights, self.F, self.mass, not first, self._threads())
        if self.settings.priming == "primed" and n_classes > 1:
            self.sample.add(H, targets, weights, n_classes)
        self._solution = None

    def merge(self, other: LayerCounts) -> None:
        """Add the counts of other rows; ValueError if features, classes or the kind of targets differ."""
        if self.F.shape[1] != other.F.shape[1]:
            raise ValueError(f"other must have {self.F.shape[1]} features, got {other.F.shape[1]}")
        if not same(self.classes, other.classes) or self.soft != other.soft:
            raise ValueError("other must have the same classes and kind of targets")
        self.F, self.mass = self.F + other.F, self.mass + other.mass
        self.sample.merge(other.sample)
        self._solution = None

    def check_mass(self) -> None:
        """ValueError if a class has no rows."""
        empty = self.classes[~(self.mass > 0)]
        if empty.size:
            raise ValueError(f"every class needs at least one row of positive weight, but {empty.tolist()} have none")

    # ---- weights -----------------------------------------------------------------------------------------------------

    @made_once("_solution")
    def solution(self) -> Solution:
        """Weights, bias and scalars that follow from the counts, or those that were put in their place."""
        self.check_mass()
        with np.errstate(over="ignore"):
            if not np.isfinite(self.F.sum()):
                raise ValueError("the features are too large: their sums exceed the largest float64; scale them down")
        smoothing = self.settings.smoothing
        if self.settings.priming == "mean-norm":
            K = float(self.F.sum() / self.mass.sum())
            if not K > 0:
                raise ValueError("every feature is zero, so that the mean norm K is zero too")
            U = log_weights(self.F.T, K, smoothing=smoothing, n_threads=self.n_threads)
            return Solution(U, np.zeros(self.mass.size), {"prior": 0.0, "likelihood": 1.0})
        V = log_weights(self.F.T, np.inf, smoothing=smoothing, n_threads=self.n_threads)
        smoothed = self.mass + smoothing
        log_prior: Float64 = np.log(smoothed / smoothed.sum())
        alpha, scale = self._primed_scalars(V, log_prior)
        V *= scale
        return Solution(V, alpha * log_prior, {"prior": alpha, "likelihood": scale})

    def put(self, solution: Solution) -> None:
        """Use these weights instead of those that follow from the counts."""
        self._solution = solution

    def _primed_scalars(self, V: Array, log_prior: Float64) -> tuple[float, float]:
        """The two scalars, fitted to the sampled rows."""
        if self.mass.size == 1:
            return 1.0, 1.0
        norm = float(self.F.sum() / self.mass.sum())
        fallback = 1.0 / norm if norm > 0 and np.isfinite(1.0 / norm) else 1.0  # one observation in a row
        rows = self.sample.primed(max(1, SCORE_VALUES // self.mass.size))
        if rows is None:
            return 1.0, fallback
        likelihood, rows = self._left_out(rows, V)
        if not rows.weights.size:
            return 1.0, fallback
        return fitted_scalars(
            log_prior, likelihood, rows.targets, rows.repeats, rows.weights, fallback, self._threads()
        )

    def _left_out(self, sample: Primed, V: Array) -> tuple[Float64, Primed]:
        """Log-likelihoods (R, N) of the sampled rows, each row left out of its own class, and these rows.

        One of equal rows is left out, not all, and of a row of weight k one of its k. What would leave nothing of a
        class is not used.
        """
        targets, once = sample.targets, np.minimum(sample.repeats, 1.0)
        if targets.ndim == 1:
            rows, columns, amounts = np.arange(targets.size), targets, once
        else:
            rows, columns = np.nonzero(targets)
            amounts = targets[rows, columns].astype(np.float64) * once[rows]
        used = np.ones(targets.shape[0], bool)
        used[rows[self.mass[columns] - amounts <= 1e-9 * self.mass[columns]]] = False
        likelihood = np.ascontiguousarray(sample.features @ V)
        likelihood[rows, columns] = self._scores_left_out(
            sample.features, rows.astype(np.int32), columns.astype(np.int32), amounts
        )
        if targets.ndim == 2:
            targets = targets.astype(np.float64, copy=False)
        sample = sample._replace(targets=targets)
        if used.all():
            return likelihood, sample
        return likelihood[used], Primed(*(part[used] for part in sample))

    def _scores_left_out(self, features: Matrix, rows: Int32, columns: Int32, amounts: Float64) -> Float64:
        smoothing, threads = self.settings.smoothing, self._threads()
        S, amounts = self.F.sum(axis=1), np.ascontiguousarray(amounts)
        if not issparse(features):
            return _core.leave_one_out(features, rows, columns, amounts, self.F, S, smoothing, threads)
        indptr = features.indptr.astype(np.int64, copy=False)
        indices = features.indices.astype(np.int32, copy=False)
        data = features.data.astype(np.float64, copy=False)
        return _core.leave_one_out_csr(indptr, indices, data, rows, columns, amounts, self.F, S, smoothing, threads)

    def _threads(self) -> int:
        return resolve_threads(self.n_threads)

    # ---- refinement --------------------------------------------------------------------------------------------------

    def parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        """Centred weights (D, N) and bias (N); there is no hidden layer to soften."""
        solution = self.solution()
        centred = solution.weights - solution.weights.mean(axis=1, keepdims=True)
        bias = solution.bias - solution.bias.mean()
        return {"weights": centred.astype(dtype, order="C"), "bias": bias.astype(dtype)}

    def with_parameters(self, parameters: dict[str, Array]) -> LayerCounts:
        """Copies of the counts and the scalars, without the sample, under copies of other weights and bias."""
        other = LayerCounts(self.settings, self.classes, self.soft, self.n_threads)
        other.F, other.mass = self.F.copy(), self.mass.copy()
        weights, bias = (parameters[name].astype(np.float64) for name in ("weights", "bias"))
        other.put(Solution(weights, bias, self.solution().scalars))
        return other

    def losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        """Cross-entropy of each row of a batch (M,), in nats."""
        return softmax_regression.losses(parameters, *batch, n_threads)

    def loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        """Write the gradients of the mean cross-entropy of a batch; return it."""
        return softmax_regression.loss_and_gradients(parameters, *batch, n_threads, gradients)

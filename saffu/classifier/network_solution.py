"""An explicit network's checked settings, and its solution: all that it consists of, and its function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from saffu import _core
from saffu.classifier import softmax_mlp
from saffu.classifier.examples import Batch
from saffu.classifier.labels import Classes
from saffu.classifier.layer_solver import log_output
from saffu.explicit.moments import add_moments
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64, Int32, Matrix
from saffu.utils.sparse import SparseRows

PRIMINGS = ("primed", "mean-norm")


@dataclass(frozen=True)
class NetworkSettings:
    """The settings of a network; see :class:`saffu.ExplicitNetwork`."""

    hidden: tuple[int, ...]
    rounds: int
    complement: bool
    priming: str
    corrections: int
    shrinkage: float
    smoothing: float
    seed: int

    def checked(self) -> NetworkSettings:
        """The settings in the types that they should have; ValueError or TypeError if one is out of its range."""
        sizes = self.hidden if isinstance(self.hidden, (tuple, list)) else (self.hidden,)
        if not sizes:
            raise ValueError("hidden must name at least one layer; without any, use SoftmaxLayer")
        return NetworkSettings(
            tuple(validate.size(size, "hidden") for size in sizes),
            validate.integer(self.rounds, "rounds", 1),
            bool(self.complement),
            validate.choice(self.priming, "priming", PRIMINGS),
            validate.integer(self.corrections, "corrections", 0),
            validate.positive(self.shrinkage, "shrinkage"),
            validate.positive(self.smoothing, "smoothing"),
            validate.integer(self.seed, "seed", 0),
        )

    def check_classes(self, classes: Classes) -> None:
        """ValueError if there are too few classes, or more than a layer has units."""
        if classes.size < 2:
            number = "no class" if not classes.size else f"1 class, {classes.tolist()}"
            raise ValueError(f"y must name at least two classes, got {number}")
        if min(self.hidden) < classes.size:
            raise ValueError(
                f"hidden must be at least the number of classes, {classes.size}, since every class needs a unit, "
                f"got {self.hidden}"
            )


@dataclass(frozen=True)
class Solution:
    """A solved network.

    Attributes
    ----------
    settings : NetworkSettings
        What it was solved with.
    classes : ndarray, shape (N,)
        The label of each class.
    layers : list of (ndarray, ndarray)
        Weights and bias of each hidden layer, (D, H_1) and (H_1,) and so on.
    scalars : ndarray of float64, shape (number of layers, 3)
        Of likelihood, share and output.
    corrections : list of int
        How many each layer took.
    counts : ndarray of float64, shape (N, H)
        Activations of the last layer summed by class.
    output : ndarray, shape (H, N), optional
        Logits of the components of a refined network; None as long as they follow from the counts.
    """

    settings: NetworkSettings
    classes: Classes
    layers: list[tuple[Array, Array]]
    scalars: Float64
    corrections: list[int]
    counts: Float64
    output: Array | None = None

    @property
    def n_features(self) -> int:
        """D."""
        n_features: int = self.layers[0][0].shape[0]
        return n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of weights and activations."""
        dtype: np.dtype[Any] = self.layers[0][0].dtype
        return dtype

    def logits_of_components(self) -> Array:
        """O, (H, N): scaled log-counts, unless the network was refined."""
        if self.output is not None:
            return self.output
        logits = self.scalars[-1, 2] * log_output(self.counts.T, self.settings.smoothing)
        return np.ascontiguousarray(logits, self.dtype)

    # ---- the function of the network ---------------------------------------------------------------------------------

    def last_logits(self, X: Matrix, n_threads: int) -> Iterator[tuple[slice, Array]]:
        """The last hidden layer's logits of rows (M, D), in chunks."""
        (weights, bias), *rest = self.layers
        for piece, logits in SparseRows.of(X.astype(self.dtype, copy=False), n_threads).logits(weights, bias):
            for weights, bias in rest:
                activations = _core.softmax(logits, False, n_threads)
                # Not by BLAS, in which a row's last bits depend on the rows beside it.
                logits = SparseRows.of(activations, n_threads).product(weights, bias)
            yield piece, logits

    def probabilities(self, X: Matrix, n_threads: int) -> Array:
        """Probability of each class (M, N)."""
        components = _core.softmax(self.logits_of_components(), False, n_threads)
        p = np.empty((X.shape[0], self.classes.size), components.dtype)
        for piece, logits in self.last_logits(X, n_threads):
            p[piece] = _core.softmax(logits, False, n_threads) @ components
        return p

    def log_probabilities(self, X: Matrix, n_threads: int) -> Array:
        """Log-probability of each class (M, N)."""
        log_components = np.ascontiguousarray(_core.softmax(self.logits_of_components(), True, n_threads).T)
        log_p = np.empty((X.shape[0], self.classes.size), log_components.dtype)
        for piece, logits in self.last_logits(X, n_threads):
            for number in range(self.classes.size):
                targets = np.full(logits.shape[0], number, np.int32)
                log_p[piece, number] = _core.mixture(logits, log_components, targets, n_threads)
        return log_p

    def parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        """Weights and bias of each hidden layer, both times ``soften``, and the output logits, by name."""
        parameters = {}
        for depth, (weights, bias) in enumerate(self.layers):
            parameters[f"hidden{depth}.weights"] = (soften * weights).astype(dtype)
            parameters[f"hidden{depth}.bias"] = (soften * bias).astype(dtype)
        parameters["output.weights"] = self.logits_of_components().astype(dtype)
        return parameters

    # ---- other networks of the same shape ----------------------------------------------------------------------------

    def with_rows(self, X: Matrix, targets: Int32, weights: Float64 | None, n_threads: int) -> Solution:
        """The same hidden layers with more rows counted in the output."""
        counts, mass = self.counts.copy(), np.zeros(self.classes.size)
        for piece, logits in self.last_logits(X, n_threads):
            activations = _core.softmax(logits, False, n_threads)
            own = None if weights is None else weights[piece]
            add_moments(activations, targets[piece], own, counts, mass, True, n_threads)
        return replace(self, counts=counts)

    def with_parameters(self, parameters: dict[str, Array]) -> Solution:
        """The same counts and scalars under other parameters, which are copied in the dtype of these."""
        own = {name: value.astype(self.dtype) for name, value in parameters.items()}
        depths = range(len(self.layers))
        layers = [(own[f"hidden{depth}.weights"], own[f"hidden{depth}.bias"]) for depth in depths]
        return replace(self, layers=layers, output=own["output.weights"])

    # ---- refinement --------------------------------------------------------------------------------------------------

    def losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        """Cross-entropy of each row of a batch (M,), in nats."""
        return softmax_mlp.losses(parameters, *batch, n_threads)

    def loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        """Write the gradients of the mean cross-entropy of a batch; return it."""
        return softmax_mlp.loss_and_gradients(parameters, *batch, n_threads=n_threads, out=gradients)[0]

"""An explicit network solved from rows.

Rows come from memory or in batches (:mod:`saffu.classifier.batches`); from here on both are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from saffu.classifier import stack_solver
from saffu.classifier.class_rows import Rows, Source, in_memory
from saffu.classifier.held_out import Fold, folds_of
from saffu.classifier.labels import Classes
from saffu.classifier.layer_solver import Options
from saffu.classifier.network_solution import NetworkSettings, Solution
from saffu.utils.arrays import Array, Float64, Int32, Int64, Matrix
from saffu.utils.progress import progress_bar
from saffu.utils.sparse import SparseRows


@dataclass(frozen=True)
class Survey:
    """What is known of the rows before any layer is solved.

    Attributes
    ----------
    classes : ndarray, shape (N,)
        The label of each class.
    class_sizes : ndarray of int64, shape (N,)
        How many rows those of each class count as, rounded up.
    ceiling : ndarray of float64, shape (D,)
        The largest value of each feature.
    dtype : dtype
        Of the features.
    n_batches : int
        In a pass.
    """

    classes: Classes
    class_sizes: Int64
    ceiling: Float64
    dtype: np.dtype[Any]
    n_batches: int

    @property
    def n_features(self) -> int:
        """D."""
        return self.ceiling.size


def class_sizes(classes: Classes, mass: Float64 | Int64) -> Int64:
    """The weight of the rows of each class in whole rows; ValueError if a class has none."""
    if not mass.all():
        raise ValueError(f"every class needs a row of positive weight, but {classes[mass == 0].tolist()} have none")
    return np.ceil(mass).astype(np.int64)


def with_weights(matrix: Matrix, labels: Array, weights: Float64 | None) -> tuple[Matrix, Array, Float64 | None]:
    """The rows of positive weight, their labels, and their weights; None if every weight is one."""
    if weights is None or (weights == 1).all():
        return matrix, labels, None
    kept = np.flatnonzero(weights > 0)
    if kept.size == weights.size:
        return matrix, labels, weights
    return matrix[kept], labels[kept], weights[kept]


def solve_in_memory(
    settings: NetworkSettings,
    matrix: Matrix,
    targets: Int32,
    classes: Classes,
    weights: Float64 | None,
    n_threads: int,
    progress: bool | None,
) -> Solution:
    """Solve a network from checked rows, class numbers and positive weights."""
    settings.check_classes(classes)
    rows = Rows(SparseRows.of(matrix, n_threads), targets, classes.size, weights).distinct()
    mass = rows.class_sizes if rows.weights is None else np.bincount(rows.targets, rows.weights, classes.size)
    survey = Survey(classes, class_sizes(classes, mass), rows.features.ceiling(), rows.features.dtype, 1)
    folds = folds_of(rows) if settings.priming == "primed" else []
    return solve(settings, in_memory(rows), folds, survey, n_threads, progress)


def solve(
    settings: NetworkSettings,
    source: Source,
    folds: list[Fold],
    survey: Survey,
    n_threads: int,
    progress: bool | None,
) -> Solution:
    """Solve a network from all rows of a source, and from folds of them for priming."""
    solves = (len(folds) + 1) * len(settings.hidden)
    with progress_bar(solves * (settings.rounds + settings.corrections + 1), "solving", progress) as bar:
        options = Options(
            settings.rounds,
            settings.corrections,
            settings.shrinkage,
            settings.smoothing,
            settings.seed,
            n_threads,
            survey.n_batches,
            bar.update,
        )
        ceiling = np.where(survey.ceiling > 0, survey.ceiling, 1.0) if settings.complement else None
        layers = stack_solver.solve(
            source, folds, settings.hidden, survey.class_sizes, survey.n_features, ceiling, options
        )
    if not all(np.isfinite(layer.weights).all() and np.isfinite(layer.bias).all() for layer in layers):
        raise ValueError("the features are too large: their sums leave their dtype; scale them down")
    return Solution(
        settings,
        survey.classes,
        [(layer.weights, layer.bias) for layer in layers],
        np.array([layer.scalars for layer in layers]),
        [layer.corrections for layer in layers],
        np.ascontiguousarray(layers[-1].output_counts.T),
    )

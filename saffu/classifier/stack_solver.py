"""Hidden layers solved one on top of the other.

Every layer is solved twice. First without some of the rows. On these held-out rows the number of corrections is chosen,
and three scalars are fitted ("priming"): powers of the likelihood of a unit, of its share, and of its distribution over
the classes. Then from all rows, with what was found.
"""

from __future__ import annotations

import numpy as np

from saffu.classifier.class_rows import Rows, Source, in_memory
from saffu.classifier.held_out import Fold
from saffu.classifier.layer_solver import Layer, LayerSolver, Options
from saffu.classifier.subclass_em import Units
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.sparse import SparseRows

FAINT = 1e-4  # activations below it are not passed on to the next layer's counts


def solve(
    whole: Source,
    folds: list[Fold],
    hidden: tuple[int, ...],
    class_sizes: Int64,
    n_features: int,
    ceiling: Float64 | None,
    options: Options,
) -> list[Layer]:
    """Solve hidden layers one on top of the other.

    Parameters
    ----------
    whole : Source
        All rows.
    folds : list of Fold
        Parts of them, each with the rows that it leaves out; none if nothing is to be primed.
    hidden : tuple of int
        The number of units of each layer.
    class_sizes, n_features, ceiling, options
        See :class:`LayerSolver`; ``ceiling`` belongs to the first layer.
    """
    layers: list[Layer] = []
    for depth, n_units in enumerate(hidden):
        solver = LayerSolver(n_units, class_sizes, n_features, ceiling, options)
        layer, lower = _solve_layer(solver, whole, folds)
        layers.append(layer)
        if depth + 1 < len(hidden):
            keep = options.batches == 1
            folds = [
                Fold(deeper(fold.source, below, keep), _activated(fold.held, below))
                for fold, below in zip(folds, lower, strict=True)
            ]
            whole = deeper(whole, (layer.weights, layer.bias), keep)
            n_features, ceiling = n_units, None
    return layers


def _solve_layer(solver: LayerSolver, whole: Source, folds: list[Fold]) -> tuple[Layer, list[tuple[Array, Array]]]:
    """The layer solved from all rows, and weights and bias of those that the folds were solved for."""
    solved: list[tuple[Units, int]] = []
    corrections, scalars = 0, np.ones(3)
    if folds:
        solver.prime_classes(folds)
        solved = [solver.best_corrected(fold) for fold in folds]
        corrections = round(float(np.mean([number for _, number in solved])))
        scalars = solver.prime([solver.scores(units, fold) for (units, _), fold in zip(solved, folds, strict=True)])
    units = solver.corrected(whole, solver.units(whole), corrections)
    dtype = next(iter(whole())).features.dtype
    layer = solver.layer(whole, units, scalars, corrections, dtype)
    lower = [solver.subclasses.layer(units, scalars[0], scalars[1], dtype) for units, _ in solved]
    return layer, lower


def deeper(source: Source, layer: tuple[Array, Array], keep: bool) -> Source:
    """The rows as the next layer sees them; kept in memory if the rows themselves are."""
    if keep:
        (rows,) = source()
        return in_memory(_activated(rows, layer))
    return lambda: (_activated(batch, layer) for batch in source())


def _activated(rows: Rows, layer: tuple[Array, Array]) -> Rows:
    return rows.with_features(activated(rows.features, *layer))


def activated(features: SparseRows, W: Array, b: Array) -> SparseRows:
    """The activations of a layer, without the faint ones, as features of the next."""
    pieces = []
    for _, activations in features.activations(W, b):
        activations[activations < FAINT] = 0
        pieces.append(SparseRows.of(activations, features.n_threads))
    return SparseRows.stacked(pieces, W.shape[1], features.dtype, features.n_threads)

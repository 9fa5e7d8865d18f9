"""One hidden layer solved from its inputs.

Held-out rows determine how sharp the posteriors of EM are, after how many corrections to stop, and the scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from saffu.classifier.class_rows import Rows, Source
from saffu.classifier.held_out import Fold, sampled
from saffu.classifier.subclass_em import SubClasses, Units, shared_out
from saffu.classifier.unit_priming import Scores, class_scale, primed
from saffu.utils.arrays import Array, Float64, Int64

SHARPNESS = 2.5  # of the posteriors in EM, in units of the primed scale of one unit a class
SOFTNESS = 0.5  # of the posteriors in corrections, likewise
PATIENCE = 2  # corrections without a gain on held-out rows before they stop


@dataclass(frozen=True)
class Options:
    """What a network is built with; see :class:`saffu.ExplicitNetwork`."""

    rounds: int
    corrections: int
    shrinkage: float
    smoothing: float
    seed: int
    n_threads: int
    batches: int  # in a pass
    on_round: Callable[[], object]


@dataclass
class Layer:
    """A solved hidden layer, with the scalars of its priming: likelihood, share, output."""

    weights: Array  # (D, H)
    bias: Array  # (H,)
    output_counts: Float64  # (H, N): activations by class
    scalars: Float64
    corrections: int


class LayerSolver:
    """Solves one hidden layer from its inputs.

    Parameters
    ----------
    n_units, class_sizes
        H and the number of rows of each class.
    n_features : int
        D.
    ceiling : ndarray, shape (D,), optional
        See :class:`saffu.classifier.subclass_em.SubClasses`.
    options : Options
        How to solve.
    """

    def __init__(
        self,
        n_units: int,
        class_sizes: Int64,
        n_features: int,
        ceiling: Float64 | None,
        options: Options,
    ):
        n_classes = class_sizes.size
        self.options, self.n_features = options, n_features
        common = ceiling, options.shrinkage, options.smoothing, options.n_threads
        self.classes = SubClasses(np.arange(n_classes + 1), *common)
        self.subclasses = SubClasses(shared_out(n_units, class_sizes), *common)
        self.class_scale = 1.0

    def prime_classes(self, folds: list[Fold]) -> None:
        """The scale of the log-likelihood of one unit a class: by how much the features repeat one another."""
        pieces = []
        for fold in folds:
            units = self.classes.units(self.classes.random_counts(fold.source, self.n_features, self.options.seed))
            pieces.append(self._scores(self.classes, units, fold, 1.0))
        self.class_scale = class_scale(pieces)

    def units(self, source: Source) -> Units:
        """Sub-classes found by EM from one random start."""
        options = self.options
        counts = self.subclasses.random_counts(source, self.n_features, options.seed)
        scale = min(1.0, SHARPNESS * self.class_scale)
        stepwise = options.batches > 1
        steps = (max(1.0 / options.batches, (t + 2.0) ** -0.6) for t in range(options.rounds * options.batches))
        for number in range(options.rounds):
            # The last round counts all rows with the same units, whatever the batches.
            step = steps.__next__ if stepwise and number + 1 < options.rounds else None
            counts = self.subclasses.em_round(source, counts, scale, step)
            options.on_round()
        return self.subclasses.units(counts)

    def corrected(self, source: Source, units: Units, n_corrections: int) -> Units:
        """The units after so many corrections, or after fewer if no more help."""
        if n_corrections:
            steps = self.subclasses.corrections(source, units, self._soft_scale())
            for _, corrected in zip(range(n_corrections + 1), steps, strict=False):
                self.options.on_round()
                units = corrected
        return units

    def best_corrected(self, fold: Fold) -> tuple[Units, int]:
        """The units that suit the held-out rows best, and after how many corrections they were found."""
        best = self.units(fold.source), 0
        if not self.options.corrections:
            return best
        lowest = np.inf
        steps = self.subclasses.corrections(fold.source, best[0], self._soft_scale())
        for number, units in zip(range(self.options.corrections + 1), steps, strict=False):
            self.options.on_round()
            loss = self._held_loss(units, fold.held)
            if loss < lowest:
                lowest, best = loss, (units, number)
            if number - best[1] == PATIENCE:
                break
        return best

    def _soft_scale(self) -> float:
        return SOFTNESS * self.class_scale

    def _held_loss(self, units: Units, held: Rows) -> float:
        held = sampled(held, self.subclasses.n_units)
        layer = self.subclasses.layer(units, self._soft_scale(), 1.0, held.features.dtype)
        total = 0.0
        for piece, activations in held.features.activations(*layer):
            p = np.add.reduceat(activations, self.subclasses.blocks[:-1], axis=1)
            at_target = p[np.arange(len(p)), held.targets[piece]]
            log_p = np.log(np.maximum(at_target, 1e-30), dtype=np.float64)
            total -= float(log_p.sum() if held.weights is None else log_p @ held.weights[piece])
        return total / held.mass

    def scores(self, units: Units, fold: Fold) -> Scores:
        """For priming."""
        return self._scores(self.subclasses, units, fold, self._soft_scale())

    def _scores(self, subclasses: SubClasses, units: Units, fold: Fold, scale: float) -> Scores:
        held = sampled(fold.held, subclasses.n_units)
        dtype = held.features.dtype
        W, b = subclasses.likelihood(units)
        W -= W.mean(axis=1, keepdims=True)
        likelihood = held.features.product(W.astype(dtype), b.astype(dtype))
        counts = output_counts(fold.source, *subclasses.layer(units, scale, 1.0, dtype))
        outputs = log_output(counts, self.options.smoothing)
        return Scores(likelihood, units.log_share, outputs, held.targets, held.weights)

    def prime(self, scores: list[Scores]) -> Float64:
        """The three scalars."""
        return primed(scores, np.array([self._soft_scale(), 1.0, 1.0]))

    def layer(self, source: Source, units: Units, scalars: Float64, corrections: int, dtype: np.dtype[Any]) -> Layer:
        """The layer with its scalars folded in."""
        W, b = self.subclasses.layer(units, scalars[0], scalars[1], dtype)
        return Layer(W, b, output_counts(source, W, b), scalars, corrections)


def output_counts(source: Source, W: Array, b: Array) -> Float64:
    """Activations summed by class (H, N): the moments of the output layer."""
    total: Float64 | None = None
    for rows in source():
        if total is None:
            total = np.zeros((W.shape[1], rows.n_classes))
        for piece, activations in rows.features.activations(W, b):
            activations = rows.weighted(activations, piece)
            for number in np.unique(rows.targets[piece]):
                begin, end = np.searchsorted(rows.targets[piece], [number, number + 1])
                total[:, number] += activations[begin:end].sum(axis=0, dtype=np.float64)
    assert total is not None
    return total


def log_output(counts: Float64, smoothing: float) -> Float64:
    """``log p(class | unit)``, smoothed towards the shares of the classes."""
    prior = counts.sum(axis=0) + smoothing
    smoothed = counts + smoothing * prior / prior.sum()
    log_p: Float64 = np.log(smoothed) - np.log(smoothed.sum(axis=1, keepdims=True))
    return log_p

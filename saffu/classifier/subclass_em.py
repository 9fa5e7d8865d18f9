"""Sub-classes: what the units of a hidden layer stand for, found by counting in rounds.

Each hidden unit stands for a sub-class of one class. Two kinds of rounds find them, and neither has a learning rate
or sends errors back through layers:

* **EM.** E-step: the posterior of the units within each row's own class. M-step: the explicit solution of a softmax
  layer from those responsibilities.
* **Corrections.** At the optimum of a softmax layer the expected co-occurrences equal the observed ones. A correction
  counts both, the responsibilities within the row's own class and the posterior of all units, and moves
  each unit's counts by the difference, as if the observed rows had been counted once more and the expected ones
  taken away (the extended Baum-Welch algorithm of Gopalakrishnan et al. 1991, with the posteriors of this network).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from saffu import _core
from saffu.classifier.class_rows import Rows, Source
from saffu.classifier.row_keys import derived, equal_parts
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.sparse import SparseRows

PACE = 3.0  # old counts kept in a correction, in units of those taken away: more is slower and safer
KEPT = 0.3  # no correction takes more than the rest of a count
PENDING_VALUES = 1 << 24  # activations that are held until they are counted
COUNTED_ROWS = 2048  # at a time: a tile of so many stays in the cache
SETTLED = 0.02  # rows read with an error below this change nothing and are left out


def shared_out(n_units: int, class_sizes: Int64) -> Int64:
    """Divide the units over the classes: equal parts, but no more than a class has rows while others have more.

    Returns
    -------
    ndarray of int64, shape (N + 1,)
        The units of class i are ``blocks[i] .. blocks[i + 1]``.
    """
    most = np.maximum(class_sizes, 1)
    part = np.ones_like(most)
    for _ in range(n_units - part.size):
        open_ = part < most if (part < most).any() else np.ones(part.size, bool)
        part[np.flatnonzero(open_)[part[open_].argmin()]] += 1
    return np.concatenate([[0], np.cumsum(part)]).astype(np.int64)


# ---- counts and units --------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What the units have counted: F (D, H) and their mass (H,), the rows that they stand for."""

    F: Float64
    mass: Float64

    @classmethod
    def zeros(cls, n_features: int, n_units: int) -> Counts:
        """Nothing counted yet."""
        return cls(np.zeros((n_features, n_units)), np.zeros(n_units))

    def move_towards(self, other: Counts, step: float) -> None:
        """Replace a share of these counts by others."""
        for mine, theirs in ((self.F, other.F), (self.mass, other.mass)):
            mine *= 1.0 - step
            mine += step * theirs


@dataclass
class Units:
    """A solved hidden layer: the mean row of each unit (D, H), in [0, 1] with complements, and its log share (H,)."""

    means: Float64
    log_share: Float64


class SubClasses:
    """The sub-classes of one hidden layer.

    Parameters
    ----------
    blocks : ndarray of int64, shape (N + 1,)
        The units of class i are ``blocks[i] .. blocks[i + 1]``, at least one.
    ceiling : ndarray of float64, shape (D,), optional
        The largest value of each feature, positive: features divided by it are in [0, 1], and their complements to 1
        are features too. Without it features are counts.
    shrinkage : float
        Every unit counts so many rows that look like the mean of its class, and every class as many that look like the
        mean of all rows: a unit with few rows falls back on its class, as an n-gram with few counts falls back
        on a shorter one.
    smoothing : float
        Added to the counts of all rows.
    n_threads : int
        Threads of the kernels.
    """

    def __init__(
        self,
        blocks: Int64,
        ceiling: Float64 | None,
        shrinkage: float,
        smoothing: float,
        n_threads: int,
    ):
        self.blocks, self.ceiling, self.shrinkage, self.smoothing = blocks, ceiling, shrinkage, smoothing
        self.n_threads = n_threads
        self.owner = np.repeat(np.arange(blocks.size - 1, dtype=np.int32), np.diff(blocks))

    @property
    def n_units(self) -> int:
        """H."""
        return int(self.blocks[-1])

    # ---- weighing ----

    def units(self, counts: Counts) -> Units:
        """The units that these counts describe, shrunk towards their classes."""
        F = self._scaled(counts.F)
        means = np.take(self._class_means(F, counts.mass), self.owner, axis=1)
        means *= self.shrinkage
        means += F
        means /= counts.mass + self.shrinkage
        share = counts.mass + self.shrinkage / np.diff(self.blocks)[self.owner]
        return Units(means, np.log(share / share.sum()))

    def _scaled(self, F: Float64) -> Float64:
        return F if self.ceiling is None else F / self.ceiling[:, None]

    def _class_means(self, F: Array, mass: Array) -> Float64:
        """The mean row of each class (D, N), shrunk towards the mean of all rows."""
        class_F, class_mass = np.add.reduceat(F, self.blocks[:-1], axis=1), np.add.reduceat(mass, self.blocks[:-1])
        total, n_rows = class_F.sum(axis=1), class_mass.sum()
        overall = (total + self.smoothing) / (n_rows + 2.0 * self.smoothing)
        if self.ceiling is None and total.any():
            overall *= total.sum() / (n_rows * overall.sum())
        means: Float64 = (class_F + self.shrinkage * overall[:, None]) / (class_mass + self.shrinkage)
        return means

    def likelihood(self, units: Units) -> tuple[Float64, Float64]:
        """Weights (D, H) and bias (H,) of the log-likelihood of a row under each unit: the explicit solution.

        With complements ``W = log(F / m) - log(1 - F / m)`` and ``b = sum log(1 - F / m)``; without them
        ``W = log(F / S)``, S the sum of F over the features, and no bias.
        """
        if self.ceiling is None:
            total = np.maximum(units.means.sum(axis=0), np.finfo(np.float64).tiny)  # 0 where there are no features
            return np.log(units.means) - np.log(total), np.zeros(self.n_units)
        absent = np.log1p(-units.means)
        weights = np.log(units.means)
        weights -= absent
        weights /= self.ceiling[:, None]
        return weights, absent.sum(axis=0)

    def layer(self, units: Units, scale: float, prior: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Weights and bias of the softmax layer: ``scale`` log-likelihood + ``prior`` log share."""
        W, b = self.likelihood(units)
        # What all units have in common does not change the softmax; without it float32 keeps more digits.
        W -= W.mean(axis=1, keepdims=True)
        b = scale * b + prior * units.log_share
        W *= scale
        return W.astype(dtype), (b - b.max()).astype(dtype)

    # ---- EM ----

    def random_counts(self, source: Source, n_features: int, seed: int) -> Counts:
        """Counts of rows that are dealt out by their keys, evenly, over the units of their class."""

        def dealt(rows: Rows) -> Iterator[tuple[int, Array]]:
            keys = derived(rows.keys, seed)
            for number, (first, last) in enumerate(pairwise(rows.starts)):
                order = np.argsort(keys[first:last], kind="stable")
                posterior = np.zeros((last - first, self.blocks[number + 1] - self.blocks[number]), rows.features.dtype)
                posterior[order, equal_parts(rows.repeats[first:last][order], posterior.shape[1])] = 1
                yield number, posterior

        total = Counts.zeros(n_features, self.n_units)
        for rows in source():
            counts = self._counted(rows, dealt(rows))
            total.F += counts.F
            total.mass += counts.mass
        return total

    def em_round(self, source: Source, counts: Counts, scale: float, step: Callable[[], float] | None = None) -> Counts:
        """One pass of EM over the rows.

        ``step`` None: the M-step follows the whole pass. Otherwise it follows every batch, which replaces so large a
        share of the counts (stepwise EM, Cappe and Moulines 2009), with the mass of each class as it is.
        """
        total = Counts.zeros(*counts.F.shape)
        layer = None
        for rows in source():
            if layer is None or step is not None:
                layer = self._within_classes(counts, scale, rows.features.dtype)
            found = self._counted(rows, self._posteriors(rows, *layer))
            if step is None:
                total.F += found.F
                total.mass += found.mass
            else:
                self._blend(counts, found, step())
        return total if step is None else counts

    def _within_classes(self, counts: Counts, scale: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        return self.layer(self.units(counts), scale, 1.0, dtype)

    def _posteriors(self, rows: Rows, W: Array, b: Array) -> Iterator[tuple[int, Array]]:
        """For each class its rows' posterior over its own units (M_c, H_c)."""
        for number, (first, last) in enumerate(zip(self.blocks[:-1], self.blocks[1:], strict=True)):
            z = rows.part(number).product(W[:, first:last], b[first:last])
            yield number, _core.softmax(z, False, self.n_threads)

    def _counted(self, rows: Rows, posteriors: Iterable[tuple[int, Array]]) -> Counts:
        counts = Counts.zeros(rows.features.n_columns, self.n_units)
        for number, posterior in posteriors:
            if posterior.size:
                first, last = self.blocks[number : number + 2]
                posterior = rows.weighted(posterior, slice(*rows.starts[number : number + 2]))
                counts.mass[first:last] = posterior.sum(axis=0, dtype=np.float64)
                rows.transposed(number).product_double(posterior, counts.F[:, first:last])
        return counts

    def _blend(self, counts: Counts, found: Counts, step: float) -> None:
        before, now = (np.add.reduceat(c.mass, self.blocks[:-1]) for c in (counts, found))
        seen = now[self.owner] > 0
        grow = np.where(seen, before[self.owner] / np.maximum(now[self.owner], 1e-300), 0.0)
        blended = Counts(counts.F.copy(), counts.mass.copy())
        blended.move_towards(Counts(found.F * grow, found.mass * grow), step)
        counts.F[:, seen], counts.mass[seen] = blended.F[:, seen], blended.mass[seen]

    # ---- corrections ----

    def corrections(self, source: Source, units: Units, scale: float) -> Iterator[Units]:
        """Units after 0, 1, 2 .. corrections, each with a training loss below the one before.

        A correction that does not lower the loss is taken back and tried again at half the pace, which costs a pass.
        """
        pace, best = PACE, self._compared(source, units, scale)
        yield units
        while pace < 1000.0 * PACE:
            candidate = self._corrected(units, best, pace)
            compared = self._compared(source, candidate, scale)
            if compared.loss < best.loss:
                units, best = candidate, compared
                yield units
            else:
                pace *= 2.0

    def _compared(self, source: Source, units: Units, scale: float) -> Comparison:
        comparison = Comparison.zeros(*units.means.shape)
        layer: tuple[Array, Array] | None = None
        for rows in source():
            layer = layer or self.layer(units, scale, 1.0, rows.features.dtype)
            for piece, activations in rows.features.activations(*layer):
                unsettled, difference = self._compare(rows, piece, activations, comparison)
                comparison.collect(rows.features, unsettled + piece.start, difference)
        return comparison

    def _compare(self, rows: Rows, piece: slice, activations: Array, comparison: Comparison) -> tuple[Int64, Array]:
        """The rows of a piece that are not settled, and observed minus expected activations of each (.., H)."""
        targets = rows.targets[piece]
        p = np.add.reduceat(activations, self.blocks[:-1], axis=1)[np.arange(targets.size), targets]
        p = np.maximum(p, 1e-30)
        log_p = np.log(p, dtype=np.float64)
        weights = None if rows.weights is None else rows.weights[piece]
        comparison.loss -= float(log_p.sum() if weights is None else log_p @ weights)
        unsettled = np.flatnonzero(1.0 - p > SETTLED)
        difference, p, targets = np.negative(activations[unsettled]), p[unsettled], targets[unsettled]
        for number in np.unique(targets):
            own = slice(*self.blocks[number : number + 2])
            part = slice(*np.searchsorted(targets, [number, number + 1]))
            difference[part, own] *= (1.0 - 1.0 / p[part])[:, None]  # h / p - h, never negative
            if weights is not None:
                difference[part] *= weights[unsettled[part], None]
            gained = difference[part].sum(axis=0, dtype=np.float64)
            comparison.mass += gained
            comparison.taken -= np.minimum(gained, 0.0)
        return unsettled, difference

    def _corrected(self, units: Units, by: Comparison, pace: float) -> Units:
        kept = pace * (by.taken + 1.0)
        difference = self._scaled(by.counted())
        present = kept * units.means
        present = np.maximum(difference + present, KEPT * present)
        if self.ceiling is None:
            total = np.maximum(present.sum(axis=0), np.finfo(np.float64).tiny)
            return Units(present * (units.means.sum(axis=0) / total), units.log_share)
        absent = kept * (1.0 - units.means)
        absent = np.maximum(by.mass - difference + absent, KEPT * absent)
        return Units(present / (present + absent), units.log_share)


@dataclass
class Comparison:
    """Observed minus expected co-occurrences (D, H), their mass and how much of it was taken away (H,); the loss.

    Rows are counted when the co-occurrences are asked for: those of the last units tried never are.
    """

    F: Float64
    mass: Float64
    taken: Float64
    loss: float
    pending: list[tuple[SparseRows, Array]]

    @classmethod
    def zeros(cls, n_features: int, n_units: int) -> Comparison:
        """Nothing compared yet."""
        return cls(np.zeros((n_features, n_units)), np.zeros(n_units), np.zeros(n_units), 0.0, [])

    def collect(self, features: SparseRows, numbers: Int64, difference: Array) -> None:
        """Keep some rows, and observed minus expected activations of each, to be counted."""
        for begin in range(0, numbers.size, COUNTED_ROWS):
            piece = slice(begin, begin + COUNTED_ROWS)
            self.pending.append((features.take(numbers[piece]), difference[piece]))
        if sum(part.size for _, part in self.pending) > PENDING_VALUES:
            self.counted()

    def counted(self) -> Float64:
        """F, all collected rows counted."""
        part = np.empty_like(self.F) if self.pending else self.F
        for features, difference in self.pending:
            features.transposed().product_double(difference, part)
            self.F += part
        self.pending.clear()
        return self.F

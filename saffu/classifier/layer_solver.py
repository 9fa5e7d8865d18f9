"""Hidden layers solved one on top of the other; held-out rows say how sharp, how often corrected, how far trusted.

Every layer is solved twice. First without some of the rows, which then say after how many corrections to stop and
prime three scalars: how much the log-likelihood of a unit, its share, and its opinion of the class are trusted.
Then from all rows, with what was found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saffu import _core
from saffu.classifier.subclass_em import Rows, Source, SubClasses, Units, in_memory, shared_out
from saffu.explicit.newton import Evaluation, newton
from saffu.utils.arrays import Array, Float64, Int32, Int64
from saffu.utils.sparse import SparseRows

MANY_ROWS = 10_000  # from here on one fold is held out, below each of five in turn
N_FOLDS = 5
SAMPLE_ROWS = 10_000  # held-out rows that are used: three scalars need no more
SAMPLE_VALUES = 1 << 25  # rows times units
SHARPNESS = 2.5  # of the posteriors in EM, in units of the primed scale of one unit a class
SIGNIFICANT = 2.0  # nats over all held-out rows: a scalar that gains less says nothing
SOFTNESS = 0.5  # of the posteriors in corrections, likewise
TYPICAL = (1.5, 1.0, 2.0)  # primed scalars, in units of where they start: geometric means over 17 data sets
HELD = (15.0, 10.0, 15.0)  # rows' worth by which they are drawn there: in few hundred rows one moves none by much
PATIENCE = 2  # corrections without a gain on held-out rows before they stop
FAINT = 1e-4  # activations below it are not passed on to the next layer's counts


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
class Fold:
    """Rows to solve from, and rows that are held out."""

    source: Source
    held: Rows


@dataclass
class Layer:
    """A solved hidden layer, with the scalars of its priming: likelihood, share, output."""

    weights: Array  # (D, H)
    bias: Array  # (H,)
    output_counts: Float64  # (H, N): activations by class
    scalars: Float64
    corrections: int


def folds_of(rows: Rows) -> list[Fold]:
    """Consecutive rows of every class held out: one fold where there are many rows, each of five where there are few.

    Rows beside each other tend to belong together (the replies to a message, the frames of a film), so that
    rows held out one by one would look easier than new ones.
    """
    fold = _fold_numbers(rows)
    chosen = [N_FOLDS - 1] if rows.targets.size >= MANY_ROWS else list(range(N_FOLDS))
    splits = [rows.split(fold == number) for number in chosen if (fold == number).any()]
    return [Fold(in_memory(kept), held) for kept, held in splits]


def folds_of_batches(source: Source, n_batches: int) -> list[Fold]:
    """The last fold of every batch held out, of which a sample is kept in memory."""
    held = []
    for rows in source():
        sample = rows.split(_fold_numbers(rows) == N_FOLDS - 1)[1]
        held.append(thinned(sample, max(1, SAMPLE_ROWS // n_batches)))
    n_classes = held[0].starts.size - 1
    features = [rows.features for rows in held]
    stacked = SparseRows.stacked(features, features[0].n_columns, features[0].dtype, features[0].n_threads)
    together = Rows(stacked, np.concatenate([rows.targets for rows in held]), n_classes)
    if not together.targets.size:
        return []
    return [Fold(lambda: (rows.split(_fold_numbers(rows) == N_FOLDS - 1)[0] for rows in source()), together)]


def _fold_numbers(rows: Rows) -> Int64:
    """The fold of each row; a class with fewer rows than folds is in the last ones, its first row in none (-1)."""
    sizes = rows.class_sizes[rows.targets]
    rank = np.arange(rows.targets.size) - rows.starts[rows.targets]
    few = sizes < N_FOLDS
    fold = np.where(few, N_FOLDS - sizes + rank, rank * N_FOLDS // np.maximum(sizes, 1))
    return np.where(few & (rank == 0), -1, fold)


# ---- priming -----------------------------------------------------------------------------------------------------


@dataclass
class Scores:
    """What held-out rows look like to units that were solved without them."""

    likelihood: Array  # (M, H): log-likelihoods, up to a constant a row
    log_share: Float64  # (H,)
    log_output: Float64  # (H, N): log p(class | unit)
    targets: Int32  # (M,)


def mixture_loss(pieces: list[Scores]) -> Callable[[Float64, bool], Evaluation]:
    """Mean cross-entropy of ``softmax(s l + a log share) softmax(t log output)`` by (s, a, t), for ``newton``.

    The second derivative is Gauss and Newton's, ``mean_m sum_y p' p'^T / p``: positive, whatever the point.
    """
    n_rows = sum(piece.targets.size for piece in pieces)
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
    value = -float(np.log(at_target).sum())
    if not derivatives:
        return value, 0.0, 0.0
    by_scale = h * (likelihood - np.einsum("mh,mh->m", h, likelihood)[:, None])
    by_share = h * (piece.log_share - (h @ piece.log_share)[:, None])
    by_output = output * (piece.log_output - (output * piece.log_output).sum(axis=1, keepdims=True))
    slopes = np.stack([by_scale @ output, by_share @ output, h @ by_output])  # of p, (3, M, N)
    gradient = -(slopes[:, np.arange(targets.size), targets] / at_target).sum(axis=1)
    slopes /= np.sqrt(p)
    flat = slopes.reshape(3, -1)
    return value, gradient, flat @ flat.T


def primed(pieces: list[Scores], start: Float64) -> Float64:
    """The scalars that fit held-out rows, drawn towards typical ones.

    Rows of separable classes would let them grow without end, and the share's has no say at all where all units have
    the same.
    """
    loss = mixture_loss(pieces)
    centre = start * TYPICAL
    weight = np.array(HELD) / sum(piece.targets.size for piece in pieces)

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


# ---- one layer ---------------------------------------------------------------------------------------------------


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
        rng = np.random.default_rng(self.options.seed)
        pieces = []
        for fold in folds:
            units = self.classes.units(self.classes.random_counts(fold.source, self.n_features, rng))
            pieces.append(self._scores(self.classes, units, fold, 1.0))
        self.class_scale = class_scale(pieces)

    def units(self, source: Source) -> Units:
        """Sub-classes found by EM from one random start."""
        options, rng = self.options, np.random.default_rng(self.options.seed)
        counts = self.subclasses.random_counts(source, self.n_features, rng)
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
        held = _sample(held, self.subclasses.n_units)
        layer = self.subclasses.layer(units, self._soft_scale(), 1.0, held.features.dtype)
        total = 0.0
        for piece, activations in held.features.activations(*layer):
            p = np.add.reduceat(activations, self.subclasses.blocks[:-1], axis=1)
            at_target = p[np.arange(len(p)), held.targets[piece]]
            total -= float(np.log(np.maximum(at_target, 1e-30), dtype=np.float64).sum())
        return total / held.targets.size

    def scores(self, units: Units, fold: Fold) -> Scores:
        """For priming."""
        return self._scores(self.subclasses, units, fold, self._soft_scale())

    def _scores(self, subclasses: SubClasses, units: Units, fold: Fold, scale: float) -> Scores:
        held = _sample(fold.held, subclasses.n_units)
        dtype = held.features.dtype
        W, b = subclasses.likelihood(units)
        W -= W.mean(axis=1, keepdims=True)
        likelihood = held.features.product(W.astype(dtype), b.astype(dtype))
        counts = output_counts(fold.source, *subclasses.layer(units, scale, 1.0, dtype))
        return Scores(likelihood, units.log_share, log_output(counts, self.options.smoothing), held.targets)

    def prime(self, scores: list[Scores]) -> Float64:
        """The three scalars."""
        return primed(scores, np.array([self._soft_scale(), 1.0, 1.0]))

    def layer(self, source: Source, units: Units, scalars: Float64, corrections: int, dtype) -> Layer:
        """The layer with its scalars folded in."""
        W, b = self.subclasses.layer(units, scalars[0], scalars[1], dtype)
        return Layer(W, b, output_counts(source, W, b), scalars, corrections)


def class_scale(pieces: list[Scores]) -> float:
    """The scale that fits held-out rows best when only it is free.

    No evidence counts more than once: the papers' formula, scale 1, is the upper bound. It is also what is left where
    one unit a class says nothing, as for the corners of a square of which opposite ones belong together.
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
    n_rows = sum(piece.targets.size for piece in pieces)
    gain = n_rows * (evaluate(np.zeros(1), False)[0] - evaluate(scale, False)[0])
    return float(np.clip(scale[0], 1e-3, 1.0)) if scale[0] > 0 and gain > SIGNIFICANT else 1.0


def thinned(rows: Rows, n_rows: int) -> Rows:
    """At most so many rows, by chance: evenly spaced ones can all come from one of two sources that take turns."""
    if rows.targets.size <= n_rows:
        return rows
    chosen = np.sort(np.random.default_rng(0).choice(rows.targets.size, n_rows, replace=False))
    return Rows(rows.features.take(chosen), rows.targets[chosen], rows.starts.size - 1)


def _sample(held: Rows, n_units: int) -> Rows:
    """Few enough rows that their values for all units fit into memory."""
    return thinned(held, max(1, min(SAMPLE_ROWS, SAMPLE_VALUES // n_units)))


# ---- output ------------------------------------------------------------------------------------------------------


def output_counts(source: Source, W: Array, b: Array) -> Float64:
    """Activations summed by class (H, N): the moments of the output layer."""
    total: Float64 | None = None
    for rows in source():
        n_classes = rows.starts.size - 1
        if total is None:
            total = np.zeros((W.shape[1], n_classes))
        for piece, activations in rows.features.activations(W, b):
            for number in np.unique(rows.targets[piece]):
                begin, end = np.searchsorted(rows.targets[piece], [number, number + 1])
                total[:, number] += activations[begin:end].sum(axis=0, dtype=np.float64)
    assert total is not None
    return total


def log_output(counts: Float64, smoothing: float) -> Float64:
    """``log p(class | unit)``, smoothed towards the shares of the classes."""
    prior = counts.sum(axis=0) + smoothing
    smoothed = counts + smoothing * prior / prior.sum()
    return np.log(smoothed) - np.log(smoothed.sum(axis=1, keepdims=True))


# ---- a stack of layers -------------------------------------------------------------------------------------------


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
    return Rows(activated(rows.features, *layer), rows.targets, rows.starts.size - 1)


def activated(features: SparseRows, W: Array, b: Array) -> SparseRows:
    """The activations of a layer, without the faint ones, as features of the next."""
    pieces = []
    for _, activations in features.activations(W, b):
        activations[activations < FAINT] = 0
        pieces.append(SparseRows.of(activations, features.n_threads))
    return SparseRows.stacked(pieces, W.shape[1], features.dtype, features.n_threads)

"""The two scalars of a softmax layer: powers of the shares of the classes and of the likelihood of a row.

Both are fitted by Newton to training rows. A row that is in the counts looks too likely, so it is left out of them
first, and that must not bring in a bias of its own:

* Only the likelihood of the row's own class is taken without the row. The shares of the classes stay whole: without the
  row, its class would always look a little too rare, by the same sign in every row of a balanced problem, and the best
  scalar of the shares would run to minus infinity, or turn the classifier round.
* A class that consists of one row has no counts left without it, so that row is not used.

Other ways were compared on some thirty data sets: five and ten folds, and a scale of smoothing for the class of the
left-out row that goes with its mass. With the shares whole all are within a few thousandths of a nat of one another on
nearly all of them, folds a little behind with few rows, so single rows stay.

Few rows do not fix two scalars. Those of separable classes have no finite optimum, and in 150 rows of iris one row
alone moves the optimum by a sixth. So both are drawn towards a centre by a ridge on their logarithms, which also keeps
them positive. A row pulls at the logarithm of a scalar with up to 4 nats: a ridge of 80 is what keeps such a row from
moving it by 5 %, and between 10 and 80 the losses differed by a thousandth of a nat on the mean. The centre of the
prior's is 1. That of the likelihood's is explicit: were the log-ratio of two classes normal in each, with means mu and
-mu and one variance sigma^2, the calibrated slope would be ``2 mu / sigma^2`` (Fisher's linear discriminant along the
log-ratio). The centre is the geometric mean of these over pairs of classes, those that are hard to distinguish counting
more. Most data sets' own optimum is within a factor of 1.5 of it, while the optima go from 0.04 to 150 with the scale
of the features, which no fixed centre can know. The price is paid where features carry no information: on 100 rows of
noise the loss is about 0.06 nats above that of the shares alone, on 3,000 rows 0.005.

A row whose loss moves a feature's counts from one to none changes the weights themselves; no ridge helps there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saffu import _core
from saffu.explicit.newton import Evaluation, newton, primed_loss
from saffu.utils.arrays import Array, Float64

STRENGTH = 80.0  # half of it is what a scalar pays, in nats, that is e times its centre
LARGEST_PULL = 0.035  # of a row, as a share of all that holds a scalar: outliers above it count less
CLIP = 2.0  # deviations from a pair's mean that are counted in full, in units of its deviation
CLIP_SHRINKS = 0.9487  # the deviation of a normal variable so clipped, in units of its own
CLIP_ROUNDS = 8
FLOOR = 2.5  # standard errors of a pair's mean that the mean is taken for at the least
LARGEST_FLOOR = 0.3  # deviations, likewise

Loss = Callable[[Float64, bool], Evaluation]


def fitted_scalars(
    log_prior: Float64,
    likelihood: Float64,
    targets: Array,
    repeats: Float64,
    weights: Float64,
    fallback: float,
    n_threads: int,
) -> tuple[float, float]:
    """Fit the scalars of ``softmax(alpha log_prior + lambda likelihood)``.

    Parameters
    ----------
    log_prior : ndarray of float64, shape (N,)
    likelihood : ndarray of float64, shape (R, N)
        Log-likelihoods of the rows, that of a row's own class without the row.
    targets : ndarray
        Class numbers, int32 (R,), or soft targets, float64 (R, N).
    repeats, weights : ndarray of float64, shape (R,)
        How often each row was there, and how many rows it stands for: a row of weight k counts as k rows.
    fallback : float
        The centre of lambda where the likelihoods do not distinguish any classes.
    n_threads : int

    Returns
    -------
    alpha, lambda : float
        Positive.
    """
    found, mass = centre(likelihood, targets, weights), float(weights.sum())
    known = 0.0 if found is None else min(mass, 1.0)  # less than one row is as much less known
    start = np.array([0.0, known * np.log(found or 1.0) + (1.0 - known) * np.log(fallback)])
    groups = [np.tile(log_prior, (likelihood.shape[0], 1)), likelihood]
    theta, counted = start, weights
    for _ in range(5):
        theta = newton(_on_logarithms(groups, targets, counted, start, n_threads), theta, tolerance=1e-13, max_steps=60)
        limited = _limited(groups, targets, repeats, weights, counted, np.exp(theta), n_threads)
        settled = bool((np.abs(limited - counted) <= 1e-3 * weights).all())
        counted = limited
        if settled:
            break
    alpha, scale = np.exp(theta)
    return float(alpha), float(scale)


def _on_logarithms(groups: list[Float64], targets: Array, weights: Float64, start: Float64, n_threads: int) -> Loss:
    """The mean loss with its ridge, by the logarithms of the scalars."""
    loss = primed_loss(groups, targets, weights, n_threads)
    ridge = STRENGTH / max(float(weights.sum()), 1e-6)

    def evaluate(theta: Float64, derivatives: bool) -> Evaluation:
        with np.errstate(over="ignore", invalid="ignore"):
            scalars, off = np.exp(theta), theta - start
            value, gradient, hessian = loss(scalars, derivatives)
            value = value + 0.5 * ridge * float(off @ off)
        if gradient is None or hessian is None:
            return value, None, None
        by_log = gradient * scalars
        curvature = hessian * np.outer(scalars, scalars) + ridge * np.eye(2)
        exact = curvature + np.diag(by_log)
        if np.linalg.eigvalsh(exact).min() <= 0:  # far from the optimum: without the negative part, it descends too
            exact = curvature + np.diag(np.maximum(by_log, 0.0))
        return value, by_log + ridge * off, exact

    return evaluate


def _limited(
    groups: list[Float64],
    targets: Array,
    repeats: Float64,
    weights: Float64,
    counted: Float64,
    scalars: Float64,
    n_threads: int,
) -> Float64:
    """Weights less where a single row would pull at a scalar by more than its share of all that holds it."""
    p = _core.softmax(scalars[0] * groups[0] + scalars[1] * groups[1], False, n_threads)
    factor = np.ones(p.shape[0])
    for scalar, group in zip(scalars, groups, strict=True):
        expected = np.einsum("mi,mi->m", p, group)
        observed = np.einsum("mi,mi->m", group, targets) if targets.ndim == 2 else group[np.arange(p.shape[0]), targets]
        spread = np.einsum("mi,mi->m", p, (group - expected[:, None]) ** 2)
        limit = LARGEST_PULL * (STRENGTH + scalar**2 * float(spread @ counted))
        # A row that stands for others because of the sample, not of its repetitions, pulls with all of them.
        pull = scalar * np.abs(expected - observed) * (weights / repeats)
        factor = np.minimum(factor, limit / np.maximum(pull, limit))
    return weights * factor


def centre(likelihood: Float64, targets: Array, weights: Float64) -> float | None:
    """The slope at which log-ratios of classes would be calibrated if they were normal; None if there are none.

    Deviations are clipped, so that a row far off moves it little. Each class gets one row more, at 0, and a mean that
    is not known to be positive is taken for two or three of its standard errors.
    """
    largest = float(np.abs(likelihood).max(initial=0.0))
    if not largest > 0:
        return None
    total = weight = 0.0
    for number in range(likelihood.shape[1]):
        share = weights * (targets == number) if targets.ndim == 1 else weights * targets[:, number]
        rows = np.flatnonzero(share)
        if not rows.size:
            continue
        mass = float(share[rows].sum())
        ratio = (likelihood[rows, number, None] - likelihood[rows]) / largest
        mean, deviation = _clipped_moments(np.delete(ratio, number, axis=1), share[rows] * max(1.0, 1.0 / mass))
        usable = deviation > 1e-12
        mean, deviation = mean[usable], deviation[usable]
        floor = min(FLOOR / np.sqrt(max(mass, 1.0)), LARGEST_FLOOR)
        distance = mean / deviation
        distance = (distance + np.sqrt(distance**2 + 4 * floor**2)) / 2
        importance = mass / np.sqrt(1.0 + distance**2)
        total += float(importance @ np.log(2.0 * distance / deviation))
        weight += float(importance.sum())
    return float(np.exp(total / weight) / largest) if weight > 0 else None


def _clipped_moments(ratio: Float64, weights: Float64) -> tuple[Float64, Float64]:
    """Mean and standard deviation of each column, with one row of zeros more."""
    clipped, mass = ratio, float(weights.sum()) + 1.0
    for last in [False] * CLIP_ROUNDS + [True]:
        mean = weights @ clipped / mass
        deviation = np.sqrt((weights @ (clipped - mean) ** 2 + mean**2) / mass)
        if not last:
            clipped = np.clip(ratio, mean - CLIP * deviation, mean + CLIP * deviation)
    return mean, deviation / CLIP_SHRINKS

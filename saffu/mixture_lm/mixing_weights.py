"""The weights of a mixture: those of the greatest likelihood on a text, a concave problem on the simplex."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from saffu.utils.arrays import Float64

TOLERANCE = 1e-12  # nats a token that the optimum can be better at most
MOST_STEPS = 500
HALVINGS = 40  # of a step until it is given up
UNIT = 1e-6  # how far from one the sum of given weights may be
RIDGE = 1e-13  # of the largest curvature: experts that are alike have any weights


class FittedWeights(NamedTuple):
    """What a fit has found.

    Attributes
    ----------
    weights : ndarray of float64, shape (E,)
        Not negative, of unit sum.
    n_tokens : float
        Tokens that they were fitted on.
    losses : ndarray of float64, shape (E + 1,)
        Nats per token of each expert alone there, and of the mixture.
    """

    weights: Float64
    n_tokens: float
    losses: Float64

    @classmethod
    def given(cls, weights: Float64) -> FittedWeights:
        """Weights that were fitted on nothing."""
        return cls(weights, 0.0, np.full(weights.size + 1, np.nan))


def fit_weights(log_p: Float64, before: FittedWeights | None = None) -> FittedWeights:
    """The weights w that maximise ``sum_t log(sum_i w_i p_ti)``.

    Parameters
    ----------
    log_p : ndarray of float64, shape (E, M)
        Log-probability of each token under each expert, nats; may be -inf. An expert that answers anything else than
        numbers, such as a network whose training has diverged, is taken to hold every token for impossible.
    before : FittedWeights, optional
        Weights of other text, which these are held by: its tokens count as so many that each expert was responsible
        for, ``n_tokens`` times its weight.

    Returns
    -------
    FittedWeights
        Where no tokens tell anything, equal weights. Of equally good weights, those of one expert alone if there are
        such.

    Notes
    -----
    Sequential quadratic programming (Kim, Carbonetto, Stephens and Anitescu 2020): without the constraint on the sum,
    ``mean_t log(sum_i x_i p_ti) - sum_i x_i`` has its maximum over x >= 0 at the same place, and each Newton step is a
    least-squares problem with x >= 0. A step that does not pay is replaced by one of EM, which always does. Tokens of
    other text enter as in incremental EM (Neal and Hinton 1998). At weights w the optimum is at most
    ``max_i mean_t (p_ti / sum_j w_j p_tj) - 1`` nats a token better, which is what ends the iterations.

    Examples
    --------
    >>> fit_weights(np.log([[0.5, 0.5, 0.5], [0.9, 0.9, 0.1]])).weights.round(3).tolist()
    [0.583, 0.417]
    """
    n_experts = len(log_p)
    log_p = np.where(np.isnan(log_p).any(axis=1, keepdims=True), -np.inf, log_p)
    prior = np.zeros(n_experts) if before is None else before.n_tokens * before.weights
    problem = _Problem.of(log_p, prior)
    weights = problem.optimum() if problem.n_tokens > 0 else np.full(n_experts, 1 / n_experts)
    n_tokens = float(log_p.shape[1] + prior.sum())
    return FittedWeights(weights, n_tokens, _losses(log_p, weights))


def checked_weights(values: ArrayLike, n_experts: int, name: str = "weights") -> Float64:
    """Weights of experts divided by their sum.

    Raises
    ------
    ValueError, TypeError
        If they are not so many numbers that are not negative and have unit sum.

    Examples
    --------
    >>> checked_weights([0.25, 0.75], 2).tolist()
    [0.25, 0.75]
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.shape != (n_experts,):
        raise ValueError(f"{name} must be {n_experts} numbers, one for each expert, got shape {array.shape}")
    if not (np.isfinite(array).all() and array.min() >= 0 and abs(array.sum() - 1) <= UNIT):
        raise ValueError(f"{name} must not be negative and have unit sum, got {array.tolist()}")
    found: Float64 = array / array.sum()
    return found


def mix(log_p: Float64, weights: Float64) -> Float64:
    """Log-probabilities of a mixture, ``log sum_i w_i exp(log_p[i])``, nats."""
    mixed = np.full(log_p.shape[1:], -np.inf)
    for weight, expert in zip(weights, log_p, strict=True):
        if weight > 0:
            np.logaddexp(mixed, expert + np.log(weight), out=mixed)
    return mixed


def _losses(log_p: Float64, weights: Float64) -> Float64:
    if log_p.shape[1] == 0:
        return np.full(weights.size + 1, np.nan)
    return np.append(-log_p.mean(axis=1), -mix(log_p, weights).mean())


class _Problem(NamedTuple):
    """Tokens that tell experts apart, and how many each expert is responsible for beside them.

    ``p`` is divided by its largest entry of each column, which changes the objective by a constant.
    """

    p: Float64
    prior: Float64
    n_tokens: float

    @classmethod
    def of(cls, log_p: Float64, prior: Float64) -> _Problem:
        largest = log_p.max(axis=0, initial=-np.inf)
        possible = largest > -np.inf  # a token that no expert thinks possible tells nothing
        p = np.exp(log_p[:, possible] - largest[possible])
        return cls(p, prior, p.shape[1] + float(prior.sum()))

    def value(self, w: Float64) -> float:
        """The objective, nats per token; -inf where a token has no probability."""
        with np.errstate(divide="ignore"):
            held = self.prior > 0
            total = np.log(self._mixed(w)).sum() + (self.prior[held] * np.log(w[held])).sum()
        return float(total / self.n_tokens)

    def _mixed(self, w: Float64) -> Float64:
        # einsum and not a product of BLAS, whose sums depend on the number of threads
        mixed: Float64 = np.einsum("i,im->m", w, self.p)
        return mixed

    def derivatives(self, w: Float64) -> tuple[Float64, Float64]:
        """Gradient g and negative Hessian H; H w = g."""
        ratios = self.p / self._mixed(w)
        counts = np.divide(self.prior, w, out=np.zeros_like(w), where=self.prior > 0)
        gradient = ratios.sum(axis=1) + counts
        curvature = np.einsum("im,jm->ij", ratios, ratios)
        curvature += np.diag(np.divide(counts, w, out=np.zeros_like(w), where=self.prior > 0))
        return gradient / self.n_tokens, curvature / self.n_tokens

    def optimum(self) -> Float64:
        """The weights that maximise the objective."""
        w = np.full(len(self.p), 1 / len(self.p))
        value = self.value(w)
        for _ in range(MOST_STEPS):
            gradient, curvature = self.derivatives(w)
            if gradient.max() - 1 <= TOLERANCE:
                break
            better = self._newton(w, value, gradient, curvature)
            if better is None:
                better = w * gradient / (w * gradient).sum()  # a step of EM
            found = self.value(better)
            if not found > value:  # as good as the precision allows
                break
            w, value = better, found
        return self._alone(value, w)

    def _newton(self, w: Float64, value: float, gradient: Float64, curvature: Float64) -> Float64 | None:
        """A step that pays at least a little of what its slope promises; None if there is none."""
        target = _quadratic_optimum(curvature, 2 * gradient - 1)
        if target is None:
            return None
        direction = target - w
        slope = float(gradient @ direction)
        for halving in range(HALVINGS):
            size = 0.5**halving
            tried = w + size * direction if halving else target
            if self.value(tried) >= value + 1e-4 * size * slope and slope > 0:
                return tried
        return None

    def _alone(self, value: float, w: Float64) -> Float64:
        """The best expert alone, unless the mixture is better."""
        each = np.eye(len(w))
        alone = [self.value(one) for one in each]
        best = int(np.argmax(alone))
        return each[best] if alone[best] >= value else w


def _quadratic_optimum(curvature: Float64, linear: Float64) -> Float64 | None:
    """The maximum over y >= 0 of ``linear y - y curvature y / 2``, divided by its sum; None if there is none."""
    from scipy.optimize import nnls  # which takes long to import

    ridge = RIDGE * max(float(np.diag(curvature).max()), 1e-300) * len(linear)
    try:
        lower = np.linalg.cholesky(curvature + ridge * np.eye(len(linear)))
        y: Float64 = nnls(lower.T, np.linalg.solve(lower, linear))[0]
    except (np.linalg.LinAlgError, RuntimeError):
        return None
    return y / y.sum() if 0 < y.sum() < np.inf else None

"""Newton's method for the few scalars of an explicit solution, on a convex loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.utils.arrays import Array, Float64

Evaluation = tuple[float, Float64 | None, Float64 | None]


def newton(
    evaluate: Callable[[Float64, bool], Evaluation],
    theta: ArrayLike,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 20,
    trust: float = 0.0,
    on_step: Callable[[int, Float64, float], None] | None = None,
) -> Float64:
    """Minimise a smooth convex function of a few scalars by damped Newton steps.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(theta, derivatives)`` returns (value, gradient, Hessian); the last two may be None unless
        ``derivatives`` is true.
    theta : array_like, shape (P,)
        Where to start; the value there must be finite.
    tolerance : float
        Stop when a step promises a decrease of the value below this (in its units: nats for a loss).
    max_steps : int
        Stop after so many steps in any case.
    trust : float
        Take a last step without a look at the value there if it promises a decrease of at most this: near the optimum a
        quadratic is right, and an evaluation saved.
    on_step : callable, optional
        Called as ``on_step(step, theta, value)`` after each step.

    Returns
    -------
    ndarray of float64, shape (P,)
        The best point found: the value never rises from step to step, but for a last one that is trusted.

    Notes
    -----
    A ridge of 1e-9 of the largest curvature is added to the Hessian, so that a scalar on which the value does not
    depend stays where it is. A step is halved until the value falls by at least 1e-4 of what its slope promises.

    Examples
    --------
    >>> def evaluate(theta, derivatives):
    ...     return float((theta @ theta - 2 * theta).sum()), 2 * theta - 2, 2 * np.eye(1)
    >>> newton(evaluate, [5.0]).tolist()
    [1.0]
    """
    point: Float64 = np.array(theta, np.float64)
    value, gradient, hessian = evaluate(point, True)
    for step in range(1, max_steps + 1):
        assert gradient is not None
        assert hessian is not None
        largest = float(np.max(np.diag(hessian), initial=0.0))
        if not largest > 0:
            break
        direction = np.linalg.solve(hessian + 1e-9 * largest * np.eye(point.size), -gradient)
        promise = -float(gradient @ direction)
        if not promise > 0:
            break
        last = promise / 2 <= tolerance
        if last and promise / 2 <= trust:
            point, value = point + direction, value - promise / 2
            if on_step is not None:
                on_step(step, point, value)
            break
        found = _backtrack(evaluate, point, value, direction, promise, not last)
        if found is None:
            break
        point, (value, gradient, hessian) = found
        if on_step is not None:
            on_step(step, point, value)
        if last:
            break
    return point


def _backtrack(
    evaluate: Callable[[Float64, bool], Evaluation],
    theta: Float64,
    value: float,
    direction: Array,
    promise: float,
    derivatives: bool,
) -> tuple[Float64, Evaluation] | None:
    """The first of the steps 1, 1/2, 1/4 .. that lowers the value enough, or None."""
    length = 1.0
    while length > 1e-9:
        candidate = theta + length * direction
        # The full step is nearly always right, so it is evaluated once, with all that the next step needs.
        evaluation = evaluate(candidate, derivatives and length == 1.0)
        if evaluation[0] <= value - 1e-4 * length * promise:
            return candidate, evaluate(candidate, True) if derivatives and length < 1.0 else evaluation
        length /= 2
    return None


def primed_loss(
    groups: list[Float64], targets: Array, weights: Float64 | None, n_threads: int
) -> Callable[[Float64, bool], Evaluation]:
    """Mean cross-entropy of ``softmax(sum_f theta_f groups[f])``, with derivatives by theta, for ``newton``.

    Parameters
    ----------
    groups : list of P ndarrays of float64, shape (M, N)
        The contribution of each group of features to the logits.
    targets : ndarray
        Class numbers, int32 (M,), or soft targets, float64 (M, N).
    weights : ndarray of float64, shape (M,), optional
        A weight for each row.
    n_threads : int
        Threads of the kernels.

    Returns
    -------
    callable
        ``evaluate(theta, derivatives)``: gradient_f = mean (E_p[x_f] - x_f(y)), Hessian_fg = mean Cov_p(x_f, x_g).
    """
    n_rows, soft = groups[0].shape[0], targets.ndim == 2
    share = np.full(n_rows, 1.0 / n_rows) if weights is None else weights / weights.sum()
    at_target = np.array([np.einsum("mi,mi->m", x, targets) if soft else x[np.arange(n_rows), targets] for x in groups])
    observed = at_target @ share

    def evaluate(theta: Float64, derivatives: bool) -> Evaluation:
        logits = theta[0] * groups[0]
        for scalar, group in zip(theta[1:], groups[1:], strict=True):
            logits += scalar * group
        loss = (
            _core.cross_entropy_soft(logits, targets, n_threads)
            if soft
            else _core.cross_entropy_labels(logits, targets, n_threads)
        )
        value = float(loss @ share)
        if not derivatives:
            return value, None, None
        p = _core.softmax(logits, False, n_threads)
        weighted = [p * x for x in groups]
        expected = np.array([x.sum(axis=1) for x in weighted])
        second = np.array([[float(np.einsum("mi,mi,m->", a, b, share)) for b in groups] for a in weighted])
        return value, expected @ share - observed, second - (expected * share) @ expected.T

    return evaluate

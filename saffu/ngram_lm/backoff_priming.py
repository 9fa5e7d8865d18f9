"""Priming of a back-off model: scalars that are the same at every position, so that the model stays one of back-off.

The weights are those of modified Kneser-Ney, continuation counts and all, and the scalars start from the point where
the pooled model *is* Kneser-Ney: 0 for the unigram, 1 for the continuation unigram and for every suffix. From there
they are fitted to text that is left out of the counts in turn, as in :mod:`saffu.ngram_lm.priming`, with the same ridge
towards the start. The criterion never rises on the way, so on the text it is fitted to the model is never worse
than Kneser-Ney.

What is left out at a time are stretches of text whose neighbourhood stays counted, so that trust in counts seems to pay
more than it does in new text. Therefore no suffix is trusted more than Kneser-Ney trusts it: its scalar hardly goes
above one. And a gain below a thousandth of a nat per token, less than texts differ by, is not taken at all.

One thing more differs. Where all occurrences of a type lie in the text that is left out, the model that is left gives
it next to nothing, 1e-10, as textbook Kneser-Ney does. Types of a vocabulary are never met like that at use: each has
been counted. Such positions are left out of the fit, which would otherwise flatten the unigrams to pay for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saffu.explicit.newton import newton
from saffu.ngram_lm.priming import STRENGTH, Part
from saffu.utils.arrays import Float64

TOLERANCE = 1e-5  # nats per token
ABOVE_ONE = 10.0  # nats per token, twice, by which the scalar of a suffix pays that is 2
LEAST_GAIN = 1e-3  # nats per token


def start(n_suffixes: int) -> Float64:
    """The scalars of Kneser-Ney: alpha, beta, lambda of each suffix, and of induction, which the model has not."""
    return np.array([0.0, 1.0, *[1.0] * n_suffixes, 1.0])


def prime(parts: Sequence[Part], n_suffixes: int, on_step: Callable[[], object] = lambda: None) -> Float64:
    """Fit one set of scalars.

    Parameters
    ----------
    parts : sequence of Part
        Positions under models that have not counted them.
    n_suffixes : int
        Lengths of suffixes that the model has.
    on_step : callable
        Called after each Newton step.

    Returns
    -------
    ndarray of float64, shape (1, 2 + n_features)
        Those of Kneser-Ney where there is nothing to fit to, or nothing to gain.
    """
    used = [part for part in map(of_counted_types, parts) if part.positions.size]
    first = start(n_suffixes)
    if not used:
        return first[None]
    n = sum(part.positions.size for part in used)
    batches = [(part.model, _batch(part)) for part in used]
    ridge, is_suffix = STRENGTH / n, np.arange(first.size) >= 2

    def evaluate(theta: Float64, derivatives: bool) -> tuple[float, Float64, Float64]:
        away = theta - first
        above = np.where(is_suffix, np.maximum(theta - 1.0, 0.0), 0.0)
        value = ridge / 2 * float(away @ away) + ABOVE_ONE / 2 * float(above @ above)
        gradient = ridge * away + ABOVE_ONE * above
        hessian = ridge * np.eye(theta.size) + ABOVE_ONE * np.diag((above > 0).astype(np.float64))
        for model, batch in batches:
            threads = model.weights.n_threads
            log_prob, slope, curvature = model.pool(theta[None]).derivatives(batch, derivatives, threads)
            value -= float(log_prob.sum()) / n
            gradient = gradient + slope.ravel() / n
            if curvature is not None:
                hessian += curvature[0] / n
        return value if np.isfinite(value) else np.inf, gradient, hessian

    def step(*_: object) -> None:
        on_step()

    found = newton(evaluate, first, tolerance=TOLERANCE, on_step=step)
    gain = evaluate(first, False)[0] - evaluate(found, False)[0]
    return (found if gain >= LEAST_GAIN else first)[None]


def _batch(part: Part) -> Any:
    states = part.model.states(part.rows)
    return part.model.batch(part.stream, part.positions, part.rows, states, part.target_u)


def of_counted_types(part: Part) -> Part:
    """The positions whose type the model of the part has counted at all."""
    weights = part.model.weights
    counted = np.zeros(weights.vocab_size, bool)
    nearest = weights.distance[0].counts
    counted[nearest.indices[nearest.data > 0]] = True
    kept = np.flatnonzero(counted[part.stream.ids[part.positions]])
    return part._replace(
        positions=part.positions[kept],
        rows=np.ascontiguousarray(part.rows[:, kept]),
        target_u=np.ascontiguousarray(part.target_u[:, kept]),
        keys=part.keys[kept],
    )

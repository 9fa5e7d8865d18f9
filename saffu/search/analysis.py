"""What results show: Pareto fronts, and the effects of the hyper-parameters.

Effects are fitted to the logarithm of the perplexity by least squares, one coefficient for each value of each
hyper-parameter, with sum zero over its values: what a value does with all others held equal, in percent. A
hyper-parameter that an architecture does not have (the width of an absent context) contributes nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from saffu.search.architectures import NAMES, codes, levels
from saffu.search.results import OUTCOMES, PERPLEXITY, Result, column, ranked
from saffu.utils.arrays import Float64, Int64

_FEWEST_PER_COEFFICIENT = 1.5  # results that each coefficient of the effects needs


def pareto_front(cost: ArrayLike, perplexity: ArrayLike) -> Int64:
    """Which models no other one beats at the same cost or less.

    Parameters
    ----------
    cost, perplexity : array_like of float, shape (N,)

    Returns
    -------
    ndarray of int64
        Their places, by ascending cost and descending perplexity. Of equal models the first.

    Examples
    --------
    >>> pareto_front([1, 2, 3, 4], [9.0, 9.5, 7.0, 8.0]).tolist()
    [0, 2]
    """
    cost, perplexity = np.asarray(cost, np.float64), np.asarray(perplexity, np.float64)
    order = np.lexsort((perplexity, cost))
    before = np.minimum.accumulate(np.append(np.inf, perplexity[order]))[:-1]
    return order[perplexity[order] < before].astype(np.int64)


class Effect(NamedTuple):
    """What one value of a hyper-parameter does, all others held equal.

    Attributes
    ----------
    name, value
        Hyper-parameter and value.
    n_models : int
        How many results have it.
    perplexity : float
        Geometric mean over those.
    effect, margin : float
        Difference from the mean over the values of the hyper-parameter in the logarithm of perplexity, and half the
        width of its 95 % interval (NaN where there are too few results to tell).
    parameters, seconds : float
        The same in the logarithms of the number of parameters and of the seconds of solving.
    """

    name: str
    value: Any
    n_models: int
    perplexity: float
    effect: float
    margin: float
    parameters: float
    seconds: float


def effects(results: Sequence[Result]) -> list[Effect]:
    """The effect of each value of each hyper-parameter that varies.

    Parameters
    ----------
    results : sequence of Result
        With a perplexity.

    Returns
    -------
    list of Effect
        Empty where there are too few results for the number of coefficients.

    Examples
    --------
    >>> from saffu.search.architectures import product
    >>> grid = product({"bits": [16, 32, 64], "layers": [1, 2]})
    >>> found = effects([Result(item, 100, 80.0 / item.layers, 1.0) for item in grid])
    >>> [(effect.name, effect.value, round(float(effect.effect), 3)) for effect in found if effect.name == "layers"]
    [('layers', 1, 0.347), ('layers', 2, -0.347)]
    """
    fit = _Fit(results)
    return fit.effects() if fit.is_enough else []


def shares(results: Sequence[Result]) -> dict[str, float]:
    """For each hyper-parameter that varies, the share of the variance of log perplexity lost without it."""
    fit = _Fit(results)
    return fit.shares() if fit.is_enough else {}


class _Fit:
    """Least squares of log perplexity, log parameters and log seconds on the values of the hyper-parameters."""

    def __init__(self, results: Sequence[Result]) -> None:
        architectures = [result.architecture for result in results]
        values = {name: levels(architectures, name) for name in NAMES}
        self.values = {name: some for name, some in values.items() if len(some) > 1}
        self.codes = {name: codes(architectures, name) for name in self.values}
        blocks = [np.ones((len(results), 1))]
        self.columns: dict[str, slice] = {}
        for name, some in self.values.items():
            first = sum(block.shape[1] for block in blocks)
            self.columns[name] = slice(first, first + len(some) - 1)
            blocks.append(_contrasts(len(some))[self.codes[name]])
        self.design = np.hstack(blocks)
        outcomes = [column(results, name) for name in OUTCOMES]
        self.outcomes = np.log(np.maximum(np.stack(outcomes, axis=1), 1e-9)) if results else np.empty((0, 3))

    @property
    def is_enough(self) -> bool:
        return bool(self.values) and len(self.outcomes) >= _FEWEST_PER_COEFFICIENT * self.design.shape[1]

    def effects(self) -> list[Effect]:
        inverse = np.linalg.pinv(self.design)
        coefficients = inverse @ self.outcomes
        freedom = len(self.outcomes) - np.linalg.matrix_rank(self.design)
        residual = self.outcomes[:, PERPLEXITY] - self.design @ coefficients[:, PERPLEXITY]
        variance = residual @ residual / freedom if freedom > 0 else math.nan
        covariance = variance * (inverse @ inverse.T)
        found = []
        for name, values in self.values.items():
            contrasts, place = _contrasts(len(values))[:-1], self.columns[name]
            effect = contrasts @ coefficients[place]
            variances = np.diag(contrasts @ covariance[place, place] @ contrasts.T)
            margin = stdtrit(max(freedom, 1), 0.975) * np.sqrt(variances)
            for code, value in enumerate(values):
                chosen = self.outcomes[self.codes[name] == code, PERPLEXITY]
                mean = float(np.exp(chosen.mean()))
                parameters, seconds, perplexity = effect[code]
                found.append(Effect(name, value, chosen.size, mean, perplexity, margin[code], parameters, seconds))
        return found

    def shares(self) -> dict[str, float]:
        total = float(((self.outcomes[:, PERPLEXITY] - self.outcomes[:, PERPLEXITY].mean()) ** 2).sum())
        full = self._error(self.design)
        lost = {name: self._error(np.delete(self.design, place, 1)) - full for name, place in self.columns.items()}
        return {name: max(value, 0.0) / total if total > 0 else 0.0 for name, value in lost.items()}

    def _error(self, design: Float64) -> float:
        outcome = self.outcomes[:, PERPLEXITY]
        residual = outcome - design @ (np.linalg.pinv(design) @ outcome)
        return float(residual @ residual)


def _contrasts(n: int) -> Float64:
    """Rows of n values with sum zero, of n - 1 columns; one more row, which index -1 reaches, for none: zero."""
    return np.vstack([np.eye(n - 1), -np.ones((1, n - 1)), np.zeros((1, n - 1))])


def best_within(results: Sequence[Result], budget: float) -> Result | None:
    """The best of the models with at most so many parameters."""
    within = [result for result in results if result.perplexity is not None and (result.n_parameters or 0) <= budget]
    return ranked(within)[0] if within else None

"""What is known of each architecture: a result, or how it failed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from saffu.search.architectures import Architecture
from saffu.utils.arrays import Float64

OUTCOMES = ("n_parameters", "seconds_solve", "perplexity")  # figures that every solved model has
PERPLEXITY = OUTCOMES.index("perplexity")
KINDS = {None: "all", False: "compact", True: "residual"}


@dataclass(frozen=True)
class Refined:
    """What further training made of a model; either a perplexity or an error."""

    epochs: int
    perplexity: float | None = None
    seconds: float | None = None
    file: str = ""
    peak_megabytes: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Result:
    """What is known of an architecture; either a perplexity or an error.

    Attributes
    ----------
    architecture : Architecture
    n_parameters : int or None
    perplexity : float or None
        Of the held-out text, per token.
    seconds_solve, seconds_score : float or None
    peak_megabytes : float or None
        The most memory that the process had until then.
    error : str
    refined : Refined or None
    """

    architecture: Architecture
    n_parameters: int | None = None
    perplexity: float | None = None
    seconds_solve: float | None = None
    seconds_score: float | None = None
    peak_megabytes: float | None = None
    error: str = ""
    refined: Refined | None = None

    def with_refined(self, refined: Refined) -> Result:
        """Return the same result with what refinement found."""
        return replace(self, refined=refined)


def ranked(results: Iterable[Result]) -> list[Result]:
    """Results by perplexity, then by name; failures last.

    Examples
    --------
    >>> some = [Result(Architecture(), error="no memory"), *(Result(Architecture(), perplexity=p) for p in (9.0, 8.0))]
    >>> [result.perplexity for result in ranked(some)]
    [8.0, 9.0, None]
    """

    def rank(result: Result) -> tuple[float, str]:
        return (math.inf if result.perplexity is None else result.perplexity, result.architecture.key)

    return sorted(results, key=rank)


def column(results: Iterable[Result | Refined], name: str) -> Float64:
    """An attribute of each result as a float, NaN where there is none."""
    return np.array([getattr(result, name) for result in results], np.float64)


def of_kind(results: Iterable[Result], residual: bool | None) -> list[Result]:
    """Results with a perplexity; only those with or without a residual base, unless None."""
    return [
        result
        for result in results
        if result.perplexity is not None and residual in (None, result.architecture.residual)
    ]

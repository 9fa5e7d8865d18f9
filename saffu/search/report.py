"""What a roadmap shows: a table of all results, Pareto fronts, effects of the hyper-parameters, a written summary.

Effects are fitted to the logarithm of the perplexity by least squares, one coefficient for each value of each
hyper-parameter, with sum zero over its values: what a value does with all others held equal, in percent. A
hyper-parameter that an architecture does not have (the width of an absent context) contributes nothing there.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from saffu.search import architectures as grid
from saffu.search import figures as plot
from saffu.search.architectures import Architecture
from saffu.utils.arrays import Float64, Int64
from saffu.utils.checkpoint import replacing

TABLE, SUMMARY, FIGURE = "results.csv", "summary.md", "figure.png"
BUDGETS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
BEST = 10  # models in the summary's first table
OUTCOMES = ("n_parameters", "seconds_solve", "perplexity")  # figures that every solved model has
PERPLEXITY = OUTCOMES.index("perplexity")
KINDS = {None: "all", False: "compact", True: "residual"}
_FEWEST_PER_COEFFICIENT = 1.5  # results that each coefficient of the effects needs


# ---- results ---------------------------------------------------------------------------------------------------------


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
    """Results by perplexity, then by name; failures last."""

    def rank(result: Result) -> tuple[float, str]:
        return (math.inf if result.perplexity is None else result.perplexity, result.architecture.key)

    return sorted(results, key=rank)


def column(results: Iterable[Result | Refined], name: str) -> Float64:
    """An attribute of each result as a float, NaN where there is none."""
    return np.array([getattr(result, name) for result in results], np.float64)


def of_kind(results: Iterable[Result], residual: bool | None) -> list[Result]:
    """Results with a perplexity; only those with or without an explicit model beneath, unless None."""
    return [
        result
        for result in results
        if result.perplexity is not None and residual in (None, result.architecture.residual)
    ]


# ---- analysis --------------------------------------------------------------------------------------------------------


def pareto_front(cost: ArrayLike, perplexity: ArrayLike) -> Int64:
    """Which models no other one beats at the same cost or less.

    Parameters
    ----------
    cost, perplexity : array_like of float, shape (N,)

    Returns
    -------
    ndarray of int64
        Their places, by ascending cost and descending perplexity. Of equal models the first.
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
        values = {name: grid.levels(architectures, name) for name in grid.NAMES}
        self.values = {name: some for name, some in values.items() if len(some) > 1}
        self.codes = {name: grid.codes(architectures, name) for name in self.values}
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


# ---- files -----------------------------------------------------------------------------------------------------------


def write(
    out: str, results: Sequence[Result], facts: Mapping[str, Any], n_pending: int = 0
) -> tuple[list[str], list[str]]:
    """Write the table, the figure and the summary into a folder, each whole or not at all.

    Parameters
    ----------
    out : str
    results : sequence of Result
    facts : mapping
        ``tokens``, ``held_out_tokens``, ``types``, ``unigram_perplexity`` and ``seconds_shared``.
    n_pending : int
        How many architectures are still to be tried.

    Returns
    -------
    files : list of str
        What was written.
    notes : list of str
        What the user should know.
    """
    results = ranked(results)
    files, notes = [TABLE, SUMMARY], []
    _write(out, TABLE, _csv(results, facts).encode())
    if of_kind(results, None):
        try:
            figure = draw(results, facts["unigram_perplexity"])
        except ImportError as error:
            notes.append(str(error))
        else:
            _write(out, FIGURE, figure)
            files.append(FIGURE)
    _write(out, SUMMARY, summary(results, facts, n_pending, FIGURE in files).encode())
    return [os.path.join(out, name) for name in files], notes


def draw(results: Sequence[Result], unigram_perplexity: float) -> bytes:
    """Draw perplexity against parameters and against seconds, with the Pareto fronts.

    Returns
    -------
    bytes
        A PNG file.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message names the extra that installs it.
    """
    series = []
    for residual in (False, True):
        some = of_kind(results, residual)
        if some:
            parameters, seconds, perplexity = (column(some, name) for name in OUTCOMES)
            refined = [result.refined or Refined(0) for result in some]
            later = column(refined, "perplexity"), seconds + column(refined, "seconds")
            series.append(plot.Series(KINDS[residual], parameters, seconds, perplexity, *later))
    return plot.png(plot.pareto(series, unigram_perplexity, pareto_front))


def _write(out: str, name: str, content: bytes) -> None:
    with replacing(os.path.join(out, name)) as temporary, open(temporary, "wb") as file:
        file.write(content)


def _csv(results: Sequence[Result], facts: Mapping[str, Any]) -> str:
    solved = of_kind(results, None)
    perplexity = column(solved, "perplexity")
    fronts = {
        name: {solved[place].architecture for place in pareto_front(column(solved, source), perplexity)}
        for name, source in (("pareto_parameters", "n_parameters"), ("pareto_seconds", "seconds_solve"))
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_row(Result(Architecture()), facts, fronts)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(result, facts, fronts) for result in results)
    return text.getvalue()


def _row(result: Result, facts: Mapping[str, Any], fronts: Mapping[str, set[Architecture]]) -> dict[str, Any]:
    """A line of the table by column; None is left empty."""
    refined = result.refined or Refined(0)
    row = result.architecture.to_dict()
    row |= {"contexts": "+".join(row["contexts"]), "residual": int(row["residual"])}
    row |= {"n_parameters": result.n_parameters, "train_tokens": facts["tokens"], "types": facts["types"]}
    row |= {"held_out_tokens": facts["held_out_tokens"], "unigram_perplexity": facts["unigram_perplexity"]}
    row |= {name: getattr(result, name) for name in ("perplexity", "seconds_solve", "seconds_score")}
    row |= {"refined_perplexity": refined.perplexity, "refined_epochs": refined.epochs or None}
    row |= {"seconds_refine": refined.seconds, "refined_file": refined.file}
    row |= {name: int(result.architecture in front) for name, front in fronts.items()}
    return row | {"peak_megabytes": result.peak_megabytes, "error": result.error or refined.error}


# ---- the summary -----------------------------------------------------------------------------------------------------


def summary(results: Sequence[Result], facts: Mapping[str, Any], n_pending: int = 0, has_figure: bool = False) -> str:
    """Describe the results in Markdown: the best per budget, Pareto front, size, and effects.

    Parameters
    ----------
    results, facts, n_pending
        As in :func:`write`.
    has_figure : bool
        Whether there is a figure to show.

    Returns
    -------
    str
    """
    results = ranked(results)
    solved = of_kind(results, None)
    parts = ["# Roadmap", _opening(results, facts, n_pending)]
    if solved:
        parts += ["## Best models", _best_table(solved[:BEST])]
        parts += ["## Best model for each number of parameters", _budget_table(solved)]
        parts += ["## Is the best the largest?", *_size_paragraphs(solved)]
        parts += [f"![Perplexity against parameters and against seconds]({FIGURE})"] * has_figure
        parts += ["## Pareto front: parameters", _front_table(solved, "n_parameters")]
        parts += ["## Pareto front: seconds of solving", _front_table(solved, "seconds_solve")]
        parts += ["## What each hyper-parameter does", *_effect_parts(solved)]
    failures = [result for result in results if result.error or (result.refined and result.refined.error)]
    if failures:
        parts += ["## Failures", _failure_table(failures)]
    return "\n\n".join(parts) + "\n"


def _opening(results: Sequence[Result], facts: Mapping[str, Any], n_pending: int) -> str:
    n_failed = sum(bool(result.error) for result in results)
    refined = [result.refined for result in results if result.refined]
    seconds = [facts["seconds_shared"], *(one.seconds for one in refined)]
    seconds += [value for result in results for value in (result.seconds_solve, result.seconds_score)]
    peaks = [one.peak_megabytes for some in (results, refined) for one in some if one.peak_megabytes]
    text = (
        f"{len(results)} architectures, each solved on the same {facts['tokens']:,} tokens ({facts['types']:,} types) "
        f"and scored on {facts['held_out_tokens']:,} held-out tokens, which no model has seen. Unigram perplexity "
        f"{facts['unigram_perplexity']:.1f}. The work took {sum(filter(None, seconds)) / 60:.1f} minutes, "
        f"{facts['seconds_shared']:.1f} s of them for what all have in common"
    )
    text += f", and at most {max(peaks) / 1e3:.1f} GB of memory." if peaks else "."
    if n_failed:
        text += f" {n_failed} failed."
    if n_pending:
        text += f" **Not complete: {n_pending} are still to be done; the same command goes on.**"
    return text


def _best_table(results: Sequence[Result]) -> str:
    rows = [[str(place), *_cells(result)] for place, result in enumerate(results, 1)]
    return _table(["", *_CELL_NAMES], rows)


def _budget_table(solved: Sequence[Result]) -> str:
    """One row for each budget that any model keeps to; of compact and residual models each."""
    kinds = [residual for residual in (False, True) if of_kind(solved, residual)]
    rows = []
    for budget in (*BUDGETS, math.inf):
        for residual in kinds:
            best = best_within(of_kind(solved, residual), budget)
            if best is not None:
                label = f"<= {budget:,}" if budget < math.inf else "any"
                rows.append([label, KINDS[residual], *_cells(best)])
    return _table(["parameters", "kind", "best model", *_CELL_NAMES[1:]], rows)


_CELL_NAMES = ["model", "parameters", "perplexity", "s to solve", "refined", "s to refine"]


def _cells(result: Result) -> list[str]:
    refined = result.refined or Refined(0)
    return [
        str(result.architecture),
        f"{result.n_parameters:,}",
        f"{result.perplexity:.1f}",
        f"{result.seconds_solve:.2f}",
        _or_dash(refined.perplexity),
        _or_dash(refined.seconds),
    ]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _front_table(solved: Sequence[Result], cost: str) -> str:
    rows = []
    for residual in (False, True):
        some = of_kind(solved, residual)
        front = pareto_front(column(some, cost), column(some, "perplexity"))
        rows += [[KINDS[residual], *_cells(some[place])] for place in front]
    return _table(["kind", *_CELL_NAMES], rows)


def _size_paragraphs(solved: Sequence[Result]) -> list[str]:
    kinds = [residual for residual in (False, True) if of_kind(solved, residual)]
    return [_size_paragraph(of_kind(solved, residual), KINDS[residual]) for residual in kinds]


def _size_paragraph(solved: Sequence[Result], kind: str) -> str:
    parameters, perplexity = column(solved, "n_parameters"), column(solved, "perplexity")
    best, largest = solved[0], solved[int(parameters.argmax())]
    n_larger = int((parameters > parameters[0]).sum())
    text = f"Among {len(solved)} {kind} models: "
    if n_larger == 0:
        text += f"yes, no other has more parameters than the best, {parameters[0]:,.0f}."
    else:
        text += (
            f"no. The best ({best.architecture}) has {parameters[0]:,.0f} parameters and perplexity "
            f"{perplexity[0]:.1f}; larger and no better: {n_larger}. The largest ({largest.architecture}) has "
            f"{largest.n_parameters:,} and {largest.perplexity:.1f}."
        )
    share = _share_of_larger(parameters, perplexity)
    if not math.isnan(share):
        text += f" Of two that differ in size, the larger is the better one in {share:.0%} of all pairs."
    return text


def _share_of_larger(parameters: Float64, perplexity: Float64) -> float:
    """Of all pairs that differ in size, the share in which the larger model has the lower perplexity."""
    larger = parameters[:, None] > parameters
    better = perplexity[:, None] < perplexity
    return float(better[larger].mean()) if larger.any() else math.nan


def _effect_parts(solved: Sequence[Result]) -> list[str]:
    fits = {kind: effects(of_kind(solved, residual)) for residual, kind in KINDS.items()}
    if not fits["all"]:
        return ["Too few results to tell."]
    if not (fits["compact"] and fits["residual"]):
        fits = {"all": fits["all"]}
    found = {kind: {(effect.name, effect.value): effect for effect in fit} for kind, fit in fits.items()}
    rows = []
    for effect in fits["all"]:
        value = "+".join(effect.value) if effect.name == "contexts" else str(effect.value).replace("False", "no")
        row = [effect.name, value.replace("True", "yes"), str(effect.n_models), f"{effect.perplexity:.1f}"]
        row += [_percent(some.get((effect.name, effect.value))) for some in found.values()]
        rows.append([*row, f"x {math.exp(effect.parameters):.2f}", f"x {math.exp(effect.seconds):.2f}"])
    several = len(fits) > 1
    heads = [f"effect, {kind}" for kind in fits] if several else ["effect"]
    parts = [
        "Least squares on the logarithm of perplexity, one coefficient for each value: the effect of a value against "
        "the mean over the values of its hyper-parameter, all others held equal, with its 95 % interval. Below zero is "
        "better. The last columns are the same for parameters and seconds; *mean* is the plain geometric mean.",
        _table(["hyper-parameter", "value", "models", "mean", *heads, "parameters", "seconds"], rows),
    ]
    share = {kind: shares(of_kind(solved, residual)) for residual, kind in KINDS.items() if kind in fits}
    names = sorted(share["all"], key=lambda name: -share["all"][name])
    rows = [[name, *(f"{some[name]:.1%}" if name in some else "-" for some in share.values())] for name in names]
    parts += ["Share of the variance of log perplexity that is lost without a hyper-parameter:"]
    return [*parts, _table(["hyper-parameter", *(share if several else ["share"])], rows)]


def _percent(effect: Effect | None) -> str:
    """A difference of logarithms as a percentage with its margin."""
    if effect is None:
        return "-"
    margin = "" if math.isnan(effect.margin) else f" ± {100 * math.exp(effect.effect) * effect.margin:.1f}"
    return f"{100 * math.expm1(effect.effect):+.1f}{margin} %"


def _failure_table(failures: Sequence[Result]) -> str:
    rows = []
    for result in failures:
        what = result.error or (result.refined.error if result.refined else "")
        rows.append([str(result.architecture), "solve" if result.error else "refine", what.replace("|", "\\|")])
    return _table(["model", "stage", "error"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

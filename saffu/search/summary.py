"""A roadmap described in Markdown: the best models, Pareto fronts, size, and effects of the hyper-parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from saffu.search.analysis import Effect, best_within, effects, pareto_front, shares
from saffu.search.results import KINDS, Refined, Result, column, of_kind, ranked
from saffu.utils.arrays import Float64

BUDGETS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
BEST = 10  # models in the first table


def markdown(results: Sequence[Result], facts: Mapping[str, Any], n_pending: int = 0, figure: str = "") -> str:
    """Describe the results in Markdown: the best per budget, Pareto front, size, and effects.

    Parameters
    ----------
    results, facts, n_pending
        As in :func:`saffu.search.report.write`.
    figure : str
        The file of a figure to show, if there is one.

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
        parts += [f"![Perplexity against parameters and against seconds]({figure})"] * bool(figure)
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
    rows = [[str(place), *_row(result)] for place, result in enumerate(results, 1)]
    return _table(["", *_COLUMNS], rows)


def _budget_table(solved: Sequence[Result]) -> str:
    """One row for each budget that any model keeps to; of compact and residual models each."""
    kinds = [residual for residual in (False, True) if of_kind(solved, residual)]
    rows = []
    for budget in (*BUDGETS, math.inf):
        for residual in kinds:
            best = best_within(of_kind(solved, residual), budget)
            if best is not None:
                label = f"<= {budget:,}" if budget < math.inf else "any"
                rows.append([label, KINDS[residual], *_row(best)])
    return _table(["parameters", "kind", "best model", *_COLUMNS[1:]], rows)


_COLUMNS = ["model", "parameters", "perplexity", "s to solve", "refined", "s to refine"]


def _row(result: Result) -> list[str]:
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
        rows += [[KINDS[residual], *_row(some[place])] for place in front]
    return _table(["kind", *_COLUMNS], rows)


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

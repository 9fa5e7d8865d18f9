"""The files that a roadmap writes: a table of all results, a figure, and a summary."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from saffu.search import figures
from saffu.search.analysis import pareto_front
from saffu.search.architectures import Architecture
from saffu.search.results import KINDS, OUTCOMES, Refined, Result, column, of_kind, ranked
from saffu.search.summary import markdown
from saffu.utils.checkpoint import replacing

TABLE, SUMMARY, FIGURE = "results.csv", "summary.md", "figure.png"


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
    _write(out, SUMMARY, markdown(results, facts, n_pending, FIGURE if FIGURE in files else "").encode())
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
            series.append(figures.Series(KINDS[residual], parameters, seconds, perplexity, *later))
    return figures.png(figures.pareto(series, unigram_perplexity, pareto_front))


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

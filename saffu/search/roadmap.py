"""A roadmap: many architectures of one language model, each solved on the same counts and scored on held-out text.

Every result is on the disk before the next architecture is begun, so a run that was stopped, or killed, goes on where
it was and ends with the same results.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from saffu.search import report, result_log
from saffu.search.architectures import Architecture, distinct
from saffu.search.result_log import ResultLog
from saffu.search.results import Refined, Result, ranked
from saffu.search.solving import Model, SaffuSolver, Solver
from saffu.search.text_split import Split
from saffu.utils import validate
from saffu.utils.progress import progress_bar

try:
    import resource
except ImportError:  # There is no such module on Windows.
    resource = None  # type: ignore[assignment]

RESULT_LOG, MODELS = "results.jsonl", "models"
FORMAT = 1


@dataclass(frozen=True)
class Effort:
    """How much work a roadmap may do.

    Attributes
    ----------
    refine : int
        How many of the best to train on by gradient steps. They are saved in the folder ``models``.
    epochs : int
        How many passes over the training text that takes.
    minutes : float, optional
        Begin nothing new after so much time. A later run goes on.
    retry : bool
        Try again what failed before.

    Raises
    ------
    ValueError, TypeError
        If a number is out of its range.
    """

    refine: int = 3
    epochs: int = 1
    minutes: float | None = None
    retry: bool = False

    def __post_init__(self) -> None:
        validate.integer(self.refine, "refine", 0, validate.INT32_MAX)
        validate.integer(self.epochs, "epochs", 1, validate.INT32_MAX)
        if self.minutes is not None:
            validate.positive(self.minutes, "minutes", or_zero=True)

    @property
    def seconds(self) -> float:
        """The time after which nothing new is begun."""
        return math.inf if self.minutes is None else 60 * self.minutes


class Roadmap(NamedTuple):
    """What a run has found.

    Attributes
    ----------
    results : list of Result
        Best first, failures last.
    n_pending : int
        How many architectures are still to be solved or refined, because the time was over.
    files : list of str
        The files that were written.
    notes : list of str
        What a user should know, such as how to get the figure.
    """

    results: list[Result]
    n_pending: int
    files: list[str]
    notes: list[str]


def outputs(out: str | os.PathLike[str]) -> list[str]:
    """The files in a folder that :func:`run` may write over."""
    models = os.path.join(out, MODELS)
    saved = sorted(os.listdir(models)) if os.path.isdir(models) else []
    names = [RESULT_LOG, report.TABLE, report.SUMMARY, report.FIGURE]
    return [os.path.join(out, name) for name in names] + [os.path.join(models, name) for name in [*saved, "new.saffu"]]


def check_free(out: str | os.PathLike[str]) -> None:
    """Raise OSError now if another process uses the folder, so that :func:`run` could not."""
    result_log.check_free(os.path.join(out, RESULT_LOG))


def run(
    split: Split,
    architectures: Iterable[Architecture],
    out: str | os.PathLike[str],
    *,
    effort: Effort | None = None,
    settings: Mapping[str, Any] | None = None,
    solver: Solver | None = None,
    progress: bool | None = None,
) -> Roadmap:
    """Solve and score architectures, refine the best, and write what came of it.

    The folder keeps every result. Called again with the same text, the run goes on with what is missing, and counts
    what other architectures were tried there as well.

    Parameters
    ----------
    split : Split
    architectures : iterable of Architecture
        In the order in which they are tried.
    out : str or path
        A folder, created if it is not there.
    effort : Effort, optional
        How much work to do.
    settings : mapping, optional
        What else the results depend on, as JSON can hold it; results of other settings are not mixed with these.
    solver : Solver, optional
        By default a :class:`saffu.search.solving.SaffuSolver`.
    progress : bool, optional
        Whether to show a bar on a terminal; by default if the work takes longer than half a second.

    Returns
    -------
    Roadmap

    Raises
    ------
    OSError
        If a file cannot be written, or another process uses the folder.
    ValueError
        If the folder holds results of another text or other settings.

    Notes
    -----
    An architecture that raises an exception is recorded with it and does not stop the others; what the solver's
    ``prepare`` raises does. ``KeyboardInterrupt`` leaves every file whole.
    """
    plan, effort = distinct(architectures), effort or Effort()
    if not plan:
        raise ValueError("architectures must name at least one")
    out = os.fspath(out)
    os.makedirs(out, exist_ok=True)
    header = {"format": FORMAT, **split.facts, **(settings or {})}
    with ResultLog(os.path.join(out, RESULT_LOG), header) as log:
        work = _Run(split, out, log, solver or SaffuSolver(), effort)
        n_pending = work.solve_all(plan, progress) or work.refine_best(progress)
        results = ranked(work.results.values())
        facts = split.facts | {"unigram_perplexity": split.unigram_perplexity, "seconds_shared": work.seconds_shared}
        files, notes = report.write(out, results, facts, n_pending)
        return Roadmap(results, n_pending, files, notes)


class _Run:
    """A run under way: the results so far, each on the disk as soon as it is known."""

    def __init__(self, split: Split, out: str, log: ResultLog, solver: Solver, effort: Effort) -> None:
        self.split, self.out, self.log, self.solver, self.effort = split, out, log, solver, effort
        self.deadline = time.monotonic() + effort.seconds
        self.results: dict[Architecture, Result] = {}
        self.seconds_shared: float = 0.0
        self._shared: list[Any] = []  # empty until it is needed
        for record in log.records:
            self._take(record)

    # ---- stages ------------------------------------------------------------------------------------------------------

    def solve_all(self, plan: Sequence[Architecture], progress: bool | None) -> int:
        """Solve what has no result yet; return how many were left for want of time."""
        done = {key for key, result in self.results.items() if not (self.effort.retry and result.error)}
        pending = [architecture for architecture in plan if architecture not in done]
        with progress_bar(len(plan), "solve", progress) as bar:
            bar.update(len(plan) - len(pending))
            for place, architecture in enumerate(pending):
                if time.monotonic() >= self.deadline:
                    return len(pending) - place
                self._record("solved", architecture, partial(self._scored, architecture))
                bar.update(1)
                bar.set_postfix_str(self._best())
        return 0

    def refine_best(self, progress: bool | None) -> int:
        """Refine the best that are not refined yet; return how many were left for want of time."""
        best = [result for result in ranked(self.results.values()) if not result.error][: self.effort.refine]
        pending = [result for result in best if not self._is_refined(result.refined)]
        with progress_bar(len(best), "refine", progress) as bar:
            bar.update(len(best) - len(pending))
            for place, result in enumerate(pending):
                if time.monotonic() >= self.deadline:
                    return len(pending) - place
                architecture = result.architecture
                self._record("refined", architecture, partial(self._refined, architecture), epochs=self.effort.epochs)
                bar.update(1)
        return 0

    # ---- one architecture --------------------------------------------------------------------------------------------

    def _scored(self, architecture: Architecture) -> dict[str, Any]:
        shared = self._share()
        began = time.perf_counter()
        model = self.solver.solve(architecture, self.split, shared)
        solved = time.perf_counter()
        perplexity = self._perplexity(model)
        return {
            "n_parameters": int(model.n_parameters),
            "perplexity": perplexity,
            "seconds_solve": solved - began,
            "seconds_score": time.perf_counter() - solved,
            "peak_megabytes": _peak_megabytes(),
        }

    def _refined(self, architecture: Architecture) -> dict[str, Any]:
        # Solved anew rather than kept: 250 models would not fit in memory, and solving takes seconds.
        model = self.solver.solve(architecture, self.split, self._share())
        began = time.perf_counter()
        text = self.split.train
        refined = model.refine(text.ids, documents=text.starts, epochs=self.effort.epochs)
        if isinstance(refined, type(model)):
            model = refined
        if getattr(model, "interrupted", False):  # A part of the epochs must not be taken for all of them.
            raise KeyboardInterrupt
        seconds = time.perf_counter() - began
        perplexity = self._perplexity(model)
        os.makedirs(os.path.join(self.out, MODELS), exist_ok=True)
        name = f"{MODELS}/{_file_name(architecture)}"
        model.save(os.path.join(self.out, name))
        return {"perplexity": perplexity, "seconds": seconds, "file": name, "peak_megabytes": _peak_megabytes()}

    def _is_refined(self, refined: Refined | None) -> bool:
        effort = self.effort
        return refined is not None and refined.epochs == effort.epochs and not (effort.retry and refined.error)

    def _perplexity(self, model: Model) -> float:
        text = self.split.held_out
        perplexity = float(model.perplexity(text.ids, documents=text.starts))
        if not math.isfinite(perplexity):
            raise ValueError(f"the perplexity of the held-out text is {perplexity}")
        return perplexity

    def _share(self) -> Any:
        if not self._shared:
            began = time.perf_counter()
            self._shared.append(self.solver.prepare(self.split))
            self._write({"shared": time.perf_counter() - began})
        return self._shared[0]

    # ---- records -----------------------------------------------------------------------------------------------------

    def _record(self, kind: str, architecture: Architecture, task: Callable[[], dict[str, Any]], **more: Any) -> None:
        """Do the task and write what it found, or how it failed."""
        self._share()  # A failure of what all have in common is one of the run, so it is not caught.
        try:
            found = task()
        except Exception as error:
            found = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        self._write({kind: architecture.to_dict(), **more, **found})

    def _write(self, record: dict[str, Any]) -> None:
        self.log.append(record)
        self._take(self.log.records[-1])

    def _take(self, record: dict[str, Any]) -> None:
        """Enter a record of the log into the results; a later one replaces an earlier one."""
        fields = dict(record)
        if "shared" in fields:
            self.seconds_shared = self.seconds_shared or fields["shared"]
        elif "solved" in fields:
            architecture = Architecture.from_dict(fields.pop("solved"))
            self.results[architecture] = Result(architecture, **fields)
        else:
            architecture = Architecture.from_dict(fields.pop("refined"))
            self.results[architecture] = self.results[architecture].with_refined(Refined(**fields))

    def _best(self) -> str:
        perplexities = [result.perplexity for result in self.results.values() if result.perplexity is not None]
        return f"best perplexity {min(perplexities):.1f}" if perplexities else ""


def _file_name(architecture: Architecture) -> str:
    return re.sub(r"[^0-9a-z]+", "-", str(architecture)) + ".saffu"


def _peak_megabytes() -> float | None:
    """The most memory that this process has had so far."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if os.uname().sysname == "Darwin" else 1e3)  # bytes there, kilobytes elsewhere

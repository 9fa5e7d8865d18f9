"""A network of fewer than 400,000 weights on MNIST beside ReLU networks: accuracy and NLL against wall time.

``python -m bench.experiments.accuracy_over_time [--print]`` takes about eleven minutes. Needs SAFFU_DATA and the bench
extra.

The explicit network, solved and refined, beside the same architecture and a ReLU network of as many weights trained
from random weights in torch, and beside scikit-learn. Every contender has the same batch size and the same plan of
runs, and is tuned over the same learning rates on a tenth of the training rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data import datasets
from bench.data.datasets import Split
from bench.measure.scores import Point
from bench.peers import sklearn_networks
from bench.report.command import Options, closing, options, write
from bench.report.requirements import installed
from bench.report.tables import markdown_table
from bench.trials.networks import COLD_SETTINGS, WARM_SETTINGS, Task, batch_size, refined, solved, tasks
from bench.trials.tuning import RATES, settings_tried, tuned

HIDDEN = 500  # 784 * 500 + 500 + 500 * 10 = 397,500 weights
SMALLER = (30, 100)  # hidden units of explicit networks for the smallest budgets
PLAN = ((1, 0.0), (3, 0.0), (10, 0.0), (10, 0.3), (60, 0.3))  # epochs and dropout of the inputs of each run
SKLEARN_EPOCHS = 12  # it has neither dropout nor a falling rate: one run
ACCURACIES = (0.95, 0.96, 0.97, 0.975, 0.978, 0.98)
BUDGETS = (1, 3, 10, 30, 60, 180)  # seconds
LIBRARIES = ("scikit-learn", "torch")


class Run(NamedTuple):
    """One run of a contender."""

    contender: str
    weights: int
    setting: str
    points: list[Point]


def explicit_runs(task: Task, part: Task, plan: Sequence[tuple[int, float]], few: slice) -> Iterator[Run]:
    """Yield the solved network and its refinements; the solve is part of their time."""
    tuning = part.fitted()
    trial = tuned(WARM_SETTINGS[few], lambda setting, epochs: refined(tuning, part.split, *setting, epochs)[1], 1, 3)
    start, point = solved(task)
    n_weights = start.n_parameters
    for hidden in SMALLER:
        small, begun = solved(task._replace(hidden=hidden))
        yield Run(f"explicit, {hidden} hidden", small.n_parameters, "", [begun])
    yield Run("explicit", n_weights, "", [point])
    for epochs, dropout in plan:
        points = refined(start, task.split, *trial.setting, epochs, 0, point.seconds, dropout=dropout)[1]
        yield Run("explicit, refined", n_weights, f"soften {trial.setting[0]}, rate {trial.setting[1]:g}", points)


def torch_runs(task: Task, part: Task, plan: Sequence[tuple[int, float]], few: slice) -> Iterator[Run]:
    """Yield the same architecture and the ReLU network, trained from random weights in torch."""
    from bench.peers import torch_networks

    shape, batch = (task.split.train.shape[1], task.hidden, int(task.split.y_train.max()) + 1), batch_size(task.n_rows)

    def softmax(setting: tuple[str | float, float], split: Split, epochs: int, dropout: float = 0.0) -> list[Point]:
        scale, rate = setting
        build = lambda: torch_networks.SoftmaxNetwork(*shape, scale)  # noqa: E731
        return torch_networks.train(build, split, rate, epochs, batch, dropout)

    def relu(rate: float, split: Split, epochs: int, dropout: float = 0.0) -> list[Point]:
        return torch_networks.train(lambda: torch_networks.ReluNetwork(*shape), split, rate, epochs, batch, dropout)

    n_weights = torch_networks.n_parameters(torch_networks.SoftmaxNetwork(*shape, "glorot"))
    yield from _tuned_runs("same network, torch, cold", n_weights, softmax, COLD_SETTINGS[few], part, task, plan)
    n_weights = torch_networks.n_parameters(torch_networks.ReluNetwork(*shape))
    yield from _tuned_runs("ReLU network, torch, cold", n_weights, relu, RATES[few], part, task, plan)


def _tuned_runs(
    name: str,
    n_weights: int,
    train: Callable[..., list[Point]],
    settings: Sequence[Any],
    part: Task,
    task: Task,
    plan: Sequence[tuple[int, float]],
) -> Iterator[Run]:
    trial = tuned(settings, lambda setting, epochs: train(setting, part.split, epochs), 1, 3)
    *scale, rate = trial.setting if isinstance(trial.setting, tuple) else (trial.setting,)
    words = "".join(f"scale {value}, " for value in scale) + f"rate {rate:g}"
    for epochs, dropout in plan:
        yield Run(name, n_weights, words, train(trial.setting, task.split, epochs, dropout))


def sklearn_runs(task: Task, part: Task, epochs: int, few: slice) -> Iterator[Run]:
    """Yield MLPClassifier and LogisticRegression."""
    n_features, n_classes = task.split.train.shape[1], int(task.split.y_train.max()) + 1

    def relu(rate: float, split: Split, epochs: int) -> list[Point]:
        return sklearn_networks.relu_network(split, task.hidden, rate, epochs, batch_size(task.n_rows))

    trial = tuned(RATES[few], lambda rate, epochs: relu(rate, part.split, epochs), 1, 1)
    n_weights = n_features * task.hidden + task.hidden + task.hidden * n_classes + n_classes
    points = relu(trial.setting, task.split, epochs)
    yield Run("MLPClassifier", n_weights, f"rate {trial.setting:g}", points)
    points = sklearn_networks.logistic_regression(task.split)
    yield Run("LogisticRegression", (n_features + 1) * n_classes, "", points)


def all_runs(task: Task, quick: bool) -> Iterator[Run]:
    """Yield the runs of every contender whose library is installed."""
    part = task._replace(split=datasets.held_out(task.split, 0.1))
    plan, few = PLAN[:2] if quick else PLAN, settings_tried(quick)
    yield from explicit_runs(task, part, plan, few)
    if installed("torch"):
        yield from torch_runs(task, part, plan, few)
    if installed("scikit-learn"):
        yield from sklearn_runs(task, part, 2 if quick else SKLEARN_EPOCHS, few)


# ---- tables and figure ---------------------------------------------------------------------------------------------


def by_contender(results: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each contender."""
    names = dict.fromkeys(run.contender for run in results)
    return {name: [run for run in results if run.contender == name] for name in names}


def target_table(results: Sequence[Run]) -> str:
    """Seconds to each accuracy, and the best of all runs."""
    lines = []
    for name, runs in by_contender(results).items():
        points = [point for run in runs for point in run.points]
        seconds = [min((p.seconds for p in points if p.accuracy >= target), default=None) for target in ACCURACIES]
        cells = ["not reached" if s is None else f"{s:.1f}" for s in seconds]
        best = f"{max(p.accuracy for p in points):.4f}", f"{min(p.nll for p in points):.4f}"
        lines.append([name, f"{runs[0].weights:,}", runs[0].setting, *cells, *best])
    header = ["", "weights", "tuned", *(f"s to {target}" for target in ACCURACIES), "best accuracy", "best NLL"]
    return markdown_table(header, lines)


def budget_table(results: Sequence[Run]) -> str:
    """Best accuracy and best NLL within each budget of wall time, the leader of each in bold."""
    groups = by_contender(results)
    lines = {name: [name] for name in groups}
    for budget in BUDGETS:
        within = {name: [p for run in runs for p in run.points if p.seconds <= budget] for name, runs in groups.items()}
        accuracy = {name: round(max((p.accuracy for p in points), default=0), 4) for name, points in within.items()}
        nll = {name: round(min((p.nll for p in points), default=np.inf), 4) for name, points in within.items()}
        for name, points in within.items():
            cells = _bold(accuracy[name], max(accuracy.values())), _bold(nll[name], min(nll.values()))
            lines[name].append(" / ".join(cells) if points else "-")
    return markdown_table(["accuracy / NLL within", *(f"{budget} s" for budget in BUDGETS)], lines.values())


def _bold(value: float, best: float) -> str:
    return f"**{value:.4f}**" if value == best else f"{value:.4f}"


def draw(results: Sequence[Run], figure: Any) -> None:
    """Error and NLL against seconds: every run thin, the best so far of each contender thick."""
    figure.set_size_inches(12, 5)
    panels = figure.subplots(1, 2)
    for colour, (name, runs) in enumerate(by_contender(results).items()):
        for axes, value in zip(panels, (lambda p: max(1 - p.accuracy, 1e-4), lambda p: p.nll), strict=True):
            for run in runs:
                axes.plot([p.seconds for p in run.points], [*map(value, run.points)], color=f"C{colour}", lw=0.5)
            points = sorted((p for run in runs for p in run.points), key=lambda p: p.seconds)
            best = np.minimum.accumulate([value(p) for p in points])
            axes.step([p.seconds for p in points], best, "o-", color=f"C{colour}", where="post", ms=3, label=name)
    for axes, label in zip(panels, ("test error", "test NLL (nats)"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="wall seconds of training", ylabel=label)
    panels[0].legend()


def run(given: Options) -> None:
    """Measure and write."""
    began, task = time.perf_counter(), next(tasks(given.quick))
    results = list(all_runs(task if given.quick else task._replace(hidden=HIDDEN), given.quick))
    records = [
        {"contender": run.contender, "setting": run.setting, "run": number} | point._asdict()
        for number, run in enumerate(results)
        for point in run.points
    ]
    plan = ", ".join(f"{epochs} epochs with dropout {dropout:g}" for epochs, dropout in PLAN)
    budget = (
        f"runs of {plan} for every network but MLPClassifier ({SKLEARN_EPOCHS} epochs); rate (and softening, or scale) "
        "by successive halving on a tenth of the training rows, 1 to 3 epochs, not counted; scored after every epoch, "
        "off the clock; the best over all runs of a contender, the same rule for each"
    )
    parts = [target_table(results), budget_table(results), closing("0", budget, began, [*filter(installed, LIBRARIES)])]
    write(given, records, "\n\n".join(parts), lambda figure: draw(results, figure))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("accuracy-over-time", __doc__, argv, needs_for_data=["sklearn"]))


if __name__ == "__main__":
    main()

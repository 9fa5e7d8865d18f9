"""Networks solved and trained from random weights on 1 % to all of the training rows: NLL and accuracy.

``python -m bench.experiments.less_data [--print]`` takes about twelve minutes. Needs SAFFU_DATA.

The explicit network without backpropagation, the same refined, and the same shape trained from random weights. What is
refined or trained is tuned, its number of epochs too, on validation parts of the same few rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data import datasets
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.networks import Task, epochs_of, refined, solved, tasks, trained_cold, tuned_cold, tuned_warm
from bench.trials.tuning import settings_tried

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
STEPS, EPOCHS = (
    1_000,
    8,
)  # of minibatches, of epochs: the greater of the two, or what validation rows choose
CONTENDERS = ("explicit", "refined", "cold")


class Row(NamedTuple):
    """One contender, trained on one subset; scores on the whole test part."""

    data: str
    share: float
    n_rows: int
    contender: str
    seed: int
    nll: float
    accuracy: float
    seconds: float


def n_seeds(share: float, quick: bool) -> int:
    """Subsets drawn: more of the small ones, whose results vary more."""
    return 2 if quick else 5 if share < 0.1 else 3 if share < 1 else 1


def rows(task: Task, share: float, quick: bool) -> Iterator[Row]:
    """Tune on the first subset, then train on each with what was chosen."""
    subsets = [task._replace(split=datasets.subset(task.split, share, seed)) for seed in range(n_seeds(share, quick))]
    n_rows = subsets[0].n_rows
    n_parts = 2 if share <= 0.1 else 1  # few validation rows: average over several parts
    parts = [subsets[0]._replace(split=datasets.held_out(subsets[0].split, 0.2, seed)) for seed in range(n_parts)]
    epochs = 2 if quick else max(epochs_of(STEPS, n_rows), EPOCHS)
    tuning = [part.split for part in parts], [part.fitted() for part in parts], max(epochs // 4, 1), epochs
    warm, cold = tuned_warm(*tuning, settings_tried(quick)), tuned_cold(*tuning, settings_tried(quick))
    for seed, subset in enumerate(subsets):
        start, point = solved(subset, seed=seed)
        warm_run = refined(start, subset.split, *warm.setting, warm.epoch, seed, point.seconds, traced=False)[1]
        cold_run = trained_cold(start, subset.split, *cold.setting, cold.epoch, seed, traced=False)[1]
        points = {"explicit": point, "refined": warm_run[-1], "cold": cold_run[-1]}
        for contender, end in points.items():
            yield Row(task.name, share, n_rows, contender, seed, end.nll, end.accuracy, end.seconds)


def table(results: Sequence[Row]) -> str:
    """NLL and accuracy of the contenders and by how much the explicit network is ahead."""
    lines = []
    for data, share in dict.fromkeys((row.data, row.share) for row in results):
        here = [row for row in results if (row.data, row.share) == (data, share)]
        by = {name: [row for row in here if row.contender == name] for name in CONTENDERS}
        nll = [mean_and_spread([row.nll for row in by[name]]) for name in CONTENDERS]
        accuracy = [mean_and_spread([row.accuracy for row in by[name]]) for name in CONTENDERS]
        ahead = np.mean([row.nll for row in by["cold"]]) - np.mean([row.nll for row in by["explicit"]])
        better = np.mean([row.accuracy for row in by["explicit"]]) - np.mean([row.accuracy for row in by["cold"]])
        case = [data, f"{share:.0%}", f"{here[0].n_rows:,}", str(len(by["cold"]))]
        lines.append([*case, *nll, f"{ahead:+.3f}", *accuracy, f"{better:+.3f}"])
    header = ["data", "share", "rows", "seeds", *(f"NLL {name}" for name in CONTENDERS), "explicit gains on cold"]
    return markdown_table([*header, *(f"accuracy {name}" for name in CONTENDERS), "explicit gains on cold"], lines)


def draw(results: Sequence[Row], figure: Any) -> None:
    """Test NLL against the number of rows, a panel per data set."""
    names = list(dict.fromkeys(row.data for row in results))
    figure.set_size_inches(3.5 * len(names), 3.5)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for contender in CONTENDERS:
            here = [row for row in results if (row.data, row.contender) == (name, contender)]
            sizes = sorted({row.n_rows for row in here})
            axes.plot(sizes, [np.mean([row.nll for row in here if row.n_rows == n]) for n in sizes], "o-")
        axes.set(title=name, xscale="log", yscale="log", xlabel="training rows", ylabel="test NLL (nats)")
    axes.legend(CONTENDERS)


def run(given: Options) -> None:
    """Measure every task at every share and write."""
    began = time.perf_counter()
    results: list[Row] = []
    for task in tasks(given.quick):
        for share in (0.1, 1.0) if given.quick else SHARES:
            results += rows(task, share, given.quick)
    seeds = "0, 1, ... for subset, start and order of the rows, as many as in the column"
    budget = (
        f"at most {EPOCHS} epochs or {STEPS:,} steps of Adam (the greater); rate, softening or scale, and epochs "
        "by successive halving on a fifth of the rows "
        "(two draws of it up to 10 %), then once more on all of them"
    )
    text = "NLL in nats, test rows; the mean and the standard deviation over the seeds.\n\n" + table(results)
    text += "\n\n" + closing(seeds, budget, began)
    write(given, [row._asdict() for row in results], text, lambda figure: draw(results, figure))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("less-data", __doc__, argv, needs_for_data=["sklearn"]))


if __name__ == "__main__":
    main()

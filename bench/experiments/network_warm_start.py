"""Networks with a hidden layer refined from a solved start, and trained from random weights: loss against time.

``python -m bench.experiments.network_warm_start [--print]`` takes about thirteen minutes. Needs SAFFU_DATA.

The same network, the same code: solved and refined, solved by the bare formula and refined, and trained from random
weights of a tuned scale at a tuned rate, for as many epochs and for as much wall time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data import datasets
from bench.measure.scores import Point
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table, mean_and_spread
from bench.trials.networks import Task, epochs_of, refined, solved, tasks, trained_cold, tuned_cold, tuned_warm
from bench.trials.tuning import settings_tried

SIZES = (30, 100, 300, 1000)  # hidden units on MNIST
SHARE = 1 / 3  # of the training rows of MNIST
STEPS = 1_500  # of minibatches, where epochs are equal
SEEDS = range(5)
CONTENDERS = ("warm", "mean-norm", "cold", "cold, equal time")


class Run(NamedTuple):
    """One training run."""

    data: str
    hidden: int
    contender: str
    seed: int
    points: list[Point]

    @property
    def best(self) -> Point:
        """The epoch of the lowest test NLL."""
        return min(self.points, key=lambda point: point.nll)

    def seconds_to(self, nll: float) -> float:
        """Seconds of training until the test NLL is as low; infinite if it never is."""
        return min((point.seconds for point in self.points if point.nll <= nll), default=np.inf)


def cases(quick: bool) -> Iterator[Task]:
    """MNIST, a share of it, at every size; the other data sets at theirs."""
    for task in tasks(quick):
        if task.name != "MNIST":
            yield task
            continue
        split = datasets.subset(task.split, SHARE)
        for hidden in SIZES:
            yield task._replace(split=split, hidden=hidden)


def runs(task: Task, seeds: Sequence[int], quick: bool) -> Iterator[Run]:
    """Tune both starts, then train every contender with every seed."""
    epochs = 2 if quick else epochs_of(STEPS, task.n_rows)
    part, few = task._replace(split=datasets.held_out(task.split)), settings_tried(quick)
    tuning = 1, max(epochs // 2, 1), few
    primed, raw = [part.fitted()], [part.fitted("mean-norm")]
    warm = tuned_warm([part.split], primed, *tuning).setting
    mean_norm = tuned_warm([part.split], raw, *tuning).setting
    cold = tuned_cold([part.split], primed, *tuning).setting
    for seed in seeds:

        def run(contender: str, points: list[Point], seed: int = seed) -> Run:
            return Run(task.name, task.hidden, contender, seed, points)

        start, begun = solved(task, seed=seed)
        warm_run = run("warm", refined(start, task.split, *warm, epochs, seed, begun.seconds)[1])
        yield warm_run
        bare, begun = solved(task, "mean-norm", seed)
        yield run("mean-norm", refined(bare, task.split, *mean_norm, epochs, seed, begun.seconds)[1])
        cold_run = run("cold", trained_cold(start, task.split, *cold, epochs, seed)[1])
        yield cold_run
        longer = max(round(epochs * warm_run.points[-1].seconds / cold_run.points[-1].seconds), epochs)
        yield run("cold, equal time", trained_cold(start, task.split, *cold, longer, seed)[1])


def found(results: Sequence[Run]) -> dict[tuple[str, int], dict[str, list[Run]]]:
    """Runs by data set and size, then by contender."""
    keys = dict.fromkeys((run.data, run.hidden) for run in results)
    return {
        key: {
            name: [run for run in results if (run.data, run.hidden, run.contender) == (*key, name)]
            for name in CONTENDERS
        }
        for key in keys
    }


def loss_table(results: Sequence[Run]) -> str:
    """Test NLL of the start and of the best epoch, and the training loss of the last."""
    lines = []
    for (data, hidden), by in found(results).items():
        start = mean_and_spread([run.points[0].nll for run in by["warm"]])
        best = [mean_and_spread([run.best.nll for run in by[name]]) for name in CONTENDERS]
        accuracy = [
            mean_and_spread([run.points[-1].accuracy for run in by[name]]) for name in ("warm", "cold, equal time")
        ]
        training = [mean_and_spread([run.points[-1].training_loss for run in by[name]]) for name in CONTENDERS]
        lines.append([data, hidden, start, *best, *training, *accuracy])
    header = ["data", "hidden", "NLL solved", *(f"best NLL, {name}" for name in CONTENDERS)]
    header += [f"training loss, {name}" for name in CONTENDERS]
    return markdown_table([*header, "accuracy, warm", "accuracy, cold, equal time"], lines)


def time_table(results: Sequence[Run]) -> str:
    """Seconds to the other side's best loss, medians over the seeds; the solve is part of the warm time."""
    lines = []
    for (data, hidden), by in found(results).items():
        pairs = list(zip(by["warm"], by["cold, equal time"], strict=True))
        solve = np.median([warm.points[0].seconds for warm, _ in pairs])
        there = np.median([warm.seconds_to(cold.best.nll) for warm, cold in pairs])
        took = np.median([cold.best.seconds for _, cold in pairs])
        reached = sum(np.isfinite(cold.seconds_to(warm.best.nll)) for warm, cold in pairs)
        ratio = f"{took / there:.2g}x" if np.isfinite(there) else "-"
        lines.append(
            [data, hidden, f"{solve:.1f}", f"{took:.1f}", _seconds(there), ratio, f"{reached} of {len(pairs)}"]
        )
    header = ["data", "hidden", "solve, s", "cold to its best NLL, s", "warm to the same, s", "ratio"]
    return markdown_table([*header, "cold reaches warm's best"], lines)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if np.isfinite(seconds) else "not reached"


def draw(results: Sequence[Run], figure: Any) -> None:
    """Test NLL against seconds, a panel per data set and size; thin lines are seeds."""
    panels = found(results)
    figure.set_size_inches(14, 3.2 * -(-len(panels) // 4))
    grid = figure.add_gridspec(-(-len(panels) // 4), 4)
    for place, ((data, hidden), by) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[place // 4, place % 4])
        for colour, name in enumerate(CONTENDERS):
            for run in by[name]:
                label = name if run is by[name][0] else None
                seconds, nll = [p.seconds for p in run.points], [p.nll for p in run.points]
                axes.plot(seconds, nll, color=f"C{colour}", linewidth=0.8, label=label)
        axes.set(title=f"{data}, {hidden} hidden", xlabel="seconds", ylabel="test NLL", yscale="log")
    figure.axes[0].legend()


def run(given: Options) -> None:
    """Measure every case and write."""
    began = time.perf_counter()
    results: list[Run] = []
    seeds = SEEDS[:2] if given.quick else SEEDS
    for task in cases(given.quick):
        results += runs(task, seeds, given.quick)
    records = [run._asdict() | point._asdict() for run in results for point in run.points]
    for record in records:
        del record["points"]
    budget = (
        f"about {STEPS:,} steps of Adam a run, {SHARE:.0%} of the rows of MNIST; rate, and softening or scale, by "
        "successive halving on a fifth of the training rows; equal time: as many epochs more as the solve "
        "and the slower steps took"
    )
    text = f"{loss_table(results)}\n\n{time_table(results)}\n\n{closing(f'0 to {len(seeds) - 1}', budget, began)}"
    write(given, records, text, lambda figure: draw(results, figure))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("network-warm-start", __doc__, argv, needs_for_data=["sklearn"]))


if __name__ == "__main__":
    main()

"""How near to the optimum the explicit solution is: loss and accuracy before and after refining.

``python -m bench.experiments.near_optimality [--print]`` takes about eight minutes. Needs SAFFU_DATA.

One softmax layer and a network with a hidden layer: solved by the bare formula, solved and primed, refined from there,
and trained equally long from random weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import saffu
from bench.data import datasets
from bench.measure.scores import Score, score
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table
from bench.trials.networks import Task, epochs_of, refined, tasks, trained_cold, tuned_cold, tuned_warm
from bench.trials.tuning import settings_tried

STEPS = 8_000  # of minibatches, from either start
STARTS = ("mean-norm", "primed", "primed, refined", "random, refined")


class Row(NamedTuple):
    """One model on one data set."""

    data: str
    model: str
    start: str
    train: Score
    test: Score
    seconds: float


def solved(task: Task, kind: str, priming: str) -> Any:
    """The explicit model of a kind."""
    if kind == "network":
        return task.fitted(priming)
    return saffu.SoftmaxLayer(priming=priming).fit(task.split.train, task.split.y_train)


def rows(task: Task, kind: str, quick: bool) -> Iterator[Row]:
    """Yield the four starts of one kind of model."""
    split = task.split

    def row(start: str, began: float, model: Any) -> Row:
        seconds = time.perf_counter() - began
        train, test = score(model, split.train, split.y_train), score(model, split.test, split.y_test)
        return Row(task.name, kind, start, train, test, seconds)

    for priming in ("mean-norm", "primed"):
        began = time.perf_counter()
        model = solved(task, kind, priming)
        yield row(priming, began, model)
    part = task._replace(split=datasets.held_out(split))
    epochs = 2 if quick else epochs_of(STEPS, task.n_rows)
    tuning = [part.split], [solved(part, kind, "primed")], max(epochs // 8, 1), max(epochs // 4, 1)
    warm, cold = tuned_warm(*tuning, settings_tried(quick)), tuned_cold(*tuning, settings_tried(quick))
    began = time.perf_counter()
    yield row("primed, refined", began, refined(model, split, *warm.setting, epochs, traced=False)[0])
    began = time.perf_counter()
    yield row("random, refined", began, trained_cold(model, split, *cold.setting, epochs, traced=False)[0])


def tables(results: Sequence[Row]) -> str:
    """NLL and accuracy, a column per start, and what iteration gained."""
    cases = dict.fromkeys((row.data, row.model) for row in results)
    found = {(row.data, row.model, row.start): row for row in results}
    parts = []
    for title, field in (("NLL (nats), training rows / test rows", 0), ("Accuracy, training rows / test rows", 1)):
        lines = []
        for case in cases:
            line = [found[(*case, start)] for start in STARTS]
            cells = [f"{row.train[field]:.3f} / {row.test[field]:.3f}" for row in line]
            gains = [getattr(line[2], rows)[field] - getattr(line[1], rows)[field] for rows in ("train", "test")]
            lines.append([*case, *cells, " / ".join(f"{gain:+.3f}" for gain in gains)])
        parts += [title + ":", markdown_table(["data", "model", *STARTS, "refining gains"], lines)]
    return "\n\n".join(parts)


def draw(results: Sequence[Row], figure: Any) -> None:
    """Bars of test NLL, a panel per kind of model."""
    figure.set_size_inches(11, 4)
    kinds = list(dict.fromkeys(row.model for row in results))
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        names = list(dict.fromkeys(row.data for row in results))
        for place, start in enumerate(STARTS):
            found = [row.test.nll for row in results if (row.model, row.start) == (kind, start)]
            axes.bar([x + 0.2 * place for x in range(len(names))], found, 0.2, label=start)
        axes.set(title=kind, ylabel="test NLL (nats)", yscale="log")
        axes.set_xticks([x + 0.3 for x in range(len(names))], names)
    axes.legend()


def run(given: Options) -> None:
    """Measure every task and write."""
    began = time.perf_counter()
    results: list[Row] = []
    for task in tasks(given.quick):
        for kind in ("layer", "network"):
            results += rows(task, kind, given.quick)
    records = [
        {"data": row.data, "model": row.model, "start": row.start, "seconds": row.seconds}
        | {f"train_{name}": value for name, value in row.train._asdict().items()}
        | {f"test_{name}": value for name, value in row.test._asdict().items()}
        for row in results
    ]
    tuned_on = "rate (and softening, or scale) tuned on a fifth of the training rows"
    budget = f"{STEPS:,} steps of Adam from either start, {tuned_on}"
    text = tables(results) + "\n\n" + closing("0", budget, began)
    write(given, records, text, lambda figure: draw(results, figure))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("near-optimality", __doc__, argv, needs_for_data=["sklearn"]))


if __name__ == "__main__":
    main()

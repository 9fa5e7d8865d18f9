"""A softmax head of torch started from counts by ``saffu.torch.warm_start_``, and as torch starts it: epochs to a loss.

``python -m bench.experiments.torch_warm_start [--print]`` takes about six minutes. Needs SAFFU_DATA and torch.

All starts are trained alike: Adam, minibatches of 128 rows, every rate of one list with the same seeds. For each loss
the rate counts that gets there first, for each start by itself. The losses are those that torch's own start reaches
after some epochs, at the best rate for each, and that of the counts before any; all on rows that are held out. Passes
over the features that a solution takes are no epochs: their seconds are in a table of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.data import datasets
from bench.data.datasets import Split
from bench.report.command import Options, closing, options, write
from bench.report.requirements import data_folder
from bench.report.tables import markdown_table

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = range(2)
EPOCHS, MILESTONES = 4, (0.5, 1, 2, 4)
EVALUATIONS = 16  # in an epoch
CORRECTIONS = 12
STARTS = ("torch", "counts", "corrected")
FEW = 1_000  # rows, of which an epoch is eight steps


class Curve(NamedTuple):
    """Runs of all seeds at one rate: epochs, and the means of the loss and of the seconds by then."""

    data: str
    start: str
    rate: float
    epochs: list[float]
    nll: list[float]
    seconds: list[float]

    def first(self, nll: float) -> float:
        """Epochs until the loss is as low; infinite if it never is."""
        return next((epochs for epochs, found in zip(self.epochs, self.nll, strict=True) if found <= nll), np.inf)

    def lowest(self, epochs: float) -> float:
        """The lowest loss until then."""
        return min(nll for at, nll in zip(self.epochs, self.nll, strict=True) if at <= epochs)


def cases(quick: bool) -> Iterator[tuple[str, Split]]:
    """Training rows cut in two, to train on and to validate with: pixels, and counts of words."""
    if quick:
        for kind in ("dense", "sparse"):
            yield f"made up, {kind}", datasets.made_up(1_000, sparse=kind == "sparse")
        return
    mnist = datasets.held_out(datasets.mnist(data_folder()))
    yield "MNIST, pixels", mnist
    yield f"MNIST, pixels, {FEW:,} rows", datasets.subset(mnist, FEW / len(mnist.train))
    words = datasets.held_out(datasets.newsgroups20(data_folder()))
    narrow = {part: getattr(words, part).astype(np.float32) for part in ("train", "test")}
    yield "20 Newsgroups, counts", words._replace(**narrow)


def curves(data: str, split: Split, quick: bool) -> Iterator[Curve]:
    """Every start at every rate."""
    from bench.peers.torch_heads import trained

    # The absence of a pixel says something, that of a word is its count already.
    corrected = {"corrections": CORRECTIONS, "complement": isinstance(split.train, np.ndarray)}
    settings: dict[str, Mapping[str, Any] | None] = dict(zip(STARTS, (None, {}, corrected), strict=True))
    for rate in RATES[-2:] if quick else RATES:
        for start, how in settings.items():
            seeds = [trained(split, how, rate, EPOCHS, seed, EVALUATIONS) for seed in SEEDS]
            epochs, nll, seconds = np.mean(seeds, axis=0).T.tolist()
            yield Curve(data, start, rate, epochs, nll, seconds)


def table(found: Sequence[Curve]) -> str:
    """Epochs of each start to every loss, and how many times fewer than from torch's own they are."""
    lines = []
    for data in dict.fromkeys(curve.data for curve in found):
        by = {start: [curve for curve in found if (curve.data, curve.start) == (data, start)] for start in STARTS}
        losses = {"of the counts alone": by["counts"][0].nll[0]}
        for epochs in MILESTONES:
            losses[f"torch's start after {epochs:g}"] = min(curve.lowest(epochs) for curve in by["torch"])
        for name, nll in losses.items():
            cold, *warm = (min(curve.first(nll) for curve in by[start]) for start in STARTS)
            ratios = [cell for epochs in warm for cell in (_epochs(epochs), _ratio(cold, epochs))]
            lines.append([data, name, f"{nll:.3f}", _epochs(cold), *ratios])
    header = ["data", "validation NLL", "nats", "epochs, torch's start"]
    return markdown_table([*header, "epochs, counts", "ratio", "epochs, corrected counts", "ratio "], lines)


def _epochs(epochs: float) -> str:
    return f"{epochs:.2f}" if np.isfinite(epochs) else "not reached"


def _ratio(cold: float, warm: float) -> str:
    if not np.isfinite(warm):
        return "-"
    return f"{cold / warm:.1f}" if warm else "at once"


def seconds_table(found: Sequence[Curve]) -> str:
    """Seconds of the solutions and of an epoch."""
    lines = []
    for data in dict.fromkeys(curve.data for curve in found):
        own = [curve for curve in found if curve.data == data]
        solves = [np.median([curve.seconds[0] for curve in own if curve.start == start]) for start in STARTS[1:]]
        epoch = np.median([(curve.seconds[-1] - curve.seconds[0]) / EPOCHS for curve in own])
        lines.append([data, *(f"{seconds:.2f}" for seconds in (*solves, epoch))])
    return markdown_table(["data", "counts, s", "corrected counts, s", "an epoch, s"], lines)


def run(given: Options) -> None:
    """Measure every case and write."""
    began = time.perf_counter()
    found = [curve for name, split in cases(given.quick) for curve in curves(name, split, given.quick)]
    moments = [
        {"data": curve.data, "start": curve.start, "rate": curve.rate, "epochs": epochs, "nll": nll, "seconds": seconds}
        for curve in found
        for epochs, nll, seconds in zip(curve.epochs, curve.nll, curve.seconds, strict=True)
    ]
    budget = f"{EPOCHS} epochs at each of the rates {', '.join(f'{rate:g}' for rate in RATES)}"
    end = closing(f"{SEEDS[0]} to {SEEDS[-1]}", budget, began, ["torch"])
    write(given, moments, f"{table(found)}\n\n{seconds_table(found)}\n\n{end}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("torch-warm-start", __doc__, argv, needs=["torch"], needs_for_data=["sklearn"]))


if __name__ == "__main__":
    main()

"""Classifiers with a hidden layer: data sets, solving and training by the clock, and tuning of either start."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import saffu
from bench.data import datasets
from bench.data.datasets import Split, made_up
from bench.measure.clock import Stopwatch
from bench.measure.scores import Point, score
from bench.report.requirements import data_folder
from bench.trials.tuning import RATES, Trial, tuned

SCALES: tuple[str | float, ...] = ("glorot", "he", 0.01, 0.3, 1.0)  # of the random weights of a cold start
WARM_SETTINGS: tuple[tuple[float, float], ...] = tuple(itertools.product((0.5, 1.0), RATES))  # soften, rate
COLD_SETTINGS: tuple[tuple[str | float, float], ...] = tuple(itertools.product(SCALES, RATES))


# ---- data --------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A data set and the network that suits it."""

    name: str
    split: Split
    hidden: int
    complement: bool

    @property
    def n_rows(self) -> int:
        """Training rows."""
        return self.split.y_train.size

    def fitted(self, priming: str = "primed", seed: int = 0) -> saffu.ExplicitNetwork:
        """The explicit network of this task, fitted to its training rows."""
        shape = saffu.ExplicitNetwork(hidden=(self.hidden,), complement=self.complement, priming=priming, seed=seed)
        return shape.fit(self.split.train, self.split.y_train)


def tasks(quick: bool) -> Iterator[Task]:
    """The four data sets, one at a time; made-up ones, dense and sparse, for a quick run."""
    if quick:
        yield Task("made up, dense", made_up(), 8, True)
        yield Task("made up, sparse", made_up(sparse=True), 8, False)
        return
    folder = data_folder()
    yield Task("MNIST", datasets.mnist(folder), 300, True)
    yield Task("Fashion part", datasets.fashion_part(folder), 100, True)
    yield Task("20 Newsgroups", datasets.frequent_words(datasets.newsgroups20(folder)), 60, False)
    yield Task("AG News", datasets.frequent_words(datasets.ag_news(folder)), 40, False)


# ---- solving ---------------------------------------------------------------------------------------------------------


def solved(task: Task, priming: str = "primed", seed: int = 0) -> tuple[Any, Point]:
    """The explicit network, fitted by the clock, and its score: epoch 0 of every warm start."""
    watch = Stopwatch()
    model = task.fitted(priming, seed)
    with watch.paused() as seconds:
        return model, Point(0, seconds, *score(model, task.split.test, task.split.y_test))


# ---- training ----------------------------------------------------------------------------------------------------


def batch_size(n_rows: int) -> int:
    """Rows in a step of every contender: smaller where there are few rows."""
    return 128 if n_rows >= 10_000 else 32


def epochs_of(steps: int, n_rows: int, most: int = 200) -> int:
    """Epochs that make about so many steps."""
    return min(max(math.ceil(steps * batch_size(n_rows) / n_rows), 1), most)


def refined(
    start: Any,
    split: Split,
    soften: float,
    rate: float,
    epochs: int,
    seed: int = 0,
    seconds: float = 0.0,
    traced: bool = True,
    **settings: Any,
) -> tuple[Any, list[Point]]:
    """Refine with a record: the model, and a point for the start and for every epoch.

    ``seconds`` went before; the clock stands still while the test rows are scored. Not ``traced``, only the start and
    the last epoch are.
    """
    points = [Point(0, seconds, *score(start, split.test, split.y_test))]
    watch = Stopwatch(seconds)

    def record(state: Any) -> None:
        if not traced and state.epoch < epochs:
            return
        with watch.paused() as so_far:
            result = score(state.model(), split.test, split.y_test)
            points.append(Point(state.epoch, so_far, *result, state.training_loss))

    model = saffu.refine(
        start,
        split.train,
        split.y_train,
        epochs=epochs,
        batch_size=batch_size(split.y_train.size),
        learning_rate=rate,
        soften=soften,
        callback=record,
        seed=seed,
        **settings,
    )
    return model, points


def trained_cold(
    shape: Any, split: Split, scale: str | float, rate: float, epochs: int, seed: int = 0, traced: bool = True
) -> tuple[Any, list[Point]]:
    """Train the architecture of ``shape`` from random weights, by the same code."""
    start = saffu.random_start(shape, scale=scale, seed=seed)
    return refined(start, split, 1.0, rate, epochs, seed, traced=traced)


def tuned_warm(
    parts: Sequence[Split], models: Sequence[Any], screening: int, epochs: int, few: slice
) -> Trial[tuple[float, float]]:
    """Tune how far a warm start is softened, and the learning rate.

    ``models`` are the solved models of ``parts``, training rows cut in two (``datasets.held_out``); their NLL is
    averaged, epoch by epoch. ``few`` is the slice of the settings to try.
    """

    def run(setting: tuple[float, float], epochs: int) -> list[Point]:
        pairs = zip(models, parts, strict=True)
        return averaged([refined(model, part, *setting, epochs)[1] for model, part in pairs])

    return tuned(WARM_SETTINGS[few], run, screening, epochs)


def tuned_cold(
    parts: Sequence[Split], models: Sequence[Any], screening: int, epochs: int, few: slice
) -> Trial[tuple[str | float, float]]:
    """Tune the scale of the random weights and the learning rate for the shape of ``models``; see ``tuned_warm``."""

    def run(setting: tuple[str | float, float], epochs: int) -> list[Point]:
        pairs = zip(models, parts, strict=True)
        return averaged([trained_cold(model, part, *setting, epochs)[1] for model, part in pairs])

    return tuned(COLD_SETTINGS[few], run, screening, epochs)


def averaged(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """Mean of several runs of the same length, epoch by epoch."""
    return [
        Point(points[0].epoch, *np.mean([point[1:] for point in points], axis=0)) for points in zip(*runs, strict=True)
    ]

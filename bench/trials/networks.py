"""What the experiments share: options, data sets, training by the clock, tuning, and how results are written."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

import saffu
from bench.data import datasets
from bench.data.datasets import Split
from bench.measure import check_published, check_writable, data_folder, machine_line, publish, replace_text, require
from saffu.checkpoint import replacing

TABLE, MARKDOWN, FIGURE = "results.csv", "table.md", "figure.png"
RATES: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # learning rates that every contender is tuned over
SCALES: tuple[str | float, ...] = ("glorot", "he", 0.01, 0.3, 1.0)  # of the random weights of a cold start
WARM_SETTINGS: tuple[tuple[float, float], ...] = tuple(itertools.product((0.5, 1.0), RATES))  # soften, rate
COLD_SETTINGS: tuple[tuple[str | float, float], ...] = tuple(itertools.product(SCALES, RATES))
TINY = np.finfo(np.float32).tiny
Record = Mapping[str, object]
T = TypeVar("T")


# ---- options -----------------------------------------------------------------------------------------------------


class Options(NamedTuple):
    """How a command was called."""

    name: str
    out: Path
    quick: bool
    only_print: bool
    more: argparse.Namespace = argparse.Namespace()


def options(
    name: str,
    about: str | None,
    argv: Sequence[str] | None,
    add: Callable[[argparse.ArgumentParser], None] | None = None,
    needs: Sequence[str] = ("matplotlib",),
    needs_for_data: Sequence[str] = (),
) -> Options:
    """Read the options that every experiment has, and those that ``add`` gives the parser: ``more`` has them all.

    What the command will need in the end is looked for now: modules (the second ones unless it is quick), and places
    where it can write.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.experiments.{name.replace('-', '_')}", description=about)
    parser.add_argument("--out", type=Path, default=Path("results") / name, help="folder of the table and the figure")
    parser.add_argument("--print", action="store_true", help="print the table and leave RESULTS.md alone")
    parser.add_argument("--quick", action="store_true", help="a few seconds on made-up data, only to see that it works")
    if add is not None:
        add(parser)
    given = parser.parse_args(argv)
    require(*needs, *(() if given.quick else needs_for_data))
    check_writable([given.out / file for file in (TABLE, MARKDOWN, FIGURE)])
    check_published(name, given.print or given.quick)
    return Options(name, given.out, given.quick, given.print or given.quick, given)


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

    def network(self, priming: str = "primed", seed: int = 0, rounds: int = 12) -> Any:
        """An explicit network of this task's shape, not yet fitted."""
        return saffu.ExplicitNetwork(
            hidden=(self.hidden,), rounds=rounds, complement=self.complement, priming=priming, seed=seed
        )

    def fitted(self, priming: str = "primed", seed: int = 0, rounds: int = 12) -> Any:
        """The explicit network of this task, fitted to its training rows."""
        return self.network(priming, seed, rounds).fit(self.split.train, self.split.y_train)


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


def made_up(n_rows: int = 240, n_features: int = 20, n_classes: int = 4, sparse: bool = False) -> Split:
    """Two groups of rows in each class around random centres in [0, 1], float32; half as many rows to test."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2 * n_classes, n_rows + n_rows // 2)
    noise = rng.normal(0, 0.2, (group.size, n_features))
    features = np.clip(rng.random((2 * n_classes, n_features))[group] + noise, 0, 1).astype(np.float32)
    if sparse:
        features = csr_array(np.where(features > 0.6, features, np.float32(0)))
    labels = (group % n_classes).astype(np.int64)
    return Split(features[:n_rows], labels[:n_rows], features[n_rows:], labels[n_rows:])


# ---- scores and the clock ----------------------------------------------------------------------------------------


class Score(NamedTuple):
    """On some rows: mean negative log-probability of the label in nats, and share of labels that come first."""

    nll: float
    accuracy: float


def score(model: Any, X: Any, y: NDArray) -> Score:
    """Score of a classifier with the labels 0, 1, ..."""
    if isinstance(model, saffu.SoftmaxLayer | saffu.ExplicitNetwork):  # unprimed, their probabilities underflow
        return score_of(model.predict_log_proba(X), y)
    return score_of(np.log(np.maximum(model.predict_proba(X), TINY)), y)


def score_of(log_p: NDArray, y: NDArray) -> Score:
    """Score of log-probabilities (rows, classes)."""
    return Score(-float(log_p[np.arange(y.size), y].mean()), float((log_p.argmax(axis=1) == y).mean()))


class Point(NamedTuple):
    """A moment of a training run: seconds of training only, score on the rows kept apart, loss on the training rows."""

    epoch: int
    seconds: float
    nll: float
    accuracy: float
    training_loss: float = math.nan


class Stopwatch:
    """Wall seconds of training; stands still while something is scored."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._began

    @contextmanager
    def paused(self) -> Iterator[float]:
        """Stand still; yields the seconds so far."""
        stopped = time.perf_counter()
        yield stopped - self._began
        self._began += time.perf_counter() - stopped


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


class Trial(NamedTuple, Generic[T]):
    """A setting, its lowest NLL on validation rows once trained, and its best epoch: 0 if the start was better."""

    setting: T
    nll: float
    epoch: int


def tuned(
    settings: Sequence[T], run: Callable[[T, int], Sequence[Point]], screening: int, epochs: int, keep: int = 2
) -> Trial[T]:
    """Run every setting for ``screening`` epochs, the best ``keep`` for ``epochs``, and return the best of these.

    ``run(setting, epochs)`` trains on one part of the training rows and scores another; NaN counts as infinite. The
    start, where the points have it, is the same for many settings and does not decide between them.
    """

    def trial(setting: T, epochs: int) -> Trial[T]:
        points = run(setting, epochs)
        nll = min(_finite(point.nll) for point in points if point.epoch > 0)
        return Trial(setting, nll, min(points, key=lambda point: _finite(point.nll)).epoch)

    trials = sorted((trial(setting, screening) for setting in settings), key=lambda trial: trial.nll)
    if epochs > screening:
        trials = [trial(first.setting, epochs) for first in trials[:keep]]
    return min(trials, key=lambda trial: trial.nll)


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


def settings_tried(quick: bool) -> slice:
    """Which of ``WARM_SETTINGS`` and ``COLD_SETTINGS`` are tried: all, or two."""
    return slice(1, 3) if quick else slice(None)


def averaged(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """Mean of several runs of the same length, epoch by epoch."""
    return [
        Point(points[0].epoch, *np.mean([point[1:] for point in points], axis=0)) for points in zip(*runs, strict=True)
    ]


def _finite(nll: float) -> float:
    return nll if math.isfinite(nll) else math.inf


# ---- results -----------------------------------------------------------------------------------------------------


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, and standard deviation over the seeds where there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def write(given: Options, records: Sequence[Record], text: str, draw: Callable[[Any], None] | None = None) -> None:
    """Write results.csv, table.md and figure.png into the folder, and the text into RESULTS.md (or print it)."""
    given.out.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for record in records for key in record))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(records)
    replace_text(given.out / TABLE, file.getvalue())
    replace_text(given.out / MARKDOWN, text + "\n")
    publish(given.name, text, given.only_print)
    if draw is None:
        print(f"wrote {TABLE} and {MARKDOWN} into {given.out}")
        return
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    draw(figure)
    with replacing(given.out / FIGURE) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    print(f"wrote {TABLE}, {MARKDOWN} and {FIGURE} into {given.out}")


def closing(seeds: str, budget: str, began: float, libraries: Sequence[str] = ()) -> str:
    """The lines beneath a table: seeds, budget, what the command took, machine."""
    took = time.perf_counter() - began
    machine = machine_line("every core", libraries)
    return f"Seeds: {seeds}. Budget: {budget}; the whole command took {took:.0f} s. {machine}"

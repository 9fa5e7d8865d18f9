"""What a second thread gains, and the share of each stage that no thread can speed up.

``python -m bench.experiments.thread_scaling [--print]`` takes about two minutes. Needs SAFFU_DATA.

A language model of Brown, and one of a text drawn from its word pairs, is counted, weighed, primed and scored on one
thread and on two, in turn. Kernels are called by the whole program through one module: the time inside of it is taken
there, and what is left is Python and numpy on one thread, whatever the size of the team. By Amdahl's law that share
bounds what more threads can gain, if kernels themselves scale without loss.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.data import corpora
from bench.data.drawn_text import PairSource
from bench.measure.clock import timed
from bench.report.command import only_print
from bench.report.requirements import data_folder
from bench.report.tables import machine_line, markdown_table, publish
from saffu import ExplicitLM, _core
from saffu.text import Chunk, Corpus

NAME = "thread-scaling"
DRAWN_TOKENS, SCORED, REPEATS = 4_000_000, 60_000, 3
STAGES = ("count", "weigh", "prime", "fit", "score")
OBJECTS = ("Pool", "SuffixCounter")  # classes whose methods are kernels
FEW, MANY = 2, 16  # threads between which a gain is estimated


class Cost(NamedTuple):
    """Wall seconds of a stage, and those of them inside kernels."""

    wall: float
    kernels: float

    @property
    def outside(self) -> float:
        """Share of the time outside kernels."""
        return 1.0 - self.kernels / self.wall


class KernelClock:
    """Seconds inside the kernels of :mod:`saffu._core` since it was started."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """The kernel, its time added to that of all."""

        def call(*args: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return kernel(*args, **keywords)
            finally:
                self.seconds += time.perf_counter() - began

        return call

    def of_class(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        """What makes objects whose methods are timed."""
        clock = self

        class Timed:
            def __init__(self, *args: Any, **keywords: Any) -> None:
                self.kernel = clock.timed(kind)(*args, **keywords)

            def __getattr__(self, name: str) -> Any:
                found = getattr(self.kernel, name)
                return clock.timed(found) if callable(found) else found

        return Timed

    @contextmanager
    def started(self) -> Iterator[KernelClock]:
        """Take the time of every kernel until the end of the block."""
        names = [name for name in vars(_core) if not name.startswith("_") and callable(getattr(_core, name))]
        kernels = {name: getattr(_core, name) for name in names}
        plain = {name: kernel for name, kernel in kernels.items() if not isinstance(kernel, type)}
        try:
            for name, kernel in plain.items():
                setattr(_core, name, self.timed(kernel))
            for name in OBJECTS:
                setattr(_core, name, self.of_class(kernels[name]))
            yield self
        finally:
            for name, kernel in kernels.items():
                setattr(_core, name, kernel)


def stages(train: Chunk, test: Chunk, n_types: int, n_threads: int) -> dict[str, Cost]:
    """The cost of each stage."""
    clock = KernelClock()
    model = ExplicitLM(n_threads=n_threads)
    costs: dict[str, Cost] = {}

    def stage(name: str, run: Callable[[], Any]) -> None:
        before = clock.seconds
        wall = timed(run)[1].wall
        costs[name] = Cost(wall, clock.seconds - before)

    with clock.started():
        stage("count", lambda: model.partial_fit(train.ids, documents=train.starts, vocab_size=n_types).counts)
        before = clock.seconds
        stage("solve", lambda: model.prime(progress=False))
        solving = clock.seconds - before
        part = test.stream.slice(0, SCORED)
        stage("score", lambda: model.log_prob(part.ids, documents=part.starts, progress=False))
    solve = costs.pop("solve")
    for name in ("weigh", "prime"):  # they share a call: its time outside kernels is split as its wall time
        share = model.seconds[name] / solve.wall
        costs[name] = Cost(model.seconds[name], solving * share)
    costs["fit"] = Cost(costs["count"].wall + solve.wall, costs["count"].kernels + solve.kernels)
    return costs


def gain(outside: float, few: int, many: int) -> float:
    """How many times faster ``many`` threads are than ``few``, by Amdahl's law."""
    return (outside + (1 - outside) / few) / (outside + (1 - outside) / many)


def lines(name: str, train: Chunk, test: Chunk, n_types: int) -> Iterator[list[str]]:
    """Lines of the table."""
    runs: dict[int, list[dict[str, Cost]]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for n_threads, found in runs.items():
            found.append(stages(train, test, n_types, n_threads))
    for stage in STAGES:
        one, two = ([run[stage] for run in runs[n]] for n in (1, 2))
        outside = statistics.median(cost.outside for cost in one)
        yield [
            name,
            stage,
            f"{statistics.median(cost.wall for cost in one):.2f}",
            f"{statistics.median(cost.wall for cost in two):.2f}",
            f"{statistics.median(a.wall / b.wall for a, b in zip(one, two, strict=True)):.2f}",
            f"{statistics.median(a.kernels / b.kernels for a, b in zip(one, two, strict=True)):.2f}",
            f"{outside:.1%}",
            f"{gain(outside, FEW, MANY):.1f}",
        ]


def texts() -> Iterator[tuple[str, Chunk, Chunk, int]]:
    """Name, training part, test part and number of types."""
    brown = corpora.brown(data_folder())
    yield brown.name, brown.train, brown.test, len(brown.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        path, test = Path(folder) / "text", Path(folder) / "test"
        source = PairSource.of_brown()
        source.write(path, DRAWN_TOKENS, seed=0)
        source.write(test, SCORED, seed=1)
        vocabulary = Corpus([path], tokenizer="whitespace").build_vocabulary(min_count=3)
        parts = [Corpus([file], tokenizer="whitespace").read(vocabulary) for file in (path, test)]
        yield f"drawn, {DRAWN_TOKENS / 1e6:.0f}M tokens", *parts, len(vocabulary)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    printing = only_print(NAME, __doc__, argv)
    table = [line for text in texts() for line in lines(*text)]
    header = ["text", "stage", "s, one thread", "s, two", "times", "kernels alone", "outside kernels"]
    header += [f"at most, {FEW} to {MANY} threads"]
    text = f"{markdown_table(header, table)}\n\n{machine_line('medians of three runs, one thread and two in turn')}"
    publish(NAME, text, printing)


if __name__ == "__main__":
    main()

"""Wall and CPU seconds: of one run, of contenders that take turns, under pytest-benchmark, and of training alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple


class Seconds(NamedTuple):
    """Seconds of one run, or medians over several; ``cpu`` is summed over all threads of the process."""

    wall: float
    cpu: float


def timed(run: Callable[[], Any]) -> tuple[Any, Seconds]:
    """Return what ``run()`` returns and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def median_seconds(runs: Sequence[Seconds]) -> Seconds:
    """Medians of wall and CPU seconds, each by itself."""
    return Seconds(statistics.median(r.wall for r in runs), statistics.median(r.cpu for r in runs))


def quickest(run: Callable[[], Any], repeats: int = 3) -> float:
    """Wall seconds of the quickest of several runs."""
    return min(timed(run)[1].wall for _ in range(repeats))


def race(contenders: Mapping[str, Callable[[], Any]], repeats: int = 5) -> dict[str, Seconds]:
    """Median seconds of each contender, run in turn so that a busy spell of the machine falls on all of them.

    Each runs once beforehand to load its code and its data.
    """
    for run in contenders.values():
        run()
    runs: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            runs[name].append(timed(run)[1])
    return {name: median_seconds(seconds) for name, seconds in runs.items()}


def record(benchmark, run: Callable[[], Any], rounds: int, **facts: Any) -> tuple[Any, Seconds]:
    """Run under pytest-benchmark, with CPU seconds and ``facts`` in its extra_info; the last result and the medians."""
    runs: list[Seconds] = []

    def once() -> Any:
        result, seconds = timed(run)
        runs.append(seconds)
        return result

    result = benchmark.pedantic(once, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)
    seconds = median_seconds(runs[-rounds:])
    benchmark.extra_info.update(cpu_seconds=seconds.cpu, **facts)
    return result, seconds


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

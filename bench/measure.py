"""Clocks, memory and the machine: what every benchmark measures with, and the tables it writes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import ROOT
from saffu._threads import available_cpus

RESULTS = ROOT / "bench" / "RESULTS.md"


# ---- time ------------------------------------------------------------------------------------------------------------


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


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    From ``VmHWM`` where there is one: on Linux ``ru_maxrss`` of a fresh process begins at the peak of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_fresh_process(module: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """Run ``python -m module arguments`` and return the JSON object that it prints last."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


# ---- data ------------------------------------------------------------------------------------------------------------


def data_folder() -> Path:
    """Folder of the data sets, from the environment variable SAFFU_DATA."""
    folder = Path(os.environ.get("SAFFU_DATA", ""))
    if not os.environ.get("SAFFU_DATA") or not folder.is_dir():
        sys.exit("set SAFFU_DATA to the folder of the data sets")
    return folder


# ---- tables ----------------------------------------------------------------------------------------------------------


def installed(library: str) -> bool:
    """Whether a distribution is installed."""
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def processor() -> str:
    """Model of the CPU, as the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine_line(threads: str, libraries: Iterable[str] = ()) -> str:
    """One sentence under a table: processor, cores, threads and versions."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", *libraries)]
    python = platform.python_version()
    return (
        f"Measured on {processor()}, {available_cpus()} cores, {threads}; "
        f"saffu {_saffu_version()}, Python {python}, {', '.join(versions)}."
    )


def _saffu_version() -> str:
    import saffu

    return saffu.__version__


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, numbers right-aligned: every column but the first."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [header, ruler, *rows])


def between(name: str) -> tuple[str, str]:
    """The lines that enclose what is written by a command."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def replace_part(path: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- name:begin -->`` and ``<!-- name:end -->`` of a file."""
    begin, end = between(name)
    whole = path.read_text(encoding="utf-8")
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        sys.exit(f"{path} has no lines {begin} and {end} to write between; use --print to see the tables")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def publish(name: str, text: str, only_print: bool) -> None:
    """Write the tables of a command into ``bench/RESULTS.md``, or print them."""
    if only_print:
        print(text)
        return
    replace_part(RESULTS, name, text)
    print(f"wrote the {name} tables into {RESULTS}")

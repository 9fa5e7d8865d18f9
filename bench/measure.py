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
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from bench import ROOT
from saffu.cli import files as cli_files
from saffu.utils.checkpoint import replacing
from saffu.utils.threads import available_cpus

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


# ---- before the work -------------------------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    """End the command with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def require(*modules: str) -> None:
    """End now if a module that the command will need later is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        fail(f"this needs {' and '.join(missing)}; pip install 'saffu[bench]' installs what the benchmarks need")


def check_published(name: str, only_print: bool) -> None:
    """End now if :func:`publish` could not write."""
    if not only_print:
        around(RESULTS, name)
        check_writable([RESULTS])


def check_writable(files: Sequence[Path]) -> None:
    """End now if one of some files cannot be written, or lies in the folder of the data sets."""
    data = [os.environ["SAFFU_DATA"]] if os.environ.get("SAFFU_DATA") else []
    try:
        for file in files:
            cli_files.check_folder(str(file.parent), [str(file)], data)
    except (OSError, ValueError) as error:
        fail(str(error))


def replace_text(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    with replacing(file) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", newline="")


# ---- data ------------------------------------------------------------------------------------------------------------


def data_folder() -> Path:
    """Folder of the data sets, from the environment variable SAFFU_DATA."""
    folder = Path(os.environ.get("SAFFU_DATA", ""))
    if not os.environ.get("SAFFU_DATA") or not folder.is_dir():
        fail("set SAFFU_DATA to the folder of the data sets")
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
    before, after = around(path, name)
    replace_text(path, f"{before}\n{text}\n{after}")


def around(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the place of some tables, the lines that mark it included."""
    begin, end = between(name)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        fail(f"{path} has no lines {begin} and {end} to write between; use --print to see the tables")
    return before + begin, end + after


def publish(name: str, text: str, only_print: bool) -> None:
    """Write the tables of a command into ``bench/RESULTS.md``, or print them."""
    if only_print:
        print(text)
        return
    replace_part(RESULTS, name, text)
    print(f"wrote the {name} tables into {RESULTS}")

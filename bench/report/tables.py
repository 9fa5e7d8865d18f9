"""Tables in Markdown, the line about the machine beneath them, and their places in ``bench/RESULTS.md``."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import saffu
from bench import ROOT
from bench.report.requirements import check_writable, fail
from saffu.utils.checkpoint import replacing
from saffu.utils.threads import available_cpus

RESULTS = ROOT / "bench" / "RESULTS.md"


# ---- cells and tables ------------------------------------------------------------------------------------------------


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, and standard deviation over the seeds where there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, numbers right-aligned: every column but the first."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [header, ruler, *rows])


# ---- the machine -----------------------------------------------------------------------------------------------------


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
        f"saffu {saffu.__version__}, Python {python}, {', '.join(versions)}."
    )


# ---- their places ----------------------------------------------------------------------------------------------------


def between(name: str) -> tuple[str, str]:
    """The lines that enclose what is written by a command."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def around(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the place of some tables, the lines that mark it included."""
    begin, end = between(name)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        fail(f"{path} has no lines {begin} and {end} to write between; use --print to see the tables")
    return before + begin, end + after


def replace_text(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    with replacing(file) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", newline="")


def replace_part(path: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- name:begin -->`` and ``<!-- name:end -->`` of a file."""
    before, after = around(path, name)
    replace_text(path, f"{before}\n{text}\n{after}")


def check_published(name: str, only_print: bool) -> None:
    """End now if :func:`publish` could not write."""
    if not only_print:
        around(RESULTS, name)
        check_writable([RESULTS])


def publish(name: str, text: str, only_print: bool) -> None:
    """Write the tables of a command into ``bench/RESULTS.md``, or print them."""
    if only_print:
        print(text)
        return
    replace_part(RESULTS, name, text)
    print(f"wrote the {name} tables into {RESULTS}")

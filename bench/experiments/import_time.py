"""How long ``import saffu`` takes, beside the libraries that it is made of.

``python -m bench.experiments.import_time [--quick] [--print]`` takes about a minute.

Each is imported by processes of their own, in turn, after one that is not counted, which finds compiled files. The
table has the processor's time, which other work on the machine does not change, less that of a process that imports
nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import saffu
from bench.report.command import parser_of
from bench.report.tables import check_published, machine_line, markdown_table, publish

NAME = "import-time"
NOTHING = "pass"
MOST = 1.5  # times scipy.sparse that saffu may take
CODES = {
    "numpy": "import numpy",
    "scipy.sparse": "import scipy.sparse",
    "saffu": "import saffu",
    "saffu and one classifier": "import saffu; saffu.SoftmaxLayer",
    "saffu and every public name": "from saffu import *",
}


def seconds(code: str) -> float:
    """Processor time of a process that runs some code."""
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-P", "-c", code], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{code!r} ended with exit code {process.returncode}")
    return used.ru_utime + used.ru_stime


def measure(repeats: int) -> dict[str, float]:
    """Median seconds of each import, less those of an interpreter that imports nothing."""
    codes = {"": NOTHING, **CODES}
    for code in codes.values():
        seconds(code)
    rounds = [[seconds(code) for code in codes.values()] for _ in range(repeats)]
    medians = dict(zip(codes, np.median(rounds, axis=0).tolist(), strict=True))
    return {name: medians[name] - medians[""] for name in CODES}


def report(found: dict[str, float]) -> str:
    """The table."""
    rows = [[name, f"{1000 * time:.0f}", f"{time / found['scipy.sparse']:.2f}"] for name, time in found.items()]
    table = markdown_table(["import", "processor time, ms", "times scipy.sparse"], rows)
    return f"{table}\n\n{machine_line('one thread')}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--quick", action="store_true", help="three processes each, printed and not written")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write; an error if "import saffu" takes 1.5 times "import scipy.sparse" or more."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    only_print = given.print or given.quick
    check_published(NAME, only_print)
    found = measure(3 if given.quick else 15)
    ratio = found["saffu"] / found["scipy.sparse"]
    if ratio >= MOST:
        raise RuntimeError(f"import saffu takes {ratio:.2f} times import scipy.sparse, which is {MOST} or more")
    publish(NAME, report(found), only_print)


if __name__ == "__main__":
    main()

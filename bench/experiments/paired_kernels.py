"""Every kernel beside the same kernel of another version, in turn, to see which became slower.

``python -m bench.experiments.paired_kernels [--print] --before CORE [GROUP ...]`` takes about four minutes for all.

``CORE`` is the compiled module of the other version, ``_core.abi3.so``. Both are loaded into this process and called in
turn on one thread, each first as often as the other; a ratio is the median over pairs of calls. A busy machine makes
single rows wrong by several per cent: repeat those.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from bench.peers.kernel_calls import GROUPS, Call, core_of
from bench.report.command import parser_of
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import _core

NAME = "paired-kernels"
SECONDS, FEWEST, MOST = 2.0, 11, 400  # for each kernel; pairs of calls


def pairs_of_seconds(ours: Call, before: Call) -> list[tuple[float, float]]:
    """Seconds of calls that take turns."""
    for call in (ours, before, ours, before):
        call()
    found: list[tuple[float, float]] = []
    ends = time.perf_counter() + SECONDS
    while len(found) < FEWEST or (time.perf_counter() < ends and len(found) < MOST):
        order = (ours, before) if len(found) % 2 else (before, ours)
        spent = {}
        for call in order:
            began = time.perf_counter()
            call()
            spent[call] = time.perf_counter() - began
        found.append((spent[ours], spent[before]))
    return found


def lines(groups: Sequence[str], before: ModuleType) -> list[tuple[str, float, float, int]]:
    """Name, milliseconds, ratio to the version before and number of pairs of every kernel that both have."""
    found = []
    for group in groups:
        for name, problem in GROUPS[group]():
            spent = pairs_of_seconds(problem(_core), problem(before))
            ratio = statistics.median(now / then for now, then in spent)
            found.append((name, 1e3 * statistics.median(now for now, _ in spent), ratio, len(spent)))
            print(f"{name:50s} {ratio:.3f}", flush=True)
    return found


def report(found: Sequence[tuple[str, float, float, int]]) -> str:
    """The table in Markdown, and its summary."""
    ratios = np.array([ratio for _, _, ratio, _ in found])
    table = markdown_table(
        ["kernel", "ms", "its time / before", "pairs"],
        [(name, f"{ms:.3f}", f"{ratio:.3f}", n) for name, ms, ratio, n in found],
    )
    summary = (
        f"{ratios.size} kernels and shapes: the median takes {np.median(ratios):.2f} of the time before, the slowest "
        f"{ratios.max():.3f} ({found[int(ratios.argmax())][0]}); {(ratios > 1.03).sum()} take more than 1.03."
    )
    return f"{summary}\n\n{table}\n\n{machine_line('one thread, medians of pairs of calls')}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What else there is."""
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--before", metavar="CORE", required=True, help="the compiled module of the other version")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    unknown = sorted(set(given.groups) - set(GROUPS))
    if unknown:
        raise SystemExit(f"no group of kernels is called {', '.join(unknown)}; there are: {', '.join(GROUPS)}")
    only_print = given.print or bool(given.groups)
    check_published(NAME, only_print)
    publish(NAME, report(lines(given.groups or list(GROUPS), core_of(given.before))), only_print)


if __name__ == "__main__":
    main()

"""The commands of the experiments: the options that all of them have, and the files that they write.

Two kinds of command. ``options`` and ``write`` belong to an experiment that also leaves its records and a figure in a
folder; ``only_print`` and :func:`bench.report.tables.publish` to one that writes nothing but its table.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.report.requirements import check_writable, require
from bench.report.tables import check_published, machine_line, publish, replace_text
from saffu.utils.checkpoint import replacing

TABLE, MARKDOWN, FIGURE = "results.csv", "table.md", "figure.png"
Record = Mapping[str, object]
AddOptions = Callable[[argparse.ArgumentParser], None]


class Options(NamedTuple):
    """How a command was called."""

    name: str
    out: Path
    quick: bool
    only_print: bool
    more: argparse.Namespace = argparse.Namespace()


def parser_of(name: str, about: str | None, add: AddOptions | None = None) -> argparse.ArgumentParser:
    """A parser with ``--print`` and the options that ``add`` gives it."""
    program = f"python -m bench.experiments.{name.replace('-', '_')}"
    layout = argparse.RawDescriptionHelpFormatter  # docstrings have paragraphs
    parser = argparse.ArgumentParser(prog=program, description=about, formatter_class=layout)
    parser.add_argument("--print", action="store_true", help="print the table and leave RESULTS.md alone")
    if add is not None:
        add(parser)
    return parser


def only_print(name: str, about: str | None, argv: Sequence[str] | None, needs: Sequence[str] = ()) -> bool:
    """Read the one option of a command that writes nothing but its table, and look for the modules that it needs."""
    given = parser_of(name, about).parse_args(argv)
    require(*needs)
    check_published(name, given.print)
    return given.print


def options(
    name: str,
    about: str | None,
    argv: Sequence[str] | None,
    add: AddOptions | None = None,
    needs: Sequence[str] = ("matplotlib",),
    needs_for_data: Sequence[str] = (),
) -> Options:
    """Read the options that every experiment has, and those that ``add`` gives the parser: ``more`` has them all.

    What the command will need in the end is looked for now: modules (the second ones unless it is quick), and places
    where it can write.
    """
    parser = parser_of(name, about, add)
    parser.add_argument("--out", type=Path, default=Path("results") / name, help="folder of the table and the figure")
    parser.add_argument("--quick", action="store_true", help="a few seconds on made-up data, only to see that it works")
    given = parser.parse_args(argv)
    require(*needs, *(() if given.quick else needs_for_data))
    check_writable([given.out / file for file in (TABLE, MARKDOWN, FIGURE)])
    check_published(name, given.print or given.quick)
    return Options(name, given.out, given.quick, given.print or given.quick, given)


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

"""A roadmap of 252 architectures of SaffuLM: the best of each size, by itself and on the explicit model.

``python -m bench.experiments.architecture_roadmap [--print]`` takes about an hour and 3.3 GB. Needs SAFFU_DATA and
matplotlib.

Runs ``saffu roadmap`` on a million tokens of the children's corpora, as many of each: every architecture is solved and
scored on held-out text, the best three are refined for an epoch. Stopped, it goes on where it was when called again,
and a finished one is only read: remove the folder of ``--out`` to measure anew. The figure goes to
``bench/figures/roadmap.png``.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench import ROOT
from bench.data import corpora, texts
from bench.report.command import Options, closing, options, write
from bench.report.requirements import data_folder
from bench.report.tables import markdown_table
from saffu.search.architectures import INTEGERS, Architecture

TOKENS = 1_000_000
SIZES: tuple[tuple[str, float], ...] = (("to 1 million", 1e6), ("to 3 million", 3e6), ("any", float("inf")))
QUICK_GRID = {"bits": [8, 16], "contexts": ["radial"], "radius": [2], "hidden": [4], "residual": [True, False]}
FIGURE = ROOT / "bench" / "figures" / "roadmap.png"


class Model(NamedTuple):
    """One architecture, solved and perhaps refined; perplexities of held-out text."""

    architecture: Architecture
    n_parameters: int
    perplexity: float
    refined: float | None

    @property
    def shown(self) -> str:
        """The architecture, without whether it has a residual base."""
        return str(replace(self.architecture, residual=False))


# ---- the run ---------------------------------------------------------------------------------------------------------


def arguments(given: Options) -> list[str]:
    """Of ``saffu roadmap``."""
    if not given.quick:
        files = [str(data_folder() / "children" / f"{name}.train.txt.gz") for name in corpora.CHILDREN]
        return [*files, "--tokens", str(TOKENS), "--tokenizer", "whitespace"]
    text, grid = given.out / "made_up.txt", given.out / "grid.json"
    given.out.mkdir(parents=True, exist_ok=True)
    text.write_text(made_up_text(), encoding="utf-8")
    grid.write_text(json.dumps(QUICK_GRID), encoding="utf-8")
    return [str(text), "--tokenizer", "whitespace", "--min-count", "1", "--grid", str(grid), "--refine", "1"]


def made_up_text() -> str:
    """Lines of words, a blank line between documents."""
    part = texts.made_up(4000).train
    lines = [" ".join(f"w{i}" for i in part.ids[first + 1 : first + 10]) for first in range(0, part.ids.size, 10)]
    return "\n\n".join("\n".join(lines[first : first + 10]) for first in range(0, len(lines), 10)) + "\n"


def run_roadmap(given: Options, folder: Path) -> None:
    """Solve, score and refine, in a process of its own."""
    # The package that this process found must be the one that the other finds: an unbuilt checkout may be beside it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place or "." for place in sys.path)}
    command = [sys.executable, "-P", "-m", "saffu", "roadmap", *arguments(given), "--out", str(folder)]
    subprocess.run(command, env=environment, check=True)


def read_records(folder: Path) -> list[dict[str, str]]:
    """The lines of the table that ``saffu roadmap`` wrote."""
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def models(records: Sequence[dict[str, str]]) -> Iterator[Model]:
    """The models that were solved."""
    for record in records:
        if not record["perplexity"]:
            continue
        sizes = {name: int(record[name]) if record[name] else None for name in INTEGERS}
        choices: dict[str, Any] = {**sizes, "contexts": record["contexts"], "residual": record["residual"] == "1"}
        refined = float(record["refined_perplexity"]) if record["refined_perplexity"] else None
        n_parameters, perplexity = int(record["n_parameters"]), float(record["perplexity"])
        yield Model(Architecture(**choices), n_parameters, perplexity, refined)


# ---- table -----------------------------------------------------------------------------------------------------------


def table(found: Sequence[Model]) -> str:
    """The best model of each size, solved by itself and on the explicit model, and the best refined one."""
    lines = []
    for name, most in SIZES:
        within = [model for model in found if model.n_parameters <= most]
        refined = [model.refined for model in within if model.refined is not None]
        cells = [cell for residual in (False, True) for cell in _best(within, residual, most)]
        lines.append([name, *cells, f"{min(refined):.1f}" if refined else ""])
    header = ["parameters", "compact", "perplexity", "on the explicit model", "perplexity", "refined"]
    return markdown_table(header, lines)


def _best(found: Sequence[Model], residual: bool, most: float) -> tuple[str, str]:
    """Architecture and perplexity of the best with or without an explicit model; its size where none is given."""
    of_kind = [model for model in found if model.architecture.residual == residual]
    if not of_kind:
        return "", ""
    best = min(of_kind, key=lambda model: model.perplexity)
    size = f" ({best.n_parameters / 1e6:.1f} million)" if most == float("inf") else ""
    return best.shown + size, f"{best.perplexity:.1f}"


def about(records: Sequence[dict[str, str]]) -> str:
    """What the table was measured on."""
    first = records[0]
    seconds = sum(float(record["seconds_solve"] or 0) for record in records)
    return (
        f"{len(records)} architectures solved on {int(first['train_tokens']):,} tokens ({int(first['types']):,} types) "
        f"in {seconds / 60:.1f} minutes, perplexity of {int(first['held_out_tokens']):,} held-out ones; unigram "
        f"{float(first['unigram_perplexity']):.1f}."
    )


def run(given: Options) -> None:
    """Make the roadmap and write the best of each size."""
    began = time.perf_counter()
    folder = given.out / "roadmap"
    run_roadmap(given, folder)
    records = read_records(folder)
    budget = "every architecture solved once, the best three refined for an epoch"
    report = [about(records), table(list(models(records))), closing("0", budget, began)]
    write(given, records, "\n\n".join(report))
    if not given.only_print:
        shutil.copyfile(folder / "figure.png", FIGURE)
        print(f"wrote {FIGURE}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("architecture-roadmap", __doc__, argv))


if __name__ == "__main__":
    main()

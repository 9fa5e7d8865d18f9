"""Growing instead of starting anew.

``python -m bench.experiments.growth [--print]`` takes about ten minutes. Needs SAFFU_DATA and torch.

Four tables: how exactly the six expansions keep the function of transformers, numpy's and torch's; what solved growth
gives explicit models and models of units; progressive growth of a transformer against training its final size from
scratch, with random, zero and explicit new parts; and a family of models from one checkpoint.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.data.texts import text_of
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table
from bench.trials.expansions import largest_differences
from bench.trials.progressive_growth import FULL, QUICK, family, race
from bench.trials.solved_growth import Growth, solved_growths

RATES = (1e-3, 3e-3, 1e-2, 3e-2)


# ---- tables ----------------------------------------------------------------------------------------------------------


def exact_table(found: dict[tuple[str, str], float]) -> str:
    """Largest differences."""
    libraries = "numpy", "torch"
    lines = [[dtype, *(f"{found[dtype, each]:.0e}" for each in libraries)] for dtype in ("float64", "float32")]
    return markdown_table(["", *libraries], lines)


def solved_table(growths: Sequence[Growth]) -> str:
    """What solved growth gives."""
    lines = [
        [
            g.model,
            g.what,
            f"{g.n_before:,} -> {g.n_after:,}",
            "{:.3f} -> {:.3f}".format(*np.mean(g.criterion, axis=0)),
            "{:.1f} -> {:.1f}".format(*np.mean(g.perplexity, axis=0)),
            f"{np.mean(g.changes):+.1%}",
            "" if len(g.changes) < 2 else f"{min(g.changes):+.1%} to {max(g.changes):+.1%}",
            f"{g.seconds:.1f}",
        ]
        for g in growths
    ]
    return markdown_table(
        [
            "model",
            "grown to",
            "entries or parameters",
            "criterion, nats",
            "test perplexity",
            "change",
            "over the seeds",
            "s",
        ],
        lines,
    )


def progressive_table(rows: Sequence[dict[str, Any]]) -> str:
    """Time, multiply-adds and loss."""
    lines = [
        [
            row["name"],
            str(row["epochs of the final size"]),
            f"{row['seconds']:.0f}",
            f"{row['time']:.0%}",
            f"{row['multiply-adds']:.0%}",
            f"{row['nll']:.3f}",
        ]
        for row in rows
    ]
    return markdown_table(["", "epochs of the final size", "s", "of the time", "of the multiply-adds", "nats"], lines)


def family_table(rows: Sequence[dict[str, Any]]) -> str:
    """Sizes, losses and tuned rates."""
    lines = []
    for row in rows:
        facts = [row["name"], f"{row['parameters']:,}", f"{row['grown']:.3f}"]
        alone = [f"{row['from scratch']:.3f}", *(f"{rate:g}" for rate in row["rates"])] if "rates" in row else [""] * 3
        lines.append(facts + alone)
    return markdown_table(["model", "parameters", "grown, nats", "from scratch, nats", "rate", "from scratch"], lines)


def run(given: Options) -> None:
    """Run everything and write."""
    began = time.perf_counter()
    plan, rates = (QUICK, RATES[:2]) if given.quick else (FULL, RATES)
    text = text_of("made up", 1500) if given.quick else text_of("children", given.more.tokens, given.more.types)
    seeds = (0,) if given.quick else tuple(range(given.more.seeds))
    differences = largest_differences(3 if given.quick else 200)
    print(exact_table(differences), flush=True)
    growths = []
    for growth in solved_growths(text, given.quick, seeds):
        growths.append(growth)
        print(growth, flush=True)
    rows = []
    for row in race(text, plan, rates, seeds):
        rows.append(row)
        print(row, flush=True)
    relatives = []
    for row in family(text, plan, rates, rows[0]["rate"]):
        relatives.append(row)
        print(row, flush=True)
    exact = [{"part": "exact", "name": " ".join(key), "difference": value} for key, value in differences.items()]
    solved = [record for growth in growths for record in growth.records()]
    records = [*exact, *solved, *rows, *relatives]
    budget = (
        f"{text.train.ids.size:,} tokens of {text.name}, {text.n_types:,} types; final size "
        + ", ".join(f"{key} {value}" for key, value in plan.stages[-1].items())
        + f", rate {rows[0]['rate']:g}, tuned from scratch"
    )
    parts = [
        "Largest difference of logits, relative to their scale, over random models and up to eight random expansions:",
        exact_table(differences),
        "Growth solved on the training text:",
        solved_table(growths),
        "Progressive growth, an epoch of each smaller size first; loss on validation text:",
        progressive_table(rows),
        "A family from one checkpoint, an epoch each; loss on validation text:",
        family_table(relatives),
        closing(f"{seeds[0]} to {seeds[-1]}", budget, began, ["torch"]),
    ]
    write(given, records, "\n\n".join(parts))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured on."""
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--types", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("growth", __doc__, argv, add_options, needs=["torch"]))


if __name__ == "__main__":
    main()

"""How exactly growth keeps the function of decoders: random models of every family, grown at random.

``python -m bench.experiments.exact_growth [--print]`` takes about fifteen minutes. Needs the bench extra.

For each family and precision, random configs (widths, depths, heads, groups, vocabularies, tied or not) and random
chains of up to five growths of each, against the library's own implementation: logits of whole rows, of rows with
padding before and behind, with a cache in two steps, and greedy generation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table
from bench.trials.exact_growth import FAMILIES, random_case

DTYPES = ("float64", "float32")
LIMITS = {"float64": 1e-10, "float32": 1e-5}


class Found(NamedTuple):
    """What the cases of a family in one precision have in common."""

    family: str
    dtype: str
    cases: int
    growths: int
    difference: float
    other_tokens: int


def measured(cases: int) -> Iterator[Found]:
    """Yield what was found for each family and precision."""
    for family in FAMILIES:
        for dtype in DTYPES:
            found = [random_case(family, seed, dtype) for seed in range(cases)]
            growths = sum(len(case.targets) for case in found)
            different = sum(not case.same_tokens for case in found)
            yield Found(family, dtype, cases, growths, max(case.difference for case in found), different)


def table(found: Sequence[Found]) -> str:
    """Largest differences, a line for each family."""
    lines = []
    for family in dict.fromkeys(each.family for each in found):
        some = {each.dtype: each for each in found if each.family == family}
        one = next(iter(some.values()))
        different = sum(each.other_tokens for each in some.values())
        cells = [f"{some[dtype].difference:.1e}" for dtype in DTYPES if dtype in some]
        lines.append([family, one.cases, one.growths, *cells, different])
    return markdown_table(["", "cases each", "growths", *DTYPES, "other tokens generated"], lines)


def run(given: Options) -> None:
    """Measure and write."""
    began = time.perf_counter()
    found: list[Found] = []
    for each in measured(1 if given.quick else given.more.cases):
        print(each, flush=True)
        found.append(each)
    records: list[dict[str, Any]] = [each._asdict() for each in found]
    within = all(each.difference <= LIMITS[each.dtype] for each in found)
    limits = " and ".join(f"{LIMITS[dtype]:g} in {dtype}" for dtype in DTYPES)
    parts = [
        "Largest difference of logits after growth, relative to the largest logit; our own transformer generates "
        "nothing here:",
        table(found),
        f"{'All are' if within else 'Not all are'} within {limits}.",
        closing(f"0 to {found[0].cases - 1}", "random configs", began, ["torch", "transformers"]),
    ]
    write(given, records, "\n\n".join(parts))


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many."""
    parser.add_argument("--cases", type=int, default=300, help="of each family in each precision")


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("exact-growth", __doc__, argv, add_options, needs=["torch", "transformers"]))


if __name__ == "__main__":
    main()

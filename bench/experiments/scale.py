"""Seconds, memory and perplexity of ``saffu train`` against the size of the text.

``python -m bench.experiments.scale [--tokens N ...] [--memory SIZE] [--min-entry N,N,...] [--threads N] [--print]``
takes about half an hour up to 100 million tokens, and 10 GB of disk. Needs SAFFU_DATA.

Texts are drawn from the word pairs of Brown, a quarter of the words from all: each is the beginning of the next longer
one. Training runs in a process of its own, from a text file to a model file; another one loads the model memory-mapped
and scores 20,000 tokens drawn like it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.data.drawn_text import PairSource
from bench.report.command import Options, closing, options, write
from bench.report.tables import markdown_table
from bench.trials.scale import SCORED, scored, trained

TOKENS = (100_000, 1_000_000, 10_000_000, 100_000_000)
QUICK_TOKENS = (2000, 8000)
MEMORY, QUICK_MEMORY = "4G", "1M"


def measured(given: Options, folder: Path, source: PairSource, n_tokens: int) -> dict[str, Any]:
    """The record of one size."""
    text, model, test = (folder / name for name in ("text", "model", "test"))
    source.write(text, n_tokens, seed=0)
    source.write(test, SCORED if not given.quick else 500, seed=1)
    memory = given.more.memory or (QUICK_MEMORY if given.quick else MEMORY)
    more = ["--tokenizer", "whitespace", "--memory", memory]
    if given.more.min_entry is not None:
        more += ["--min-entry", given.more.min_entry]
    if given.quick:
        more += ["--windows", "", "--induction", "0"]
    found = trained(text, model, more, given.more.threads)
    return {"text": n_tokens, "memory limit": memory, **found, **scored(model, test, given.more.threads)}


def table(records: Sequence[dict[str, Any]]) -> str:
    """One row a size."""
    lines = [
        [
            f"{record['tokens']:,}",
            f"{record['types']:,}",
            f"{record['entries'] / 1e6:,.1f}",
            record["memory limit"],
            f"{record['seconds']:,.1f}",
            f"{record['seconds'] / record['tokens'] * 1e6:.2f}",
            f"{record['processor seconds'] / record['tokens'] * 1e6:.2f}",
            f"{record['peak bytes'] / 1e9:.2f}",
            f"{record['model bytes'] / 1e9:.3f}",
            f"{record['load seconds']:.2f}",
            f"{record['perplexity']:.1f}",
        ]
        for record in records
    ]
    columns = [
        "tokens",
        "types",
        "entries, millions",
        "memory limit",
        "s",
        "us a token",
        "CPU us a token",
        "peak GB",
        "model GB",
    ]
    return markdown_table([*columns, "s to load", "perplexity"], lines)


def draw(figure: Any, records: Sequence[dict[str, Any]]) -> None:
    """Three curves over the tokens."""
    panels = {"seconds": 1.0, "peak bytes": 1e9, "perplexity": 1.0}
    for axes, (name, unit) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.plot([record["tokens"] for record in records], [record[name] / unit for record in records], "o-")
        axes.set_xscale("log")
        axes.set_yscale("log" if name == "seconds" else "linear")
        axes.set_xlabel("tokens")
        axes.set_title({"peak bytes": "peak GB"}.get(name, name))
    figure.set_size_inches(12, 4)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this command alone."""
    parser.add_argument("--tokens", type=int, nargs="+", metavar="N", help="sizes of the texts")
    parser.add_argument("--memory", metavar="SIZE", help=f"as of saffu train (default: {MEMORY})")
    parser.add_argument("--min-entry", metavar="N,N,...", help="as of saffu train")
    parser.add_argument("--threads", type=int, metavar="N", help="of the kernels (default: every CPU)")


def run(given: Options) -> None:
    """Measure and write."""
    began = time.perf_counter()
    source = PairSource.made_up() if given.quick else PairSource.of_brown()
    records = []
    for n_tokens in given.more.tokens or (QUICK_TOKENS if given.quick else TOKENS):
        with tempfile.TemporaryDirectory(dir=given.out.parent if given.out.parent.is_dir() else None) as folder:
            records.append(measured(given, Path(folder), source, n_tokens))
        print(table(records[-1:]).splitlines()[-1], flush=True)
    text = f"{table(records)}\n\n{closing('0 for the texts, 1 for the test', 'one run of each size', began)}"
    write(given, records, text, lambda figure: draw(figure, records))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    run(options("scale", __doc__, argv, add_options))


if __name__ == "__main__":
    main()

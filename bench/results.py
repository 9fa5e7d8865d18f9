"""Write the tables of ``bench/RESULTS.md``: ``python -m bench.results --all``, or ``python -m bench.results quality``.

Each table is measured by a command of its own, run in a fresh process; the README's table is then made of the cells of
these tables, so that no figure stands in two places that can differ. Without a name, only the README's table is made
anew. Needs SAFFU_DATA and the bench extra.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator

from bench import ROOT
from bench.measure import RESULTS, between, markdown_table, replace_part

README = ROOT / "README.md"

# Name of the table -> module and arguments of the command that measures it, the quick ones first.
COMMANDS: dict[str, list[str]] = {
    "speed": ["bench.experiments.speed"],
    "quality": ["bench.experiments.quality"],
    "small-sets": ["bench.experiments.small_sets"],
    "attention-kernels": ["bench.experiments.attention_kernels"],
    "attention-lm-throughput": ["bench.experiments.attention_lm_throughput"],
    "drift": ["bench.experiments.drift"],
    "learning-on-the-spot": ["bench.experiments.learning_on_the_spot"],
    "attention-lm-residual-100000": ["bench.experiments.attention_lm_residual", "--tokens", "100000"],
    "attention-lm-ablation": ["bench.experiments.attention_lm_ablation"],
    "attention-lm-warm-start": ["bench.experiments.attention_lm_warm_start"],
    "near-optimality": ["bench.experiments.near_optimality"],
    "growth": ["bench.experiments.growth"],
    "accuracy-over-time": ["bench.experiments.accuracy_over_time"],
    "less-data": ["bench.experiments.less_data"],
    "network-warm-start": ["bench.experiments.network_warm_start"],
    "attention-lm-residual": ["bench.experiments.attention_lm_residual"],
}

# Rows of the README's table. ``{table: row: column}`` stands for a cell of RESULTS.md, the row named by its first
# cells, separated by " / ".
HEADLINE = [
    (
        "Brown, words: test perplexity (time to fit)",
        "ExplicitLM {quality: brown: primed, k-fold} ({quality: brown: fit, s} s)",
        "Kneser-Ney {quality: brown: Kneser-Ney}",
    ),
    (
        "MNIST pixels: accuracy / NLL (time to fit)",
        "ExplicitNetwork, 300 hidden: {quality: MNIST / saffu network, 300 hidden: accuracy} / "
        "{quality: MNIST / saffu network, 300 hidden: NLL (nats)} "
        "({quality: MNIST / saffu network, 300 hidden: seconds} s)",
        "LogisticRegression {quality: MNIST / LogisticRegression: accuracy} / "
        "{quality: MNIST / LogisticRegression: NLL (nats)} ({quality: MNIST / LogisticRegression: seconds} s)",
    ),
    (
        "20 Newsgroups, words: accuracy / NLL (time to fit)",
        "SoftmaxLayer {quality: 20 Newsgroups / saffu primed: accuracy} / "
        "{quality: 20 Newsgroups / saffu primed: NLL (nats)} ({quality: 20 Newsgroups / saffu primed: seconds} s)",
        "MultinomialNB {quality: 20 Newsgroups / MultinomialNB: accuracy} / "
        "{quality: 20 Newsgroups / MultinomialNB: NLL (nats)}; LogisticRegression "
        "{quality: 20 Newsgroups / LogisticRegression: accuracy} / "
        "{quality: 20 Newsgroups / LogisticRegression: NLL (nats)} "
        "({quality: 20 Newsgroups / LogisticRegression: seconds} s)",
    ),
    (
        "count 5M ids at distances 1..10",
        "{speed: count 5M Zipf ids, V = 20,000, distances 1..10: saffu}",
        "{speed: count 5M Zipf ids, V = 20,000, distances 1..10: beside}",
    ),
    (
        "wine, 178 rows in [0, 1]: NLL / accuracy",
        "SoftmaxLayer {small-sets: wine / to [0, 1]: SoftmaxLayer}",
        "MultinomialNB {small-sets: wine / to [0, 1]: MultinomialNB}",
    ),
    (
        "iris, 150 rows: NLL / accuracy",
        "SoftmaxLayer {small-sets: iris / raw: SoftmaxLayer}",
        "MultinomialNB {small-sets: iris / raw: MultinomialNB}",
    ),
]


def cells(line: str) -> list[str]:
    """Cells of a line of a table, without emphasis."""
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


def cell_of(results: str, table: str, row: str, column: str) -> str:
    """A cell of the tables that one command wrote; SystemExit if there is none."""
    begin, end = between(table)
    part = results.partition(begin)[2].partition(end)[0]
    header: list[str] = []
    for line in part.splitlines():
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells(line)
        elif column in header and f"{' / '.join(cells(line))} / ".startswith(f"{row} / "):
            return cells(line)[header.index(column)]
    sys.exit(f"{RESULTS} has no cell {row!r}, {column!r} in its tables {table!r}")


def headline(results: str) -> str:
    """The README's table."""

    def filled(template: str) -> str:
        return re.sub(r"\{(.+?): (.+?): ([^:]+?)\}", lambda found: cell_of(results, *found.groups()), template)

    rows = [[filled(cell) for cell in row] for row in HEADLINE]
    return markdown_table(["what", "saffu", "instead"], rows).replace("---:", "---")


def chosen(names: list[str], everything: bool) -> Iterator[str]:
    """Names of the tables to measure."""
    unknown = sorted(set(names) - set(COMMANDS))
    if unknown:
        sys.exit(f"no table is called {', '.join(unknown)}; there are: {', '.join(COMMANDS)}")
    yield from COMMANDS if everything else names


def main() -> None:
    """Measure, then make the README's table."""
    parser = argparse.ArgumentParser(prog="python -m bench.results", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TABLE", help=f"which tables to measure: {', '.join(COMMANDS)}")
    parser.add_argument("--all", action="store_true", help="measure every table; takes about two hours")
    given = parser.parse_args()
    for name in chosen(given.names, given.all):
        subprocess.run([sys.executable, "-m", *COMMANDS[name]], cwd=ROOT, check=True)
    replace_part(README, "figures", headline(RESULTS.read_text(encoding="utf-8")))
    print(f"wrote the table of figures into {README}")


if __name__ == "__main__":
    main()

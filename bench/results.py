"""Write the tables of ``bench/RESULTS.md``: ``python -m bench.results --all``, or ``python -m bench.results speed``.

Each table is measured by a command of its own, run in a fresh process; the README's table is then made of the cells of
these tables, so that no figure stands in two places that can differ. Without a name, only the README's table is made
anew. Needs SAFFU_DATA and the bench extra.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence

from bench import ROOT
from bench.report.tables import RESULTS, between, markdown_table, replace_part

README = ROOT / "README.md"

# Names of the tables, the quick ones first. A table is measured by the command of its name; those whose command takes
# arguments are below.
TABLES = (
    "speed",
    "kernel-aims",
    "patch-encoder-speed",
    "import-time",
    "cluster",
    "language-model-quality",
    "context-ablation",
    "classifier-quality",
    "text-classifier-quality",
    "image-classifier-quality",
    "small-sets",
    "torch-warm-start",
    "attention-kernels",
    "attention-lm-throughput",
    "drift",
    "learning-on-the-spot",
    "attention-lm-residual-100000",
    "attention-lm-ablation",
    "attention-lm-warm-start",
    "near-optimality",
    "growth",
    "thread-scaling",
    "beside-kenlm",
    "exact-growth",
    "growing-decoder",
    "pruning",
    "large-text",
    "mixtures",
    "scale",
    "accuracy-over-time",
    "less-data",
    "network-warm-start",
    "attention-lm-residual",
    "architecture-roadmap",
    "recurrent-lm",
)
ARGUMENTS = {"attention-lm-residual-100000": ["attention_lm_residual", "--tokens", "100000"]}


def command(table: str) -> list[str]:
    """Module and arguments of the command that measures a table."""
    module, *arguments = ARGUMENTS.get(table, [table.replace("-", "_")])
    return [f"bench.experiments.{module}", *arguments]


# ---- the table of the README -----------------------------------------------------------------------------------------


def _classifier(data: str, model: str) -> str:
    cells = "{accuracy} / {NLL (nats)} ({seconds} s)"
    return re.sub(r"\{(.+?)\}", rf"{{classifier-quality: {data} / {model}: \1}}", cells)


# ``{table: row: column}`` stands for a cell of RESULTS.md, the row named by its first cells, separated by " / ".
HEADLINE = [
    (
        "Brown, words: test perplexity (time to fit)",
        "ExplicitLM {language-model-quality: brown: primed, k-fold} ({language-model-quality: brown: fit, s} s)",
        "Kneser-Ney {language-model-quality: brown: Kneser-Ney}",
    ),
    (
        "MNIST pixels: accuracy / NLL (time to fit)",
        "ExplicitNetwork, 300 hidden: " + _classifier("MNIST", "saffu network, 300 hidden"),
        "LogisticRegression " + _classifier("MNIST", "LogisticRegression"),
    ),
    (
        "20 Newsgroups, words: accuracy / NLL (time to fit)",
        "SoftmaxLayer " + _classifier("20 Newsgroups", "saffu primed"),
        "MultinomialNB {classifier-quality: 20 Newsgroups / MultinomialNB: accuracy} / "
        "{classifier-quality: 20 Newsgroups / MultinomialNB: NLL (nats)}; LogisticRegression "
        + _classifier("20 Newsgroups", "LogisticRegression"),
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


# ---- the command -----------------------------------------------------------------------------------------------------


def chosen(names: Sequence[str], everything: bool) -> Sequence[str]:
    """Names of the tables to measure."""
    unknown = sorted(set(names) - set(TABLES))
    if unknown:
        sys.exit(f"no table is called {', '.join(unknown)}; there are: {', '.join(TABLES)}")
    return TABLES if everything else names


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then make the README's table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="TABLE", help=f"which tables to measure: {', '.join(TABLES)}")
    parser.add_argument("--all", action="store_true", help="measure every table; takes about three hours")
    given = parser.parse_args(argv)
    for name in chosen(given.names, given.all):
        subprocess.run([sys.executable, "-m", *command(name)], cwd=ROOT, check=True)
    replace_part(README, "figures", headline(RESULTS.read_text(encoding="utf-8")))
    print(f"wrote the table of figures into {README}")


if __name__ == "__main__":
    main()

"""Explicit language models pruned: what is lost, and how much smaller and faster they become.

``python -m bench.experiments.pruning [--quick] [--print]`` takes about ten minutes. Needs SAFFU_DATA.

Two tables. Each corpus is pruned to several losses and scored on its test part on one thread. Then, on the first
corpus, criteria are compared: the loss on blocks that are left out of the counts in turn, of models with equally many
entries, chosen by saffu's criterion, by that of Stolcke (1998) for each table alone, and by cut-offs of counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import corpora
from bench.data.texts import Text, made_up
from bench.measure.clock import quickest, timed
from bench.report.command import parser_of
from bench.report.requirements import data_folder
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import ExplicitLM
from saffu.ngram_lm.pruning import Trials, search
from saffu.ngram_lm.row_pruning import RowPruner, TableScalars
from saffu.ngram_lm.weights import NgramWeights, Table
from saffu.utils.arrays import Bools, Float64, Int64

NAME = "pruning"
LOSSES = (0.002, 0.005, 0.02, 0.05)
SHARES = (0.5, 0.3, 0.15)  # of the entries, where criteria are compared
SCORED = 40_000  # tokens of a test part


# ---- other criteria --------------------------------------------------------------------------------------------------


class Stolcke(RowPruner):
    """The same for each table alone: every scalar is one, and time costs nothing."""

    def __init__(self, weights: NgramWeights, scalars: TableScalars) -> None:
        ones = np.ones(len(weights.tables))
        super().__init__(weights, TableScalars(ones, ones))
        self.time = np.inf


class CountCutoff(RowPruner):
    """Keeps what was counted more often than the threshold."""

    def choose(self, j: int, threshold: float, table: Table, row: Int64, p: Float64, q: Float64) -> Bools:
        """Which entries stay."""
        frequent: Bools = table.counts.data > threshold
        return frequent


CRITERIA: dict[str, type[RowPruner]] = {
    "saffu": RowPruner,
    "Stolcke, each table": Stolcke,
    "count cut-off": CountCutoff,
}


# ---- measuring -------------------------------------------------------------------------------------------------------


def texts(quick: bool) -> Iterator[tuple[Text, dict[str, Any]]]:
    """Texts and the settings of their models."""
    if quick:
        yield made_up(2000), {"radius": 2, "order": 3, "windows": (60,), "induction": 0}
        return
    for split, settings in (
        (corpora.brown(data_folder()), {}),
        (corpora.children(data_folder(), "fairytales"), {}),
        (corpora.shakespeare(data_folder(), "chars"), {"radius": 5, "order": 10}),
    ):
        yield Text(split.name, len(split.vocabulary), split.train, split.test, split.test), settings


def fitted(text: Text, settings: dict[str, Any]) -> ExplicitLM:
    """A model of the training part."""
    model = ExplicitLM(**settings)
    return model.fit(text.train.ids, documents=text.train.starts, vocab_size=text.n_types)


def n_left(tables: Sequence[Table]) -> int:
    """Entries with a weight."""
    return sum(int(np.count_nonzero(table.u)) for table in tables)


def touched(model: ExplicitLM, text: Text) -> float:
    """Entries of rows that a position of the test part sees, on the average."""
    weights = model.solution.solved()[0].weights
    rows = weights.contexts(text.test.stream.slice(0, SCORED))
    lengths = [np.append(np.diff(table.entries_with_weight()[0]), 0) for table in weights.tables]
    return float(sum(length[row].sum() for length, row in zip(lengths, rows, strict=True)) / rows.shape[1])


def file_size(model: ExplicitLM) -> int:
    """Bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder) / "model")
        return os.path.getsize(path)


def measure(model: ExplicitLM, text: Text, exact: dict[str, float]) -> dict[str, float]:
    """What the first table shows of a model; ``exact`` is the same of the whole one."""
    test = text.test
    nats = -float(model.log_prob(test.ids, documents=test.starts).mean())
    part = test.stream.slice(0, SCORED)
    model.n_threads = 1
    seconds = quickest(partial(model.log_prob, part.ids, documents=part.starts))
    model.n_threads = None
    found = {"nats": nats, "entries": model.summary()["n_entries"], "touched": touched(model, text)}
    found |= {"rate": part.ids.size / seconds, "bytes": file_size(model)}
    return found | {"loss": np.expm1(nats - exact.get("nats", nats)), "share": found["bytes"] / exact.get("bytes", 1)}


def losses_of(text: Text, model: ExplicitLM, losses: Sequence[float]) -> Iterator[list[str]]:
    """Lines of the first table."""
    exact = measure(model, text, {})
    yield _line(text.name, "exact", exact, exact, "", "")
    for most in losses:
        smaller, spent = timed(partial(model.pruned, max_loss=most, progress=False))
        assert smaller.pruning is not None
        measured, took = f"{smaller.pruning['loss']:.2%}", f"{spent.wall:.1f}"
        yield _line(text.name, f"{most:.1%}", measure(smaller, text, exact), exact, measured, took)


def _line(
    name: str, asked: str, found: dict[str, float], exact: dict[str, float], measured: str, seconds: str
) -> list[str]:
    return [
        name,
        asked,
        measured,
        f"{found['loss']:+.2%}",
        f"{np.exp(found['nats']):.2f}",
        f"{found['entries']:,.0f}",
        f"{found['bytes'] / exact['bytes']:.0%}",
        f"{found['touched']:,.0f}",
        f"{found['rate']:,.0f}",
        seconds,
    ]


def threshold_of(pruner: RowPruner, share: float) -> float:
    """The threshold that leaves nearly this share of the entries."""
    return 1 / search(lambda inverse: n_left(pruner.tables(1 / inverse)) / (share * pruner.n_entries), 3.0)


def compared(model: ExplicitLM, shares: Sequence[float]) -> Iterator[list[str]]:
    """Lines of the second table."""
    counts = model.counts
    for name, kind in CRITERIA.items():
        trials = Trials(model.solution, counts, pruner=kind)
        pruner = kind(model.solution.solved()[0].weights, trials.table_scalars)

        for threshold in [1.0, 2.0, 4.0] if kind is CountCutoff else [threshold_of(pruner, share) for share in shares]:
            tables = pruner.tables(threshold)
            seen = sum(
                float(visits @ np.diff(table.entries_with_weight()[0]))
                for visits, table in zip(pruner.visits, tables, strict=True)
            )
            loss = np.expm1(trials.loss(threshold))
            yield [name, f"{threshold:.3g}", f"{n_left(tables) / pruner.n_entries:.1%}", f"{seen:,.0f}", f"{loss:+.2%}"]


def report(quick: bool) -> str:
    """Both tables in Markdown."""
    losses, shares = (LOSSES[2:3], SHARES[:1]) if quick else (LOSSES, SHARES)
    lines: list[list[str]] = []
    criteria: list[list[str]] = []
    for text, settings in texts(quick):
        model = fitted(text, settings)
        lines += losses_of(text, model, losses)
        criteria = criteria or [*compared(model, shares)]
    header = ["corpus", "loss asked for", "measured", "on the test part", "perplexity", "entries", "file"]
    header += ["entries touched a position", "tokens/s, one thread", "pruning, s"]
    return "\n".join(
        [
            "Models pruned by `model.pruned(max_loss=...)`. A loss is a rise in perplexity: the one measured is on",
            "blocks of the training text that are left out of the counts in turn.",
            "",
            markdown_table(header, lines),
            "",
            f"Criteria, on {lines[0][0]}: entries that are left, entries that a position is expected to touch, and the",
            "loss on blocks that are left out, scalars fitted anew.",
            "",
            markdown_table(["criterion", "threshold", "entries", "touched a position", "loss"], criteria),
            "",
            machine_line("every core used but to score"),
        ]
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What else there is."""
    parser.add_argument("--quick", action="store_true", help="made-up text, only to see that it works; it is printed")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    only_print = given.print or given.quick
    check_published(NAME, only_print)
    publish(NAME, report(given.quick), only_print)


if __name__ == "__main__":
    main()

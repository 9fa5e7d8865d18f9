"""Transformer and LSTM of a given size on a corpus, trained by backprop for the same wall time and for multiples of it.

``python -m bench.experiments.neural_peers [--corpus brown]`` takes about three times ``--seconds``, by default three
minutes: each of four learning rates is tried for a tenth of it. Needs SAFFU_DATA and torch.

The learning rate is the one that did best on validation text in short runs. The table is printed; RESULTS.md has these
models in the table of ``bench.experiments.attention_lm_residual``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data import corpora
from bench.data.corpora import Parts
from bench.report.requirements import check_writable, data_folder, require
from bench.report.tables import machine_line, markdown_table, replace_text

if TYPE_CHECKING:
    from bench.peers.torch_training import Row

KINDS = ("transformer", "LSTM", "LSTM, 2 layers")


def report(parts: Parts, found: Sequence[Row]) -> str:
    """The rows as a table in Markdown, with what they were measured on."""
    from bench.peers.torch_softmax import product_dtype

    header = ["model", "parameters", "seconds", "validation", "test", "learning rate", "dropout", "epochs", "tokens/s"]
    about = (
        f"Perplexity on {parts.name}: {parts.train.ids.size:,} tokens to train on, {len(parts.vocabulary):,} types; "
        f"validation on the first {min(corpora.VALID_TOKENS, parts.valid.ids.size):,} tokens of that part."
    )
    machine = machine_line("every core", ["torch"])
    products = f"Products with the vocabulary in {str(product_dtype()).removeprefix('torch.')}."
    return "\n\n".join([about, markdown_table(header, map(_cells, found)), f"{machine} {products}"])


def _cells(row: Row) -> list[str]:
    scores = [f"{row.valid:.1f}", f"{row.test:.1f}"]
    settings = [f"{row.learning_rate:g}", f"{row.dropout:g}", f"{row.epochs:.1f}"]
    return [row.name, f"{row.n_parameters:,}", f"{row.seconds:g}", *scores, *settings, f"{row.tokens_per_second:,.0f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the table and write it."""
    given = _arguments(argv)
    require("torch")
    if given.out:
        check_writable([given.out])
    from bench.peers.torch_training import Budget, rows

    parts = corpora.parts(data_folder(), given.corpus, given.tokens)
    budget = Budget(given.parameters, given.seconds, given.multiples, given.tune_seconds, given.rates, given.dropout)
    found = []
    for row in rows(parts, budget, given.models, given.seed):
        print(" | ".join(_cells(row)), flush=True)
        found.append(row)
    text = report(parts, found)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        replace_text(given.out, f"{text}\n")


def _arguments(argv: Sequence[str] | None) -> Any:
    dropout = "each tried for the whole time; by default one that suits the number of epochs"
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments.neural_peers", description=__doc__, formatter_class=layout
    )
    parser.add_argument("--corpus", choices=corpora.WORDS, default="brown")
    parser.add_argument("--tokens", type=int, help="train on the whole lines among the first so many tokens")
    parser.add_argument("--parameters", type=int, default=2_000_000, help="of each model, tied weights counted once")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training; validation comes on top")
    parser.add_argument("--multiples", type=float, nargs="+", default=[1.0], help="of the time, each a run of its own")
    parser.add_argument("--tune-seconds", type=float, default=0.0, help="of each learning rate; by default a tenth")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates to try; by default four for each model")
    parser.add_argument("--dropout", type=float, nargs="+", default=[], help=dropout)
    parser.add_argument("--models", nargs="+", choices=KINDS, default=["transformer", "LSTM"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file of the table")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

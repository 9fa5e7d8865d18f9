"""Transformer and LSTM of a given size on a corpus.

``python -m bench.experiments.neural_peers --corpus brown``. Needs torch.

Each is trained by backprop for the same wall time (and for multiples of it), with the learning rate that did best on
validation text in short runs. Needs SAFFU_DATA.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

try:
    import torch
except ImportError:
    if __name__ == "__main__":
        from bench.measure import require

        require("torch")
    raise

from bench.data import corpora
from bench.data.corpora import Parts
from bench.measure import check_writable, data_folder, machine_line, markdown_table, replace_text
from bench.peers import torch_language_models as peers
from bench.peers.torch_language_models import LanguageModel, Stream

KINDS: dict[str, Callable[..., LanguageModel]] = {
    "transformer": peers.transformer_of,
    "LSTM": peers.lstm_of,
    "LSTM, 2 layers": partial(peers.lstm_of, layers=2),
}
VALID_TOKENS = 30_000  # scored ten times while training


class Row(NamedTuple):
    """One trained model."""

    name: str
    n_parameters: int
    seconds: float
    valid: float
    test: float
    learning_rate: float
    dropout: float
    epochs: float
    tokens_per_second: float


class Budget(NamedTuple):
    """What every peer is given."""

    n_parameters: int
    seconds: float
    multiples: Sequence[float] = (1,)
    tune_seconds: float = 0.0  # of each learning rate; 0 for a tenth of ``seconds``
    rates: Sequence[float] | None = None  # to try; None for those of the model's class
    dropouts: Sequence[float] = ()  # each in a run of its own, the best on validation text counts; () for one by epochs


def rows(parts: Parts, budget: Budget, kinds: Sequence[str] = ("transformer", "LSTM"), seed: int = 0) -> Iterator[Row]:
    """A row for each kind and each multiple of the time."""
    stream, test = Stream(parts.train.ids, parts.train.documents), Stream(parts.test.ids, parts.test.documents)
    part = corpora.beginning(parts.valid, VALID_TOKENS)
    valid = Stream(part.ids, part.documents)
    for kind in kinds:
        build = partial(KINDS[kind], budget.n_parameters, len(parts.vocabulary))
        tuning = budget.tune_seconds or budget.seconds / 10
        rate, speed = peers.best_learning_rate(build, stream, valid, tuning, budget.rates, seed)
        for multiple in budget.multiples:
            seconds = multiple * budget.seconds
            suggested = peers.sensible_dropout(speed * seconds / stream.size)
            runs = {}
            for dropout in budget.dropouts or [suggested]:
                torch.manual_seed(seed)
                runs[dropout] = peers.train(build(dropout=dropout), stream, valid, seconds, rate, seed)
            dropout, run = min(runs.items(), key=lambda item: item[1].perplexity)
            epochs = run.tokens_per_second * seconds / stream.size
            score, size = peers.perplexity(run.model, test), run.model.n_parameters
            yield Row(kind, size, seconds, run.perplexity, score, rate, dropout, epochs, run.tokens_per_second)


def report(parts: Parts, found: Sequence[Row]) -> str:
    """The rows as a table in Markdown, with what they were measured on."""
    header = ["model", "parameters", "seconds", "validation", "test", "learning rate", "dropout", "epochs", "tokens/s"]
    about = (
        f"Perplexity on {parts.name}: {parts.train.ids.size:,} tokens to train on, {len(parts.vocabulary):,} types; "
        f"validation on the first {min(VALID_TOKENS, parts.valid.ids.size):,} tokens of that part."
    )
    machine = machine_line("every core", ["torch"])
    products = f"Products with the vocabulary in {str(peers.product_dtype()).removeprefix('torch.')}."
    return "\n\n".join([about, markdown_table(header, map(_cells, found)), f"{machine} {products}"])


def _cells(row: Row) -> list[str]:
    scores = [f"{row.valid:.1f}", f"{row.test:.1f}"]
    settings = [f"{row.learning_rate:g}", f"{row.dropout:g}", f"{row.epochs:.1f}"]
    return [row.name, f"{row.n_parameters:,}", f"{row.seconds:g}", *scores, *settings, f"{row.tokens_per_second:,.0f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the table and write it."""
    given = _arguments(argv)
    if given.out:
        check_writable([given.out])
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
    parser = argparse.ArgumentParser(prog="python -m bench.experiments.neural_peers", description=__doc__)
    parser.add_argument("--corpus", choices=corpora.WORDS, default="brown")
    parser.add_argument("--tokens", type=int, help="train on the whole lines among the first so many tokens")
    parser.add_argument("--parameters", type=int, default=2_000_000, help="of each model, tied weights counted once")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training; validation comes on top")
    parser.add_argument("--multiples", type=float, nargs="+", default=[1.0], help="of the time, each a run of its own")
    parser.add_argument("--tune-seconds", type=float, default=0.0, help="of each learning rate; by default a tenth")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates to try; by default four for each model")
    parser.add_argument("--dropout", type=float, nargs="+", default=[], help=dropout)
    parser.add_argument("--models", nargs="+", choices=list(KINDS), default=["transformer", "LSTM"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file of the table")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

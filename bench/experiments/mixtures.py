"""Counts, a neural network, and both mixed in probability, within one budget of wall time.

``python -m bench.experiments.mixtures [--budget 15m] [--tokens N] [--corpora a,b] [--quick] [--print]`` takes the
budget for each of five corpora, an hour and a quarter in all by default. Needs SAFFU_DATA.

What ``saffu train --model mixture`` does: an ExplicitLM first, a RecurrentLM for the time that is left, and a weight
for each, fitted on a part of the training text. All three are scored on the test part.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.data import corpora
from bench.data.corpora import Split
from bench.data.texts import made_up
from bench.report.command import parser_of
from bench.report.requirements import data_folder
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import ExplicitLM, MixtureLM
from saffu.mixture_lm import TimeBudget, train_within
from saffu.text import Chunk, Corpus, Vocabulary
from saffu.text.bootstrap import PairedTest, paired_test
from saffu.utils.durations import duration

NAME = "mixtures"
BUDGET = "15m"
CORPORA = ("brown", *corpora.CHILDREN, "wikitext2")


class Row(NamedTuple):
    """What is known of one corpus; losses are of ExplicitLM, RecurrentLM and the mixture, nats per token."""

    corpus: str
    vocab_size: int
    train_tokens: int
    nats: Sequence[float]
    weight: float
    seconds: float
    gain: PairedTest


def split_of(folder: Path, name: str) -> Split:
    """A corpus; of wikitext2 there are two parts: the larger one is for training."""
    if name == "brown":
        return corpora.brown(folder)
    if name != "wikitext2":
        return corpora.children(folder, name)
    train = Corpus(folder / "wikitext2" / "test.txt.gz", tokenizer="whitespace", documents="file")
    vocabulary = train.build_vocabulary(corpora.MIN_COUNT)
    test = Corpus(folder / "wikitext2" / "valid.txt.gz", tokenizer="whitespace", documents="file")
    return Split(name, vocabulary, train.read(vocabulary), test.read(vocabulary))


def shortened(split: Split, tokens: int | None) -> Split:
    """The same with the beginning of the training part, and the vocabulary of that."""
    if tokens is None:
        return split
    text = corpora.beginning(split.train, tokens)
    vocabulary, ids = corpora.frequent(split.vocabulary, text.ids)
    new = {name: number for number, name in enumerate(vocabulary.types)}
    table = np.array([new.get(name, 0) for name in split.vocabulary.types], np.int32)
    return Split(split.name, vocabulary, text._replace(ids=ids), split.test._replace(ids=table[split.test.ids]))


def quick_split() -> Split:
    """A made-up text of a few thousand tokens."""
    text = made_up(6000)
    vocabulary = Vocabulary([f"w{i}" for i in range(text.n_types - 2)])
    return Split(text.name, vocabulary, text.train, text.test)


def measure(split: Split, seconds: float) -> Row:
    """Train within the time and score the test part."""
    budget = TimeBudget(seconds)
    mixture = train_within(split.train.stream, budget=budget, explicit=ExplicitLM(), vocab_size=len(split.vocabulary))
    took = time.monotonic() - budget.began
    log_prob = [_log_prob(model, split.test) for model in (*mixture.experts, mixture)]
    nats = [-float(found.mean()) for found in log_prob]
    if len(mixture.experts) == 1:  # no time was left for the other
        nats.insert(1, np.nan)
    weights = mixture.weights
    assert weights is not None
    gain = paired_test(log_prob[0], log_prob[-1], split.test.stream)
    return Row(split.name, len(split.vocabulary), split.train.ids.size, nats, float(weights[0]), took, gain)


def _log_prob(model: MixtureLM, text: Chunk) -> np.ndarray:
    return model.log_prob(text.ids, documents=text.starts)


def rows(given: argparse.Namespace) -> Iterator[Row]:
    """One corpus after the other."""
    if given.quick:
        yield measure(quick_split(), min(given.budget, 5.0))
        return
    for name in given.corpora:
        yield measure(shortened(split_of(data_folder(), name), given.tokens), given.budget)


def report(given: argparse.Namespace) -> str:
    """The table in Markdown, with what it was measured on."""
    header = ["corpus", "V", "tokens to train on", "ExplicitLM", "RecurrentLM", "**MixtureLM**", "below ExplicitLM"]
    header += ["95 % interval", "weight of ExplicitLM", "seconds"]
    return "\n".join(
        [
            f"Test perplexity after {given.budget:,.0f} s of wall time, all included: `saffu train --model mixture`",
            "with its defaults. Types seen fewer than three times are `<unk>`, a line end is a token. The weight is",
            "fitted on a part of the training text, which is then given to the counts. Intervals of the gain:",
            "documents of the test part drawn anew. WikiText-2 has no training part here: its test part is trained on,",
            "its validation part scored.",
            "",
            markdown_table(header, [_cells(row) for row in rows(given)]),
            "",
            machine_line("every core used"),
        ]
    )


def _cells(row: Row) -> list[str]:
    explicit, neural, mixed = (f"{np.exp(nats):.1f}" for nats in row.nats)
    low, high = (f"{-np.expm1(end):.1%}" for end in row.gain.interval)
    return [
        row.corpus,
        f"{row.vocab_size:,}",
        f"{row.train_tokens:,}",
        explicit,
        neural,
        f"**{mixed}**",
        f"{-np.expm1(row.gain.difference):.1%}",
        f"{high} to {low}",
        f"{row.weight:.2f}",
        f"{row.seconds:.0f}",
    ]


def _budget(text: str) -> float:
    return duration(text, "budget")


def _names(text: str) -> list[str]:
    found = text.split(",")
    if unknown := set(found) - set(CORPORA):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(CORPORA)}, got {', '.join(sorted(unknown))}")
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long, and on what."""
    parser.add_argument("--budget", type=_budget, default=_budget(BUDGET), help=f"for each corpus (default: {BUDGET})")
    parser.add_argument("--tokens", type=int, help="train on so many tokens of each corpus only")
    parser.add_argument("--corpora", type=_names, default=list(CORPORA), help="with commas between (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few seconds on made-up data, only to see that it works")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    only_print = given.print or given.quick
    check_published(NAME, only_print)
    publish(NAME, report(given), only_print)


if __name__ == "__main__":
    main()

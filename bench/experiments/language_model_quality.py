"""Perplexity of the explicit language model on real text, beside simpler models of the same counts.

``python -m bench.experiments.language_model_quality [--print]`` takes about three minutes. Needs SAFFU_DATA.

Kneser-Ney, every scalar 1, and both primings that need no held-out text, on five corpora of words and one of
characters. ``--candidates`` prints instead what the settings of the character model were chosen by.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.data import corpora
from bench.data.corpora import Split
from bench.measure.clock import timed
from bench.report.command import parser_of
from bench.report.requirements import data_folder
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import ExplicitLM

NAME = "language-model-quality"
PRIMINGS = ("kneser-ney", "unit", "leave-one-out", "k-fold")
WORDS: dict[str, Any] = {"order": 4}
# Chosen on the last tenth of the training part of Tiny Shakespeare, see --candidates.
CHARACTERS: dict[str, Any] = {"radius": 5, "order": 10}
KNESER_NEY_ORDER = {"words": 4, "chars": 6}
# (radius, order) of character models
CANDIDATES = ((5, 6), (8, 6), (8, 8), (12, 8), (5, 10), (8, 10), (8, 12), (8, 14))


class Row(NamedTuple):
    """What is known of one corpus; ``nats`` is per token, by name of the model."""

    corpus: str
    vocab_size: int
    train_tokens: int
    nats: Mapping[str, float]
    fit_seconds: float
    tokens_per_second: float


def measure(split: Split, settings: Mapping[str, Any], kneser_ney_order: int) -> Row:
    """Fit every model to the training part and score the test part; the times are those of the default, k-fold."""
    train, test = split.train, split.test
    nats: dict[str, float] = {}
    fitting = scoring = 0.0
    for priming in PRIMINGS:
        chosen = {"order": kneser_ney_order} if priming == "kneser-ney" else settings
        model = ExplicitLM(priming=priming, **chosen)
        _, spent = timed(partial(model.fit, train.ids, vocab_size=len(split.vocabulary), documents=train.starts))
        log_prob, scored = timed(partial(model.log_prob, test.ids, documents=test.starts))
        nats[priming] = -float(log_prob.mean())
        fitting, scoring = spent.wall, scored.wall
    nats["unigram"] = -float(model.unigram_log_prob(test.ids).mean())
    return Row(split.name, len(split.vocabulary), train.ids.size, nats, fitting, test.ids.size / scoring)


def word_rows(folder: Path) -> Iterator[Row]:
    """Corpora of words."""
    yield measure(corpora.brown(folder), WORDS, KNESER_NEY_ORDER["words"])
    for part in corpora.CHILDREN:
        yield measure(corpora.children(folder, part), WORDS, KNESER_NEY_ORDER["words"])
    yield measure(corpora.shakespeare(folder, "words"), WORDS, KNESER_NEY_ORDER["words"])


def character_rows(folder: Path) -> Iterator[Row]:
    """Corpora of characters."""
    yield measure(corpora.shakespeare(folder, "chars"), CHARACTERS, KNESER_NEY_ORDER["chars"])


def try_characters(folder: Path) -> None:
    """Print the bits per character of ``CANDIDATES``, trained and scored within the training part alone."""
    inner = corpora.shakespeare(folder, "chars", share=8 / 9, within=corpora.SHAKESPEARE_SHARE)
    for radius, order in CANDIDATES:
        model = ExplicitLM(radius=radius, order=order)
        _, spent = timed(
            partial(model.fit, inner.train.ids, vocab_size=len(inner.vocabulary), documents=inner.train.starts)
        )
        bits = -float(model.log_prob(inner.test.ids, documents=inner.test.starts).mean()) / np.log(2)
        print(f"radius {radius:2}, order {order:2}: {bits:.4f} bits per character, {spent.wall:.1f} s")


def report(folder: Path) -> str:
    """Both tables in Markdown, with what they were measured on."""
    shape = "distances 1..{radius}, suffixes of up to {length} tokens".format
    words = shape(radius=ExplicitLM().radius, length=WORDS["order"] - 1)
    characters = shape(radius=CHARACTERS["radius"], length=CHARACTERS["order"] - 1)
    return "\n".join(
        [
            "Test perplexity of words. Types seen fewer than three times are `<unk>`, a line end is a token, no",
            "context reaches over the end of a document. Nothing was fitted to held-out text. Windows and induction",
            f"as by default, {words}; Kneser-Ney of order {KNESER_NEY_ORDER['words']}.",
            "",
            _table(word_rows(folder), lambda nats: f"{np.exp(nats):.1f}"),
            "",
            f"Bits per character (perplexity). {characters[0].upper()}{characters[1:]},",
            "chosen on the last part of the training text;",
            f"Kneser-Ney of order {KNESER_NEY_ORDER['chars']}.",
            "",
            _table(character_rows(folder), lambda nats: f"{nats / np.log(2):.3f} ({np.exp(nats):.2f})"),
            "",
            machine_line("every core used to fit and to score"),
        ]
    )


def _table(rows: Iterator[Row], show: Any) -> str:
    header = ["corpus", "V", "tokens to train on", "unigram", "Kneser-Ney", "every scalar 1"]
    header += ["primed, leave-one-out", "**primed, k-fold**", "fit, s", "scored tokens/s"]
    return markdown_table(header, [_cells(row, show) for row in rows])


def _cells(row: Row, show: Any) -> list[str]:
    models = [show(row.nats[name]) for name in ("unigram", "kneser-ney", "unit", "leave-one-out")]
    sizes = [row.corpus, f"{row.vocab_size:,}", f"{row.train_tokens:,}"]
    best = f"**{show(row.nats['k-fold'])}**"
    return [*sizes, *models, best, f"{row.fit_seconds:.1f}", f"{row.tokens_per_second:,.0f}"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What else can be printed."""
    about = "print the bits per character that the settings of the character model were chosen by, and stop"
    parser.add_argument("--candidates", action="store_true", help=about)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    if given.candidates:
        try_characters(data_folder())
        return
    check_published(NAME, given.print)
    publish(NAME, report(data_folder()), given.print)


if __name__ == "__main__":
    main()

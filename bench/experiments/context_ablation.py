"""What each context, the gates, the floor and adaptation are worth to the explicit language model, without a gradient.

``python -m bench.experiments.context_ablation [--print] [--tokens N]`` takes half an hour. Needs SAFFU_DATA.

Each row changes one thing of the default model and shows by how much that moves the perplexity of the test part of each
corpus. A second table has a model of Brown read other texts, with and without learning from what it has read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.data import corpora
from bench.measure.clock import timed
from bench.report.command import parser_of
from bench.report.requirements import data_folder
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import ExplicitLM
from saffu.ngram_lm import priming
from saffu.ngram_lm.context_selection import WORD_SKIPS, candidate_contexts
from saffu.text import Chunk, Corpus, Vocabulary

NAME = "context-ablation"
SIX_WINDOWS = (15, 60, 200, 500, 2000, 8000)
ORDERS = {"words": 4, "chars": 10}
ADAPTED_TOKENS = 60_000  # of each text that a model of Brown reads
MIN_COUNT = corpora.MIN_COUNT

# What is changed: arguments of the constructor, but that "order" is added to the usual one, "states" is how many there
# are, "candidates" names those contexts that the vocabulary asks for, and "select" leaves out those that do not pay.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "one state: scalars do not depend on how well the context is known": {"states": 1},
    "no distances but the first": {"radius": 1},
    "distances up to 10": {"radius": 10},
    "suffixes one token shorter": {"order": -1},
    "suffixes one token longer": {"order": +1},
    "no windows": {"windows": ()},
    "one window, of 500": {"windows": (500,)},
    "six windows": {"windows": SIX_WINDOWS},
    "no induction": {"induction": 0},
    "floor of Kneser-Ney": {"floor": "kneser-ney"},
    "pairs of the tokens 1 and 3, and 2 and 3, before": {"skips": WORD_SKIPS},
    "the present word, also after the word before (characters)": {"candidates": ("words", "delimiters")},
    "the place in the line": {"candidates": ("line_ends",)},
    "those of these three that pay": {"candidates": ("words", "delimiters", "line_ends"), "select": True},
    "floor, distances up to 10, one token longer, six windows": {
        "floor": "kneser-ney",
        "radius": 10,
        "order": +1,
        "windows": SIX_WINDOWS,
    },
}


class Text(NamedTuple):
    """A corpus, and the order of its models."""

    name: str
    n_types: int
    train: Chunk
    test: Chunk
    order: int
    candidates: Mapping[str, Any]


class Score(NamedTuple):
    """Nats per token of a test text, and seconds to fit and to score."""

    nats: float
    fit: float
    score: float


def texts(folder: Path, tokens: int | None) -> Iterator[Text]:
    """Brown, children's corpora, Wikipedia (its validation part for training) and the characters of Shakespeare."""
    for name in corpora.WORDS:
        parts = corpora.parts(folder, name, tokens)
        yield text_of(name, parts.vocabulary, parts.train, cut(parts.test, tokens), ORDERS["words"])
    train, test = (
        Corpus(folder / "wikitext2" / f"{part}.txt.gz", tokenizer="whitespace") for part in ("valid", "test")
    )
    vocabulary = train.build_vocabulary(MIN_COUNT)
    yield text_of("WikiText-2", vocabulary, train.read(vocabulary), cut(test.read(vocabulary), tokens), ORDERS["words"])
    split = corpora.shakespeare(folder, "chars", within=1.0 if tokens is None else min(1.0, tokens / 1_000_000))
    yield text_of(split.name, split.vocabulary, split.train, split.test, ORDERS["chars"])


def text_of(name: str, vocabulary: Vocabulary, train: Chunk, test: Chunk, order: int) -> Text:
    """A corpus read with a vocabulary."""
    return Text(name, len(vocabulary), train, test, order, candidate_contexts(vocabulary, ExplicitLM().radius))


def cut(text: Chunk, tokens: int | None) -> Chunk:
    """The beginning of a text, if it is to be short."""
    return text if tokens is None else corpora.beginning(text, tokens)


def measured(text: Text, change: Mapping[str, Any]) -> Score:
    """Fit a model with one thing changed and score the test text."""
    settings = {name: value for name, value in change.items() if name not in ("states", "candidates", "select")}
    settings |= {name: text.candidates[name] for name in change.get("candidates", ()) if name in text.candidates}
    if change.get("select"):
        settings |= {"skips": WORD_SKIPS}
    model = ExplicitLM(**settings | {"order": text.order + change.get("order", 0)})

    selected: list[ExplicitLM] = []

    def fit() -> None:
        model.fit(text.train.ids, documents=text.train.starts, vocab_size=text.n_types)
        if change.get("states") == 1:
            with_one_state(model)
        if change.get("select"):
            selected.append(model.select())

    _, fitting = timed(fit)
    answers = selected[0] if selected else model
    log_prob, scoring = timed(lambda: answers.log_prob(text.test.ids, documents=text.test.starts))
    return Score(-float(log_prob.mean()), fitting.wall, scoring.wall)


def with_one_state(model: ExplicitLM) -> None:
    """Fit one set of scalars to what the states of a model were fitted to."""
    solution = model.solution
    parts = solution.priming_parts(None, model.counts)
    start = priming.default_scalars(model.radius, model.order - 2, len(model.windows))
    objective = priming.Objective(parts, None, start[None])
    scalars = priming.newton(objective, start, tolerance=priming.TOLERANCE)
    solution.take(solution.solved()[0].weights, None, scalars[None])


def ablation(found: Sequence[Text]) -> str:
    """The first table."""
    base = [measured(text, {}) for text in found]
    rows: list[list[str]] = [
        ["default", *(level(text, score) for text, score in zip(found, base, strict=True)), *time_of(base)]
    ]
    for name, change in CHANGES.items():
        scores = [measured(text, change) for text in found]
        gains = [f"{np.expm1(new.nats - old.nats):+.2%}" for new, old in zip(scores, base, strict=True)]
        rows.append([name, *gains, *time_of(scores)])
    header = ["", *(text.name for text in found), "fit, s", "score, s"]
    return markdown_table(header, rows)


def level(text: Text, score: Score) -> str:
    """Perplexity, or bits of characters."""
    if text.order == ORDERS["chars"]:
        return f"{np.exp(score.nats):.3f} ({score.nats / np.log(2):.3f} bits)"
    return f"{np.exp(score.nats):.1f}"


def time_of(scores: Sequence[Score]) -> list[str]:
    """Seconds over all corpora."""
    return [f"{sum(s.fit for s in scores):.1f}", f"{sum(s.score for s in scores):.1f}"]


def adaptation(folder: Path, brown: Text, tokens: int | None) -> str:
    """The second table."""
    model = ExplicitLM(order=brown.order).fit(brown.train.ids, documents=brown.train.starts, vocab_size=brown.n_types)
    parts = corpora.parts(folder, "brown", tokens)
    rows = []
    n_tokens = min(ADAPTED_TOKENS, tokens or ADAPTED_TOKENS)
    for name in corpora.WORDS:
        path = folder / ("brown" if name == "brown" else "children")
        file = path / ("test.txt.gz" if name == "brown" else f"{name}.train.txt.gz")
        text = corpora.beginning(Corpus(file, tokenizer="whitespace").read(parts.vocabulary), n_tokens)
        cells = [f"{text.ids.size:,}"]
        for adapt in (None, True, 500):
            log_prob, spent = timed(partial(model.log_prob, text.ids, documents=text.starts, adapt=adapt))
            cells += [f"{np.exp(-log_prob.mean()):.1f}", f"{text.ids.size / spent.wall:,.0f}"]
        rows.append([name, *cells])
    header = ["text", "tokens", "as it is", "tokens/s", "by document", "tokens/s", "every 500 tokens", "tokens/s"]
    return markdown_table(header, rows)


def report(folder: Path, tokens: int | None) -> str:
    """Both tables in Markdown."""
    found = list(texts(folder, tokens))
    return "\n".join(
        [
            "Perplexity of the default model on the test text, and by how much it moves if one thing is changed (less",
            "is better). Suffixes of up to 3 words, 9 characters; nothing was fitted to held-out text.",
            "",
            ablation(found),
            "",
            "Perplexity of a model of Brown that learns what it has read: not at all, each document (long ones in",
            "pieces of 2,000 tokens), or every 500 tokens.",
            "",
            adaptation(folder, found[0], tokens),
            "",
            machine_line("every core used to fit and to score"),
        ]
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much text is used."""
    about = "use the first N tokens of each text only, to try the command"
    parser.add_argument("--tokens", type=int, metavar="N", help=about)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    check_published(NAME, given.print)
    publish(NAME, report(data_folder(), given.tokens), given.print)


if __name__ == "__main__":
    main()

"""Back-off models in ARPA files: read by the real KenLM, token by token, and beside Kneser-Ney.

``python -m bench.experiments.beside_kenlm [--print]`` takes about four minutes. Needs SAFFU_DATA and kenlm.

Models of Brown, each line a document, are written as ARPA files and read by KenLM's Python module, which scores 10,000
lines; words that the model does not know are given to KenLM as one that it does not know either. Then the perplexity of
``priming="backoff"`` beside that of Kneser-Ney, on every corpus.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import saffu.kenlm
from bench.data import corpora, labelled_texts
from bench.data.corpora import Split
from bench.report.command import only_print
from bench.report.requirements import data_folder
from bench.report.tables import machine_line, markdown_table, publish
from saffu import BackoffLM, ExplicitLM
from saffu.text import LINE_END_ID, UNKNOWN_ID, Chunk, Corpus

NAME = "beside-kenlm"
SENTENCES = 10_000
ORDER = 4  # where corpora are compared
MODELS = [("kneser-ney", order) for order in range(2, 7)] + [("backoff", order) for order in (3, 4, 5)]
UNKNOWN = "(a word that no model knows)".replace(" ", "-")


def by_lines(chunk: Chunk) -> Chunk:
    """The same text, each line a document."""
    starts = np.flatnonzero(chunk.ids == LINE_END_ID) + 1
    return chunk._replace(starts=np.concatenate([[0], starts[starts < chunk.ids.size]]))


def fitted(split: Split, priming: str, order: int) -> ExplicitLM:
    """A model of the lines of the training part."""
    train = by_lines(split.train)
    model = ExplicitLM(order=order, priming=priming)
    model.vocabulary = split.vocabulary
    return model.fit(train.ids, documents=train.starts, vocab_size=len(split.vocabulary), progress=False)


def sentences(split: Split) -> tuple[list[str], Chunk]:
    """Lines of the test part, then of the training part, as KenLM takes them, and as ids."""
    test, train = by_lines(split.test), by_lines(split.train)
    whole = corpora.joined([test, train])
    ends = np.append(whole.starts[1:], whole.ids.size)
    n = min(SENTENCES, ends.size)
    ids, starts = whole.ids[: ends[n - 1]], whole.starts[:n]
    types = split.vocabulary.types
    words = [UNKNOWN if i == UNKNOWN_ID else types[i] for i in ids]
    lines = [" ".join(words[a : b - 1]) for a, b in zip(starts, ends[:n], strict=True)]  # without the end of the line
    return lines, Chunk(ids, starts, 0)


def scores_of_kenlm(path: Path, lines: Sequence[str]) -> tuple[NDArray[np.float64], float]:
    """log10 probabilities of all tokens, and lines a second by ``score``."""
    import kenlm

    config = kenlm.Config()
    config.show_progress = False
    model = kenlm.Model(str(path), config)
    found = np.array([score for line in lines for score, _, _ in model.full_scores(line)])
    began = time.perf_counter()
    for line in lines:
        model.score(line)
    return found, len(lines) / (time.perf_counter() - began)


def speeds(model: Any, lines: Sequence[str]) -> tuple[float, float]:
    """Lines a second of our ``score``, on a part of them, and of ``score_batch``."""
    ours, some = saffu.kenlm.Model(model), lines[: len(lines) // 10]
    ours.score(lines[0])
    began = time.perf_counter()
    for line in some:
        ours.score(line)
    single = len(some) / (time.perf_counter() - began)
    began = time.perf_counter()
    ours.score_batch(lines)
    return single, len(lines) / (time.perf_counter() - began)


def agreement(split: Split) -> Iterator[list[str]]:
    """Lines of the first table."""
    lines, text = sentences(split)
    for priming, order in MODELS:
        model = fitted(split, priming, order)
        own = model.log_prob(text.ids, documents=text.starts, progress=False) / np.log(10)
        with tempfile.TemporaryDirectory() as folder:
            model.to_arpa(path := Path(folder) / "model.arpa", progress=False)
            theirs, rate = scores_of_kenlm(path, lines)
            back = BackoffLM.from_arpa(path, progress=False)
        again = back.log_prob(text.ids, documents=text.starts, progress=False) / np.log(10)
        single, batch = speeds(back, lines)
        yield [
            priming,
            str(order),
            f"{own.size:,}",
            f"{(text.ids == UNKNOWN_ID).mean():.1%}",
            f"{np.abs(own - theirs).max():.1e}",
            f"{np.abs(own - again).max():.1e}",
            f"{rate:,.0f}",
            f"{single:,.0f}",
            f"{batch:,.0f}",
        ]


def newsgroups(folder: Path) -> Split:
    """20 Newsgroups as text: a message a document."""
    split = labelled_texts.both(folder)["20 Newsgroups"]
    with tempfile.TemporaryDirectory() as temporary:
        files = []
        for name, texts in (("train", split.train), ("test", split.test)):
            files.append(file := Path(temporary) / f"{name}.txt")
            file.write_text("\n\n".join(" ".join(text.split()) for text in texts) + "\n", encoding="utf-8")
        train, test = (Corpus([file], tokenizer="words") for file in files)
        vocabulary = train.build_vocabulary(min_count=3)
        return Split("20 Newsgroups", vocabulary, train.read(vocabulary), test.read(vocabulary))


def splits() -> Iterator[Split]:
    """Every corpus of words."""
    folder = data_folder()
    yield corpora.brown(folder)
    for part in corpora.CHILDREN:
        yield corpora.children(folder, part)
    yield corpora.shakespeare(folder, "words")
    yield newsgroups(folder)


def perplexities(split: Split) -> list[str]:
    """A line of the second table."""
    test = by_lines(split.test)
    found = [
        np.exp(-fitted(split, priming, ORDER).log_prob(test.ids, documents=test.starts, progress=False).mean())
        for priming in ("kneser-ney", "backoff")
    ]
    return [split.name, f"{len(split.vocabulary):,}", f"{split.train.ids.size:,}", *(f"{value:.2f}" for value in found)]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    printing = only_print(NAME, __doc__, argv, ["kenlm"])
    first = ["priming", "order", "tokens", "unknown", "largest difference from kenlm, log10", "from from_arpa(to_arpa)"]
    first += ["kenlm, lines/s", "saffu.kenlm score, lines/s", "score_batch, lines/s"]
    text = [
        f"{SENTENCES:,} lines of Brown, line ends included.",
        "",
        markdown_table(first, [*agreement(corpora.brown(data_folder()))]),
        "",
        f"Test perplexity, order {ORDER}, each line a document.",
        "",
        markdown_table(["corpus", "V", "tokens to train on", "Kneser-Ney", "backoff"], [*map(perplexities, splits())]),
        "",
        machine_line("every core used", ["kenlm"]),
    ]
    publish(NAME, "\n".join(text), printing)


if __name__ == "__main__":
    main()

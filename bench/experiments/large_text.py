"""Fitting, pruning and scoring Brown, and a text of seven million tokens of many kinds.

``python -m bench.experiments.large_text [--text FILE] [--quick] [--print]`` takes about six minutes. Needs SAFFU_DATA.

The large text is made of every corpus of the folder, documents in an order of chance, and written as an .xz file;
``--text`` takes another one, documents separated by blank lines, of which every hundredth is kept for scoring.
``saffu train`` runs in a process of its own, from the file to the model; the rest runs in this one.
"""

from __future__ import annotations

import argparse
import lzma
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.data import corpora, mixed_text
from bench.data.texts import made_up
from bench.report.command import parser_of
from bench.report.requirements import data_folder
from bench.report.tables import check_published, machine_line, markdown_table, publish
from bench.trials.large_text import Text, facts
from bench.trials.scale import trained
from saffu.text import Corpus
from saffu.text.reading import TextFile

NAME = "large-text"
N_WORDS, N_TEST = 5_500_000, 500  # between spaces; documents that are scored
TEST_SHARE = 100  # of a text that is given, one document in so many is scored


def parts(file: Path | None) -> tuple[list[str], list[str]]:
    """Documents of the training and of the test part."""
    if file is None:
        return mixed_text.in_order_of_chance(data_folder(), N_WORDS, N_TEST)
    whole = "".join(TextFile(str(file), as_bytes=False).blocks())
    found = [document for document in mixed_text.BLANK.split(whole.strip()) if document]
    return [text for i, text in enumerate(found) if i % TEST_SHARE], found[::TEST_SHARE]


def large(file: Path | None, folder: Path) -> tuple[Text, list[tuple[str, str]]]:
    """The large text, and what ``saffu train`` takes for it."""
    train, test = folder / "train.txt.xz", folder / "test.txt.xz"
    for path, documents in zip((train, test), parts(file), strict=True):
        with lzma.open(path, "wt", encoding="utf-8", newline="", preset=0) as opened:
            opened.write("\n\n".join(documents))
    spent = trained(train, folder / "model", [], None)
    took = f"{spent['seconds']:.1f}, {spent['processor seconds']:.1f}, {spent['peak bytes'] / 1e9:.2f}"
    corpus = Corpus(train, tokenizer="words")
    vocabulary = corpus.build_vocabulary(corpora.MIN_COUNT)
    streams = [Corpus(path, tokenizer="words").read(vocabulary).stream for path in (train, test)]
    return Text("mixed text", *streams, len(vocabulary)), [("`saffu train`: s, CPU s, peak GB", took)]


def report(given: argparse.Namespace) -> str:
    """The table in Markdown."""
    if given.quick:
        small = made_up(4000)
        columns = [facts(Text("made up", small.train.stream, small.test.stream, small.n_types))]
        names = ["made up"]
    else:
        brown = corpora.brown(data_folder())
        with tempfile.TemporaryDirectory() as folder:
            text, training = large(given.text, Path(folder))
            columns = [[*training, *facts(text)]]
        small_text = Text("Brown", brown.train.stream, brown.test.stream, len(brown.vocabulary))
        columns.append([(training[0][0], ""), *facts(small_text)])
        names = [text.name, small_text.name]
    lines = [[rows[0][0], *(value for _, value in rows)] for rows in zip(*columns, strict=True)]
    threads = "every core unless a thread is named, medians of runs in turn"
    return f"{markdown_table(['', *names], lines)}\n\n{machine_line(threads)}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What else there is."""
    parser.add_argument("--text", type=Path, metavar="FILE", help="in place of the corpora; .gz and .xz are read")
    parser.add_argument("--quick", action="store_true", help="made-up text, only to see that it works; it is printed")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    only_print = given.print or given.quick
    check_published(NAME, only_print)
    publish(NAME, report(given), only_print)


if __name__ == "__main__":
    main()

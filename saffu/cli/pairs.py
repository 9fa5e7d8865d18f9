"""``saffu pairs``: how often a language model prefers the right one of two sentences."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from saffu.cli import models, output
from saffu.cli.options import Commands, add_json, add_mmap, add_model, add_quiet, new_command
from saffu.text import Vocabulary
from saffu.text.reading import Advance, TextFile
from saffu.text.scoring import EncodedTexts
from saffu.utils.arrays import Array, Float64
from saffu.utils.progress import progress_bar

BATCH = 4096  # pairs scored together
SAME = 1e-9  # relative difference of log-probabilities below which they tie


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "pairs",
        "measure how often a model prefers the right one of two sentences",
        "Reads minimal pairs, one a line, with tabs between: the good sentence, the bad one, and, if there is another\n"
        "column, the kind of the pair. A pair counts as right if the good sentence has the higher probability as a\n"
        "document of its own, line end included; a tie, as when the model does not know the words that differ, counts\n"
        "half. Prints the accuracy, for each kind as well, the numbers of pairs and ties, and the share of pairs with\n"
        "a token that the model does not know. Blank lines are passed over.",
        "  saffu pairs brown.saffu agreement.tsv\n"
        "  saffu pairs brown.saffu agreement.tsv --json\n"
        "  printf 'she sings\\tshe sing\\n' | saffu pairs brown.saffu -",
    )
    add_model(parser)
    add_mmap(parser)
    help = "UTF-8 text, plain or gzip, bzip2, xz or zstd; - is standard input"
    parser.add_argument("file", metavar="FILE.tsv", help=help)
    add_json(parser)
    add_quiet(parser)
    parser.set_defaults(run=run)


class _Pair(NamedTuple):
    good: str
    bad: str
    kind: str


def run(arguments: argparse.Namespace) -> None:
    """Score and print."""
    file = TextFile(arguments.file, as_bytes=False)
    model = models.load_with_vocabulary(arguments.model, arguments.threads, mmap=arguments.mmap)
    kinds: list[str] = []
    wins, unknown = [np.empty(0)], [np.empty(0, bool)]
    with progress_bar(file.n_bytes, "score", not arguments.quiet, in_bytes=True) as bar:
        pairs = _pairs(file, bar.update)
        while batch := list(islice(pairs, BATCH)):
            kinds += [pair.kind for pair in batch]
            found = _judged(model, model.vocabulary, batch)
            wins.append(found[0])
            unknown.append(found[1])
    if not kinds:
        raise ValueError(f"{file.name} holds no pairs")
    facts = _facts(np.concatenate(wins), np.concatenate(unknown), np.array(kinds))
    print(output.as_json(facts) if arguments.json else "\n".join(output.as_lines(facts)))


def _pairs(file: TextFile, advance: Advance) -> Iterator[_Pair]:
    number = 0
    rest = ""
    for block in file.blocks(advance):
        *lines, rest = (rest + block).split("\n")
        for line in lines:
            number += 1
            if not line.strip():
                continue
            columns = line.split("\t")
            if not 2 <= len(columns) <= 3:
                expected = "must have two sentences with a tab between, and may have a kind behind another"
                raise ValueError(f"line {number} of {file.name} {expected}; it has {len(columns)} columns")
            yield _Pair(*columns, *[""] * (3 - len(columns)))


def _judged(model: models.LanguageModel, vocabulary: Vocabulary, pairs: list[_Pair]) -> tuple[Float64, Array]:
    """1 for a pair that is right, 1/2 for a tie, 0 for the others; and whether a token is unknown."""
    encoded = EncodedTexts.of([sentence for pair in pairs for sentence in (pair.good, pair.bad)], vocabulary)
    good, bad = encoded.log_prob(model).reshape(-1, 2).T
    ties = np.array([math.isclose(a, b, rel_tol=SAME) for a, b in zip(good, bad, strict=True)])
    wins: Float64 = np.where(ties, 0.5, good > bad)
    return wins, encoded.n_unknown().reshape(-1, 2).sum(axis=1) > 0


def _facts(wins: Float64, unknown: Array, kinds: Array) -> dict[str, object]:
    facts: dict[str, object] = {
        "accuracy": float(wins.mean()),
        "pairs": wins.size,
        "ties": int((wins == 0.5).sum()),
        "unk_rate": float(unknown.mean()),
    }
    if (kinds != "").any():
        facts["kinds"] = {str(kind): float(wins[kinds == kind].mean()) for kind in np.unique(kinds)}
    return facts

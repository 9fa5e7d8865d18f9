"""``saffu filter``: the lines that a language model finds likely, or likelier than another does."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from saffu.cli import models, output, values
from saffu.cli.files import check_outputs, check_standard_output
from saffu.cli.options import Commands, add_mmap, add_model, add_out, add_quiet, new_command
from saffu.text import STANDARD_INPUT, Vocabulary
from saffu.text.scoring import EncodedTexts
from saffu.utils.arrays import Array, Float64
from saffu.utils.progress import progress_bar

BATCH_BYTES = 1 << 18  # of lines scored together
BITS = 1 / math.log(2)


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "filter",
        "keep the lines that a model finds likely, or likelier than another",
        "Reads lines from standard input, each a document of its own, and prints those whose score is at least a\n"
        "threshold, in their order and as they were, to the byte. With one model the score is the mean\n"
        "log-probability of a token, line end included, in bits: -7 is a perplexity of 128. With two it is the ratio:\n"
        "how much higher the log-probability under the first model is than under the second, for each token that the\n"
        "first sees (Moore and Lewis 2010). Train both on texts of one language, of the same size, with the same\n"
        "tokenizer; 'saffu prune' makes them fast. Blank lines have no score, and are left out.",
        "  zcat web.txt.gz | saffu filter clean.saffu web.saffu > likely.txt\n"
        "  saffu filter clean.saffu --threshold -9.5 < web.txt > likely.txt\n"
        "  zcat web.jsonl.gz | saffu filter clean.saffu web.saffu --field text --scores --threshold 0.5\n"
        "  saffu filter clean.saffu --scores < web.txt | sort -g -r | head",
    )
    add_model(parser, "the model of what to keep, a file written by 'saffu train'")
    option = parser.add_argument
    option("other", nargs="?", metavar="OTHER", help="a model of what to leave out, or of the text as a whole")
    add_mmap(parser)
    option(
        "--threshold", type=values.number, metavar="BITS", help="the least score to keep a line (with two models: 0)"
    )
    option("--field", metavar="NAME", help="lines are JSON objects, and this is the field that holds the text")
    option(
        "--scores",
        action="store_true",
        help="write the scores, too: before the line, with tabs between (of two models the ratio, then the score of "
        "each); of JSON lines into fields saffu_ratio, saffu_score and saffu_other. Without a threshold every line is "
        "written",
    )
    add_out(parser)
    add_quiet(parser)
    parser.set_defaults(run=run)


class _Batch(NamedTuple):
    """Lines that are scored together: as they came, their texts (empty if blank), and what they hold as JSON."""

    raw: list[bytes]
    texts: list[str]
    objects: list[dict[str, Any]]


def run(arguments: argparse.Namespace) -> None:
    """Score, and write what is kept."""
    paths = [arguments.model, *([arguments.other] if arguments.other else [])]
    inputs = [*paths, STANDARD_INPUT]
    if arguments.out is None:
        check_standard_output(inputs)
    else:
        check_outputs([arguments.out], inputs)
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    threshold = arguments.threshold
    if threshold is None and not arguments.scores:
        if arguments.other is None:
            raise ValueError("with one model give --threshold or --scores")
        threshold = 0.0
    scorers = [models.load_with_vocabulary(path, arguments.threads, mmap=arguments.mmap) for path in paths]
    began, n_lines, n_kept = time.perf_counter(), 0, 0
    with output.opened_binary(arguments.out) as file:
        for batch, scores in _scored(scorers, _batches(arguments)):
            kept = _kept(batch, scores, threshold, arguments)
            file.writelines(kept)
            n_lines, n_kept = n_lines + len(batch.raw), n_kept + len(kept)
    if arguments.out is not None:
        share = n_kept / n_lines if n_lines else 0.0
        seconds = time.perf_counter() - began
        print(f"{arguments.out}: {n_kept:,} of {n_lines:,} lines, {share:.1%}, {seconds:.1f} s")


# ---- lines -----------------------------------------------------------------------------------------------------------


def _batches(arguments: argparse.Namespace) -> Iterator[_Batch]:
    """The lines of standard input."""
    with progress_bar(_size_of_input(), "filter", not arguments.quiet, in_bytes=True) as bar:
        batch, held = _Batch([], [], []), 0
        for number, raw in enumerate(sys.stdin.buffer, 1):
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            if arguments.field is not None and text.strip():
                batch.objects.append(_parsed(text, arguments.field, number))
                text = batch.objects[-1][arguments.field].encode("utf-8", "replace").decode()
            elif arguments.field is not None:
                batch.objects.append({})
            batch.raw.append(raw)
            batch.texts.append(text if text.strip() else "")
            held += len(raw)
            if held >= BATCH_BYTES:
                yield batch
                bar.update(held)
                batch, held = _Batch([], [], []), 0
        if batch.raw:
            yield batch
            bar.update(held)


def _size_of_input() -> int | None:
    """Bytes of standard input if it is a file."""
    try:
        return os.fstat(sys.stdin.fileno()).st_size or None
    except (OSError, AttributeError, ValueError):
        return None


def _parsed(line: str, field: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get(field), str):
        raise ValueError(f"line {number} is no JSON object with a text in its field {field!r}")
    return found


def _kept(batch: _Batch, scores: list[Float64], threshold: float | None, arguments: argparse.Namespace) -> list[bytes]:
    """What is written of a batch."""
    kept = []
    for i, raw in enumerate(batch.raw):
        is_blank = not batch.texts[i]
        if threshold is not None and (is_blank or not scores[0][i] >= threshold):
            continue
        found = [None if is_blank else float(score[i]) for score in scores]
        kept.append(_with_scores(batch, i, found) if arguments.scores else raw)
    return kept


def _with_scores(batch: _Batch, i: int, scores: list[float | None]) -> bytes:
    if not batch.objects:
        columns = "".join("\t" if score is None else f"{score:.6g}\t" for score in scores)
        return columns.encode() + batch.raw[i]
    names = ("saffu_ratio", "saffu_score", "saffu_other") if len(scores) > 1 else ("saffu_score",)
    found = batch.objects[i] | dict(zip(names, scores, strict=True))
    return (output.as_json(found) + "\n").encode("utf-8", "backslashreplace")


# ---- scores ----------------------------------------------------------------------------------------------------------


def _scored(scorers: list[models.LanguageModel], batches: Iterator[_Batch]) -> Iterator[tuple[_Batch, list[Float64]]]:
    """Batches in their order; one is scored, by the threads of its models, while the next is split into tokens.

    Reading and scoring are left to this thread, which Ctrl-C can interrupt.
    """
    vocabularies = [model.vocabulary for model in scorers]
    waiting: tuple[_Batch, Future[list[EncodedTexts]]] | None = None
    with ThreadPoolExecutor(1) as pool:
        for batch in chain(batches, [None]):
            job = None if batch is None else (batch, pool.submit(_encoded, batch, vocabularies))
            if waiting is not None:
                yield waiting[0], _scores(scorers, waiting[1].result(), _has_text(waiting[0]))
            waiting = job


def _has_text(batch: _Batch) -> Array:
    return np.array([bool(text) for text in batch.texts])


def _encoded(batch: _Batch, vocabularies: list[Vocabulary]) -> list[EncodedTexts]:
    """The texts that are not blank under each vocabulary; where they are equal, once."""
    texts = [text for text in batch.texts if text]
    first = EncodedTexts.of(texts, vocabularies[0])
    others = vocabularies[1:]
    return [first, *(first if other == vocabularies[0] else EncodedTexts.of(texts, other) for other in others)]


def _scores(scorers: list[models.LanguageModel], encoded: list[EncodedTexts], has_score: Array) -> list[Float64]:
    """Bits for each token of every line: of one model its score, of two the ratio and the score of each."""
    bits = [texts.log_prob(model) * BITS for model, texts in zip(scorers, encoded, strict=True)]
    means = [total / texts.lengths.clip(1) for total, texts in zip(bits, encoded, strict=True)]
    if len(bits) > 1:
        means.insert(0, (bits[0] - bits[1]) / encoded[0].lengths.clip(1))
    found = [np.full(has_score.size, np.nan) for _ in means]
    for scores, mean in zip(found, means, strict=True):
        scores[has_score] = mean
    return found

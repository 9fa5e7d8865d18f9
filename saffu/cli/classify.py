"""``saffu classify``: classifiers of texts, with the files and the output that fastText's users know."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from saffu.classifier.text_classifier import ExplicitTextClassifier
from saffu.classifier.text_scores import TextScores
from saffu.classifier.text_solution import FOLDS, WEIGHTINGS
from saffu.cli import models, output, values
from saffu.cli.files import check_outputs
from saffu.cli.labelled_texts import Batch, Layout, add_layout, batches, layout
from saffu.cli.options import Commands, Parser, add_json, add_quiet, new_command
from saffu.cli.prune import file_size
from saffu.text import STANDARD_INPUT, TOKENIZERS
from saffu.utils.progress import progress_bar

FILES = "plain or gzip, bzip2, xz or zstd; - is standard input"


def add(commands: Commands) -> None:
    """Add the command, and those within it, to a command line."""
    parser = commands.add_parser(
        "classify",
        help="train, test and use a classifier of texts",
        description="Train, test and use a classifier of texts.\n\n"
        "Texts are counted and the classifier is solved from the counts: there are no epochs and no learning rate.\n"
        "Files are read as fastText does, a text a line with labels such as __label__spam before it, or as CSV, TSV\n"
        "or JSON lines; plain or compressed.",
        epilog="examples:\n"
        "  saffu classify train news.train --out news.saffu\n"
        "  saffu classify test news.saffu news.valid --per-label\n"
        "  saffu classify predict news.saffu lines.txt --k 3 --prob\n"
        "  saffu classify quantize news.saffu --out small.saffu --target-size 500k\n"
        "\n'saffu classify COMMAND --help' explains each.",
    )
    parts = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add_part in (_add_train, _add_test, _add_predict, _add_quantize):
        add_part(parts)


def _add_model(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a file written by 'saffu classify train'")


def _new(parts: Commands, name: str, summary: str, explanation: str, examples: str, run: Any) -> Parser:
    parser = new_command(parts, name, summary, explanation, examples)
    parser.set_defaults(run=run, command=f"classify {name}")
    return parser


# ---- train -----------------------------------------------------------------------------------------------------------


def _add_train(parts: Commands) -> None:
    parser = _new(
        parts,
        "train",
        "count labelled texts and solve a classifier",
        "What is not said is decided by texts that are held out: how n-grams are weighed, the ridge, and what makes\n"
        "probabilities of scores. Texts of a file may have several labels, or none as JSON lists.",
        "  saffu classify train news.train --out news.saffu\n"
        "  saffu classify train news.csv.gz --label 1 --text 2 --out news.saffu\n"
        "  saffu classify train languages.txt --tokenizer chars --ngrams 4 --out languages.saffu",
        _train,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=FILES)
    parser.add_argument("--out", metavar="MODEL", required=True, help="the file to write")
    add_layout(parser)
    parser.add_argument("--ngrams", type=values.integer(1), default=2, metavar="N", help="the longest (default: 2)")
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="words", help="what a token is (default: words)")
    parser.add_argument("--cased", action="store_true", help="tell capital letters from small ones")
    parser.add_argument(
        "--min-count", type=values.count(1), default=2, metavar="N", help="texts with an n-gram, at least (default: 2)"
    )
    parser.add_argument(
        "--buckets", type=values.count(2), metavar="N", help="n-grams at most, hashed (default: no limit)"
    )
    parser.add_argument(
        "--weighting", choices=(FOLDS, *WEIGHTINGS), default=FOLDS, help="of n-grams (default: what folds choose)"
    )
    parser.add_argument("--ridge", type=values.positive, metavar="X", help="(default: what folds choose)")
    parser.add_argument(
        "--prune", type=file_size, metavar="SIZE", help="bytes of the file at most, such as 500k or 20M"
    )
    parser.add_argument(
        "--counts", action="store_true", help="keep the counts, so that more texts can be counted in Python"
    )
    add_quiet(parser)


def _train(arguments: argparse.Namespace) -> None:
    """Count, solve and save."""
    check_outputs([arguments.out], arguments.files)
    kind = layout(arguments)
    classifier = ExplicitTextClassifier(
        arguments.ngrams,
        tokenizer=arguments.tokenizer,
        lowercase=not arguments.cased,
        min_count=arguments.min_count,
        buckets=arguments.buckets,
        weighting=arguments.weighting,
        ridge=FOLDS if arguments.ridge is None else arguments.ridge,
        n_threads=arguments.threads,
    )
    start = time.perf_counter()
    n_texts = 0
    for batch in _batches(arguments.files, kind, "counting", arguments.quiet):
        classifier.partial_fit(batch.texts, _targets(batch))
        n_texts += len(batch.texts)
    if not n_texts:
        raise ValueError(
            f"{arguments.files[0]!r} holds no texts{', nor does any other file' * (len(arguments.files) > 1)}"
        )
    facts = classifier.facts
    if arguments.prune is not None or not arguments.counts:
        classifier = classifier.pruned(target_size=arguments.prune)
    classifier.save(arguments.out)
    seconds = time.perf_counter() - start
    print(f"texts {n_texts:,}  labels {classifier.classes_.size:,}  n-grams {classifier.n_ngrams:,}")
    print("  ".join(f"{name.replace('_', ' ')} {output.number(value)}" for name, value in facts.items()))
    print(f"wrote {arguments.out}: {os.path.getsize(arguments.out):,} bytes in {seconds:.1f} s")


def _targets(batch: Batch) -> list[str] | list[tuple[str, ...]]:
    """Single labels where every text has one."""
    if all(len(labels) == 1 for labels in batch.labels):
        return [labels[0] for labels in batch.labels]
    return batch.labels


def _batches(files: list[str], kind: Layout, description: str, quiet: bool) -> Iterator[Batch]:
    sizes = [None if path == STANDARD_INPUT else os.path.getsize(path) for path in files]
    known = [size for size in sizes if size is not None]
    total = sum(known) if len(known) == len(sizes) else None
    with progress_bar(total, description, not quiet, in_bytes=True) as bar:
        for path in files:
            yield from batches(path, kind, bar.update)


# ---- test ------------------------------------------------------------------------------------------------------------


def _add_test(parts: Commands) -> None:
    parser = _new(
        parts,
        "test",
        "measure a classifier on labelled texts",
        "Prints the number of texts, precision and recall at k, the mean negative log-probability of the label in\n"
        "nats, and the calibration error: how far probabilities of the first label are from the share that is right.",
        "  saffu classify test news.saffu news.valid\n  saffu classify test news.saffu news.valid --k 3 --per-label",
        _test,
    )
    _add_model(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help=FILES)
    add_layout(parser)
    _add_choice(parser)
    parser.add_argument("--per-label", action="store_true", help="F1, precision and recall of each label, too")
    add_json(parser)
    add_quiet(parser)


def _add_choice(parser: Parser) -> None:
    parser.add_argument("--k", type=values.count(1), default=1, metavar="K", help="labels predicted (default: 1)")
    parser.add_argument(
        "--threshold", type=values.not_negative, default=0.0, metavar="P", help="least probability (default: 0)"
    )


def _test(arguments: argparse.Namespace) -> None:
    """Score and print."""
    classifier = _load(arguments)
    classes = classifier.classes_
    number = {str(label): place for place, label in enumerate(classes.tolist())}
    scores = TextScores(classes.size, arguments.k, arguments.threshold)
    for batch in _batches(arguments.files, layout(arguments), "scoring", arguments.quiet):
        labels = np.zeros((len(batch.texts), classes.size), bool)
        unknown = np.zeros(len(batch.texts), np.int64)
        for row, of_text in enumerate(batch.labels):
            for label in of_text:
                if label in number:
                    labels[row, number[label]] = True
                else:
                    unknown[row] += 1
        scores.add(
            classifier.predict_log_proba(batch.texts), labels, several=classifier.several_labels, n_unknown=unknown
        )
    if not scores.n_texts:
        raise ValueError(f"{arguments.files[0]!r} holds no texts")
    facts = scores.summary()
    each = dict(zip(number, scores.per_label(), strict=True)) if arguments.per_label else {}
    if arguments.json:
        print(output.as_json({"texts": scores.n_texts, **facts, "labels": {k: v._asdict() for k, v in each.items()}}))
        return
    for label, found in each.items():
        print(
            f"F1-Score : {found.f1:.6f}  Precision : {found.precision:.6f}  Recall : {found.recall:.6f}   "
            f"{arguments.label_prefix}{label}"
        )
    print(f"N\t{scores.n_texts}\nP@{arguments.k}\t{facts['precision']:.3f}\nR@{arguments.k}\t{facts['recall']:.3f}")
    print(f"NLL\t{facts['nll']:.4f}\nECE\t{facts['calibration_error']:.4f}")


# ---- predict ---------------------------------------------------------------------------------------------------------


def _add_predict(parts: Commands) -> None:
    parser = _new(
        parts,
        "predict",
        "print the labels of texts, a line for each",
        "The output is fastText's: the labels of a text on a line, the most probable first, with --prob each followed\n"
        "by its probability. Labels in the input are passed over; a blank line gives a blank line.",
        "  saffu classify predict news.saffu lines.txt\n"
        "  cat lines.txt | saffu classify predict news.saffu --k 3 --threshold 0.1 --prob",
        _predict,
    )
    _add_model(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", default=[STANDARD_INPUT], help=f"{FILES} (default: -)")
    add_layout(parser)
    _add_choice(parser)
    parser.add_argument("--prob", action="store_true", help="print probabilities, too")


def _predict(arguments: argparse.Namespace) -> None:
    """Predict and print."""
    classifier = _load(arguments)
    names = np.array([f"{arguments.label_prefix}{label}" for label in classifier.classes_.tolist()], object)
    number = {label: place for place, label in enumerate(classifier.classes_.tolist())}
    for batch in _batches(arguments.files, layout(arguments, labelled=False), "predicting", True):
        labels, p = classifier.top(batch.texts, k=arguments.k)
        lines = []
        for text, of_text, p_of_text in zip(batch.texts, labels.tolist(), p.tolist(), strict=True):
            found = zip(of_text, p_of_text, strict=True) if text.strip() else ()
            kept = [(names[number[label]], value) for label, value in found if value >= arguments.threshold]
            lines.append(" ".join(f"{name} {value:.6g}" if arguments.prob else name for name, value in kept))
        sys.stdout.write("\n".join(lines) + "\n")


# ---- quantize --------------------------------------------------------------------------------------------------------


def _add_quantize(parts: Commands) -> None:
    parser = _new(
        parts,
        "quantize",
        "make a classifier smaller",
        "Leaves out the n-grams that move scores least until the file fits, and rounds the weights of the others to 8\n"
        "bits.",
        "  saffu classify quantize news.saffu --out small.saffu --target-size 500k",
        _quantize,
    )
    _add_model(parser)
    parser.add_argument("--out", metavar="NEW", required=True, help="the file to write")
    parser.add_argument(
        "--target-size", type=file_size, required=True, metavar="SIZE", help="bytes at most, such as 500k or 20M"
    )


def _quantize(arguments: argparse.Namespace) -> None:
    """Prune, save and print what is left."""
    check_outputs([arguments.out], [arguments.model])
    classifier = _load(arguments)
    smaller = classifier.pruned(target_size=arguments.target_size)
    smaller.save(arguments.out)
    print(f"n-grams {classifier.n_ngrams:,} -> {smaller.n_ngrams:,}")
    print(f"bytes {os.path.getsize(arguments.model):,} -> {os.path.getsize(arguments.out):,}")


def _load(arguments: argparse.Namespace) -> ExplicitTextClassifier:
    classifier = models.load(arguments.model, arguments.threads)
    if not isinstance(classifier, ExplicitTextClassifier):
        raise TypeError(f"{arguments.model!r} holds {type(classifier).__name__}, which is no classifier of texts")
    return classifier

"""ExplicitTextClassifier beside fastText and scikit-learn's classifiers of texts.

``python -m bench.experiments.text_classifier_quality [--quick] [--print]`` takes about 15 minutes. Needs SAFFU_DATA,
scikit-learn and, for its rows, fastText (fasttext-numpy2-wheel).

20 Newsgroups and AG News, each with its own test part. Settings of the others are chosen on a fifth of the training
texts; ExplicitTextClassifier has its defaults. Texts per second are those of one core, from strings to probabilities
(fastText's without the time of splitting texts into words and symbols, which it leaves to its user).
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data import labelled_texts
from bench.data.labelled_texts import TextSplit
from bench.measure.scores import score_of
from bench.peers import text_classifiers as peers
from bench.peers.text_classifiers import Fitted
from bench.report.command import parser_of
from bench.report.requirements import data_folder, installed, require
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import ExplicitTextClassifier
from saffu.classifier.text_scores import TextScores

SMALL_SIZE = 1_000_000  # bytes of the small classifier


class Row(NamedTuple):
    """One line of the table; NLL in nats per text, on the test part."""

    data: str
    model: str
    accuracy: float
    nll: float
    calibration_error: float
    seconds: float
    texts_per_second: float
    n_bytes: int
    chosen: str


def fit_saffu(target_size: int | None) -> Callable[[Sequence[str], NDArray], Fitted]:
    """Count and solve; then prune to a size if one is given."""

    def fit(texts: Sequence[str], y: NDArray) -> Fitted:
        start = time.perf_counter()
        classifier = ExplicitTextClassifier().fit(texts, y, progress=False)
        chosen = classifier.facts
        smaller = classifier.pruned(target_size=target_size)
        seconds = time.perf_counter() - start
        smaller.set_params(n_threads=1)
        with tempfile.TemporaryDirectory() as scratch:
            smaller.save(Path(scratch) / "model")
            n_bytes = (Path(scratch) / "model").stat().st_size
        shown = f"{chosen['weighting']}, ridge {chosen['ridge']:g}"
        return Fitted(smaller.predict_log_proba, smaller.predict, seconds, n_bytes, shown)

    return fit


def measured(data: str, model: str, fit: Callable[[Sequence[str], NDArray], Fitted], split: TextSplit) -> Row:
    """Fit once, by the clock, and score the test part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LogisticRegression warns where it stops at its limit of iterations
        fitted = fit(split.train, split.y_train)
    texts, y = split.test, split.y_test
    lines = peers.as_lines(texts) if model.startswith("fastText") else texts
    start = time.perf_counter()
    found = fitted.predict(lines) if fitted.log_proba is None else fitted.log_proba(lines)
    speed = len(texts) / (time.perf_counter() - start)
    rest = (fitted.seconds, speed, fitted.n_bytes, fitted.chosen)
    if fitted.log_proba is None:
        return Row(data, model, float((found == y).mean()), np.nan, np.nan, *rest)
    score = score_of(found, y)
    scores = TextScores(found.shape[1], 1, 0.0)
    scores.add(found, np.eye(found.shape[1], dtype=bool)[y], several=False)
    return Row(data, model, score.accuracy, score.nll, scores.summary()["calibration_error"], *rest)


def rows(splits: dict[str, TextSplit]) -> Iterator[Row]:
    """Yield the rows of the table, one data set after the other."""
    for name, split in splits.items():
        yield measured(name, "saffu", fit_saffu(None), split)
        yield measured(name, f"saffu, at most {SMALL_SIZE / 1e6:g} MB", fit_saffu(SMALL_SIZE), split)
        for model, fit in {**peers.of_fasttext(), **peers.of_sklearn()}.items():
            yield measured(name, model, fit, split)


def table(results: Sequence[Row]) -> str:
    """The rows in Markdown."""
    header = [
        "data",
        "model",
        "accuracy",
        "NLL (nats)",
        "calibration error",
        "seconds to fit",
        "texts/s",
        "MB",
        "chosen",
    ]
    lines = [
        [
            r.data,
            r.model,
            f"{r.accuracy:.4f}",
            "-" if np.isnan(r.nll) else f"{r.nll:.4f}",
            "-" if np.isnan(r.nll) else f"{r.calibration_error:.3f}",
            f"{r.seconds:.2f}",
            f"{r.texts_per_second:,.0f}",
            f"{r.n_bytes / 1e6:.1f}",
            r.chosen,
        ]
        for r in results
    ]
    return markdown_table(header, lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    quick = "a few seconds on made-up texts, only to see that it works"
    parser = parser_of(
        "text-classifier-quality",
        __doc__,
        lambda parser: parser.add_argument("--quick", action="store_true", help=quick),
    )
    given = parser.parse_args(argv)
    require("sklearn")
    printed = given.print or given.quick
    check_published("text-classifier-quality", printed)
    splits = {"made up": labelled_texts.made_up()} if given.quick else labelled_texts.both(data_folder())
    found = []
    for row in rows(splits):
        found.append(row)
        print(*row, flush=True)
    libraries = ["scikit-learn", *(name for name in ("fasttext-numpy2-wheel",) if installed(name))]
    publish("text-classifier-quality", f"{table(found)}\n\n{machine_line('every core to fit', libraries)}", printed)


if __name__ == "__main__":
    main()

"""Accuracy, test NLL and fitting time of layers and networks beside naive Bayes and logistic regression.

``python -m bench.experiments.classifier_quality [--print]`` takes about three minutes. Needs SAFFU_DATA and
scikit-learn.

MNIST, 20 Newsgroups and AG News, each with its own test part.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.data import datasets
from bench.data.datasets import Split
from bench.measure.scores import score_of
from bench.peers.classifiers import fit_saffu, of_sklearn
from bench.report.command import only_print
from bench.report.requirements import data_folder
from bench.report.tables import machine_line, markdown_table, publish
from saffu import ExplicitNetwork

NETWORKS = ((100,), (300,), (1000,), (2000,), (300, 100))  # hidden layers, on MNIST


class Row(NamedTuple):
    """One line of the table; NLL in nats per example, on the test part."""

    data: str
    model: str
    accuracy: float
    nll: float
    seconds: float


def measured(data: str, model: str, fit: Callable[[Any, np.ndarray], Any], split: Split) -> Row:
    """Fit once, by the clock, and score the test part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LogisticRegression warns where it stops at its limit of iterations
        start = time.perf_counter()
        fitted = fit(split.train, split.y_train)
        seconds = time.perf_counter() - start
        log_p = fitted.predict_log_proba(split.test)
    found = score_of(log_p, split.y_test)
    return Row(data, model, found.accuracy, found.nll, seconds)


def rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of the table, one data set after the other."""
    for name, load in (
        ("MNIST", datasets.mnist),
        ("20 Newsgroups", datasets.newsgroups20),
        ("AG News", datasets.ag_news),
    ):
        split = load(folder)
        yield measured(name, "saffu mean-norm", fit_saffu("mean-norm"), split)
        yield measured(name, "saffu primed", fit_saffu("primed"), split)
        if name == "MNIST":
            complements = datasets.with_complements(split)
            yield measured(name, "saffu primed, x and 1 - x", fit_saffu("primed"), complements)
            for hidden in NETWORKS:
                units = " + ".join(f"{size:,}" for size in hidden)
                yield measured(name, f"saffu network, {units} hidden", ExplicitNetwork(hidden=hidden).fit, split)
        for model, fit in of_sklearn().items():
            yield measured(name, model, fit, split)


def table(results: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [[r.data, r.model, f"{r.accuracy:.3f}", f"{r.nll:.3f}", f"{r.seconds:.2f}"] for r in results]
    return markdown_table(["data", "model", "accuracy", "NLL (nats)", "seconds"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    printed = only_print("classifier-quality", __doc__, argv, ["sklearn"])
    found = list(rows(data_folder()))
    publish("classifier-quality", f"{table(found)}\n\n{machine_line('every core', ['scikit-learn'])}", printed)


if __name__ == "__main__":
    main()

"""Accuracy, test NLL and fitting time of the classifier beside its peers on real data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.data import datasets
from bench.data.datasets import Split
from saffu import ExplicitNetwork, SoftmaxLayer

NETWORKS = ((100,), (300,), (1000,), (2000,), (300, 100))  # hidden layers, on MNIST


class Row(NamedTuple):
    """One line of the table; NLL in nats per example, on the test part."""

    data: str
    model: str
    accuracy: float
    nll: float
    seconds: float


def nll_of(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-probability of the labels."""
    return -float(log_p[np.arange(labels.size), labels].mean())


def fit_saffu(priming: str) -> Callable[[Any, np.ndarray], SoftmaxLayer]:
    """Fit, weigh and prime."""

    def fit(features: Any, labels: np.ndarray) -> SoftmaxLayer:
        layer = SoftmaxLayer(priming).fit(features, labels)
        _ = layer.weights  # solved when first needed
        return layer

    return fit


def peers() -> dict[str, Callable[[Any, np.ndarray], Any]]:
    """Fitting functions of the peers, by name."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    return {
        "MultinomialNB": MultinomialNB(alpha=0.1).fit,
        "ComplementNB": ComplementNB(alpha=0.1).fit,
        "LogisticRegression": LogisticRegression(max_iter=60).fit,
    }


def measured(data: str, model: str, fit: Callable[[Any, np.ndarray], Any], split: Split) -> Row:
    """Fit once, by the clock, and score the test part."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LogisticRegression stops at its limit of iterations and says so
        start = time.perf_counter()
        fitted = fit(split.train, split.y_train)
        seconds = time.perf_counter() - start
        log_p = fitted.predict_log_proba(split.test)
    accuracy = float((log_p.argmax(axis=1) == split.y_test).mean())
    return Row(data, model, accuracy, nll_of(log_p, split.y_test), seconds)


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
                yield measured(name, f"saffu network, {units} hidden", ExplicitNetwork(hidden).fit, split)
        for model, fit in peers().items():
            yield measured(name, model, fit, split)


def table(results: list[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    lines = ["| data | model | accuracy | NLL (nats) | seconds |", "|---|---|---|---|---|"]
    lines += [f"| {r.data} | {r.model} | {r.accuracy:.3f} | {r.nll:.3f} | {r.seconds:.2f} |" for r in results]
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    folder = datasets.data_folder()
    if folder is None:
        print("set SAFFU_DATA to the folder of the data sets")
        return 2
    print(table(list(rows(folder))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

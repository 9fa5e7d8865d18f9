"""SoftmaxLayer beside MultinomialNB on small sets of scikit-learn: NLL and accuracy.

``python -m bench.experiments.small_sets [--print]`` takes a few seconds. Needs scikit-learn.

Five-fold cross-validation, three shuffles. A third column scales the logits of naive Bayes by one number only (the
likelihood's scalar for both groups), which keeps its decisions: what the scalar of the shares is worth beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.report.command import only_print
from bench.report.tables import machine_line, markdown_table, publish
from saffu import SoftmaxLayer

SEEDS = range(3)
SETS = ("iris", "wine", "breast_cancer", "digits")
Scores = NDArray[np.float64]  # (NLL, accuracy)


def data_sets() -> Iterator[tuple[str, NDArray, NDArray]]:
    """Name, features and labels: those of scikit-learn, and counts of four balanced classes of 250 rows."""
    from sklearn import datasets

    for name in SETS:
        yield name.replace("_", " "), *getattr(datasets, f"load_{name}")(return_X_y=True)
    y = np.repeat(np.arange(4), 250)
    rates = 1 + 0.8 * (np.arange(4) == y[:, None])
    yield "four classes", np.random.default_rng(0).poisson(rates).astype(np.float64), y


def scalings(X: NDArray) -> Iterator[tuple[str, NDArray]]:
    """The features as they are, and in [0, 1] in two ways."""
    low, high = X.min(axis=0), X.max(axis=0)
    yield "raw", X
    yield "by the largest", X / np.maximum(high, 1e-9)
    yield "to [0, 1]", (X - low) / np.maximum(high - low, 1e-9)


def scores(log_p: NDArray, y: NDArray) -> Scores:
    """Mean negative log-probability of the labels, nats, and the share of right decisions."""
    log_p = log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)
    return np.array([-log_p[np.arange(y.size), y].mean(), (log_p.argmax(axis=1) == y).mean()])


def measured(X: NDArray, y: NDArray) -> list[Scores]:
    """Scores of the layer, of naive Bayes, and of naive Bayes with one temperature, on rows not trained on."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.naive_bayes import MultinomialNB

    found = []
    for seed in SEEDS:
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y):
            layer = SoftmaxLayer().fit(X[train], y[train])
            bayes = MultinomialNB().fit(X[train], y[train])
            scaled = layer.scalars["likelihood"] * bayes.predict_joint_log_proba(X[test])
            logits = [layer.logits(X[test]), bayes.predict_joint_log_proba(X[test]), scaled]
            found.append([scores(each, y[test]) for each in logits])
    return list(np.mean(found, axis=0))


def table() -> str:
    """All sets in all scalings."""
    rows = []
    for name, X, y in data_sets():
        for scaling, scaled in scalings(X):
            cells = [f"{nll:.4f} / {accuracy:.4f}" for nll, accuracy in measured(scaled, y)]
            rows.append([name, scaling, *cells])
    return markdown_table(["data", "features", "SoftmaxLayer", "MultinomialNB", "the same, one temperature"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    printed = only_print("small-sets", __doc__, argv, ["sklearn"])
    publish("small-sets", f"{table()}\n\n{machine_line('every core', ['scikit-learn'])}", printed)


if __name__ == "__main__":
    main()

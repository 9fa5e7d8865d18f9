"""The peers in scikit-learn, with their scores against wall time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from bench.data.datasets import Split
from bench.measure.clock import Stopwatch
from bench.measure.scores import Point, score


def relu_network(split: Split, hidden: int, rate: float, epochs: int, batch_size: int, seed: int = 0) -> list[Point]:
    """MLPClassifier, Adam at a constant rate, epoch by epoch."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((hidden,), learning_rate_init=rate, batch_size=batch_size, random_state=seed)
    classes, points, watch = np.unique(split.y_train), [], Stopwatch()
    for epoch in range(1, epochs + 1):
        model.partial_fit(split.train, split.y_train, classes=classes)
        with watch.paused() as seconds:
            points.append(Point(epoch, seconds, *score(model, split.test, split.y_test), model.loss_))
    return points


def logistic_regression(split: Split, iterations: Sequence[int] = (5, 10, 20, 40, 80)) -> list[Point]:
    """LogisticRegression, a fit from nothing for each limit of iterations."""
    from sklearn.linear_model import LogisticRegression

    points = []
    for limit in iterations:
        watch = Stopwatch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it stops at its limit of iterations
            model = LogisticRegression(max_iter=limit).fit(split.train, split.y_train)
        with watch.paused() as seconds:
            points.append(Point(limit, seconds, *score(model, split.test, split.y_test)))
    return points

"""How good a classifier is on rows that it was not trained on, and when during its training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import saffu

TINY = np.finfo(np.float32).tiny


class Score(NamedTuple):
    """On some rows: mean negative log-probability of the label in nats, and share of labels that come first."""

    nll: float
    accuracy: float


def score(model: Any, X: Any, y: NDArray) -> Score:
    """Score of a classifier with the labels 0, 1, ..."""
    if isinstance(model, saffu.SoftmaxLayer | saffu.ExplicitNetwork):  # unprimed, their probabilities underflow
        return score_of(model.predict_log_proba(X), y)
    return score_of(np.log(np.maximum(model.predict_proba(X), TINY)), y)


def score_of(log_p: NDArray, y: NDArray) -> Score:
    """Score of log-probabilities (rows, classes)."""
    return Score(-float(log_p[np.arange(y.size), y].mean()), float((log_p.argmax(axis=1) == y).mean()))


class Point(NamedTuple):
    """A moment of a training run: seconds of training only, score on the rows kept apart, loss on the training rows."""

    epoch: int
    seconds: float
    nll: float
    accuracy: float
    training_loss: float = math.nan

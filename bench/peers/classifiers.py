"""Fitting functions of single-layer classifiers: saffu's layer, and what scikit-learn has instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from saffu import SoftmaxLayer


def fit_saffu(priming: str) -> Callable[[Any, np.ndarray], SoftmaxLayer]:
    """Fit, weigh and prime."""

    def fit(features: Any, labels: np.ndarray) -> SoftmaxLayer:
        layer = SoftmaxLayer(priming=priming).fit(features, labels)
        _ = layer.weights  # solved when first needed
        return layer

    return fit


def of_sklearn() -> dict[str, Callable[[Any, np.ndarray], Any]]:
    """Fitting functions of scikit-learn, by name."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    return {
        "MultinomialNB": MultinomialNB(alpha=0.1).fit,
        "ComplementNB": ComplementNB(alpha=0.1).fit,
        "LogisticRegression": LogisticRegression(max_iter=60).fit,
    }

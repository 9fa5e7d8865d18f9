"""The reliability diagram of a classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.plot.axes import axes_or_new
from saffu.utils import validate
from saffu.utils.arrays import Float64, Int64


class ReliabilityDisplay:
    """A reliability diagram: how often a classifier is right, of the predictions that it is so sure of.

    Made by :meth:`from_estimator` or :meth:`from_predictions`, in the form of the displays of scikit-learn, which need
    not be installed. Where ``sklearn.calibration.CalibrationDisplay`` is for two classes, this is for any number: a
    prediction is the most probable class, and its confidence is that probability.

    Parameters
    ----------
    confidence, accuracy : ndarray of float64, shape (B,)
        Mean confidence of the predictions in each bin that has any, and the share of them that is right.
    counts : ndarray of int64, shape (B,)
        Predictions in each bin.
    estimator_name : str, optional
        For the legend.

    Attributes
    ----------
    expected_calibration_error : float
        Mean distance of confidence and accuracy, weighted by the counts.
    ax_, figure_, line_ : matplotlib objects
        What :meth:`plot` drew.

    Notes
    -----
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", arXiv 1706.04599, equations 2 to 5.

    Examples
    --------
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1, 0], [[0.8, 0.2], [0.2, 0.8], [0.7, 0.3], [0.7, 0.3]])
    >>> display.confidence.round(2).tolist(), display.accuracy.tolist()
    ([0.7, 0.8], [0.5, 1.0])
    """

    line_: Any
    ax_: Any
    figure_: Any

    def __init__(
        self, confidence: Float64, accuracy: Float64, counts: Int64, *, estimator_name: str | None = None
    ) -> None:
        self.confidence, self.accuracy, self.counts = confidence, accuracy, counts
        self.estimator_name = estimator_name

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy, weighted by the counts."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.counts))

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, n_bins: int = 10, name: str | None = None, ax: Any = None
    ) -> Self:
        """Draw the diagram of a fitted classifier.

        Parameters
        ----------
        estimator : classifier with ``predict_proba`` and ``classes_``
            Ours, or one of scikit-learn.
        X : array_like or sparse matrix, shape (M, D)
        y : array_like, shape (M,)
            The true labels.
        n_bins : int
            Bins of equal width.
        name : str, optional
            For the legend; by default that of the estimator's class.
        ax : matplotlib.axes.Axes, optional
        """
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            classes=estimator.classes_,
            n_bins=n_bins,
            name=name or type(estimator).__name__,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_prob: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        n_bins: int = 10,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the diagram of predicted probabilities.

        Parameters
        ----------
        y_true : array_like, shape (M,)
            The true labels.
        y_prob : array_like of float, shape (M, N)
            The probability of each class.
        classes : array_like, shape (N,), optional
            The label of each column; by default 0 .. N - 1.
        n_bins : int
            Bins of equal width.
        name : str, optional
            For the legend.
        ax : matplotlib.axes.Axes, optional

        Raises
        ------
        ValueError, TypeError
            If the shapes do not fit, there are no rows, or a probability is outside of [0, 1].
        """
        n_bins = validate.integer(n_bins, "n_bins", 1)
        probabilities, labels = np.asarray(y_prob, np.float64), np.asarray(y_true)
        if probabilities.ndim != 2 or not probabilities.size or len(probabilities) != labels.size:
            raise ValueError(
                f"y_prob must have a row for each of {labels.size} labels, at least one, got {probabilities.shape}"
            )
        if not (probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-6):
            raise ValueError("y_prob must be probabilities from 0 to 1")
        named = np.arange(probabilities.shape[1]) if classes is None else np.asarray(classes)
        if named.shape != probabilities.shape[1:]:
            raise ValueError(f"classes must be {probabilities.shape[1]} labels, got shape {named.shape}")
        confidence = np.minimum(probabilities.max(axis=1), 1)
        right = named[probabilities.argmax(axis=1)] == labels
        bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
        counts = np.bincount(bins, minlength=n_bins)
        used = counts > 0
        sure, correct = (np.bincount(bins, values, n_bins)[used] / counts[used] for values in (confidence, right))
        return cls(sure, correct, counts[used].astype(np.int64), estimator_name=name).plot(ax=ax)

    def plot(self, ax: Any = None, *, name: str | None = None, ref_line: bool = True, **kwargs: Any) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        name : str, optional
            For the legend; by default ``estimator_name``.
        ref_line : bool
            Whether to draw the line of perfect calibration.
        **kwargs
            More arguments of ``matplotlib.axes.Axes.plot``.
        """
        self.ax_ = axes_or_new(ax, 4.5, 4.5)
        self.figure_ = self.ax_.figure
        if ref_line and "perfectly calibrated" not in self.ax_.get_legend_handles_labels()[1]:
            self.ax_.plot([0, 1], [0, 1], "k:", label="perfectly calibrated")
        label = f"{name or self.estimator_name or 'classifier'} (error {self.expected_calibration_error:.3f})"
        (self.line_,) = self.ax_.plot(self.confidence, self.accuracy, **{"marker": "s", "label": label} | kwargs)
        self.ax_.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        self.ax_.legend(loc="lower right")
        return self

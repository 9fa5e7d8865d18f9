"""How good predictions of labels are: precision, recall, loss and calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from saffu.utils.arrays import Array, Bools, Float64, Int64

BINS = 15  # of probabilities, of equal width


class TextScores:
    """Sums over texts, from which all measures follow.

    Parameters
    ----------
    n_labels : int
        N, those that can be predicted.
    k : int
        How many labels are predicted for each text.
    threshold : float
        Those with a lower probability are not predicted.

    Examples
    --------
    >>> scores = TextScores(2, 1, 0.0)
    >>> scores.add(np.log([[0.9, 0.1], [0.4, 0.6]]), np.array([[True, False], [True, False]]), several=False)
    >>> scores.summary()["precision"], round(scores.summary()["nll"], 3)
    (0.5, 0.511)
    """

    def __init__(self, n_labels: int, k: int, threshold: float) -> None:
        self.k, self.threshold = k, threshold
        self.n_texts = self.n_known = 0
        self.loss = 0.0
        self.predicted, self.right, self.true = (np.zeros(n_labels, np.int64) for _ in range(3))
        self.n_unknown = 0  # labels of texts that can never be predicted
        self.bins = np.zeros((3, BINS))  # texts, summed probability, and right ones

    def add(self, log_p: Array, labels: Bools, *, several: bool, n_unknown: Int64 | None = None) -> None:
        """Add texts.

        Parameters
        ----------
        log_p : ndarray, shape (M, N)
            Logarithms of probabilities.
        labels : ndarray of bool, shape (M, N)
            Whether each text has each label.
        several : bool
            Whether each label's probability is one of its own.
        n_unknown : ndarray of int64, shape (M,), optional
            How many labels each text has beside these.
        """
        n, n_labels = log_p.shape
        p = np.exp(log_p.astype(np.float64))
        k = min(self.k, n_labels)
        order = np.argsort(-p, axis=1, kind="stable")[:, :k]
        chosen = np.zeros(labels.shape, bool)
        np.put_along_axis(chosen, order, np.take_along_axis(p, order, axis=1) >= self.threshold, axis=1)
        self.n_texts += n
        self.predicted += chosen.sum(axis=0)
        self.right += (chosen & labels).sum(axis=0)
        self.true += labels.sum(axis=0)
        unknown = np.zeros(n, np.int64) if n_unknown is None else n_unknown
        self.n_unknown += int(unknown.sum())
        self._add_loss(log_p.astype(np.float64), p, labels, several, unknown)
        first = order[:, 0]
        sure, hit = p[np.arange(n), first], labels[np.arange(n), first]
        place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
        for row, values in zip(self.bins, (np.ones(n), sure, hit.astype(np.float64)), strict=True):
            row += np.bincount(place, values, BINS)

    def _add_loss(self, log_p: Float64, p: Float64, labels: Bools, several: bool, unknown: Int64) -> None:
        if several:
            rest = np.log1p(-np.minimum(p, 1 - 1e-12))
            losses = -np.where(labels, log_p, rest).sum(axis=1)
        else:
            losses = -np.where(labels, log_p, 0.0).sum(axis=1) / np.maximum(labels.sum(axis=1), 1)
        known = (unknown == 0) & (several | labels.any(axis=1))
        self.n_known += int(known.sum())
        self.loss += float(losses[known].sum())

    def summary(self) -> dict[str, float]:
        """Precision and recall over all predictions, loss in nats a text, and the error of the first probability.

        Texts with a label that was never seen have no finite loss: they are left out of it. The calibration error is
        the mean distance of probability and accuracy over bins of equal width, weighted by their texts.
        """
        right = int(self.right.sum())
        return {
            "precision": _ratio(right, int(self.predicted.sum())),
            "recall": _ratio(right, int(self.true.sum()) + self.n_unknown),
            "nll": _ratio(self.loss, self.n_known),
            "calibration_error": float(np.abs(self.bins[1] - self.bins[2]).sum() / max(self.n_texts, 1)),
        }

    def per_label(self) -> list[LabelScores]:
        """Of each label."""
        parts = zip(self.predicted.tolist(), self.right.tolist(), self.true.tolist(), strict=True)
        return [LabelScores.of(*each) for each in parts]


class LabelScores(NamedTuple):
    """Of one label; NaN where nothing can be divided by."""

    precision: float
    recall: float
    f1: float
    n_texts: int

    @classmethod
    def of(cls, predicted: int, right: int, true: int) -> LabelScores:
        """From the numbers of texts that are predicted, right, and of the label."""
        return cls(_ratio(right, predicted), _ratio(right, true), _ratio(2 * right, predicted + true), true)


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")

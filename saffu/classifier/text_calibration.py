"""From scores of labels to probabilities: a temperature, and an offset for each label, fitted to held-out texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saffu.explicit.newton import Evaluation, newton, primed_loss
from saffu.utils.arrays import Float32, Float64


@dataclass(frozen=True)
class Calibration:
    """Logits are ``temperature * scores + offsets``.

    Attributes
    ----------
    temperature : float
    offsets : ndarray of float64, shape (N,)
    several : bool
        Whether each logit is that of a label by itself (a logistic function makes a probability of it), or softmax
        makes probabilities of all.
    loss : float
        Mean loss on the held-out texts, in nats.
    """

    temperature: float
    offsets: Float64
    several: bool
    loss: float = np.nan

    @classmethod
    def none(cls, n_classes: int, several: bool) -> Calibration:
        """Scores as they are: nothing was held out."""
        return cls(1.0, np.zeros(n_classes), several)

    def logits(self, scores: Float32) -> Float32:
        """Of scores (M, N)."""
        found: Float32 = scores * np.float32(self.temperature) + self.offsets.astype(np.float32)
        return found


def calibrated(scores: Float32, targets: Float64, weights: Float64, several: bool) -> Calibration:
    """Fit to held-out texts with so many labels each, by Newton's method.

    Each target is mixed with what one text more, that may have any label, would make of it: so probabilities stay away
    from zero and one where texts are few and all are classified well.
    """
    n_labels = targets.shape[1]
    mass = weights @ targets
    share = (mass + 1) / (weights.sum() + (2 if several else n_labels))
    other = 1 / (weights.sum() + 1)
    expected = share if several else np.full(n_labels, 1 / n_labels)
    mixed = (1 - other) * targets + other * expected
    prior = np.log(share / (1 - share)) if several else np.log(share)
    groups = [scores.astype(np.float64), np.broadcast_to(prior, scores.shape), np.ones(scores.shape)]
    if several:
        evaluate = _logistic_loss(groups, mixed, weights)
    else:
        evaluate = primed_loss([groups[0], np.ascontiguousarray(groups[1])], mixed, weights, 1)
    start = [1.0 / max(float(scores.std()), 1e-6), 1.0 if several else 0.0, 0.0]
    theta = newton(evaluate, start if several else start[:2])
    offsets = theta[1] * prior + (theta[2] if several else 0.0)
    return Calibration(float(theta[0]), offsets, several, evaluate(theta, False)[0])


def _logistic_loss(groups: list[Float64], targets: Float64, weights: Float64) -> Callable[[Float64, bool], Evaluation]:
    """Mean over texts of the summed loss of all labels, each by a logistic function, for ``newton``."""
    share = (weights / weights.sum())[:, None]
    features = np.stack([group.ravel() for group in groups])

    def evaluate(theta: Float64, derivatives: bool) -> Evaluation:
        logits = np.einsum("fm,f->m", features, theta).reshape(targets.shape)
        losses = np.logaddexp(0, logits) - targets * logits
        value = float((losses * share).sum())
        if not derivatives:
            return value, None, None
        p = 1 / (1 + np.exp(-logits))
        slope, curve = ((p - targets) * share).ravel(), (p * (1 - p) * share).ravel()
        gradient = np.einsum("fm,m->f", features, slope)
        return value, gradient, np.einsum("fm,gm,m->fg", features, features, curve)

    return evaluate

"""From scores of labels to probabilities: a temperature, and an offset for each label, fitted to held-out texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saffu import _core
from saffu.explicit.newton import newton, primed_loss
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
    """Fit to held-out texts with so many labels each, by Newton's method."""
    groups = [scores.astype(np.float64)]
    labels = targets.argmax(axis=1).astype(np.int32)
    evaluate = primed_loss(groups, labels, weights, 1)
    theta = newton(evaluate, [1.0 / max(float(scores.std()), 1e-6)])
    loss = evaluate(theta, False)[0]
    return Calibration(float(theta[0]), np.zeros(scores.shape[1]), several, loss)

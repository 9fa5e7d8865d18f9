"""Successive halving over a few settings, by the loss on validation rows or text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

RATES: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # learning rates that every contender is tuned over
T = TypeVar("T")


class Trained(Protocol):
    """What is known after an epoch of a training run; epoch 0 is its start."""

    @property
    def epoch(self) -> int:
        """Epochs so far."""
        ...

    @property
    def nll(self) -> float:
        """Mean negative log-probability on validation rows or text, nats."""
        ...


class Trial(NamedTuple, Generic[T]):
    """A setting, its lowest NLL on validation rows once trained, and its best epoch: 0 if the start was better."""

    setting: T
    nll: float
    epoch: int


def tuned(
    settings: Sequence[T], run: Callable[[T, int], Sequence[Trained]], screening: int, epochs: int, keep: int = 2
) -> Trial[T]:
    """Run every setting for ``screening`` epochs, the best ``keep`` for ``epochs``, and return the best of these.

    ``run(setting, epochs)`` trains on one part of the training rows and scores another; NaN counts as infinite. The
    start, where the points have it, is the same for many settings and does not decide between them.
    """

    def trial(setting: T, epochs: int) -> Trial[T]:
        points = run(setting, epochs)
        nll = min(_finite(point.nll) for point in points if point.epoch > 0)
        return Trial(setting, nll, min(points, key=lambda point: _finite(point.nll)).epoch)

    trials = sorted((trial(setting, screening) for setting in settings), key=lambda trial: trial.nll)
    if epochs > screening:
        trials = [trial(first.setting, epochs) for first in trials[:keep]]
    return min(trials, key=lambda trial: trial.nll)


def settings_tried(quick: bool) -> slice:
    """Which of ``WARM_SETTINGS`` and ``COLD_SETTINGS`` are tried: all, or two."""
    return slice(1, 3) if quick else slice(None)


def _finite(nll: float) -> float:
    return nll if math.isfinite(nll) else math.inf

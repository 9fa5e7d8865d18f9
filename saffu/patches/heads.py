"""What makes classes of pooled responsibilities: a layer with a ridge, a network of sub-classes, or both.

The layer sees the square roots of the pooled responsibilities, which have about the same noise however large they are.
The network is an ExplicitNetwork on the responsibilities themselves. Both together are mixed log-linearly,

    p ~ layer^a network^b

with scalars a and b that Newton fits to held-out images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from saffu import _core
from saffu.classifier.network import ExplicitNetwork
from saffu.explicit.newton import newton, primed_loss
from saffu.patches.softmax_ridge import RidgeProblem, SoftmaxRidge, best_ridge
from saffu.utils.arrays import Array, Float32, Float64, Int32

KINDS = ("layer", "network", "both")
USUAL_RIDGE = 0.03  # where there is nothing to choose one by
MOST_POWER = 3.0  # more would blow up differences that are hardly there, and are not there in the final parts
ABSENT = 1e-3  # responsibilities below this, in units of one patch, hardly differ


def rooted(pooled: Float32) -> Float32:
    """The features of the layer (M, d), of pooled responsibilities (M, cells, K)."""
    found: Float32 = np.sqrt(pooled.reshape(len(pooled), -1) + np.float32(ABSENT))
    return found


@dataclass(frozen=True)
class HeadSettings:
    """What a head is to be; see :class:`saffu.ExplicitConvNet`."""

    kind: str
    hidden: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Head:
    """A fitted head.

    Attributes
    ----------
    ridge : float
        That of the layer.
    layer : SoftmaxRidge or None
    network : ExplicitNetwork or None
    powers : ndarray of float64, shape (1,) or (2,)
        Of the layer and of the network, as far as there are both.
    """

    ridge: float
    layer: SoftmaxRidge | None
    network: ExplicitNetwork | None
    powers: Float64

    def log_probabilities(self, pooled: Float32, n_threads: int) -> Array:
        """Of pooled responsibilities (M, cells, K): shape (M, N), in nats."""
        parts = self.log_parts(pooled, n_threads)
        logits = sum(np.float32(power) * part for power, part in zip(self.powers, parts, strict=True))
        found: Array = _core.softmax(np.ascontiguousarray(logits, np.float32), True, n_threads)
        return found

    def log_parts(self, pooled: Float32, n_threads: int) -> list[Array]:
        """The log-probabilities (M, N) of the layer and of the network, as far as there are both."""
        parts: list[Array] = []
        if self.layer is not None:
            parts.append(_core.softmax(self.layer.logits(rooted(pooled)), True, n_threads))
        if self.network is not None:
            parts.append(self.network.predict_log_proba(pooled.reshape(len(pooled), -1)))
        return parts


def fit_head(
    settings: HeadSettings,
    pooled: Float32,
    targets: Int32,
    n_classes: int,
    ridge: float,
    powers: Float64,
    n_threads: int,
) -> Head:
    """Solve a head whose ridge and powers are known."""
    layer = network = None
    if settings.kind != "network":
        layer = RidgeProblem(rooted(pooled), targets, n_classes, n_threads).solve(ridge)
    if settings.kind != "layer":
        network = ExplicitNetwork(settings.hidden, complement=False, seed=settings.seed, n_threads=n_threads)
        network.fit(pooled.reshape(len(pooled), -1), targets, n_classes=n_classes, progress=False)
    return Head(ridge, layer, network, powers)


def tuned_head(
    settings: HeadSettings,
    fitted: tuple[Float32, Int32],
    held_out: tuple[Float32, Int32],
    n_classes: int,
    n_threads: int,
) -> Head:
    """Solve a head on some images, with the ridge and the powers that are best for others."""
    pooled, targets = held_out
    if not targets.size:
        powers = np.ones(1) if settings.kind != "both" else np.full(2, 0.5)
        return fit_head(settings, *fitted, n_classes, USUAL_RIDGE, powers, n_threads)
    head = Head(USUAL_RIDGE, None, None, np.ones(1))
    if settings.kind != "layer":
        alone = replace(settings, kind="network")
        head = fit_head(alone, *fitted, n_classes, head.ridge, head.powers, n_threads)
    if settings.kind != "network":
        problem = RidgeProblem(rooted(fitted[0]), fitted[1], n_classes, n_threads)
        ridge, layer, _ = best_ridge(problem, rooted(pooled), targets)
        head = replace(head, ridge=ridge, layer=layer)
    parts = [np.ascontiguousarray(part, np.float64) for part in head.log_parts(pooled, n_threads)]
    start = [1.0 / len(parts)] * len(parts)
    powers = newton(primed_loss(parts, _softened(targets, n_classes), None, n_threads), start)
    return replace(head, powers=np.clip(powers, 0.0, MOST_POWER) if (powers > 0).any() else np.array(start))


def _softened(targets: Int32, n_classes: int) -> Float64:
    """Class numbers as distributions: each is what one image more, of any class, would make of it.

    So scalars stay finite where all held-out images are classified well.
    """
    other = 1 / (targets.size + 1)
    soft = np.full((targets.size, n_classes), other / n_classes)
    soft[np.arange(targets.size), targets] += 1 - other
    return soft

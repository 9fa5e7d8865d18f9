"""A solved convolutional network: its encoder, its head, and what backpropagation needs of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from saffu import _core
from saffu.classifier.examples import Batch
from saffu.classifier.labels import Classes
from saffu.patches import heads
from saffu.patches.contrast import KINDS as CONTRASTS
from saffu.patches.heads import Head, rooted
from saffu.patches.patch_em import EMSettings
from saffu.patches.patch_encoder import PatchEncoder, images_of
from saffu.patches.softmax_ridge import SoftmaxRidge
from saffu.utils import validate
from saffu.utils.arrays import Array, Float32, Float64, Matrix

AT_ONCE = 1 << 26  # pooled responsibilities that are in memory while classes are predicted


@dataclass(frozen=True)
class ConvSettings:
    """The arguments of :class:`saffu.ExplicitConvNet`, but for its threads."""

    shape: Any
    patch: Any
    units: int | None
    pool: int
    stride: int
    normalize: str
    sharpness: float
    rounds: int
    head: str
    hidden: Any
    seed: int

    def checked(self) -> Self:
        """The same with whole hidden layers; ValueError or TypeError if one is out of its range."""
        validate.choice(self.normalize, "normalize", ("auto", *CONTRASTS))
        validate.choice(self.head, "head", heads.KINDS)
        hidden = [self.hidden] if isinstance(self.hidden, (int, np.integer)) else list(self.hidden)
        sizes = tuple(validate.size(n, "hidden") for n in hidden)
        if not sizes:
            raise ValueError("hidden must have at least one layer, got none")
        kind = CONTRASTS[0] if self.normalize == "auto" else self.normalize
        EMSettings(kind, 1 if self.units is None else self.units, self.rounds, self.sharpness, 0.0, self.seed).checked()
        return replace(self, hidden=sizes)

    def encoder(self, normalize: str, n_threads: int, **changes: Any) -> PatchEncoder:
        """An encoder with these settings, some of them changed."""
        names = ("shape", "patch", "units", "pool", "stride", "sharpness", "rounds", "seed")
        settings = {name: getattr(self, name) for name in names} | changes
        return PatchEncoder(normalize=normalize, n_threads=n_threads, **settings)


@dataclass(frozen=True)
class ConvSolution:
    """What a fit finds.

    Attributes
    ----------
    settings : ConvSettings
    classes : ndarray, shape (N,)
    encoder : PatchEncoder
    head : Head
    """

    settings: ConvSettings
    classes: Classes
    encoder: PatchEncoder
    head: Head

    def log_probabilities(self, matrix: Matrix, n_threads: int) -> Array:
        """Of checked images (M, D): shape (M, N), in nats."""
        size = self.encoder.n_outputs
        rows = max(1, AT_ONCE // size)
        found = np.empty((matrix.shape[0], self.classes.size), np.float32)
        for start in range(0, matrix.shape[0], rows):
            pooled = self.encoder.pooled(images_of(matrix[start : start + rows]), n_threads=n_threads)
            found[start : start + rows] = self.head.log_probabilities(pooled, n_threads)
        return found

    # ---- backpropagation, of a head that is a layer ------------------------------------------------------------------

    def parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        """Copies of all parameters, the logits of the units multiplied by ``soften``."""
        assert self.head.layer is not None
        power = self.head.powers[0]
        parts = {
            "units": self.encoder.weights_ * soften,
            "weights": self.head.layer.weights * power,
            "bias": self.head.layer.bias * power,
        }
        return {name: np.array(part, dtype=dtype, order="C") for name, part in parts.items()}

    def with_parameters(self, parameters: dict[str, Array]) -> Self:
        """The same with copies of these parameters."""
        found = {name: np.array(part, np.float32, order="C") for name, part in parameters.items()}
        layer = SoftmaxRidge(found["weights"], found["bias"])
        encoder = self.encoder.with_weights(found["units"])
        return replace(self, encoder=encoder, head=replace(self.head, layer=layer, powers=np.ones(1)))

    def losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        """Cross-entropy of each image of a batch, in nats, shape (M,)."""
        features = rooted(self._pooled(parameters, batch[0], n_threads))
        return _core.cross_entropy_labels(features @ parameters["weights"] + parameters["bias"], batch[1], n_threads)

    def loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        """Write the gradients of the mean cross-entropy of a batch; return it."""
        images, targets = batch
        pooled = self._pooled(parameters, images, n_threads)
        features = rooted(pooled)
        logits = features @ parameters["weights"] + parameters["bias"]
        loss = _core.cross_entropy_labels(logits, targets, n_threads).mean()
        slope = _core.softmax(logits, False, n_threads)
        slope[np.arange(targets.size), targets] -= 1
        slope /= targets.size
        np.matmul(features.T, slope, out=gradients["weights"])
        np.sum(slope, axis=0, out=gradients["bias"])
        by_pooled = (slope @ parameters["weights"].T) / (2 * features)  # the slope of a square root
        core, matrix = self.encoder.core_parts(images.dtype)
        by_units = _core.patch_moments(
            core, images, None, None, by_pooled.reshape(pooled.shape), matrix, parameters["units"], n_threads
        )
        gradients["units"][:] = by_units.sum(axis=0)
        return float(loss)

    def _pooled(self, parameters: dict[str, Array], images: Matrix, n_threads: int) -> Float32:
        core, matrix = self.encoder.core_parts(images.dtype)
        images = np.ascontiguousarray(images)
        return _core.pool_patches(core, images, matrix, parameters["units"], n_threads)

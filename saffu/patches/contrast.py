"""What units see of a patch: its contrast, split into what is above the mean and what is below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saffu.utils.arrays import Array, Float32, Float64

KINDS = ("none", "deviation", "whiten")
SPREAD = {"none": 0.25, "deviation": 0.05, "whiten": 0.25}  # of values whose greatest is 1
LEAST = 1e-25  # the greatest value of images that show nothing
WHITE_NOISE = 0.1  # added to each variance, in units of their mean: directions that hardly vary are noise
WHITE_GAIN = 1.4  # whitened values have about this deviation, as those of the other kinds


def scale_of(greatest: float) -> float:
    """What makes this greatest value of all images 1; images of nothing stay as they are."""
    if not np.isfinite(greatest):
        raise ValueError(f"X must be below {np.finfo(np.float32).max:.3g}, the largest number of single precision")
    return 1.0 / greatest if greatest > LEAST else 1.0


@dataclass(frozen=True)
class Contrast:
    """The contrast of patches, as saffu.h defines it.

    Attributes
    ----------
    kind : {"none", "deviation", "whiten"}
        How differences from the mean are made comparable: as they are, divided by the patch's own deviation, or
        decorrelated.
    scale : float
        Values are multiplied by it: 1 over the greatest value of the training images.
    spread : float
        What differences are divided by, or what is added to the deviation.
    whitening : ndarray of float32, shape (D, D), optional
        The matrix M of the kind ``"whiten"``.
    """

    kind: str
    scale: float
    spread: float
    whitening: Float32 | None = None

    @classmethod
    def of(cls, kind: str, greatest: float, patches: Float32) -> Contrast:
        """The contrast of images with this greatest value, some of whose patches (n, D) are given."""
        plain = cls(kind, scale_of(greatest), SPREAD[kind])
        if kind != "whiten":
            return plain
        differences = plain.differences(patches).astype(np.float64)
        variances, directions = np.linalg.eigh(differences.T @ differences / max(len(differences), 1))
        noise = WHITE_NOISE * max(float(variances.mean()), 1e-6)
        white = directions * (WHITE_GAIN / np.sqrt(np.maximum(variances, 0) + noise)) @ directions.T
        return cls(kind, plain.scale, plain.spread, np.ascontiguousarray(white, np.float32))

    def differences(self, patches: Float32) -> Float32:
        """(x - m) / d of patches (n, D), before any whitening."""
        values = patches * np.float32(self.scale)
        values -= values.mean(axis=1, keepdims=True)
        deviation = values.std(axis=1, keepdims=True) if self.kind == "deviation" else np.float32(0)
        values /= deviation + np.float32(self.spread)
        return values

    def inputs(self, patches: Float32) -> Float32:
        """The inputs of units but for the constant one, shape (n, 2 D + 2), without the kernel."""
        z = self.differences(patches)
        z = z if self.whitening is None else z @ self.whitening.T
        mean = patches.mean(axis=1, keepdims=True) * np.float32(self.scale)
        joined: Float32 = np.concatenate([np.maximum(z, 0), np.maximum(-z, 0), mean, 1 - mean], axis=1)
        return joined

    def expected(self, inputs: Float64) -> Float64:
        """What differences (K, D) have these mean inputs (K, 2 D + 2), of any scale; whitening is undone.

        The last two inputs of a patch sum to one, which tells the scale.
        """
        above, below = np.split(inputs[:, :-2], 2, axis=1)
        z = (above - below) / inputs[:, -2:].sum(axis=1, keepdims=True)
        found: Float64 = z if self.whitening is None else np.linalg.solve(self.whitening.astype(np.float64), z.T).T
        return found

    def matrix(self, dtype: np.dtype) -> Array | None:
        """The whitening matrix in this type of real."""
        return None if self.whitening is None else self.whitening.astype(dtype)

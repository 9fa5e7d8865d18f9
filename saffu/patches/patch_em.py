"""Local softmax units by EM: responsibilities of patches, then the explicit solution of a softmax layer, and again.

With v the inputs of a patch (contrast.py), a unit k is a distribution over them, and its share of the patches,

    p_k = softmax_k(sharpness v . log w_k + prior log share_k)          E-step
    w_jk ~ sum of v_j p_k + smoothing mean(v_j)                         M-step: normalised counts

Annealing: the first rounds take logits softer than they are, so that units find their patches gradually.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from saffu import _core
from saffu.patches.contrast import KINDS, Contrast, scale_of
from saffu.patches.geometry import Geometry
from saffu.patches.sample import patch_sample
from saffu.utils import validate
from saffu.utils.arrays import Float32, Float64
from saffu.utils.progress import progress_bar

PRIOR = 0.5  # power of a unit's share: the full one would let a few units take most patches
SOFTEST = 0.2  # the first round's logits, in units of the last ones
ANNEALED = 0.8  # of the rounds
SHOWN = 20_000  # patches for the mean and the covariance of inputs


@dataclass(frozen=True)
class EMSettings:
    """How units are found; see :class:`saffu.PatchEncoder`."""

    normalize: str
    units: int
    rounds: int
    sharpness: float
    smoothing: float
    seed: int

    def checked(self) -> Self:
        """The same; ValueError or TypeError if one is out of its range."""
        validate.choice(self.normalize, "normalize", KINDS)
        validate.size(self.units, "units")
        validate.size(self.rounds, "rounds")
        validate.positive(self.sharpness, "sharpness")
        validate.positive(self.smoothing, "smoothing", or_zero=True)
        validate.integer(self.seed, "seed", 0)
        return self


def solve_units(
    images: Float32, geometry: Geometry, settings: EMSettings, n_threads: int, progress: bool | None
) -> tuple[Contrast, Float32]:
    """The contrast, and the weights of the units (n_inputs, K), whose last row is the bias."""
    n_units, sharpness, smoothing = settings.units, settings.sharpness, settings.smoothing
    rng = np.random.default_rng(settings.seed)
    every, greatest = geometry.everywhere(), float(images.max())
    image_of, place_of = patch_sample(images, every, scale_of(greatest), n_units, rng)
    some = rng.choice(image_of.size, min(SHOWN, image_of.size), replace=False)
    shown = every.values(images, image_of[some], place_of[some])
    contrast = Contrast.of(settings.normalize, greatest, shown)
    core, matrix = every.core(contrast), contrast.matrix(images.dtype)
    mean = contrast.inputs(shown).mean(axis=0, dtype=np.float64)[:, None]
    first = rng.choice(image_of.size, n_units, replace=image_of.size < n_units)
    moments = contrast.inputs(every.values(images, image_of[first], place_of[first])).astype(np.float64).T
    share = np.full(n_units, image_of.size / n_units)
    moments *= share
    with progress_bar(settings.rounds, "units", progress) as bar:
        for number in range(settings.rounds):
            softened = sharpness * min(1.0, SOFTEST ** (1 - number / (ANNEALED * settings.rounds)))
            weights = _weights(moments, share, mean, softened, smoothing)
            sums = _core.patch_moments(core, images, image_of, place_of, None, matrix, weights, n_threads)
            total = sums.sum(axis=0)
            moments, share = total[:-1], total[-1]
            bar.update()
    return contrast, _weights(moments, share, mean, sharpness, smoothing)


def _weights(moments: Float64, share: Float64, mean: Float64, sharpness: float, smoothing: float) -> Float32:
    """The M-step: logarithms of the units' rates, and of their shares."""
    counts = moments + smoothing * mean + np.finfo(np.float64).tiny
    rates = sharpness * (np.log(counts) - np.log(counts.sum(axis=0)))
    prior = PRIOR * (np.log(share + 1) - np.log((share + 1).sum()))
    return np.ascontiguousarray(np.concatenate([rates, prior[None]]), np.float32)

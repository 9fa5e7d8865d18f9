"""Encoders of patches in saffu and torch: the problem, and the peak memory of each contender in a process of its own.

``python -m bench.trials.patch_encoding SETTING CONTENDER IMAGES`` encodes in this process and prints what
:func:`peak_of` returns as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bench.measure.memory import in_fresh_process, peak_bytes
from saffu import PatchEncoder

N_THREADS = 2
BATCHES = (1, 10, 50)  # images that torch encodes at once
OURS = "saffu"


class Setting(NamedTuple):
    """Images and units."""

    shape: tuple[int, int, int]
    patch: int
    units: int


SETTINGS = {
    "28 x 28 grey": Setting((28, 28, 1), 6, 400),
    "32 x 32 in colours": Setting((32, 32, 3), 6, 400),
}


def made_up(shape: tuple[int, int, int], n: int) -> NDArray[np.float32]:
    """Blurred noise from 0 to 1, (n, D)."""
    noise = np.random.default_rng(0).random((n, *shape), np.float32)
    images = gaussian_filter(noise, (0, 1.5, 1.5, 0))
    images -= images.min()
    return (images / images.max()).reshape(n, -1)


def problem(setting: Setting, n: int) -> tuple[PatchEncoder, NDArray[np.float32]]:
    """An encoder, and images for it."""
    images = made_up(setting.shape, n)
    encoder = PatchEncoder(setting.shape, patch=setting.patch, units=setting.units, rounds=3, n_threads=N_THREADS)
    return encoder.fit(images[:20], progress=False), images


def contenders(encoder: PatchEncoder, batches: tuple[int, ...] = BATCHES) -> dict[str, Callable[[NDArray], NDArray]]:
    """What encodes images, by name."""
    from bench.peers import torch_patches

    peers = torch_patches.contenders(encoder, batches)
    named = {f"torch: {form}, {at_once} at once": encode for (form, at_once), encode in peers.items()}
    return {OURS: encoder.transform, **named}


def peak_of(setting: str, contender: str, n: int) -> float:
    """Megabytes by which a process of its own grows while it encodes so many images, but for the result."""
    return float(in_fresh_process("bench.trials.patch_encoding", setting, contender, n)["megabytes"])


def main(arguments: list[str]) -> None:
    """Encode in this process."""
    setting, contender, n = arguments
    encoder, images = problem(SETTINGS[setting], int(n))
    encode: Any = contenders(encoder)[contender]
    encode(images[:1])
    before = peak_bytes()
    found = encode(images)
    print(json.dumps({"megabytes": (peak_bytes() - before - found.nbytes) / 2**20}))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Which patches of the training images EM looks at."""

from __future__ import annotations

import numpy as np

from saffu.patches.geometry import Geometry
from saffu.utils.arrays import Float32, Int32

PER_UNIT = 250  # patches of the sample for each unit
FEWEST, MOST = 50_000, 200_000
BLANK = 0.02  # a deviation, of values whose greatest is 1, below which a patch shows nothing
LOOKED_AT = 4  # patches that are drawn for each that is wanted, at most
BLOCK = 20_000


def patch_sample(
    images: Float32, geometry: Geometry, scale: float, n_units: int, rng: np.random.Generator
) -> tuple[Int32, Int32]:
    """Images and places of some patches, in ascending order.

    Blank patches are all alike, and so many in drawings that they would take most units: they get as many patches as
    one unit has on average.
    """
    wanted = min(max(PER_UNIT * n_units, FEWEST), MOST)
    n_places = int(np.prod(geometry.places))
    few = len(images) * n_places <= wanted
    drawn = np.arange(len(images) * n_places) if few else rng.integers(0, len(images) * n_places, LOOKED_AT * wanted)
    chosen, blank, found = [], [], 0
    for start in range(0, drawn.size, BLOCK):
        part = drawn[start : start + BLOCK]
        image_of, place_of = (numbers.astype(np.int32) for numbers in np.divmod(part, n_places))
        values = geometry.values(images, image_of, place_of) * np.float32(scale)
        shows = values.std(axis=1) > BLANK
        chosen.append(part[shows])
        blank.append(part[~shows])
        found += int(shows.sum())
        if found >= wanted:
            break
    kept = np.concatenate(chosen)[:wanted]
    others = np.concatenate(blank)[: max(kept.size // n_units, 0 if kept.size else wanted)]
    image_of, place_of = np.divmod(np.sort(np.concatenate([kept, others])), n_places)
    return image_of.astype(np.int32), place_of.astype(np.int32)

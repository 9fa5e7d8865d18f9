"""Where the patches of an image lie, and which cells pool them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from saffu import _core
from saffu.patches.contrast import Contrast
from saffu.utils import validate
from saffu.utils.arrays import Float32, Int32, Int64

Pair = tuple[int, int]
USUAL_PATCH, SMALLEST_PATCH = 6, 3  # of images large enough, and of the smallest
PATCH_SHARE = 3 / 8  # of the shorter side, where that is less
UNITS_A_VALUE, FEWEST_UNITS = 6, 100


def usual_patch(height: int, width: int) -> int:
    """The size of patches where none is asked for: small images need several places in each direction, too."""
    side = width if height == 1 else min(height, width)
    return min(USUAL_PATCH, max(SMALLEST_PATCH, int(PATCH_SHARE * side)))


def usual_units(patch_size: int) -> int:
    """The number of units where none is asked for: the more values a patch has, the more kinds of it there are."""
    return max(FEWEST_UNITS, UNITS_A_VALUE * patch_size)


@dataclass(frozen=True)
class Geometry:
    """Patches of images.

    Attributes
    ----------
    shape : tuple of int
        Height, width and channels of an image; a signal has height 1.
    patch : tuple of int
        Height and width of a patch.
    stride : int
        Steps between patches, in both directions.
    pool : tuple of int
        Rows and columns of the grid of cells.
    """

    shape: tuple[int, int, int]
    patch: Pair
    stride: int
    pool: Pair

    @classmethod
    def of(cls, shape: int | Sequence[int], patch: int | Sequence[int], stride: int, pool: int) -> Geometry:
        """The geometry that settings describe; ValueError or TypeError if they describe none."""
        sizes = [shape] if isinstance(shape, (int, np.integer)) else list(shape)
        if not 1 <= len(sizes) <= 3:
            raise ValueError(f"shape must be (height, width), (height, width, channels) or (length,), got {shape!r}")
        whole = [validate.size(n, "shape") for n in sizes]
        height, width, channels = [1, *whole, 1] if len(whole) == 1 else (*whole, 1)[:3]
        both = [patch, patch] if isinstance(patch, (int, np.integer)) else list(patch)
        if len(both) != 2:
            raise ValueError(f"patch must be a size or (height, width), got {patch!r}")
        tall, wide = (validate.size(n, "patch") for n in both)
        tall = 1 if height == 1 else tall
        if tall > height or wide > width:
            raise ValueError(f"patch must fit into an image of {height} x {width}, got {tall} x {wide}")
        step, cells = validate.size(stride, "stride"), validate.size(pool, "pool")
        rows, columns = (height - tall) // step + 1, (width - wide) // step + 1
        return cls((height, width, channels), (tall, wide), step, (min(cells, rows), min(cells, columns)))

    @property
    def places(self) -> Pair:
        """Rows and columns of the places where patches begin."""
        (height, width, _), (tall, wide) = self.shape, self.patch
        return (height - tall) // self.stride + 1, (width - wide) // self.stride + 1

    @property
    def image_size(self) -> int:
        """Values of an image."""
        return int(np.prod(self.shape))

    @property
    def patch_size(self) -> int:
        """Values of a patch."""
        return self.patch[0] * self.patch[1] * self.shape[2]

    @property
    def n_inputs(self) -> int:
        """Inputs of a unit: two of each value, the mean and what it lacks to one, and a constant."""
        return 2 * self.patch_size + 3

    @property
    def n_cells(self) -> int:
        """Cells of the grid."""
        return self.pool[0] * self.pool[1]

    def everywhere(self) -> Geometry:
        """The same with a patch at every place."""
        return replace(self, stride=1, pool=(1, 1))

    def core(self, contrast: Contrast) -> _core.Patches:
        """What the kernels take."""
        scale, spread, divide = contrast.scale, contrast.spread, contrast.kind == "deviation"
        return _core.Patches(self.shape, self.patch, self.stride, self.pool, scale, spread, divide)

    def values(self, images: Float32, image_of: Int32, place_of: Int32) -> Float32:
        """The values of some patches, shape (n, patch_size)."""
        _, width, channels = self.shape
        y, x = np.divmod(place_of.astype(np.int64), self.places[1])
        begin: Int64 = (y * width + x) * self.stride * channels
        row = np.arange(self.patch[1] * channels)
        inside = (np.arange(self.patch[0])[:, None] * width * channels + row).ravel()
        found: Float32 = images[image_of[:, None], begin[:, None] + inside]
        return found

"""Figures of models of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from saffu.patches import ExplicitConvNet, PatchEncoder
from saffu.plot.axes import axes_or_new
from saffu.utils import validate
from saffu.utils.arrays import Array

FAINTEST = 0.1  # contrasts are drawn equally strong, but none that is weaker than this share of the strongest


def patches(encoder: PatchEncoder | ExplicitConvNet, *, count: int = 100, ax: Any = None) -> Any:
    """Draw the patches that units stand for.

    Parameters
    ----------
    encoder : PatchEncoder or ExplicitConvNet
        With units.
    count : int
        How many of them, those with most patches first.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        One image, a grid of the units' patches, row by row: :meth:`saffu.PatchEncoder.unit_patches`, each as strong as
        it can be drawn. Grey is the mean of a patch; three channels are colours, and others are averaged.

    Raises
    ------
    ValueError, TypeError
        If there are no units yet, or the count is no positive number.

    Examples
    --------
    >>> import numpy as np, saffu
    >>> images = np.random.default_rng(0).random((30, 64))
    >>> axes = patches(saffu.PatchEncoder((8, 8), patch=4, units=6).fit(images), count=4)
    >>> axes.images[0].get_array().shape
    (9, 9)
    """
    if not isinstance(encoder, (PatchEncoder, ExplicitConvNet)):
        raise TypeError(f"encoder must be a PatchEncoder or an ExplicitConvNet, got {type(encoder).__name__}")
    found = encoder if isinstance(encoder, PatchEncoder) else encoder.encoder_
    shown = found.unit_patches()
    chosen = np.argsort(-found.weights_[-1], kind="stable")[: validate.integer(count, "count", 1)]
    grid = _grid(_strong(shown)[chosen])
    ax = axes_or_new(ax, 5, 5)
    ax.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(f"patches of {chosen.size} of {len(shown)} units")
    return ax


def _strong(contrasts: Array) -> Array:
    """Contrasts (K, height, width, channels) as values from 0 to 1, in one channel or three."""
    if contrasts.shape[3] != 3:
        contrasts = contrasts.mean(axis=3, keepdims=True)
    greatest = np.abs(contrasts).max(axis=(1, 2, 3), keepdims=True)
    strongest = max(float(greatest.max()), 1e-30)
    values: Array = 0.5 + 0.5 * contrasts / np.maximum(greatest, FAINTEST * strongest)
    return values


def _grid(patches: Array) -> Array:
    """Patches (n, height, width, channels) side by side, with white lines between them."""
    n, height, width, channels = patches.shape
    across = min(n, max(1, round(np.sqrt(n * height / width))))
    rows = -(-n // across)
    grid = np.ones((rows * (height + 1) - 1, across * (width + 1) - 1, channels))
    for number, patch in enumerate(patches):
        y, x = number // across * (height + 1), number % across * (width + 1)
        grid[y : y + height, x : x + width] = patch
    return grid if channels == 3 else grid[..., 0]

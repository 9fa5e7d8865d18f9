"""Local softmax units in torch, in the forms that a user would write: the function of :class:`saffu.PatchEncoder`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from saffu import PatchEncoder

FORMS = ("unfold, product", "unfold, convolution", "convolution of pixels")
Encode = Callable[[NDArray], NDArray]


class TorchPatches:
    """The weights of an encoder with the contrast "none", as torch's forms take them.

    Parameters
    ----------
    encoder : PatchEncoder
        Fitted, of a stride of 1.
    """

    def __init__(self, encoder: PatchEncoder):
        geometry, contrast = encoder.geometry, encoder.contrast
        assert (contrast.kind, geometry.stride) == ("none", 1)
        self.shape, self.patch, self.pool = geometry.shape, geometry.patch, geometry.pool
        self.places, self.scale, self.spread = geometry.places, contrast.scale, contrast.spread
        size = geometry.patch_size
        order = np.arange(size).reshape(*self.patch, -1).transpose(2, 0, 1).ravel()  # torch has the channels first
        rows = np.concatenate([order, size + order, [2 * size, 2 * size + 1]])
        self.weights = torch.from_numpy(encoder.weights_[rows])
        self.bias = torch.from_numpy(encoder.weights_[-1].copy())
        self.n_units = len(self.bias)

    def encode(self, form: str, at_once: int) -> Encode:
        """What makes pooled responsibilities of images (M, D), so many at once, in the order of saffu's."""
        made = {FORMS[0]: self._by_product, FORMS[1]: self._by_convolution, FORMS[2]: self._of_pixels}[form]

        @torch.inference_mode()
        def run(X: NDArray) -> NDArray:
            images = torch.from_numpy(X.reshape(-1, *self.shape)).permute(0, 3, 1, 2)
            parts = [made(part.contiguous() * self.scale) for part in images.split(at_once)]
            return torch.cat(parts).permute(0, 2, 3, 1).flatten(1).numpy()

        return run

    def _by_product(self, images: Tensor) -> Tensor:
        """Places before inputs, so that the product has rows of patches and softmax contiguous units."""
        inputs = self._inputs(functional.unfold(images, self.patch).transpose(1, 2), -1)
        p = torch.softmax(torch.addmm(self.bias, inputs.flatten(0, 1), self.weights), -1)
        return self._pooled(p.reshape(len(images), *self.places, -1).permute(0, 3, 1, 2))

    def _by_convolution(self, images: Tensor) -> Tensor:
        """Inputs as channels, which a convolution of 1 x 1 takes."""
        inputs = self._inputs(functional.unfold(images, self.patch), 1).unflatten(2, self.places)
        logits = functional.conv2d(inputs, self.weights.T[..., None, None], self.bias)
        return self._pooled(torch.softmax(logits, 1))

    def _of_pixels(self, images: Tensor) -> Tensor:
        """Another function, with half the inputs: units that see pixels, as a convolution of torch has them."""
        half = self.weights[: self.weights.shape[0] // 2 - 1].T.reshape(self.n_units, -1, *self.patch)
        return self._pooled(torch.softmax(functional.conv2d(images, half, self.bias), 1))

    def _inputs(self, patches: Tensor, axis: int) -> Tensor:
        mean = patches.mean(axis, keepdim=True)
        z = (patches - mean) / self.spread
        return torch.cat([z.clamp(min=0), (-z).clamp(min=0), mean, 1 - mean], axis)

    def _pooled(self, p: Tensor) -> Tensor:
        """Sums over cells; the last row and column of them may be smaller, where zeros stand for what lacks."""
        cell = [-(-places // cells) for places, cells in zip(self.places, self.pool, strict=True)]
        lacks = [side * cells - places for side, cells, places in zip(cell, self.pool, self.places, strict=True)]
        padded = functional.pad(p, (0, lacks[1], 0, lacks[0])) if any(lacks) else p
        return functional.avg_pool2d(padded, cell) * (cell[0] * cell[1])


def contenders(encoder: PatchEncoder, batches: tuple[int, ...]) -> dict[tuple[str, int], Any]:
    """Functions of images by form and batch."""
    torch.set_num_threads(encoder.n_threads or torch.get_num_threads())
    made = TorchPatches(encoder)
    return {(form, at_once): made.encode(form, at_once) for form in FORMS for at_once in batches}

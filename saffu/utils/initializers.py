"""What new parameters start from: chance, zero, or what a function makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from saffu.utils import validate
from saffu.utils.arrays import Array, Float32

Init = str | Callable[[str, tuple[int, ...]], ArrayLike]
INITS = ("normal", "zeros")


def initial(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """Random weights of an array: gains are 1, biases 0, the rest normal, of standard deviation 1 / sqrt(inputs)."""
    if name.endswith("gain"):
        return np.ones(shape, np.float32)
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    inputs = shape[-1] if name in ("embedding", "positions") else shape[-2]
    return rng.normal(0, 1 / math.sqrt(inputs), shape).astype(np.float32)


class Initializer:
    """New arrays by name and shape.

    Parameters
    ----------
    init : {"normal", "zeros"} or callable
    seed : int or Generator, optional
        Of what is random; 0 by default.

    Raises
    ------
    ValueError
        If ``init`` is unknown.

    Examples
    --------
    >>> Initializer("zeros")("weights", (2, 1)).tolist()
    [[0.0], [0.0]]
    >>> Initializer("normal", seed=1)("bias", (2,)).tolist()
    [0.0, 0.0]
    """

    def __init__(self, init: Init, seed: int | np.random.Generator | None = None) -> None:
        self._init = init if callable(init) else validate.choice(init, "init", INITS)
        self._rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed or 0)

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        """A new array; ValueError if a callable gives one of another shape."""
        if self._init == "zeros":
            return np.zeros(shape)
        if self._init == "normal":
            return initial(name, shape, self._rng)
        assert callable(self._init)
        made = np.array(self._init(name, shape))
        if made.shape != shape:
            raise ValueError(f"init must give an array of shape {shape} for {name!r}, got {made.shape}")
        return made

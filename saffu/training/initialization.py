"""Random starts: the architecture of a model with weights by chance, to compare a counted one with."""

from __future__ import annotations

import math

import numpy as np

from saffu.training.protocols import Model
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64


def random_start(model: Model, *, scale: str | float = "glorot", seed: int = 0) -> Model:
    """Make a model of the same architecture with random weights: the cold start to compare a counted one with.

    Parameters
    ----------
    model : SoftmaxLayer or another model that can be refined
        A fitted model; it stays as it is.
    scale : {"glorot", "he"} or float
        ``"glorot"``: uniform within ``sqrt(6 / (inputs + outputs))`` of zero; ``"he"``: normal of standard deviation
        ``sqrt(2 / inputs)``; a number: normal of that standard deviation. Biases are zero and gains one.
    seed : int
        Of the random weights.

    Returns
    -------
    model
        Of the same class, with an empty ``history``.

    Raises
    ------
    ValueError, TypeError
        If the scale is neither a known name nor a number that is not negative, or the model is not fitted.

    Notes
    -----
    Glorot and Bengio 2010, equation 16; He et al. (arXiv 1502.01852), equation 10.

    Examples
    --------
    >>> import saffu
    >>> X, y = [[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], [7, 7, 9, 9]
    >>> counted = saffu.SoftmaxLayer().fit(X, y)
    >>> random = random_start(counted, scale=0.01, seed=1)
    >>> random.weights.shape == counted.weights.shape
    True
    >>> random.history
    []
    """
    if isinstance(scale, str):
        validate.choice(scale, "scale", ("glorot", "he"))
    else:
        scale = validate.positive(scale, "scale", or_zero=True)
    rng = np.random.default_rng(validate.integer(seed, "seed", 0))
    parameters = {
        name: _fixed(name, value) if name.endswith(("bias", "gain")) else _random(value.shape, scale, rng)
        for name, value in model._parameters(1.0, np.float64).items()
    }
    return model._with_parameters(parameters, [])


def _fixed(name: str, value: Array) -> Array:
    return np.zeros_like(value) if name.endswith("bias") else np.ones_like(value)


def _random(shape: tuple[int, ...], scale: str | float, rng: np.random.Generator) -> Float64:
    inputs = shape[max(len(shape) - 2, 0)]
    if scale == "glorot":
        limit = math.sqrt(6 / (inputs + shape[-1]))
        return rng.uniform(-limit, limit, shape)
    deviation = math.sqrt(2 / inputs) if scale == "he" else float(scale)
    return rng.normal(0.0, deviation, shape) if deviation > 0 else np.zeros(shape)

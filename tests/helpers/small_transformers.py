"""Small transformers with every number random, and sequences for them."""

import numpy as np

from saffu.transformer.model import NOTHING, Transformer

SMALL = {"vocab_size": 11, "hidden": 6, "layers": 2, "heads": (2, 1), "key": (3, 2), "value": (2, 4), "mlp": (5, 7)}


def double(model):
    return model.with_arrays({name: value.astype(np.float64) for name, value in model.arrays.items()})


def small(seed=0, **settings):
    """A model whose every number is random, biases and gains too."""
    model = Transformer(**{**SMALL, "positions": 8, "seed": seed, **settings})
    rng = np.random.default_rng(seed)
    return model.with_arrays({n: v + rng.normal(0, 0.3, v.shape).astype(v.dtype) for n, v in model.arrays.items()})


def rows(seed=0, n=3, length=8, highest=11):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, highest + 1, (n, length))
    ids[0, 5:] = NOTHING
    return ids

"""Small transformers with every number random, and sequences for them."""

import numpy as np

from saffu import grow
from saffu.transformer.functional import NOTHING
from saffu.transformer.model import Transformer

SMALL = {"vocab_size": 11, "hidden": 6, "layers": 2, "heads": (2, 1), "key": (3, 2), "value": (2, 4), "mlp": (5, 7)}

SIX = {
    "mlp": lambda model, **more: grow.mlp(model, 12, **more),
    "add_heads": lambda model, **more: grow.add_heads(model, 2, **more),
    "head_dim": lambda model, **more: grow.head_dim(model, 7, **more),
    "key_dim": lambda model, **more: grow.key_dim(model, 9, **more),
    "hidden": lambda model, **more: grow.hidden(model, 10, **more),
    "add_layer": lambda model, **more: grow.add_layer(model, 1, **more),
}


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

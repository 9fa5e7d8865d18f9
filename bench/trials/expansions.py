"""How exactly the six expansions of a transformer keep its function, in numpy and in torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from saffu import Transformer, grow
from saffu.transformer.sizes import sizes_of


def any_expansion(model: Any, sizes: Sequence[Any], hidden: int, rng: np.random.Generator) -> Any:
    """One of the six, of random extent, for random layers."""
    kind, more, seed = int(rng.integers(6)), int(rng.integers(1, 5)), int(rng.integers(1 << 30))
    if kind == 0:
        return grow.hidden(model, hidden + more, seed=seed)
    if kind == 1:
        return grow.add_layer(model, int(rng.integers(len(sizes) + 1)), seed=seed)
    layer = int(rng.integers(len(sizes)))
    if kind == 2:
        return grow.add_heads(model, more, layers=layer, seed=seed)
    name, field = (("mlp", "mlp"), ("head_dim", "value"), ("key_dim", "key"))[kind - 3]
    return getattr(grow, name)(model, getattr(sizes[layer], field) + more, layers=layer, seed=seed)


def largest_differences(n_sequences: int) -> dict[tuple[str, str], float]:
    """Largest difference of logits, relative to their scale, over random models and up to eight expansions of each."""
    import torch

    from saffu.torch import Transformer as TorchTransformer

    found: dict[tuple[str, str], float] = {}
    rng = np.random.default_rng(0)
    for dtype, library in itertools.product((np.float32, np.float64), ("numpy", "torch")):
        largest = 0.0
        for _ in range(n_sequences):
            layers = int(rng.integers(1, 4))
            small = {name: rng.integers(1, 9, layers).tolist() for name in ("heads", "key", "value", "mlp")}
            shape = {"hidden": int(rng.integers(4, 33)), "layers": layers, **small, "positions": 12}
            start = Transformer(20, **shape, seed=int(rng.integers(99)))
            arrays = {n: v + rng.normal(0, 0.2, v.shape).astype(v.dtype) for n, v in start.arrays.items()}
            numpy_model = start.with_arrays({name: value.astype(dtype) for name, value in arrays.items()})
            ids = rng.integers(0, 21, (4, 12))
            model: Any
            if library == "numpy":
                model, logits = numpy_model, lambda m, ids=ids: m.logits(ids)
            else:
                model = TorchTransformer(numpy_model.arrays)
                logits = lambda m, ids=ids: m(torch.from_numpy(ids)).detach().numpy()  # noqa: E731
            before = logits(model)
            for _ in range(int(rng.integers(1, 9))):
                model = any_expansion(model, sizes_of(model.arrays), model.arrays["output"].shape[0], rng)
            largest = max(largest, float(np.abs(logits(model) - before).max() / np.abs(before).max()))
        found[np.dtype(dtype).name, library] = largest
    return found

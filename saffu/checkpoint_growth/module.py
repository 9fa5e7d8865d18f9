"""Growth of a live model of transformers; needs the extra ``grow``."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from saffu.checkpoint_growth.names import names_in
from saffu.checkpoint_growth.plan import Plan, plan
from saffu.checkpoint_growth.sizes import Places
from saffu.checkpoint_growth.tensors import Free, FreeNumbers, grown, warn_of_zeros
from saffu.utils.initializers import Init

Model = TypeVar("Model")


def module(model: Model, *, places: Places = None, init: Init = "normal", seed: int = 0, **target: Any) -> Model:
    """A larger model of the same class that computes the same.

    Parameters
    ----------
    model : transformers model, saffu.Transformer or saffu.torch.Transformer
        Of a family that :func:`saffu.grow.plan` knows, with its language model's head or without; it stays as it is.
    places, **target
        As :func:`saffu.grow.plan` takes them.
    init : {"normal", "zeros"} or callable
        What free new entries are; with zeros, no gradient reaches some of them.
    seed : int
        Of what is random.

    Returns
    -------
    transformers model
        On the same device, of the same dtype, in the same mode. Tensors of 16 bits are computed in float32 and rounded
        once.

    Raises
    ------
    ValueError, TypeError
        If the growth cannot be exact, or the model has tensors that are none of its family's.

    Examples
    --------
    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> small = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
    ...                                      num_attention_heads=2)).eval()
    >>> larger = module(small, hidden=12, layers=2, mlp=24)
    >>> ids = torch.tensor([[3, 1, 4, 1, 5]])
    >>> torch.allclose(small(ids).logits, larger(ids).logits, atol=1e-5)
    True
    """
    larger: Model = apply(model, plan(model, places=places, **target), init, seed)
    return larger


def apply(model: Any, planned: Plan, init: Init, seed: int) -> Any:
    """The larger model of a plan."""
    warn_of_zeros(planned, init)
    if hasattr(model, "with_arrays"):
        return _own(model, planned, FreeNumbers(planned, init, seed))
    return _of_transformers(model, planned, FreeNumbers(planned, init, seed))


def _own(model: Any, planned: Plan, free: Free) -> Any:
    """A larger :class:`saffu.Transformer`, or its twin in torch."""
    arrays = model.arrays
    made = {
        step.name: grown(planned, step, arrays[step.source] if step.source else None, free, arrays["output"].dtype)
        for step in planned.steps
    }
    larger = model.with_arrays(made)
    larger.growth.append({"kind": "sizes", **{name: size for name, size in planned.target.items() if size is not None}})
    return larger


def _of_transformers(model: Any, planned: Plan, free: Free) -> Any:
    """A larger model of transformers."""
    import torch

    given = dict(model.state_dict(keep_vars=True))
    names = names_in(planned, given)
    larger = _empty(model, planned)
    before, after = _embedding_factor(model), _embedding_factor(larger)
    if before is not None and after is not None:
        planned = replace(planned, embedding_factors=(before, after))
    dtype = np.dtype(np.float64 if model.dtype == torch.float64 else np.float32)
    new = larger.state_dict()
    with torch.no_grad():
        for step in planned.steps:
            if (name := names(step.name)) is not None:
                old = given[names(step.source)].detach().cpu().to(getattr(torch, dtype.name)) if step.source else None
                made = grown(planned, step, None if old is None else old.numpy(), free, dtype)
                new[name].copy_(torch.from_numpy(made))
    larger.tie_weights()
    larger.generation_config = copy.deepcopy(getattr(model, "generation_config", None))
    return larger.train(model.training)


def _embedding_factor(model: Any) -> float | None:
    """What a model multiplies its embeddings by, as it rounds it; None where it does not."""
    factor = getattr(model.get_input_embeddings(), "embed_scale", None)
    return None if factor is None else float(factor.to(model.dtype))


def _empty(model: Any, planned: Plan) -> Any:
    """A model of the larger config, its numbers not yet those wanted."""
    import torch

    config = type(model.config).from_dict(dict(planned.config))
    config._attn_implementation = model.config._attn_implementation
    standard = torch.get_default_dtype()
    torch.set_default_dtype(model.dtype)
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they would be
            return type(model)(config).to(model.device)
    finally:
        torch.set_default_dtype(standard)

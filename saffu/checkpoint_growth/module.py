"""Growth of a live model of transformers; needs the extra ``grow``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saffu.checkpoint_growth.plan import Plan, plan
from saffu.checkpoint_growth.sizes import Places
from saffu.checkpoint_growth.tensors import FreeNumbers, grown
from saffu.utils.initializers import Init

if TYPE_CHECKING:
    from torch import Tensor

Model = TypeVar("Model")


def module(
    model: Model, *, places: Places = None, init: Init = "normal", seed: int = 0, **target: int | None
) -> Model:
    """A larger model of the same class that computes the same.

    Parameters
    ----------
    model : transformers model
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
    planned = plan(model, places=places, **target)
    return apply(model, planned, init, seed)


def apply(model: Any, planned: Plan, init: Init, seed: int) -> Any:
    """The larger model of a plan."""
    import torch

    given = dict(model.state_dict(keep_vars=True))
    prefix = "" if any(name.startswith(planned.family.prefix) for name in given) else planned.family.prefix
    larger = _empty(model, planned)
    free = FreeNumbers(init, seed, planned.config.get("initializer_range"))
    made: dict[str, Tensor] = {}
    with torch.no_grad():
        for step in planned.steps:
            name = step.name.removeprefix(prefix)
            old = given.get(step.source.removeprefix(prefix)) if step.source else None
            dtype = np.float64 if model.dtype == torch.float64 else np.float32
            array = None if old is None else old.detach().cpu().to(getattr(torch, np.dtype(dtype).name)).numpy()
            made[name] = torch.from_numpy(grown(planned, step, array, free, dtype))
        missing, unknown = larger.load_state_dict(made, strict=False, assign=False)
    larger.tie_weights()
    return larger.train(model.training)


def _empty(model: Any, planned: Plan) -> Any:
    """A model of the larger config, its numbers not yet those wanted."""
    import torch

    config = type(model.config).from_dict(dict(planned.config))
    config._attn_implementation = model.config._attn_implementation
    standard = torch.get_default_dtype()
    torch.set_default_dtype(model.dtype)
    try:
        return type(model)(config).to(model.device)
    finally:
        torch.set_default_dtype(standard)

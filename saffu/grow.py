"""Growth that keeps the function: of our own transformers, and of the checkpoints that people train.

:func:`module` enlarges a live model of transformers (GPT-2, Llama, Mistral, Qwen 2 and 3, Gemma and Gemma 2) or one of
our own to any sizes, :func:`checkpoint` one in a folder, tensor by tensor; :func:`plan` says beforehand what becomes of
each tensor, and :func:`optimizer_state` takes along what an optimiser has gathered. New numbers are normal, zero, or
from counts (:class:`DecoderPrototypes`). See
:mod:`saffu.checkpoint_growth.scales` for why the larger model computes exactly the same.

The six expansions of transformers, by Gesmundo and Maile (arXiv 2308.06103), enlarge our own one step at a time: see
:mod:`saffu.transformer.expansions` for their equations, and :meth:`saffu.Transformer.grow` for all of them at once.
"""

from saffu.checkpoint_growth.checkpoint import checkpoint
from saffu.checkpoint_growth.module import module
from saffu.checkpoint_growth.optimizer import optimizer_state
from saffu.checkpoint_growth.plan import Plan, plan
from saffu.checkpoint_growth.prototypes import DecoderPrototypes
from saffu.transformer.expansions import add_heads, add_layer, head_dim, hidden, key_dim, mlp

__all__ = [
    "DecoderPrototypes",
    "Plan",
    "add_heads",
    "add_layer",
    "checkpoint",
    "head_dim",
    "hidden",
    "key_dim",
    "mlp",
    "module",
    "optimizer_state",
    "plan",
]

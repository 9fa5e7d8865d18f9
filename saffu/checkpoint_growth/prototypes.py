"""New parts of a decoder from counts: what its states have in common before each word; needs the extra ``grow``.

The directions are those of :mod:`saffu.transformer.prototypes`. A new unit of a perceptron, gate and all, and a new
number of the values of a head, projects the normed states onto the direction of one word: those that explain most
first. What meets them on the other side is zero, so the function is kept as with any other new numbers.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.checkpoint_growth.heads import NEW
from saffu.checkpoint_growth.plan import Plan, Step, config_of, family_of, maps_of
from saffu.checkpoint_growth.roles import EXPAND, READ, VALUE, Role
from saffu.checkpoint_growth.tensors import FreeNumbers
from saffu.transformer.prototypes import TOKENS, directions
from saffu.utils.arrays import Array
from saffu.utils.streams import TokenStream

LENGTH = 256  # tokens that the model reads at once
TENSOR = ".weight"


class DecoderPrototypes:
    """What :func:`saffu.grow.module` and :func:`saffu.grow.checkpoint` take as ``init``.

    Parameters
    ----------
    model : transformers model
        The decoder to be grown, or that of the checkpoint; it reads the text once.
    ids : array_like of int, shape (M,)
        Text of its vocabulary; the first 20,000 tokens are read.
    seed : int
        Of all other new numbers, which are normal.

    Raises
    ------
    ValueError, TypeError
        If the text is too short or not of the model's vocabulary.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> small = LlamaForCausalLM(LlamaConfig(vocab_size=3, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
    ...                                      num_attention_heads=2))
    >>> from saffu import grow
    >>> grow.module(small, mlp=20, init=grow.DecoderPrototypes(small, [0, 1, 2] * 20)).config.intermediate_size
    20
    """

    def __init__(self, model: Any, ids: ArrayLike, *, seed: int = 0) -> None:
        self._n_words = int(model.config.vocab_size)
        stream = TokenStream.of(ids, None, self._n_words).slice(0, TOKENS)
        if stream.ids.size < 2:
            raise ValueError(f"ids must hold at least two tokens, got {stream.ids.size}")
        self._labels = stream.ids[1:]
        self._states = _inputs(model, stream.ids[:-1])
        self._seed = seed

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        """Not of use: what a tensor is for has to be known."""
        raise TypeError("DecoderPrototypes are for saffu.grow.module and saffu.grow.checkpoint")

    def tensor(self, planned: Plan, step: Step) -> Array:
        """A tensor of the larger model."""
        made = FreeNumbers(planned, "normal", self._seed)(step, np.float32)
        begin = 0
        for role in step.role.parts or (step.role,):
            end = begin + role.shape(planned.new, step.new_layer)[step.role.fused]
            view = made[(slice(None),) * step.role.fused + (slice(begin, end),)] if step.role.parts else made
            begin = end
            if READ in [axis for axes in role.axes for axis in axes] and step.role.in_layers:
                self._fill(planned, step, role, view)
        return made

    def _fill(self, planned: Plan, step: Step, role: Role, view: Array) -> None:
        """Directions for new units or values, in a view of a part of a new tensor; others stay as they are."""
        units = next((n for n, axes in enumerate(role.axes) if EXPAND in axes or VALUE in axes), None)
        if units is None:
            return
        layer = step.old_layer if step.old_layer is not None else _nearest(planned, step.new_layer)
        states = self._states[role_module(step.role.name, layer)]
        columns = directions(states, self._labels, self._n_words)[0]
        n = view.shape[units]
        new = np.arange(n)
        if step.old_layer is not None:
            each = maps_of(planned, role, step.old_layer, step.new_layer)[units]
            old = np.logical_and.reduce(np.meshgrid(*[places != NEW for places in each], indexing="ij"))
            new = np.flatnonzero(~old.reshape(n))
        some = min(new.size, columns.shape[1])
        matrix = view if units == 0 else view.T
        matrix[new[:some, None], np.arange(columns.shape[0])] = columns[:, :some].T


def role_module(name: str, layer: int) -> str:
    """The module whose weight is the tensor of a role in a layer."""
    return name.removesuffix(TENSOR).format(layer=layer)


def _nearest(planned: Plan, new_layer: int | None) -> int:
    """The old layer whose input a new layer reads: the first behind it, or else the last of all."""
    behind = [source for source in planned.sources[new_layer:] if source is not None]
    return behind[0] if behind else len(planned.old.layers) - 1


def _is_fed(role: Role) -> bool:
    """Whether new numbers of a role are directions: it makes units of a perceptron or values from a state."""
    axes = [axis for part in (role.parts or (role,)) for some in part.axes for axis in some]
    return READ in axes and (EXPAND in axes or VALUE in axes) and role.in_layers


def _inputs(model: Any, ids: Array) -> dict[str, Array]:
    """The states that go into the maps of a model that get directions, (M, hidden), by the names of the maps."""
    import torch

    family = family_of(config_of(model))
    patterns = [re.escape(role_module(role.name, 0)).replace("0", r"\d+") for role in family.roles if _is_fed(role)]
    length = min(LENGTH, int(getattr(model.config, "max_position_embeddings", LENGTH)))
    found: dict[str, list[Array]] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, given: Any) -> None:
            found.setdefault(name, []).append(given[0].detach().float().cpu().numpy().reshape(-1, given[0].shape[-1]))

        return hook

    maps = {
        name: part for name, part in model.named_modules() if any(re.fullmatch(pattern, name) for pattern in patterns)
    }
    hooks = [part.register_forward_pre_hook(keep(name)) for name, part in maps.items()]
    training = model.training
    try:
        with torch.no_grad():
            for first in range(0, ids.size, length):
                row = torch.from_numpy(ids[None, first : first + length].astype(np.int64))
                model.eval().base_model(row.to(model.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {name: np.concatenate(some) for name, some in found.items()}

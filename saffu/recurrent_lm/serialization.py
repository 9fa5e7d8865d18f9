"""A recurrent language model as arrays and metadata of a file, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saffu.recurrent_lm import network
from saffu.recurrent_lm.settings import Sizes
from saffu.text import Vocabulary
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint
from saffu.utils.arrays import Array

if TYPE_CHECKING:
    from saffu.recurrent_lm.model import RecurrentLM

Model = TypeVar("Model", bound="RecurrentLM")

SETTINGS = ("dim", "cells", "layers", "dropout", "start", "seed", "epochs", "budget")
NETWORK, VOCABULARY = "network.", "vocabulary."


def to_checkpoint(model: RecurrentLM) -> tuple[dict[str, Array], dict[str, Any]]:
    """All that a file holds of a model."""
    arrays: dict[str, Array] = {f"{NETWORK}{name}": value for name, value in model._fitted.items()}
    metadata: dict[str, Any] = {
        "settings": {name: getattr(model, name) for name in SETTINGS},
        "sizes": list(model.sizes),
        "history": history_to(model.history),
    }
    if model.vocabulary is not None:
        found, metadata["vocabulary"] = model.vocabulary._to_checkpoint()
        arrays |= {f"{VOCABULARY}{name}": array for name, array in found.items()}
    return arrays, metadata


def from_checkpoint(cls: type[Model], arrays: dict[str, Array], metadata: dict[str, Any]) -> Model:
    """The model of a file, checked; :class:`saffu.utils.checkpoint.Damaged` where its parts do not make one."""
    model: Model = checkpoint.parse(lambda: cls(**metadata["settings"]))
    own = checkpoint.with_prefix(arrays, NETWORK)
    dim, cells, layers = checkpoint.parse(lambda: Sizes(*map(int, metadata["sizes"])))
    if not (dim >= 1 and cells >= 1 and layers == model.layers):
        raise checkpoint.Damaged(f"its sizes {dim}, {cells} and {layers} are none of a network")
    shapes = network.shapes(len(own[network.TOKENS]) - 1, dim, cells, layers)
    if set(shapes) != set(own):
        raise checkpoint.Damaged(f"array {min(set(shapes) ^ set(own))!r} is missing, or should not be there")
    model._arrays = {name: checkpoint.checked(own, name, np.float32, shape) for name, shape in shapes.items()}
    model.history = checkpoint.parse(history_from, metadata["history"])
    if "vocabulary" in metadata:
        vocabulary = Vocabulary._from_checkpoint(checkpoint.with_prefix(arrays, VOCABULARY), metadata["vocabulary"])
        checkpoint.parse(setattr, model, "vocabulary", vocabulary)
    return model

"""A transformer as arrays and metadata of a file, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saffu.text import Vocabulary
from saffu.training.history import history_from, history_to
from saffu.transformer.sizes import Arrays
from saffu.utils import checkpoint, validate
from saffu.utils.nested import from_nested, nested

if TYPE_CHECKING:
    from saffu.transformer.model import Transformer

PREFIX = "vocabulary."


def to_checkpoint(model: Transformer) -> tuple[Arrays, dict[str, Any]]:
    """All that a file holds of a model."""
    arrays = dict(model.arrays)
    metadata = {"activation": model.activation, "causal": model.causal, "seed": model.seed, "growth": model.growth}
    metadata["history"] = history_to(model.history)
    if model.vocabulary is not None:
        inner, metadata["vocabulary"] = nested(model.vocabulary, PREFIX)
        arrays |= inner
    return arrays, metadata


def from_checkpoint(cls: type[Transformer], arrays: Arrays, metadata: dict[str, Any]) -> Transformer:
    """The model that a file holds; files of before may lack the seed and the vocabulary."""
    own = {name: value for name, value in arrays.items() if not name.startswith(PREFIX)}
    settings = {"activation": metadata["activation"], "causal": metadata["causal"]}
    model = checkpoint.parse(cls.from_arrays, own, **settings)
    model.seed = checkpoint.parse(validate.integer, metadata.get("seed", 0), "seed", 0)
    model.history = checkpoint.parse(history_from, metadata["history"])
    model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata["growth"]])
    if "vocabulary" in metadata:
        vocabulary = from_nested(Vocabulary, arrays, PREFIX, metadata["vocabulary"])
        checkpoint.parse(setattr, model, "vocabulary", vocabulary)
    return model

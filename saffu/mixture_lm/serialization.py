"""MixtureLM as arrays and metadata of a file, and back: those of its experts are in the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saffu.mixture_lm.mixing_weights import FittedWeights
from saffu.text import Vocabulary
from saffu.utils import checkpoint
from saffu.utils.arrays import Array, Float64
from saffu.utils.language_model import LanguageModel

if TYPE_CHECKING:
    from saffu.mixture_lm.model import MixtureLM

Model = TypeVar("Model", bound="MixtureLM")


def to_checkpoint(model: MixtureLM) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and metadata of a mixture, of its experts and of its vocabulary."""
    fit = model._fitted
    arrays: dict[str, Array] = {"weights": fit.weights, "losses": fit.losses}
    records: list[dict[str, Any]] = []
    for place, expert in enumerate(model.experts):
        inner, metadata = expert._to_checkpoint()  # type: ignore[attr-defined]  # every registered class has it
        arrays |= {f"experts.{place}.{name}": array for name, array in inner.items()}
        records.append({"kind": expert._checkpoint_kind, "metadata": metadata})  # type: ignore[attr-defined]
    facts: dict[str, Any] = {
        "held_out": model.held_out,
        "given": model._given is not None,
        "n_tokens": fit.n_tokens,
        "interrupted": model.interrupted,
        "experts": records,
    }
    if model.vocabulary is not None:
        inner, facts["vocabulary"] = model.vocabulary._to_checkpoint()
        arrays |= {f"vocabulary.{name}": array for name, array in inner.items()}
    return arrays, facts


def from_checkpoint(cls: type[Model], arrays: dict[str, Array], metadata: dict[str, Any]) -> Model:
    """The mixture of a file, checked; :class:`saffu.utils.checkpoint.Damaged` where its parts do not make one."""
    records: list[Any] = checkpoint.parse(lambda: list(metadata["experts"]))
    experts = [_expert(place, record, arrays) for place, record in enumerate(records)]
    weights = checkpoint.checked(arrays, "weights", np.float64, (len(experts),))
    model = checkpoint.parse(cls, experts, weights=weights, held_out=metadata["held_out"])
    losses = _losses(arrays, len(experts) + 1)
    n_tokens = checkpoint.parse(float, metadata["n_tokens"])
    if not 0 <= n_tokens < np.inf:
        raise checkpoint.Damaged(f"the number of tokens that the weights were fitted on must be finite, got {n_tokens}")
    model._fit = FittedWeights(weights, n_tokens, losses)
    if not metadata["given"]:
        model._given = None
    model.interrupted = bool(metadata["interrupted"])
    if "vocabulary" in metadata:
        inner = checkpoint.with_prefix(arrays, "vocabulary.")
        checkpoint.parse(setattr, model, "vocabulary", Vocabulary._from_checkpoint(inner, metadata["vocabulary"]))
    else:
        model.vocabulary = None
    return model


def _expert(place: int, record: Any, arrays: dict[str, Array]) -> LanguageModel:
    kind = checkpoint.parse(lambda: record["kind"])
    found = checkpoint.all_kinds().get(kind) if isinstance(kind, str) else None
    if found is None or not issubclass(found, LanguageModel):
        raise checkpoint.Damaged(f"expert {place} is of kind {kind!r}, which is no language model known here")
    inner = checkpoint.with_prefix(arrays, f"experts.{place}.")
    expert: LanguageModel = found._from_checkpoint(inner, record["metadata"])  # type: ignore[attr-defined]
    return expert


def _losses(arrays: dict[str, Array], size: int) -> Float64:
    losses = arrays["losses"]
    if losses.dtype != np.float64 or losses.shape != (size,):
        raise checkpoint.Damaged(f"array 'losses' must be float64 of shape ({size},), got {losses.dtype}")
    return losses

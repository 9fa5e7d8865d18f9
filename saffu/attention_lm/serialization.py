"""SaffuLM as arrays and metadata of a file, and back. Names in files stay as the first version wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saffu.attention_lm import units
from saffu.attention_lm.contexts import CONTEXTS
from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.settings import Settings
from saffu.attention_lm.sufficient_statistics import EmbeddingStatistics, OutputStatistics, Solution
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters, Unit
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import Vocabulary
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array
from saffu.utils.fingerprints import Multiset
from saffu.utils.nested import from_nested, nested

if TYPE_CHECKING:
    from saffu.attention_lm.network_model import NetworkModel

Model = TypeVar("Model", bound="NetworkModel")


def settings_of(model: NetworkModel) -> dict[str, Any]:
    """The settings of a model as JSON can hold them."""
    return {name: getattr(model, name) for name in Settings._fields} | {"contexts": list(model.contexts)}


# ---- to a file -------------------------------------------------------------------------------------------------------


def to_checkpoint(model: NetworkModel) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and metadata of a model, with those of its residual and its vocabulary."""
    solution = model._fitted
    arrays: dict[str, Array] = {f"parameters.{name}": value for name, value in solution.parameters.items()}
    arrays |= {f"evidence.{name}": array for name, array in solution.output.arrays().items()}
    arrays |= {f"classes.{name}": array for name, array in solution.embeddings.arrays().items()}
    if solution.output_classes is not None:
        arrays["cells"] = solution.output_classes.of_word
    if model._documents is not None:
        arrays |= {f"documents.{name}": array for name, array in model._documents.arrays().items()}
    metadata: dict[str, Any] = {
        "settings": settings_of(model),
        "units": [list(unit) for unit in model._network.units],
        "classes": solution.embeddings.units,
        "growth": model.growth,
        "scalars": model.scalars,
        "attention_losses": model.attention_losses,
        "history": history_to(model.history),
        "seconds": model.seconds,
    }
    for name, part in (("residual", model.residual), ("vocabulary", model.vocabulary)):
        if part is not None:
            inner, metadata[name] = nested(part, f"{name}.")
            arrays |= inner
    return arrays, metadata


# ---- from a file -----------------------------------------------------------------------------------------------------


def from_checkpoint(kind: type[Model], arrays: dict[str, Array], metadata: dict[str, Any]) -> Model:
    """The model of a file, checked; :class:`saffu.utils.checkpoint.Damaged` where its parts do not make one."""
    residual = None
    if "residual" in metadata:
        residual = from_nested(ExplicitLM, arrays, "residual.", metadata["residual"])
    model = checkpoint.parse(lambda: kind(**metadata["settings"], residual=residual))
    found = checkpoint.parse(_units_of, metadata["units"], model.layers)
    model._network = model._network._replace(units=found)
    model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata["growth"]])
    model._solution = _solution_of(model, arrays, metadata)
    model._documents = None
    if "documents.keys" in arrays:
        model._documents = checkpoint.parse(Multiset.from_arrays, arrays["documents.keys"], arrays["documents.counts"])
    model.attention_losses = _numbers(metadata, "attention_losses")
    model.history = checkpoint.parse(history_from, metadata["history"])
    model.seconds = {name: checkpoint.parse(float, metadata["seconds"][name]) for name in model.seconds}
    if "vocabulary" in metadata:
        vocabulary = from_nested(Vocabulary, arrays, "vocabulary.", metadata["vocabulary"])
        checkpoint.parse(setattr, model, "vocabulary", vocabulary)
    if len(model.scalars) != 1 + len(model._network.units):
        raise checkpoint.Damaged(f"there are {len(model.scalars)} scalars and {len(model._network.units)} units")
    if residual is not None and residual.vocab_size != model.vocab_size:
        raise checkpoint.Damaged(
            f"its parts have vocabularies of different sizes, {model.vocab_size} and {residual.vocab_size}"
        )
    return model


def _solution_of(model: NetworkModel, arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> Solution:
    """The parameters of a file, and what they follow from."""
    network, output_classes = model._network, None
    if "cells" in arrays:
        of_word = checkpoint.checked(arrays, "cells", np.int32, (arrays["cells"].size,))
        output_classes = checkpoint.parse(OutputClasses, of_word)
    parameters = _parameters_of(network, model.bits, checkpoint.with_prefix(arrays, "parameters."), output_classes)
    vocab_size, first = len(parameters[EMBEDDINGS]), network.units[0]
    n_versus_unigram = parameters[f"{first.name}.bias"].size if model.residual is None else 0
    output = OutputStatistics.from_arrays(
        checkpoint.with_prefix(arrays, "evidence."),
        vocab_size,
        parameters["output.weights"].shape,
        n_versus_unigram,
        len(network.units),
    )
    names = checkpoint.parse(lambda: tuple(map(str, metadata["classes"])))
    if not names or not {unit.name for unit in network.units if unit.layer == 0}.issuperset(names):
        raise checkpoint.Damaged("the units that the embeddings were solved with are damaged")
    inner = checkpoint.with_prefix(arrays, "classes.")
    embeddings = EmbeddingStatistics.from_arrays(inner, vocab_size, model.bits, names)
    if any(array.shape != parameters[name].shape for name, array in embeddings.attention.items()):
        raise checkpoint.Damaged("the attention that the embeddings were solved with does not fit")
    return Solution(parameters, output, embeddings, np.array(_numbers(metadata, "scalars")), output_classes)


def _numbers(metadata: Mapping[str, Any], name: str) -> list[float]:
    return checkpoint.parse(lambda: [float(number) for number in metadata[name]])


def _parameters_of(
    network: Network, bits: int, parameters: Mapping[str, Array], output_classes: OutputClasses | None
) -> Parameters:
    """Parameters of a file: all there, of the shapes of this architecture."""
    vocab_size = len(parameters[EMBEDDINGS]) if output_classes is None else output_classes.of_word.size
    n_outputs = vocab_size if output_classes is None else output_classes.n_classes
    shapes: dict[str, tuple[int, ...]] = {EMBEDDINGS: (vocab_size, bits), "output.bias": (n_outputs,)}
    widths = {unit.name: parameters[f"{unit.name}.bias"].size for unit in network.units}
    shapes["output.weights"] = n_outputs, sum(widths.values())
    for unit in network.units:
        below = sum(widths[other.name] for other in network.units if other.layer == unit.layer - 1)
        shapes |= units.shapes(unit, below if unit.layer else bits, widths[unit.name])
    if set(shapes) != set(parameters):
        raise checkpoint.Damaged(f"array {min(set(shapes) ^ set(parameters))!r} is missing, or should not be there")
    return {name: checkpoint.checked(parameters, name, np.float32, shape) for name, shape in shapes.items()}


def _units_of(records: Sequence[Sequence[Any]], n_layers: int) -> list[Unit]:
    """The units of a file, checked: layer by layer, each by a name of its own."""
    found = [Unit(int(layer), str(context), int(head), int(size)) for layer, context, head, size in records]
    for unit in found:
        validate.choice(unit.context, "context", CONTEXTS)
        if unit.head < 0 or (unit.context == "document" and (unit.layer or unit.size)):
            raise ValueError(f"unit {unit.name!r} is damaged")
        validate.integer(unit.size, "size", 0 if unit.context == "document" else 1)
    layers = [unit.layer for unit in found]
    if layers != sorted(layers) or set(layers) != set(range(n_layers)) or len({u.name for u in found}) < len(found):
        raise ValueError("the units of the file are not those of a network")
    return found

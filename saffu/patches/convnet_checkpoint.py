"""A convolutional network as the arrays and metadata of a file, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from saffu.classifier.labels import classes_from_file, classes_to_file
from saffu.classifier.network import ExplicitNetwork
from saffu.patches.convnet_solution import ConvSettings, ConvSolution
from saffu.patches.heads import Head
from saffu.patches.patch_encoder import PatchEncoder
from saffu.patches.softmax_ridge import SoftmaxRidge
from saffu.utils.arrays import Array
from saffu.utils.checkpoint import Damaged, Parts, parse
from saffu.utils.nested import from_nested, nested

TUPLES = ("shape", "patch", "hidden")


def to_parts(solution: ConvSolution) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and JSON-able metadata from which ``from_parts`` makes an equal solution."""
    classes, names = classes_to_file(solution.classes)
    encoder, encoder_metadata = nested(solution.encoder, "encoder.")
    head = solution.head
    arrays = {"classes": classes, "powers": head.powers} | encoder
    settings = {name: _plain(value) for name, value in vars(solution.settings).items()}
    metadata: dict[str, Any] = {"settings": settings, "class_names": names, "encoder": encoder_metadata}
    metadata |= {"ridge": head.ridge, "network": None}
    if head.layer is not None:
        arrays |= {"layer.weights": head.layer.weights, "layer.bias": head.layer.bias}
    if head.network is not None:
        more, metadata["network"] = nested(head.network, "network.")
        arrays |= more
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata


def _plain(value: Any) -> Any:
    """A setting as JSON keeps it."""
    return value if value is None or isinstance(value, (str, float)) else np.asarray(value).tolist()


def settings_from(found: Any) -> ConvSettings:
    """The settings of a file; Damaged if they are none."""
    if not isinstance(found, dict) or found.keys() != ConvSettings.__dataclass_fields__.keys():
        raise Damaged("the settings of this ExplicitConvNet are damaged")
    tuples = {name: tuple(found[name]) for name in TUPLES if isinstance(found[name], list)}
    return parse(lambda: ConvSettings(**(found | tuples)).checked())


def from_parts(arrays: dict[str, Array], metadata: dict[str, Any], settings: ConvSettings) -> ConvSolution:
    """Undo ``to_parts``; Damaged if a part is missing or does not fit the others."""
    classes = parse(classes_from_file, arrays["classes"], metadata.get("class_names"))
    encoder = from_nested(PatchEncoder, arrays, "encoder.", metadata["encoder"])
    network = layer = None
    if settings.head != "network":
        layer = SoftmaxRidge(arrays["layer.weights"], arrays["layer.bias"])
    if settings.head != "layer":
        network = from_nested(ExplicitNetwork, arrays, "network.", metadata["network"])
    head = Head(parse(float, metadata["ridge"]), layer, network, arrays["powers"])
    if not _is_whole(head, classes.size, encoder.n_outputs, Parts(arrays)):
        raise Damaged("the arrays of this ExplicitConvNet do not fit together")
    return ConvSolution(settings, classes, encoder, head)


def _is_whole(head: Head, n_classes: int, n_outputs: int, arrays: Parts) -> bool:
    """Whether all parts are of the shapes, types and ranges that solving gives."""
    parts: list[Array] = [head.powers]
    fits = n_classes >= 2 and head.powers.dtype == np.float64
    fits &= head.powers.shape == ((head.layer is not None) + (head.network is not None),)
    if head.layer is not None:
        parts += [head.layer.weights, head.layer.bias]
        fits &= head.layer.weights.shape == (n_outputs, n_classes) and head.layer.bias.shape == (n_classes,)
        fits &= head.layer.weights.dtype == head.layer.bias.dtype == np.float32
    if head.network is not None:
        fits &= head.network.n_features_in_ == n_outputs and head.network.classes_.size == n_classes
    return bool(fits and all(np.isfinite(part).all() for part in parts))

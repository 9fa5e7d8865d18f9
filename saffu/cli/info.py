"""``saffu info``: what is in a saved model of any kind."""

from __future__ import annotations

import argparse
import os
from typing import Any

from saffu.classifier.network import ExplicitNetwork
from saffu.classifier.softmax_layer import SoftmaxLayer
from saffu.classifier.text_classifier import ExplicitTextClassifier
from saffu.cli import models, output, rows
from saffu.cli.options import Commands, add_json, add_model, new_command
from saffu.explicit.bit_cipher import BitCipher
from saffu.patches import ExplicitConvNet, PatchEncoder

Facts = dict[str, Any]

SHOWN_CLASSES = 20  # of a classifier; a list of more is cut
LAYER_SETTINGS = ("priming", "smoothing")
NETWORK_SETTINGS = (
    "hidden",
    "rounds",
    "complement",
    "priming",
    "corrections",
    "shrinkage",
    "smoothing",
    "seed",
)


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "info",
        "show what is in a model",
        "Prints the kind of a saved model, its settings and sizes, its vocabulary or classes, its fitted scalars, and\n"
        "bytes. It takes every kind that has a method save: language models, classifiers, encoders and bit ciphers.",
        "  saffu info brown.saffu\n  saffu info brown.saffu --json\n  saffu info digits.saffu",
    )
    add_model(parser, "a file written by 'saffu train', or by the method save of any model")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print what a file holds."""
    model = models.load(arguments.model, arguments.threads)
    facts = {"file": arguments.model, "bytes": os.path.getsize(arguments.model), "kind": type(model).__name__}
    facts |= _facts(model, arguments.model)
    print(output.as_json(facts) if arguments.json else "\n".join(output.as_lines(facts)))


def _facts(model: Any, path: str) -> Facts:
    if isinstance(model, models.LANGUAGE_MODELS):
        return _language_model(model)
    if isinstance(model, SoftmaxLayer):
        return _softmax_layer(model)
    if isinstance(model, ExplicitNetwork):
        return _network(model)
    if isinstance(model, ExplicitTextClassifier):
        return _text_classifier(model)
    if isinstance(model, ExplicitConvNet):
        return _conv_net(model)
    if isinstance(model, PatchEncoder):
        return {"model": {**model.get_params(), "n_features": model.n_features_in_, "n_outputs": model.n_outputs}}
    if isinstance(model, BitCipher):
        sizes = ("bits", "vocab_size", "n_coded")
        return {"model": {name: getattr(model, name) for name in sizes}}
    raise ValueError(f"{path!r} holds {type(model).__name__}, of which nothing is known here")


def _language_model(model: models.LanguageModel) -> Facts:
    facts: Facts = {}
    vocabulary = getattr(model, "vocabulary", None)
    if vocabulary is not None:
        facts["vocabulary"] = {
            "types": len(vocabulary),
            "tokenizer": str(vocabulary.tokenizer),
            **{name: getattr(vocabulary, name) for name in ("documents", "min_count")},
        }
    facts["model"] = model.summary()
    scalars = getattr(model, "scalars", None)
    return facts if scalars is None else facts | {"scalars": scalars}


def _softmax_layer(model: SoftmaxLayer) -> Facts:
    return {
        "model": {
            **{name: getattr(model, name) for name in LAYER_SETTINGS},
            **_sizes(model),
            "n_parameters": model.weights.size + model.bias.size,
            "rows": float(model.class_mass.sum()),
            "epochs_refined": _epochs(model.history),
        },
        "scalars": model.scalars,
    }


def _network(model: ExplicitNetwork) -> Facts:
    scalars = {f"layer_{depth}": scalars for depth, scalars in enumerate(model.scalars, 1)}
    return {
        "model": {
            **{name: getattr(model, name) for name in NETWORK_SETTINGS},
            **_sizes(model),
            "n_parameters": model.n_parameters,
            "epochs_refined": _epochs(model.history),
        },
        "scalars": scalars,
    }


def _text_classifier(model: ExplicitTextClassifier) -> Facts:
    classes = model.classes_.tolist()
    sizes = {"n_ngrams": model.n_ngrams, "n_classes": len(classes), "classes": classes[:SHOWN_CLASSES]}
    return {"model": {**model.get_params(), **sizes}, "folds": model.facts}


def _conv_net(model: ExplicitConvNet) -> Facts:
    chosen = {"normalize": model.normalize_, "epochs_refined": _epochs(model.history)}
    return {"model": {**model.get_params(), **_sizes(model), **chosen}, "scalars": {"powers": model.powers_.tolist()}}


def _sizes(model: SoftmaxLayer | ExplicitNetwork | ExplicitConvNet) -> Facts:
    """Numbers of features and classes, and the first classes."""
    classes = model.classes_.tolist()
    return {"n_features": rows.n_features(model), "n_classes": len(classes), "classes": classes[:SHOWN_CLASSES]}


def _epochs(history: list[dict[str, Any]] | None) -> int:
    return int(history[-1]["epoch"]) if history else 0

"""Smaller classifiers of texts: fewer n-grams, and weights of 8 bits."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from saffu.classifier.text_features import Known
from saffu.classifier.text_model import TextModel
from saffu.utils.arrays import Array, Float32

HEADER_BYTES = 1600  # of a file, beside what each n-gram and each label takes
LEVELS = 127  # of a weight of 8 bits, on either side of zero


def pruned(model: TextModel, target_size: int | None) -> TextModel:
    """A model whose file has at most so many bytes, or the same model."""
    if target_size is None:
        return model
    n_labels = model.classes.size
    # A label is in the header, JSON within JSON, and has a number and an offset.
    label_bytes = sum(len(json.dumps(json.dumps(label))) + 18 for label in model.classes.tolist())
    n = (target_size - HEADER_BYTES - label_bytes) // bytes_of_an_ngram(n_labels)
    if n < 1:
        least = HEADER_BYTES + label_bytes + bytes_of_an_ngram(n_labels)
        raise ValueError(f"target_size must be at least {least} for {n_labels} labels, got {target_size}")
    # A text is moved by the spread of an n-gram's weights times its value.
    spread = np.sqrt(((model.weights - model.weights.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))
    kept = np.sort(np.argsort(-spread * model.scale, kind="stable")[:n])
    scale = model.scale[kept].astype(np.float16).astype(np.float32)
    levels, steps = quantized(model.weights[kept])
    facts = {**model.facts, "ngrams_kept": [int(kept.size), int(model.scale.size)], "bits": 8}
    return replace(
        model,
        known=Known(model.known.hashes_by_column[kept]),
        scale=scale,
        weights=dequantized(levels, steps),
        facts=facts,
    )


def bytes_of_an_ngram(n_labels: int) -> int:
    """Of a file: its hash, its weight in the length, the step of its weights, and these."""
    return 8 + 2 + 2 + n_labels


def quantized(weights: Float32) -> tuple[Array, Array]:
    """Weights as multiples, int8, of a step for each n-gram, float16."""
    steps = (np.abs(weights).max(axis=1, initial=0.0) / LEVELS).astype(np.float16)
    steps = np.maximum(steps, np.float16(6e-8))
    levels = np.clip(np.rint(weights / steps.astype(np.float32)[:, None]), -LEVELS, LEVELS).astype(np.int8)
    return levels, steps


def dequantized(levels: Array, steps: Array) -> Float32:
    """Undo ``quantized``, but for rounding."""
    weights: Float32 = levels.astype(np.float32) * steps.astype(np.float32)[:, None]
    return weights

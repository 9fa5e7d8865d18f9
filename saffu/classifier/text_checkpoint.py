"""A classifier of texts as arrays and metadata of a file, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from saffu.classifier.labels import Classes, classes_from_file, classes_to_file
from saffu.classifier.text_calibration import Calibration
from saffu.classifier.text_counts import NO_BOUND, TextCounts, TextSample
from saffu.classifier.text_features import Known, Ngrams
from saffu.classifier.text_model import TextModel
from saffu.classifier.text_pruning import dequantized, quantized
from saffu.utils.arrays import Array
from saffu.utils.checkpoint import Damaged, parse

Parts = tuple[dict[str, Array], dict[str, Any]]


def to_parts(settings: dict[str, Any], model: TextModel, counts: TextCounts | None) -> Parts:
    """Arrays and JSON-able metadata from which ``from_parts`` makes the same; without counts, they are not kept."""
    classes, names = classes_to_file(model.classes)
    arrays = {
        "classes": classes,
        "hashes": model.known.hashes_by_column,
        "scale": model.scale,
        "offsets": model.calibration.offsets,
    }
    if model.facts.get("bits") == 8:
        arrays["levels"], arrays["steps"] = quantized(model.weights)
        arrays["scale"] = model.scale.astype(np.float16)
    else:
        arrays["weights"] = model.weights
    metadata = {
        "settings": settings,
        "ngrams": list(model.ngrams),
        "class_names": names,
        "temperature": model.calibration.temperature,
        "several": model.calibration.several,
        "facts": model.facts,
        "counted": counts is not None,
    }
    if counts is not None:
        more, metadata["counts"] = _counts_to_parts(counts)
        arrays |= {f"counts.{name}": array for name, array in more.items()}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata


def from_parts(
    arrays: dict[str, Array], metadata: dict[str, Any]
) -> tuple[TextModel, TextCounts | None, dict[str, Any]]:
    """Undo ``to_parts``; Damaged if a part is missing or does not fit the others."""
    settings, facts = metadata["settings"], metadata["facts"]
    if not isinstance(settings, dict) or not isinstance(facts, dict):
        raise Damaged("the settings of this ExplicitTextClassifier are damaged")
    longest, tokenizer, lowercase, bits = parse(tuple, metadata["ngrams"]) if len(metadata["ngrams"]) == 4 else (0,) * 4
    buckets = None if bits == 64 else parse(lambda: 2 ** int(bits))
    ngrams = parse(Ngrams.of, longest, tokenizer, lowercase, buckets)
    classes = parse(classes_from_file, arrays["classes"], metadata.get("class_names"))
    weights = dequantized(arrays["levels"], arrays["steps"]) if "levels" in arrays else arrays["weights"]
    scale = arrays["scale"].astype(np.float32)
    offsets, hashes = arrays["offsets"], arrays["hashes"]
    fits = weights.shape == (hashes.size, classes.size) and scale.shape == hashes.shape
    fits &= offsets.shape == classes.shape and offsets.dtype == np.float64 and hashes.dtype == np.uint64
    fits &= weights.dtype == np.float32 and hashes.ndim == 1
    if not fits or not all(np.isfinite(part).all() for part in (weights, scale, offsets)):
        raise Damaged("the arrays of this ExplicitTextClassifier do not fit together")
    temperature = parse(float, metadata["temperature"])
    calibration = Calibration(temperature, offsets, bool(metadata["several"]))
    model = TextModel(ngrams, classes, parse(Known, hashes), scale, weights, calibration, dict(facts))
    counts = None
    if metadata["counted"]:
        inner = {name.removeprefix("counts."): array for name, array in arrays.items() if name.startswith("counts.")}
        counts = _counts_from_parts(inner, metadata["counts"], classes)
    return model, counts, dict(settings)


def _counts_to_parts(counts: TextCounts) -> Parts:
    sample = counts.sample
    arrays = {"hashes": counts.hashes, "total": counts.total, "mass": counts.mass}
    arrays |= {"weights": sample.weights, "keys": sample.keys}
    for name, matrix in (("table", counts.table), ("features", sample.features), ("targets", sample.targets)):
        arrays[f"{name}.data"] = matrix.data
        arrays[f"{name}.indices"] = matrix.indices.astype(np.int32)
        arrays[f"{name}.indptr"] = matrix.indptr.astype(np.int64)
    bound = None if sample.bound == NO_BOUND else str(sample.bound)
    return arrays, {"several": counts.several, "n_texts": counts.n_texts, "bound": bound}


def _counts_from_parts(arrays: dict[str, Array], metadata: dict[str, Any], classes: Classes) -> TextCounts:
    try:
        hashes, total, mass, weights, keys = (arrays[name] for name in ("hashes", "total", "mass", "weights", "keys"))
        table = _matrix(arrays, "table", (classes.size, hashes.size), np.float64)
        features = _matrix(arrays, "features", (weights.size, hashes.size), np.float32)
        targets = _matrix(arrays, "targets", (weights.size, classes.size), np.float32)
        bound = NO_BOUND if metadata["bound"] is None else int(metadata["bound"])
        fits = total.shape == hashes.shape and mass.shape == classes.shape and keys.shape == weights.shape
        fits &= hashes.dtype == keys.dtype == np.uint64 and total.dtype == mass.dtype == weights.dtype == np.float64
        fits &= bool((hashes[1:] > hashes[:-1]).all() and (keys[1:] >= keys[:-1]).all() and 0 <= bound <= NO_BOUND)
        if not fits:
            raise ValueError("they do not fit together")
        sample = TextSample(features, targets, weights, keys, bound)
        several, n_texts = bool(metadata["several"]), float(metadata["n_texts"])
    except (KeyError, ValueError, TypeError) as error:
        raise Damaged(f"the counts of this ExplicitTextClassifier are damaged: {error}") from error
    return TextCounts(classes, several, hashes, table, total, mass, n_texts, sample)


def _matrix(arrays: dict[str, Array], name: str, shape: tuple[int, int], dtype: Any) -> csr_array:
    data, indices, indptr = (arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
    if indices.dtype != np.int32 or indptr.dtype != np.int64:
        raise ValueError(f"the places of {name} must be int32, and where rows begin int64")
    matrix = csr_array((data, indices, indptr), shape=shape)
    matrix.check_format(full_check=True)
    if data.dtype != dtype or not (data >= 0).all() or not np.isfinite(data).all():
        raise ValueError(f"{name} must be {np.dtype(dtype)} that are not negative")
    return matrix

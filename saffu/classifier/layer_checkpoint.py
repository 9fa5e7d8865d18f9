"""A softmax layer as the arrays and metadata of a file, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from saffu.classifier.labels import classes_from_file, classes_to_file
from saffu.classifier.layer_counts import LayerCounts, LayerSettings, Solution
from saffu.classifier.row_sample import RowSample, keys
from saffu.utils.arrays import Array, Matrix
from saffu.utils.checkpoint import Damaged

SCALARS = ("prior", "likelihood")

Parts = tuple[dict[str, Array], dict[str, Any]]


def to_parts(counts: LayerCounts) -> Parts:
    """Arrays and JSON-able metadata from which ``from_parts`` makes equal counts."""
    solution, sample = counts.solution(), counts.sample
    classes, names = classes_to_file(counts.classes)
    arrays: dict[str, Array] = {
        "counts": counts.F,
        "class_mass": counts.mass,
        "classes": classes,
        "weights": solution.weights.T,
        "bias": solution.bias,
        "sample.index": sample.index,
        "sample.key": sample.key,
        "sample.bound": sample.bound,
        "sample.mass": sample.mass,
        "sample.weights": sample.weights,
    }
    if sample.features is not None and sample.targets is not None:
        arrays["sample.targets"] = sample.targets
        if issparse(sample.features):
            for part in ("data", "indices", "indptr"):
                arrays[f"sample.{part}"] = getattr(sample.features, part)
        else:
            arrays["sample.features"] = sample.features
    metadata = {
        "priming": counts.settings.priming,
        "smoothing": counts.settings.smoothing,
        "soft": counts.soft,
        "scalars": dict(solution.scalars),
        "rows_seen": sample.n_seen,
        "class_names": names,
    }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata


def from_parts(arrays: dict[str, Array], metadata: dict[str, Any]) -> LayerCounts:
    """Undo ``to_parts``; Damaged if a part is missing or does not fit the others."""
    try:
        settings = LayerSettings.of(metadata["priming"], metadata["smoothing"])
        F, mass, weights, bias = (arrays[name] for name in ("counts", "class_mass", "weights", "bias"))
        classes = classes_from_file(arrays["classes"], metadata.get("class_names"))
        counts = LayerCounts(settings, classes, bool(metadata["soft"]), None)
        counts.F, counts.mass = F, mass
        counts.put(Solution(weights.T, bias, {name: float(metadata["scalars"][name]) for name in SCALARS}))
        counts.sample = _sample_from(arrays, metadata, F.shape)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"not the checkpoint of a SoftmaxLayer: {error}") from error
    n_classes = classes.size
    shapes_fit = F.ndim == 2 and F.shape == weights.shape and F.shape[0] == n_classes > 0
    if not shapes_fit or mass.shape != (n_classes,) or bias.shape != (n_classes,):
        raise Damaged("the arrays of this SoftmaxLayer do not fit together")
    if any(array.dtype != np.float64 for array in (F, mass, weights, bias)):
        raise Damaged("the arrays of this SoftmaxLayer must be float64")
    if counts.sample.targets is not None:
        _check_sample(counts.sample, n_classes, counts.soft)
    return counts


def _sample_from(arrays: dict[str, Array], metadata: dict[str, Any], shape: tuple[int, ...]) -> RowSample:
    features: Matrix = arrays.get("sample.features")
    index, n_seen = arrays["sample.index"], int(metadata["rows_seen"])
    if "sample.data" in arrays:
        parts = (arrays["sample.data"], arrays["sample.indices"], arrays["sample.indptr"])
        features = csr_array(parts, shape=(index.size, shape[-1]))
        features.check_format(full_check=True)
    targets = None if features is None else arrays["sample.targets"]
    if "sample.key" in arrays:
        key, bound, mass = (arrays[f"sample.{name}"] for name in ("key", "bound", "mass"))
    else:  # of a version that kept the rows whose number is a multiple of a power of two
        share = 1.0 / max(1, int(metadata["stride"]))
        key, bound, mass = keys(index) * share, np.full(shape[0], share), arrays["class_mass"].copy()
        n_seen = n_seen if int(metadata["stride"]) >= 1 else -1
    fits = n_seen >= 0 and key.shape == index.shape and bound.shape == mass.shape and bound.shape in ((1,), shape[:1])
    fits &= index.dtype == np.int64 and all(part.dtype == np.float64 for part in (key, bound, mass))
    fits &= bool((key >= 0).all() and (bound >= 0).all() and (mass >= 0).all() and np.isfinite(mass).all())
    if not fits or (features is not None and features.shape != (index.size, shape[-1])):
        raise ValueError("the sample of this SoftmaxLayer does not fit its counts")
    return RowSample(n_seen, bound, mass, index, key, features, targets, arrays["sample.weights"])


def _check_sample(sample: RowSample, n_classes: int, soft: bool) -> None:
    targets, n_rows = sample.targets, sample.index.size
    assert targets is not None
    fits = sample.weights.shape == (n_rows,)
    if soft:
        fits &= targets.shape == (n_rows, n_classes)
    else:
        fits &= targets.shape == (n_rows,) and targets.dtype == np.int32
        fits &= bool(targets.size == 0 or (targets.min() >= 0 and targets.max() < n_classes))
    if not fits:
        raise Damaged("the sample of this SoftmaxLayer does not fit its classes")

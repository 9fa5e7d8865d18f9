"""An explicit network as the arrays and metadata of a file, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from saffu.classifier.labels import classes_from_file, classes_to_file
from saffu.classifier.network_solution import NetworkSettings, Solution
from saffu.utils import validate
from saffu.utils.arrays import Array
from saffu.utils.checkpoint import Damaged, parse


def to_parts(solution: Solution) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and JSON-able metadata from which ``from_parts`` makes an equal solution."""
    classes, names = classes_to_file(solution.classes)
    arrays = {"classes": classes, "scalars": solution.scalars, "output.counts": solution.counts}
    for depth, (weights, bias) in enumerate(solution.layers):
        arrays[f"hidden{depth}.weights"], arrays[f"hidden{depth}.bias"] = weights, bias
    if solution.output is not None:
        arrays["output.weights"] = solution.output
    metadata = {"settings": vars(solution.settings), "corrections": solution.corrections, "class_names": names}
    return arrays, metadata


def from_parts(
    arrays: dict[str, Array], metadata: dict[str, Any], settings: NetworkSettings, refined: bool
) -> Solution:
    """Undo ``to_parts``; Damaged if a part is missing or does not fit the others."""
    depths = range(len(settings.hidden))
    solution = Solution(
        settings,
        parse(classes_from_file, arrays["classes"], metadata.get("class_names")),
        [(arrays[f"hidden{depth}.weights"], arrays[f"hidden{depth}.bias"]) for depth in depths],
        arrays["scalars"],
        parse(lambda: [validate.integer(number, "corrections", 0) for number in metadata["corrections"]]),
        arrays["output.counts"],
        arrays.get("output.weights"),
    )
    one_too_many = f"hidden{len(settings.hidden)}.weights" in arrays
    if one_too_many or refined != (solution.output is not None) or not _is_whole(solution):
        raise Damaged("the arrays of this ExplicitNetwork do not fit together")
    return solution


def _is_whole(solution: Solution) -> bool:
    """Whether all parts are of the shapes, types and ranges that solving gives."""
    n_classes, hidden = solution.classes.size, solution.settings.hidden
    first = solution.layers[0][0]
    widths = [first.shape[0] if first.ndim == 2 else 0, *hidden]
    layers = zip(solution.layers, widths[:-1], widths[1:], strict=True)
    shapes = all(W.shape == (below, above) and b.shape == (above,) for (W, b), below, above in layers)
    shapes &= solution.classes.shape == (n_classes,) and solution.scalars.shape == (len(hidden), 3)
    shapes &= solution.counts.shape == (n_classes, hidden[-1]) and len(solution.corrections) == len(hidden)
    shapes &= solution.output is None or solution.output.shape == (hidden[-1], n_classes)
    reals = [part for layer in solution.layers for part in layer]
    reals += [] if solution.output is None else [solution.output]
    types = first.dtype in (np.float32, np.float64) and all(part.dtype == first.dtype for part in reals)
    types &= solution.scalars.dtype == solution.counts.dtype == np.float64
    if not shapes or not types:
        return False
    finite = all(np.isfinite(part).all() for part in [*reals, solution.scalars, solution.counts])
    return bool(finite and n_classes >= 2 and (solution.counts >= 0).all())

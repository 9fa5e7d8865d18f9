"""Classifiers solved by counting as ONNX models, which other runtimes execute; needs the extra ``onnx``.

A graph has one input, ``X`` (rows, D), and the outputs that converters of scikit-learn give: ``label`` (rows,), the
most probable class of each row, and ``probabilities`` (rows, N), in the order of ``classes_``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

import saffu
from saffu import _core
from saffu.utils import checkpoint
from saffu.utils.arrays import Array

__all__ = ["export", "to_onnx"]

OPSET, IR_VERSION = 17, 8  # of 2022: old enough for every runtime in use, with all operators that are needed


class Step(NamedTuple):
    """One operator: what it reads, what it writes, and its attributes."""

    operator: str
    inputs: list[str]
    output: str
    attributes: dict[str, int]


def export(
    model: saffu.SoftmaxLayer | saffu.ExplicitNetwork, path: str | os.PathLike[str], *, dtype: DTypeLike = np.float32
) -> None:
    """Write a classifier to an ONNX file; see :func:`to_onnx`, also for the errors.

    An existing file is replaced only when this is whole.

    Examples
    --------
    >>> import saffu, tempfile
    >>> layer = saffu.SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0]], [0, 0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(layer, f"{folder}/layer.onnx")
    """
    made = to_onnx(model, dtype=dtype)
    with checkpoint.replacing(Path(path)) as temporary:
        Path(temporary).write_bytes(made.SerializeToString())


def to_onnx(model: saffu.SoftmaxLayer | saffu.ExplicitNetwork, *, dtype: DTypeLike = np.float32) -> Any:
    """A classifier as an ONNX model.

    Parameters
    ----------
    model : SoftmaxLayer or ExplicitNetwork
        Fitted.
    dtype : {float32, float64}
        Of the input, the weights and the probabilities. Features as large as counts of words in long texts have
        logits of hundreds, whose rounding in float32 is seen in the fifth digit of probabilities.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ImportError
        If onnx is not installed.
    TypeError, ValueError
        If it is no such model, has seen no data, or the dtype is another.

    Examples
    --------
    >>> import saffu
    >>> layer = saffu.SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0]], ["ham", "ham", "spam"])
    >>> [node.op_type for node in to_onnx(layer).graph.node]
    ['Gemm', 'Softmax', 'ArgMax', 'Gather']
    """
    try:
        from onnx import checker, helper, numpy_helper
    except ImportError as error:
        raise ImportError("onnx is not installed; pip install 'saffu[onnx]' installs it") from error
    real = np.dtype(dtype)
    if real not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {real}")
    constants, steps = _graph(model, real)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    of_reals, of_labels = helper.np_dtype_to_tensor_dtype(real), tensors[-1].data_type
    graph = helper.make_graph(
        [helper.make_node(step.operator, step.inputs, [step.output], **step.attributes) for step in steps],
        type(model).__name__,
        [helper.make_tensor_value_info("X", of_reals, ["rows", model.n_features_in_])],
        [
            helper.make_tensor_value_info("label", of_labels, ["rows"]),
            helper.make_tensor_value_info("probabilities", of_reals, ["rows", model.classes_.size]),
        ],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="saffu")
    made.ir_version, made.producer_version = IR_VERSION, saffu.__version__
    checker.check_model(made, full_check=True)
    return made


def _graph(model: Any, real: np.dtype[Any]) -> tuple[dict[str, Array], list[Step]]:
    """Constants by name, the labels of the classes last, and the operators in their order."""
    if isinstance(model, saffu.SoftmaxLayer):
        found = model._parameters(1.0, real)
        constants, steps = {"weights": found["weights"], "bias": found["bias"]}, _softmax("X", "", "probabilities")
    elif isinstance(model, saffu.ExplicitNetwork):
        constants, steps = _network(model, real)
    else:
        raise TypeError(f"model must be a SoftmaxLayer or an ExplicitNetwork, got {type(model).__name__}")
    labels = model.classes_
    constants["classes"] = labels.astype(object) if labels.dtype.kind == "U" else labels
    steps.append(Step("ArgMax", ["probabilities"], "number", {"axis": 1, "keepdims": 0}))
    steps.append(Step("Gather", ["classes", "number"], "label", {"axis": 0}))
    return constants, steps


def _softmax(below: str, prefix: str, output: str) -> list[Step]:
    """A softmax layer, whose weights and bias have a prefix to their names."""
    logits = f"{prefix}logits"
    return [
        Step("Gemm", [below, f"{prefix}weights", f"{prefix}bias"], logits, {}),
        Step("Softmax", [logits], output, {"axis": 1}),
    ]


def _network(model: saffu.ExplicitNetwork, real: np.dtype[Any]) -> tuple[dict[str, Array], list[Step]]:
    """Hidden layers, then the mixture of the distributions that the last units have over the classes."""
    constants: dict[str, Array] = {}
    steps: list[Step] = []
    below = "X"
    for depth, (weights, bias) in enumerate(zip(model.weights, model.bias, strict=True)):
        prefix, state = f"hidden{depth}.", f"hidden{depth}"
        constants |= {f"{prefix}weights": weights.astype(real), f"{prefix}bias": bias.astype(real)}
        steps += _softmax(below, prefix, state)
        below = state
    constants["components"] = _core.softmax(model.output, False, 1).astype(real)
    steps.append(Step("MatMul", [below, "components"], "probabilities", {}))
    return constants, steps

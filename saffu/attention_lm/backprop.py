"""SaffuLM under backpropagation: what the refiner asks of the model, and stages with frozen and moving embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from saffu.attention_lm import units
from saffu.attention_lm.contexts import SEGMENT
from saffu.attention_lm.loss import Embeddings
from saffu.attention_lm.scoring import fixed_embeddings
from saffu.attention_lm.units import EMBEDDINGS, Parameters
from saffu.training import LEARNING_RATE
from saffu.training import random_start as random_parameters
from saffu.training import refine as improve
from saffu.utils import validate
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread

if TYPE_CHECKING:
    from saffu.attention_lm.network_model import NetworkModel

Model = TypeVar("Model", bound="NetworkModel")

BATCH_TOKENS = 512
FASTER = 10  # times the learning rate of the output, whose logits need not go as far


def refined(model: Model, stream: TokenStream, epochs: int, options: Mapping[str, Any]) -> Model:
    """Refine a model, see :meth:`SaffuLM.refine`: with frozen embeddings, with moving ones, or one after the other.

    Parameters
    ----------
    model : NetworkModel
        It stays as it is.
    stream : TokenStream
        The text, checked.
    epochs : int
    options : mapping
        Those of :meth:`SaffuLM.refine`, its other arguments included.
    """
    others: dict[str, Any] = {"soften": 1.0, **options}
    freeze, thaw_after = others.pop("freeze_embeddings", True), others.pop("thaw_after", None)
    batch_tokens = validate.integer(others.pop("batch_tokens", BATCH_TOKENS), "batch_tokens", 1, validate.INT32_MAX)
    others.setdefault("batch_size", max(batch_tokens // SEGMENT, 1))
    epochs = validate.integer(epochs, "epochs", 0, validate.INT32_MAX)
    stages = [(epochs, bool(freeze))]
    if thaw_after is not None:
        thaw_after = validate.integer(thaw_after, "thaw_after", 0, validate.INT32_MAX)
        stages = [(min(thaw_after, epochs), True), (max(epochs - thaw_after, 0), False)]
        stages = [stage for stage in stages if stage[0]] or stages[:1]
    history: list[dict[str, Any]] = []
    with one_blas_thread():
        for n_epochs, frozen in stages:
            model = _stage(model, stream, frozen, thaw_after is not None, {**others, "epochs": n_epochs})
            history = _continued(history, model.history or [])
            if model.interrupted:
                break
    model.history = history
    return model


def _stage(model: Model, stream: TokenStream, frozen: bool, thawed: bool, options: dict[str, Any]) -> Model:
    start = model._copy()
    start._frozen = fixed_embeddings(start) if frozen else None
    rate = options.pop("learning_rate", LEARNING_RATE)
    options["learning_rate"] = rate if isinstance(rate, dict) else _rates(start, rate, slow=thawed)
    if thawed and not frozen and options.get("checkpoint") is not None:
        # That of the epochs before is another refinement's.
        options["checkpoint"] = f"{os.fspath(options['checkpoint'])}.thawed"
    better = improve(start, stream.ids, stream.starts, n_threads=model.n_threads, **options)
    better._frozen = None
    return better


def _rates(model: NetworkModel, rate: float, slow: bool) -> dict[str, float]:
    """The rate of the output; tenfold for units and embeddings, whose logits must go far to change a softmax."""
    still = ("output.", "embeddings.") if slow else ("output.",)
    return {name: rate * (1 if name.startswith(still) else FASTER) for name in _moving(model)}


def _moving(model: NetworkModel) -> list[str]:
    """Names of the parameters that a refinement may move."""
    return [name for name in model._fitted.parameters if model._frozen is None or name != EMBEDDINGS]


def parameters(model: NetworkModel, soften: float, dtype: DTypeLike) -> Parameters:
    """Copies of the parameters that may move, logits of hidden layers times ``soften``."""
    hidden = {f"{unit.name}.{part}" for unit in model._network.units for part in ("weights", "bias")}
    values = model._fitted.parameters
    return {name: (values[name] * (soften if name in hidden else 1.0)).astype(dtype) for name in _moving(model)}


def embeddings(model: NetworkModel, values: Parameters, n_threads: int) -> Embeddings:
    """The embeddings that go with some parameters: theirs, or those that stay as they are."""
    if EMBEDDINGS not in values:
        assert model._frozen is not None
        return model._frozen
    return Embeddings(units.embeddings(values, n_threads), None, True)


def with_parameters(model: Model, values: Parameters, history: list[dict[str, Any]]) -> Model:
    """A copy of a model with other values of some parameters."""
    other = model._copy()
    other._solution = model._fitted.with_parameters({n: np.array(value, np.float32) for n, value in values.items()})
    other.history = history
    return other


def random_start(model: Model, scale: str | float, seed: int) -> Model:
    """A model of the same architecture with random weights, the output bias excepted."""
    found, solution = random_parameters(model, scale=scale, seed=seed), model._fitted
    bias = np.zeros_like(solution.parameters["output.bias"])
    if model.residual is None:
        bias = np.log(solution.output.unigram).astype(np.float32)
        bias -= bias.mean()
    found._solution = found._fitted.with_parameters({"output.bias": bias})
    return found


def _continued(history: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of two refinements, one from where the other ended, as of one."""
    if not history:
        return more
    epoch, seconds = history[-1]["epoch"], history[-1]["seconds"]
    return history + [r | {"epoch": epoch + r["epoch"], "seconds": seconds + r["seconds"]} for r in more[1:]]

"""What refinement asks of a model and of its training rows."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from saffu.utils.arrays import Array, Float64

Parameters = dict[str, Array]
Record = dict[str, Any]


class Rows(Protocol):
    """Prepared training rows, such as :class:`saffu.classifier.examples.Examples`."""

    dtype: np.dtype[Any]
    n_threads: int
    sample_rows: int  # training rows whose loss is taken after every epoch
    check_all: bool  # whether the loss of all training rows is compared at the end, or that of the sample

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def take(self, rows: Any, dropout: float = 0.0, rng: np.random.Generator | None = None) -> Any:
        """A batch: the rows of these numbers (an array or a slice), with its targets; valid until the next call."""
        ...

    def checksum(self) -> int:
        """A number that changes with the data."""
        ...


class Refinable(Protocol):
    """What :func:`refine` and :func:`random_start` ask of a model.

    Parameters are a dict of arrays by names such as ``"hidden0.weights"``: a layer, a dot and what it is of that
    layer, or a bare name where there is one layer only. A name that ends in ``bias`` holds biases. Of parameters that
    can be shifted without effect (the logits of a softmax by a constant) a model gives the centred ones, which float32
    holds best.
    """

    history: list[Record] | None  # None as long as the weights follow from counts
    interrupted: bool  # False for the class; that of what a refinement returned, see there

    def _parameters(self, soften: float, dtype: DTypeLike) -> Parameters:
        """Copies of all parameters, the logits of hidden layers (weights and bias) multiplied by ``soften``."""
        ...

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Rows:
        """Check rows and labels as the model's own methods do."""
        ...

    def _loss_and_gradients(self, parameters: Parameters, batch: Any, gradients: Parameters, n_threads: int) -> float:
        """Write the gradients of a batch's mean loss into the given arrays; return that loss, in nats."""
        ...

    def _losses(self, parameters: Parameters, batch: Any, n_threads: int) -> Float64:
        """Loss of each row of a batch, in nats."""
        ...

    def _with_parameters(self, parameters: Parameters, history: list[Record]) -> Self:
        """Another model of the same architecture with copies of these parameters."""
        ...


Model = TypeVar("Model", bound=Refinable)

"""Refinement: minibatch Adam from where counting ended, and random starts to compare it with."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu import _core
from saffu.utils import checkpoint as files
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64, Int64, checksum
from saffu.utils.progress import progress_bar
from saffu.utils.threads import resolve_threads

LEARNING_RATE = 3e-3
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
BLOCK_ROWS = 2048  # rows in one evaluation
KIND = "refinement"

Parameters = dict[str, Array]
Record = dict[str, Any]


# ---- what a model does -----------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Epoch:
    """What a callback sees after an epoch.

    Attributes
    ----------
    epoch : int
        Epochs done, from 1.
    step : int
        Batches done.
    seconds : float
        Time spent on training and evaluation so far, callbacks left out.
    training_loss : float
        Mean loss of the sample of training rows, in nats.
    validation_loss : float or None
        Mean loss of the validation rows, in nats.
    learning_rate : float
        The largest step size of any parameter in the last batch.
    model : callable
        ``model()`` is a model of the parameters as they are now.
    """

    epoch: int
    step: int
    seconds: float
    training_loss: float
    validation_loss: float | None
    learning_rate: float
    model: Callable[[], Any]


# ---- refine ----------------------------------------------------------------------------------------------------------


def refine(
    model: Model,
    X: Any,
    y: ArrayLike,
    *,
    epochs: int = 8,
    batch_size: int = 128,
    learning_rate: float | Mapping[str, float] = LEARNING_RATE,
    freeze: str | Iterable[str] = (),
    validation: float | tuple[Any, ArrayLike] | None = None,
    patience: int | None = None,
    soften: float = 0.7,
    dropout: float = 0.0,
    callback: Callable[[Epoch], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = False,
    n_threads: int | None = None,
) -> Model:
    """Improve a model by backpropagation from where it stands: minibatch Adam, its step size decaying to zero.

    Parameters
    ----------
    model : SoftmaxLayer or another model that can be refined
        Where to start; it stays as it is.
    X : array_like or sparse matrix, shape (M, D)
        Features, as the model takes them. They may be the rows that it was counted from, or others. float32 is the
        faster choice.
    y : array_like of int, shape (M,)
        Labels that the model knows.
    epochs : int
        Passes over the rows.
    batch_size : int
        Rows in a step.
    learning_rate : float or mapping of str to float
        Largest step size of Adam; a mapping gives it by layer (``"hidden0"``) or parameter (``"hidden0.weights"``,
        which goes first), and what it does not name takes 0.003. It decays by a cosine over all steps, to zero.
    freeze : str or iterable of str
        Layers or parameters that do not move.
    validation : float or (X, y), optional
        A share in (0, 1) of the rows, held out by the seed, or other rows.
    patience : int, optional
        Stop after so many epochs without a new best one.
    soften : float
        The logits of hidden layers are multiplied by it at the start: those of a primed softmax are nearly
        saturated, and pass little gradient. Only weights that follow from counts are softened; a random start and
        a model refined before begin as they are.
    dropout : float
        Probability, in [0, 1), that an input feature is zeroed in training; the others are scaled up.
    callback : callable, optional
        Called with an :class:`Epoch` after every epoch; returning True ends the refinement.
    checkpoint : str or path, optional
        After every epoch the whole state is written here. Calling again with the same arguments goes on from
        there, and ends with the same bits as one uninterrupted call.
    seed : int
        Of the order of rows, the held-out share and the dropout.
    progress : bool
        Show progress on a terminal.
    n_threads : int, optional
        By default every available CPU. The result does not depend on it. Dense products use the threads of BLAS.

    Returns
    -------
    model
        A refined model of the same class. Its ``history`` lists a record for the given model (epoch 0) and for each
        epoch: ``epoch``, ``seconds``, ``training_loss`` (on a sample of at most 10,000 rows) and ``validation_loss``.
        Its attribute ``interrupted`` tells whether Ctrl-C ended it before its time; the best epoch so far is returned
        then. (It is False for every other model, and not saved.)

    Raises
    ------
    ValueError, TypeError
        If the rows do not fit the model, a label or a layer is unknown, an argument is out of its range, or the
        checkpoint was written by a call with other arguments.

    Warns
    -----
    RuntimeWarning
        If Ctrl-C ended it (the best model so far is returned), or if the loss became infinite or NaN.

    Notes
    -----
    The best epoch is returned: by validation loss, else by the loss of the sample. The given model takes part. On
    all training rows the loss of the result is never above that of the given model: that is checked at the end, and
    if need be the given parameters are returned.

    Kernel ``saffu_adam``.

    Examples
    --------
    >>> X, y = [[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], [7, 7, 9, 9]
    >>> refined = refine(SoftmaxLayer().fit(X, y), X, y, epochs=2)
    >>> [record["epoch"] for record in refined.history]
    [0, 1, 2]
    """
    plan = Plan(
        epochs=validate.integer(epochs, "epochs", 0, validate.INT32_MAX),
        batch_size=validate.integer(batch_size, "batch_size", 1, validate.INT32_MAX),
        patience=None if patience is None else validate.integer(patience, "patience", 1, validate.INT32_MAX),
        soften=validate.positive(soften, "soften"),
        dropout=_share(dropout, "dropout", or_zero=True),
        seed=validate.integer(seed, "seed", 0),
    )
    threads = resolve_threads(n_threads)
    data = _Data(model, X, y, validation, plan.seed, threads)
    run = _Run(model, data, plan, learning_rate, freeze, checkpoint)
    try:
        # What diverges is told by its loss after the epoch, once.
        with (
            progress_bar(plan.epochs * run.steps_per_epoch, "refine", progress) as bar,
            np.errstate(over="ignore", invalid="ignore"),
        ):
            run.train(callback, bar.update)
        return run.result()
    except KeyboardInterrupt:
        best = run.result()
    best.interrupted = True
    message = f"interrupted after epoch {len(run.history) - 1} of {plan.epochs}: the best model so far is returned"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return best


@dataclass(frozen=True)
class Plan:
    """The checked numbers of a refinement."""

    epochs: int
    batch_size: int
    patience: int | None
    soften: float
    dropout: float
    seed: int


class _Data:
    """Training and validation rows of a model."""

    def __init__(self, model: Refinable, X: Any, y: Any, validation: Any, seed: int, n_threads: int):
        self.rows = model._prepare(X, y, n_threads)
        n_rows = len(self.rows)
        rng = np.random.default_rng([seed, 0])
        if n_rows == 0:
            raise ValueError("X must have at least one row, got none")
        self.training: Int64 = np.arange(n_rows)
        self.held_out: Int64 | None = None
        self.other: Rows | None = None
        if isinstance(validation, (tuple, list)):
            if len(validation) != 2:
                raise ValueError(f"validation must be a share or a pair (X, y), got {len(validation)} things")
            self.other = model._prepare(validation[0], validation[1], n_threads)
            if len(self.other) == 0:
                raise ValueError("validation must have at least one row, got none")
        elif validation is not None:
            share = _share(validation, "validation")
            n_held_out = max(1, round(share * n_rows))
            if n_held_out >= n_rows:
                raise ValueError(f"validation={validation} of {n_rows} rows leaves none to train on")
            order = rng.permutation(n_rows)
            self.held_out, self.training = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
        # By chance and not evenly spaced: data sets often alternate between their sources.
        n_sample = min(self.rows.sample_rows, self.training.size)
        self.sample = np.sort(rng.choice(self.training, n_sample, replace=False))

    def training_loss(self, model: Refinable, parameters: Parameters, whole: bool) -> float:
        """Mean loss of all training rows, or of the sample."""
        return _mean_loss(model, parameters, self.rows, self.training if whole else self.sample)

    def validation_loss(self, model: Refinable, parameters: Parameters) -> float | None:
        """Mean loss of the validation rows, if there are any."""
        if self.other is not None:
            return _mean_loss(model, parameters, self.other, np.arange(len(self.other)))
        return None if self.held_out is None else _mean_loss(model, parameters, self.rows, self.held_out)

    def checksum(self) -> list[int]:
        """Tells these rows from others."""
        parts = [] if self.other is None else [self.other.checksum()]
        return [self.rows.checksum(), *parts, self.training.size]


def _mean_loss(model: Refinable, parameters: Parameters, rows: Rows, numbers: Int64) -> float:
    """Mean loss of ascending row numbers, block by block; a view where they are all rows."""
    everything = numbers.size == len(rows)
    total = 0.0
    for start in range(0, numbers.size, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        batch = rows.take(block if everything else numbers[block])
        total += float(model._losses(parameters, batch, rows.n_threads).sum())
    return total / numbers.size


class _Run:
    """The state of one refinement: parameters, moments, what was best, and how it went."""

    def __init__(
        self, model: Refinable, data: _Data, plan: Plan, learning_rate: Any, freeze: Any, path: files.Path | None
    ):
        self.model, self.data, self.plan, self.path = model, data, plan, path
        self.parameters = self._start(plan.soften if model.history is None else 1.0)
        self.rates = _rates(learning_rate, freeze, list(self.parameters))
        self.first = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.gradients = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.best: tuple[float, Parameters] | None = None
        self.best_epoch = 0
        self.epoch, self.seconds = 0, 0.0
        self.history: list[Record] = []
        self.steps_per_epoch = -(-data.training.size // plan.batch_size)
        self.signature: Record = {}
        if path is not None:
            files.check_writable(path)
            self.signature = self._signature()
            if os.path.exists(path):
                self._resume(path)
        if not self.history:
            self._record(self._start(1.0))
            if not self._is_finite():
                raise ValueError(
                    "the loss of the given model on these rows is not finite, so that nothing can improve it"
                )

    def _start(self, soften: float) -> Parameters:
        """Own copies of the given model's parameters, in C order: a flat view of each is the array itself."""
        parameters = self.model._parameters(soften, self.data.rows.dtype)
        return {name: np.array(value, order="C") for name, value in parameters.items()}

    # ---- training ----

    def train(self, callback: Callable[[Epoch], Any] | None, tick: Callable[[int], Any]) -> None:
        """Run the epochs that are left."""
        tick(self.epoch * self.steps_per_epoch)
        while self.epoch < self.plan.epochs and not self._out_of_patience():
            began = time.perf_counter()
            for step, batch in self._batches():
                self._step(step, batch)
                tick(1)
            self.epoch += 1
            self.seconds += time.perf_counter() - began
            self._record(self.parameters)
            if not self._is_finite():  # nothing to go on from: a checkpoint keeps the epoch before
                message = f"the loss is not finite after epoch {self.epoch}: try a lower learning_rate"
                warnings.warn(message, RuntimeWarning, stacklevel=3)
                return
            if self.path is not None:
                self._write(self.path)
            if callback is not None and callback(self._state()) is True:
                return

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """Number of the step, from 1, and rows, in an order that depends on seed and epoch alone."""
        rng = np.random.default_rng([self.plan.seed, 1 + self.epoch])
        order = rng.permutation(self.data.training)
        for i in range(self.steps_per_epoch):
            rows = order[i * self.plan.batch_size : (i + 1) * self.plan.batch_size]
            step = self.epoch * self.steps_per_epoch + i + 1
            yield step, self.data.rows.take(rows, self.plan.dropout, rng)

    def _step(self, step: int, batch: Any) -> None:
        threads = self.data.rows.n_threads
        self.model._loss_and_gradients(self.parameters, batch, self.gradients, threads)
        for name, rate in self.rates.items():
            _core.adam(
                self.gradients[name].reshape(-1),
                self.parameters[name].reshape(-1),
                self.first[name].reshape(-1),
                self.second[name].reshape(-1),
                rate * self._decay(step),
                BETA1,
                BETA2,
                EPSILON,
                step,
                threads,
            )

    def _decay(self, step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * (step - 1) / (self.plan.epochs * self.steps_per_epoch)))

    def _record(self, parameters: Parameters) -> None:
        """Evaluate, append to the history and keep the parameters if they are the best of an epoch."""
        began = time.perf_counter()
        training = self.data.training_loss(self.model, parameters, whole=False)
        validation = self.data.validation_loss(self.model, parameters)
        self.seconds += (time.perf_counter() - began) * (self.epoch > 0)
        record = {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "training_loss": training,
            "validation_loss": validation,
        }
        self.history.append(record)
        criterion = _criterion(record)
        if self.epoch > 0 and (criterion < self.best[0] if self.best else self._is_finite()):
            copies = {name: value.copy() for name, value in parameters.items()}
            self.best, self.best_epoch = (criterion, copies), self.epoch

    def _is_finite(self) -> bool:
        last = self.history[-1]
        return math.isfinite(last["training_loss"]) and math.isfinite(last["validation_loss"] or 0.0)

    def _out_of_patience(self) -> bool:
        return self.plan.patience is not None and self.epoch - self.best_epoch >= self.plan.patience

    def _state(self) -> Epoch:
        last = self.history[-1]
        step = self.epoch * self.steps_per_epoch
        rate = max(self.rates.values(), default=0.0) * self._decay(step)
        history = [dict(record) for record in self.history]

        def model() -> Any:
            return self.model._with_parameters(self.parameters, history)

        return Epoch(self.epoch, step, self.seconds, last["training_loss"], last["validation_loss"], rate, model)

    # ---- result ----

    def result(self) -> Any:
        """The best model, unless the given one has the lower loss."""
        if self.best is not None and self._is_better(*self.best):
            return self.model._with_parameters(self.best[1], self.history)
        return self.model._with_parameters(self.model._parameters(1.0, np.float64), self.history)

    def _is_better(self, criterion: float, parameters: Parameters) -> bool:
        if not criterion <= _criterion(self.history[0]):
            return False
        if self.data.sample.size == self.data.training.size or not self.data.rows.check_all:
            refined, given = (self.history[i]["training_loss"] for i in (self.best_epoch, 0))
        else:
            refined = self.data.training_loss(self.model, parameters, whole=True)
            given = self.data.training_loss(self.model, self._start(1.0), whole=True)
        return refined <= given

    # ---- checkpoint ----

    def _signature(self) -> Record:
        """Everything that the course of a refinement depends on, as JSON gives it back."""
        start = checksum([*self.parameters.values(), *self._start(1.0).values()], " ".join(self.parameters))
        signature = {
            **vars(self.plan),
            "learning_rate and freeze": self.rates,
            "X, y and validation": self.data.checksum(),
            "model": [type(self.model).__name__, start],
        }
        return json.loads(json.dumps(signature))

    def _write(self, path: files.Path) -> None:
        groups = {"parameter": self.parameters, "first": self.first, "second": self.second}
        if self.best is not None:
            groups["best"] = self.best[1]
        arrays = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
        metadata = {
            "signature": self.signature,
            "history": self.history,
            "best": None if self.best is None else self.best[0],
            "best_epoch": self.best_epoch,
        }
        files.write(path, KIND, arrays, metadata)

    def _resume(self, path: files.Path) -> None:
        kind, arrays, metadata = files.read(path)
        if kind != KIND:
            raise ValueError(f"checkpoint {os.fspath(path)!r} is a {kind} model, not the state of a refinement")
        theirs = metadata["signature"]
        other = sorted(key for key in self.signature if theirs.get(key) != self.signature[key])
        if other:
            raise ValueError(
                f"checkpoint {os.fspath(path)!r} was written with other arguments ({', '.join(other)}): "
                "remove it or name another file"
            )
        for group, values in (("parameter", self.parameters), ("first", self.first), ("second", self.second)):
            for name in values:
                values[name] = arrays[f"{group}.{name}"]
        if metadata["best"] is not None:
            self.best = float(metadata["best"]), {name: arrays[f"best.{name}"] for name in self.parameters}
        self.best_epoch = int(metadata["best_epoch"])
        self.history = [dict(record) for record in metadata["history"]]
        self.epoch, self.seconds = self.history[-1]["epoch"], self.history[-1]["seconds"]


def _criterion(record: Record) -> float:
    validation = record["validation_loss"]
    return record["training_loss"] if validation is None else validation


# ---- arguments -------------------------------------------------------------------------------------------------------


def _share(value: Any, name: str, or_zero: bool = False) -> float:
    number = validate.positive(value, name, or_zero)
    if number >= 1:
        raise ValueError(f"{name} must be below 1, got {value}")
    return number


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _check_known(names: Iterable[str], what: str, known: list[str]) -> None:
    allowed = list(dict.fromkeys(part for name in known for part in (_layer(name), name) if part))
    for name in names:
        if name not in allowed:
            raise ValueError(f"{what} must name layers or parameters out of {', '.join(allowed)}; got {name!r}")


def _rates(learning_rate: Any, freeze: str | Iterable[str], names: list[str]) -> dict[str, float]:
    """Step size of every parameter that moves."""
    frozen = {freeze} if isinstance(freeze, str) else set(freeze)
    _check_known(frozen, "freeze", names)
    moving = [name for name in names if name not in frozen and _layer(name) not in frozen]
    if not isinstance(learning_rate, Mapping):
        rate = validate.positive(learning_rate, "learning_rate", or_zero=True)
        return dict.fromkeys(moving, rate)
    _check_known(learning_rate, "learning_rate", names)
    rates = {key: validate.positive(v, f"learning_rate[{key!r}]", or_zero=True) for key, v in learning_rate.items()}
    return {name: rates.get(name, rates.get(_layer(name), LEARNING_RATE)) for name in moving}


# ---- random start ----------------------------------------------------------------------------------------------------


def random_start(model: Model, scale: str | float = "glorot", seed: int = 0) -> Model:
    """Make a model of the same architecture with random weights: the cold start to compare a counted one with.

    Parameters
    ----------
    model : SoftmaxLayer or another model that can be refined
        A fitted model; it stays as it is.
    scale : {"glorot", "he"} or float
        ``"glorot"``: uniform within ``sqrt(6 / (inputs + outputs))`` of zero; ``"he"``: normal of standard deviation
        ``sqrt(2 / inputs)``; a number: normal of that standard deviation. Biases are zero and gains one.
    seed : int
        Where chance starts.

    Returns
    -------
    model
        Of the same class, with an empty ``history``.

    Raises
    ------
    ValueError, TypeError
        If the scale is neither a known name nor a number that is not negative, or the model is not fitted.

    Notes
    -----
    Glorot and Bengio 2010, equation 16; He et al. (arXiv 1502.01852), equation 10.
    """
    if isinstance(scale, str):
        validate.choice(scale, "scale", ("glorot", "he"))
    else:
        scale = validate.positive(scale, "scale", or_zero=True)
    rng = np.random.default_rng(validate.integer(seed, "seed", 0))
    parameters = {
        name: _fixed(name, value) if name.endswith(("bias", "gain")) else _random(value.shape, scale, rng)
        for name, value in model._parameters(1.0, np.float64).items()
    }
    return model._with_parameters(parameters, [])


def _fixed(name: str, value: Array) -> Array:
    return np.zeros_like(value) if name.endswith("bias") else np.ones_like(value)


def _random(shape: tuple[int, ...], scale: str | float, rng: np.random.Generator) -> Float64:
    inputs = shape[max(len(shape) - 2, 0)]
    if scale == "glorot":
        limit = math.sqrt(6 / (inputs + shape[-1]))
        return rng.uniform(-limit, limit, shape)
    deviation = math.sqrt(2 / inputs) if scale == "he" else float(scale)
    return rng.normal(0.0, deviation, shape) if deviation > 0 else np.zeros(shape)

"""One refinement under way: parameters, moments of Adam, the best epoch, and the state on the disk."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from saffu import _core
from saffu.training.losses import TrainingData
from saffu.training.options import Options
from saffu.training.protocols import Model, Parameters, Record
from saffu.utils import checkpoint as files
from saffu.utils.arrays import checksum

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam
KIND = "refinement"


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


class Run(Generic[Model]):
    """The state of one refinement: parameters, moments of Adam, the best epoch, and the history.

    Parameters
    ----------
    model : Refinable
        Where to start; it stays as it is.
    data : TrainingData
    options : Options
        With a ``checkpoint`` that is there, the run goes on from it.

    Raises
    ------
    ValueError
        If the loss of the given model is not finite, or the checkpoint is of a run with other arguments.
    """

    def __init__(self, model: Model, data: TrainingData, options: Options) -> None:
        self.model, self.data, self.options, self.path = model, data, options, options.checkpoint
        self.parameters = self._start(options.soften if model.history is None else 1.0)
        self.rates = options.step_sizes(list(self.parameters))
        self.first = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.gradients = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.best: tuple[float, Parameters] | None = None
        self.best_epoch = 0
        self.epoch, self.seconds = 0, 0.0
        self.history: list[Record] = []
        self.steps_per_epoch = -(-data.training.size // options.batch_size)
        self.signature: Record = {}
        if self.path is not None:
            files.check_writable(self.path)
            self.signature = self._signature()
            if os.path.exists(self.path):
                self._resume(self.path)
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
        """Run the epochs that are left; ``tick(n)`` counts steps."""
        tick(self.epoch * self.steps_per_epoch)
        while self.epoch < self.options.epochs and not self._out_of_patience():
            began = time.perf_counter()
            for step, batch in self._batches():
                self._step(step, batch)
                tick(1)
            self.epoch += 1
            self.seconds += time.perf_counter() - began
            self._record(self.parameters)
            if not self._is_finite():  # A checkpoint keeps the epoch before, from which one can go on.
                message = f"the loss is not finite after epoch {self.epoch}: try a lower learning_rate"
                warnings.warn(message, RuntimeWarning, stacklevel=3)
                return
            if self.path is not None:
                self._write(self.path)
            if callback is not None and callback(self._state()) is True:
                return

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """Number of the step, from 1, and rows, in an order that depends on seed and epoch alone."""
        rng = np.random.default_rng([self.options.seed, 1 + self.epoch])
        order = rng.permutation(self.data.training)
        for i in range(self.steps_per_epoch):
            rows = order[i * self.options.batch_size : (i + 1) * self.options.batch_size]
            step = self.epoch * self.steps_per_epoch + i + 1
            yield step, self.data.rows.take(rows, self.options.dropout, rng)

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
        return 0.5 * (1 + math.cos(math.pi * (step - 1) / (self.options.epochs * self.steps_per_epoch)))

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
        return self.options.patience is not None and self.epoch - self.best_epoch >= self.options.patience

    def _state(self) -> Epoch:
        last = self.history[-1]
        step = self.epoch * self.steps_per_epoch
        rate = max(self.rates.values(), default=0.0) * self._decay(step)
        history = [dict(record) for record in self.history]

        def model() -> Any:
            return self.model._with_parameters(self.parameters, history)

        return Epoch(self.epoch, step, self.seconds, last["training_loss"], last["validation_loss"], rate, model)

    # ---- result ----

    def result(self) -> Model:
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
        return bool(refined <= given)

    # ---- checkpoint ----

    def _signature(self) -> Record:
        """Everything that the course of a refinement depends on, as JSON gives it back."""
        start = checksum([*self.parameters.values(), *self._start(1.0).values()], " ".join(self.parameters))
        signature = {
            **self.options.numbers,
            "learning_rate and freeze": self.rates,
            "X, y and validation": self.data.checksum(),
            "model": [type(self.model).__name__, start],
        }
        as_read: Record = json.loads(json.dumps(signature))
        return as_read

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
        found = metadata["signature"]
        other = sorted(key for key in self.signature if found.get(key) != self.signature[key])
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
    """The loss that the best epoch is chosen by."""
    validation, training = record["validation_loss"], record["training_loss"]
    return float(training if validation is None else validation)

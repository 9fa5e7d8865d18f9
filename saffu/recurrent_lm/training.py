"""Training by truncated backpropagation: Adam without momentum, whose rate falls linearly to zero.

Streams of text are read side by side; the state is carried from segment to segment, the gradient ends at its segment.
Each epoch cuts the text at another offset. The gradient is clipped to a norm of 1. With a number of epochs the rate
falls with the steps, and the result depends on the seed alone; with a budget it falls with the clock.

Truncated backpropagation: Williams and Peng (1990). Adam with beta1 = 0: Kingma and Ba (arXiv 1412.6980).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from saffu import _core
from saffu.recurrent_lm import network, scoring
from saffu.recurrent_lm.network import TOKENS, Arrays
from saffu.recurrent_lm.output_layer import OutputLayer
from saffu.recurrent_lm.settings import STEPS, streams_of
from saffu.recurrent_lm.streams import Step, TrainingStreams
from saffu.utils.progress import Bar, progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers, one_blas_thread

LEARNING_RATE = 3e-3
BETA2, EPSILON = 0.999, 1e-8
MOST_NORM = 1.0  # of the gradient
SQUARED = 1 << 18  # entries whose squares are added at once
SCORING_COST = 0.4  # of a token, beside that of training on it


class Plan(NamedTuple):
    """How long to train, and how.

    Attributes
    ----------
    epochs : int or None
        Passes over the text; None for a budget.
    deadline : float
        With a budget, when it ends, by ``time.perf_counter``; the rate falls from ``began`` to it.
    began : float
    dropout : float
    learning_rate : float
    seed : int
    """

    epochs: int | None
    began: float
    deadline: float
    dropout: float
    learning_rate: float
    seed: int


class Trained(NamedTuple):
    """Arrays, the records of the epochs, and whether Ctrl-C ended the training."""

    arrays: Arrays
    history: list[dict[str, Any]]
    interrupted: bool


class Training:
    """One training under way.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Where to start; changed in place.
    stream : TokenStream
        The text, at least one token.
    validation : TokenStream or None
        Text whose loss is taken after every epoch; the best epoch is kept.
    plan : Plan
    workers : Workers
    """

    def __init__(
        self, arrays: Arrays, stream: TokenStream, validation: TokenStream | None, plan: Plan, workers: Workers
    ) -> None:
        self.arrays, self.validation, self.plan, self.workers = arrays, validation, plan, workers
        vocab_size = len(arrays[TOKENS]) - 1
        self.streams = TrainingStreams(stream, vocab_size, streams_of(stream.ids.size), STEPS)
        self.gradients = {name: np.zeros_like(value) for name, value in arrays.items()}
        self.second = {name: np.zeros_like(value) for name, value in arrays.items()}
        self.output = OutputLayer(workers)
        self.step, self.n_tokens = 0, 0  # made, and trained on
        self.history: list[dict[str, Any]] = []
        self.best: tuple[float, Arrays] | None = None
        self.reserved = 0.0  # seconds that the last look at the validation text will take

    def run(self, progress: bool | None) -> Trained:
        """Train until the plan is fulfilled or Ctrl-C comes."""
        interrupted = False
        total = None if self.plan.epochs is None else self.plan.epochs * self.streams.n_segments
        with progress_bar(total, "train", progress) as bar, one_blas_thread():
            try:
                for epoch in self._epochs():
                    self._epoch(epoch, bar)
            except KeyboardInterrupt:
                interrupted = True
        if self.best is not None:
            return Trained(self.best[1], self.history, interrupted)
        return Trained(self.arrays, self.history, interrupted)

    # ---- epochs and steps --------------------------------------------------------------------------------------------

    def _epochs(self) -> Iterator[int]:
        epoch = 0
        while self._share_left() > 0:
            epoch += 1
            yield epoch

    def _share_left(self) -> float:
        """What the learning rate is multiplied by: the share of steps, or of the time, that is left."""
        plan = self.plan
        if plan.epochs is not None:
            n_steps = plan.epochs * self.streams.n_segments
            return 1 - self.step / n_steps if n_steps else 0.0
        last = plan.deadline - self.reserved
        return (last - time.perf_counter()) / max(last - plan.began, 1e-9)

    def _epoch(self, epoch: int, bar: Bar) -> None:
        """One pass over the text, or as much of it as there is time for, and a look at the validation text."""
        rng = np.random.default_rng([self.plan.seed, 3, epoch])
        state = network.zero_state(self.arrays, self.streams.n_streams)
        total, n_tokens, began = 0.0, 0, time.perf_counter()
        for step in self.streams.epoch(rng):
            share = self._share_left()
            if share <= 0:
                break
            loss, state = self._train(step, state, self.plan.learning_rate * share, rng)
            total += loss * step.targets.size
            n_tokens += step.targets.size
            self.n_tokens += step.targets.size
            bar.update()
            if self.validation is not None:
                cost = (time.perf_counter() - began) / n_tokens
                self.reserved = SCORING_COST * cost * self.validation.ids.size
        if n_tokens:
            self._record(epoch, total / n_tokens, bar)

    def _train(
        self, step: Step, state: network.State, rate: float, rng: np.random.Generator
    ) -> tuple[float, network.State]:
        """One step; its mean loss, and the state behind it."""
        arrays, gradients = self.arrays, self.gradients
        found = network.forward(self.workers, arrays, step.segment, state, self.plan.dropout, rng)
        H = found.outputs.reshape(-1, found.outputs.shape[-1])
        loss, d_outputs = self.output.loss_and_gradients(arrays[TOKENS], H, step.targets, gradients[TOKENS])
        network.backward(self.workers, arrays, step.segment, found, d_outputs, gradients)
        self._descend(rate)
        return loss, found.state

    def _descend(self, rate: float) -> None:
        """A step of Adam along the clipped gradient."""
        self.step += 1
        scale = min(MOST_NORM / max(self._norm(), 1e-30), 1.0)
        for name, gradient in self.gradients.items():
            _core.adam_without_momentum(
                gradient.reshape(-1),
                self.arrays[name].reshape(-1),
                self.second[name].reshape(-1),
                scale,
                rate,
                BETA2,
                EPSILON,
                self.step,
                self.workers.n_threads,
            )

    def _norm(self) -> float:
        """Euclidean norm of the gradient."""
        pieces = [
            flat[begin : begin + SQUARED]
            for flat in (gradient.reshape(-1) for gradient in self.gradients.values())
            for begin in range(0, flat.size, SQUARED)
        ]
        return float(np.sqrt(sum(self.workers.map(lambda piece: float(piece @ piece), pieces))))

    # ---- records -----------------------------------------------------------------------------------------------------

    def _record(self, epoch: int, training_loss: float, bar: Bar) -> None:
        """Append to the history, and keep the arrays if they are the best on validation text."""
        record: dict[str, Any] = {"epoch": epoch, "seconds": time.perf_counter() - self.plan.began}
        record |= {"tokens": self.n_tokens, "training_loss": training_loss, "validation_loss": None}
        if self.validation is not None:
            loss = -float(scoring.log_prob(self.workers, self.arrays, self.validation, False).mean())
            record["validation_loss"] = loss
            record["seconds"] = time.perf_counter() - self.plan.began
            with np.errstate(over="ignore"):
                bar.set_postfix_str(f"perplexity {np.exp(loss):.1f}", refresh=False)
            if self.best is None or loss < self.best[0]:
                self.best = loss, {name: value.copy() for name, value in self.arrays.items()}
        self.history.append(record)

"""Losses of a model on training and validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from saffu.training.options import share
from saffu.training.protocols import Parameters, Refinable, Rows
from saffu.utils.arrays import Int64

BLOCK_ROWS = 2048  # rows in one evaluation


class TrainingData:
    """Training and validation rows of a model.

    Parameters
    ----------
    model : Refinable
    X, y
        Rows and labels, as the model takes them.
    validation : float, (X, y) or None
        A share of the rows that is held out, or other rows.
    seed : int
        Of the share, and of the sample of training rows whose loss is taken after every epoch.
    n_threads : int
    """

    def __init__(self, model: Refinable, X: Any, y: Any, validation: Any, seed: int, n_threads: int) -> None:
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
                raise ValueError(f"validation must be a share or a pair (X, y), got {len(validation)} entries")
            self.other = model._prepare(validation[0], validation[1], n_threads)
            if len(self.other) == 0:
                raise ValueError("validation must have at least one row, got none")
        elif validation is not None:
            n_held_out = max(1, round(share(validation, "validation") * n_rows))
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
        """Numbers that change with the rows."""
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

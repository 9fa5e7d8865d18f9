"""A softmax head in torch trained by Adam, from the weights that torch gives it or from those of counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from bench.data.datasets import Split
from bench.measure.clock import Stopwatch
from bench.peers.torch_networks import Rows
from saffu.torch import warm_start_

BATCH = 128


class Moment(NamedTuple):
    """Loss on the other rows, nats, after some epochs, and the seconds of training (and of solving) so far."""

    epochs: float
    nll: float
    seconds: float


def trained(
    split: Split, start: Mapping[str, Any] | None, rate: float, epochs: int, seed: int, evaluations: int
) -> list[Moment]:
    """Train a head and score it on the test part of a split, before it begins and so many times an epoch.

    Parameters
    ----------
    split : Split
        Features of float32.
    start : mapping, optional
        How :func:`saffu.torch.warm_start_` solves the head; None starts as torch does.
    rate : float
        The learning rate of Adam.
    epochs : int
    seed : int
        Of torch's weights and of the order of the rows.
    evaluations : int
        In an epoch, at equal distances.
    """
    torch.set_num_threads(1)  # for steps as small as these
    torch.manual_seed(seed)
    head = torch.nn.Linear(split.train.shape[1], int(split.y_train.max()) + 1)
    optimiser = torch.optim.Adam(head.parameters(), rate, fused=True)
    watch = Stopwatch()
    if start is not None:
        warm_start_(head, split.train, split.y_train, **start)
    rows, test = Rows(split.train), Rows(split.test)
    y, y_test = torch.from_numpy(split.y_train), torch.from_numpy(split.y_test)

    def loss(given: Rows, chosen: np.ndarray, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(given.product(chosen, head.weight.T) + head.bias, labels)

    order, steps = np.random.default_rng(seed), -(-len(y) // BATCH)
    scored = {-(-steps * k // evaluations) for k in range(1, evaluations + 1)}
    found = [Moment(0.0, _score(loss, test, y_test), watch.seconds)]
    for epoch in range(epochs):
        shuffled = order.permutation(len(y))
        for step in range(1, steps + 1):
            chosen = shuffled[(step - 1) * BATCH : step * BATCH]
            optimiser.zero_grad()
            loss(rows, chosen, y[torch.from_numpy(chosen)]).backward()
            optimiser.step()
            if step in scored:
                with watch.paused() as seconds:
                    found.append(Moment(epoch + step / steps, _score(loss, test, y_test), seconds))
    return found


def _score(loss, test: Rows, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return loss(test, np.arange(len(labels)), labels).item()

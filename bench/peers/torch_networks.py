"""The peers in torch: the network of softmax layers and a ReLU network, trained from random weights by Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from torch import Tensor, nn
from torch.nn import functional

from bench.data.datasets import Split
from bench.measure.clock import Stopwatch
from bench.measure.scores import Point, score_of
from saffu.utils.threads import available_cpus

SCORED_ROWS = 2_000  # in one piece


class Rows:
    """Batches of a feature matrix: slices of a dense one, the indices and values of a sparse one."""

    def __init__(self, features: Any) -> None:
        self.features = csr_array(features) if issparse(features) else torch.from_numpy(np.ascontiguousarray(features))

    def product(self, rows: NDArray[np.int64], W: Tensor, dropout: float = 0.0) -> Tensor:
        """``x W`` for some rows x, with a share of the features dropped. Of sparse rows no zero is multiplied."""
        if isinstance(self.features, Tensor):
            return functional.dropout(self.features[torch.from_numpy(rows)], dropout) @ W
        batch = self.features[rows]
        indices, offsets = (torch.from_numpy(part.astype(np.int64)) for part in (batch.indices, batch.indptr[:-1]))
        values = functional.dropout(torch.from_numpy(batch.data).to(W.dtype), dropout)
        return functional.embedding_bag(indices, W, offsets, mode="sum", per_sample_weights=values)


class SoftmaxNetwork(nn.Module):
    """``log p = log(softmax(x W + b) softmax_rows(O))``, normal weights of a scale (see ``deviation``), b = 0."""

    def __init__(self, n_features: int, hidden: int, n_classes: int, scale: str | float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(n_features, hidden) * deviation(scale, n_features, hidden))
        self.b = nn.Parameter(torch.zeros(hidden))
        self.O = nn.Parameter(torch.randn(hidden, n_classes) * deviation(scale, hidden, n_classes))

    def forward(self, rows: Rows, batch: NDArray[np.int64], dropout: float = 0.0) -> Tensor:
        """Log-probabilities of some rows."""
        h = functional.softmax(rows.product(batch, self.W, dropout) + self.b, dim=1)
        p = h @ functional.softmax(self.O, dim=1)
        return torch.log(p.clamp_min(1e-30))


class ReluNetwork(nn.Module):
    """``log p = log_softmax(relu(x W + b) V + c)``, He weights for W, Glorot for V, zero biases."""

    def __init__(self, n_features: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(n_features, hidden) * deviation("he", n_features, hidden))
        self.b = nn.Parameter(torch.zeros(hidden))
        self.V = nn.Parameter(torch.randn(hidden, n_classes) * deviation("glorot", hidden, n_classes))
        self.c = nn.Parameter(torch.zeros(n_classes))

    def forward(self, rows: Rows, batch: NDArray[np.int64], dropout: float = 0.0) -> Tensor:
        """Log-probabilities of some rows."""
        h = functional.relu(rows.product(batch, self.W, dropout) + self.b)
        return functional.log_softmax(h @ self.V + self.c, dim=1)


def deviation(scale: str | float, n_in: int, n_out: int) -> float:
    """Standard deviation of random weights: ``"glorot"``, ``"he"`` or a number."""
    if scale == "glorot":
        return math.sqrt(2 / (n_in + n_out))
    return math.sqrt(2 / n_in) if scale == "he" else float(scale)


def n_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def train(
    build: Callable[[], nn.Module],
    split: Split,
    rate: float,
    epochs: int,
    batch_size: int,
    dropout: float = 0.0,
    seed: int = 0,
) -> list[Point]:
    """Adam on shuffled minibatches, the rate falling to zero as a cosine: a point per epoch.

    The clock runs from the building of the network and stands still while the test rows are scored.
    """
    torch.set_num_threads(available_cpus())
    torch.manual_seed(seed)
    rng, n_rows = np.random.default_rng(seed), split.y_train.size
    test, points, watch = Rows(split.test), [], Stopwatch()
    network, rows, labels = build(), Rows(split.train), torch.from_numpy(split.y_train.astype(np.int64))
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    steps_in_epoch = math.ceil(n_rows / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps_in_epoch)
    for epoch in range(1, epochs + 1):
        order, total = rng.permutation(n_rows), torch.zeros(())
        for first in range(0, n_rows, batch_size):
            batch = order[first : first + batch_size]
            loss = functional.nll_loss(network(rows, batch, dropout), labels[torch.from_numpy(batch)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach() * batch.size
        with watch.paused() as seconds:
            points.append(Point(epoch, seconds, *score_of(log_probabilities(network, test), split.y_test)))
            points[-1] = points[-1]._replace(training_loss=float(total) / n_rows)
    return points


@torch.no_grad()
def log_probabilities(network: nn.Module, rows: Rows) -> NDArray[np.float32]:
    """Log-probabilities of all rows (rows, classes)."""
    n_rows = rows.features.shape[0]
    pieces = [np.arange(first, min(first + SCORED_ROWS, n_rows)) for first in range(0, n_rows, SCORED_ROWS)]
    return np.concatenate([network(rows, piece).numpy() for piece in pieces])

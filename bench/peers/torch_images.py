"""Classifiers of images in torch: a small convolutional network, and k-means features under least squares."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bench.data.datasets import Split, held_out
from bench.measure.clock import Stopwatch
from saffu.utils.threads import available_cpus

Shape = tuple[int, int, int]
Predict = Callable[[NDArray], NDArray]
RATES = (1e-3, 3e-3)
BATCH = 64
EVALUATIONS = 8  # on held-out images while training
KMEANS_PATCHES, KMEANS_ROUNDS, NOISE = 100_000, 12, 0.1
RIDGES = (0.003, 0.01, 0.03, 0.1)


def conv_net(shape: Shape, n_classes: int) -> nn.Module:
    """Two convolutions with batch normalisation and pooling, and a hidden layer with dropout; about 400,000 weights."""
    height, width, channels = shape
    flat = (height // 4) * (width // 4) * 64
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, n_classes),
    )  # fmt: skip


def as_images(X: NDArray, shape: Shape) -> Tensor:
    """Rows as images with the channels first, centred."""
    return torch.from_numpy(X.reshape(-1, *shape)).permute(0, 3, 1, 2).contiguous() - 0.5


def train_conv_net(split: Split, shape: Shape, seconds: float, seed: int = 0) -> tuple[Predict, float, float]:
    """A network trained for so many seconds, its learning rate and the seconds that were spent.

    AdamW, whose rate falls to zero as a cosine with the clock. Each rate is tried for a third of the time on four
    fifths of the images; the weights of the lowest held-out loss on the way are kept.
    """
    torch.set_num_threads(available_cpus())
    part = held_out(split)
    trials = {rate: _trained(part, shape, seconds / 3, rate, seed) for rate in RATES}
    rate = min(trials, key=lambda rate: trials[rate][1])
    model, _, spent = _trained(part, shape, seconds, rate, seed)
    return lambda X: _log_proba(model, as_images(X, shape)), rate, spent


def _trained(part: Split, shape: Shape, seconds: float, rate: float, seed: int) -> tuple[nn.Module, float, float]:
    torch.manual_seed(seed)
    model = conv_net(shape, int(part.y_train.max()) + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    images, y = as_images(part.train, shape), torch.from_numpy(part.y_train)
    others = as_images(part.test, shape)
    rng, watch = np.random.default_rng(seed), Stopwatch()
    best, lowest, spent, looked = model, math.inf, 0.0, 0
    while spent < 1:
        rows = torch.from_numpy(rng.integers(0, len(images), BATCH))
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * spent)) / 2
        model.train()
        loss = functional.cross_entropy(model(images[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with watch.paused() as elapsed:
            spent = elapsed / seconds
            if spent >= min((looked + 1) / EVALUATIONS, 1):
                looked += 1
                nll = -float(_log_proba(model, others)[np.arange(len(others)), part.y_test].mean())
                if nll < lowest:
                    best, lowest = copy.deepcopy(model), nll
    return best, lowest, elapsed


@torch.no_grad()
def _log_proba(model: nn.Module, images: Tensor) -> NDArray:
    model.eval()
    return torch.cat([functional.log_softmax(model(part), 1) for part in images.split(500)]).numpy()


# ---- k-means features, as Coates, Lee and Ng have them ---------------------------------------------------------------


class KMeansFeatures:
    """Whitened patches, k-means, and how much nearer than the mean each centre is, pooled over a grid."""

    def __init__(self, shape: Shape, patch: int, units: int, pool: int, seed: int = 0):
        self.shape, self.patch, self.units, self.pool = shape, patch, units, pool
        self.rng = np.random.default_rng(seed)

    def fit(self, X: NDArray) -> KMeansFeatures:
        """Find the whitening and the centres from some patches."""
        patches = self._patches(as_images(X[self.rng.permutation(len(X))[:2000]], self.shape)).flatten(0, 1)
        chosen = torch.from_numpy(self.rng.permutation(len(patches))[:KMEANS_PATCHES])
        z = self._normal(patches[chosen])
        self.mean = z.mean(0)
        variances, axes = torch.linalg.eigh((z - self.mean).T @ (z - self.mean) / len(z))
        self.white = axes @ torch.diag((variances + NOISE * variances.mean()).rsqrt()) @ axes.T
        z = (z - self.mean) @ self.white
        self.centres = z[torch.from_numpy(self.rng.permutation(len(z))[: self.units])]
        for _ in range(KMEANS_ROUNDS):
            nearest = torch.cat([torch.cdist(part, self.centres).argmin(1) for part in z.split(5000)])
            sums = torch.zeros_like(self.centres).index_add_(0, nearest, z)
            size = torch.bincount(nearest, minlength=self.units)[:, None]
            self.centres = torch.where(size > 0, sums / size.clamp(min=1), self.centres)
        return self

    def transform(self, X: NDArray) -> NDArray:
        """The features, shape (n, units pool^2)."""
        found = []
        for part in as_images(X, self.shape).split(50):
            z = (self._normal(self._patches(part)) - self.mean) @ self.white
            distance = torch.cdist(z.flatten(0, 1), self.centres).reshape(len(part), -1, self.units)
            near = (distance.mean(2, keepdim=True) - distance).clamp(min=0)
            rows, columns = (side - self.patch + 1 for side in self.shape[:2])
            grid = near.transpose(1, 2).reshape(len(part), self.units, rows, columns)
            found.append(functional.adaptive_avg_pool2d(grid, self.pool).flatten(1))
        return torch.cat(found).numpy()

    def _patches(self, images: Tensor) -> Tensor:
        return functional.unfold(images, self.patch).transpose(1, 2)

    def _normal(self, patches: Tensor) -> Tensor:
        centred = patches - patches.mean(-1, keepdim=True)
        return centred / (centred.var(-1, keepdim=True) + 0.01).sqrt()


def train_kmeans(split: Split, shape: Shape, patch: int, units: int, pool: int = 3) -> tuple[Predict, float]:
    """Least squares on k-means features; the ridge, and a temperature, are chosen on a fifth of the rows."""
    torch.set_num_threads(available_cpus())
    encoder = KMeansFeatures(shape, patch, units, pool).fit(split.train)
    part = held_out(split)
    A, B = encoder.transform(part.train), encoder.transform(part.test)
    tried = {}
    for ridge in RIDGES:
        scores = _least_squares(A, part.y_train, ridge)(B)
        for temperature in (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0):
            tried[_nll(temperature * scores, part.y_test)] = ridge, temperature
    ridge, temperature = tried[min(tried)]
    score = _least_squares(np.concatenate([A, B]), np.concatenate([part.y_train, part.y_test]), ridge)
    return lambda X: _log_softmax(temperature * score(encoder.transform(X))), ridge


def _least_squares(features: NDArray, y: NDArray, ridge: float) -> Callable[[NDArray], NDArray]:
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    A = (features - mean) / deviation
    Y = np.eye(int(y.max()) + 1, dtype=np.float32)[y]
    gram = A.T @ A / len(A) + ridge * np.eye(A.shape[1], dtype=np.float32)
    W = np.linalg.solve(gram, A.T @ (Y - Y.mean(0)) / len(A))
    return lambda X: (X - mean) / deviation @ W + Y.mean(0)


def _log_softmax(logits: NDArray) -> NDArray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _nll(logits: NDArray, y: NDArray) -> float:
    return -float(_log_softmax(logits)[np.arange(y.size), y].mean())

"""Labelled data sets for the classifier, read from the folder named by ``SAFFU_DATA``."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


class Split(NamedTuple):
    """Features and labels of the training and the test part."""

    train: Any
    y_train: NDArray[np.int64]
    test: Any
    y_test: NDArray[np.int64]


def mnist(folder: Path) -> Split:
    """Pixels / 255, float32 (60,000 and 10,000 rows of 784)."""
    return Split(*_images(folder / "mnist", "train"), *_images(folder / "mnist", "t10k"))


def fashion_part(folder: Path) -> Split:
    """Pixels / 255 of a part of Fashion-MNIST, float32 (3,000 and 600 rows of 784)."""
    part = folder / "fashion_mnist_part"
    return Split(*_images(part, "train"), *_images(part, "test"))


def digits() -> Split:
    """scikit-learn's handwritten digits of 8 x 8, / 16, float32, in an order of chance (1,200 and 597 rows of 64)."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(y.size)
    X, y = X[order].astype(np.float32) / 16, y[order].astype(np.int64)
    return Split(X[:1200], y[:1200], X[1200:], y[1200:])


def cifar10_part(folder: Path) -> Split:
    """Colours / 255 of a part of CIFAR-10, float32 (10,000 and 2,000 rows of 32 x 32 x 3). Needs Pillow."""
    return Split(*_colours(folder / "cifar10_part" / "train.npz"), *_colours(folder / "cifar10_part" / "test.npz"))


def _colours(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images and labels of one part, from its JPEG files."""
    from PIL import Image

    with np.load(path) as file:
        data, offsets, labels = file["jpeg"].tobytes(), file["offsets"], file["labels"].astype(np.int64)
    images = [np.asarray(Image.open(io.BytesIO(data[a:b]))) for a, b in itertools.pairwise(offsets.tolist())]
    return np.stack(images).reshape(len(images), -1).astype(np.float32) / np.float32(255), labels


def _images(folder: Path, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pixels and labels of one part, from its two idx files."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 784)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read()[8:], np.uint8).astype(np.int64)
    return images.astype(np.float32) / np.float32(255), labels


def with_complements(split: Split) -> Split:
    """Features x and 1 - x, so that an absent feature counts too."""
    return split._replace(train=np.hstack([split.train, 1 - split.train]), test=np.hstack([split.test, 1 - split.test]))


def newsgroups20(folder: Path) -> Split:
    """Word counts, CSR float64 (11,314 and 7,532 messages)."""
    rows = [_table(lzma.open, folder / "newsgroups20" / f"{part}.csv.xz")[1:] for part in ("train", "test")]
    names = sorted({row[0] for row in rows[0]})
    return _bag_of_words(*([(names.index(row[0]), row[2]) for row in part] for part in rows))


def ag_news(folder: Path) -> Split:
    """Word counts, CSR float64 (14,547 and 7,600 articles)."""
    rows = [_table(gzip.open, folder / "ag_news" / name) for name in ("train_subset.csv.gz", "test.csv.gz")]
    return _bag_of_words(*([(int(row[0]) - 1, row[1]) for row in part] for part in rows))


def frequent_words(split: Split, min_rows: int = 5, limit: int = 10_000) -> Split:
    """log(1 + count), float32 CSR, of the words in most training rows: at most ``limit``, each in ``min_rows`` rows."""
    rows_with = np.bincount(split.train.indices, minlength=split.train.shape[1])
    ranked = np.argsort(-rows_with, kind="stable")[:limit]
    words = np.sort(ranked[rows_with[ranked] >= min_rows])
    parts = []
    for counts in (split.train, split.test):
        part = csr_array(counts[:, words], dtype=np.float32)
        np.log1p(part.data, out=part.data)
        parts.append(part)
    return split._replace(train=parts[0], test=parts[1])


def subset(split: Split, share: float, seed: int = 0) -> Split:
    """A stratified share of the training rows, at least one of every class; the test part stays whole."""
    taken, _ = _stratified(split.y_train, share, seed)
    return split._replace(train=split.train[taken], y_train=split.y_train[taken])


def held_out(split: Split, share: float = 0.2, seed: int = 0) -> Split:
    """The training rows cut in two, stratified: what is left to train on, and a validation part in the place of test.

    Every class keeps a row to train on; the test rows are gone.
    """
    kept, rest = _stratified(split.y_train, 1 - share, seed)
    return Split(split.train[kept], split.y_train[kept], split.train[rest], split.y_train[rest])


def _stratified(labels: NDArray, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows taken and rows left, each ascending; of a class of n rows ``max(1, round(share n))`` are taken."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    order = np.random.default_rng(seed).permutation(labels.size)
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, shuffled within each
    sizes = np.unique(labels, return_counts=True)[1]
    rank = np.arange(labels.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = rank < np.repeat(np.maximum(np.rint(share * sizes), 1), sizes)
    return np.sort(order[taken]), np.sort(order[~taken])


def made_up(n_rows: int = 240, n_features: int = 20, n_classes: int = 4, sparse: bool = False) -> Split:
    """Two groups of rows in each class around random centres in [0, 1], float32; half as many rows to test."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2 * n_classes, n_rows + n_rows // 2)
    noise = rng.normal(0, 0.2, (group.size, n_features))
    features = np.clip(rng.random((2 * n_classes, n_features))[group] + noise, 0, 1).astype(np.float32)
    if sparse:
        features = csr_array(np.where(features > 0.6, features, np.float32(0)))
    labels = (group % n_classes).astype(np.int64)
    return Split(features[:n_rows], labels[:n_rows], features[n_rows:], labels[n_rows:])


def _table(opener: Callable, path: Path) -> list[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _bag_of_words(train: list[tuple[int, str]], test: list[tuple[int, str]]) -> Split:
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(dtype=np.float64)
    train_counts = vectorizer.fit_transform([text for _, text in train])
    test_counts = vectorizer.transform([text for _, text in test])
    y_train, y_test = (np.array([label for label, _ in part]) for part in (train, test))
    return Split(train_counts, y_train, test_counts, y_test)

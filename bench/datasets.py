"""Labelled data sets for the classifier, read from the folder named by ``SAFFU_DATA``."""

from __future__ import annotations

import csv
import gzip
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Split(NamedTuple):
    """Features and labels of the training and the test part."""

    train: Any
    y_train: NDArray[np.int64]
    test: Any
    y_test: NDArray[np.int64]


def data_folder() -> Path | None:
    """The folder of the data sets, or None."""
    folder = os.environ.get("SAFFU_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


def mnist(folder: Path) -> Split:
    """Pixels / 255, float32 (60,000 and 10,000 rows of 784)."""
    parts = []
    for part in ("train", "t10k"):
        with gzip.open(folder / "mnist" / f"{part}-images-idx3-ubyte.gz") as file:
            images = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 784)
        with gzip.open(folder / "mnist" / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read()[8:], np.uint8).astype(np.int64)
        parts += [images.astype(np.float32) / np.float32(255), labels]
    return Split(*parts)


def with_complements(split: Split) -> Split:
    """Features x and 1 - x, so that an absent feature is evidence too."""
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

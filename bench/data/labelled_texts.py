"""Labelled texts as strings, read from the folder named by ``SAFFU_DATA``."""

from __future__ import annotations

import csv
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TextSplit(NamedTuple):
    """Texts and labels 0, 1, ... of the training and the test part."""

    train: list[str]
    y_train: NDArray[np.int64]
    test: list[str]
    y_test: NDArray[np.int64]


def both(folder: Path) -> dict[str, TextSplit]:
    """20 Newsgroups (11,314 and 7,532 messages) and AG News (14,547 and 7,600 articles)."""
    news = [_table(lzma.open, folder / "newsgroups20" / f"{part}.csv.xz")[1:] for part in ("train", "test")]
    names = sorted({row[0] for row in news[0]})
    articles = [_table(gzip.open, folder / "ag_news" / name) for name in ("train_subset.csv.gz", "test.csv.gz")]
    return {
        "20 Newsgroups": _split([[(names.index(row[0]), row[2]) for row in part] for part in news]),
        "AG News": _split([[(int(row[0]) - 1, row[1]) for row in part] for part in articles]),
    }


def made_up(n_texts: int = 400) -> TextSplit:
    """Texts of three labels, each with words that it likes better."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(50)])
    p = rng.dirichlet(np.full(50, 0.2), 3)
    labels = rng.integers(0, 3, n_texts + n_texts // 2)
    texts = [" ".join(rng.choice(words, 8, p=0.8 * p[label] + 0.2 / 50)) for label in labels]
    return TextSplit(texts[:n_texts], labels[:n_texts], texts[n_texts:], labels[n_texts:])


def _split(parts: list[list[tuple[int, str]]]) -> TextSplit:
    train, test = parts
    y_train, y_test = (np.array([label for label, _ in part]) for part in parts)
    return TextSplit([text for _, text in train], y_train, [text for _, text in test], y_test)


def _table(opener: Callable, path: Path) -> list[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))

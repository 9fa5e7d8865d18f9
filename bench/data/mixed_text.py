"""A large text of many kinds: documents of every corpus of the folder SAFFU_DATA, in an order of chance."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.data import labelled_texts
from bench.data.corpora import CHILDREN

BLANK = re.compile(r"\n\s*\n")


def documents(folder: Path) -> Iterator[str]:
    """Documents without blank lines, corpus after corpus: 9.4 million words."""
    plain = ["brown/train", "wikitext2/valid", "wikitext2/test", *(f"children/{part}.train" for part in CHILDREN)]
    for name in plain:
        yield from BLANK.split(gzip.decompress((folder / f"{name}.txt.gz").read_bytes()).decode().strip())
    for split in labelled_texts.both(folder).values():
        for text in (*split.train, *split.test):
            yield BLANK.sub("\n", text.strip())


def in_order_of_chance(folder: Path, n_words: int, n_test: int) -> tuple[list[str], list[str]]:
    """A training part of about so many words (between spaces), and a test part of so many documents."""
    found = [document for document in documents(folder) if document]
    order = np.random.default_rng(0).permutation(len(found))
    mixed = [found[i] for i in order]
    lengths = np.cumsum([len(document.split()) for document in mixed[n_test:]])
    return mixed[n_test : n_test + int(np.searchsorted(lengths, n_words)) + 1], mixed[:n_test]

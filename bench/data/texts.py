"""Texts of compact language models: training, validation and test part of one vocabulary, cut to a size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.data import corpora
from bench.data.corpora import Parts
from bench.report.requirements import data_folder
from saffu.text import LINE_END_ID, UNKNOWN_ID, Chunk

VALID_TOKENS, TEST_TOKENS = 10_000, 30_000  # evenly spaced over that part


class Text(NamedTuple):
    """Training, validation and test text of one vocabulary."""

    name: str
    n_types: int
    train: Chunk
    valid: Chunk
    test: Chunk

    @property
    def unigram(self) -> float:
        """Perplexity of the test text by the add-one frequencies of the training text."""
        counts = np.bincount(self.train.ids, minlength=self.n_types) + 1.0
        return float(np.exp(-np.log(counts / counts.sum())[self.test.ids].mean()))

    def beginning(self, tokens: int) -> Text:
        """With less to train on, the vocabulary as it is."""
        return self._replace(train=corpora.beginning(self.train, tokens))


def text_of(corpus: str, tokens: int | None, most_types: int | None = None) -> Text:
    """A corpus of the data folder, or ``"made up"``.

    Parameters
    ----------
    corpus : str
        As in :func:`bench.data.corpora.parts`.
    tokens : int or None
        To train on; the vocabulary is that of these.
    most_types : int, optional
        Rarer types than so many are ``<unk>``.
    """
    if corpus == "made up":
        return made_up(tokens or 2000)
    return limited(corpora.parts(data_folder(), corpus, tokens), most_types)


def limited(parts: Parts, most_types: int | None = None) -> Text:
    """Parts with a vocabulary of at most so many types, validation and test text cut to samples."""
    n_types = min(len(parts.vocabulary), most_types or len(parts.vocabulary))

    def read(chunk: Chunk) -> Chunk:
        return chunk._replace(ids=np.where(chunk.ids < n_types, chunk.ids, np.int32(UNKNOWN_ID)))

    valid, test = corpora.sample(parts.valid, VALID_TOKENS), corpora.sample(parts.test, TEST_TOKENS)
    return Text(parts.name, n_types, read(parts.train), read(valid), read(test))


def made_up(tokens: int = 2000, n_types: int = 40) -> Text:
    """Documents whose tokens mostly follow from the last or the one before it, in lines of about ten."""
    rng = np.random.default_rng(0)
    follower = rng.integers(2, n_types, (2, n_types))

    def part(size: int) -> Chunk:
        ids = rng.integers(2, n_types, size).astype(np.int32)
        ids[::10] = LINE_END_ID
        source, copied = rng.integers(1, 3, size), rng.random(size) < 0.8
        for i in range(2, size):
            if copied[i] and i % 10:
                ids[i] = follower[source[i] - 1, ids[i - source[i]]]
        return Chunk(ids, np.arange(0, size, 500), 5 * size)

    return Text("made up", n_types, part(tokens), part(600), part(600))

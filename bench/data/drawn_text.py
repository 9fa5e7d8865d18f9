"""Text of any length, drawn from a model of word pairs: what there is no corpus for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.data import corpora
from bench.report.requirements import data_folder
from saffu.explicit.cooccurrence import cooccurrence

FOLLOWING = 0.75  # of the tokens follow from the one before; the others are drawn by their frequency alone
CHAINS, LENGTH = 2048, 1000  # documents drawn at once, and their tokens
LINE = 25  # tokens


class PairSource:
    """Draws documents from the pairs of a text.

    Every word follows the one before as often as it did in the text, but for a quarter that is drawn from all words.
    So new pairs keep coming, as they do in a growing text, and more so longer n-grams.
    """

    def __init__(self, types: list[str], ids: Any, documents: Any) -> None:
        self.types = np.array(types, dtype=object)
        self._pairs = cooccurrence(ids, 1, vocab_size=len(types), documents=documents)
        self._ends = np.cumsum(self._pairs.data)
        self._begins = np.concatenate([[0], self._ends])[self._pairs.indptr]
        self._all = np.cumsum(np.bincount(ids, minlength=len(types)))

    @classmethod
    def of_brown(cls) -> PairSource:
        """Of the training part of Brown, every word of it."""
        parts = corpora.parts(data_folder(), "brown", None)
        return cls(parts.vocabulary.types, parts.train.ids, parts.train.starts)

    @classmethod
    def made_up(cls) -> PairSource:
        """Of nothing, for a quick run."""
        ids = np.minimum(np.random.default_rng(0).zipf(1.4, 20_000), 500) - 1
        return cls([f"w{i}" for i in range(500)], ids, [0])

    def draw(self, rng: np.random.Generator, n_documents: int, length: int) -> Any:
        """Ids, shape (n_documents, length)."""
        found = np.empty((length, n_documents), np.int64)
        before = np.zeros(n_documents, np.int64)
        for t in range(length):
            anything = np.searchsorted(self._all, rng.random(n_documents) * self._all[-1], side="right")
            begins, ends = self._begins[before], self._begins[before + 1]
            places = np.searchsorted(self._ends, begins + rng.random(n_documents) * (ends - begins), side="right")
            follows = (rng.random(n_documents) < FOLLOWING) & (ends > begins) & (t > 0)
            before = found[t] = np.where(follows, self._pairs.indices[np.where(follows, places, 0)], anything)
        return found.T

    def write(self, path: Path, n_tokens: int, seed: int) -> None:
        """Write a text of about so many tokens, line ends included: one document a paragraph."""
        rng = np.random.default_rng(seed)
        with open(path, "w", encoding="utf-8") as file:
            left = n_tokens
            while left > 0:
                n_documents = min(CHAINS, -(-left // LENGTH))
                length = min(LENGTH, left)
                for words in self.types[self.draw(rng, n_documents, length)].tolist():
                    lines = [" ".join(words[i : i + LINE]) for i in range(0, length, LINE)]
                    file.write("\n".join(lines) + "\n\n")
                left -= n_documents * length

"""Which words of a text spoke for a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from saffu.classifier.text_model import TextModel
from saffu.utils.arrays import Array, Float32


class Explanation(NamedTuple):
    """The words of a text that spoke for a label.

    Attributes
    ----------
    label : int, bool or str
    probability : float
    words : list of (str, float)
        N-grams, their tokens with spaces between, and what they add to the logit of the label less what they add to
        that of a label on average; those with the largest weight first.
    """

    label: Any
    probability: float
    words: list[tuple[str, float]]


def explanations(
    model: TextModel, texts: Sequence[str], p: Float32, numbers: Array, k: int, n_threads: int
) -> list[Explanation]:
    """Explain the label of each text that has this number."""
    rows = model.rows(texts, n_threads)
    found = []
    for m, (text, number) in enumerate(zip(texts, numbers.tolist(), strict=True)):
        entries = slice(rows.indptr[m], rows.indptr[m + 1])
        columns = rows.indices[entries]
        weights = model.weights[columns]
        against = 0.0 if model.calibration.several else weights.mean(axis=1)
        spoke = rows.data[entries] * (weights[:, number] - against) * np.float32(model.calibration.temperature)
        names = _names(model, text, n_threads)
        order = np.argsort(-spoke, kind="stable")[:k]
        words = [(names[int(columns[e])], float(spoke[e])) for e in order if spoke[e] > 0]
        found.append(Explanation(model.classes[number].item(), float(p[m, number]), words))
    return found


def _names(model: TextModel, text: str, n_threads: int) -> dict[int, str]:
    """The n-grams of a text, by their columns."""
    tokens = model.ngrams.tokens(text)
    longest = model.ngrams.longest
    between = "" if model.ngrams.tokenizer in ("chars", "bytes") else " "
    listed = [
        between.join(tokens[t - n + 1 : t + 1]) for t in range(len(tokens)) for n in range(1, min(t + 1, longest) + 1)
    ]
    _, hashes = model.ngrams.hashes([text], n_threads)
    columns = model.known.columns(hashes)
    return {int(column): name for column, name in zip(columns, listed, strict=True) if column >= 0}

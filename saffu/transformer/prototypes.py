"""New parts of a transformer from counts: what its states have in common before each word.

    d_w = mean(n | w follows) - mean(n)        n = norm(x), the states that a layer looks at

New columns of W_1 and of W_V look along such differences, those of the words that explain most first, each scaled to
projections of unit deviation; a new hidden unit is as often on as off. It is what counting offers where states are not
non-negative and logarithms of counts (arXiv 2311.07498) do not exist: first moments by class.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.transformer.functional import NOTHING, forward
from saffu.transformer.model import Transformer
from saffu.utils import validate
from saffu.utils.arrays import Array
from saffu.utils.initializers import initial

TOKENS = 20_000
SEEN = 5  # times that a word must follow


class Prototypes:
    """What the expansions of :mod:`saffu.grow` take as ``init``; each new column takes the next word.

    Parameters
    ----------
    model : Transformer
        The model to be grown, causal.
    ids, documents
        Text, as in :meth:`Transformer.log_prob`; its first 20,000 tokens are read.
    rng : Generator or int, optional
        Of all other new numbers, which are normal.

    Raises
    ------
    ValueError, TypeError
        If the text is empty or not of the model's vocabulary.
    """

    def __init__(
        self,
        model: Transformer,
        ids: ArrayLike,
        documents: ArrayLike | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        checked = validate.token_ids(ids, "ids", model.vocab_size)[:TOKENS]
        if checked.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        starts = None if documents is None else np.asarray(documents)
        rows, labels = model._windows(checked, None if starts is None else starts[starts < checked.size])
        _, states, seen = forward(model.arrays, rows, model.causal, model.activation)
        known = labels != NOTHING
        self._y = labels[known].astype(np.int32)
        self._looked_at = {
            "value": [layer.norm1[0][known] for layer in seen] + [states[-1][known]],
            "expand": [layer.norm2[0][known] for layer in seen] + [states[-1][known]],
        }
        self._n_words = model.vocab_size
        self._rng = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng or 0)

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array of the grown model, by its name there."""
        made = initial(name, shape, self._rng)
        found = re.fullmatch(r"layer(\d+)\.(value|expand|expand_bias)", name)
        if found is None:
            return made
        states = self._looked_at[found[2].removesuffix("_bias")]
        columns, offsets = self._columns(states[min(int(found[1]), len(states) - 1)])
        if found[2] == "expand_bias":
            n = min(shape[0], offsets.size)
            made[:n] = offsets[:n]
        elif found[2] == "expand":
            n = min(shape[1], columns.shape[1])
            made[: columns.shape[0], :n] = columns[:, :n]
        else:
            for head in range(shape[0]):
                some = columns[:, head * shape[2] : (head + 1) * shape[2]]
                made[head, : some.shape[0], : some.shape[1]] = some
        return made

    def _columns(self, states: Array) -> tuple[Array, Array]:
        """Directions (h, n_words), those that explain most first, and what makes their projections zero on average."""
        sums, mass = np.zeros((self._n_words, states.shape[1])), np.zeros(self._n_words)
        rows = np.ascontiguousarray(states)
        _core.moments_labels(rows, self._y, None, sums, mass, True, 1)
        counts = np.bincount(self._y, minlength=self._n_words)
        mean = rows.mean(axis=0, dtype=np.float64)
        words = np.flatnonzero(counts >= SEEN)
        differences = sums[words] / counts[words, None] - mean
        explained = counts[words] * (differences**2).sum(axis=1)
        differences = differences[np.argsort(-explained, kind="stable")]
        spread = np.maximum((rows @ differences.T.astype(rows.dtype)).std(axis=0), 1e-6)
        columns = differences.T / spread
        return columns, -(mean @ columns)

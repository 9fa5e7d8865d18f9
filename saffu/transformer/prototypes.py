"""New parts of a transformer from counts: what its states have in common before each word.

    d_w = mean(n | w follows) - mean(n)        n = norm(x), the input of attention or perceptron

New columns of W_1 and of W_V are such differences, those of the words that explain most first, each scaled so that
the projections have standard deviation 1; a new hidden unit is as often on as off. This is what counting offers where
states may be negative, so that logarithms of counts (arXiv 2311.07498) do not exist: first moments by class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.transformer.functional import NOTHING, forward
from saffu.transformer.sequences import windows
from saffu.utils import validate
from saffu.utils.arrays import Array, Int32
from saffu.utils.initializers import initial
from saffu.utils.streams import TokenStream

if TYPE_CHECKING:
    from saffu.transformer.model import Transformer

TOKENS = 20_000  # of the text that are read
LEAST_COUNT = 5  # times that a word must occur to have a direction


class Prototypes:
    """What the expansions of :mod:`saffu.grow` take as ``init``; each new column takes the next word.

    Parameters
    ----------
    model : Transformer
        The model to be grown, causal.
    ids : array_like of int, shape (M,)
        Text of the model's vocabulary; its first 20,000 tokens are read.
    documents : array_like of int, optional
        Offsets in ``ids`` at which documents start.
    seed : int
        Of all other new numbers, which are normal.

    Raises
    ------
    ValueError, TypeError
        If the text is empty or not of the model's vocabulary.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.Transformer(3, hidden=4, layers=1, positions=8)
    >>> prototypes = saffu.Prototypes(model, [0, 1, 2] * 20)
    >>> saffu.grow.mlp(model, 20, init=prototypes).sizes
    [LayerSizes(heads=1, key=4, value=4, mlp=20)]
    """

    def __init__(
        self, model: Transformer, ids: ArrayLike, *, documents: ArrayLike | None = None, seed: int = 0
    ) -> None:
        stream = TokenStream.of(ids, documents, model.vocab_size).slice(0, TOKENS)
        if stream.ids.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        rows, labels = windows(stream, model.positions, model.vocab_size)
        _, states, layers = forward(model.arrays, rows, model.causal, model.activation)
        known = labels != NOTHING
        self._y = labels[known].astype(np.int32)
        self._inputs = {
            "value": [layer.attention_norm.output[known] for layer in layers] + [states[-1][known]],
            "expand": [layer.mlp_norm.output[known] for layer in layers] + [states[-1][known]],
        }
        self._n_words = model.vocab_size
        self._rng = np.random.default_rng(validate.integer(seed, "seed", 0))

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array of the grown model, by its name there."""
        made = initial(name, shape, self._rng)
        found = re.fullmatch(r"layer(\d+)\.(value|expand|expand_bias)", name)
        if found is None:
            return made
        states = self._inputs[found[2].removesuffix("_bias")]
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
        return directions(states, self._y, self._n_words)


def directions(states: Array, labels: Int32, n_words: int) -> tuple[Array, Array]:
    """What the states before each word have in common, beside all states.

    Parameters
    ----------
    states : ndarray of float, shape (n, h)
    labels : ndarray of int32, shape (n,)
        The word that follows each.
    n_words : int

    Returns
    -------
    columns : ndarray of float64, shape (h, m)
        For each of the m words that occur often enough, the one that explains most first, the mean of the states before
        it less that of all, scaled so that the projections have standard deviation 1.
    offsets : ndarray of float64, shape (m,)
        What makes the projections zero on average.
    """
    sums, mass = np.zeros((n_words, states.shape[1])), np.zeros(n_words)
    rows = np.ascontiguousarray(states)
    _core.moments_labels(rows, labels, None, sums, mass, True, 1)
    counts = np.bincount(labels, minlength=n_words)
    mean = rows.mean(axis=0, dtype=np.float64)
    words = np.flatnonzero(counts >= LEAST_COUNT)
    differences = sums[words] / counts[words, None] - mean
    explained = counts[words] * (differences**2).sum(axis=1)
    differences = differences[np.argsort(-explained, kind="stable")]
    spread = np.maximum((rows @ differences.T.astype(rows.dtype)).std(axis=0), 1e-6)
    columns = differences.T / spread
    return columns, -(mean @ columns)

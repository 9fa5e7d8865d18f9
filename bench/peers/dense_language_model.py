"""What the language model is measured against: the same logits in numpy, and a transformer trained by backprop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.corpora import Split
from bench.measure.clock import Seconds, race
from saffu import ExplicitLM
from saffu.ngram_lm.log_linear import INDUCTION_MASS, window_mass
from saffu.text import Chunk

Float64 = NDArray[np.float64]


def fit(split: Split, *, n_threads: int | None = None, **settings) -> ExplicitLM:
    """An ExplicitLM of the training part."""
    model = ExplicitLM(n_threads=n_threads, **settings)
    return model.fit(split.train.ids, documents=split.train.starts, vocab_size=len(split.vocabulary))


# ---- the same logits, densely ----------------------------------------------------------------------------------------


class DenseTwin:
    """Log-probabilities of a fitted model, position by position, in a dense vector of V logits.

    Each context, document window and induction window is one vectorised ``z[words] += lambda * u``; a stable
    log-softmax over the vocabulary follows. Rows and priors are looked up beforehand, as the model itself does.
    """

    def __init__(self, model: ExplicitLM, text: Chunk) -> None:
        self.pooled, self.scalars = model.solution.solved()
        self.stream = text.stream
        weights = self.pooled.weights
        rows = weights.contexts(self.stream)
        self.states = self.pooled.states(rows)
        self.rows = rows.T.copy()
        self.masses = window_mass(self.pooled.windows)
        prior = np.log(np.stack([weights.unigram, weights.continuation]))
        self.priors = self.scalars[:, :2] @ prior

    def log_prob(self, positions: NDArray[np.int64]) -> Float64:
        """Log-probability of the token at each position, nats."""
        return np.array([self._log_prob(t) for t in positions.tolist()])

    def _log_prob(self, t: int) -> float:
        theta = self.scalars[self.states[t]]
        z = self.priors[self.states[t]].copy()
        tables = self.pooled.weights.tables
        for scalar, table, row in zip(theta[2:], tables, self.rows[t], strict=False):
            if row >= 0:
                first, last = table.counts.indptr[row : row + 2]
                z[table.counts.indices[first:last]] += scalar * table.u[first:last]
        for scalar, words, mass in zip(theta[2 + len(tables) :], *self._recent(t), strict=True):
            distinct, n = np.unique(words, return_counts=True)
            z[distinct] += scalar * np.log1p(n / (mass * self.pooled.weights.unigram[distinct]))
        largest = z.max()
        return float(z[self.stream.ids[t]] - largest - np.log(np.exp(z - largest).sum()))

    def _recent(self, t: int) -> tuple[list[NDArray[np.int32]], list[float]]:
        """Words of each document window and of the induction window, and their masses."""
        ids, begin = self.stream.ids, int(self.stream.begins(np.array([t]))[0])
        words = [ids[max(begin, t - length) : t] for length in self.pooled.windows]
        past = ids[max(begin, t - self.pooled.induction) : t]
        words.append(past[1:][past[:-1] == past[-1]] if past.size else past)
        return words, [*self.masses, INDUCTION_MASS]


def spread_positions(text: Chunk, n: int) -> NDArray[np.int64]:
    """``n`` positions spread evenly over a text."""
    return np.linspace(0, text.ids.size - 1, n).astype(np.int64)


def scoring_race(model: ExplicitLM, text: Chunk, n_positions: int = 400, repeats: int = 3) -> dict[str, Seconds]:
    """Median seconds per token of the model over a whole text and of its dense twin over some positions of it."""
    twin, positions = DenseTwin(model, text), spread_positions(text, n_positions)
    seconds = race(
        {
            "saffu": lambda: model.log_prob(text.ids, documents=text.starts),
            "numpy": lambda: twin.log_prob(positions),
        },
        repeats,
    )
    sizes = {"saffu": text.ids.size, "numpy": n_positions}
    return {name: Seconds(s.wall / sizes[name], s.cpu / sizes[name]) for name, s in seconds.items()}

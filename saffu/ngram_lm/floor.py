r"""The floor of a model: Kneser-Ney made of the same counts, mixed in *probability* with the pooled weights.

    p(w | context) = (1 - s) p_pooled(w | context) + s p_KN(w | context)

Pooling multiplies probabilities, so that one context which is wrong can rule a word out; a sum cannot. Continuation
counts, which :mod:`saffu.ngram_lm.backoff` turns into n-grams with a probability each, know other things than the raw
counts of the pooled rows: the same floor of raw counts gains a third as much. The share s is fitted to the text that
the scalars are fitted to, each position under models that have not counted it; the likelihood is concave in s.

It costs as many look-ups a token as there are suffixes, and a second copy of the weights of these. As continuation
counts are numbers of types, which do not add up, all weights are made anew after an update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu.ngram_lm.backoff import BackoffTables, of_pooled
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.log_linear import PooledModel
from saffu.ngram_lm.priming import Part, log_prob_of
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils.arrays import Array, Bools, Float64, Int32, Int64
from saffu.utils.streams import TokenStream

STEPS = 30  # that halve the interval of the share


class Floor(NamedTuple):
    """Kneser-Ney and its share of the probability, in (0, 1)."""

    tables: BackoffTables
    share: float

    def log_prob(self, pooled: Float64, stream: TokenStream, positions: Int64, n_threads: int | None) -> Float64:
        """The log-probabilities, nats, of the tokens at some positions, given those of the pooled weights."""
        own = self.tables.score(stream, n_threads=n_threads)[0][positions]
        return self.mixed(pooled, own)

    def mixed(self, pooled: Float64, own: Float64) -> Float64:
        """Log-probabilities of the mixture from those of the pooled weights and those of the floor."""
        found: Float64 = np.logaddexp(np.log1p(-self.share) + pooled, np.log(self.share) + own)
        return found

    def contexts(self, stream: TokenStream, positions: Int64, n_threads: int | None, opens: Bools | None) -> Int32:
        """Rows of the tables that precede some positions, shape (order - 1, N); for :meth:`mix_rows`."""
        return np.array(self.tables.contexts(stream, positions, n_threads, opens), np.int32).reshape(-1, positions.size)

    def mix_rows(self, contexts: Int32, pooled: Array) -> None:
        """Turn log-probabilities of all words under the pooled weights, shape (N, V), into those of the mixture."""
        pooled[...] = self.mixed(pooled, self.tables.log_probs(list(contexts), len(pooled)))


def tables_of(counts: NgramCounts, n_threads: int | None) -> BackoffTables:
    """Modified interpolated Kneser-Ney of the suffixes of a model."""
    chain = NgramCounts(counts.vocab_size, 1, counts.order, counts.start_length)
    chain.n_tokens, chain.unigram = counts.n_tokens, counts.unigram
    chain.distance, chain.suffix = counts.distance[:1], counts.suffix
    weights = NgramWeights(chain, True, n_threads)
    scalars = np.array([[0.0, 1.0, *[1.0] * (len(weights.tables) + 1)]])
    return of_pooled(PooledModel(weights, (), 0), scalars)


def fitted_share(
    parts: Sequence[Part], tables: Sequence[BackoffTables], bounds: Float64 | None, scalars: Float64
) -> float:
    """The share of the floor that makes the positions of some parts likeliest; 0 if there are none.

    Types that the counts of a part do not hold count as any: Kneser-Ney gives them next to nothing, and where a
    vocabulary has types that were never counted, a new text has them, too. Where it has none, the share is a little
    below the best.
    """
    gains = [np.empty(0)]
    for part, floor in zip(parts, tables, strict=True):
        own = floor.score(part.stream)[0][part.positions]
        gains.append(np.exp(own - log_prob_of(part, bounds, scalars)))
    more, low, high = np.concatenate(gains) - 1.0, 0.0, 1.0
    for _ in range(STEPS):
        share = (low + high) / 2
        low, high = (share, high) if float((more / (1.0 + share * more)).sum()) > 0.0 else (low, share)
    return low

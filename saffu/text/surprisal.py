"""How surprising each token of a text is to a language model, and how uncertain the model was before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from saffu.utils.arrays import Float64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream

BITS = 1 / math.log(2)
BATCH_BYTES = 1 << 22  # of the distributions that are looked at together: they stay in the cache
LEAST = -1e300
BATCH = 1 << 16  # tokens scored together where no distribution is looked at


class Surprisal(NamedTuple):
    """What a model says of a stretch of tokens.

    Attributes
    ----------
    surprisal : ndarray of float64, shape (M,)
        Bits: the negative logarithm of the probability of each token given those before it in its document.
    entropy : ndarray of float64, shape (M,)
        Bits: that of the distribution over all tokens at the same place, the expected surprisal. NaN if not asked for.
    """

    surprisal: Float64
    entropy: Float64

    @classmethod
    def concat(cls, parts: list[Surprisal]) -> Surprisal:
        """Stretches behind each other."""
        return cls(*(np.concatenate([np.empty(0), *column]) for column in zip(*parts, strict=True))) if parts else EMPTY


EMPTY = Surprisal(np.empty(0), np.empty(0))


def surprisals(model: LanguageModel, stream: TokenStream, *, entropy: bool = True) -> Iterator[Surprisal]:
    """Score a text a batch at a time, so that a distribution over all tokens can be looked at at each place.

    Parameters
    ----------
    model : LanguageModel
    stream : TokenStream
        Whole documents.
    entropy : bool
        Without it no distribution is computed, which takes a fraction of the time.

    Yields
    ------
    Surprisal
        Of the next tokens.

    Examples
    --------
    >>> import saffu
    >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
    >>> [found] = surprisals(model, TokenStream.of([0, 1, 2]))
    >>> bool(found.surprisal[2] < 1 and found.entropy[2] < 1)
    True
    """
    found = model.log_prob(stream.ids, documents=stream.starts, progress=False)
    rows = model._log_prob_rows(stream) if entropy and found.size else None
    size = BATCH if rows is None else max(1, BATCH_BYTES // (8 * model.vocab_size))
    for first in range(0, found.size, size):
        places = np.arange(first, min(first + size, found.size))
        entropies = np.full(places.size, np.nan) if rows is None else _entropies(rows(places))
        yield Surprisal(found[places] * -BITS, entropies * BITS)


def _entropies(log_p: Float64) -> Float64:
    """Entropy in nats of each row, which it writes into."""
    p = np.exp(log_p)
    # Tokens of no probability: 0 times a finite number adds nothing, where 0 times -inf would be no number.
    np.maximum(log_p, LEAST, out=log_p)
    found: Float64 = -np.einsum("ij,ij->i", p, log_p)
    return found

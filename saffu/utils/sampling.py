"""Drawing tokens one after the other from a model's distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from saffu.utils import validate
from saffu.utils.arrays import Float64, Int64

LEAST_TEMPERATURE = 1e-300  # above 0: the logarithm of any probability stays finite when it is divided by it


def likeliest(p: Float64, k: int) -> Int64:
    """The places of the k largest of some numbers, largest first, equal ones in their order.

    Takes time in proportion to how many there are, but for sorting those k.

    Parameters
    ----------
    p : ndarray of float64, shape (V,)
    k : int
        At least 1; all V places if there are not so many.

    Returns
    -------
    ndarray of int64, shape (min(k, V),)

    Examples
    --------
    >>> likeliest(np.array([0.1, 0.4, 0.1, 0.4]), 3).tolist()
    [1, 3, 0]
    """
    if k >= p.size:
        return np.argsort(-p, kind="stable")
    places = np.flatnonzero(p >= np.partition(p, p.size - k)[p.size - k])
    found: Int64 = places[np.argsort(-p[places], kind="stable")[:k]]
    return found


class Drawing:
    """How tokens are drawn; the same seed draws the same tokens.

    Parameters
    ----------
    vocab_size : int
        V.
    n_tokens : int
        How many to draw.
    temperature : float
        Probabilities are raised to 1 / temperature; 0 always takes the likeliest token. At least 1e-300 otherwise.
    top_k : int, optional
        Draw among the k likeliest only.
    seed : int, optional
    exclude : array_like of int
        Tokens never to draw.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, or no token is left to draw.

    Examples
    --------
    >>> drawing = Drawing(3, n_tokens=4, temperature=0, top_k=None, seed=0, exclude=[2])
    >>> list(drawing.tokens(lambda: np.array([0.1, 0.3, 0.6]), append=print))
    1
    1
    1
    [1, 1, 1, 1]
    """

    def __init__(
        self,
        vocab_size: int,
        n_tokens: int,
        temperature: float,
        top_k: int | None,
        seed: int | None,
        exclude: ArrayLike,
    ) -> None:
        self.n_tokens = validate.integer(n_tokens, "n_tokens", 0)
        self.temperature = validate.positive(temperature, "temperature", or_zero=True)
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise ValueError(f"temperature must be 0 or at least {LEAST_TEMPERATURE:g}, got {temperature}")
        self.top_k = None if top_k is None else validate.integer(top_k, "top_k", 1)
        self.barred = validate.token_ids(exclude, "exclude", vocab_size, keep=True)
        if np.unique(self.barred).size == vocab_size:
            raise ValueError("exclude must leave at least one token to draw")
        self._rng = np.random.default_rng(None if seed is None else validate.integer(seed, "seed", 0))

    def tokens(self, distribution: Callable[[], Float64], append: Callable[[int], object]) -> Iterator[int]:
        """Draw; ``distribution()`` is that of the next token, and ``append(token)`` takes each before the next."""
        for left in range(self.n_tokens - 1, -1, -1):
            token = self._one(distribution())
            yield token
            if left:
                append(token)

    def _one(self, p: Float64) -> int:
        p[self.barred] = 0.0
        if self.temperature == 0:
            return int(p.argmax())
        kept = np.arange(p.size) if self.top_k is None else likeliest(p, self.top_k)
        with np.errstate(divide="ignore"):
            logits = np.log(p[kept]) / self.temperature
        weights = np.exp(logits - logits.max())
        return int(kept[np.searchsorted(np.cumsum(weights), self._rng.random() * weights.sum(), side="right")])

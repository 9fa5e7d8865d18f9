"""Experts and their weights as a language model: the answers that it gives, and what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.mixture_lm.experts import as_experts, check_sizes, set_threads, vocabulary_of
from saffu.mixture_lm.mixing_weights import FittedWeights
from saffu.text import ModelVocabulary
from saffu.utils import validate
from saffu.utils.arrays import Float64, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads


class MixedModel(LanguageModel):
    """Experts with weights; :class:`saffu.MixtureLM` adds how these come from text.

    Parameters
    ----------
    experts : sequence of language models
    fit : FittedWeights or None
        None until weights are fitted.
    n_threads : int, optional
        Of all experts; by default each keeps its own.
    """

    vocabulary = ModelVocabulary()
    interrupted = False  # whether Ctrl-C ended the training of an expert before its time

    def __init__(self, experts: Sequence[Any], fit: FittedWeights | None, n_threads: int | None) -> None:
        self.experts = as_experts(experts)
        self._fit = fit
        self._n_threads: int | None = None
        if n_threads is not None:
            self.n_threads = n_threads
        self.vocabulary = vocabulary_of(self.experts)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token given those before it in its document, nats, shape (M,).

        Parameters as in :meth:`fit`.
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        found = np.full(stream.ids.size, -np.inf)
        for weight, expert in self._asked():
            log_p = expert.log_prob(stream.ids, documents=stream.starts, progress=progress)
            np.logaddexp(found, log_p + np.log(weight), out=found)
        return found

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities of all V tokens at some positions of a text in [0, M], nats, shape (N, V).

        Position M is the token that would follow the text.
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        places = stream.places(positions)
        return self._mixed_rows(places.size, lambda it: it.log_probs(stream.ids, places, documents=stream.starts))

    def _mixed_rows(self, n_rows: int, rows_of: Callable[[LanguageModel], Float64]) -> Float64:
        found = np.full((n_rows, self.vocab_size), -np.inf)
        for weight, expert in self._asked():
            np.logaddexp(found, rows_of(expert) + np.log(weight), out=found)
        return found

    def _log_prob_rows(self, stream: TokenStream) -> Callable[[Int64], Float64]:
        readers = {id(expert): expert._log_prob_rows(stream) for _, expert in self._asked()}
        return lambda positions: self._mixed_rows(positions.size, lambda expert: readers[id(expert)](positions))

    def distribution(self, context: ArrayLike) -> Float64:
        """Probabilities of the token that follows ``context``, the document so far; shape (V,)."""
        seen = validate.token_ids(context, "context", self.vocab_size)
        return self._mixed((weight, expert.distribution(seen)) for weight, expert in self._asked())

    def _mixed(self, parts: Iterator[tuple[float, Float64]]) -> Float64:
        found = np.zeros(self.vocab_size)
        for weight, p in parts:
            found += weight * p
        return found

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        readers = [(weight, *expert._reader(context)) for weight, expert in self._asked()]

        def append(token: int) -> None:
            for _, _, append_to_one in readers:
                append_to_one(token)

        return lambda: self._mixed((weight, distribution()) for weight, distribution, _ in readers), append

    def _asked(self) -> Iterator[tuple[float, LanguageModel]]:
        """Weights that are not zero, and their experts."""
        weights = self._fitted.weights.tolist()
        return ((weight, expert) for weight, expert in zip(weights, self.experts, strict=True) if weight > 0)

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        size = check_sizes(self.experts)
        if size is None:
            raise ValueError("the experts have seen no text yet; call fit first")
        return size

    @property
    def n_threads(self) -> int | None:
        """Threads of all experts; None if each has a number of its own."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        resolve_threads(n_threads)
        self._n_threads = n_threads
        set_threads(self.experts, n_threads)

    @property
    def weights(self) -> Float64 | None:
        """The weight of each expert, of unit sum, shape (E,); None until they are fitted."""
        return None if self._fit is None else self._fit.weights.copy()

    @property
    def perplexities(self) -> list[float]:
        """Of each expert, and of the mixture, on the text that weights were last fitted on."""
        with np.errstate(over="ignore"):
            found: list[float] = np.exp(self._fitted.losses).tolist()
        return found

    def summary(self) -> dict[str, Any]:
        """Weights, and settings, sizes and bytes of each expert.

        Examples
        --------
        >>> import saffu
        >>> experts = [saffu.ExplicitLM(order=n).fit([0, 1, 2] * 50) for n in (2, 4)]
        >>> list(saffu.MixtureLM(experts, weights=[0.5, 0.5]).summary())
        ['vocab_size', 'weights', 'weights_fitted_on', 'held_out_perplexities', 'expert_1', 'expert_2']
        """
        facts: dict[str, Any] = {"vocab_size": self.vocab_size, "weights": self._fitted.weights.tolist()}
        facts |= {"weights_fitted_on": int(self._fitted.n_tokens), "held_out_perplexities": self.perplexities}
        for number, expert in enumerate(self.experts, 1):
            more = expert.summary() if hasattr(expert, "summary") else expert._settings()
            facts[f"expert_{number}"] = {"kind": type(expert).__name__, **more}
        return facts

    @property
    def _fitted(self) -> FittedWeights:
        if self._fit is None:
            raise ValueError("the weights are not fitted yet; call fit, or fit_weights with text no expert has seen")
        return self._fit

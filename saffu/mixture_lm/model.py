"""MixtureLM: language models mixed in probability, with weights fitted on text that none of them has seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.mixture_lm import serialization
from saffu.mixture_lm.experts import (
    as_experts,
    check_mergeable,
    check_sizes,
    distinct,
    each_that_can,
    learners,
    log_prob_of_each,
)
from saffu.mixture_lm.held_out import hold_out
from saffu.mixture_lm.mixed_model import MixedModel
from saffu.mixture_lm.mixing_weights import FittedWeights, checked_weights, fit_weights
from saffu.text import ModelVocabulary
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.streams import TokenStream

HELD_OUT = 0.05
FITTED = "fitted"


@checkpoint.register("mixture-lm")
class MixtureLM(MixedModel):
    """Language models mixed in probability: ``p(w) = sum_i weight_i p_i(w)``.

    Models that are wrong in different places gain most: counts and a neural network trained on its own.

    Parameters
    ----------
    experts : sequence of language models
        Any of saffu's, of one vocabulary; or any object with ``log_prob(ids, documents=starts)``, nats, and
        ``distribution(context)``. They are not copied: what the mixture learns, they learn.
    weights : "fitted" or sequence of float
        Fitted by maximum likelihood on text that no expert has seen; or given, not negative and of unit sum.
    held_out : float
        The share of the training text, about 30,000 tokens at most, that :meth:`fit` fits weights on: evenly spaced
        documents if there are many, else the end of the text.
    n_threads : int, optional
        Of all experts; by default each keeps its own. Results do not depend on it.

    Attributes
    ----------
    experts : tuple of LanguageModel
    weights : ndarray of float64, shape (E,), or None
        None until they are fitted.
    perplexities : list of float
        Of each expert, and of the mixture, on the text that weights were last fitted on; NaN if they were given.
    vocabulary : saffu.text.Vocabulary or None
        Saved with the model if set; by default that of the experts, if they have one.

    Raises
    ------
    ValueError, TypeError
        If an expert is none, experts have vocabularies of different sizes, or a setting is out of range.

    Notes
    -----
    The likelihood is concave in the weights: the fit ends at its maximum, so that the mixture is never worse than the
    best expert alone on the text that they are fitted on. A weight may be zero; such an expert is not asked.

    Any number of threads may read a model at once, as far as its experts allow it. One that changes it must be alone.

    Examples
    --------
    >>> import saffu
    >>> text = [0, 1, 2, 1, 0, 2] * 60
    >>> wide, narrow = (saffu.ExplicitLM(order=order, windows=(), induction=0) for order in (5, 2))
    >>> model = MixtureLM([wide, narrow]).fit(text)
    >>> model.weights.round(2).tolist()
    [1.0, 0.0]
    """

    def __init__(
        self,
        experts: Sequence[Any],
        *,
        weights: str | ArrayLike = FITTED,
        held_out: float = HELD_OUT,
        n_threads: int | None = None,
    ) -> None:
        self.held_out = validate.positive(held_out, "held_out")
        if self.held_out >= 1:
            raise ValueError(f"held_out must be below 1, got {held_out}")
        experts = as_experts(experts)
        self._given: Float64 | None = None
        if isinstance(weights, str):
            validate.choice(weights, "weights", (FITTED,))
        else:
            self._given = checked_weights(weights, len(experts))
        super().__init__(experts, None if self._given is None else FittedWeights.given(self._given), n_threads)

    # ---- from text ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Fit every expert, then the weights; return the model.

        Where weights are to be fitted, a part of the text is held out, the weights are fitted on it, and it is then
        given to the experts that can :meth:`update`. An ExplicitLM ends as if fitted to all of the text, to the bit.
        Experts that cannot be fitted stay as they are; they should not have seen the text.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids in [0, vocab_size).
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start.
        vocab_size : int, optional
            V; by default that of the vocabulary or of the experts, or the largest id plus one.
        progress : bool, optional
            Whether to show bars on a terminal.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent.
        NotImplementedError
            If no expert can be fitted.
        """
        size = ModelVocabulary.size(self.vocabulary, check_sizes(self.experts) if vocab_size is None else vocab_size)
        stream = _some_text(ids, documents, size)
        size = size or int(stream.ids.max()) + 1
        is_fitted = self._given is None and len(self.experts) > 1
        part = hold_out(stream, self.held_out if is_fitted else 0.0)
        text, starts = part.training
        how: dict[str, Any] = {"documents": starts, "vocab_size": size, "progress": progress}
        if not each_that_can(distinct(self.experts), lambda expert: expert.fit(text, **how)):
            self._cannot("fit", "none of its experts can; fit_weights fits the weights alone")
        check_sizes(self.experts)
        self.interrupted = any(getattr(expert, "interrupted", False) for expert in self.experts)
        if self._given is not None:
            return self
        self._fit = fit_weights(log_prob_of_each(self.experts, part.scored, progress)[:, part.lead :])
        rest, starts = part.held_out
        if rest.size:
            each_that_can(learners(self.experts), lambda expert: expert.update(rest, documents=starts, prime=True))
        return self

    def fit_weights(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Self:
        """Fit the weights alone, by maximum likelihood; return the model.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Text that no expert has seen: on text that it has learned an expert seems better than it is.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start.
        progress : bool, optional
            Whether to show bars on a terminal.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent, or an expert has seen no text.

        Examples
        --------
        >>> import saffu
        >>> experts = [saffu.ExplicitLM(order=3).fit([0, 1, 2] * 50), saffu.ExplicitLM(order=3).fit([2, 1, 0] * 50)]
        >>> MixtureLM(experts).fit_weights([0, 1, 2, 0, 1, 2]).weights.round(2).tolist()
        [1.0, 0.0]
        """
        stream = _some_text(ids, documents, self.vocab_size)
        self._fit = fit_weights(log_prob_of_each(self.experts, stream, progress))
        return self

    def update(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Let every expert learn new documents that can learn on the spot; the others stay as they are.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids below ``vocab_size``; whole documents.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start.
        prime : bool
            Prime the experts, too, and move weights that were fitted: to where those of the new text, as it is
            predicted before it is learned, and of the text before it are best. The text before counts as so many
            tokens that each expert was responsible for.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or an expert has seen no text.
        NotImplementedError
            If no expert can learn on the spot.

        Examples
        --------
        >>> import saffu
        >>> fixed = saffu.Transformer(4, hidden=4, layers=1)
        >>> model = MixtureLM([saffu.ExplicitLM(order=3), fixed], weights=[0.5, 0.5]).fit([0, 1, 2] * 50, vocab_size=4)
        >>> int(model.update([0, 1, 3] * 90).distribution([0, 1]).argmax())
        3
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        before = self._fitted
        log_p = log_prob_of_each(self.experts, stream, False) if prime and self._given is None else None
        how: dict[str, Any] = {"documents": documents, "prime": prime}
        if not each_that_can(learners(self.experts), lambda expert: expert.update(stream.ids, **how)):
            self._cannot("update", "none of its experts can learn on the spot; fit it on all of the text")
        if log_p is not None and log_p.shape[1]:
            self._fit = fit_weights(log_p, before)
        return self

    def merge(self, other: Self) -> Self:
        """Add what the experts of another mixture of the same weights have learned; return the model.

        Parameters
        ----------
        other : MixtureLM
            Its experts are of the same kinds and settings, one by one, and can all be merged.

        Raises
        ------
        ValueError, TypeError
            If the mixtures differ in weights, experts or vocabulary; the model is unchanged then.
        NotImplementedError
            If an expert cannot be merged.

        Examples
        --------
        >>> import saffu
        >>> one, other = (
        ...     MixtureLM([saffu.ExplicitLM(order=n) for n in (2, 4)], weights=[0.5, 0.5]).fit(ids, vocab_size=3)
        ...     for ids in ([0, 1, 2], [2, 1])
        ... )
        >>> [expert.n_tokens for expert in one.merge(other).experts]
        [5, 5]
        """
        if not isinstance(other, MixtureLM):
            raise TypeError(f"other must be a MixtureLM, got {type(other).__name__}")
        checked = checked_weights(other._fitted.weights, len(self.experts), "weights of other")
        if not np.array_equal(self._fitted.weights, checked):
            raise ValueError(f"mixtures to merge must have equal weights, got {self.weights} and {checked}")
        check_mergeable(self.experts, other.experts)
        for expert, of_other in zip(self.experts, other.experts, strict=True):
            expert.merge(of_other)
        return self

    def refine(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        epochs: int = 1,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        seed: int = 0,
        progress: bool | None = None,
    ) -> Self:
        """Raise NotImplementedError: trained through the mixture, an expert learns nothing where others are good."""
        self._cannot("refine", "refine an expert and fit the weights anew with fit_weights")

    def _settings(self) -> dict[str, Any]:
        weights = FITTED if self._given is None else self._given.tolist()
        return {"experts": list(self.experts), "weights": weights, "held_out": self.held_out}

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and its experts to one file; see :func:`saffu.load`.

        An existing file is replaced only when this is whole. TypeError if an expert is no model of saffu.
        """
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return serialization.to_checkpoint(self)

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        return serialization.from_checkpoint(cls, arrays, metadata)


def _some_text(ids: ArrayLike, documents: ArrayLike | None, vocab_size: int | None) -> TokenStream:
    stream = TokenStream.of(ids, documents, vocab_size)
    if stream.ids.size == 0:
        raise ValueError("ids must hold at least one token, got none")
    return stream

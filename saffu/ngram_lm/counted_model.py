"""A language model made of counts: its answers, its settings and its sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm import adaptation
from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counting_limits import CountingLimits
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.pruned_text import PrunedText
from saffu.ngram_lm.scorer import PooledText
from saffu.ngram_lm.solution import Solution
from saffu.text import ModelVocabulary
from saffu.utils import validate
from saffu.utils.arrays import Float64, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads


class CountedModel(LanguageModel):
    """A language model of counted text and of the weights and scalars that follow from it.

    How it learns is left to :class:`saffu.ExplicitLM`.

    Parameters
    ----------
    contexts : Contexts
    n_threads : int, optional
    limits : CountingLimits, optional

    Attributes
    ----------
    counted : CountedText
    solution : Solution
    seconds : dict of str to float
        Seconds spent to "count", "weigh" and "prime" so far.
    growth : list of dict
        What each growth of the model has added.
    vocabulary : saffu.text.Vocabulary or None
    """

    vocabulary = ModelVocabulary()

    def __init__(self, contexts: Contexts, n_threads: int | None, limits: CountingLimits | None = None) -> None:
        self.contexts, self.limits = contexts, limits
        self.radius, self.order, self.priming = contexts.radius, contexts.order, contexts.priming
        self.windows, self.induction = contexts.windows, contexts.induction
        self.growth: list[dict[str, Any]] = []
        resolve_threads(n_threads)
        self._start_afresh(n_threads)

    def _start_afresh(self, n_threads: int | None, counted: CountedText | None = None) -> None:
        """Forget everything; what has been counted may be given."""
        self.seconds = {"count": 0.0, "weigh": 0.0, "prime": 0.0}
        self.counted = CountedText(self.contexts, self.limits) if counted is None else counted
        self.solution = Solution(self.contexts, self.counted, n_threads, self.seconds)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def log_prob(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        progress: bool | None = None,
        adapt: int | None = None,
    ) -> Float64:
        """Log-probability of every token given what precedes it in its document.

        With ``adapt`` the text is scored piece by piece, and each piece is learned before the next is scored: what
        :meth:`update` of a copy of the model would give, to the bit. The model itself stays as it is.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        documents : array_like of int, optional
            As in :meth:`fit`.
        progress : bool, optional
            As in :meth:`fit`.
        adapt : bool or int, optional
            True: learn each document, long ones in pieces of 2,000 tokens. A number: learn so many tokens at a time,
            wherever documents start.

        Returns
        -------
        ndarray of float64, shape (M,)
            Nats.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or the model has seen no text or, with ``adapt``, cannot learn.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> model.log_prob([0, 1, 2]).shape
        (3,)
        >>> other = [1, 0, 2] * 20
        >>> bool(model.log_prob(other, adapt=10).mean() > model.log_prob(other).mean())
        True
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        if stream.ids.size == 0:
            return np.empty(0)
        if adapt is not None and adapt is not False:
            return adaptation.log_prob(self.solution, stream, adapt, progress)
        with progress_bar(stream.ids.size, "score", progress) as bar:
            return self.solution.log_prob(stream, np.arange(stream.ids.size), bar.update)

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities of every token of the vocabulary at positions of a text; for many batches, :meth:`read`.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        positions : array_like of int, shape (N,)
            In [0, M], in any order. Row i is that of the token at ``positions[i]`` given what precedes it in its
            document; M is the place behind the text.
        documents : array_like of int, optional
            As in :meth:`fit`.

        Returns
        -------
        ndarray of float64, shape (N, V)
            Nats.

        Raises
        ------
        ValueError, TypeError
            If ids or positions are out of range or not integers, or the model has seen no text.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> model.log_probs([0, 1], positions=[2, 1]).argmax(axis=1).tolist()
        [2, 1]
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        places = stream.places(positions)
        found = np.empty((places.size, self.vocab_size))
        if places.size:
            stream = stream.with_next(0)
            model, rows = self.solution.at(stream, places)
            batch = model.batch(stream, places, rows, model.states(rows))
            model.pool(self.solution.primed_scalars()).logits(batch, found, resolve_threads(self.n_threads))
            floor = self.solution.floor()
            if floor is not None:
                floor.mix_rows(floor.contexts(stream, places, self.n_threads, None), found)
        return found

    def read(self, ids: ArrayLike, *, documents: ArrayLike | None = None) -> PooledText:
        """Look up what every position of a text sees, to score batches of positions in any order.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        documents : array_like of int, optional
            As in :meth:`fit`.

        Returns
        -------
        PooledText
            Has ``logits(positions, out)`` and ``log_prob(positions)``.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or the model has seen no text.

        Examples
        --------
        >>> import saffu
        >>> text = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50).read([0, 1, 2])
        >>> text.logits([2, 0]).argmax(axis=1).tolist()
        [2, 0]
        """
        model, scalars = self.solution.solved()
        stream = TokenStream.of(ids, documents, self.vocab_size, keep=True)
        rows = model.weights.contexts(stream)
        positions, threads = np.arange(stream.ids.size), resolve_threads(self.n_threads)
        return PooledText(model, scalars, stream, positions, rows, threads, floor=self.solution.floor())

    def unigram_log_prob(self, ids: ArrayLike) -> Float64:
        """Log-probabilities of tokens under the unigram distribution alone.

        Parameters
        ----------
        ids : array_like of int, shape (M,)

        Returns
        -------
        ndarray of float64, shape (M,)
            Nats.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2, 0] * 50)
        >>> np.exp(model.unigram_log_prob([0, 1])).round(2).tolist()
        [0.5, 0.25]
        """
        model, _ = self.solution.solved()
        found: Float64 = np.log(model.weights.unigram[validate.token_ids(ids, "ids", self.vocab_size)])
        return found

    def distribution(self, context: ArrayLike) -> Float64:
        """Distribution of the token that follows a context, within one document.

        Parameters
        ----------
        context : array_like of int, shape (n,)
            What precedes in the document, oldest first; empty at its start. Only the last ``history`` tokens matter.

        Returns
        -------
        ndarray of float64, shape (V,)

        Raises
        ------
        ValueError, TypeError
            If the context is out of range or not integers, or the model has seen no text.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> int(model.distribution([0, 1]).argmax())
        2
        """
        seen = validate.token_ids(context, "context", self.vocab_size)[-self.history :]
        stream, last = TokenStream.of(seen).with_next(0), np.array([seen.size])
        model, rows = self.solution.at(stream, last)
        batch = model.batch(stream, last, rows, model.states(rows))
        found: Float64 = model.pool(self.solution.primed_scalars()).distribution(batch, 1)[0]
        floor = self.solution.floor()
        if floor is not None:
            own = floor.tables.log_probs(list(floor.contexts(stream, last, 1, None)), 1)[0]
            found += floor.share * (np.exp(own) - found)
        return found

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        read = np.asarray(context, np.int32)

        def append(token: int) -> None:
            nonlocal read
            read = np.append(read, np.int32(token))[-self.history :]

        return lambda: self.distribution(read), append

    def _log_prob_rows(self, stream: TokenStream) -> Callable[[Int64], Float64]:
        text = self.read(stream.ids, documents=stream.starts)

        def rows(positions: Int64) -> Float64:
            found = np.empty((positions.size, self.vocab_size))
            text.logits(positions, found)
            return found

        return rows

    # ---- settings and sizes ------------------------------------------------------------------------------------------

    @property
    def pruning(self) -> dict[str, Any] | None:
        """How the model was pruned; None if it was not."""
        return self.counted.record if isinstance(self.counted, PrunedText) else None

    @property
    def n_threads(self) -> int | None:
        """Threads of the kernels; None for every available CPU."""
        return self.solution.n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        self.solution.n_threads = n_threads

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return self.counted.known_vocab_size()

    @property
    def n_tokens(self) -> int:
        """Number of tokens counted."""
        return self.counted.counts.n_tokens

    @property
    def history(self) -> int:
        """Number of preceding tokens that can matter."""
        return self.contexts.history

    @property
    def counts(self) -> NgramCounts:
        """The counts of all text."""
        return self.counted.total()

    @property
    def feature_names(self) -> list[str]:
        """Names of the contexts, in the order of the scalars."""
        return self.contexts.names

    @property
    def scalars(self) -> dict[str, list[float]]:
        """The scalars of each feature, one per state of the context (from little known to well known)."""
        names = ["prior", "continuation prior", *self.feature_names]
        columns = self.solution.primed_scalars().T
        return {name: column.tolist() for name, column in zip(names, columns, strict=False)}

    def summary(self) -> dict[str, Any]:
        """Sizes, features and bytes.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(radius=1, order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> model.summary()["features"]
        {'distance 1': 4, 'suffix 2': 3}
        """
        model, scalars = self.solution.solved()
        weights = model.weights
        return {
            **self._settings(),
            "vocab_size": self.vocab_size,
            "n_tokens": self.n_tokens,
            "n_entries": sum(table.counts.nnz for table in model.weights.tables),
            "n_scalars": scalars.size,
            "growth": self.growth,
            **({"floor_share": self.solution.share} if self.contexts.floor else {}),
            **({} if self.pruning is None else {"pruning": self.pruning}),
            "bytes_weights": sum(array.nbytes for array in model.weights.packed),
            "features": {
                name: weights.tables[j].counts.nnz for name, j in zip(self.feature_names, weights.columns, strict=False)
            },
        }

    def _settings(self) -> dict[str, Any]:
        return self.contexts.settings()

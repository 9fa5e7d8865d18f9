"""Counted models made of counts, and made into other models: of back-off, ARPA files, pruned ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from numpy.typing import ArrayLike

from saffu.ngram_lm import arpa, backoff, context_selection, growth
from saffu.ngram_lm.backoff_lm import BackoffLM
from saffu.ngram_lm.counted_model import CountedModel
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.pruning import Target, prune
from saffu.ngram_lm.text_counts import TextCounts, counted_text
from saffu.ngram_lm.text_sample import TokenSample
from saffu.text import LINE_END_ID
from saffu.utils.nested import nested


class ConvertibleModel(CountedModel):
    """A counted model that is made of counts, and can be made into other models."""

    @classmethod
    def from_counts(
        cls,
        counts: NgramCounts,
        *,
        sample: TokenSample,
        end: ArrayLike = (),
        radius: int | None = None,
        windows: Sequence[int] = (60, 500, 2000),
        induction: int = 2000,
        priming: str = "k-fold",
        n_threads: int | None = None,
    ) -> Self:
        """A model of text that was counted before: by another model, or by many machines (:mod:`saffu.dask`).

        It equals, to the bit, one fitted to all of that text; weights and scalars are made when they are first needed.

        Parameters
        ----------
        counts : NgramCounts
            Their order is that of the model. They are shared, not copied.
        sample : TokenSample
            Sample of the text that was counted, to prime on: ``model.counted.sample``.
        end : array_like of int
            Last tokens of the document that the next text may continue, ``model.counted.end``; without them the next
            text begins a document.
        radius : int, optional
            By default that of the counts. With ``priming="kneser-ney"`` these have a radius of one whatever it is.
        windows, induction, priming, n_threads
            As in :class:`saffu.ExplicitLM`. Contexts that begin with ``<s>`` are longer with ``"kneser-ney"``, which so
            takes other counts than the rest.

        Raises
        ------
        ValueError, TypeError
            If the counts are not those of a model of these settings, are of no text, or do not fit the sample.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3).fit([0, 1, 2] * 50)
        >>> other = saffu.ExplicitLM.from_counts(model.counts, sample=model.counted.sample, windows=(20,))
        >>> other.n_tokens, other.windows
        (150, (20,))
        """
        found = TextCounts(counts, sample, end)
        counted = counted_text(found, radius, windows=windows, induction=induction, priming=priming)
        model = cls(**counted.contexts.settings(), n_threads=n_threads)
        model._start_afresh(n_threads, counted)
        return model

    # ---- with more contexts ------------------------------------------------------------------------------------------

    def grow(
        self,
        ids: ArrayLike | None = None,
        *,
        documents: ArrayLike | None = None,
        progress: bool | None = None,
        radius: int | None = None,
        order: int | None = None,
        windows: Sequence[int] | None = None,
        induction: int | None = None,
    ) -> Self:
        """A model with more contexts: the same function, or, primed on text, a better one.

        New tables are counted of all text and enter with a scalar of zero. With ``ids`` all scalars are then primed.

        Parameters
        ----------
        ids, documents : optional
            The text that the model has counted. Without it the model counts the sample that it keeps, which is the
            whole text up to two million tokens.
        progress : bool, optional
            As in :meth:`fit`.
        radius, order : int, optional
            At least what they are.
        windows : sequence of int, optional
            Those there are, and more.
        induction : int, optional
            The length of the window, where there is none yet.

        Returns
        -------
        ExplicitLM
            This model stays as it is. ``growth`` records what was added and, with ``ids``, the criterion of priming
            before and after, nats per token: scalars that would make it higher are not taken.

        Raises
        ------
        ValueError, TypeError
            If a setting is smaller than what there is, the text is needed and not that which was counted, or the model
            is one of Kneser-Ney or back-off, whose counts depend on the order.

        Examples
        --------
        >>> import numpy as np
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> larger = model.grow(order=4, windows=(20,))
        >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2])))
        True
        """
        self.solution.primed_scalars()
        contexts = growth.larger(self.contexts, radius, order, windows, induction)
        grown = type(self)(**contexts.settings(), n_threads=self.n_threads)
        growth.fill(grown, self, ids, documents, progress)
        grown.vocabulary = self.vocabulary
        return grown

    def select(self, *, progress: bool | None = None) -> Self:
        """A model with those of its contexts of ``skips``, ``words`` and ``line_ends`` that pay on the training folds.

        A context stays if it lowers the criterion of priming by more than its scalars would by chance. The others go,
        the least first, and the scalars are primed anew. Nothing is counted again.

        Parameters
        ----------
        progress : bool, optional
            As in :meth:`fit`.

        Returns
        -------
        CountedModel
            Of the same class; this model stays as it is. ``growth`` records what each context was worth, nats per
            token of blocks that are left out of the counts, when it was looked at last.

        Raises
        ------
        ValueError
            If the model has seen no text.

        Notes
        -----
        See :mod:`saffu.ngram_lm.context_selection`.

        Examples
        --------
        >>> import numpy as np
        >>> import saffu
        >>> ids = np.random.default_rng(0).integers(0, 5, 3000)  # of which nothing can be known
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0, line_ends=[1]).fit(ids)
        >>> model.select().contexts.keys.line_ends
        ()
        """
        choice = context_selection.choose(self.solution)
        contexts = replace(self.contexts, keys=choice.keys)
        model = type(self)(**contexts.settings(), n_threads=self.n_threads)
        model.limits = self.limits
        model._start_afresh(self.n_threads, self.counted.with_contexts(contexts))
        model.seconds.update(self.seconds)
        model.vocabulary, model.growth = self.vocabulary, [dict(record) for record in self.growth]
        if choice.gains:
            model.growth.append({"kind": "selection", "gains": choice.gains})
        if choice.keys == self.contexts.keys:
            solution = model.solution
            solution.take(self.solution.solved()[0].weights, self.solution.bounds, self.solution.primed_scalars())
            solution.share = self.solution.share
            return model
        return model.prime(progress=progress)

    # ---- as a back-off model -----------------------------------------------------------------------------------------

    @property
    def is_backoff(self) -> bool:
        """Whether the model is one of back-off: suffixes only, and scalars that do not vary by state."""
        return self._no_backoff is None

    @property
    def _no_backoff(self) -> str | None:
        """Why the model is not one of back-off; None if it is."""
        if self.contexts.floor:
            return "has a floor"
        others = [name for name in self.contexts.names[1:] if not name.startswith("suffix")]
        if others:
            return f"has a context of {others[0]}"
        return "has scalars that vary by state" if len(self.solution.primed_scalars()) > 1 else None

    def to_backoff(self) -> BackoffLM:
        """The same function as n-grams with probabilities, quicker to ask and without counts.

        Raises
        ------
        ValueError
            If the model is none of back-off, has no vocabulary, or has seen no text. Those of back-off have
            ``priming="kneser-ney"`` or ``"backoff"``; or ``"unit"`` with ``radius=1, windows=(), induction=0``.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, priming="backoff").fit([2, 3, 1] * 50)
        >>> model.vocabulary = saffu.text.Vocabulary(["a", "b"])
        >>> model.to_backoff()
        BackoffLM(order=3, vocab_size=4)
        """
        model, scalars = self.solution.solved()
        why = self._no_backoff
        if why:
            raise ValueError(f"the model must be one of back-off, such as priming='backoff', but {self} {why}")
        if self.vocabulary is None:
            raise ValueError("the model must have a vocabulary, which names its types; set its attribute vocabulary")
        types = list(self.vocabulary.types)
        types[LINE_END_ID] = arpa.END
        return BackoffLM(types, tables=backoff.of_pooled(model, scalars), n_threads=self.n_threads)

    def to_arpa(self, path: str | os.PathLike[str], *, progress: bool | None = None) -> None:
        r"""Write the model as an ARPA file, which KenLM, SRILM and others read.

        The type ``<eos>`` becomes ``</s>``, and the start of a document ``<s>``. Train with each sentence a document of
        its own, with ``<eos>`` at its end, as a :class:`saffu.text.Corpus` with ``documents="line"`` reads them: then a
        sentence has here the probability that it has there.

        Parameters
        ----------
        path : str or path
            A name that ends with ``.gz`` is compressed. An existing file is replaced only when this is whole.
        progress : bool, optional
            As in :meth:`fit`.

        Raises
        ------
        ValueError
            If the model is none of back-off, see :meth:`to_backoff`, or a type holds white space.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import pathlib, tempfile, saffu
        >>> model = saffu.ExplicitLM(order=2, priming="kneser-ney").fit([2, 1, 2, 1], documents=[0, 2])
        >>> model.vocabulary = saffu.text.Vocabulary(["a"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "small.arpa")
        ...     model.to_arpa(path)
        ...     text = path.read_text()
        >>> text.split()[:5]
        ['\\data\\', 'ngram', '1=4', 'ngram', '2=2']
        """
        self.to_backoff().to_arpa(path, progress=progress)

    # ---- pruning -----------------------------------------------------------------------------------------------------

    def pruned(
        self,
        *,
        max_loss: float | None = None,
        target_size: int | None = None,
        threshold: float | None = None,
        progress: bool | None = None,
    ) -> Self:
        """A smaller and faster model that has lost little: without the entries that carry least.

        The entries that are left keep their probabilities in their rows, which still sum to one. Weights are rounded to
        multiples of a step that follows from the loss, 1/16 for half a percent, so that the file is small. Scalars are
        primed anew, and the loss is measured with rounded weights. The counts are gone: the result answers, generates
        and is saved, but neither learns nor forgets; what needs counts raises ValueError. :meth:`fit` forgets
        everything and makes an exact model again.

        Parameters
        ----------
        max_loss : float, optional
            By which share perplexity may rise at most, on blocks of the training text that are left out of the counts
            in turn. By default 0.005, if nothing else is given.
        target_size : int, optional
            Bytes that the file may have at most.
        threshold : float, optional
            Nats per token that all entries together would be worth if each carried just enough to be kept. With 0 all
            stay, and weights are rounded to float32.
        progress : bool, optional
            As in :meth:`fit`.

        Returns
        -------
        CountedModel
            Of the same class; this model stays as it is. ``pruning`` has the threshold, the loss that was measured, the
            criterion of priming before and after, nats per token, and the numbers of entries.

        Raises
        ------
        ValueError, TypeError
            If more than one target is given, the size cannot be reached, the text is too short to measure a loss on, or
            the model is a pruned one or has a floor.

        Notes
        -----
        Stolcke 1998, adapted to rows that are pooled: see :mod:`saffu.ngram_lm.row_pruning`, and for the step
        :mod:`saffu.ngram_lm.pruned_text`.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> small = model.pruned(max_loss=0.01)
        >>> small.summary()["n_entries"] < model.summary()["n_entries"], small.pruning["loss"] <= 0.01
        (True, True)
        """
        if self.contexts.keys:
            raise ValueError("a model with skips, words or line_ends cannot be pruned; fit one without")
        if self.contexts.floor:
            raise ValueError("a model with a floor cannot be pruned, as it is made of all counts; fit one without")
        target = Target.of(max_loss, target_size, threshold)
        words = 0 if self.vocabulary is None else sum(a.nbytes for a in nested(self.vocabulary, "")[0].values())
        found = prune(self.counted, self.solution, target, words, progress)
        smaller = type(self)(**self._settings(), n_threads=self.n_threads)
        smaller._start_afresh(self.n_threads, found.text)
        smaller.solution.take(found.text.weights, found.bounds, found.scalars)
        smaller.seconds.update(self.seconds)
        smaller.vocabulary, smaller.growth = self.vocabulary, [dict(record) for record in self.growth]
        return smaller

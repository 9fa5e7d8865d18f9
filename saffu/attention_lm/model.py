"""SaffuLM: a compact language model of self-attentive feed-forward units, alone or on top of an explicit one."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike

from saffu.attention_lm import backprop, growth, online
from saffu.attention_lm.network_model import NetworkModel
from saffu.attention_lm.residual import new_text
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solver import fit_shared
from saffu.utils import checkpoint, fingerprints, validate
from saffu.utils.initializers import Init
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread, resolve_threads


@checkpoint.register("saffu-lm")
class SaffuLM(NetworkModel):
    """Language model of self-attentive feed-forward units, solved explicitly.

    Each unit compares the newest token with those of its context, attends to them, and finds which of its hidden units
    the context belongs to; all hidden states, side by side, give the logits of the next token::

        s = x_head X^T    a = softmax(s W + w)    z = a X    h = softmax(z U + u)    logits = [h_1 .. h_n] O + o

    Parameters
    ----------
    bits : int
        Width of the embeddings: classes of tokens, which start as the bits of their bit-cipher codes.
    contexts : sequence of {"block", "radial", "document"}
        What there are units for: the tokens of the present block, the last tokens, the document so far.
    block, radius : int
        Tokens that a block has, and how many of the last ones are seen; K of their attention.
    heads : int
        Units of each context and layer, the document's excepted, which has one in the first layer.
    layers : int
        Layers above the first see the hidden states of the positions in their contexts.
    hidden : int
        Hidden units of each head.
    residual : ExplicitLM, optional
        The residual base: a model of the same vocabulary whose logits are added. It has counted the text given to
        :meth:`fit`, or is fitted on it there.
    words : int
        With a residual: so many of the most frequent words have output weights of their own. The others share those
        of their classes, and keep the proportions that the residual gives them.
    span : int
        How far back the document context reaches, tokens.
    attention : {"responsibilities", "gradient", "uniform"}
        How attention is solved: by which tokens explain the next word, from there on by what each would do for the
        softmax over the words, or not at all.
    min_count : int
        With a residual: words that the text holds fewer times elsewhere are read as ``<unk>`` in training, as they
        would be in new text. That of the vocabulary.
    seed : int
        Of the positions that the solution is made on.
    n_threads : int, optional
        By default every available CPU. Results do not depend on it.

    Attributes
    ----------
    history : list of dict or None
        Records of the refinement; None as long as the weights follow from counts.
    growth : list of dict
        What was added by :meth:`grow`, and the losses before and after.
    attention_losses : list of float
        Loss of the rounds of explicit attention, nats per token; it never rises.
    vocabulary : saffu.text.Vocabulary or None
        Saved with the model if set; ValueError if it has another size than the model.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range or of the wrong type.

    Notes
    -----
    Units: arXiv 2311.07510. Kernels ``saffu_attend``, ``saffu_softmax``, ``saffu_cross_entropy_backward``.

    Any number of threads may read a model at once: score, draw, save, or ask for attributes; each has sessions of its
    own. One that changes it, by ``fit``, ``update`` or ``subtract``, must be alone.

    Examples
    --------
    >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
    >>> int(model.distribution([0, 1]).argmax())
    2
    """

    # ---- from text ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Solve every piece from the bottom up, then fit a scalar for each unit; return the model.

        A model that has grown begins anew, with the units of its settings.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids in [0, vocab_size); faster if frequent tokens have small ids.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start. No context reaches over one.
        vocab_size : int, optional
            V; by default that of the vocabulary or of the residual, or the largest id plus one.
        progress : bool, optional
            Whether to show a bar on a terminal.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent, or the residual has another vocabulary or was made of
            another text.

        Examples
        --------
        >>> SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2, 0], documents=[0, 2], vocab_size=5).vocab_size
        5
        """
        size = self._checked_size(vocab_size)
        stream = TokenStream.of(ids, documents, size)
        size = size or int(stream.ids.max(initial=0)) + 1
        return fit_shared(self, SharedCounts(stream, size, resolve_threads(self.n_threads)), progress=progress)

    def update(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Learn new documents, in time proportional to their text and one pass over the output weights.

        The old text is not needed. Hidden layers and attention stay. The embeddings of the tokens in the text get their
        expected counts there, as one round of explicit attention would; counts of words are exact, and counts of hidden
        states and words are added to those that the output was solved of. The output moves by the change of the
        logarithms of its counts, also in a refined model. The residual learns the text, too
        (:meth:`ExplicitLM.update`, which is exact).

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids below ``vocab_size``; whole documents.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; the first starts at 0.
        prime : bool
            Fit the scalars of the units, too: on the new text as it is predicted before it is learned, held by the
            curvature of what they were fitted on before. The residual fits its own on all its text.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or the model was not fitted.

        Notes
        -----
        Other models on the same residual see it change.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50, vocab_size=4)
        >>> int(model.update([0, 1, 3] * 200).distribution([0, 1]).argmax())
        3
        """
        stream = self._stream(ids, documents)
        if stream.ids.size:
            with one_blas_thread():
                self._solution = online.learned(self._network, self._fitted, new_text(self, stream), prime)
            if self._documents is not None:
                self._documents = self._documents.plus(fingerprints.of_documents(stream))
            if self.residual is not None:
                self.residual.update(stream.ids, documents=stream.starts, prime=prime)
        return self

    def subtract(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Forget documents learned before, in time proportional to their text; scalars of units stay as they are.

        It undoes an update to rounding if it is the last one; an earlier one, except for what the model expected of
        hidden states, which is taken as it is now. Counts of words are exact always, as is the residual. Text that the
        model was fitted on can be forgotten, too, but what the hidden layers made of it stays.

        Each document is known by a fingerprint of 64 bits, and what was not learned as a whole document is refused. A
        model without a residual from a file of an older version refuses only what its counts do not hold.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Whole documents, first token to last.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; the first starts at 0.
        prime : bool
            Prime the residual on the text that it keeps. The scalars of units cannot be fitted anew: their text is not
            kept.

        Raises
        ------
        ValueError, TypeError
            If these documents were never learned; the model is unchanged then.
        NotImplementedError
            If there is no residual to prime.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50, vocab_size=4)
        >>> before = model.perplexity([0, 1, 2])
        >>> round(model.update([3, 1, 3] * 9).subtract([3, 1, 3] * 9).perplexity([0, 1, 2]) / before, 3)
        1.0
        """
        if prime and self.residual is None:
            self._cannot("prime after it has forgotten text", "subtract without prime, or fit it on what is to stay")
        stream = self._stream(ids, documents)
        if stream.ids.size:
            solution, keys = self._fitted, fingerprints.of_documents(stream)
            online.check_counted(solution.output, stream)
            if self._documents is not None and not self._documents.holds(keys):
                raise ValueError("documents to forget must have been learned before, and be given whole")
            if self.residual is not None:
                self.residual.subtract(stream.ids, documents=stream.starts, prime=prime)
            with one_blas_thread():
                self._solution = online.unlearned(self._network, solution, new_text(self, stream))
            if self._documents is not None:
                self._documents = self._documents.plus(keys, -1)
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
        **options: Any,
    ) -> Self:
        """Improve the model by backpropagation from where counting ended; return another one.

        Parameters
        ----------
        ids, documents
            Text; with a residual, the text that it has counted: its logits are those of models that have not counted
            the text around each position.
        epochs : int
            Passes over the text.
        validation : (ids, documents), optional
            Other text to choose the best epoch by.
        seed : int
            Of the order of the segments, and of the dropout.
        progress : bool, optional
            Whether to show a bar on a terminal.
        **options
            ``freeze_embeddings`` (True): leave the embeddings as they are, so that comparisons are read from a cache;
            ``thaw_after``: after so many epochs they move too, at a tenth of the rate of the units; ``batch_tokens``
            (512): positions in a step, rounded to whole segments of 32; and, as for :func:`saffu.refine`,
            ``learning_rate`` (0.003: that of the output, units and embeddings move at ten times it), ``dropout`` (of
            hidden units), ``patience``, ``callback``, ``checkpoint`` (that of the epochs after the thaw ends in
            ``.thawed``) and ``soften``.

        Returns
        -------
        SaffuLM
            A refined model; this one stays as it is. Its ``interrupted`` is whether Ctrl-C ended it before its time.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> [record["epoch"] for record in model.refine([0, 1, 2] * 50, epochs=2).history]
        [0, 1, 2]
        """
        options = {**options, "validation": validation, "seed": seed, "progress": progress}
        return backprop.refined(self, self._stream(ids, documents), epochs, options)

    def grow(
        self,
        ids: ArrayLike | None = None,
        *,
        documents: ArrayLike | None = None,
        init: Init = "normal",
        seed: int = 0,
        progress: bool | None = None,
        **sizes: Any,
    ) -> Self:
        """A larger model: the same function, or, solved on text, a better one.

        What is new are units in the highest layer, or in layers above it: one of each new length, one of each context
        for more hidden units, and so on. Their output weights are zero. With text they are solved by counting how far
        the model as it is misses the words, and enter with a scalar of their own, fitted on positions that the counts
        leave out.

        Parameters
        ----------
        ids, documents : optional
            Text to solve the new units on, as in :meth:`fit`; with a residual, the text that it has counted.
        init : {"normal", "zeros"} or callable
            Free new numbers without text: normal, of standard deviation 1 / sqrt(inputs), and biases zero; zero, where
            no gradient can tell hidden units apart; or what ``init(name, shape)`` makes.
        seed : int
            Of normal new numbers.
        progress : bool, optional
            Whether to show a bar on a terminal.
        **sizes
            What the model is to have, at least what it has: ``block``, ``radius``, ``heads``, ``layers``, ``hidden``;
            ``contexts``, those there are and more (a document can be added to models of one layer only); ``bits``, 2,
            4, 8 ... times what there is: each class becomes as many equal ones, whose weights move apart by what
            ``init`` gives, at most by half, whatever the text.

        Returns
        -------
        SaffuLM
            This model stays as it is. Its ``growth`` lists what was added and, with text, the mean loss on up to 400
            of its segments before and after, nats per token: new units that would make it higher stay silent.

        Raises
        ------
        ValueError, TypeError
            If a setting is smaller than what there is, unknown, or cannot be added.

        Notes
        -----
        Zero output weights: Gesmundo and Maile, arXiv 2308.06103, definition 3.2, for units in place of heads.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> larger = model.grow(radius=4, hidden=8)
        >>> round(larger.perplexity([0, 1, 2]) / model.perplexity([0, 1, 2]), 6)
        1.0
        """
        wanted = growth.checked_sizes(sizes)
        stream = None if ids is None else self._stream(ids, documents)
        return growth.grown(self, wanted, stream, init, validate.integer(seed, "seed", 0), progress)

    def random_start(self, *, scale: str | float = "glorot", seed: int = 0) -> Self:
        """A model of the same architecture with random weights, to compare a solved one with.

        The output bias is that of the unigram, or zero on a residual: nobody starts a language model without it. See
        :func:`saffu.random_start`.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> model.random_start().perplexity([0, 1, 2]) > model.perplexity([0, 1, 2])
        True
        """
        return backprop.random_start(self, scale, seed)

"""ExplicitLM: a language model solved by counting, taking logarithms and fitting a handful of scalars."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm import serialization
from saffu.ngram_lm.contexts import PRIMINGS, Contexts
from saffu.ngram_lm.conversion import ConvertibleModel
from saffu.ngram_lm.counting_limits import CountingLimits
from saffu.ngram_lm.keyed_contexts import KeyedContexts
from saffu.text import ModelVocabulary, Vocabulary
from saffu.utils import checkpoint
from saffu.utils.arrays import Array
from saffu.utils.nested import from_nested, nested
from saffu.utils.streams import TokenStream

__all__ = ["PRIMINGS", "ExplicitLM"]


@checkpoint.register("explicit-lm")
class ExplicitLM(ConvertibleModel):
    """Language model whose weights are logarithms of discounted counts.

    The next word w has logits ``alpha log p(w) + beta log p_cont(w) + sum_f lambda_f u_f(c_f, w)`` with
    ``u(c, w) = log(1 + (n(c, w) - D(n)) / (m(c) q_c(w)))``: zero for every pair not seen, so that the weights are as
    sparse as the counts, and the softmax is exact at the cost of the seen words. Contexts c_f are the tokens at
    distances 1..radius, the suffixes of 2..order-1 tokens, the words of the last tokens of the document (windows),
    and what followed earlier occurrences of the newest token (induction). The first token of a document is preceded by
    a start token ``<s>``, which is the context at distance 1 of that token, in Kneser-Ney also the oldest token of
    suffixes, and is never predicted. To *prime* a model is to fit the scalars alpha, beta and lambda.

    Parameters
    ----------
    radius : int
        Distances 1..radius have a context each; at most 256.
    order : int
        Suffixes of up to order - 1 tokens have a context each; from 2 to 32.
    windows : sequence of int
        Lengths of the document windows, tokens; at most 64 of up to 2^24 tokens.
    induction : int
        Length of the induction window, tokens, at most 2^24; 0 for none.
    priming : {"k-fold", "leave-one-out", "kneser-ney", "unit", "backoff"}
        How the scalars are set. "k-fold" and "leave-one-out" fit them on the training text; with "kneser-ney" the
        model *is* modified interpolated Kneser-Ney of that order as SRILM and KenLM count it: continuation counts below
        the top, but for what begins with ``<s>``; no other contexts; unigrams are not discounted. "unit" sets alpha and
        every lambda to one, beta to zero. "backoff" starts from Kneser-Ney, fits one scalar for each suffix on the
        training text, and stays a back-off model, which :meth:`to_arpa` writes.
    floor : {"kneser-ney"}, optional
        Mix Kneser-Ney from the same counts into the probabilities, with a share that is fitted; with "k-fold" alone.
        Lowers perplexity by about 1 %; weights of suffixes take twice the memory.
    skips : sequence of pair of int
        ((1, 3), (2, 3)): the first and the third token before the next one are a context, and so are the second and
        the third. Lowers the perplexity of words by about 0.7 %. With "k-fold" alone, as are those that follow.
    words : int
        1: the tokens of the present word so far are a context, whatever their number up to 24; 2: so are these after
        the word before; and so on. For models of characters, whose perplexity 2 lowers by about 2 %.
    delimiters : sequence of int
        Ids after which a word begins: white space and punctuation.
    line_ends : sequence of int
        Ids after which a line begins. If there are any, the number of tokens since then, up to 80, is a context.
    n_threads : int, optional
        By default every available CPU. Results do not depend on it.
    memory_limit : int or str, optional
        Bytes, or a size such as "2G", that counting and priming may take, about; counts beyond it go to disk and stay
        there. Results do not depend on it.
    min_entry : sequence of int
        (1, 1, 2) drops n-grams of three tokens and more that occur less than twice, and so on for each length; a pair
        at any distance is one of two tokens. Discounts and the sums of rows stay those of all counts: what is dropped
        goes to the shorter contexts. What is saved cannot be counted on.
    spill_folder : str or path, optional
        Where counts go beyond the limit; by default the place of temporary files.

    Attributes
    ----------
    vocab_size, n_tokens : int
    scalars : dict of str to list of float
    seconds : dict of str to float, spent to "count", "weigh" and "prime" so far
    vocabulary : saffu.text.Vocabulary or None
        Saved with the model if set; ValueError if it has another size than the model.

    Notes
    -----
    Discounts: Chen and Goodman 1998. Explicit solution: Williams and Zhao, arXiv 2311.07498. Kernels:
    ``saffu_count_rows``, ``saffu_weigh``, ``saffu_pool_log_prob``, ``saffu_pool_logits``, ``saffu_pool_derivatives``.

    Any number of threads may read a model at once: score, draw, save, or ask for attributes. One that changes it, by
    ``fit``, ``partial_fit``, ``update``, ``subtract``, ``merge`` or ``prime``, must be alone.

    Examples
    --------
    >>> model = ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
    >>> int(model.distribution([0, 1]).argmax())
    2
    """

    _can_be_mapped = True

    def __init__(
        self,
        radius: int = 5,
        *,
        order: int = 4,
        windows: Sequence[int] = (60, 500, 2000),
        induction: int = 2000,
        priming: str = "k-fold",
        floor: str | None = None,
        skips: Sequence[tuple[int, int]] = (),
        words: int = 0,
        delimiters: ArrayLike = (),
        line_ends: ArrayLike = (),
        n_threads: int | None = None,
        memory_limit: int | str | None = None,
        min_entry: Sequence[int] = (),
        spill_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        keys = KeyedContexts.of(skips, words, delimiters, line_ends)
        contexts = Contexts.of(radius, order, windows, induction, priming, floor, keys)
        super().__init__(contexts, n_threads, CountingLimits.of(contexts, memory_limit, min_entry, spill_folder))
        self.vocabulary = None

    # ---- counting ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Forget everything, then count, weigh and prime.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids in [0, vocab_size); faster if frequent tokens have small ids.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start. No context reaches over one, and what a document starts with is
            learned: give them if the text has any.
        vocab_size : int, optional
            V; by default the largest id plus one.
        progress : bool, optional
            Show a bar on a terminal; by default for work longer than half a second.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent.
        """
        self._start_afresh(self.n_threads)
        if np.size(ids) == 0:
            raise ValueError("ids must hold at least one token, got none")
        self._count(ids, documents, vocab_size, progress)
        return self.prime(progress=progress)

    def partial_fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Count the next chunk of the stream; weights and scalars are renewed when next needed.

        A chunk without a document start at 0 continues the document before. Counts do not depend on how the stream is
        cut into chunks: small ones are kept, up to eight million tokens, and counted together. The first chunk fixes
        ``vocab_size``. Parameters and errors as in :meth:`fit`.

        Examples
        --------
        >>> model = ExplicitLM().partial_fit([0, 1, 2], vocab_size=3).partial_fit([0, 1, 2], documents=[1])
        >>> model.n_tokens, model.counts.distance[0].toarray()[2].tolist()
        (6, [1, 0, 0])
        """
        if self._count(ids, documents, vocab_size, progress, wait=True):
            self.solution.counts_changed(drop_scalars=True)
        return self

    def update(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Learn on the spot: take new text into account, in time proportional to that text.

        From here on the model equals, to the bit, one that has counted all text in one go and weighed it with the
        scalars of this one. The scalars alone are left to :meth:`prime`; once that is called the model is the same as
        one fitted to everything.

        Nothing is weighed here. A position that is scored next has its own rows summed and weighed then; when so many
        have been asked for that weighing all rows would have been cheaper, that is done instead, to the same bits. The
        time of an update is that of counting ``ids``, of one pass over the vocabulary for each table, and, on the
        average, of merging the new counts into older ones, a logarithm of the corpus times. With a floor, or
        ``priming="kneser-ney"`` or ``"backoff"``, the next answer weighs everything: numbers of types do not add up.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids below ``vocab_size``, which the first text of a model sets.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; without one at 0 the document before goes on.
        prime : bool
            Prime, too, on a sample of all text, in time proportional to everything. A model that was never primed is
            primed when it first answers.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers.

        Examples
        --------
        >>> model = ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50, vocab_size=4)
        >>> int(model.update([0, 1, 3] * 90, documents=[0]).distribution([0, 1]).argmax())
        3
        """
        if self._count(ids, documents, None, False, statistics=True):
            self.solution.counts_changed()
        return self.prime() if prime else self

    def subtract(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Forget documents counted before: the model equals one that has counted the rest, with the scalars kept.

        In time proportional to the text forgotten. The model knows each document by a fingerprint of 64 bits, and what
        was not counted as a whole document is refused; one that the next text may continue counts as it is by now.
        :meth:`prime` then makes the model the same as one fitted to the rest, unless text was ever so long (two million
        tokens) that only a part of it is in the sample. If the last document is forgotten, the next text begins one. A
        model from a file of an older version that had counted more than two million tokens knows no documents: it
        refuses only what its counts do not hold.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Whole documents, first token to last.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; the first starts at 0.
        prime : bool
            As in :meth:`update`.

        Raises
        ------
        ValueError, TypeError
            If these documents were never counted; the model is unchanged then.

        Examples
        --------
        >>> model = ExplicitLM().fit([0, 1, 2, 2, 1], documents=[0, 3])
        >>> model.subtract([2, 1]).n_tokens
        3
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        if stream.ids.size == 0:
            return self
        began = time.perf_counter()
        self.counted.subtract(stream, self.n_threads)
        self.solution.counts_changed()
        self.seconds["count"] += time.perf_counter() - began
        return self.prime() if prime else self

    def _count(
        self,
        ids: ArrayLike,
        documents: ArrayLike | None,
        vocab_size: int | None,
        progress: bool | None,
        **how: bool,
    ) -> bool:
        """Take in the next stretch of text, as :meth:`CountedText.append`; whether there was any."""
        vocab_size = ModelVocabulary.size(self.vocabulary, vocab_size)
        stream = self.counted.read(ids, documents, vocab_size)
        began = time.perf_counter()
        self.counted.append(stream, self.n_threads, progress, **how)
        self.seconds["count"] += time.perf_counter() - began
        return stream.ids.size > 0

    def merge(self, other: Self) -> Self:
        """Add the counts of a model of the same shape, as if its text had followed; re-primes when next needed.

        Models of whole documents, merged in any order, equal one that was fitted to all documents at once, scalars and
        all, to the bit. A document of which two models have a part each becomes two: no context reaches over the cut.
        The next text continues the last document of ``other``.

        Raises
        ------
        ValueError, TypeError
            If the models differ in vocabulary, contexts or priming.

        Examples
        --------
        >>> one, other = (ExplicitLM().fit(ids, vocab_size=3) for ids in ([0, 1, 2], [2, 1]))
        >>> one.merge(other).n_tokens
        5
        """
        if not isinstance(other, ExplicitLM):
            raise TypeError(f"other must be an ExplicitLM, got {type(other).__name__}")
        if self._settings() != other._settings():
            raise ValueError(f"models to merge must have equal settings, got {self} and {other}")
        if self.vocabulary is not None and other.vocabulary is not None and self.vocabulary != other.vocabulary:
            raise ValueError("models to merge must have equal vocabularies; train both with one")
        if not other.counted.is_empty:
            ModelVocabulary.size(self.vocabulary, other.vocab_size)
            self.counted.merge(other.counted)
            self.solution.counts_changed(drop_scalars=True)
        return self

    def prime(self, *, progress: bool | None = None) -> Self:
        """Weigh the counts and fit the scalars now, if text has come or gone since that was last done.

        They are fitted by Newton's method on a sample of the text that was counted, and depend on nothing else.

        Parameters
        ----------
        progress : bool, optional
            As in :meth:`fit`.

        Examples
        --------
        >>> model = ExplicitLM(order=3, windows=(), induction=0).partial_fit([0, 1, 2] * 50).prime()
        >>> sorted(model.scalars)[:2]
        ['continuation prior', 'distance 1']
        """
        began = time.perf_counter()
        self.counted.count_waiting(self.n_threads, progress)
        self.seconds["count"] += time.perf_counter() - began
        self.solution.prime(progress)
        return self

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; see :func:`saffu.load`. An existing file is replaced only when this is whole.

        Counts and scalars are stored, weights are made of them again on loading, to the same bits.
        """
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays, metadata = serialization.write(self.counted, self.solution)
        metadata |= {"growth": self.growth, "seconds": self.seconds}
        if self.vocabulary is not None:
            inner, metadata["vocabulary"] = nested(self.vocabulary, "vocabulary.")
            arrays |= inner
        return arrays, metadata

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        settings = {name: metadata[name] for name in serialization.SETTINGS}
        settings |= {name: metadata[name] for name in serialization.LATER_SETTINGS if name in metadata}
        model = checkpoint.parse(cls, **settings)
        counted = serialization.read_counted_text(arrays, metadata, model.contexts)
        model._start_afresh(None, counted)
        model.seconds.update((name, checkpoint.parse(float, metadata["seconds"][name])) for name in model.seconds)
        model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata.get("growth", [])])
        serialization.read_scalars(arrays, metadata, model.solution)
        if "vocabulary" in metadata:
            vocabulary = from_nested(Vocabulary, arrays, "vocabulary.", metadata["vocabulary"])
            checkpoint.parse(setattr, model, "vocabulary", vocabulary)
        return model

"""ExplicitLM: a language model solved by counting, taking logarithms and fitting a handful of scalars."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm import text_sample_files as sample_files
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import Ledger
from saffu.ngram_lm.log_linear import PooledModel, default_scalars, previous_places
from saffu.ngram_lm.priming import FOLDS, Part, criterion, fold_parts, leave_one_out_part, prime
from saffu.ngram_lm.scorer import PooledText
from saffu.ngram_lm.text_sample import Piece, TokenSample
from saffu.ngram_lm.weights import NgramWeights
from saffu.text import ModelVocabulary, Vocabulary
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Float64, Int32, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.locks import Lock, made_once
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

PRIMINGS = ("k-fold", "leave-one-out", "kneser-ney", "unit")
BATCH = 1 << 15  # positions scored at a time
# The largest settings. Every context has a scalar, or several, and the time to fit them grows with their square.
MOST_DISTANCES, MOST_TOKENS, MOST_WINDOWS = 256, 32, 64
# Tokens of all text in which weighing every row costs what the rows of one position do.
TOKENS_PER_POSITION = 512


@checkpoint.register("explicit-lm")
class ExplicitLM(LanguageModel):
    """Language model whose weights are logarithms of discounted counts.

    The next word w has logits ``alpha log p(w) + beta log p_cont(w) + sum_f lambda_f u_f(c_f, w)`` with
    ``u(c, w) = log(1 + (n(c, w) - D(n)) / (m(c) q_c(w)))``: zero for every pair not seen, so that the weights are as
    sparse as the counts, and the softmax is exact at the cost of the seen words. Contexts c_f are the tokens at
    distances 1..radius, the suffixes of 2..order-1 tokens, the words of the last tokens of the document (windows),
    and what followed earlier occurrences of the newest token (induction). Before the first token of a document stands a
    start token ``<s>``, which is the context at distance 1 of that token, in Kneser-Ney also the oldest token of
    suffixes, and is never predicted.

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
    priming : {"k-fold", "leave-one-out", "kneser-ney", "unit"}
        How the scalars are set. "k-fold" and "leave-one-out" fit them on the training text; with "kneser-ney" the
        model *is* modified interpolated Kneser-Ney of that order as SRILM and KenLM count it: continuation counts below
        the top, but for what begins with ``<s>``; no other contexts; unigrams are not discounted. "unit" sets alpha and
        every lambda to one, beta to zero.
    n_threads : int, optional
        By default every available CPU. Results do not depend on it.

    Attributes
    ----------
    vocab_size, n_tokens : int
    scalars : dict of str to list of float
    seconds : dict of str to float
        Seconds spent to "count", "weigh" and "prime" so far.
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

    vocabulary = ModelVocabulary()

    def __init__(
        self,
        radius: int = 5,
        *,
        order: int = 4,
        windows: Sequence[int] = (60, 500, 2000),
        induction: int = 2000,
        priming: str = "k-fold",
        n_threads: int | None = None,
    ) -> None:
        self.radius = validate.integer(radius, "radius", 1, MOST_DISTANCES)
        self.order = validate.integer(order, "order", 2, MOST_TOKENS)
        self.windows = tuple(validate.integer(w, "windows", 1, validate.LARGEST["window"]) for w in windows)
        if len(self.windows) > MOST_WINDOWS:
            raise ValueError(f"windows must be at most {MOST_WINDOWS}, got {len(self.windows)}")
        self.induction = validate.integer(induction, "induction", 0, validate.LARGEST["window"])
        self.priming = validate.choice(priming, "priming", PRIMINGS)
        self.n_threads = n_threads
        resolve_threads(n_threads)
        self.vocabulary = None
        self.growth: list[dict[str, Any]] = []
        self._lock = Lock()
        self._reset()

    def _reset(self) -> None:
        self._vocab_size: int | None = None
        self._ledger = Ledger()
        self._start_token = True  # files of earlier versions hold counts without it
        self._sample = TokenSample()
        self._tail = np.empty(0, np.int32)  # end of the document that the next chunk may continue
        self._bounds: Float64 | None = None
        self._scalars: Float64 | None = None
        self._stale = False  # whether text has come or gone since the scalars were primed
        self._model: PooledModel | None = None  # of all counts as they are now
        self._asked = 0  # positions whose rows were weighed alone since the counts changed
        self.seconds = {"count": 0.0, "weigh": 0.0, "prime": 0.0}

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
        self._reset()
        if np.size(ids) == 0:
            raise ValueError("ids must hold at least one token, got none")
        self.partial_fit(ids, documents=documents, vocab_size=vocab_size, progress=progress)
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

        A chunk without a document start at 0 continues the document before. Counts do not depend on how the
        stream is cut into chunks. The first chunk fixes ``vocab_size``. Parameters as in :meth:`fit`.
        """
        if vocab_size is not None:
            vocab_size = validate.size(vocab_size, "vocab_size")
            if self._vocab_size not in (None, vocab_size):
                raise ValueError(f"vocab_size must stay {self._vocab_size}, as counted so far, got {vocab_size}")
        counts = self._count(ids, vocab_size, documents, progress)
        if counts is not None:
            self._ledger.push(counts)
            self._scalars = self._bounds = None
        return self

    def update(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Learn on the spot: take new text into account, in time proportional to that text.

        From here on the model equals, to the bit, one that has counted everything heard in one go and weighed it with
        the scalars of this one: counts, discounts, unigram and lower orders are all those of the whole. What it leaves
        to :meth:`prime` are the scalars alone; once that is called the model is the same as one fitted to everything.

        Nothing is weighed here. A position that is scored next has its own rows summed and weighed on the spot; when
        so many have been asked for that weighing all rows would have been cheaper, that is done instead, to the same
        bits. The time of an update is that of counting ``ids``, of one pass over the vocabulary for each table, and, on
        the average, of merging the new counts into older ones, a logarithm of the corpus times. With
        ``priming="kneser-ney"`` the update is as quick, but the next answer weighs everything: it rests on types, not
        tokens, and these do not add up.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids below ``vocab_size``, which the first text of a model sets.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; without one at 0 the document before goes on.
        prime : bool
            Prime the scalars anew, too, on a sample of all text that the new text has entered: as :meth:`prime`, in
            time proportional to everything. A model that was never primed is primed when it first answers.

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
        counts = self._count(ids, None, documents)
        if counts is not None:
            self._ledger.add(counts)
            self._stale = True
        return self.prime() if prime else self

    def subtract(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Forget documents heard before: the model equals one that has counted the rest, with the scalars kept.

        In time proportional to the text forgotten. The model knows each document by a fingerprint of 64 bits, and what
        was not heard as a whole document is refused; a document that the next text may continue counts as it is by now.
        :meth:`prime` then makes the model the same as one fitted to the rest, unless text was ever so long (two million
        tokens) that only a part of it is in the sample. If the last document heard is forgotten, the next text begins
        one. A model from a file of an older version that had heard more than two million tokens knows no documents: it
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
            If these documents were never heard; the model is unchanged then.
        """
        ids = validate.token_ids(ids, "ids", self.vocab_size)
        starts = validate.document_starts(documents, ids.size)
        if ids.size == 0:
            return self
        began = time.perf_counter()
        sample = self._sample.without(ids, starts)
        self._ledger.subtract(self._empty_counts().of_stream(ids, starts, n_threads=self.n_threads))
        self._sample = sample
        if sample.open is None:
            self._tail = self._tail[:0]
        self._changed()
        self._stale = True
        self.seconds["count"] += time.perf_counter() - began
        return self.prime() if prime else self

    def _count(
        self, ids: ArrayLike, vocab_size: int | None, documents: ArrayLike | None, progress: bool | None = False
    ) -> NgramCounts | None:
        """Counts of the next chunk of the stream, which the sample takes in; None if it is empty."""
        vocab_size = ModelVocabulary.size(self.vocabulary, vocab_size)
        ids = validate.token_ids(ids, "ids", self._vocab_size if vocab_size is None else vocab_size)
        starts = validate.document_starts(documents, ids.size, from_zero=self._tail.size == 0)
        if self._vocab_size is None and (ids.size or vocab_size is not None):
            self._vocab_size = int(ids.max()) + 1 if vocab_size is None else vocab_size
        if ids.size == 0:
            return None
        assert self._vocab_size is not None
        began = time.perf_counter()
        continues = starts.size == 0 or starts[0] != 0
        prefix = self._tail if continues else self._tail[:0]
        stream = np.concatenate([prefix, ids])
        stream_starts = np.union1d([0], starts + prefix.size).astype(np.int64)
        radius, order = self._counted
        begins = np.ones(stream_starts.size, bool)
        begins[0] = prefix.size < max(radius, order - 1)  # a longer document has lost its beginning, out of reach
        with progress_bar(radius + order - 2, "count", progress) as bar:
            counts = NgramCounts.from_stream(
                stream,
                stream_starts,
                self._vocab_size,
                radius,
                order,
                prefix.size,
                self.n_threads,
                bar.update,
                begins,
                self._start_length,
            )
        self._sample = self._sample.plus(ids, starts)
        self._tail = stream[max(int(stream_starts[-1]), stream.size - max(radius, order - 1)) :].copy()
        self._changed()
        self.seconds["count"] += time.perf_counter() - began
        return counts

    def _changed(self) -> None:
        self._model, self._asked = None, 0

    @property
    def _counted(self) -> tuple[int, int]:
        """Radius and order of the tables: Kneser-Ney has no use for distances beyond the first."""
        return (1 if self.priming == "kneser-ney" else self.radius), self.order

    def _empty_counts(self) -> NgramCounts:
        assert self._vocab_size is not None
        return NgramCounts(self._vocab_size, *self._counted, self._start_length)

    @property
    def _start_length(self) -> int:
        """Length of the longest contexts that begin with the start token."""
        if not self._start_token:
            return 0
        # Measured: primed suffixes that begin with it lower perplexity by another 0.3 % at most, and documents that are
        # classified by their likelihood are then told apart less well.
        return self.order - 1 if self.priming == "kneser-ney" else 1

    @property
    def counts(self) -> NgramCounts:
        """The counts of everything seen so far."""
        self._check_has_text()
        return self._ledger.total()

    def _check_has_text(self) -> None:
        if not self._ledger.pieces:
            raise ValueError("the model has seen no text yet; call fit, partial_fit or update first")

    def merge(self, other: Self) -> Self:
        """Add the counts of a model of the same shape, as if its text had followed; re-primes when next needed.

        Models of whole documents, merged in any order, equal one that was fitted to all documents at once, scalars and
        all, to the bit. A document of which two models have a part each becomes two: no context reaches over the cut.
        What is heard next continues the last document of ``other``.

        Raises
        ------
        ValueError
            If the models differ in vocabulary size, contexts or priming.
        """
        if not isinstance(other, ExplicitLM):
            raise TypeError(f"other must be an ExplicitLM, got {type(other).__name__}")
        if self._settings() != other._settings():
            raise ValueError(
                f"models to merge must have equal settings, got {self._settings()} and {other._settings()}"
            )
        if self.vocabulary is not None and other.vocabulary is not None and self.vocabulary != other.vocabulary:
            raise ValueError("models to merge must have equal vocabularies; train both with one")
        if other._ledger.pieces:
            if self._vocab_size not in (None, other._vocab_size):
                raise ValueError(f"vocab_size must be equal to merge, got {self._vocab_size} and {other._vocab_size}")
            if self._ledger.pieces and self._start_token != other._start_token:
                raise ValueError(
                    "models to merge must both count the starts of documents, or neither; one of them comes from a "
                    "file of an earlier version, which does not: train it again"
                )
            self._vocab_size = ModelVocabulary.size(self.vocabulary, other._vocab_size)
            self._start_token = other._start_token
            self._ledger.push(other.counts)
            self._sample = self._sample.merge(other._sample)
            self._tail = other._tail.copy()
            self._changed()
            self._scalars = self._bounds = None
        return self

    # ---- growth ------------------------------------------------------------------------------------------------------

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
            This model stays as it is. ``growth`` tells what was added and, with ``ids``, the criterion of priming
            before and after, nats per token: scalars that would make it higher are not taken.

        Raises
        ------
        ValueError, TypeError
            If a setting is smaller than what there is, the text is needed and not that which was counted, or the model
            is one of Kneser-Ney, whose tables depend on the order.

        Examples
        --------
        >>> model = ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> larger = model.grow(order=4, windows=(20,))
        >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2])))
        True
        """
        scalars = self._primed_scalars()
        grown = self._grown_settings(radius, order, windows, induction)
        changed = {name: value for name, value in grown._settings().items() if value != self._settings()[name]}
        grown._vocab_size, grown.vocabulary, grown._bounds = self._vocab_size, self.vocabulary, self._bounds
        grown._start_token = self._start_token
        grown.growth = [dict(record) for record in self.growth]
        grown.seconds = dict(self.seconds)
        grown._ledger, grown._sample, grown._tail = Ledger([self.counts]), self._sample, self._tail
        if grown._counted != self._counted:
            grown._count_again(self.counts, self._whole_text(ids, documents), progress)
        elif ids is not None:
            self._whole_text(ids, documents)  # another text is an error
        grown._scalars, grown._stale = grown._with_silent(self, scalars), self._stale
        if not changed:
            return grown
        record: dict[str, Any] = {"kind": "contexts", **changed}
        if ids is not None:
            record["losses"] = grown._prime_if_better(progress)
        grown.growth.append(record)
        return grown

    def _grown_settings(
        self, radius: int | None, order: int | None, windows: Sequence[int] | None, induction: int | None
    ) -> Self:
        """An empty model of larger settings."""
        if self.priming == "kneser-ney":
            raise ValueError("a model of Kneser-Ney cannot grow: its tables depend on the order; fit another one")
        for name, new in (("radius", radius), ("order", order)):
            if new is not None and validate.integer(new, name, 1) < getattr(self, name):
                raise ValueError(f"{name} must be at least {getattr(self, name)}: a model can grow only, got {new}")
        if windows is not None and (missing := set(self.windows) - set(windows)):
            raise ValueError(f"windows must keep {min(missing)}: a model can grow only")
        if induction not in (None, self.induction) and self.induction:
            raise ValueError(f"induction must stay {self.induction}: its window has one length")
        return type(self)(
            radius=self.radius if radius is None else radius,
            order=self.order if order is None else order,
            windows=self.windows if windows is None else windows,
            induction=self.induction if induction is None else induction,
            priming=self.priming,
            n_threads=self.n_threads,
        )

    def _whole_text(self, ids: ArrayLike | None, documents: ArrayLike | None) -> Piece:
        """All text that was counted, as given or as it was kept."""
        if ids is None:
            if not self._sample.is_whole:
                raise ValueError("ids must be given: new tables are counted of all text, and the model keeps a part")
            return self._sample.whole()
        checked = validate.token_ids(ids, "ids", self.vocab_size)
        if not np.array_equal(np.bincount(checked, minlength=self.vocab_size), self.counts.unigram):
            raise ValueError("ids must be the text that the model has counted, all of it and nothing else")
        text = Piece(checked, validate.document_starts(documents, checked.size))
        if not self._sample.is_all(text):
            raise ValueError("ids must be the text that the model has counted, with the same documents")
        return text

    def _count_again(self, before: NgramCounts, text: Piece, progress: bool | None) -> None:
        """The counts of all text, with the tables that there are not yet."""
        began = time.perf_counter()
        radius, order = self._counted
        assert self._vocab_size is not None
        with progress_bar(radius + order - 2, "count", progress) as bar:
            counts = NgramCounts.from_stream(
                text.ids,
                text.starts,
                self._vocab_size,
                radius,
                order,
                n_threads=self.n_threads,
                on_table=bar.update,
                start_length=self._start_length,
            )
        if any((new != old).nnz for new, old in zip(counts.distance, before.distance, strict=False)):
            raise ValueError("ids must be the text that the model has counted, with the same documents")
        self._ledger = Ledger([counts])
        self._tail = self._sample.end_of_open(text, max(radius, order - 1), self._tail)
        self.seconds["count"] += time.perf_counter() - began

    def _with_silent(self, before: ExplicitLM, scalars: Float64) -> Float64:
        """Scalars of another model under the names of this one's contexts; what it lacks is zero."""
        own = ["prior", "continuation prior", *before._columns]
        found = np.zeros((len(scalars), 2 + len(self._columns)))
        for j, name in enumerate(["prior", "continuation prior", *self._columns]):
            if name in own and not (name == "induction" and not before.induction):
                found[:, j] = scalars[:, own.index(name)]
        return found

    @property
    def _columns(self) -> list[str]:
        """Names of the scalars of contexts: as ``feature_names``, and always with an induction."""
        radius, order = self._counted
        names = [f"distance {k}" for k in range(1, radius + 1)] + [f"suffix {n}" for n in range(2, order)]
        return [*names, *(f"window {length}" for length in self.windows), "induction"]

    def _prime_if_better(self, progress: bool | None) -> list[float]:
        """Prime, unless that makes the criterion higher; the criterion before and after."""
        bounds, scalars = self._bounds, self._primed_scalars()
        counts = self.counts
        model = PooledModel(self._weights(counts), *self._windows)
        with progress_bar(FOLDS + 16, "prime", progress) as bar:
            parts = self._parts(model, counts, bar.update)
            self._bounds, self._scalars = prime(parts, bar.update)
        before, after = criterion(parts, bounds, scalars), criterion(parts, self._bounds, self._scalars)
        if not after <= before:
            self._bounds, self._scalars, after = bounds, scalars, before
        model.bounds = self._bounds
        self._model, self._stale = model, False
        return [before, after]

    # ---- weighing and priming ----------------------------------------------------------------------------------------

    def prime(self, *, progress: bool | None = None) -> Self:
        """Weigh the counts and fit the scalars now, if text has come or gone since that was last done.

        The scalars are what each context is trusted with; they are fitted by Newton's method on a sample of the text
        that was counted, and depend on nothing else.

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
        with self._lock:
            if self._model is None or self._scalars is None or self._stale:
                self._solve(progress)
        return self

    def _solve(self, progress: bool | None) -> None:
        counts, bounds, scalars = self.counts, self._bounds, self._scalars
        began = time.perf_counter()
        weights = self._weights(counts) if self._model is None else self._model.weights
        self.seconds["weigh"] += time.perf_counter() - began
        began = time.perf_counter()
        if scalars is None or self._stale:
            with progress_bar(FOLDS + 16, "prime", progress) as bar:
                bounds, scalars = self._prime(PooledModel(weights, *self._windows), counts, bar.update)
        # Other threads take the scalars as a sign that all is there.
        self._model = PooledModel(weights, *self._windows, bounds)
        self._bounds, self._stale = bounds, False
        self._scalars = scalars
        self.seconds["prime"] += time.perf_counter() - began

    def _weights(self, counts: NgramCounts) -> NgramWeights:
        return NgramWeights(counts, self.priming == "kneser-ney", self.n_threads, self._ledger.statistics)

    @property
    def _windows(self) -> tuple[tuple[int, ...], int]:
        return ((), 0) if self.priming == "kneser-ney" else (self.windows, self.induction)

    def _build(self, counts: NgramCounts) -> PooledModel:
        return PooledModel(NgramWeights(counts, False, self.n_threads), *self._windows)

    def _prime(
        self, model: PooledModel, counts: NgramCounts, advance: Callable[[], object]
    ) -> tuple[Float64 | None, Float64]:
        n_features = len(model.weights.tables) + len(model.windows) + 1
        if self.priming == "kneser-ney":
            return None, np.array([[0.0, 1.0, *[1.0] * n_features]])
        if self.priming == "unit":
            return None, np.array([[1.0, 0.0, *[1.0] * n_features]])
        if self._sample.n_tokens == 0:  # all was forgotten
            return None, default_scalars(self.radius, self.order - 2, len(self.windows))[None]
        return prime(self._parts(model, counts, advance), advance)

    def _parts(self, model: PooledModel, counts: NgramCounts, advance: Callable[[], object]) -> list[Part]:
        """The positions that scalars are primed on."""
        history = max([*self.windows, self.induction, *self._counted])
        if self.priming == "leave-one-out":
            return [leave_one_out_part(model, self._sample, history)]
        return fold_parts(counts, self._sample, self._build, history, self.n_threads, advance)

    def _solved(self) -> tuple[PooledModel, Float64]:
        """All rows weighed, and the scalars: those there are, even if text has come since they were primed."""
        scalars = self._primed_scalars()
        return self._weighed(), scalars

    @made_once("_model")
    def _weighed(self) -> PooledModel:
        began = time.perf_counter()
        model = PooledModel(self._weights(self.counts), *self._windows, self._bounds)
        self.seconds["weigh"] += time.perf_counter() - began
        return model

    @made_once("_scalars")
    def _primed_scalars(self) -> Float64:
        self._solve(progress=False)
        assert self._scalars is not None
        return self._scalars

    def _at(self, ids: Int32, starts: Int64, positions: Int64) -> tuple[PooledModel, Int32]:
        """A model with the rows of these positions at least, and which rows they are, shape (n_tables, n_positions)."""
        # Contexts of suffixes are looked up from their oldest token on; nothing older matters.
        first = max(int(positions.min()) - max(self.radius, self.order - 1), 0)
        near = np.union1d([0], np.maximum(starts - first, 0)).astype(np.int64)
        if self._few(positions.size):
            found = self._ledger.rows(ids[first:], near, positions - first)
            weights = NgramWeights.of_rows(found, self._ledger.statistics, self.n_threads)
            return PooledModel(weights, *self._windows, self._bounds), found.place
        model, _ = self._solved()
        return model, np.ascontiguousarray(model.weights.contexts(ids[first:], near)[:, positions - first])

    def _few(self, n_positions: int) -> bool:
        """Whether it is cheaper to weigh the rows of so many positions alone than to weigh all, now or soon."""
        if self._model is not None or self._scalars is None or self.priming == "kneser-ney":
            return False
        self._asked += n_positions
        return self._asked * TOKENS_PER_POSITION <= self._ledger.n_tokens

    # ---- scoring -----------------------------------------------------------------------------------------------------

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token given what precedes it in its document.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        documents : array_like of int, optional
            As in :meth:`fit`.
        progress : bool, optional
            As in :meth:`fit`.

        Returns
        -------
        ndarray of float64, shape (M,)
            Nats.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or the model has seen no text.

        Examples
        --------
        >>> model = ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> model.log_prob([0, 1, 2]).shape
        (3,)
        """
        ids = validate.token_ids(ids, "ids", self.vocab_size)
        starts = validate.document_starts(documents, ids.size)
        found = np.empty(ids.size)
        if ids.size == 0:
            return found
        model, rows = self._at(ids, starts, np.arange(ids.size))
        scalars = self._primed_scalars()
        pool, threads = model.pool(scalars), resolve_threads(self.n_threads)
        previous = previous_places(ids)
        with progress_bar(ids.size, "score", progress) as bar:
            for first in range(0, ids.size, BATCH):
                positions = np.arange(first, min(first + BATCH, ids.size))
                batch_rows = rows[:, positions]
                batch = model.batch(ids, starts, positions, batch_rows, model.states(batch_rows), None, previous)
                found[positions] = pool.log_prob(batch, threads)
                bar.update(positions.size)
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
        """
        model, scalars = self._solved()
        ids = validate.token_ids(ids, "ids", self.vocab_size, keep=True)
        starts = validate.document_starts(documents, ids.size)
        rows = model.weights.contexts(ids, starts)
        return PooledText(model, scalars, ids, starts, np.arange(ids.size), rows, resolve_threads(self.n_threads))

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
        >>> model = ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> model.log_probs([0, 1], positions=[2, 1]).argmax(axis=1).tolist()
        [2, 1]
        """
        stream = TokenStream.of(ids, documents, self.vocab_size)
        places = stream.places(positions)
        found = np.empty((places.size, self.vocab_size))
        if places.size == 0:
            return found
        ids = np.append(stream.ids, np.int32(0))  # a place for the token that would follow
        starts = stream.starts if stream.starts.size else np.zeros(1, np.int64)
        model, rows = self._at(ids, starts, places)
        batch = model.batch(ids, starts, places, rows, model.states(rows))
        model.pool(self._primed_scalars()).logits(batch, found, resolve_threads(self.n_threads))
        return found

    def unigram_log_prob(self, ids: ArrayLike) -> Float64:
        """Nats per token under the unigram distribution alone."""
        model, _ = self._solved()
        return np.log(model.weights.unigram[validate.token_ids(ids, "ids", self.vocab_size)])

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
        >>> model = ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2] * 50)
        >>> int(model.distribution([0, 1]).argmax())
        2
        """
        context = validate.token_ids(context, "context", self.vocab_size)[-self.history :]
        ids = np.append(context, np.int32(0))  # a place for the token to come
        start = np.zeros(1, np.int64)
        last = np.array([ids.size - 1])
        model, rows = self._at(ids, start, last)
        batch = model.batch(ids, start, last, rows, model.states(rows))
        return model.pool(self._primed_scalars()).distribution(batch, 1)[0]

    @property
    def history(self) -> int:
        """Number of preceding tokens that can matter."""
        return max([*self.windows, self.induction, self.radius, self.order - 1])

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        read = np.asarray(context, np.int32)

        def append(token: int) -> None:
            nonlocal read
            read = np.append(read, np.int32(token))[-self.history :]

        return lambda: self.distribution(read), append

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        self._check_has_text()
        assert self._vocab_size is not None
        return self._vocab_size

    @property
    def n_tokens(self) -> int:
        """Number of tokens counted."""
        return self._ledger.n_tokens

    @property
    def feature_names(self) -> list[str]:
        """Names of the contexts, in the order of the scalars."""
        radius, order = self._counted
        names = [f"distance {k}" for k in range(1, radius + 1)] + [f"suffix {n}" for n in range(2, order)]
        if self.priming != "kneser-ney":
            names += [f"window {length}" for length in self.windows]
            names += [f"induction {self.induction}"] if self.induction else []
        return names

    @property
    def scalars(self) -> dict[str, list[float]]:
        """The scalars of each feature, one per state of the context (from little known to well known)."""
        scalars = self._primed_scalars()
        names = ["prior", "continuation prior", *self.feature_names]
        return {name: column.tolist() for name, column in zip(names, scalars.T, strict=False)}

    def summary(self) -> dict[str, Any]:
        """Sizes, features and bytes."""
        model, scalars = self._solved()
        packed = sum(array.nbytes for array in model.weights.packed)
        return {
            **self._settings(),
            "vocab_size": self.vocab_size,
            "n_tokens": self.n_tokens,
            "n_entries": self.counts.n_entries,
            "n_scalars": scalars.size,
            "growth": self.growth,
            "bytes_weights": packed,
            "features": {
                name: table.counts.nnz for name, table in zip(self.feature_names, model.weights.tables, strict=False)
            },
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "radius": self.radius,
            "order": self.order,
            "windows": list(self.windows),
            "induction": self.induction,
            "priming": self.priming,
        }

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; see :func:`saffu.load`. An existing file is replaced only when this is whole.

        Counts and scalars are stored, weights are made of them again on loading, to the same bits.
        """
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        scalars = self._primed_scalars()
        counts = self.counts
        sample, kept = sample_files.write(self._sample)
        arrays: dict[str, np.ndarray] = {"scalars": scalars, "unigram": counts.unigram, "tail": self._tail, **sample}
        if self._bounds is not None:
            arrays["bounds"] = self._bounds
        for j, table in enumerate([*counts.distance, *counts.suffix]):
            fits = table.nnz == 0 or table.data.max() < 2**31
            arrays[f"table{j}.lengths"] = np.diff(table.indptr).astype(np.int32)
            arrays[f"table{j}.words"] = table.indices
            arrays[f"table{j}.counts"] = table.data.astype(np.int32 if fits else np.int64)
        metadata: dict[str, Any] = {
            **self._settings(),
            "vocab_size": counts.vocab_size,
            "n_tokens": counts.n_tokens,
            "sample": kept,
            "stale": self._stale,
            "start_token": self._start_token,
            "growth": self.growth,
            "seconds": self.seconds,
        }
        if self.vocabulary is not None:
            vocabulary_arrays, metadata["vocabulary"] = self.vocabulary._to_checkpoint()
            arrays |= {f"vocabulary.{name}": array for name, array in vocabulary_arrays.items()}
        return arrays, metadata

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> Self:
        names = ("radius", "order", "windows", "induction", "priming")
        model = checkpoint.parse(cls, **{name: metadata[name] for name in names})
        radius, order = model._counted
        model._start_token = bool(metadata.get("start_token", False))
        model._vocab_size = checkpoint.parse(validate.size, metadata["vocab_size"], "vocab_size")
        # Checked before anything of that size is made.
        unigram = checkpoint.checked(arrays, "unigram", np.int64, (model._vocab_size,))
        counts = model._empty_counts()
        counts.unigram = unigram
        counts.n_tokens = checkpoint.parse(validate.integer, metadata["n_tokens"], "n_tokens", 0)
        if counts.unigram.min() < 0 or counts.unigram.sum() != counts.n_tokens:
            raise checkpoint.Damaged("array 'unigram' is damaged")
        tables: list[csr_array] = []
        for j in range(radius + order - 2):
            n_rows = counts.tables[j].shape[0] if j < radius else (tables[0] if j == radius else tables[-1]).nnz
            tables.append(_read_table(arrays, f"table{j}", n_rows, counts.vocab_size))
        counts.distance, counts.suffix = tables[:radius], tables[radius:]
        model._ledger = Ledger([counts])
        model._stale = bool(metadata.get("stale", False))
        model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata.get("growth", [])])
        model._tail = checkpoint.parse(validate.token_ids, arrays["tail"], "tail", counts.vocab_size)
        model._sample = checkpoint.parse(_read_sample, arrays, metadata, counts, model._tail.size > 0)
        if (model._sample.open is None) != (model._tail.size == 0):
            raise checkpoint.Damaged("the end of the last document is damaged")
        n_features = 2 + radius + order - 2 + 1 + (0 if model.priming == "kneser-ney" else len(model.windows))
        n_levels = min(order - 1, arrays["bounds"].size) if "bounds" in arrays else 0
        model._bounds = checkpoint.checked(arrays, "bounds", np.float64, (n_levels,)) if n_levels else None
        n_states = 1 if model._bounds is None else 2 * n_levels
        model._scalars = checkpoint.checked(arrays, "scalars", np.float64, (n_states, n_features))
        model.seconds = {name: checkpoint.parse(float, metadata["seconds"][name]) for name in model.seconds}
        if "vocabulary" in metadata:
            inner = checkpoint.with_prefix(arrays, "vocabulary.")
            vocabulary = Vocabulary._from_checkpoint(inner, metadata["vocabulary"])
            checkpoint.parse(setattr, model, "vocabulary", vocabulary)
        return model


def _read_table(arrays: dict[str, np.ndarray], name: str, n_rows: int, n_cols: int) -> csr_array:
    """One table, checked so that no kernel can be led out of bounds by a damaged file."""
    lengths = checkpoint.checked(arrays, f"{name}.lengths", np.int32, (n_rows,))
    words = arrays[f"{name}.words"]
    counts = arrays[f"{name}.counts"]
    indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    inner = np.ones(max(words.size - 1, 0), bool)
    inner[indptr[(indptr > 0) & (indptr < words.size)] - 1] = False  # last entry of a row, followed by another row
    sound = (
        words.dtype == np.int32
        and counts.shape == words.shape == (indptr[-1],)
        and (lengths >= 0).all()
        and (words.size == 0 or (words.min() >= 0 and words.max() < n_cols and counts.min() >= 0))
        and (np.diff(words)[inner] > 0).all()
    )
    if not sound:
        raise checkpoint.Damaged(f"table {name!r} is damaged")
    return as_csr(indptr, words, counts.astype(np.int64), (n_rows, n_cols))


def _read_sample(
    arrays: dict[str, np.ndarray], metadata: dict[str, Any], counts: NgramCounts, is_open: bool
) -> TokenSample:
    if "sample_stride" in metadata:
        stride = validate.integer(metadata["sample_stride"], "sample_stride", 1)
        return sample_files.read_older(arrays, stride, counts.vocab_size, counts.n_tokens, is_open)
    return sample_files.read(arrays, metadata["sample"], counts.vocab_size)

"""Logits of training positions as if the text around them had not been counted: what a residual is trained on."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.ngram_lm.counts import NgramCounts, suffix_contexts
from saffu.ngram_lm.log_linear import previous_places
from saffu.ngram_lm.model import ExplicitLM
from saffu.ngram_lm.scorer import PooledText, Real
from saffu.ngram_lm.text_blocks import BLOCK
from saffu.text import UNKNOWN_ID
from saffu.utils import validate
from saffu.utils.arrays import Bools, Float64, Int32, Int64, ranges
from saffu.utils.fingerprints import mixed
from saffu.utils.locks import Lock
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

BLOCKS_A_FOLD = 4  # at least, if the text has as many tokens: a fold is to be spread over the text
MEMORY = 2 << 30  # bytes of weights kept


class HeldOutLogits:
    """Explicit logits of the text that a model was made of, each position by a model that has not counted it.

    The text is cut into blocks of consecutive tokens (8,192, fewer in a small text). Of every ``folds`` consecutive
    blocks each fold has one, by chance, so that no fold falls in with what the text repeats. The model of a fold has
    the counts of the whole less those whose last token is in the fold, exactly, and the scalars of the whole. A
    position sees its document as it is: only the counts are others. Without this, a residual learns to correct
    the logits of a text that the model has memorised.

    A vocabulary made of the same text knows it as well: every word it lists was seen, and the words of a new text
    that it lacks are ``<unk>``. With ``min_count`` as the vocabulary had it, each fold is read as a new text would be:
    a token seen less often outside the fold becomes ``unknown``, as target and as context (:meth:`tokens`).

    Parameters
    ----------
    model : ExplicitLM
        It is primed if it is not yet.
    ids : array_like of int, shape (M,)
        Tokens that the model has counted, all or a part of them.
    documents : array_like of int, optional
        Offsets in ``ids`` at which documents start, as they were counted; parts of documents may be given, too.
    folds : int
        At least 2. With more, each model is nearer to the whole; memory and time to build them grow in proportion.
    n_threads : int, optional
        By default every available CPU. Results do not depend on it.
    memory : int
        Bytes of weights to keep; a fold beyond them is built again when its turn comes. One is always kept.
    min_count : int
        Tokens counted less often outside a fold are ``unknown`` to it; 0 leaves all as they are.
    unknown : int
        The id of unknown words, ``saffu.text.UNKNOWN_ID``.

    Attributes
    ----------
    n_folds, n_tokens, vocab_size, block_length : int

    Raises
    ------
    ValueError, TypeError
        If there are fewer tokens than folds, or the model has not counted them.

    Notes
    -----
    Kernels ``saffu_count_rows``, ``saffu_weigh``, ``saffu_pool_logits``.

    Examples
    --------
    >>> ids = [0, 1, 2] * 50
    >>> model = ExplicitLM(order=3, windows=(), induction=0).fit(ids)
    >>> held_out = HeldOutLogits(model, ids, folds=5)
    >>> held_out.logits(1, held_out.positions(1)[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        model: ExplicitLM,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        folds: int = 10,
        n_threads: int | None = None,
        memory: int = MEMORY,
        min_count: int = 0,
        unknown: int = UNKNOWN_ID,
    ) -> None:
        if not isinstance(model, ExplicitLM):
            raise TypeError(f"model must be an ExplicitLM, got {type(model).__name__}")
        self.n_folds = validate.integer(folds, "folds", 2)
        self.n_threads = resolve_threads(n_threads)
        self.min_count = validate.integer(min_count, "min_count", 0)
        self.memory = validate.integer(memory, "memory", 0)
        self.vocab_size = model.vocab_size
        self.unknown = int(validate.token_ids([unknown], "unknown", self.vocab_size)[0])
        self._model = model.prime(progress=False)
        self._stream = TokenStream.of(ids, documents, self.vocab_size, keep=True)
        if self.n_tokens < folds:
            raise ValueError(f"folds must be at most the number of tokens, {self.n_tokens}, got {folds}")
        self._check_counted()
        self._begins = opened(self._model.counts, self._stream)
        self.block_length = max(min(BLOCK, self.n_tokens // (folds * BLOCKS_A_FOLD)), 1)
        self._fold_of_block = _dealt(-(-self.n_tokens // self.block_length), folds)
        self._previous = previous_places(self._stream.ids)
        self._kept: OrderedDict[int, PooledText] = OrderedDict()  # the one used last is last
        self._lock = Lock()

    def _check_counted(self) -> None:
        fewer = self._model.counts.unigram < np.bincount(self._stream.ids, minlength=self.vocab_size)
        if fewer.any():
            raise ValueError(
                "ids must be tokens that the model has counted, but there are more of token "
                f"{int(fewer.argmax())} than it has seen"
            )

    @property
    def n_tokens(self) -> int:
        """M."""
        return self._stream.ids.size

    def fold_of(self, positions: ArrayLike) -> Int64:
        """The fold of each position."""
        return self._fold_of_block[np.asarray(positions, np.int64) // self.block_length]

    def positions(self, fold: int) -> Int64:
        """Ascending positions of one fold."""
        edges = self._edges(fold)
        return np.concatenate([np.arange(first, last) for first, last in edges.tolist()])

    def tokens(self, fold: int) -> Int32:
        """The whole text as a fold reads it, shape (M,): the targets are ``tokens(fold)[positions]``."""
        return self.text(fold).ids

    def logits(self, fold: int, positions: ArrayLike | None = None, out: Real | None = None) -> Real:
        """Log-probabilities of every token at positions of one fold.

        Parameters
        ----------
        fold : int
        positions : array_like of int, shape (n,), optional
            Places in ``ids``, all of this fold, in any order (ascending is faster); by default the whole fold.
        out : ndarray of float32 or float64, shape (n, V), optional
            Where to write; by default a new array of float32.

        Returns
        -------
        ndarray, shape (n, V)
            Nats.

        Raises
        ------
        ValueError, TypeError
            If a position is of another fold, or ``out`` does not fit.
        """
        return self.text(fold).logits(positions, out)

    def log_prob(self, fold: int, positions: ArrayLike | None = None) -> Float64:
        """Log-probabilities of :meth:`tokens` at these positions, nats; arguments as :meth:`logits`."""
        return self.text(fold).log_prob(positions)

    def text(self, fold: int) -> PooledText:
        """The positions of a fold under its model: built on first use, and again after it had to be dropped."""
        fold = self._fold(fold)
        with self._lock:  # batches may be scored from several threads
            if fold not in self._kept:
                self._kept[fold] = self._build(fold)
            self._kept.move_to_end(fold)
            while len(self._kept) > 1 and sum(text.n_bytes for text in self._kept.values()) > self.memory:
                self._kept.popitem(last=False)
            return self._kept[fold]

    def _fold(self, fold: int) -> int:
        fold = validate.integer(fold, "fold", 0)
        if fold >= self.n_folds:
            raise ValueError(f"fold must be below {self.n_folds}, got {fold}")
        return fold

    def _edges(self, fold: int) -> Int64:
        """First and last position, less one, of each block of a fold; shape (n_blocks, 2)."""
        first = np.flatnonzero(self._fold_of_block == self._fold(fold)) * self.block_length
        return np.stack([first, np.minimum(first + self.block_length, self.n_tokens)], axis=1)

    def _build(self, fold: int) -> PooledText:
        counts, edges, reach = self._model.counts, self._edges(fold), self._model.contexts.reach
        # Each block after as much of its document as a context may hold, so that its first contexts are whole.
        leads = np.maximum(self._stream.begins(edges[:, 0]), edges[:, 0] - reach)
        stream, opens, places = self._join(leads, edges[:, 1])
        held = counts.of_stream(stream, opens=opens, n_threads=self.n_threads)
        if (leads < edges[:, 0]).any():  # what ends before a block was counted only to have its contexts
            before, opens_before, _ = self._join(leads, edges[:, 0])
            held = held.subtract(counts.of_stream(before, opens=opens_before, n_threads=self.n_threads))
        try:
            rest = counts.subtract(held)
        except ValueError as error:
            raise ValueError("ids and documents must be those that the model has counted") from error
        read, previous = self._stream, self._previous
        rare = rest.unigram < self.min_count
        if rare.any():
            read = TokenStream(np.where(rare[read.ids], np.int32(self.unknown), read.ids), read.starts)
            previous = previous_places(read.ids)
        pooled = self._model.solution.pooled_model(rest)
        solved, scalars = self._model.solution.solved()
        pooled.bounds = solved.bounds
        # What leads up to a block may be of the same fold, if blocks are short: it is scored once, in its own block.
        inside = places >= np.repeat(edges[:, 0], edges[:, 1] - leads)
        rows = pooled.weights.contexts(TokenStream(read.ids[places], stream.starts), opens)
        rows = np.ascontiguousarray(rows[:, inside])
        floor, known = self._model.solution.floor_of(rest), np.isin(read.starts, self._begins)
        at, threads = places[inside], self.n_threads
        return PooledText(pooled, scalars, read, at, rows, threads, previous, compact=True, floor=floor, opens=known)

    def _join(self, firsts: Int64, lasts: Int64) -> tuple[TokenStream, Bools, Int64]:
        """Spans of the text as one stream, each the start of a document.

        Besides, which of these documents are there from their first token, and the place of each token in the text.
        """
        places = ranges(firsts, lasts)
        begin = np.isin(places, self._stream.starts)
        sizes = lasts - firsts
        begin[(np.cumsum(sizes) - sizes)[sizes > 0]] = True
        starts = np.flatnonzero(begin)
        return TokenStream(self._stream.ids[places], starts), np.isin(places[starts], self._begins), places


def opened(counts: NgramCounts, stream: TokenStream) -> Int64:
    """The starts of those documents whose first tokens have begun one that was counted; others are parts of one."""
    starts = stream.starts
    n = np.minimum(stream.lengths(), max(counts.start_length, 1))
    last = np.cumsum(n) - 1
    heads = TokenStream(stream.ids[ranges(starts, starts + n)], last - n + 1)
    known = np.zeros(starts.size, bool)
    chain = counts.chain
    for length, context in enumerate(suffix_contexts(chain[: n.max(initial=1)], heads, 1), start=1):
        table, so_long = chain[length - 1], np.flatnonzero(n == length)
        place = _core.find(table.indptr, table.indices, context[last[so_long]], heads.ids[last[so_long]], 1)
        known[so_long[place >= 0]] = table.data[place[place >= 0]] > 0
    return starts[known]


def _dealt(n_blocks: int, folds: int) -> Int64:
    """The fold of each block: every ``folds`` consecutive ones are dealt to all folds, as if by chance."""
    numbers = np.arange(-(-n_blocks // folds) * folds, dtype=np.uint64)
    return np.argsort(mixed(numbers).reshape(-1, folds), axis=1).astype(np.int64).ravel()[:n_blocks]

"""The residual base of a network, an explicit model: its logits of training text and of new text."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from saffu import _core
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.ngram_lm.model import ExplicitLM
from saffu.utils.arrays import Array, Int32, Int64
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

if TYPE_CHECKING:
    from saffu.attention_lm.network_model import NetworkModel

FOLDS = 10
NEVER = -80.0  # logit of what cannot come, in nats: finite, so that no product with it is NaN


class HeldOutSource:
    """Logits of a text that a model has counted, as if the text around each position had not been.

    Attributes
    ----------
    stream : TokenStream
        The text as new text would be read: what each block has too rarely elsewhere is unknown there.
    """

    def __init__(self, model: ExplicitLM, stream: TokenStream, min_count: int, n_threads: int) -> None:
        if stream.ids.size < 2:
            raise ValueError("ids must hold at least two tokens with a residual, which is left without each in turn")
        folds = min(FOLDS, stream.ids.size)
        self._folds = HeldOutLogits(
            model, stream.ids, documents=stream.starts, folds=folds, n_threads=n_threads, min_count=min_count
        )
        read = stream.ids.copy()
        self._unknown = self._folds.unknown
        self._rare: list[Int32] = []
        counts = model.counts.unigram
        for fold in range(folds):
            positions = self._folds.positions(fold)
            elsewhere = counts - np.bincount(stream.ids[positions], minlength=counts.size)
            rare = np.flatnonzero((elsewhere < min_count) & (counts > 0)).astype(np.int32)
            self._rare.append(rare[rare != self._unknown])
            read[positions] = self._folds.tokens(fold)[positions]
            self._folds.text(fold).n_threads = 1  # it is called by many workers, a part of the work each
        self.stream = TokenStream(read, stream.starts)

    def fill(self, positions: Int64, out: Array) -> None:
        """Write the logits of ascending positions into ``out`` (n, V)."""
        folds = self._folds.fold_of(positions)
        cuts = [0, *(np.flatnonzero(np.diff(folds)) + 1).tolist(), positions.size]
        for low, high in pairwise(cuts):
            self._folds.logits(int(folds[low]), positions[low:high], out[low:high])
            self._unite(self._rare[folds[low]], out[low:high])

    def _unite(self, rare: Int32, logits: Array) -> None:
        """What a new text would not hold as itself is the unknown word, with the probability of all such words."""
        if rare.size == 0:
            return
        words, total = np.append(rare, np.int32(self._unknown)), np.empty((len(logits), 1), logits.dtype)
        _core.log_sums(logits, words, np.array([0, words.size]), total, 1)
        logits[:, rare] = NEVER
        logits[:, self._unknown] = total[:, 0]


class TextSource:
    """Logits of a text that a model has not counted.

    Attributes
    ----------
    stream : TokenStream
        The text.
    """

    def __init__(self, model: ExplicitLM, stream: TokenStream) -> None:
        self.stream = stream
        self._text = model.read(stream.ids, documents=stream.starts)
        self._text.n_threads = 1

    def fill(self, positions: Int64, out: Array) -> None:
        """Write the logits of positions into ``out`` (n, V)."""
        self._text.logits(positions, out)


def is_counted(model: ExplicitLM, stream: TokenStream) -> bool:
    """Whether a text is what the model has counted, all of it."""
    counts = model.counts.unigram
    return counts.sum() == stream.ids.size and np.array_equal(np.bincount(stream.ids, minlength=counts.size), counts)


def training_source(model: NetworkModel, shared: SharedCounts) -> HeldOutSource | None:
    """The residual's logits of a text that a model is solved on; one source for all models that share the counts.

    A residual that has seen no text is fitted on this one.
    """
    if model.residual is None:
        return None
    residual, stream, min_count = model.residual, shared.stream, model.min_count
    if not residual.n_tokens:
        residual.fit(stream.ids, documents=stream.starts, vocab_size=shared.vocab_size, progress=False)
    made: HeldOutSource = shared.source(
        (id(residual), min_count), lambda: HeldOutSource(residual, stream, min_count, shared.n_threads)
    )
    return made


def training_text(model: NetworkModel, stream: TokenStream, n_threads: int) -> SegmentedText:
    """A text to refine a model on, or to solve new units on.

    The residual's logits are those of models that have not counted the text around, if it has counted this text.

    Parameters
    ----------
    model : NetworkModel
        With a solution.
    stream : TokenStream
        Checked.
    n_threads : int

    Raises
    ------
    ValueError
        If the text is empty.
    """
    if stream.ids.size == 0:
        raise ValueError("ids must hold at least one token, got none")
    solution = model._fitted
    source: HeldOutSource | TextSource | None = None
    if model.residual is not None:
        if is_counted(model.residual, stream):
            source = HeldOutSource(model.residual, stream, model.min_count, n_threads)
        else:
            source = TextSource(model.residual, stream)
        stream = source.stream
    dtype = solution.parameters["output.weights"].dtype
    return SegmentedText(stream, model.vocab_size, dtype, n_threads, source, solution.output_classes)


def new_text(model: NetworkModel, stream: TokenStream, dtype: DTypeLike = np.float32) -> SegmentedText:
    """A text that the residual of a model, if there is one, has not counted."""
    source = None if model.residual is None else TextSource(model.residual, stream)
    threads = resolve_threads(model.n_threads)
    return SegmentedText(stream, model.vocab_size, np.dtype(dtype), threads, source, model._fitted.output_classes)

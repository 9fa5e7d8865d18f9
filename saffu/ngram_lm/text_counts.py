"""What is left of a text when it has been counted, piece by piece or all of it: what a model is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.text_sample import TokenSample
from saffu.utils import validate
from saffu.utils.arrays import Int32, Int64
from saffu.utils.streams import TokenStream

PIECE = 1 << 24  # tokens counted at a time


class TextCounts(NamedTuple):
    """The arguments of :meth:`saffu.ExplicitLM.from_counts` that follow from a text.

    Attributes
    ----------
    counts : NgramCounts
    sample : TokenSample
        Text to prime on. It depends on the documents that were counted, and on nothing else.
    end : array_like of int
        The last tokens of the document that the next text may continue, as many as tables of counts depend on.
    """

    counts: NgramCounts
    sample: TokenSample
    end: ArrayLike


class TextSummary(NamedTuple):
    """What is left of a part of a text besides its tables; small, whatever the size of the part.

    Attributes
    ----------
    unigram : ndarray of int64, shape (V,)
    sample : TokenSample
    end : ndarray of int32
    """

    unigram: Int64
    sample: TokenSample
    end: Int32

    @property
    def n_tokens(self) -> int:
        """Tokens counted."""
        return int(self.unigram.sum())

    def merge(self, other: TextSummary) -> TextSummary:
        """Those of two parts, each of whole documents, the other one behind this."""
        if other.n_tokens == 0 or self.n_tokens == 0:
            return self if other.n_tokens == 0 else other
        return TextSummary(self.unigram + other.unigram, self.sample.merge(other.sample), other.end)


def count_streams(streams: Iterable[TokenStream], contexts: Contexts, vocab_size: int) -> TextCounts:
    """Count consecutive stretches of a text on one thread, without holding all of it.

    Memory is that of the counts and of PIECE tokens. Ids are taken to be below ``vocab_size``.
    """
    text = CountedText(contexts)
    text.vocab_size = vocab_size
    for stream in _gathered(streams):
        text.append(stream, 1, False)
    counts = text.empty_counts() if text.is_empty else text.total()
    return TextCounts(counts, text.sample, text.end)


def _gathered(streams: Iterable[TokenStream]) -> Iterable[TokenStream]:
    """The same text in larger stretches."""
    held: list[TokenStream] = []
    n_held = 0
    for stream in streams:
        held.append(stream)
        n_held += stream.ids.size
        if n_held >= PIECE:
            yield TokenStream.concat(held)
            held, n_held = [], 0
    last = TokenStream.concat(held)
    if last.ids.size:
        yield last


def counted_text(found: TextCounts, radius: int | None, **settings: Any) -> CountedText:
    """What a model of these settings has counted.

    Raises
    ------
    ValueError, TypeError
        If the counts are not those of a model of these settings, or do not fit to the sample and the end.
    """
    counts, sample, end = found
    for value, name, kind in ((counts, "counts", NgramCounts), (sample, "sample", TokenSample)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    contexts = Contexts.of(counts.radius if radius is None else radius, counts.order, **settings, keys=counts.keys)
    shape, needed = (counts.radius, counts.start_length), (contexts.table_radius, contexts.start_length)
    if shape not in (needed, (contexts.table_radius, 0)):  # none begin with <s> in files of earlier versions
        raise ValueError(
            f"counts must have a radius and start_length of {needed} with these settings "
            f"(priming={contexts.priming!r}), got {shape}"
        )
    if counts.n_tokens == 0:
        raise ValueError("counts must be of at least one token, got none")
    text = CountedText(contexts)
    text.vocab_size, text.start_length = counts.vocab_size, counts.start_length
    text.counts, text.sample = IncrementalCounts([counts]), sample
    text.end = validate.token_ids(end, "end", counts.vocab_size, keep=True)[-contexts.reach :]
    if text.end.size == 0:
        text.sample = sample.closed()
    elif sample.open is None:
        raise ValueError("end must be empty, since the sample has no document that can go on")
    return text

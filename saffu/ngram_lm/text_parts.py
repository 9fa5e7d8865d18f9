"""Parts of a text, each of whole documents, as processes of their own read and count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.count_ranges import CountsRange, cut
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.text_counts import TextSummary, count_streams
from saffu.text import Corpus, Vocabulary
from saffu.text.tokenizers import document_tokens
from saffu.utils.arrays import Int64
from saffu.utils.streams import TokenStream

BEGINNING = 1 << 20  # tokens

Streams: TypeAlias = Iterator[TokenStream]
Read: TypeAlias = Callable[[Any, Vocabulary | None, int], Streams]


def stream_of(part: Any, vocab_size: int) -> TokenStream:
    """Token ids, or a pair of them and of document starts, checked."""
    is_pair = isinstance(part, tuple) and len(part) == 2 and np.ndim(part[0]) > 0
    ids, starts = part if is_pair else (part, None)
    return TokenStream.of(ids, starts, vocab_size)


def read_ids(part: Any, vocabulary: Vocabulary | None, vocab_size: int) -> Streams:
    """Token ids, or a pair."""
    yield stream_of(part, vocab_size)


def read_files(part: Corpus, vocabulary: Vocabulary | None, vocab_size: int) -> Streams:
    """Files."""
    assert vocabulary is not None
    for chunk in part.chunks(vocabulary):
        yield chunk.stream


def read_bag(part: Iterable[Any], vocabulary: Vocabulary | None, vocab_size: int) -> Streams:
    """A partition of a bag: texts, each read as a file that holds it would be, or ids, each a document."""
    for document in part:
        if not isinstance(document, str):
            yield TokenStream.of(document, None, vocab_size)
            continue
        if vocabulary is None:
            raise TypeError("vocabulary must be given to read texts; saffu.dask.build_vocabulary makes one")
        tokens = document_tokens(document, vocabulary.tokenizer, vocabulary.documents, whole=True)
        ids, starts = vocabulary.encode_block(tokens)
        yield TokenStream.of(ids, np.append(np.zeros(int(ids.size > 0), np.int64), starts[starts < ids.size]))


def count_beginning(
    part: Any, read: Read, vocabulary: Vocabulary | None, contexts: Contexts, vocab_size: int
) -> NgramCounts:
    """Tables of the first tokens of a part, from which it can be seen how much there is of which n-grams."""
    streams: list[TokenStream] = []
    left = BEGINNING
    for stream in read(part, vocabulary, vocab_size):
        streams.append(stream.slice(0, min(left, stream.ids.size)))
        left -= streams[-1].ids.size
        if left == 0:
            break
    return count_streams(streams, contexts, vocab_size).counts


def count_part(
    part: Any, read: Read, vocabulary: Vocabulary | None, contexts: Contexts, vocab_size: int, cuts: Int64
) -> list[TextSummary | CountsRange]:
    """Count a part: what is left of it besides its tables, then the ranges of these."""
    counts, sample, end = count_streams(read(part, vocabulary, vocab_size), contexts, vocab_size)
    return [TextSummary(counts.unigram, sample, np.asarray(end, np.int32)), *cut(counts, cuts)]

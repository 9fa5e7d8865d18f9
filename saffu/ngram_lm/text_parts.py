"""Parts of a text, each of whole documents, as processes of their own read and count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.text_counts import TextSummary, count_streams
from saffu.text import Corpus, Vocabulary
from saffu.text.tokenizers import document_tokens
from saffu.utils.streams import TokenStream

Streams: TypeAlias = Iterator[TokenStream]
Read: TypeAlias = Callable[[Any, Vocabulary | None, int], Streams]


def stream_of(part: Any, vocab_size: int) -> TokenStream:
    """Token ids, or a pair of them and of document starts, checked."""
    ids, starts = part if isinstance(part, tuple) and len(part) == 2 else (part, None)
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
            yield stream_of(document, vocab_size)
            continue
        if vocabulary is None:
            raise TypeError("vocabulary must be given to read texts; saffu.dask.build_vocabulary makes one")
        tokens = document_tokens(document, vocabulary.tokenizer, vocabulary.documents, whole=True)
        ids, starts = vocabulary.encode_block(tokens)
        yield TokenStream.of(ids, np.append(np.zeros(int(ids.size > 0), np.int64), starts[starts < ids.size]))


def count_part(
    part: Any, read: Read, vocabulary: Vocabulary | None, contexts: Contexts, vocab_size: int
) -> tuple[NgramCounts, TextSummary]:
    """Count a part: its tables, and what is left of it besides."""
    counts, sample, end = count_streams(read(part, vocabulary, vocab_size), contexts, vocab_size)
    return counts, TextSummary(counts.unigram, sample, np.asarray(end, np.int32))

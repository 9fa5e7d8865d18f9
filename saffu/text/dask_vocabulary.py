"""Vocabularies of text that is read by many processes, with Dask; needs the extra ``dask``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from saffu.text.corpus import Corpus
from saffu.text.tokenizers import default_documents, default_min_count, document_tokens
from saffu.text.vocabulary import Vocabulary
from saffu.text.word_counts import WordCounts, vocabulary_of
from saffu.utils import validate
from saffu.utils.dask_computation import (
    BLOCKSIZE,
    Bag,
    Client,
    Computation,
    current_client,
    delayed,
    done,
    n_bytes,
    n_ranges,
    summed,
)
from saffu.utils.progress import progress_bar


def build_vocabulary(
    source: Any,
    *,
    min_count: int | None = None,
    tokenizer: Any = "words",
    documents: str | None = None,
    blocksize: int | str = BLOCKSIZE,
    client: Client = None,
    progress: bool | None = None,
) -> Vocabulary:
    """The vocabulary of a text: the one that :meth:`saffu.text.Corpus.build_vocabulary` makes.

    Parameters
    ----------
    source : files or bag of texts
        As in :func:`count`.
    min_count : int, optional
        Types seen less often become ``<unk>``; by default 3, for chars and bytes 1.
    tokenizer, documents
        As in :class:`saffu.text.Corpus`; a corpus has its own.
    blocksize, client, progress
        As in :func:`count`.

    Returns
    -------
    Vocabulary
        Types by descending frequency, ties by first appearance.

    Raises
    ------
    ValueError, TypeError
        If the source holds no text, or is not text, or a setting is out of range.

    Examples
    --------
    >>> import dask.bag
    >>> build_vocabulary(dask.bag.from_sequence(["a b", "b c"]), min_count=2).types
    ['<unk>', '<eos>', 'b']
    """
    documents = documents or default_documents(tokenizer)
    min_count = validate.integer(default_min_count(tokenizer) if min_count is None else min_count, "min_count", 1)
    files = corpus_or_none(source, tokenizer, documents)
    if files is None and not isinstance(source, Bag):
        raise TypeError(f"source must be files, a Corpus or a dask.bag of texts, got {type(source).__name__}")
    if files is not None:
        tokenizer, documents = files.tokenizer, files.documents
    parts = source.to_delayed() if files is None else files.split(n_bytes(blocksize))
    client = current_client(client)
    n_shares = n_ranges(client)
    count_types, divide = delayed(_count_types), delayed(WordCounts.divided, nout=n_shares)
    counted = [count_types(part, number, tokenizer, documents) for number, part in enumerate(parts)]
    divided = [divide(one, n_shares) for one in counted]
    merged = [summed([shares[i] for shares in divided], WordCounts.merge) for i in range(n_shares)]
    frequent = [delayed(WordCounts.frequent)(share, min_count) for share in merged]
    marks = [delayed(done)(one) for one in counted]
    with progress_bar(len(marks) + n_shares, "vocabulary", progress) as bar, Computation(client, bar) as computation:
        computation.start([*marks, *frequent])
        computation.wait(marks)
        shares = [share for _, share in computation.arriving(frequent)]
    if not any(share.counts for share in shares):
        raise ValueError("source holds no text")
    return vocabulary_of(shares, min_count=min_count, tokenizer=tokenizer, documents=documents)


def _count_types(part: Any, number: int, tokenizer: Any, documents: str) -> WordCounts:
    if isinstance(part, Corpus):
        return WordCounts.of(part.token_lists(), number)
    return WordCounts.of((document_tokens(text, tokenizer, documents, whole=True) for text in part), number)


def corpus_or_none(source: Any, tokenizer: Any, documents: str | None) -> Corpus | None:
    """Files as a corpus, None if the source is something else."""
    if isinstance(source, Corpus):
        return source
    is_path = isinstance(source, str | os.PathLike)
    several = isinstance(source, Sequence) and len(source) > 0 and all(isinstance(p, str | os.PathLike) for p in source)
    if not is_path and not several:
        return None
    if tokenizer is None:
        raise TypeError("vocabulary must be given to read files; saffu.dask.build_vocabulary makes one")
    return Corpus(source, tokenizer=tokenizer, documents=documents)

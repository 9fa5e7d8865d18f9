"""Counts of text that is read and counted by many processes, with Dask; needs the extra ``dask``. See saffu.dask."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.count_ranges import CountsRange, JoinedRanges, balanced_cuts
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.model import ExplicitLM
from saffu.ngram_lm.text_counts import TextCounts, TextSummary
from saffu.ngram_lm.text_parts import Read, count_beginning, count_part, read_bag, read_files, read_ids, stream_of
from saffu.text import ModelVocabulary, Vocabulary
from saffu.text.dask_vocabulary import corpus_or_none
from saffu.utils import dask_computation, validate
from saffu.utils.arrays import Int64
from saffu.utils.dask_computation import BLOCKSIZE, Bag, Client, Computation, DaskArray, delayed, done, summed
from saffu.utils.progress import progress_bar


def count(
    source: Any,
    *,
    vocabulary: Vocabulary | None = None,
    vocab_size: int | None = None,
    documents: ArrayLike | None = None,
    blocksize: int | str = BLOCKSIZE,
    n_ranges: int | None = None,
    client: Client = None,
    progress: bool | None = None,
    **settings: Any,
) -> TextCounts:
    """Count a text; ``saffu.ExplicitLM.from_counts(**found._asdict())`` makes a model of what this returns.

    Parameters
    ----------
    source : see below
        In the order of the text:

        * files: a path, several, or a :class:`saffu.text.Corpus`. Large ones are cut behind blank lines where these
          separate documents; many small ones are a part together;
        * a ``dask.bag`` of texts, each read as a file that holds it would be; or of sequences of token ids, each a
          document. Its partitions are the parts;
        * a sequence of parts: arrays of token ids, or pairs ``(ids, starts)`` of them and of the offsets at which
          documents start; or ``dask.delayed`` objects that become one of these. What is not delayed is sent to
          the scheduler with the tasks;
        * a ``dask.array`` of token ids with the offsets of its ``documents``. Parts are its chunks, each up to the
          first document start behind it.
    vocabulary : Vocabulary, optional
        Needed for texts.
    vocab_size : int, optional
        V; by default that of the vocabulary, one of which is needed.
    documents : array_like of int, optional
        Of a ``dask.array``: offsets at which documents start; by default it is one document, and one part.
    blocksize : int or str
        About how many bytes of files are a part, such as ``"64 MiB"``. A worker needs some twenty times as much
        memory for each thread; larger parts are fewer tasks.
    n_ranges : int, optional
        Into how many ranges tables are cut; by default two for each thread of the cluster, at least eight.
    client : distributed.Client, optional
        By default the current one. With ``direct_to_workers=True`` counts do not pass through the scheduler.
    progress : bool, optional
        Show a bar on a terminal: parts that are counted, then ranges that are there.
    **settings
        ``radius``, ``order``, ``windows``, ``induction``, ``priming`` and ``n_threads`` of :class:`saffu.ExplicitLM`;
        the first two and ``priming`` matter to counts.

    Returns
    -------
    TextCounts
        ``counts``, ``sample`` and ``end``. They do not depend on parts, ranges or workers.

    Raises
    ------
    ValueError, TypeError
        If there is no text, ids are out of range, or a setting is.

    Examples
    --------
    >>> count([[0, 1, 2], [1, 2]], vocab_size=3, order=3).counts.suffix[0].toarray().sum()
    np.int64(1)
    """
    contexts = _contexts(settings)
    size = ModelVocabulary.size(vocabulary, None if vocab_size is None else validate.size(vocab_size, "vocab_size"))
    if size is None:
        raise TypeError("vocab_size must be given for token ids, or vocabulary for texts")
    parts, read = _parts(source, vocabulary, size, documents, blocksize)
    client = dask_computation.current_client(client)
    n_ranges = dask_computation.n_ranges(client) if n_ranges is None else validate.integer(n_ranges, "n_ranges", 1)
    cuts, summary, ranges, marks = _graph(parts, read, vocabulary, contexts, size, n_ranges)
    sizes = [delayed(_sizes)(piece) for piece in ranges]
    with progress_bar(len(marks) + n_ranges, "count", progress) as bar, Computation(client, bar) as computation:
        computation.start([*marks, cuts, summary, *sizes, *ranges])
        computation.wait(marks)
        text: TextSummary = computation.value(summary)
        if text.n_tokens == 0:
            raise ValueError("source must hold at least one token, got none")
        empty = NgramCounts(size, contexts.table_radius, contexts.order, contexts.start_length)
        whole = JoinedRanges(empty, computation.value(cuts), np.stack([computation.value(one) for one in sizes]))
        for number, piece in computation.arriving(ranges):
            whole.put(number, piece)
    return TextCounts(whole.counts(text.unigram), text.sample, text.end)


def fit(
    source: Any,
    *,
    vocabulary: Vocabulary | None = None,
    vocab_size: int | None = None,
    documents: ArrayLike | None = None,
    blocksize: int | str = BLOCKSIZE,
    n_ranges: int | None = None,
    client: Client = None,
    progress: bool | None = None,
    **settings: Any,
) -> ExplicitLM:
    """Count a text by many processes, then weigh and prime in this one.

    Parameters
    ----------
    source, vocabulary, vocab_size, documents, blocksize, n_ranges, client, progress
        As in :func:`count`. The vocabulary becomes that of the model.
    **settings
        As in :func:`count`.

    Returns
    -------
    ExplicitLM
        Equal, to the bit, to one fitted to all of the text at once.

    Raises
    ------
    ValueError, TypeError
        As in :func:`count`.

    Examples
    --------
    >>> model = fit([[0, 1, 2] * 20, [2, 1, 0] * 20], vocab_size=3, order=3, windows=(), induction=0)
    >>> model.n_tokens
    120
    """
    began = time.perf_counter()
    found = count(
        source,
        vocabulary=vocabulary,
        vocab_size=vocab_size,
        documents=documents,
        blocksize=blocksize,
        n_ranges=n_ranges,
        client=client,
        progress=progress,
        **settings,
    )
    others = {name: value for name, value in settings.items() if name != "order"}
    others.setdefault("radius", ExplicitLM().radius)
    model = ExplicitLM.from_counts(found.counts, sample=found.sample, end=found.end, **others)
    model.seconds["count"] = time.perf_counter() - began
    model.vocabulary = vocabulary
    return model.prime(progress=progress)


def _contexts(settings: dict[str, Any]) -> Contexts:
    """The contexts of a model, of settings that :meth:`saffu.ExplicitLM.from_counts` takes; TypeError for others."""
    others = sorted(settings.keys() - {"radius", "order", "windows", "induction", "priming", "n_threads"})
    if others:
        raise TypeError(f"settings must be those of ExplicitLM.from_counts, got {', '.join(others)}")
    return ExplicitLM(**settings).contexts


# ---- the graph -------------------------------------------------------------------------------------------------------


def _parts(
    source: Any, vocabulary: Vocabulary | None, vocab_size: int, documents: ArrayLike | None, blocksize: int | str
) -> tuple[Sequence[Any], Read]:
    """The parts of a text, some of them delayed, and the function that reads one."""
    if isinstance(source, DaskArray):
        return _parts_of_array(source, documents), read_ids
    if documents is not None:
        raise ValueError("documents must be given with a dask.array only; other parts are pairs (ids, starts)")
    if isinstance(source, Bag):
        return source.to_delayed(), read_bag
    settings = (None, None) if vocabulary is None else (vocabulary.tokenizer, vocabulary.documents)
    corpus = corpus_or_none(source, *settings)
    if corpus is not None:
        return corpus.split(dask_computation.n_bytes(blocksize)), read_files
    if not isinstance(source, Sequence | np.ndarray):
        raise TypeError(
            f"source must be files, a bag, a dask.array or a sequence of parts, got {type(source).__name__}"
        )
    parts = [part if dask_computation.is_delayed(part) else stream_of(part, vocab_size) for part in source]
    if not parts:
        raise ValueError("source must have at least one part, got none")
    return parts, read_ids


def _parts_of_array(array: DaskArray, documents: ArrayLike | None) -> list[Any]:
    """Pairs of delayed ids and document starts."""
    if array.ndim != 1 or np.isnan(array.size):
        raise ValueError(f"source must be a dask.array of one dimension and of known chunks, got shape {array.shape}")
    starts = validate.document_starts(documents, array.size)
    ends = np.cumsum(array.chunks[0])
    next_start = np.append(starts, array.size)[np.searchsorted(starts, ends)]
    bounds = np.unique(np.append(next_start, 0))
    pieces = array.rechunk((tuple(np.diff(bounds).tolist()),)).to_delayed()
    inside = np.split(starts, np.searchsorted(starts, bounds[1:-1]))
    return [(ids, own - first) for ids, own, first in zip(pieces, inside, bounds[:-1], strict=True)]


def _graph(
    parts: Sequence[Any], read: Read, vocabulary: Vocabulary | None, contexts: Contexts, vocab_size: int, n_ranges: int
) -> tuple[Any, Any, list[Any], list[Any]]:
    """Delayed cuts, summary of the text, ranges of its counts, and a mark for each part that says it is counted."""
    # The vocabulary is sent once, not with each part.
    how = (read, delayed(vocabulary, traverse=False), contexts, vocab_size)
    samples = [parts[i] for i in sorted({0, len(parts) // 2, len(parts) - 1})]
    cuts = delayed(balanced_cuts)([delayed(count_beginning)(part, *how) for part in samples], n_ranges)
    count_one = delayed(count_part, nout=1 + n_ranges)
    texts, *ranges = zip(*(count_one(part, *how, cuts) for part in parts), strict=True)
    marks = [delayed(done)(text) for text in texts]
    return cuts, summed(texts, TextSummary.merge), [summed(of_parts, CountsRange.add) for of_parts in ranges], marks


def _sizes(piece: CountsRange) -> Int64:
    return piece.sizes

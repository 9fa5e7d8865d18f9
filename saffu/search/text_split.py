"""Text to try architectures on: what is trained on, and what is held out to judge them by."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saffu.explicit.discounting import smoothed_distribution
from saffu.text import LINE_END_ID, UNKNOWN_ID, Chunk, Corpus, Vocabulary, default_min_count
from saffu.utils import validate
from saffu.utils.arrays import Bools, Int32, Int64
from saffu.utils.progress import progress_bar

HELD_OUT_SHARE, HELD_OUT_TOKENS = 0.05, 15_000
FEWEST = 20  # documents, lines or tokens of which a twentieth can be held out

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, eq=False)
class Split:
    """Token ids to train on, and others to be judged by.

    Parameters
    ----------
    ids : ndarray of int32, shape (M,)
    documents : ndarray of int64
        Offsets in ``ids`` at which documents begin.
    held_out : ndarray of int32, shape (T,)
    held_out_documents : ndarray of int64
        The same of the held-out text.
    vocab_size : int
        V.
    vocabulary : saffu.text.Vocabulary, optional
        Saved with the models, if given.

    Raises
    ------
    ValueError, TypeError
        If ids are out of range, not integers or absent.
    """

    ids: Int32
    documents: Int64
    held_out: Int32
    held_out_documents: Int64
    vocab_size: int
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        validate.size(self.vocab_size, "vocab_size")
        for name, starts in (("ids", "documents"), ("held_out", "held_out_documents")):
            ids = validate.token_ids(getattr(self, name), name, self.vocab_size, keep=True)
            if ids.size == 0:
                raise ValueError(f"{name} must hold at least one token, got none")
            object.__setattr__(self, name, ids)
            object.__setattr__(self, starts, validate.document_starts(getattr(self, starts), ids.size, starts))

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this text from another: numbers of tokens and types, and a hash of everything."""
        digest = hashlib.sha256(str(self.vocab_size).encode())
        for array in (self.ids, self.documents, self.held_out, self.held_out_documents):
            digest.update(f"|{array.size}|".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return {
            "tokens": self.ids.size,
            "held_out_tokens": self.held_out.size,
            "types": self.vocab_size,
            "text": digest.hexdigest(),
        }

    @property
    def unigram_perplexity(self) -> float:
        """Perplexity of the held-out text by the frequencies of the training text alone."""
        counts = np.bincount(self.ids, minlength=self.vocab_size)
        unigram = smoothed_distribution(counts, 1.0 / (self.ids.size + 1.0))
        return float(np.exp(-np.log(unigram[self.held_out]).mean()))


def read_split(
    paths: Paths,
    tokens: int = 1_000_000,
    valid: Paths | None = None,
    tokeniser: str = "words",
    documents: str | None = None,
    min_count: int | None = None,
    held_out_tokens: int = HELD_OUT_TOKENS,
    progress: bool = False,
) -> Split:
    """Read text files and set some of their text apart.

    Parameters
    ----------
    paths : str, path or sequence of them
        As in :class:`saffu.text.Corpus`; read no further than needed. Of several files the beginnings are taken, the
        same number of tokens of each as far as they reach.
    tokens : int
        The most tokens to train on.
    valid : str, path or sequence of them, optional
        Text to be held out. By default it is every twentieth document that was read; the last 5 % of the lines, where
        there are fewer than 20 documents; of the tokens, where there are fewer than 20 lines.
    tokeniser, documents, min_count
        As in :class:`saffu.text.Corpus` and its ``build_vocabulary``. Only training text counts for the vocabulary.
    held_out_tokens : int
        The most tokens to hold out.
    progress : bool
        Show progress on a terminal.

    Returns
    -------
    Split

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file holds no text, or there is too little to hold some out.
    """
    tokens = validate.integer(tokens, "tokens", 1, validate.INT32_MAX)
    most = validate.integer(held_out_tokens, "held_out_tokens", 1, validate.INT32_MAX)
    corpora = _by_size(Corpus(paths, tokeniser, documents))
    min_count = default_min_count(tokeniser) if min_count is None else min_count
    min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
    spare = 0 if valid is not None else min(most, int(tokens * HELD_OUT_SHARE / (1 - HELD_OUT_SHARE)))
    with progress_bar(2 * (tokens + spare), "read", progress) as bar:
        every_type = Vocabulary.build(_first_lists(corpora, tokens + spare, bar.update), 1, tokeniser, documents)
        text = _first(corpora, every_type, tokens + spare, bar.update)
    Corpus.check_parts(corpora)
    held = np.zeros(text.ids.size, bool) if valid is not None else _held_out(text, most)
    ids, begun = _kept(text, ~held, tokens)
    vocabulary, recode = _frequent(every_type, ids, min_count)
    if valid is None:
        held_out, starts = _kept(text, held, most)
        held_out = recode[held_out]
    else:
        held_out, starts, _ = _first([Corpus(valid, tokeniser, documents)], vocabulary, most, lambda _: None)
    return Split(recode[ids], begun, held_out, starts, len(vocabulary), vocabulary)


def _by_size(corpus: Corpus) -> list[Corpus]:
    """The files one by one, small ones first: what they lack of their share goes to the others."""
    return sorted(corpus.parts(), key=lambda file: math.inf if file.n_bytes is None else file.n_bytes)


def _first_lists(corpora: Sequence[Corpus], tokens: int, advance: Callable[[int], Any]) -> Iterator[list[str]]:
    """Lists of tokens, until every file has given its share."""
    for place, corpus in enumerate(corpora):
        share = left = math.ceil(tokens / (len(corpora) - place))
        for found in corpus.token_lists():
            yield found
            advance(len(found))
            left -= len(found)
            if left <= 0:
                break
        tokens -= share - max(left, 0)


def _first(corpora: Sequence[Corpus], vocabulary: Vocabulary, tokens: int, advance: Callable[[int], Any]) -> Chunk:
    """The first tokens of each file, so many in all."""
    ids, starts, size = [np.empty(0, np.int32)], [np.empty(0, np.int64)], 0
    for place, corpus in enumerate(corpora):
        end = size + math.ceil((tokens - size) / (len(corpora) - place))
        for chunk in corpus.chunks(vocabulary):
            ids.append(chunk.ids[: end - size])
            starts.append(chunk.documents[chunk.documents < end - size] + size)
            size += ids[-1].size
            advance(ids[-1].size)
            if size >= end:
                break
    return Chunk(np.concatenate(ids), np.concatenate(starts), 0)


def _held_out(text: Chunk, most: int) -> Bools:
    """Which tokens to hold out: every twentieth document, or the last twentieth; at most about ``most``."""
    size = text.ids.size
    held = np.zeros(size, bool)
    if text.documents.size >= FEWEST:
        every = max(round(1 / HELD_OUT_SHARE), math.ceil(size / most))
        ends = np.append(text.documents[1:], size)
        last = np.arange(text.documents.size) % every == min(every, text.documents.size) - 1
        for begin, end in zip(text.documents[last], ends[last], strict=True):
            held[begin:end] = True
        return held
    lines = np.append(0, np.flatnonzero(text.ids == LINE_END_ID) + 1)
    for starts in (lines[lines < size], np.arange(size)):
        place = max(math.ceil(starts.size * (1 - HELD_OUT_SHARE)), int(np.searchsorted(starts, size - most)))
        if starts.size >= FEWEST and place < starts.size:
            held[starts[place] :] = True
            return held
    raise ValueError(f"the text has {size} tokens, too few to hold some out; give more, or a held-out text of its own")


def _kept(text: Chunk, chosen: Bools, most: int) -> tuple[Int32, Int64]:
    """The first so many chosen tokens as a text of their own, and where its documents start."""
    begins = np.zeros(text.ids.size, bool)
    begins[text.documents] = True
    begins = begins[chosen][:most]
    begins[:1] = True
    return text.ids[chosen][:most], np.flatnonzero(begins)


def _frequent(every_type: Vocabulary, ids: Int32, min_count: int) -> tuple[Vocabulary, Int32]:
    """The vocabulary of a training text, and the new id of each old one."""
    found, first, counts = np.unique(ids, return_index=True, return_counts=True)
    kept = (counts >= min_count) & (found > max(UNKNOWN_ID, LINE_END_ID))
    kept_ids = found[kept][np.lexsort((first[kept], -counts[kept]))]  # by frequency, ties by first appearance
    recode = np.full(len(every_type), UNKNOWN_ID, np.int32)
    recode[LINE_END_ID] = LINE_END_ID
    recode[kept_ids] = np.arange(kept_ids.size) + 2
    types = [every_type.types[place] for place in kept_ids]
    return Vocabulary(types, every_type.tokeniser, every_type.documents, min_count), recode

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
from saffu.text import LINE_END_ID, UNKNOWN_ID, Corpus, Vocabulary, default_min_count
from saffu.text.vocabulary import unseen_pieces
from saffu.utils import validate
from saffu.utils.arrays import Bools, Int32
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

HELD_OUT_SHARE, HELD_OUT_TOKENS = 0.05, 15_000
FEWEST = 20  # documents, lines or tokens of which a twentieth can be held out

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, eq=False)
class Split:
    """A text to train on, and another to judge models by.

    Parameters
    ----------
    train, held_out : TokenStream
        Checked and copied.
    vocab_size : int
        V.
    vocabulary : saffu.text.Vocabulary, optional
        Saved with the models, if given.

    Raises
    ------
    ValueError, TypeError
        If ids are out of range, not integers or absent.

    Examples
    --------
    >>> split = Split(TokenStream.of([0, 1, 2, 1], [0, 2]), TokenStream.of([1, 2]), vocab_size=3)
    >>> split.facts["tokens"], split.facts["held_out_tokens"]
    (4, 2)
    """

    train: TokenStream
    held_out: TokenStream
    vocab_size: int
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        validate.size(self.vocab_size, "vocab_size")
        for name in ("train", "held_out"):
            stream = getattr(self, name)
            ids = validate.token_ids(stream.ids, name, self.vocab_size, keep=True)
            if ids.size == 0:
                raise ValueError(f"{name} must hold at least one token, got none")
            object.__setattr__(self, name, TokenStream(ids, validate.document_starts(stream.starts, ids.size)))

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this text from another: numbers of tokens and types, and a hash of everything."""
        digest = hashlib.sha256(str(self.vocab_size).encode())
        for array in (*self.train, *self.held_out):
            digest.update(f"|{array.size}|".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return {
            "tokens": self.train.ids.size,
            "held_out_tokens": self.held_out.ids.size,
            "types": self.vocab_size,
            "text": digest.hexdigest(),
        }

    @property
    def unigram_perplexity(self) -> float:
        """Perplexity of the held-out text by the frequencies of the training text alone."""
        counts = np.bincount(self.train.ids, minlength=self.vocab_size)
        unigram = smoothed_distribution(counts, 1.0 / (self.train.ids.size + 1.0))
        return float(np.exp(-np.log(unigram[self.held_out.ids]).mean()))


def read_split(
    paths: Paths,
    *,
    tokens: int = 1_000_000,
    valid: Paths | None = None,
    tokenizer: Any = "words",
    documents: str | None = None,
    min_count: int | None = None,
    held_out_tokens: int = HELD_OUT_TOKENS,
    progress: bool | None = None,
) -> Split:
    r"""Read text files and set some of their text apart.

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
    tokenizer, documents, min_count
        As in :class:`saffu.text.Corpus` and its ``build_vocabulary``. Only training text counts for the vocabulary.
    held_out_tokens : int
        The most tokens to hold out.
    progress : bool, optional
        Whether to show a bar on a terminal; by default if the work takes longer than half a second.

    Returns
    -------
    Split

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file holds no text, or there is too little to hold some out.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "book.txt")
    ...     _ = path.write_text("the cat sat .\n" * 100)
    ...     split = read_split(path)
    >>> split.train.ids.size, split.held_out.ids.size
    (475, 25)
    """
    tokens = validate.integer(tokens, "tokens", 1, validate.INT32_MAX)
    most = validate.integer(held_out_tokens, "held_out_tokens", 1, validate.INT32_MAX)
    corpora = _by_size(Corpus(paths, tokenizer=tokenizer, documents=documents))
    min_count = default_min_count(tokenizer) if min_count is None else min_count
    min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
    spare = 0 if valid is not None else min(most, int(tokens * HELD_OUT_SHARE / (1 - HELD_OUT_SHARE)))
    with progress_bar(2 * (tokens + spare), "read", progress) as bar:
        lists = _first_lists(corpora, tokens + spare, bar.update)
        every_type = Vocabulary.build(lists, tokenizer=tokenizer, documents=documents)
        text = _first_tokens(corpora, every_type, tokens + spare, bar.update)
    Corpus.check_parts(corpora)
    held = np.zeros(text.ids.size, bool) if valid is not None else _held_out(text, most)
    train = _chosen(text, ~held, tokens)
    vocabulary, recode = _frequent(every_type, train.ids, min_count)
    if valid is None:
        held_out = _recoded(_chosen(text, held, most), recode)
    else:
        corpus = Corpus(valid, tokenizer=tokenizer, documents=documents)
        held_out = _first_tokens([corpus], vocabulary, most, lambda _: None)
    return Split(_recoded(train, recode), held_out, len(vocabulary), vocabulary)


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


def _first_tokens(
    corpora: Sequence[Corpus], vocabulary: Vocabulary, tokens: int, advance: Callable[[int], Any]
) -> TokenStream:
    """The first tokens of each file, so many in all."""
    ids, starts, size = [np.empty(0, np.int32)], [np.empty(0, np.int64)], 0
    for place, corpus in enumerate(corpora):
        end = size + math.ceil((tokens - size) / (len(corpora) - place))
        for chunk in corpus.chunks(vocabulary):
            ids.append(chunk.ids[: end - size])
            starts.append(chunk.starts[chunk.starts < end - size] + size)
            size += ids[-1].size
            advance(ids[-1].size)
            if size >= end:
                break
    return TokenStream(np.concatenate(ids), np.concatenate(starts))


def _held_out(text: TokenStream, most: int) -> Bools:
    """Which tokens to hold out: every twentieth document, or the last twentieth; at most about ``most``."""
    size = text.ids.size
    held = np.zeros(size, bool)
    n_documents = text.starts.size
    if n_documents >= FEWEST:
        every = max(round(1 / HELD_OUT_SHARE), math.ceil(size / most))
        last = np.arange(n_documents) % every == min(every, n_documents) - 1
        return np.repeat(last, text.lengths())
    lines = np.append(0, np.flatnonzero(text.ids == LINE_END_ID) + 1)
    for starts in (lines[lines < size], np.arange(size)):
        place = max(math.ceil(starts.size * (1 - HELD_OUT_SHARE)), int(np.searchsorted(starts, size - most)))
        if starts.size >= FEWEST and place < starts.size:
            held[starts[place] :] = True
            return held
    raise ValueError(f"the text has {size} tokens, too few to hold some out; give more, or a held-out text of its own")


def _chosen(text: TokenStream, chosen: Bools, most: int) -> TokenStream:
    """The first so many chosen tokens as a text of their own."""
    begins = np.zeros(text.ids.size, bool)
    begins[text.starts] = True
    begins = begins[chosen][:most]
    begins[:1] = True
    return TokenStream(text.ids[chosen][:most], np.flatnonzero(begins))


def _recoded(text: TokenStream, recode: Int32) -> TokenStream:
    return TokenStream(recode[text.ids], text.starts)


def _frequent(every_type: Vocabulary, ids: Int32, min_count: int) -> tuple[Vocabulary, Int32]:
    """The vocabulary of a training text, and the new id of each old one."""
    found, first, counts = np.unique(ids, return_index=True, return_counts=True)
    kept = (counts >= min_count) & (found > max(UNKNOWN_ID, LINE_END_ID))
    kept_ids = found[kept][np.lexsort((first[kept], -counts[kept]))]  # by frequency, ties by first appearance
    recode = np.full(len(every_type), UNKNOWN_ID, np.int32)
    recode[LINE_END_ID] = LINE_END_ID
    recode[kept_ids] = np.arange(kept_ids.size) + 2
    types = [every_type.types[place] for place in kept_ids]
    unseen = unseen_pieces(every_type.tokenizer, types, min_count)
    recode[every_type.encode(unseen)] = np.arange(len(unseen)) + 2 + len(types)
    types += unseen
    tokenizer, documents = every_type.tokenizer, every_type.documents
    return Vocabulary(types, tokenizer=tokenizer, documents=documents, min_count=min_count), recode

"""Models and texts as commands read them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from saffu.attention_lm.model import SaffuLM
from saffu.cli.values import BytePairs
from saffu.mixture_lm import MixtureLM
from saffu.ngram_lm import BackoffLM, ExplicitLM
from saffu.recurrent_lm import RecurrentLM
from saffu.text import Chunk, Corpus, SubwordTokenizer, Vocabulary
from saffu.text.reading import Advance
from saffu.transformer.model import Transformer
from saffu.utils import checkpoint
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

LANGUAGE_MODELS = (ExplicitLM, BackoffLM, SaffuLM, RecurrentLM, Transformer, MixtureLM)
LanguageModel: TypeAlias = ExplicitLM | BackoffLM | SaffuLM | RecurrentLM | Transformer | MixtureLM


def load(path: str, n_threads: int | None = None, *, mmap: bool = False) -> Any:
    """A model of any kind, which will use so many threads; ``mmap`` as in :func:`saffu.load`.

    Raises
    ------
    OSError, ValueError
        As :func:`saffu.load`.
    """
    model = checkpoint.load(path, mmap=mmap)
    parts: list[Any] = [model, getattr(model, "residual", None)]
    for part in parts:
        if hasattr(part, "n_threads"):
            part.n_threads = n_threads
    return model


def load_with_vocabulary(path: str, n_threads: int | None = None, *, mmap: bool = False) -> Any:
    """A language model that reads text.

    Raises
    ------
    ValueError
        If the file holds another kind of model, or one without a vocabulary.
    """
    model = load(path, n_threads, mmap=mmap)
    vocabulary_of(model, path)
    return model


def vocabulary_of(model: Any, path: str) -> Vocabulary:
    """The vocabulary of a language model that was read from ``path``.

    Raises
    ------
    ValueError
        If it is none, or has no vocabulary.
    """
    check_language_model(model, path)
    vocabulary: Vocabulary | None = getattr(model, "vocabulary", None)
    if vocabulary is None:
        raise ValueError(f"{path!r} holds a language model without a vocabulary; set its attribute vocabulary and save")
    return vocabulary


def check_language_model(model: Any, path: str) -> None:
    """Refuse what was read from ``path`` if it is none.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(model, LANGUAGE_MODELS):
        raise ValueError(f"{path!r} holds {type(model).__name__}, which is not a language model")


def looks_like_model(path: str) -> bool:
    """Whether a file begins as those do that ``save`` writes: no text in UTF-8 does.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        begins = file.read(9)
    return len(begins) == 9 and begins[4:] == b"\0\0\0\0{"  # the length of a header, and the header


def corpus_for(vocabulary: Vocabulary, files: Sequence[str], documents: str | None) -> Corpus:
    """Files that are read as the training text of a vocabulary was, but for ``documents`` if given."""
    return Corpus(files, tokenizer=vocabulary.tokenizer, documents=documents or vocabulary.documents)


def tokenizer_files(arguments: argparse.Namespace) -> list[str]:
    """The file that the tokenizer was read from, if there is one: an input of the command."""
    path = getattr(arguments.tokenizer, "path", None)
    return [] if path is None else [path]


def corpus_to_train(arguments: argparse.Namespace) -> Corpus:
    """The files to train on; under any tokenizer if one is still to be trained."""
    tokenizer = "whitespace" if isinstance(arguments.tokenizer, BytePairs) else arguments.tokenizer
    return Corpus(arguments.files, tokenizer=tokenizer, documents=arguments.documents)


def with_trained_tokenizer(corpus: Corpus, arguments: argparse.Namespace) -> Corpus:
    """The same files under the tokenizer that the options ask for, trained on them if it is to be."""
    if not isinstance(arguments.tokenizer, BytePairs):
        return corpus
    with reading_bar(corpus, "tokenizer", not arguments.quiet) as advance:
        texts = corpus.texts(advance=advance)
        tokenizer = SubwordTokenizer.train_bpe(texts, vocab_size=arguments.tokenizer.n_pieces)
    return corpus.with_tokenizer(tokenizer)


@contextmanager
def reading_bar(corpus: Corpus, description: str, progress: bool) -> Iterator[Advance]:
    """A progress bar over the bytes of a corpus: the function that advances it."""
    with progress_bar(corpus.n_bytes, description, progress, in_bytes=True) as bar:
        yield bar.update


def whole_documents(chunks: Iterable[Chunk]) -> Iterator[TokenStream]:
    """The documents of a corpus that is read chunk by chunk, as many together as a chunk completes.

    Examples
    --------
    >>> stretches = ([2, 3, 1], [0]), ([4, 5], [1])
    >>> chunks = [Chunk(np.array(ids, np.int32), np.array(starts), 9) for ids, starts in stretches]
    >>> [stream.ids.tolist() for stream in whole_documents(chunks)]
    [[2, 3, 1, 4], [5]]
    """
    held: list[TokenStream] = []  # stretches from the start of the last document on
    for chunk in chunks:
        if chunk.starts.size == 0:
            held.append(chunk.stream)
            continue
        cut = int(chunk.starts[-1])
        held.append(TokenStream(chunk.ids[:cut], chunk.starts[:-1]))
        yield from _joined(held)
        held = [TokenStream(chunk.ids[cut:], np.zeros(1, np.int64))]
    yield from _joined(held)


def _joined(stretches: Sequence[TokenStream]) -> Iterator[TokenStream]:
    """Stretches of text in one stream, if they hold any."""
    stream = TokenStream.concat(stretches)
    if stream.ids.size:
        yield stream


class ScoringBar:
    """A progress bar over the bytes of a corpus that counts them when their tokens have been scored.

    Parameters
    ----------
    bar : object
        Has ``update``.
    """

    def __init__(self, bar: Any) -> None:
        self._bar, self._read = bar, 0

    def read(self, n_bytes: int) -> None:
        """So many more bytes have been read."""
        self._read += n_bytes

    def scored(self, stream: TokenStream) -> Advance:
        """What to call with numbers of tokens of a stream that have been scored, the last that was read."""
        size, self._read = self._read, 0
        return lambda n: self._bar.update(size * n / stream.ids.size)


@contextmanager
def scoring_bar(corpus: Corpus, progress: bool) -> Iterator[ScoringBar]:
    """A progress bar for a corpus that is scored while it is read."""
    with progress_bar(corpus.n_bytes, "score", progress, in_bytes=True) as bar:
        yield ScoringBar(bar)

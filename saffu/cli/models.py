"""Models and texts as commands read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from saffu.attention_lm.model import SaffuLM
from saffu.ngram_lm import BackoffLM, ExplicitLM
from saffu.text import Corpus, Vocabulary
from saffu.text.reading import Advance
from saffu.transformer.model import Transformer
from saffu.utils import checkpoint
from saffu.utils.progress import progress_bar

LANGUAGE_MODELS = (ExplicitLM, BackoffLM, SaffuLM, Transformer)
LanguageModel: TypeAlias = ExplicitLM | BackoffLM | SaffuLM | Transformer


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
    if not isinstance(model, LANGUAGE_MODELS):
        raise ValueError(f"{path!r} holds {type(model).__name__}, which is not a language model")
    vocabulary: Vocabulary | None = getattr(model, "vocabulary", None)
    if vocabulary is None:
        raise ValueError(f"{path!r} holds a language model without a vocabulary; set its attribute vocabulary and save")
    return vocabulary


def corpus_for(vocabulary: Vocabulary, files: Sequence[str], documents: str | None) -> Corpus:
    """Files that are read as the training text of a vocabulary was, but for ``documents`` if given."""
    return Corpus(files, tokenizer=vocabulary.tokenizer, documents=documents or vocabulary.documents)


@contextmanager
def reading_bar(corpus: Corpus, description: str, progress: bool) -> Iterator[Advance]:
    """A progress bar over the bytes of a corpus: the function that advances it."""
    with progress_bar(corpus.n_bytes, description, progress, in_bytes=True) as bar:
        yield bar.update

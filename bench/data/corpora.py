"""Text corpora of the folder SAFFU_DATA as streams of ids, with the vocabulary of their training part."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saffu.text import LINE_END_ID, Chunk, Corpus, Vocabulary
from saffu.utils.streams import TokenStream

CHILDREN = ("aochildes", "fairytales", "tinystories")
WORDS = ("brown", *CHILDREN)  # corpora with a validation part
MIN_COUNT = 3  # of words; every character is kept
VALID_TOKENS = 30_000  # of a validation part, scored often while something is trained
SHAKESPEARE_SHARE = 0.9  # of its characters are for training

Ids = NDArray[np.int32]


class Split(NamedTuple):
    """Training and test part of a corpus."""

    name: str
    vocabulary: Vocabulary
    train: Chunk
    test: Chunk


class Parts(NamedTuple):
    """Training, validation and test part of a corpus."""

    name: str
    vocabulary: Vocabulary
    train: Chunk
    valid: Chunk
    test: Chunk


def load(folder: Path, name: str, tokenizer: str, test_part: str = "test") -> Split:
    """A corpus in files ``{name}train.txt.gz`` and so on, with a blank line between documents.

    Parameters
    ----------
    folder : path
        Folder of the data sets.
    name : str
        Path and beginning of the file names, such as ``"brown/"`` or ``"children/fairytales."``.
    tokenizer : str
        As in :class:`saffu.text.Corpus`.
    test_part : {"test", "valid"}
        What to score on.
    """
    train = Corpus(folder / f"{name}train.txt.gz", tokenizer=tokenizer)
    vocabulary = train.build_vocabulary(MIN_COUNT)
    test = Corpus(folder / f"{name}{test_part}.txt.gz", tokenizer=tokenizer)
    return Split(name.strip("/.").split("/")[-1], vocabulary, train.read(vocabulary), test.read(vocabulary))


def brown(folder: Path, test_part: str = "test") -> Split:
    """The Brown corpus, whitespace tokens."""
    return load(folder, "brown/", "whitespace", test_part)


def children(folder: Path, part: str) -> Split:
    """One of the three children's corpora, whitespace tokens."""
    return load(folder, f"children/{part}.", "whitespace")


def parts(folder: Path, name: str, tokens: int | None = None) -> Parts:
    """All three parts of one of ``WORDS``, whitespace tokens.

    Parameters
    ----------
    folder : path
        Folder of the data sets.
    name : str
        Or ``"children"``: the three corpora of ``CHILDREN``, an equal share of the tokens from each.
    tokens : int, optional
        Train on the whole lines among the first so many tokens, with the vocabulary of these alone.
    """
    paths = ["brown/"] if name == "brown" else [f"children/{part}." for part in _members(name)]
    train, valid, test = ([folder / f"{path}{part}.txt.gz" for path in paths] for part in ("train", "valid", "test"))
    if tokens is None:
        vocabulary = Corpus(train, tokenizer="whitespace").build_vocabulary(MIN_COUNT)
        return Parts(
            name,
            vocabulary,
            *(Corpus(files, tokenizer="whitespace").read(vocabulary) for files in (train, valid, test)),
        )
    every_type = Corpus(train, tokenizer="whitespace").build_vocabulary(1)
    share = tokens // len(paths)
    text = joined(beginning(Corpus(file, tokenizer="whitespace").read(every_type), share) for file in train)
    vocabulary, ids = frequent(every_type, text.ids)
    others = (Corpus(files, tokenizer="whitespace").read(vocabulary) for files in (valid, test))
    return Parts(name, vocabulary, text._replace(ids=ids), *others)


def _members(name: str) -> tuple[str, ...]:
    return CHILDREN if name == "children" else (name,)


def joined(texts: Iterable[Chunk]) -> Chunk:
    """Texts one after the other."""
    chunks = list(texts)
    whole = TokenStream.concat(chunk.stream for chunk in chunks)
    return Chunk(whole.ids, whole.starts, sum(chunk.n_characters for chunk in chunks))


def sample(text: Chunk, tokens: int, runs: int = 8) -> Chunk:
    """About so many tokens: runs of whole lines, evenly spaced over the text, each a document of its own."""
    if tokens >= text.ids.size:
        return text
    ends = np.concatenate([[0], np.flatnonzero(text.ids == LINE_END_ID) + 1])
    wanted = np.linspace(0, text.ids.size, runs, endpoint=False)
    low = np.searchsorted(ends, wanted)
    high = np.minimum(np.searchsorted(ends, ends[np.minimum(low, ends.size - 1)] + tokens // runs), ends.size - 1)
    spans = [(int(ends[a]), int(ends[b])) for a, b in zip(low, high, strict=True) if a < b]
    return joined(_span(text, first, last) for first, last in spans)


def _span(text: Chunk, first: int, last: int) -> Chunk:
    span, share = text.stream.slice(first, last), (last - first) / text.ids.size
    return Chunk(span.ids, span.starts, round(text.n_characters * share))


def beginning(text: Chunk, tokens: int) -> Chunk:
    """The whole lines among the first so many tokens."""
    if tokens >= text.ids.size:
        return text
    ends = np.flatnonzero(text.ids[:tokens] == LINE_END_ID) + 1
    if ends.size == 0:
        raise ValueError(f"tokens must reach over the first line, got {tokens}")
    share = ends[-1] / text.ids.size
    documents = text.starts[text.starts < ends[-1]]
    return Chunk(text.ids[: ends[-1]], documents, round(text.n_characters * share))


def frequent(vocabulary: Vocabulary, ids: Ids, min_count: int = MIN_COUNT) -> tuple[Vocabulary, Ids]:
    """The vocabulary of the types that occur at least so often among ids, and the ids in it."""
    counts = np.bincount(ids, minlength=len(vocabulary))
    special = LINE_END_ID + 1
    found, first = np.unique(ids, return_index=True)
    appearance = np.full(counts.size, ids.size)
    appearance[found] = first
    kept = special + np.flatnonzero(counts[special:] >= min_count)
    kept = kept[np.lexsort([appearance[kept], -counts[kept]])]
    renumbered = np.zeros(counts.size, np.int32)
    renumbered[:special] = np.arange(special)
    renumbered[kept] = special + np.arange(kept.size)
    types = [vocabulary.types[kind] for kind in kept]
    settings = {"tokenizer": vocabulary.tokenizer, "documents": vocabulary.documents}
    return Vocabulary(types, **settings, min_count=min_count), renumbered[ids]


def shakespeare(folder: Path, tokenizer: str, share: float = SHAKESPEARE_SHARE, within: float = 1.0) -> Split:
    """Tiny Shakespeare as one document.

    Parameters
    ----------
    folder : path
        Folder of the data sets.
    tokenizer : {"words", "chars"}
    share : float
        This much of the text, from its beginning, is for training, the rest for the test.
    within : float
        Use only this much of the text, from its beginning.
    """
    text = gzip.decompress((folder / "tinyshakespeare" / "input.txt.gz").read_bytes()).decode()
    text = text[: int(len(text) * within)]
    cut = int(len(text) * share)
    with tempfile.TemporaryDirectory() as scratch:
        parts = []
        for part, content in (("train", text[:cut]), ("test", text[cut:])):
            path = Path(scratch) / f"{part}.txt"
            path.write_text(content, encoding="utf-8", newline="")
            parts.append(Corpus(path, tokenizer=tokenizer, documents="file"))
        vocabulary = parts[0].build_vocabulary()
        train, test = (part.read(vocabulary) for part in parts)
    return Split(f"Tiny Shakespeare, {tokenizer}", vocabulary, train, test)

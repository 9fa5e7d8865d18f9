"""Text corpora of the folder SAFFU_DATA as streams of ids, with the vocabulary of their training part."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import NamedTuple

from saffu.text import Chunk, Corpus, Vocabulary

CHILDREN = ("aochildes", "fairytales", "tinystories")
MIN_COUNT = 3  # of words; every character is kept
SHAKESPEARE_SHARE = 0.9  # of its characters are for training


class Split(NamedTuple):
    """Training and test part of a corpus."""

    name: str
    vocabulary: Vocabulary
    train: Chunk
    test: Chunk


def load(folder: Path, name: str, tokeniser: str, test_part: str = "test") -> Split:
    """A corpus in files ``{name}train.txt.gz`` and so on, with a blank line between documents.

    Parameters
    ----------
    folder : path
        Folder of the data sets.
    name : str
        Path and beginning of the file names, such as ``"brown/"`` or ``"children/fairytales."``.
    tokeniser : str
        As in :class:`saffu.text.Corpus`.
    test_part : {"test", "valid"}
        What to score on.
    """
    train = Corpus(folder / f"{name}train.txt.gz", tokeniser)
    vocabulary = train.build_vocabulary(MIN_COUNT)
    test = Corpus(folder / f"{name}{test_part}.txt.gz", tokeniser)
    return Split(name.strip("/.").split("/")[-1], vocabulary, train.read(vocabulary), test.read(vocabulary))


def brown(folder: Path, test_part: str = "test") -> Split:
    """The Brown corpus, whitespace tokens."""
    return load(folder, "brown/", "whitespace", test_part)


def children(folder: Path, part: str) -> Split:
    """One of the three children's corpora, whitespace tokens."""
    return load(folder, f"children/{part}.", "whitespace")


def shakespeare(folder: Path, tokeniser: str, share: float = SHAKESPEARE_SHARE, within: float = 1.0) -> Split:
    """Tiny Shakespeare as one document.

    Parameters
    ----------
    folder : path
        Folder of the data sets.
    tokeniser : {"words", "chars"}
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
            parts.append(Corpus(path, tokeniser, "file"))
        vocabulary = parts[0].build_vocabulary()
        train, test = (part.read(vocabulary) for part in parts)
    return Split(f"Tiny Shakespeare, {tokeniser}", vocabulary, train, test)

"""A corpus of unknown vocabulary as ids, in one reading: tokens are numbered as they come, and renumbered in the end.

The numbers go to a temporary file without a name, four bytes a token, which is gone with its process. Reading them back
takes a fraction of the time that it takes to decompress and split the text again.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from saffu.text.corpus import Chunk, Corpus
from saffu.text.reading import Advance
from saffu.text.special import LINE_END, UNKNOWN
from saffu.text.tokenizers import default_min_count
from saffu.text.vocabulary import DOCUMENT_END_ID, LINE_END_ID, UNKNOWN_ID, Vocabulary, unseen_pieces
from saffu.utils import validate
from saffu.utils.arrays import Int64

SPECIAL = {UNKNOWN: UNKNOWN_ID, LINE_END: LINE_END_ID, "\n": LINE_END_ID, "\n\n": DOCUMENT_END_ID}


class _Block(NamedTuple):
    """What a block of tokens is beside its numbers."""

    begins_document: bool
    n_tokens: int
    n_characters: int
    n_bytes: int


class _Numbers(dict[str, int]):
    """The number of each type in the order of first appearance."""

    def __missing__(self, token: str) -> int:
        self[token] = number = len(self)
        return number


class EncodedCorpus:
    r"""The ids of a corpus under the vocabulary that is made of it.

    Parameters
    ----------
    corpus : Corpus
        It is read here, once.
    min_count : int, optional
        Types seen less often become ``<unk>``; by default 3, for chars and bytes 1.
    folder : str, optional
        Of the temporary file; by default the place of temporary files.
    advance : callable, optional
        As in :meth:`Corpus.chunks`.

    Attributes
    ----------
    vocabulary : Vocabulary
        That of :meth:`Corpus.build_vocabulary`.
    n_tokens : int

    Raises
    ------
    ValueError, OSError
        As :meth:`Corpus.chunks`; or if the temporary file cannot be written.

    Examples
    --------
    >>> import pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     book = pathlib.Path(folder, "book.txt")
    ...     _ = book.write_text("the cat sat .\n\nthe dog sat .\n")
    ...     text = EncodedCorpus(Corpus(book), min_count=2)
    ...     [chunk] = text.chunks()
    >>> text.vocabulary.types, chunk.ids.tolist(), chunk.starts.tolist()
    (['<unk>', '<eos>', 'the', 'sat', '.'], [2, 0, 3, 4, 1, 2, 0, 3, 4, 1], [0, 5])
    """

    def __init__(
        self, corpus: Corpus, *, min_count: int | None = None, folder: str | None = None, advance: Advance | None = None
    ) -> None:
        min_count = default_min_count(corpus.tokenizer) if min_count is None else min_count
        min_count = validate.integer(min_count, "min_count", 1, validate.INT32_MAX)
        self._blocks: list[_Block] = []
        numbers, counts = _Numbers(), np.zeros(0, np.int64)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        weakref.finalize(self, self._file.close)
        for begins_document, tokens, n_characters, n_bytes in corpus.tokenized_blocks(advance):
            found = np.fromiter(map(numbers.__getitem__, tokens), np.int32, len(tokens))
            self._file.write(found.data)
            self._blocks.append(_Block(begins_document, found.size, n_characters, n_bytes))
            more = np.bincount(found, minlength=counts.size)
            more[: counts.size] += counts
            counts = more
        self.n_tokens = sum(block.n_tokens for block in self._blocks)
        self.vocabulary = self._vocabulary(corpus, numbers, counts, min_count)

    def _vocabulary(self, corpus: Corpus, numbers: _Numbers, counts: Int64, min_count: int) -> Vocabulary:
        """The types by descending frequency, ties by first appearance; and the id of each number."""
        types = list(numbers)
        is_type = counts >= min_count
        is_type[[number for token, number in numbers.items() if token in SPECIAL]] = False
        ranked = np.flatnonzero(is_type)
        ranked = ranked[np.argsort(-counts[ranked], kind="stable")]
        self._ids = np.full(counts.size, UNKNOWN_ID, np.int32)
        self._ids[ranked] = np.arange(ranked.size, dtype=np.int32) + 1 + max(UNKNOWN_ID, LINE_END_ID)
        for token, special in SPECIAL.items():
            if token in numbers:
                self._ids[numbers[token]] = special
        settings: dict[str, Any] = {"tokenizer": corpus.tokenizer, "documents": corpus.documents}
        kept = [types[number] for number in ranked.tolist()]
        kept += unseen_pieces(corpus.tokenizer, kept, min_count)
        return Vocabulary(kept, min_count=min_count, **settings)

    def chunks(self) -> Iterator[Chunk]:
        """Iterate over the corpus as :meth:`Corpus.chunks` with this vocabulary; one iteration at a time."""
        self._file.seek(0)
        for block in self._blocks:
            ids = self._ids[np.frombuffer(self._file.read(4 * block.n_tokens), np.int32)]
            starts = np.flatnonzero(ids == DOCUMENT_END_ID) + 1
            starts = starts[starts < ids.size]
            if block.begins_document:
                starts = np.concatenate([np.zeros(1, np.int64), starts])
            yield Chunk(np.abs(ids, out=ids), starts.astype(np.int64), block.n_characters, block.n_bytes)

"""Where words begin in a text of pieces: of characters, bytes or parts of words.

A word is what stands between white space; the white space before it belongs to it, as in the pieces of most tokenizers.
A line end is a word of its own.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import numpy as np

from saffu.text.vocabulary import LINE_END_ID, Vocabulary
from saffu.utils.arrays import Array, Int64
from saffu.utils.streams import TokenStream


class WordBounds(NamedTuple):
    """What decides where words begin, for each type of a vocabulary, shape (V,)."""

    begins_with_space: Array
    ends_with_space: Array
    is_space: Array

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> WordBounds:
        """Look at every type once."""
        spaces = string.whitespace if vocabulary.tokenizer == "bytes" else None
        texts = vocabulary.type_texts()
        begins, ends, only = (
            np.fromiter((bool(text) and test(text) for text in texts), bool, len(texts))
            for test in (
                lambda text: text != text.lstrip(spaces),
                lambda text: text != text.rstrip(spaces),
                lambda text: not text.strip(spaces),
            )
        )
        for flags in (begins, ends, only):
            flags[LINE_END_ID] = True
        return cls(begins, ends, only)

    def starts(self, stream: TokenStream) -> Int64:
        """Offsets at which words begin.

        Examples
        --------
        >>> vocabulary = Vocabulary(["a", "b", " "], tokenizer="chars")
        >>> WordBounds.of(vocabulary).starts(TokenStream.of([2, 3, 4, 4, 2, 1, 3])).tolist()
        [0, 2, 5, 6]
        """
        ids = stream.ids
        if ids.size == 0:
            return np.empty(0, np.int64)
        now, before = ids[1:], ids[:-1]
        new = np.ones(ids.size, bool)
        # White space begins a word unless white space is all that this word has so far.
        new[1:] = (self.begins_with_space[now] | self.ends_with_space[before]) & ~self.is_space[before]
        new[1:] |= (now == LINE_END_ID) | (before == LINE_END_ID)
        new[stream.starts] = True
        return np.flatnonzero(new)

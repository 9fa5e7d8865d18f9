"""Log-probabilities of many texts under a language model, each text a document of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu.text.tokenizers import document_tokens
from saffu.text.vocabulary import UNKNOWN_ID, Vocabulary
from saffu.utils.arrays import Float64, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream


class EncodedTexts(NamedTuple):
    """Texts as ids.

    Attributes
    ----------
    stream : TokenStream
        All of them, each at the start of a document.
    lengths : ndarray of int64, shape (n,)
        Tokens of each.
    """

    stream: TokenStream
    lengths: Int64

    @classmethod
    def of(cls, texts: Sequence[str], vocabulary: Vocabulary) -> EncodedTexts:
        r"""Read each text as a file that holds it would be: it ends with a line end, which is a token, too.

        A blank text has no tokens, unless blank lines are some in files of this vocabulary.

        Examples
        --------
        >>> found = EncodedTexts.of(["a b", "b", "a\nb"], Vocabulary(["a", "b"]))
        >>> found.stream.ids.tolist(), found.lengths.tolist()
        ([2, 3, 1, 3, 1, 2, 1, 3, 1], [3, 2, 4])
        """
        lists = [document_tokens(text, vocabulary.tokenizer, vocabulary.documents, whole=True) for text in texts]
        lengths = np.array([len(found) for found in lists], np.int64)
        ids, ends = vocabulary.encode_block([token for found in lists for token in found])
        starts = np.union1d(ends, np.cumsum(lengths) - lengths)
        return cls(TokenStream(ids, starts[starts < ids.size]), lengths)

    def sums(self, values: Float64) -> Float64:
        """The sum of what belongs to the tokens of each text, shape (n,)."""
        found = np.zeros(self.lengths.size)
        has_any = self.lengths > 0
        if has_any.any():
            found[has_any] = np.add.reduceat(values, (np.cumsum(self.lengths) - self.lengths)[has_any])
        return found

    def log_prob(self, model: LanguageModel) -> Float64:
        """Log-probability of each text in nats, shape (n,)."""
        return self.sums(model.log_prob(self.stream.ids, documents=self.stream.starts, progress=False))

    def n_unknown(self) -> Int64:
        """How many tokens of each text its vocabulary does not know, shape (n,)."""
        return self.sums((self.stream.ids == UNKNOWN_ID).astype(np.float64)).astype(np.int64)

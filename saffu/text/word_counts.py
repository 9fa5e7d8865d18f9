"""How often each type was seen in parts of a text, so that a vocabulary can be made of parts read by many processes."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from saffu.text.vocabulary import NO_TYPES, Vocabulary


class WordCounts(NamedTuple):
    """Types of a part of a text; line ends are among them, so that only a part without text has none.

    Attributes
    ----------
    counts : Counter of str
    first : dict of str to int
        A number that grows with the place at which a type first appears in the whole text.
    """

    counts: Counter[str]
    first: dict[str, int]

    @classmethod
    def of(cls, token_lists: Iterable[Iterable[str]], number: int) -> WordCounts:
        """Those of the part with this number.

        Examples
        --------
        >>> WordCounts.of([["a", "b", "a"]], 0).counts.most_common()
        [('a', 2), ('b', 1)]
        """
        counts: Counter[str] = Counter()
        for tokens in token_lists:
            counts.update(tokens)
        return cls(counts, dict(zip(counts, range(number << 40, (number + 1) << 40), strict=False)))

    def divided(self, n: int) -> list[WordCounts]:
        """The same in n shares; a type is in the same one in every part."""
        shares = [WordCounts(Counter(), {}) for _ in range(n)]
        for kind, count in self.counts.items():
            counts, first = shares[zlib.crc32(kind.encode("utf-8", "surrogatepass")) % n]
            counts[kind], first[kind] = count, self.first[kind]
        return shares

    def merge(self, other: WordCounts) -> WordCounts:
        """Those of this and a later part."""
        return WordCounts(self.counts + other.counts, other.first | self.first)

    def frequent(self, min_count: int) -> WordCounts:
        """Without types seen less often, but with line ends."""
        kept = {kind: count for kind, count in self.counts.items() if count >= min_count or kind in NO_TYPES}
        return WordCounts(Counter(kept), {kind: self.first[kind] for kind in kept})


def vocabulary_of(shares: Iterable[WordCounts], *, min_count: int, tokenizer: Any, documents: str) -> Vocabulary:
    """The vocabulary of a text, of all shares of its types: the same as :meth:`Vocabulary.build` makes of the text."""
    counts: dict[str, int] = {}
    first: dict[str, int] = {}
    for share in shares:
        counts |= share.counts
        first |= share.first
    ordered = {kind: counts[kind] for kind in sorted(first, key=first.__getitem__)}
    return Vocabulary.from_counts(ordered, min_count=min_count, tokenizer=tokenizer, documents=documents)

"""What counting may take: memory, a place for what exceeds it, and the least counts that are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from saffu.ngram_lm.contexts import Contexts
from saffu.utils import validate
from saffu.utils.byte_sizes import byte_size

Folder = str | os.PathLike[str]

BYTES_PER_TOKEN = 1000  # of text that is counted in one go, with everything that takes, about


@dataclass(frozen=True)
class CountingLimits:
    """How counts are kept; what they are in the end depends on ``min_entry`` alone.

    Attributes
    ----------
    memory : int or None
        Bytes that counting and priming may take, about; None for as much as they need.
    min_entry : tuple of int
        For n-grams of 1, 2, ... tokens, the count below which an entry is dropped; empty to keep all.
    spill_folder : str or None
        Where counts go that exceed the memory; None for the place of temporary files.
    """

    memory: int | None = None
    min_entry: tuple[int, ...] = ()
    spill_folder: str | None = None

    @classmethod
    def of(
        cls, contexts: Contexts, memory_limit: int | str | None, min_entry: Sequence[int], spill_folder: Folder | None
    ) -> CountingLimits:
        """Check and convert.

        Raises
        ------
        ValueError, TypeError
            If a value is of the wrong type or out of range, or the least counts do not suit the contexts.
        """
        memory = None if memory_limit is None else byte_size(memory_limit, "memory_limit")
        least = tuple(validate.integer(value, "min_entry", 1, validate.INT32_MAX) for value in min_entry)
        if least and least[0] != 1:
            raise ValueError(f"min_entry must begin with 1: every token of the vocabulary is kept, got {least[0]}")
        if list(least) != sorted(least):
            raise ValueError(f"min_entry must not descend: a long n-gram needs the shorter ones, got {list(least)}")
        if len(least) > contexts.order:
            raise ValueError(f"min_entry must be at most {contexts.order} counts, one per order, got {len(least)}")
        if least and contexts.is_backoff and max(least) > 1:
            raise ValueError("min_entry is not for priming 'kneser-ney' and 'backoff', whose lower orders count types")
        if contexts.floor and (memory is not None or max(least, default=1) > 1):
            raise ValueError("floor needs all counts in memory: give neither memory_limit nor min_entry")
        if contexts.keys and (memory is not None or max(least, default=1) > 1):
            raise ValueError(
                "skips, words and line_ends need all counts in memory: give neither memory_limit nor min_entry"
            )
        return cls(
            memory, least if least and least[-1] > 1 else (), None if spill_folder is None else str(spill_folder)
        )

    def least_counts(self, radius: int, order: int) -> list[int]:
        """The least count of each table: distances 1..radius, then suffixes of 2, 3, ... order - 1 tokens.

        A pair at any distance is an n-gram of two tokens; the last value holds for all longer ones.
        """
        of_order = [self.min_entry[min(n, len(self.min_entry)) - 1] for n in range(1, order + 1)]
        return [*[of_order[1]] * radius, *of_order[2:]]

    def most_tokens(self, most: int) -> int:
        """Tokens that can be counted in one go, of so many."""
        return max(most if self.memory is None else min(most, max(self.memory // BYTES_PER_TOKEN, 1024)), 1)

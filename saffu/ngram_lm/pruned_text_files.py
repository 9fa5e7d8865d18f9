"""A pruned text as arrays and metadata of a file, and back.

All numbers are integers in few bytes (:mod:`saffu.utils.coded_integers`): the lengths of rows; of the words of a row,
which ascend, the gaps between them; of weights the multiples of the step, from the lowest of the table on; and totals.
A row without a weight is nothing but its length. Without a step, weights are float32.

In files of before, which have no step, words and other integers are arrays of the narrowest type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.pruned_text import LARGEST_STEP, LEAST_STEP, PrunedText, is_in_chain, table_of
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.weights import Table
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64, Int32, Int64
from saffu.utils.coded_integers import decode, encode
from saffu.utils.threads import Workers, resolve_threads

LARGEST = 1 << 56  # integer
HIGHEST_MULTIPLE = 1 << 31  # of the step


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(text: PrunedText, bounds: Float64 | None) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and metadata of a pruned text."""
    arrays = write_rows(text.weights.tables, text.contexts.table_radius, bounds, text.step, text.weights.n_threads)
    arrays |= write_statistics(text.unigram, text.followed)
    metadata = {
        **text.contexts.settings(),
        "vocab_size": text.vocab_size,
        "n_tokens": text.counts.n_tokens,
        "start_length": text.start_length,
        "step": text.step,
        "pruning": text.record,
    }
    return arrays, metadata


def write_statistics(unigram: Int64, followed: Int64) -> dict[str, Array]:
    """The arrays of how often, and after how many types, each word is found."""
    return {"unigram": encode(unigram), "followed": encode(followed)}


def write_rows(
    tables: Sequence[Table], radius: int, bounds: Float64 | None, step: float, n_threads: int
) -> dict[str, Array]:
    """The arrays of compact tables, rounded to multiples of the step.

    Of a total all that matters is on which side of the bounds of the states it is, so it is cut just above the highest.
    """
    highest = np.floor(bounds.max()) + 1 if bounds is not None else 1.0
    lowest = np.zeros(len(tables), np.int64)
    if step:
        lowest[:] = [np.rint(table.u.min(initial=0.0) / step) for table in tables]

    def arrays_of(j: int) -> dict[str, Array]:
        table = tables[j]
        found: dict[str, Array] = {
            f"table{j}.lengths": encode(np.diff(table.counts.indptr)),
            f"table{j}.words": encode(_gaps(table.counts.indptr, table.counts.indices)),
            f"table{j}.weights": table.u.astype(np.float32),
        }
        if step:
            found[f"table{j}.weights"] = encode(np.rint(table.u / step).astype(np.int64) - lowest[j])
        if is_in_chain(j, radius):
            totals = np.minimum(table.total[table.total > 0], highest)
            found[f"table{j}.totals"] = encode(totals.astype(np.int64))
        return found

    arrays: dict[str, Array] = {"lowest": lowest}
    for found in Workers(n_threads).map(arrays_of, range(len(tables))):
        arrays |= found
    return arrays


def _gaps(indptr: Int64, words: Array) -> Int64:
    """How many words lie between each word of a row and the one before it, or the beginning."""
    gaps = np.diff(words, prepend=-1) - np.int64(1)
    begins = _begins(indptr)
    gaps[begins] = words[begins]
    return gaps


def _begins(indptr: Int64) -> Int64:
    """The first entry of each row that has any."""
    return indptr[:-1][np.diff(indptr) > 0]


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(arrays: Mapping[str, Array], metadata: Mapping[str, Any], contexts: Contexts) -> PrunedText:
    """What :func:`write` wrote; everything is checked, so that no kernel can be led out of bounds."""
    vocab_size = checkpoint.parse(validate.size, metadata["vocab_size"], "vocab_size")
    coded = "step" in metadata
    step = checkpoint.parse(validate.positive, metadata["step"], "step", or_zero=True) if coded else 0.0
    if step and not LEAST_STEP <= step <= LARGEST_STEP:
        raise checkpoint.Damaged(f"step must be from {LEAST_STEP} to {LARGEST_STEP}, or 0, got {step}")
    rows = _Rows(arrays, vocab_size, step, coded)
    unigram, followed = (rows.integers(name, vocab_size).astype(np.int64) for name in ("unigram", "followed"))
    n_tokens = checkpoint.parse(validate.integer, metadata["n_tokens"], "n_tokens", 0)
    start_length = checkpoint.parse(validate.integer, metadata["start_length"], "start_length", 0)
    if unigram.sum() != n_tokens or not followed.any() or start_length not in (0, contexts.start_length):
        raise checkpoint.Damaged("the numbers of words are damaged")
    lowest = np.zeros(contexts.n_tables, np.int64)
    if coded:
        lowest = checkpoint.checked(arrays, "lowest", np.int64, lowest.shape)
    radius, ends = contexts.table_radius, list[Int64]()
    for j in range(contexts.n_tables):
        n_rows = vocab_size + (j == 0 and start_length > 0)
        if j >= radius:
            n_rows = int(ends[0 if j == radius else j - 1][-1])
        ends.append(rows.ends(f"table{j}.lengths", n_rows))
    tables = Workers(resolve_threads(None)).map(
        lambda j: rows.table(f"table{j}", ends[j], int(lowest[j]), is_in_chain(j, radius)), range(contexts.n_tables)
    )
    record: dict[str, Any] = checkpoint.parse(dict, metadata["pruning"])
    statistics = Statistics(n_tokens, unigram, followed, np.zeros((0, 0), np.int64))
    return PrunedText(contexts, statistics, tables, start_length, record, step)


class _Rows:
    """The tables of a file.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    vocab_size : int
    step : float
    coded : bool
        Whether integers are coded; they are not in files of before.
    """

    def __init__(self, arrays: Mapping[str, Array], vocab_size: int, step: float, coded: bool) -> None:
        self._arrays, self._vocab_size, self._step, self._coded = arrays, vocab_size, step, coded

    def ends(self, name: str, n_rows: int) -> Int64:
        """Where each row begins, and the last one ends."""
        lengths = self.integers(name, n_rows, self._vocab_size + 1)
        indptr: Int64 = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return indptr

    def table(self, name: str, indptr: Int64, lowest: int, with_totals: bool) -> Table:
        """One table of these rows."""
        words = self._words(f"{name}.words", indptr)
        u = self._weights(f"{name}.weights", words.size, lowest)
        filled = np.diff(np.concatenate([[0], np.cumsum(u != 0.0)])[indptr]) > 0
        total = filled.astype(np.float64)
        if with_totals:
            total[filled] = self.integers(f"{name}.totals", int(filled.sum()))
            if (total[filled] < 1).any():
                raise checkpoint.Damaged(f"table {name!r} is damaged")
        return table_of(np.diff(indptr), words, u, total, self._vocab_size)

    def integers(self, name: str, n_values: int, below: int = LARGEST) -> Int32 | Int64:
        """So many integers from 0 to ``below - 1``."""
        array = self._arrays[name]
        if self._coded:
            try:
                return decode(array, n_values, below)
            except checkpoint.Damaged as error:
                raise checkpoint.Damaged(f"array {name!r}: {error}") from error
        if array.dtype.kind != "u" or array.shape != (n_values,) or array.max(initial=0) >= below:
            wanted = f"({n_values},) from 0 to {below - 1:,}"
            raise checkpoint.Damaged(
                f"array {name!r} must be unsigned integers {wanted}, got {array.dtype} {array.shape}"
            )
        return array.astype(np.int64)

    def _words(self, name: str, indptr: Int64) -> Int32:
        """The words of all rows, ascending in each."""
        words = self.integers(name, int(indptr[-1]), self._vocab_size).astype(np.int32, copy=False)
        if self._coded:
            # Sums over all rows may wrap around at 2^31; their differences within a row do not. Should a damaged row
            # leave the vocabulary, then by less than 2^31 words at first, and that is beyond it or negative.
            words += 1
            passed = np.cumsum(words, dtype=np.int32)
            before = np.concatenate([[np.int32(0)], passed])[indptr[:-1]] + np.int32(1)
            words = passed - np.repeat(before, np.diff(indptr))
        else:
            steps = np.diff(words, prepend=np.int32(0))
            steps[_begins(indptr)] = 1
            if steps.min(initial=1) < 1:
                raise checkpoint.Damaged(f"the words of array {name!r} must ascend in each row")
        if words.max(initial=0) >= self._vocab_size or words.min(initial=0) < 0:
            raise checkpoint.Damaged(f"array {name!r} must be words of the vocabulary")
        return words

    def _weights(self, name: str, n_entries: int, lowest: int) -> Float64:
        if not self._step:
            return checkpoint.checked(self._arrays, name, np.float32, (n_entries,)).astype(np.float64)
        if not -HIGHEST_MULTIPLE < lowest <= 0:
            raise checkpoint.Damaged("array 'lowest' is damaged")
        multiples = self.integers(name, n_entries, HIGHEST_MULTIPLE) + lowest
        return multiples.astype(np.float64) * self._step

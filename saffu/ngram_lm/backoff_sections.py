"""Tables of a back-off model from its n-grams in any order, as files list them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saffu import _core
from saffu.explicit.cooccurrence import as_csr
from saffu.ngram_lm.backoff import BackoffTables
from saffu.utils.arrays import Array, Float64, Int32
from saffu.utils.streams import TokenStream


class Section(NamedTuple):
    """The n-grams of one order: tokens (L, n), log-probabilities and log back-off weights (L), natural.

    A log-probability that is not a number is that of an n-gram which the file lacks, though it begins a longer one.
    """

    tokens: Int32
    log_prob: Float64
    weight: Float64


def assemble(unigrams: Section, sections: Sequence[Section], n_threads: int) -> BackoffTables:
    """Tables of the n-grams of a file.

    Parameters
    ----------
    unigrams : Section
        Of all V types, and of ``<s>``, which is the last.
    sections : sequence of Section
        Of n-grams of 2, 3, ... tokens.
    n_threads : int
    """
    kept = [_without_inner_starts(section, unigrams.log_prob.size - 1) for section in sections]
    tables = _tables(unigrams, kept, n_threads)
    if tables is None:
        for n in range(len(kept) - 1, 0, -1):
            kept[n - 1] = _with_beginnings(kept[n - 1], kept[n].tokens[:, :-1])
        tables = _tables(unigrams, kept, n_threads)
        assert tables is not None
    return tables


def _tables(unigrams: Section, sections: Sequence[Section], n_threads: int) -> BackoffTables | None:
    """The tables, or None if an n-gram begins with one that is not there."""
    vocab_size = unigrams.log_prob.size - 1
    tables = BackoffTables(unigrams.log_prob[:-1], [], [])
    weights, n_rows = unigrams.weight, vocab_size + 1
    for section in sections:
        rows = np.ascontiguousarray(section.tokens[:, 0])
        for table, column in zip(tables.tables, section.tokens.T[1:-1], strict=True):
            rows = _core.find(table.indptr, table.indices, rows, np.ascontiguousarray(column), n_threads)
        if (rows < 0).any():
            return None
        order = np.lexsort([section.tokens[:, -1], rows])
        rows, last = rows[order], np.ascontiguousarray(section.tokens[order, -1])
        if ((np.diff(rows) == 0) & (np.diff(last) == 0)).any():
            raise ValueError(f"an n-gram of {section.tokens.shape[1]} tokens must have one probability, got two")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
        tables.tables.append(as_csr(indptr, last, section.log_prob[order], (n_rows, vocab_size)))
        tables.weights.append(weights)
        weights, n_rows = section.weight[order], rows.size
        _fill(tables, n_threads)
    return tables


def _without_inner_starts(section: Section, start: int) -> Section:
    kept = ~(section.tokens[:, 1:] == start).any(axis=1)
    return section if kept.all() else Section(*(part[kept] for part in section))


def _with_beginnings(section: Section, beginnings: Int32) -> Section:
    """A section and what longer n-grams begin with, as far as it is missing."""
    known = _rows_as_keys(section.tokens)
    keys, first = np.unique(_rows_as_keys(beginnings), return_index=True)
    missing = beginnings[first[~np.isin(keys, known)]]
    if missing.size == 0:
        return section
    return Section(
        np.concatenate([section.tokens, missing]),
        np.append(section.log_prob, np.full(len(missing), np.nan)),
        np.append(section.weight, np.zeros(len(missing))),
    )


def _rows_as_keys(tokens: Int32) -> Array:
    """A key of bytes for each row."""
    tokens = np.ascontiguousarray(tokens)
    return tokens.view(np.dtype((np.void, tokens.shape[1] * tokens.itemsize))).ravel()


def _fill(tables: BackoffTables, n_threads: int) -> None:
    """Give the n-grams of the last table that the file lacks the probability that backing off gives them."""
    last = tables.tables[-1]
    missing = np.flatnonzero(np.isnan(last.data))
    if missing.size == 0:
        return
    tokens = np.stack(tables.tokens(tables.order, missing), axis=1).astype(np.int32)
    row = np.searchsorted(last.indptr, missing, side="right") - 1
    last.data[missing] = tables.weights[-1][row] + _score(tables, tokens[:, 1:], n_threads)


def _score(tables: BackoffTables, tokens: Int32, n_threads: int) -> Float64:
    """Log-probabilities of the last of n tokens after the others and nothing else; tokens (L, n) -> (L,)."""
    n = tokens.shape[1]
    shorter = BackoffTables(tables.unigram, tables.tables[: n - 1], tables.weights[: n - 1])
    stream = TokenStream(np.ascontiguousarray(tokens).ravel(), np.arange(0, tokens.size, n))
    found, _ = shorter.score(stream, np.zeros(len(tokens), bool), n_threads)
    return found[n - 1 :: n]

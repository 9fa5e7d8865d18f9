"""Kernels at the sizes where they once were slow, beside numpy and scipy; each problem checks that all agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from saffu import _core

Table = tuple[NDArray, NDArray, NDArray, NDArray]  # indptr, indices, counts, row numbers
VOCAB_SIZE = 80_000


class Problem(NamedTuple):
    """What is done, the contenders, ours first, and a function that raises unless they agree."""

    name: str
    contenders: dict[str, Callable[[], Any]]
    check: Callable[[], None]


LARGE_TABLES = 2_000_000, (11_000_000, 11_000_000)  # rows; entries


def random_table(rng: np.random.Generator, n_rows: int, n_entries: int, n_cols: int = VOCAB_SIZE) -> Table:
    """About so many entries, in rows of Zipf-like lengths."""
    rows = np.minimum((n_rows ** rng.random(n_entries)).astype(np.int64), n_rows - 1)
    keys = np.unique(rows * n_cols + rng.integers(0, n_cols, n_entries))
    indptr = np.append(0, np.cumsum(np.bincount(keys // n_cols, minlength=n_rows)))
    return indptr, (keys % n_cols).astype(np.int32), rng.integers(1, 5, keys.size), np.arange(n_rows)


def keys_of(table: Table, n_cols: int = VOCAB_SIZE) -> NDArray:
    """Row and column of each entry as one number."""
    indptr, indices, _, rows = table
    return np.repeat(rows, np.diff(indptr)) * n_cols + indices


def union_of_keys(a: Table, b: Table) -> tuple[NDArray, NDArray]:
    """The sum of two tables as sorted keys and their counts."""
    a_keys, b_keys = keys_of(a), keys_of(b)
    keys = np.union1d(a_keys, b_keys)
    counts = np.zeros(keys.size, np.int64)
    counts[np.searchsorted(keys, a_keys)] += a[2]
    counts[np.searchsorted(keys, b_keys)] += b[2]
    return keys, counts


def merging(n_rows: int, n_entries: tuple[int, int], n_threads: int = 1) -> Problem:
    """The sum of two tables of counts, beside numpy and copies of as many bytes as are read and written."""
    rng = np.random.default_rng(0)
    a, b = (random_table(rng, n_rows, n) for n in n_entries)

    def merge() -> Any:
        return _core.merge(*a, *b, n_rows, n_threads)

    n_bytes = sum(array.nbytes for array in (*a[:3], *b[:3], *merge()))
    source, target = np.ones(n_bytes // 2, np.uint8), np.ones(n_bytes // 2, np.uint8)

    def check() -> None:
        indptr, indices, counts, *_ = merge()
        keys, expected = union_of_keys(a, b)
        np.testing.assert_array_equal(keys_of((indptr, indices, counts, a[3])), keys)
        np.testing.assert_array_equal(counts, expected)

    contenders = {
        "saffu": merge,
        "`numpy.union1d`": lambda: union_of_keys(a, b),
        "a copy of the same bytes": lambda: np.copyto(target, source),
        "such a copy into new memory": source.copy,
    }
    threads = "" if n_threads == 1 else f", {n_threads} threads"
    return Problem(f"merge tables of {a[2].size:,} and {b[2].size:,} entries{threads}", contenders, check)


def one_row(n_columns: int) -> Problem:
    """A sparse row of 100 entries times many dense rows."""
    rng = np.random.default_rng(0)
    B = rng.random((200_000, n_columns), np.float32)
    indptr, indices = np.array([0, 100]), np.sort(rng.choice(200_000, 100, replace=False)).astype(np.int32)
    data = rng.random(100, np.float32)
    row = csr_array((data, indices, indptr), shape=(1, 200_000))
    contenders = {"saffu": lambda: _core.product(indptr, indices, data, B, None, 1), "scipy": lambda: row @ B}
    name = f"product of a row of 100 entries with 200,000 x {n_columns}"
    return Problem(name, contenders, lambda: _agree(contenders, 1e-5))


def soft_moments() -> Problem:
    """``H^T Y`` in float64 for dense features and soft targets: 0.66 Gflop."""
    rng = np.random.default_rng(0)
    H, Y = rng.random((20_000, 512), np.float32), rng.random((20_000, 32))
    F, mass = np.zeros((32, 512)), np.zeros(32)

    def run() -> NDArray:
        _core.moments_soft(H, Y, None, F, mass, False, 1)
        return F

    contenders = {"saffu": run, "BLAS in float64": lambda: Y.T @ H.astype(np.float64)}
    return Problem("moments of soft targets, 20,000 x 512 x 32", contenders, lambda: _agree(contenders, 1e-10))


def weighing() -> Problem:
    """Discounted log weights of a table of a million entries."""
    indptr, indices, counts, rows = random_table(np.random.default_rng(0), 200_000, 1_000_000)
    lower, discounts = np.full(VOCAB_SIZE, 1 / VOCAB_SIZE), np.array([0.5, 0.7, 0.9])

    def by_numpy() -> NDArray:
        kept = counts - discounts[np.minimum(counts, 3) - 1]
        row_of_entry = np.repeat(rows, np.diff(indptr))
        mass = np.bincount(row_of_entry, counts - kept, rows.size)
        return np.log1p(kept / (mass[row_of_entry] * lower[indices]))

    contenders = {"saffu": lambda: _core.weigh(indptr, counts, indices, lower, discounts, 1)[2], "numpy": by_numpy}
    return Problem(f"weigh {counts.size:,} entries", contenders, lambda: _agree(contenders, 1e-12))


def wide_rows(n_distinct: int) -> Problem:
    """Rows of few tokens among a million."""
    n_rows = 2_500_000 // n_distinct
    rng = np.random.default_rng(0)
    contexts = np.repeat(np.arange(n_rows, dtype=np.int32), n_distinct)
    targets = rng.integers(0, 1_000_000, contexts.size).astype(np.int32)
    shape = n_rows, 1_000_000

    def by_scipy() -> csr_array:
        table = coo_array((np.ones(contexts.size - 1, np.int64), (contexts[:-1], targets[1:])), shape=shape).tocsr()
        table.sum_duplicates()
        return table

    def by_saffu() -> tuple[NDArray, NDArray, NDArray]:
        return _core.count(contexts, targets, np.array([1]), np.array([0]), *shape, 1)

    def check() -> None:
        theirs = by_scipy()
        for mine, other in zip(by_saffu(), (theirs.indptr, theirs.indices, theirs.data), strict=True):
            np.testing.assert_array_equal(mine, other)

    name = f"count {n_rows:,} rows of {n_distinct} columns among 1,000,000"
    return Problem(name, {"saffu": by_saffu, "scipy": by_scipy}, check)


def suffix_tables() -> Problem:
    """Counts of what follows the last 1 to 4 tokens of a text of one document."""
    rng = np.random.default_rng(0)
    ids = np.minimum((VOCAB_SIZE ** rng.random(1_000_000)).astype(np.int32), VOCAB_SIZE - 1)
    ids[1:] = np.where(rng.random(ids.size - 1) < 0.6, ids[:-1] * 17 % 4001, ids[1:])  # suffixes that come again
    contexts = np.append(np.int32(-1), ids[:-1])

    def by_saffu() -> list[NDArray]:
        counter, n_rows = _core.SuffixCounter(contexts, ids, np.array([0]), VOCAB_SIZE, VOCAB_SIZE, 1), VOCAB_SIZE
        tables = []
        for n in range(4):
            tables.append(counter.count(n_rows if n < 3 else 0, 1)[2])
            n_rows = tables[-1].size
        return tables

    def by_numpy() -> list[NDArray]:
        name, tables = contexts.astype(np.int64), []
        for _ in range(4):
            key = np.where(name[1:] < 0, -1, name[1:] * VOCAB_SIZE + ids[1:])
            distinct, number, counts = np.unique(key, return_inverse=True, return_counts=True)
            none = int(distinct[0] < 0)
            tables.append(counts[none:])
            name = np.concatenate([[-1, -1], number[:-1] - none])
        return tables

    def check() -> None:
        for mine, theirs in zip(by_saffu(), by_numpy(), strict=True):
            np.testing.assert_array_equal(mine, theirs)

    return Problem("count what follows 1 to 4 tokens, 1M tokens", {"saffu": by_saffu, "numpy": by_numpy}, check)


def _agree(contenders: dict[str, Callable[[], Any]], tolerance: float) -> None:
    one, other = (run() for run in contenders.values())
    np.testing.assert_allclose(one, other, rtol=tolerance)


MAKERS: dict[str, Callable[[], Problem]] = {
    "merge a small table": lambda: merging(80_000, (2_000_000, 60_000)),
    "merge equal tables": lambda: merging(300_000, (900_000, 900_000)),
    "merge large tables": lambda: merging(*LARGE_TABLES),
    "product with 10 columns": lambda: one_row(10),
    "product with 17 columns": lambda: one_row(17),
    "moments of soft targets": soft_moments,
    "weigh": weighing,
    "rows of 24": lambda: wide_rows(24),
    "rows of 25": lambda: wide_rows(25),
    "suffix tables": suffix_tables,
}


def problems() -> Iterator[Problem]:
    """All, one after the other, so that only one is in memory."""
    for make in MAKERS.values():
        yield make()

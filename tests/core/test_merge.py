"""The sum of two tables of counts against dictionaries."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu import _core

pytestmark = pytest.mark.kernels


def table(entries, rows):
    """indptr, indices, counts and row numbers of a dictionary of counts; every row named is there, if empty."""
    rows = sorted({*rows, *(r for r, _ in entries)})
    parts = [sorted((w, n) for (row, w), n in entries.items() if row == r) for r in rows]
    indptr = np.cumsum([0, *map(len, parts)])
    flat = [pair for part in parts for pair in part]
    indices, counts = (np.array([pair[k] for pair in flat], dtype) for k, dtype in enumerate((np.int32, np.int64)))
    return indptr, indices, counts, np.array(rows, np.int64)


def entries(indptr, indices, counts, rows):
    row = np.repeat(rows, np.diff(indptr))
    return {(int(r), int(w)): int(n) for r, w, n in zip(row, indices, counts, strict=True)}


tables = st.tuples(
    st.dictionaries(st.tuples(st.integers(0, 19), st.integers(0, 30)), st.integers(0, 5), max_size=60),
    st.sets(st.integers(0, 19)),
)


@given(tables, tables, st.sampled_from([1, 2, 3, 7]))
def test_a_sum_is_that_of_dictionaries(one, other, n_threads):
    a, b = table(*one), table(*other)
    indptr, indices, counts, a_places, b_places = _core.merge(*a, *b, 20, n_threads)
    summed = {key: one[0].get(key, 0) + other[0].get(key, 0) for key in one[0] | other[0]}
    assert entries(indptr, indices, counts, np.arange(20)) == summed
    for start, end in pairwise(indptr):
        assert (np.diff(indices[start:end]) > 0).all()
    keys = [*zip(np.repeat(np.arange(20), np.diff(indptr)).tolist(), indices.tolist(), strict=True)]
    for part, places in ((a, a_places), (b, b_places)):
        assert [keys[place] for place in places] == list(entries(*part))
    for with_places, without in zip((indptr, indices, counts), _core.merge(*a, *b, 20, n_threads, False), strict=False):
        np.testing.assert_array_equal(with_places, without)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_long_rows_and_many_ranges(n_threads):
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(2):
        rows = np.sort(rng.choice(5000, 3000, replace=False))
        lengths = np.where(rng.random(3000) < 0.01, 4000, rng.integers(0, 4, 3000))
        indices = [np.sort(rng.choice(9000, n, replace=False)) for n in lengths]
        counts = rng.integers(0, 1 << 40, lengths.sum())
        parts.append((np.append(0, np.cumsum(lengths)), np.concatenate(indices).astype(np.int32), counts, rows))
    dense = np.zeros((5000, 9000), np.int64)
    for indptr, indices, counts, rows in parts:
        dense[np.repeat(rows, np.diff(indptr)), indices] += counts
    indptr, indices, counts, *places = _core.merge(*parts[0], *parts[1], 5000, n_threads)
    rows = np.repeat(np.arange(5000), np.diff(indptr))
    assert (np.diff(rows * 9000 + indices) > 0).all()
    np.testing.assert_array_equal(dense[rows, indices], counts)
    assert counts.sum() == dense.sum()
    for part, place in zip(parts, places, strict=True):
        np.testing.assert_array_equal(indices[place], part[1])
        np.testing.assert_array_equal(rows[place], np.repeat(part[3], np.diff(part[0])))
    without = _core.merge(*parts[0], *parts[1], 5000, n_threads, places=False)
    for array, same in zip((indptr, indices, counts), without, strict=False):
        np.testing.assert_array_equal(array, same)
    assert [place.size for place in without[3:]] == [0, 0]


def test_row_numbers_are_checked():
    a = table({(0, 1): 2}, ())
    for rows, message in (
        ([3], "row numbers out of range"),
        ([0, 0], "row numbers must ascend"),
        ([], "equal lengths"),
    ):
        indptr = np.append(0, np.full(len(rows) or 1, 1))
        with pytest.raises(ValueError, match=message):
            _core.merge(*a, indptr, a[1], a[2], np.array(rows, np.int64), 3, 1)
    with pytest.raises(ValueError, match="n_rows must not be negative"):
        _core.merge(*a, *a, -1, 1)

"""Counting kernels against their naive twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from helpers import reference
from saffu import _core

pytestmark = pytest.mark.kernels


@st.composite
def streams(draw):
    vocab_size = draw(st.integers(1, 90))
    ids = np.array(draw(st.lists(st.integers(0, vocab_size - 1), max_size=150)), np.int32)
    distances = np.array(sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=5))), np.int64)
    cuts = draw(st.lists(st.integers(0, max(len(ids) - 1, 0)), max_size=6))
    documents = np.unique([0, *cuts]).astype(np.int64)
    return vocab_size, ids, distances, documents


@given(streams(), st.sampled_from([1, 2, 3]))
def test_cooccurrence_equals_naive_counts(stream, n_threads):
    vocab_size, ids, distances, documents = stream
    table = saffu.cooccurrence(ids, distances, vocab_size=vocab_size, documents=documents, n_threads=n_threads)
    documents = documents[: 1 if len(ids) == 0 else None]
    np.testing.assert_array_equal(
        table.toarray(), reference.count(ids, ids, distances, documents, vocab_size, vocab_size)
    )
    assert table.dtype == np.int64
    for start, end in zip(table.indptr, table.indptr[1:], strict=False):
        assert (np.diff(table.indices[start:end]) > 0).all()


@given(streams(), st.integers(0, 2**32 - 1))
def test_contexts_may_be_any_ids_and_absent(stream, seed):
    vocab_size, ids, distances, documents = stream
    n_rows = 7
    contexts = np.random.default_rng(seed).integers(-2, n_rows, len(ids)).astype(np.int32)
    indptr, indices, counts = _core.count(contexts, ids, distances, documents, n_rows, vocab_size, 1)
    dense = np.zeros((n_rows, vocab_size), np.int64)
    dense[np.repeat(np.arange(n_rows), np.diff(indptr)), indices] = counts
    documents = documents[: 1 if len(ids) == 0 else None]
    np.testing.assert_array_equal(dense, reference.count(contexts, ids, distances, documents, n_rows, vocab_size))


@pytest.mark.parametrize("distances", [[1], [1, 2, 5]])
@pytest.mark.parametrize("vocab_size", [50, 5000])
def test_bits_do_not_depend_on_threads(distances, vocab_size):
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.3, 200_000) - 1, vocab_size - 1)
    documents = np.arange(0, len(ids), 997)
    one = saffu.cooccurrence(ids, distances, vocab_size=vocab_size, documents=documents, n_threads=1)
    for n_threads in (2, 3, 7):
        other = saffu.cooccurrence(ids, distances, vocab_size=vocab_size, documents=documents, n_threads=n_threads)
        np.testing.assert_array_equal(one.indptr, other.indptr)
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.data, other.data)


def test_large_stream_equals_unique():
    rng = np.random.default_rng(1)
    vocab_size = 3000
    ids = np.minimum(rng.zipf(1.2, 100_000) - 1, vocab_size - 1)
    table = saffu.cooccurrence(ids, 3, vocab_size=vocab_size)
    keys, counts = np.unique(ids[:-3] * vocab_size + ids[3:], return_counts=True)
    np.testing.assert_array_equal(
        np.repeat(np.arange(vocab_size), np.diff(table.indptr)) * vocab_size + table.indices, keys
    )
    np.testing.assert_array_equal(table.data, counts)


def same_at_all_threads(count):
    """The result of count(n_threads), the same for each."""
    one = count(1)
    for n_threads in (2, 3, 7):
        for mine, theirs in zip(one, count(n_threads), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    return one


def check_pairs(table, contexts, targets, n_cols):
    """A table against the sorted keys of its pairs."""
    indptr, indices, counts = table
    keys, expected = np.unique(contexts.astype(np.int64) * n_cols + targets, return_counts=True)
    np.testing.assert_array_equal(np.repeat(np.arange(indptr.size - 1), np.diff(indptr)) * n_cols + indices, keys)
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("n_cols", [2000, 1_000_000])
@pytest.mark.parametrize("row", [1, 2, 12, 13, 24, 25, 100, 1000])
def test_rows_of_few_and_of_many_columns_over_near_and_far_ones(row, n_cols):
    rng = np.random.default_rng(row)
    contexts = np.repeat(np.arange(40_000 // row, dtype=np.int32), row)
    targets = rng.integers(0, n_cols, contexts.size).astype(np.int32)
    targets[::7] = targets[0]
    arguments = contexts, targets, np.array([1]), np.array([0]), int(contexts.max()) + 1, n_cols
    table = same_at_all_threads(lambda n_threads: _core.count(*arguments, n_threads))
    check_pairs(table, contexts[:-1], targets[1:], n_cols)


@pytest.mark.parametrize("n_rows", [3, 200_000])
def test_a_row_that_holds_most_of_a_stream(n_rows):
    rng = np.random.default_rng(0)
    contexts = np.where(rng.random(150_000) < 0.9, 1, rng.integers(0, n_rows, 150_000)).astype(np.int32)
    targets = (rng.zipf(1.2, 150_000) % 3000).astype(np.int32)
    for max_pairs in (1 << 27, 20_000):
        arguments = contexts, targets, np.array([1]), np.array([0]), n_rows, 3000
        table = same_at_all_threads(lambda n_threads: _core.count(*arguments, n_threads, max_pairs))  # noqa: B023
        check_pairs(table, contexts[:-1], targets[1:], 3000)


def test_no_rows_and_rows_without_positions():
    empty = np.empty(0, np.int32)
    indptr, indices, counts = _core.count(empty, empty, np.array([1]), np.array([0]), 0, 0, 2)
    assert (indptr.tolist(), indices.size, counts.size) == ([0], 0, 0)
    contexts, targets = np.full(60_000, -1, np.int32), np.zeros(60_000, np.int32)
    table = same_at_all_threads(lambda n: _core.count(contexts, targets, np.array([1]), np.array([0]), 50_000, 1, n))
    assert (table[0] == 0).all()
    assert table[1].size == 0


# ---- suffixes ----------------------------------------------------------------------------------------------------


def suffix_tables(ids, starts, n_cols, n_tables, start_length, n_threads, max_pairs=1 << 27):
    """Tables of the suffixes of 1, 2, ... tokens; n_cols is the start token, in contexts of at most start_length."""
    contexts = np.append(np.int32(-1), ids).astype(np.int32)[: ids.size]
    contexts[starts] = n_cols if start_length else -1
    n_rows = without_start = n_cols
    n_rows += start_length > 0
    counter = _core.SuffixCounter(contexts, ids, starts, n_rows, n_cols, n_threads)
    for n in range(1, n_tables + 1):
        continued = 0 if n == n_tables else without_start if n == start_length else n_rows
        table = counter.count(continued, n_threads, max_pairs)
        yield table
        n_rows, without_start = table[1].size, int(table[0][without_start])


def counted_suffixes(ids, starts, n_cols, n_tables, start_length):
    """For each length, how often each token follows each suffix: suffix and token as a tuple -> count."""
    tables = [{} for _ in range(n_tables)]
    ends = [*starts[1:].tolist(), ids.size]
    for begin, end in zip(starts.tolist(), ends, strict=True):
        document = [n_cols, *ids[begin:end].tolist()]
        for t in range(1, len(document)):
            for n in range(1, min(n_tables, t) + 1):
                if t - n == 0 and n > start_length:
                    continue
                key = tuple(document[t - n : t + 1])
                tables[n - 1][key] = tables[n - 1].get(key, 0) + 1
    return tables


@st.composite
def documents_of_few_tokens(draw):
    n_cols = draw(st.integers(1, 12))
    ids = np.array(draw(st.lists(st.integers(0, n_cols - 1), min_size=1, max_size=200)), np.int32)
    starts = np.unique([0, *draw(st.lists(st.integers(0, ids.size - 1), max_size=8))]).astype(np.int64)
    return ids, starts, n_cols, draw(st.integers(1, 4)), draw(st.integers(0, 4))


@given(documents_of_few_tokens(), st.sampled_from([1, 2, 3, 7]), st.sampled_from([1, 5, 1 << 27]))
def test_tables_of_suffixes_equal_counted_tuples(text, n_threads, max_pairs):
    names = [(token,) for token in range(text[2] + 1)]  # of the rows of the next table
    for table, expected in zip(suffix_tables(*text, n_threads, max_pairs), counted_suffixes(*text), strict=True):
        indptr, indices, counts = table
        rows = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
        names = [(*names[row], int(w)) for row, w in zip(rows, indices, strict=True)]
        assert dict(zip(names, counts.tolist(), strict=True)) == expected
        assert names == sorted(names)


def test_tables_of_suffixes_do_not_depend_on_threads():
    rng = np.random.default_rng(3)
    ids = (rng.zipf(1.2, 300_000) % 5000).astype(np.int32)
    starts = np.arange(0, ids.size, 700)
    for max_pairs in (1 << 27, 10_000):
        same_at_all_threads(
            lambda n: [x for table in suffix_tables(ids, starts, 5000, 3, 2, n, max_pairs) for x in table]  # noqa: B023
        )
    *_, last = suffix_tables(ids, starts, 5000, 3, 3, 7)
    inner = np.ones(ids.size, bool)  # positions that three tokens of their document, the start token included, precede
    for n in (0, 1):
        inner[starts + n] = False
    assert last[2].sum() == inner.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contexts": np.array([0, 9, 1], np.int32)}, "contexts out of range"),
        ({"ids": np.array([0, 1, 7], np.int32)}, "ids out of range"),
        ({"documents": np.array([3])}, "documents out of range"),
        ({"contexts": np.array([0], np.int32)}, "equal lengths"),
    ],
)
def test_a_counter_of_suffixes_names_what_is_wrong(change, message):
    three = np.array([0, 1, 0], np.int32)
    sound = {"contexts": three, "ids": three, "documents": np.array([0]), "n_rows": 2, "n_cols": 2, "n_threads": 1}
    counter = _core.SuffixCounter(**sound)
    with pytest.raises(ValueError, match="n_continued must be between 0 and 2, got 3"):
        counter.count(3, 1)
    with pytest.raises(ValueError, match=message):
        _core.SuffixCounter(**(sound | change))


@given(streams())
def test_find_returns_the_place_or_minus_one(stream):
    vocab_size, ids, distances, _ = stream
    table = saffu.cooccurrence(ids, distances, vocab_size=vocab_size)
    rows, cols = (grid.ravel().astype(np.int32) for grid in np.mgrid[-1:vocab_size, 0:vocab_size])
    entry = _core.find(table.indptr.astype(np.int64), table.indices, rows, cols, 2)
    found = np.array([0 if e < 0 else table.data[e] for e in entry])
    dense = np.vstack([np.zeros((1, vocab_size), np.int64), table.toarray()])
    np.testing.assert_array_equal(found, dense.ravel())


@pytest.mark.parametrize(
    ("ids", "kwargs", "error", "message"),
    [
        ([0.5, 1.0], {"distances": 1}, TypeError, "ids must be integers"),
        ([0, -1], {"distances": 1}, ValueError, "negative, got -1 at position 1"),
        ([0, 9], {"distances": 1, "vocab_size": 5}, ValueError, "below 5, got 9 at position 1"),
        ([[0, 1]], {"distances": 1}, ValueError, "one-dimensional"),
        ([0, 1], {"distances": 0}, ValueError, "distances must be at least 1"),
        ([0, 1], {"distances": []}, ValueError, "at least one distance"),
        ([0, 1], {"distances": [2, 2]}, ValueError, "distinct"),
        ([0, 1], {"distances": 1.0}, TypeError, "distances must be integers"),
        ([0, 1], {"distances": 1, "documents": [1, 0]}, ValueError, "ascending start offsets"),
        ([0, 1], {"distances": 1, "n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ([0, 1], {"distances": 1, "n_threads": 1.5}, TypeError, "n_threads must be a positive integer"),
        ([0, 2**40], {"distances": 1}, ValueError, "must be below"),
    ],
)
def test_bad_input_is_named(ids, kwargs, error, message):
    with pytest.raises(error, match=message):
        saffu.cooccurrence(ids, **kwargs)

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

"""SparseRows: whatever the features come as, the layers see the same rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array

from helpers import reference
from saffu.utils import sparse, validate
from saffu.utils.sparse import SparseRows


@st.composite
def matrices(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(0, 20)), draw(st.integers(0, 12))
    X = rng.random(shape) * (rng.random(shape) < draw(st.sampled_from([0.0, 0.4, 1.0])))
    return X.astype(draw(st.sampled_from([np.float32, np.float64])))


def dense(rows):
    """The matrix, and a check that it is in the form that the kernels read."""
    assert (rows.indptr.dtype, rows.indices.dtype) == (np.int64, np.int32)
    assert rows.indptr[0] == 0
    assert rows.indptr[-1] == rows.indices.size == rows.data.size
    assert all(array.flags.c_contiguous for array in (rows.indptr, rows.indices, rows.data))
    X = np.zeros((len(rows), rows.n_columns), rows.dtype)
    for m in range(len(rows)):
        entries = slice(rows.indptr[m], rows.indptr[m + 1])
        assert (np.diff(rows.indices[entries]) > 0).all()
        X[m, rows.indices[entries]] = rows.data[entries]
    return X


def same(rows, expected):
    np.testing.assert_array_equal(dense(rows), expected, strict=True)


@given(matrices())
def test_dense_and_csr_are_the_same_rows(X):
    same(SparseRows.of(X, 1), X)
    for index_dtype in (np.int32, np.int64):
        matrix = csr_array(X)
        matrix.indices, matrix.indptr = matrix.indices.astype(index_dtype), matrix.indptr.astype(index_dtype)
        same(SparseRows.of(matrix, 1), X)


@given(matrices(), st.integers(0, 2**32 - 1))
def test_unsorted_entries_and_duplicates_are_summed_in_a_copy(X, seed):
    rng = np.random.default_rng(seed)
    row, column = (np.tile(places, 2) for places in X.nonzero())
    order = rng.permutation(row.size)
    order = order[np.argsort(row[order], kind="stable")]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(X)))]).astype(np.int32)
    data = X[row, column] / X.dtype.type(2)
    matrix = csr_array((data[order], column[order].astype(np.int32), indptr), shape=X.shape)
    before = matrix.indices.copy()
    same(SparseRows.of(validate.features(matrix), 1), X)
    np.testing.assert_array_equal(matrix.indices, before)
    assert matrix.nnz == row.size


def test_other_sparse_formats_are_taken_as_csr():
    X = np.array([[0.0, 2.0], [0.0, 0.0], [1.0, 3.0]])
    for matrix in (coo_array(X), csr_array(X).tocsc(), csr_array(X).tolil()):
        same(SparseRows.of(validate.features(matrix), 1), X)


@given(matrices(), st.integers(0, 20), st.integers(0, 20))
def test_part(X, begin, end):
    begin, end = sorted((min(begin, len(X)), min(end, len(X))))
    rows = SparseRows.of(X, 1)
    part = rows.part(begin, end)
    same(part, X[begin:end])
    assert part.data.size == 0 or np.shares_memory(part.data, rows.data)
    same(part.part(0, len(part)), X[begin:end])


@given(matrices(), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_take_and_transposed(X, n_taken, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(X), n_taken) if len(X) else np.empty(0, np.int64)
    rows = SparseRows.of(X, 2)
    same(rows.take(chosen), X[chosen])
    same(rows.transposed(), X.T.copy())
    same(rows.part(len(X) // 2, len(X)).transposed(), X[len(X) // 2 :].T.copy())
    same(rows.transposed().transposed(), X)


@given(matrices(), st.lists(st.integers(0, 20), max_size=4))
def test_stacked_undoes_parts(X, cuts):
    rows, cuts = SparseRows.of(X, 1), sorted(min(cut, len(X)) for cut in cuts)
    parts = [rows.part(begin, end) for begin, end in zip([0, *cuts], [*cuts, len(X)], strict=True)]
    same(SparseRows.stacked(parts, X.shape[1], X.dtype, 1), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_stacked(dtype):
    same(SparseRows.stacked([], 3, np.dtype(dtype), 1), np.empty((0, 3), dtype))


@given(matrices())
def test_ceiling_and_products(X):
    rows, rng = SparseRows.of(X, 1), np.random.default_rng(0)
    np.testing.assert_array_equal(rows.ceiling(), X.max(axis=0, initial=0).astype(np.float64), strict=True)
    B, bias = rng.normal(size=(X.shape[1], 5)).astype(X.dtype), rng.normal(size=5).astype(X.dtype)
    np.testing.assert_allclose(rows.product(B, bias), reference.product(X, B, bias), rtol=1e-4, atol=1e-5)
    out = np.full((len(X), 5), np.nan)
    rows.product_double(B, out)
    np.testing.assert_allclose(out, reference.product(X, B), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("values", [1, 40, 41, 10**6])
def test_activations_in_chunks_are_the_softmax(monkeypatch, values):
    rng = np.random.default_rng(0)
    X, W, bias = rng.random((33, 6)), rng.normal(size=(6, 20)), rng.normal(size=20)
    whole = dict(enumerate(reference.log_softmax(X @ W + bias)))
    monkeypatch.setattr(sparse, "CHUNK_VALUES", values)
    sizes = []
    for piece, activations in SparseRows.of(X, 1).activations(W, bias):
        sizes.append(len(activations))
        for m, row in zip(range(piece.start, piece.stop), activations, strict=True):
            np.testing.assert_allclose(np.log(row), whole.pop(m), rtol=1e-10)
    assert not whole
    assert max(sizes) == min(33, max(1, values // 20))


@given(matrices(), st.integers(0, 2**32 - 1))
def test_zeros_that_are_stored_are_left_out_in_a_copy(X, seed):
    stored = np.flatnonzero((X != 0).ravel() | (np.random.default_rng(seed).random(X.size) < 0.3))
    row, column = np.unravel_index(stored, X.shape)
    indptr = np.searchsorted(row, np.arange(len(X) + 1)).astype(np.int32)
    matrix = csr_array((X[row, column], column.astype(np.int32), indptr), shape=X.shape)
    rows = SparseRows.of(matrix, 1)
    same(rows, X)
    assert rows.data.all()
    assert matrix.nnz == stored.size


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_rows_that_repeat_the_one_before_are_found(seed, at_once):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (30, 3)).astype(float)
    numbers = rng.permutation(np.arange(1, 30))[: rng.integers(0, 30)]
    whole, sparse.COMPARED_ROWS = sparse.COMPARED_ROWS, at_once
    try:
        found = SparseRows.of(X, 1).repeat_previous(numbers)
    finally:
        sparse.COMPARED_ROWS = whole
    assert found.tolist() == [X[number].tolist() == X[number - 1].tolist() for number in numbers]

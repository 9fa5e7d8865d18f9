"""Sparse products, compression and rows taken from sparse matrices against their naive twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from helpers import reference
from saffu import _core

pytestmark = pytest.mark.kernels

TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-13}
COLUMNS = [*range(71), 127, 128, 130]


def csr(H):
    """indptr, indices and data in the types of the kernels."""
    matrix = csr_array(H)
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data


def sparse_matrix(rng, shape, dtype, density=0.3):
    return (rng.normal(size=shape) * (rng.random(shape) < density)).astype(dtype)


@st.composite
def problems(draw):
    """H, B (often a part of a wider matrix) and a bias or None; packed where B is wide and H long enough."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, n_inner = draw(st.integers(0, 40)), draw(st.integers(0, 30))
    n_columns, dtype = draw(st.sampled_from(COLUMNS)), draw(st.sampled_from([np.float32, np.float64]))
    H = sparse_matrix(rng, (n_rows, n_inner), dtype, draw(st.sampled_from([0.0, 0.2, 1.0])))
    H[rng.random(n_rows) < 0.2] = 0
    before, after = draw(st.sampled_from([(0, 0), (3, 0), (0, 5), (1, 40)]))
    B = rng.normal(size=(n_inner, before + n_columns + after)).astype(dtype)[:, before : before + n_columns]
    bias = draw(st.sampled_from([None, rng.normal(size=n_columns).astype(dtype)]))
    return H, B, bias


def check(H, B, bias):
    tolerance = TOLERANCE[H.dtype]
    size = np.abs(H).astype(np.float64) @ np.abs(B) + (0 if bias is None else np.abs(bias))  # bounds the error
    Z = _core.product(*csr(H), B, bias, 1)
    assert Z.dtype == H.dtype
    assert Z.shape == (H.shape[0], B.shape[1])
    assert (np.abs(Z - reference.product(H, B, bias)) <= tolerance * size).all()
    wide = np.full((H.shape[0], B.shape[1] + 9), -7.0)
    F = wide[:, 4 : 4 + B.shape[1]]
    _core.product_double(*csr(H), B, F, 1)
    assert (np.abs(F - reference.product(H, B)) <= tolerance * size).all()
    wide[:, 4 : 4 + B.shape[1]] = -7.0
    assert (wide == -7.0).all()  # nothing was written beside F


@given(problems())
def test_equals_reference(problem):
    check(*problem)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_columns", COLUMNS)
def test_every_width_packed_and_not(n_columns, dtype):
    rng = np.random.default_rng(n_columns)
    B, bias = rng.normal(size=(6, n_columns + 3)).astype(dtype)[:, 2:-1], rng.normal(size=n_columns).astype(dtype)
    check(np.ones((8, 6), dtype), B, bias)  # as many entries as are needed for a copy
    few = np.ones((8, 6), dtype)
    few[3, 2] = 0  # one less
    check(few, B, bias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_entries", [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1000])
def test_long_rows(n_entries, dtype):
    """Odd and even numbers of entries, below and above one segment of a sum in double."""
    rng = np.random.default_rng(n_entries)
    H = np.zeros((3, 1000), dtype)
    H[1, :n_entries] = rng.normal(size=n_entries)
    for n_columns in (1, 5, 20, 64):
        check(H, rng.normal(size=(1000, n_columns)).astype(dtype), None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_columns", [3, 33, 130])
def test_bits_do_not_depend_on_threads(n_columns, dtype):
    rng = np.random.default_rng(0)
    H, B = sparse_matrix(rng, (900, 70), dtype), rng.normal(size=(70, n_columns)).astype(dtype)
    bias = rng.normal(size=n_columns).astype(dtype)

    def run(n_threads):
        F = np.empty((900, n_columns))
        _core.product_double(*csr(H), B, F, n_threads)
        indptr, indices, data = _core.compress(H, n_threads)
        begins = indptr[:-1][::-1].copy()
        reversed_indptr = np.concatenate([[0], np.cumsum(np.diff(indptr)[::-1])])
        taken = _core.take_rows(begins, reversed_indptr, indices, data, n_threads)
        return _core.product(*csr(H), B, bias, n_threads), F, indptr, indices, data, *taken

    one = run(1)
    for n_threads in (2, 3, 7):
        for a, b in zip(one, run(n_threads), strict=True):
            np.testing.assert_array_equal(a, b)


def test_rows_do_not_depend_on_their_neighbours():
    """A row's product has the same bits alone and among others, whether or not B is copied."""
    rng = np.random.default_rng(0)
    for n_columns in (3, 40, 65, 130):
        H, B = sparse_matrix(rng, (200, 9), np.float32), rng.normal(size=(9, n_columns)).astype(np.float32)
        Z = _core.product(*csr(H), B, None, 2)
        for m in (0, 77, 199):
            np.testing.assert_array_equal(_core.product(*csr(H[m : m + 1]), B, None, 2), Z[m : m + 1])


@pytest.mark.parametrize("n_columns", [1, 20, 40, 64])
def test_sums_in_double_keep_their_digits(n_columns):
    n = 100_000
    data, B = np.full(n, 0.1, np.float32), np.full((n, n_columns), 1 / 3, np.float32)
    exact = n * float(np.float32(0.1)) * float(np.float32(1 / 3))
    indptr, indices = np.array([0, n]), np.arange(n, dtype=np.int32)
    F = np.empty((1, n_columns))
    _core.product_double(indptr, indices, data, B, F, 2)
    np.testing.assert_allclose(F, exact, rtol=4e-6)
    one_sum = np.cumsum(data * np.float32(1 / 3))[-1]
    assert abs(one_sum - exact) > 1e-4 * exact  # what a sum in float32 would do


# ---- compression and taken rows ----------------------------------------------------------------------------------


@given(
    st.integers(0, 30),
    st.integers(0, 70),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32 - 1),
)
def test_compress_equals_reference(n_rows, n_columns, density, dtype, seed):
    X = sparse_matrix(np.random.default_rng(seed), (n_rows, n_columns), dtype, density)
    X[:, n_columns // 2 :] *= -0.0  # is zero too
    indptr, indices, data = _core.compress(X, 1)
    assert (indptr.dtype, indices.dtype, data.dtype) == (np.int64, np.int32, dtype)
    for got, expected in zip((indptr, indices, data), reference.compress(X), strict=True):
        np.testing.assert_array_equal(got, expected)


@given(st.integers(0, 30), st.integers(0, 40), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1))
def test_taken_rows_equal_reference(n_rows, n_taken, dtype, seed):
    rng = np.random.default_rng(seed)
    indptr, indices, data = csr(sparse_matrix(rng, (n_rows, 12), dtype))
    rows = rng.integers(0, n_rows, n_taken) if n_rows else np.empty(0, np.int64)
    new, expected_indices, expected_data = reference.take_rows(indptr, indices, data, rows)
    taken_indices, taken_data = _core.take_rows(indptr[:-1][rows], np.array(new), indices, data, 1)
    np.testing.assert_array_equal(taken_indices, np.array(expected_indices, np.int32))
    np.testing.assert_array_equal(taken_data, np.array(expected_data, dtype))
    assert taken_data.dtype == dtype


# ---- what would be a wild read or write --------------------------------------------------------------------------


def call(name, indptr=(0, 1, 2), indices=(0, 2), data=(1.0, 2.0), B=None, bias=None, F=None):
    """A product of a matrix of 2 rows and 3 columns, 4 columns wide."""
    parts = np.array(indptr, np.int64), np.array(indices, np.int32), np.array(data)
    B = np.ones((3, 4)) if B is None else B
    if name == "product":
        return _core.product(*parts, B, bias, 1)
    F = np.empty((2, 4)) if F is None else F
    _core.product_double(*parts, B, F, 1)
    return F


@pytest.mark.parametrize("name", ["product", "product_double"])
def test_products_refuse_what_would_be_a_wild_read(name):
    np.testing.assert_array_equal(call(name), [[1.0] * 4, [2.0] * 4])
    for indices in ([0, 3], [-1, 2], [0, 2**31 - 1]):
        with pytest.raises(ValueError, match="out of range"):
            call(name, indices=indices)
    for indptr in ([0, 1, 3], [-1, 1, 2], [0, 2, 1], []):
        with pytest.raises(ValueError, match="indptr must"):
            call(name, indptr=indptr)
    with pytest.raises(ValueError, match="equal lengths"):
        call(name, indices=[0])
    for B in (np.ones((3, 8))[:, ::2], np.asfortranarray(np.ones((3, 4))), np.ones((3, 4))[::-1]):
        with pytest.raises(ValueError, match="must be adjacent"):
            call(name, B=B)
    with pytest.raises(ValueError, match="out of range"):
        call(name, B=np.ones((0, 4)))


def test_shapes_beside_the_matrix_are_checked():
    for bias in (np.ones(3), np.ones(5)):
        with pytest.raises(ValueError, match="equal lengths"):
            call("product", bias=bias)
    for F in (np.ones((1, 4)), np.ones((3, 4)), np.ones((2, 3)), np.ones((2, 5))):
        with pytest.raises(ValueError, match="equal lengths"):
            call("product_double", F=F)
    for F in (np.ones((2, 8))[:, ::2], np.asfortranarray(np.ones((2, 4)))):
        with pytest.raises(ValueError, match="must be adjacent"):
            call("product_double", F=F)


@pytest.mark.parametrize(
    ("begins", "indptr", "n_indices", "message"),
    [
        ([-1], [0, 1], 3, "out of range"),
        ([3], [0, 1], 3, "out of range"),
        ([1], [0, 3], 3, "out of range"),
        ([2**62], [0, 3], 3, "out of range"),
        ([0], [0, 4], 3, "out of range"),
        ([0, 0], [0, 2, 1], 3, "must ascend"),
        ([0], [1, 2], 3, "must ascend"),
        ([0], [0, 1, 2], 3, "equal lengths"),
        ([0], [0], 3, "equal lengths"),
        ([0], [0, 1], 2, "equal lengths"),
    ],
)
def test_taken_rows_outside_the_matrix_are_refused(begins, indptr, n_indices, message):
    with pytest.raises(ValueError, match=message):
        _core.take_rows(np.array(begins), np.array(indptr), np.zeros(n_indices, np.int32), np.ones(3), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_columns", [1, 2, 3, 7, 9, 10, 15, 17, 30, 33, 63])
def test_a_row_has_the_same_bits_with_a_copy_of_the_weights_and_without(dtype, n_columns):
    """Few entries read B where it is, the last rows beside their ends; many read a copy."""
    rng = np.random.default_rng(n_columns)
    B = rng.normal(size=(40, n_columns)).astype(dtype)
    H = sparse_matrix(rng, (60, 40), dtype, 0.9)
    H[0], H[1, :-1], H[2] = 0, 0, 1
    together, F = _core.product(*csr(H), B, None, 1), np.empty((60, n_columns))
    _core.product_double(*csr(H), B, F, 1)
    for m in range(6):
        row, f = csr(H[m : m + 1]), np.empty((1, n_columns))
        np.testing.assert_array_equal(_core.product(*row, B, None, 1)[0], together[m])
        _core.product_double(*row, B, f, 1)
        np.testing.assert_array_equal(f[0], F[m])
    for n_inner in (1, 2, 5):  # all rows are last ones
        check(H[:3, :n_inner], B[:n_inner], None)
    check(H[:3], np.broadcast_to(B[:1], B.shape), None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_inner", "n_columns"), [(7, 34), (300, 65), (513, 100), (40, 300)])
def test_nearly_full_rows_have_the_bits_of_rows_alone(n_inner, n_columns, dtype):
    """Many rows are spread into panels, a row alone never is."""
    rng = np.random.default_rng(n_inner)
    H = np.abs(sparse_matrix(rng, (67, n_inner), dtype, 0.8))
    B, bias = rng.normal(size=(n_inner, n_columns)).astype(dtype), rng.normal(size=n_columns).astype(dtype)
    alone = np.concatenate([_core.product(*csr(row[None]), B, bias, 1) for row in H])
    for n_threads in (1, 2, 3):
        np.testing.assert_array_equal(_core.product(*csr(H), B, bias, n_threads), alone)


def test_nearly_full_rows_leave_out_infinite_weights_of_absent_features():
    H = np.ones((50, 6))
    H[:, 2] = 0
    B = np.ones((6, 40))
    B[2] = -np.inf
    np.testing.assert_array_equal(_core.product(*csr(H), B, None, 1), np.full((50, 40), 5.0))


def test_nearly_full_rows_in_any_order_of_columns_and_with_repeats():
    indices = np.tile(np.array([3, 1, 1, 0], np.int32), 50)
    data, indptr = np.tile([1.0, 2.0, 4.0, 8.0], 50), np.arange(0, 201, 4)
    B = np.arange(4.0)[:, None] + np.zeros(40)
    np.testing.assert_array_equal(_core.product(indptr, indices, data, B, None, 1), np.full((50, 40), 9.0))

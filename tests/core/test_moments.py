"""Moments, dense log weights and leave-one-out scores against their naive twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import saffu
from helpers import reference
from saffu import _core
from saffu.explicit.moments import add_moments

pytestmark = pytest.mark.kernels


@st.composite
def examples(draw):
    n, n_features, n_classes = draw(st.integers(0, 90)), draw(st.integers(0, 70)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    H = rng.random((n, n_features)) * (rng.random((n, n_features)) < 0.6)
    H = H.astype(draw(st.sampled_from([np.float32, np.float64])))
    labels = rng.integers(0, n_classes, n).astype(np.int32)
    soft = rng.dirichlet(np.ones(n_classes), n).reshape(n, n_classes)
    soft = soft.astype(draw(st.sampled_from([np.float32, np.float64])))
    weights = draw(st.sampled_from([None, rng.random(n)]))
    return H, labels, soft, n_classes, weights


def as_csr(H, index_dtype):
    matrix = csr_array(H)
    matrix.indices, matrix.indptr = matrix.indices.astype(index_dtype), matrix.indptr.astype(index_dtype)
    return matrix


def add(H, targets, weights, n_classes, n_threads=1):
    F, mass = np.full((n_classes, H.shape[1]), np.nan), np.full(n_classes, np.nan)
    add_moments(H, targets, weights, F, mass, False, n_threads)
    return F, mass


@given(examples(), st.sampled_from([np.int32, np.int64]))
def test_equals_reference(example, index_dtype):
    H, labels, soft, n_classes, weights = example
    for targets, Y in ((labels, reference.one_hot(labels, n_classes)), (soft, soft)):
        F, mass = reference.moments(H, Y, weights)
        for matrix in (H, as_csr(H, index_dtype)):
            got_F, got_mass = add(matrix, targets, weights, n_classes)
            np.testing.assert_allclose(got_F, F, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(got_mass, mass, rtol=1e-12, atol=1e-13)
            np.testing.assert_array_equal(
                saffu.moments(matrix, targets, n_classes=n_classes, sample_weight=weights), got_F.T
            )


@given(examples(), st.integers(0, 90))
def test_cutting_the_stream_changes_no_bit(example, cut):
    H, labels, soft, n_classes, weights = example
    cut = min(cut, len(H))
    for targets in (labels, soft):
        for convert in (np.asarray, csr_array):
            whole = add(convert(H), targets, weights, n_classes)
            F, mass = add(convert(H[:cut]), targets[:cut], None if weights is None else weights[:cut], n_classes)
            rest = None if weights is None else weights[cut:]
            add_moments(convert(H[cut:]), targets[cut:], rest, F, mass, True, 2)
            np.testing.assert_array_equal(F, whole[0])
            np.testing.assert_array_equal(mass, whole[1])


@pytest.mark.parametrize(("n", "n_features", "n_classes"), [(3000, 200, 7), (3000, 130, 1000), (2000, 2500, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(n, n_features, n_classes, dtype):
    rng = np.random.default_rng(0)
    H = rng.random((n, n_features)).astype(dtype)
    labels = (n_classes * rng.random(n) ** 3).astype(np.int32)
    weights = rng.random(n)
    soft = rng.random((200, n_classes))
    for matrix in (H, csr_array(H * (H < 0.1))):
        for given_weights in (None, weights):
            one = add(matrix, labels, given_weights, n_classes, 1)
            for n_threads in (2, 3, 7):
                other = add(matrix, labels, given_weights, n_classes, n_threads)
                np.testing.assert_array_equal(one[0], other[0])
                np.testing.assert_array_equal(one[1], other[1])
        if n_classes < 100:
            for n_threads in (2, 3, 7):
                one, other = (add(matrix[:200], soft, weights[:200], n_classes, t) for t in (1, n_threads))
                np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(
        add(H, labels, None, n_classes)[0],
        reference.moments(H, reference.one_hot(labels, n_classes))[0],
        rtol=1e-12,
    )


def test_kernels_refuse_what_would_be_a_wild_read():
    F, mass = np.zeros((2, 3)), np.zeros(2)
    labels = np.array([2], np.int32)
    with pytest.raises(ValueError, match="out of range"):
        _core.moments_labels(np.ones((1, 3)), labels, None, F, mass, False, 1)
    indptr, data = np.array([0, 1]), np.ones(1)
    for indices in (np.array([3]), np.array([-1])):
        with pytest.raises(ValueError, match="out of range"):
            _core.moments_csr_labels(indptr, indices, data, labels * 0, None, F, mass, False, 1)
        with pytest.raises(ValueError, match="out of range"):
            _core.moments_csr_soft(indptr, indices, data, np.ones((1, 2)), None, F, mass, False, 1)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.moments_labels(np.ones((2, 3)), labels, None, F, mass, False, 1)


@given(st.integers(0, 200), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1))
def test_lowest(n, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n).astype(dtype)
    assert _core.lowest(x, 1) == x.min(initial=np.inf)
    for bad in (np.nan, np.inf, -np.inf):
        y = np.append(x, dtype(bad))
        rng.shuffle(y)
        assert np.isnan(_core.lowest(y, 2))


# ---- log weights -------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 150),
    st.integers(0, 150),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1.0, 0.5, 7.3, np.inf]),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 2**32 - 1),
)
def test_log_weights_equal_reference(n_features, n_classes, dtype, K, smoothing, seed):
    rng = np.random.default_rng(seed)
    F = (rng.integers(0, 50, (n_features, n_classes)) * rng.integers(0, 2, n_classes)).astype(dtype)
    expected = reference.log_weights(F, K, smoothing)
    tolerance = 1e-13 if dtype == np.float64 else 2e-6
    for layout in (F, np.asfortranarray(F)):
        U = saffu.log_weights(layout, K, smoothing=smoothing)
        assert U.dtype == dtype
        assert U.strides == layout.strides or 0 in F.shape or 1 in F.shape
        np.testing.assert_allclose(U, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_weights_bits_do_not_depend_on_threads(dtype):
    F = np.random.default_rng(0).random((301, 517)).astype(dtype)
    for layout in (F, np.asfortranarray(F)):
        one = saffu.log_weights(layout, 5.0, smoothing=0.1, n_threads=1)
        for n_threads in (2, 3, 7):
            np.testing.assert_array_equal(one, saffu.log_weights(layout, 5.0, smoothing=0.1, n_threads=n_threads))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_log_weights_name_a_bad_count(bad, order):
    F = np.ones((40, 30), order=order)
    F[3, 7] = bad
    with pytest.raises(ValueError, match="row 3, column 7"):
        saffu.log_weights(F, 2.0)


# ---- leave one out -----------------------------------------------------------------------------------------------


@given(examples())
def test_leave_one_out_equals_recounting(example):
    H, labels, _, n_classes, weights = example
    weights = np.ones(len(H)) if weights is None else weights
    F, mass = add(H, labels, weights, n_classes)
    _, likelihood = reference.leave_one_out(H.astype(np.float64), F, mass, 0.1, labels, weights)
    rows = np.arange(len(H), dtype=np.int32)
    dense = _core.leave_one_out(H, rows, labels, weights, F, F.sum(1), 0.1, 2)
    sparse = csr_array(H.astype(np.float64))
    indptr, indices = sparse.indptr.astype(np.int64), sparse.indices.astype(np.int32)
    csr = _core.leave_one_out_csr(indptr, indices, sparse.data, rows, labels, weights, F, F.sum(1), 0.1, 2)
    np.testing.assert_allclose(dense, likelihood[rows, labels], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(csr, likelihood[rows, labels], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("n", "n_features", "n_classes"), [(60_000, 1, 3), (30_000, 4, 500), (20_000, 40, 900), (9_000, 300, 7)]
)
def test_few_features_and_many_classes_have_the_same_bits_at_all_threads(n, n_features, n_classes):
    rng = np.random.default_rng(n)
    H, weights = rng.normal(size=(n, n_features)).astype(np.float32), rng.random(n)
    labels = (n_classes * rng.random(n) ** 3).astype(np.int32)
    for w in (None, weights):
        results = []
        for n_threads in (1, 2, 3, 7):
            F, mass = np.full((n_classes, n_features), 0.5), np.ones(n_classes)
            _core.moments_labels(H, labels, w, F, mass, True, n_threads)
            results.append((F, mass))
        for F, mass in results[1:]:
            np.testing.assert_array_equal(F, results[0][0])
            np.testing.assert_array_equal(mass, results[0][1])
        Y = reference.one_hot(labels, n_classes) * (1 if w is None else w[:, None])
        np.testing.assert_allclose(results[0][0], 0.5 + Y.T @ H.astype(np.float64), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(results[0][1], 1 + Y.sum(0), rtol=1e-12)

"""Keys of rows: the same for the same content, in whatever form, order and unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import saffu.classifier.row_keys
from saffu.classifier.row_keys import derived, equal_parts, row_keys
from saffu.utils.sparse import SparseRows


def rows_of(n, seed=0, n_features=6):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 5, (n, n_features)) * rng.choice([0.25, 1.0, 1.5], n_features)
    return X, rng.integers(0, 3, n).astype(np.int32)


def of(X, y):
    return row_keys(SparseRows.of(X, 1), y)


# ---- keys --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 10**6), st.integers(1, 40))
def test_keys_are_those_of_the_content_in_any_form_and_chunks(n, seed, slice_):
    X, y = rows_of(n, seed)
    keys = of(X, y)
    np.testing.assert_array_equal(of(X.astype(np.float32), y), keys)
    values = np.where((X == 0) & (np.arange(6) % 2 == 0), -0.0, X)
    stored = csr_array((values.ravel(), np.tile(np.arange(6), n), 6 * np.arange(n + 1)), shape=X.shape)
    np.testing.assert_array_equal(of(stored, y), keys)  # zeros and negative zeros among the stored values
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(of(X[order], y[order]), keys[order])
    np.testing.assert_array_equal(np.concatenate([of(X[: n // 3], y[: n // 3]), of(X[n // 3 :], y[n // 3 :])]), keys)
    whole, saffu.classifier.row_keys.SLICE = saffu.classifier.row_keys.SLICE, slice_
    try:
        np.testing.assert_array_equal(of(X, y), keys)
    finally:
        saffu.classifier.row_keys.SLICE = whole
    other = np.unique(np.column_stack([X, y]), axis=0)
    assert np.unique(keys).size == len(other)


def test_rows_that_differ_in_little_have_different_keys():
    """One-hot rows, binary rows, rows that swap two values, rows times two, other classes."""
    eye = np.eye(300)
    binary = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    for X in (np.concatenate([eye, 2 * eye, 3 * eye, 0 * eye[:1]]), binary, np.array([[1.0, 2.0], [2.0, 1.0]])):
        X = X.astype(np.float64)
        y = np.zeros(len(X), np.int32)
        assert np.unique(np.concatenate([of(X, y), of(X, y + 1)])).size == 2 * len(X)


@pytest.mark.parametrize("power", [-60, -3, 8, 60])
def test_another_unit_leaves_the_order_of_the_keys(power):
    X, y = rows_of(200)
    keys, other = of(X, y), of(X * 2.0**power, y)
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), np.argsort(other, kind="stable"))
    np.testing.assert_array_equal(derived(keys, 3), derived(other, 3))


def test_keys_are_spread_evenly():
    X = np.arange(1.0, 20_001)[:, None]
    keys = of(np.hstack([X, 20_001 - X]), np.zeros(20_000, np.int32))
    for found in (keys, derived(keys, 0), derived(keys, 1)):
        counts = np.bincount((found >> np.uint64(58)).astype(int), minlength=64)
        assert np.square(counts - 312.5).sum() / 312.5 < 64 + 5 * np.sqrt(2 * 64)
    ranks = [np.argsort(np.argsort(derived(keys, seed))) for seed in (0, 1)]
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.03


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=40), st.integers(1, 9))
def test_parts_have_equal_weight_but_for_the_rows_at_the_cuts(weights, n_parts):
    weights = np.array(weights)
    part = equal_parts(weights, n_parts)
    assert (np.diff(part) >= 0).all()
    assert 0 <= part[0] <= part[-1] < n_parts
    mass = np.bincount(part, weights, n_parts)
    assert (np.abs(mass - weights.sum() / n_parts) <= weights.max() * (1 + 1e-9)).all()

"""Keys of rows: the same for the same content, in whatever form, order and unit; and what the solution owes to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import saffu.classifier.row_keys
from saffu import ExplicitNetwork
from saffu.classifier.class_rows import Rows
from saffu.classifier.held_out import N_FOLDS, _fold_numbers, folds_of, thinned
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


# ---- held-out rows ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_no_fold_takes_all_rows_of_a_class(weights):
    """Whatever their weights: a class of one row is never held out, any other in the last fold at least."""
    n = len(weights)
    rows = Rows(SparseRows.of(np.arange(1.0, n + 1)[:, None], 1), np.zeros(n, np.int32), 1, np.array(weights))
    fold = _fold_numbers(rows)
    if n == 1:
        assert fold.tolist() == [-1]
    else:
        assert fold[0] < N_FOLDS - 1 == fold[-1]
    held = [number for number in range(N_FOLDS) if (fold == number).any()]
    found = folds_of(rows)
    assert len(found) == len(held)
    for each in found:
        (kept,) = each.source()
        assert len(kept.features) > 0
        np.testing.assert_array_equal(np.sort(np.append(kept.keys, each.held.keys)), rows.keys)


def test_a_dropped_row_leaves_the_others_where_they_are():
    X, y = rows_of(500, n_features=20)
    rows = Rows(SparseRows.of(X, 1), y, 3)
    fold, few = dict(zip(rows.keys.tolist(), _fold_numbers(rows), strict=True)), thinned(rows, 50)
    assert len(few.features) == 50
    for row in range(0, 500, 50):
        kept = np.arange(500) != row
        fewer = Rows(SparseRows.of(X[kept], 1), y[kept], 3)
        moved = [fold[key] != number for key, number in zip(fewer.keys.tolist(), _fold_numbers(fewer), strict=True)]
        assert sum(moved) <= N_FOLDS
        assert np.isin(thinned(fewer, 50).keys, few.keys).sum() >= 49


# ---- networks ----------------------------------------------------------------------------------------------------


def assert_same(one, other):
    for a, b in zip([*one.weights, *one.bias, one.output], [*other.weights, *other.bias, other.output], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("sizes", [(9,), (9, 6)])
def test_order_copies_and_weights_give_the_same_bits(sizes, complement):
    X, y = rows_of(90)
    k = np.random.default_rng(1).integers(0, 4, 90)
    settings = {"hidden": sizes, "rounds": 4, "corrections": 3, "complement": complement}
    weighted = ExplicitNetwork(**settings).fit(X, y, sample_weight=k)
    repeated = np.repeat(np.arange(90), k)
    shuffled = np.random.default_rng(2).permutation(repeated)
    for rows, form in ((repeated, np.asarray), (shuffled, csr_array)):
        assert_same(ExplicitNetwork(**settings).fit(form(X[rows]), y[rows]), weighted)
    order = np.random.default_rng(3).permutation(90)
    assert_same(ExplicitNetwork(**settings).fit(X[order], y[order], sample_weight=k[order]), weighted)


def test_two_copies_of_everything_are_weights_of_two():
    X, y = rows_of(60)
    twice = ExplicitNetwork((9, 6)).fit(np.tile(X, (2, 1)), np.tile(y, 2))
    assert_same(twice, ExplicitNetwork((9, 6)).fit(X, y, sample_weight=np.full(60, 2.0)))
    np.testing.assert_allclose(twice.output_counts.sum(axis=0), 2 * np.bincount(y), rtol=1e-9)


@pytest.mark.parametrize("copies", [1, 7])
@pytest.mark.parametrize("sizes", [(3,), (11, 5)])
def test_one_row_of_every_class_and_rows_that_are_all_equal(sizes, copies):
    X, y = np.eye(3).repeat(copies, axis=0), np.arange(3).repeat(copies)
    np.testing.assert_array_equal(ExplicitNetwork(sizes).fit(X, y).predict(X), y)
    same, shares = np.ones((6 * copies, 4)), np.arange(3).repeat([copies, 2 * copies, 3 * copies])
    p = ExplicitNetwork(sizes).fit(same, shares).predict_proba(same[:1])
    assert np.argsort(p[0]).tolist() == [0, 1, 2]
    both = ExplicitNetwork(sizes).fit_batches([(same, shares), (same[:0], shares[:0]), (same, shares)])
    assert np.isfinite(both.predict_proba(same)).all()


def test_a_dropped_row_moves_no_scalar_by_much():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    X = rng.poisson(1 + 2 * (np.arange(6)[None] % 3 == y[:, None])).astype(float)
    scalars = ExplicitNetwork((12,)).fit(X, y)._fitted.scalars
    for row in range(0, 150, 25):
        kept = np.arange(150) != row
        moved = ExplicitNetwork((12,)).fit(X[kept], y[kept])._fitted.scalars
        np.testing.assert_allclose(moved, scalars, rtol=0.05)

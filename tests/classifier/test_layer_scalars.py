"""The two scalars of a softmax layer: right on few and balanced rows, and steady."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from helpers import reference
from helpers.rows import problem
from saffu import SoftmaxLayer
from saffu.classifier import layer_scalars

SETS = ("iris", "wine", "breast_cancer", "digits")
SCALINGS = {
    "raw": lambda X: X,
    "by the largest": lambda X: X / np.maximum(X.max(axis=0), 1e-9),
    "to the range": lambda X: (X - X.min(axis=0)) / np.maximum(np.ptp(X, axis=0), 1e-9),
}


def loaded(name, scaling):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(sklearn_datasets, f"load_{name}")(return_X_y=True)
    return SCALINGS[scaling](X), y


def four_classes(n=1000, seed=0):
    """Balanced classes that overlap: what naive Bayes says of them is true."""
    y = np.repeat(np.arange(4), n // 4)
    return np.random.default_rng(seed).poisson(1 + 0.8 * (np.arange(4)[None] == y[:, None])).astype(float), y


def nll_and_accuracy(model, X, y):
    log_p = model.predict_log_proba(X)
    return np.array([-log_p[np.arange(len(y)), y].mean(), (log_p.argmax(axis=1) == y).mean()])


def cross_validated(make, X, y, seed):
    """Mean NLL and accuracy over five folds, stratified."""
    StratifiedKFold = pytest.importorskip("sklearn.model_selection").StratifiedKFold

    folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
    return np.mean([nll_and_accuracy(make().fit(X[a], y[a]), X[b], y[b]) for a, b in folds], axis=0)


# ---- quality -----------------------------------------------------------------------------------------------------


def test_six_rows_of_two_classes_are_told_apart():
    X, y = np.array([[5.0, 0], [4, 1], [6, 0], [0, 5], [1, 4], [0, 6]]), np.array([0, 0, 0, 1, 1, 1])
    assert (SoftmaxLayer().fit(X, y).predict_proba(X)[np.arange(6), y] > 0.8).all()
    assert (SoftmaxLayer().fit(csr_array(X), y).predict_proba(X)[np.arange(6), y] > 0.8).all()


@pytest.mark.parametrize("few", [48, 50, 10, 1])
def test_features_that_say_nothing_leave_the_shares(few):
    labels = np.arange(100) < few
    p = SoftmaxLayer().fit(np.ones((100, 1)), labels).predict_proba([[1.0]])[0]
    np.testing.assert_allclose(p, [1 - few / 100, few / 100], atol=0.002)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", SETS)
def test_no_worse_than_naive_bayes(name, scaling):
    MultinomialNB = pytest.importorskip("sklearn.naive_bayes").MultinomialNB

    X, y = loaded(name, scaling)
    for seed in range(3):
        ours, theirs = (cross_validated(make, X, y, seed) for make in (SoftmaxLayer, lambda: MultinomialNB(alpha=0.1)))
        assert ours[0] <= min(theirs[0], np.log(y.max() + 1))
        assert ours[1] >= theirs[1] - 0.05  # wine: the shares of the classes tell more than their exponent of 1


def test_as_accurate_as_naive_bayes_on_the_whole():
    MultinomialNB = pytest.importorskip("sklearn.naive_bayes").MultinomialNB

    for name in SETS:
        sets = [loaded(name, scaling) for scaling in SCALINGS]
        ours, theirs = (
            np.mean([cross_validated(make, *each, 0) for each in sets], axis=0)
            for make in (SoftmaxLayer, lambda: MultinomialNB(alpha=0.1))
        )
        assert ours[1] >= theirs[1] - 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_four_balanced_classes_are_as_naive_bayes_has_them(seed):
    MultinomialNB = pytest.importorskip("sklearn.naive_bayes").MultinomialNB

    X, y = four_classes(seed=seed)
    ours, theirs = (nll_and_accuracy(model.fit(X, y), X, y) for model in (SoftmaxLayer(), MultinomialNB()))
    assert ours[0] <= theirs[0] + 1e-4
    assert ours[0] < np.log(4) - 0.1
    assert ours[1] >= theirs[1] - 0.002
    held_out = cross_validated(SoftmaxLayer, X, y, seed)
    assert held_out[0] <= cross_validated(MultinomialNB, X, y, seed)[0] + 1e-3
    assert held_out[0] < np.log(4) - 0.1


def test_noise_is_hardly_believed():
    rng = np.random.default_rng(0)
    y = np.arange(3000) % 3
    X, X_test = rng.poisson(1.0, (2, 3000, 10)).astype(float)
    assert nll_and_accuracy(SoftmaxLayer().fit(X, y), X_test, y)[0] < np.log(3) + 6e-3


def test_many_rows_have_the_scalars_of_their_own_optimum():
    X, y = problem(4000, n_features=20, alike=0.8)
    layer = SoftmaxLayer().fit(np.tile(X, 5), y)
    assert layer.scalars["likelihood"] == pytest.approx(0.2, rel=0.05)  # each feature five times
    assert layer.scalars["prior"] == pytest.approx(1.0, rel=0.1)


@given(st.sampled_from([2.0**-200, 1e-9, 2.0**-3, 1e3]))
def test_the_unit_of_the_features_does_not_matter(unit):
    X, y = problem(300, alike=0.7)
    plain = SoftmaxLayer(smoothing=1e-4).fit(X, y)
    scaled = SoftmaxLayer(smoothing=1e-4 * unit).fit(X * unit, y)  # of the mass of the classes, too
    assert scaled.scalars["likelihood"] * unit == pytest.approx(plain.scalars["likelihood"], rel=1e-4)


# ---- steadiness --------------------------------------------------------------------------------------------------


def largest_move(X, y, rows):
    """By how much, relatively, leaving out one row moves a scalar at the most."""
    whole = np.array(list(SoftmaxLayer().fit(X, y).scalars.values()))
    moves = []
    for row in rows:
        kept = np.arange(len(y)) != row
        scalars = SoftmaxLayer().fit(X[kept], y[kept]).scalars
        moves.append(np.abs(np.array(list(scalars.values())) / whole - 1).max())
    return max(moves)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_no_row_of_small_sets_moves_a_scalar_by_five_percent(name, scaling):
    X, y = loaded(name, scaling)
    assert largest_move(X, y, range(len(y))) < 0.05


@pytest.mark.parametrize("name", ["breast_cancer", "digits"])
def test_no_row_of_larger_sets_moves_a_scalar_by_two_percent(name):
    X, y = loaded(name, "raw")
    assert largest_move(X, y, range(0, len(y), len(y) // 20)) < 0.02


@pytest.mark.parametrize("alike", [0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_no_row_of_separable_or_senseless_data_moves_a_scalar_by_five_percent(n_classes, alike):
    X, y = problem(160, n_classes=n_classes, alike=alike)
    assert largest_move(X, y, range(0, 160, 4)) < 0.05


def test_an_outlier_moves_a_scalar_by_five_percent_at_most():
    X, y = problem(200, alike=0.5)
    X[7] = 1000 * X[y != y[7]].mean(axis=0)  # looks like another class, and says so very loudly
    scalars = list(SoftmaxLayer().fit(X, y).scalars.values())
    F, mass = reference.moments(X, reference.one_hot(y, 4))
    prior, likelihood = reference.leave_one_out(X, F, mass, 0.1, y, np.ones(200))
    others = np.arange(200) != 7
    without = layer_scalars.fitted_scalars(
        prior[0], likelihood[others], y[others].astype(np.int32), np.ones(199), np.ones(199), 1.0, 1
    )
    np.testing.assert_allclose(scalars, without, rtol=0.05)


# ---- the centre --------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 25), st.sampled_from([1e-3, 1.0, 1e4]))
def test_centre_equals_reference(seed, n_classes, n_rows, unit):
    rng = np.random.default_rng(seed)
    likelihood, weights = rng.normal(0, unit, (n_rows, n_classes)), rng.random(n_rows) * 3
    y = rng.integers(0, n_classes, n_rows).astype(np.int32)
    found = layer_scalars.centre(likelihood, y, weights)
    if n_classes == 1:
        assert found is None
    else:
        assert found == pytest.approx(reference.discriminant_slope(likelihood, y, weights), rel=1e-9)
        soft = layer_scalars.centre(likelihood, reference.one_hot(y, n_classes), weights)
        assert soft == pytest.approx(found, rel=1e-12)


def test_centre_is_the_calibrated_slope_of_normal_log_ratios():
    rng = np.random.default_rng(0)
    y = np.arange(20_000, dtype=np.int32) % 2
    ratio = np.where(y == 0, 3.0, -3.0) + rng.normal(0, 4.0, y.size)
    likelihood = np.stack([ratio, np.zeros(y.size)], axis=1)
    assert layer_scalars.centre(likelihood, y, np.ones(y.size)) == pytest.approx(2 * 3 / 16, rel=0.02)


def test_centre_of_equal_likelihoods_is_none():
    assert layer_scalars.centre(np.full((5, 2), -3.0), np.zeros(5, np.int32), np.ones(5)) is None
    assert layer_scalars.centre(np.zeros((5, 2)), np.zeros(5, np.int32), np.ones(5)) is None


# ---- weights -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=40, max_size=40), st.booleans(), st.booleans())
def test_a_row_of_weight_k_is_k_rows(repeats, sparse, soft):
    X, y = problem(40, 8, 3, alike=0.5)
    repeats = np.maximum(repeats, np.arange(40) < 3)  # every class keeps a row
    y = reference.one_hot(y, 3) * 0.75 + 1 / 12 if soft else y
    convert = csr_array if sparse else np.asarray
    weighted = SoftmaxLayer().fit(convert(X), y, sample_weight=repeats)
    repeated = SoftmaxLayer().fit(convert(np.repeat(X, repeats, axis=0)), np.repeat(y, repeats, axis=0))
    np.testing.assert_allclose(weighted.counts, repeated.counts, rtol=1e-12)
    for name in ("prior", "likelihood"):
        assert weighted.scalars[name] == pytest.approx(repeated.scalars[name], rel=1e-9)
    np.testing.assert_allclose(weighted.weights, repeated.weights, rtol=1e-9)
    np.testing.assert_allclose(weighted.bias, repeated.bias, rtol=1e-9)


def test_weights_that_are_tiny_leave_a_careful_layer():
    X, y = problem(200, alike=0.5)
    for unit in (1e-3, 1e-9, 1e-300):
        layer = SoftmaxLayer().fit(X, y, sample_weight=np.full(200, unit))
        assert np.isfinite(layer.predict_log_proba(X)).all()
        assert 0 < layer.scalars["likelihood"] < 10


# ---- order -------------------------------------------------------------------------------------------------------


def test_any_order_of_rows_gives_the_same_scalars():
    X, y = four_classes(400)
    rng = np.random.default_rng(0)
    periodic = np.arange(400).reshape(4, 100).T.ravel()
    scalars = [SoftmaxLayer().fit(X[i], y[i]).scalars for i in (np.arange(400), periodic, rng.permutation(400))]
    assert scalars[0] == scalars[1] == scalars[2]


def test_periodic_labels_of_many_rows():
    rng = np.random.default_rng(0)
    y = np.resize([1, 0, 0, 0], 80_000)
    X = rng.poisson(1 + 0.8 * (np.arange(4)[None] == y[:, None]))
    found = []
    for order in (slice(None), np.argsort(y, kind="stable"), rng.permutation(y.size)):
        found.append(nll_and_accuracy(SoftmaxLayer().fit(X[order], y[order]), X, y))
        assert found[-1][0] < 0.49
        assert found[-1][1] > 0.77
    assert np.ptp(np.array(found)[:, 0]) < 0.001

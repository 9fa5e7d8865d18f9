"""SoftmaxLayer: the identities it promises, its bookkeeping and its errors."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_array

import saffu
from helpers import reference
from helpers.rows import problem
from saffu import SoftmaxLayer
from saffu.classifier import layer_counts, layer_scalars


def test_mean_norm_is_the_formula():
    H, y = problem()
    layer = SoftmaxLayer("mean-norm", smoothing=0.3).fit(H, y)
    F = H.T @ reference.one_hot(y, 4)
    U = reference.log_weights(F, H.sum(1).mean(), 0.3)
    np.testing.assert_allclose(layer.weights, U, rtol=1e-12)
    np.testing.assert_array_equal(layer.bias, np.zeros(4))
    np.testing.assert_array_equal(layer.counts, F)
    assert layer.scalars == {"prior": 0.0, "likelihood": 1.0}
    np.testing.assert_allclose(layer.predict_log_proba(H), reference.log_softmax(H @ U), atol=1e-10)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_primed_scalars_minimise_the_recounted_leave_one_out_loss(sparse, weighted):
    H, y = problem(60)
    weights = np.random.default_rng(1).random(60) + 0.5 if weighted else None
    layer = SoftmaxLayer(smoothing=0.2).fit(csr_array(H) if sparse else H, y, sample_weight=weights)
    weights = np.ones(60) if weights is None else weights
    F, mass = reference.moments(H, reference.one_hot(y, 4), weights)
    prior, likelihood = reference.leave_one_out(H, F, mass, 0.2, y, np.minimum(weights, 1))
    centre = np.log([1.0, reference.discriminant_slope(likelihood, y, weights)])

    def total(logarithms):
        alpha, scale = np.exp(logarithms)
        log_p = reference.log_softmax(alpha * prior + scale * likelihood)
        ridge = layer_scalars.STRENGTH / 2 * np.square(logarithms - centre).sum()
        return ridge - (weights * log_p[np.arange(60), y]).sum()

    theta = np.exp(minimize(total, centre, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x)
    np.testing.assert_allclose(list(layer.scalars.values()), theta, rtol=1e-6)
    V = reference.log_weights(F.T, np.inf, 0.2)
    np.testing.assert_allclose(layer.weights, theta[1] * V, rtol=1e-6)
    prior = np.log((mass + 0.2) / (mass + 0.2).sum())
    np.testing.assert_allclose(layer.bias, theta[0] * prior, rtol=1e-5)


def test_soft_targets_that_are_one_hot_give_the_same_layer():
    H, y = problem()
    hard, soft = SoftmaxLayer().fit(H, y), SoftmaxLayer().fit(H, reference.one_hot(y, 4))
    np.testing.assert_array_equal(hard.counts, soft.counts)
    np.testing.assert_allclose(hard.weights, soft.weights, rtol=1e-9)
    np.testing.assert_allclose(hard.bias, soft.bias, rtol=1e-7)


def test_primed_beats_unprimed_on_correlated_features():
    H, y = problem(2000, seed=3, alike=0.7)
    H, y_test, H_test = np.tile(H[:1000], 4), y[1000:], np.tile(H[1000:], 4)
    losses = {}
    for priming in ("primed", "mean-norm"):
        log_p = SoftmaxLayer(priming).fit(H, y[:1000]).predict_log_proba(H_test)
        losses[priming] = -log_p[np.arange(1000), y_test].mean()
    assert losses["primed"] < 0.8 * losses["mean-norm"]


@given(st.lists(st.integers(0, 120), max_size=5), st.booleans(), st.booleans(), st.booleans())
def test_chunks_give_the_bits_of_one_fit(cuts, sparse, soft, integer):
    H, y = problem(120, integer=integer)
    H = csr_array(H) if sparse else H.astype(np.float32)
    y = reference.one_hot(y, 4) * 0.75 + 0.0625 if soft else y
    whole, pieces = SoftmaxLayer().fit(H, y), SoftmaxLayer()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 120], strict=True):
        pieces.partial_fit(H[start:end], y[start:end], classes=range(4))
    np.testing.assert_array_equal(whole.counts, pieces.counts)
    np.testing.assert_array_equal(whole.class_mass, pieces.class_mass)
    np.testing.assert_array_equal(whole.weights, pieces.weights)
    np.testing.assert_array_equal(whole.bias, pieces.bias)


@given(st.permutations(range(5)), st.booleans())
def test_any_merge_order_gives_the_bits_of_one_fit(order, sparse):
    H, y = problem(100)
    whole = SoftmaxLayer().fit(H, y)
    parts = []
    for i in range(5):
        part = H[20 * i : 20 * i + 20]
        parts.append(
            SoftmaxLayer().partial_fit(csr_array(part) if sparse else part, y[20 * i : 20 * i + 20], classes=range(4))
        )
    merged = SoftmaxLayer()
    for i in order:
        merged.merge(parts[i])
    np.testing.assert_array_equal(whole.counts, merged.counts)
    np.testing.assert_array_equal(whole.class_mass, merged.class_mass)
    np.testing.assert_allclose(whole.weights, merged.weights, rtol=1e-6)
    np.testing.assert_array_equal(parts[order[0]].counts.sum(), H[20 * order[0] : 20 * order[0] + 20].sum())


def test_labels_are_mapped_and_may_be_far_apart():
    H, y = problem()
    names = np.array([-(10**12), 3, 5, 10**15])
    layer, plain = SoftmaxLayer().fit(H, names[y]), SoftmaxLayer().fit(H, y.astype(np.uint8), n_classes=4)
    np.testing.assert_array_equal(layer.classes_, names)
    np.testing.assert_array_equal(layer.predict(H), names[plain.predict(H)])
    np.testing.assert_array_equal(layer.weights, plain.weights)


def test_bits_do_not_depend_on_threads():
    H, y = problem(3000, 50)
    layers = [SoftmaxLayer(n_threads=n).fit(H * 0.1, y) for n in (1, 2, 3, 7)]
    for layer in layers[1:]:
        np.testing.assert_array_equal(layer.counts, layers[0].counts)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_in_chunks_for_its_progress_has_the_same_bits(monkeypatch, sparse, weighted):
    H, y = problem(400, integer=False)
    H, weights = csr_array(H) if sparse else H, np.arange(400) % 3 + 0.5 if weighted else None
    whole = SoftmaxLayer().fit(H, y, sample_weight=weights)
    monkeypatch.setattr(layer_counts, "CHUNK_VALUES", 70)
    pieces = SoftmaxLayer().fit(H, y, sample_weight=weights, progress=True)
    np.testing.assert_array_equal(whole.weights, pieces.weights)
    np.testing.assert_array_equal(whole.bias, pieces.bias)
    seen = []
    pieces._fitted.add_in_chunks(H if sparse else H[:9], y.astype(np.int32)[: None if sparse else 9], None, seen.append)
    assert sum(seen) == (400 if sparse else 9)
    assert len(seen) > 1


def test_degenerate_fits_are_sensible():
    one_class = SoftmaxLayer().fit([[1.0, 2.0]], [7])
    np.testing.assert_array_equal(one_class.predict_proba([[5.0, 0.0]]), [[1.0]])
    np.testing.assert_array_equal(one_class.predict([[5.0, 0.0], [0.0, 0.0]]), [7, 7])
    few_and_many = [0] * 5 + [1] * 15
    all_zero = SoftmaxLayer().fit(np.zeros((20, 2)), few_and_many)
    assert all_zero.predict(np.ones((1, 2))).tolist() == [1]
    assert np.isfinite(all_zero.predict_log_proba(np.ones((1, 2)))).all()
    two_rows = SoftmaxLayer().fit([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    assert np.isfinite(two_rows.predict_log_proba(np.eye(2))).all()
    with pytest.raises(ValueError, match="mean norm K is zero"):
        _ = SoftmaxLayer("mean-norm").fit(np.zeros((3, 2)), [0, 1, 1]).weights


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("priming", ["primed", "mean-norm"])
@pytest.mark.parametrize("soft", [False, True])
def test_checkpoint_round_trip(sparse, priming, soft):
    H, y = problem()
    H = csr_array(H) if sparse else H
    y = reference.one_hot(y, 4) if soft else y
    layer = SoftmaxLayer(priming).fit(H, y)
    arrays, metadata = layer._to_checkpoint()
    assert all(array.flags.c_contiguous for array in arrays.values())
    copy = SoftmaxLayer._from_checkpoint(arrays, json.loads(json.dumps(metadata)))
    for name in ("weights", "bias", "counts", "class_mass", "classes_"):
        np.testing.assert_array_equal(getattr(layer, name), getattr(copy, name))
    assert copy.scalars == layer.scalars
    for both in (layer, copy):
        both.partial_fit(H[:50], y[:50])
    np.testing.assert_array_equal(layer.weights, copy.weights)


@pytest.mark.parametrize(
    "name", ["counts", "bias", "class_mass", "weights", "sample.targets", "sample.features", "sample.key"]
)
def test_checkpoint_that_does_not_fit_is_refused(name):
    H, y = problem()
    arrays, metadata = SoftmaxLayer().fit(H, y)._to_checkpoint()
    with pytest.raises(ValueError, match="fit"):
        SoftmaxLayer._from_checkpoint({**arrays, name: arrays[name][:-1]}, metadata)
    if name not in ("sample.features", "sample.key"):  # older files have no keys, refined layers no features
        with pytest.raises(ValueError, match="not the checkpoint"):
            SoftmaxLayer._from_checkpoint({k: v for k, v in arrays.items() if k != name}, metadata)


X = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("H", "y", "kwargs", "error", "message"),
    [
        (
            [[1.0, -2.0], [0, 0]],
            [0, 1],
            {},
            ValueError,
            "X must be finite and not negative, got -2.0 in row 0, column 1: Negative values in data",
        ),
        ([[1.0, 2.0], [0, np.nan]], [0, 1], {}, ValueError, "got nan in row 1, column 1"),
        (csr_array([[0, 2.0], [np.inf, 0]]), [0, 1], {}, ValueError, "got inf in row 1, column 0"),
        (np.empty((0, 2)), [], {}, ValueError, "at least one row"),
        (X, [0], {}, ValueError, "one label for each of the 2 rows, got 1"),
        (X, [0.5, 1], {}, ValueError, "y must be integer labels, booleans or strings, got 0.5 at position 0"),
        (X, [0, 3], {"n_classes": 3}, ValueError, "y must be below 3, got 3"),
        (X, [0, -1], {"n_classes": 3}, ValueError, "y must not be negative"),
        (X, [0, 2], {"n_classes": 3}, ValueError, r"\[1\] have none"),
        (X, [[0.5, 0.5], [0.5, 0.6]], {}, ValueError, "row 1 of y sums to 1.1"),
        (X, [[0.5, 0.5], [1.5, -0.5]], {}, ValueError, "y must be finite and not negative"),
        (X, [0, 1], {"sample_weight": [1.0, 0.0]}, ValueError, r"\[1\] have none"),
        (X, [0, 1], {"sample_weight": [1.0, np.inf]}, ValueError, "got inf at position 1"),
    ],
)
def test_bad_fit_is_named_and_changes_nothing(H, y, kwargs, error, message):
    layer = SoftmaxLayer().fit(X, [5, 6])
    before = layer.weights.copy()
    with pytest.raises(error, match=message):
        layer.fit(H, y, **kwargs)
    np.testing.assert_array_equal(layer.weights, before)
    np.testing.assert_array_equal(layer.classes_, [5, 6])


def test_other_errors_are_named():
    layer = SoftmaxLayer().fit(X, [0, 1])
    with pytest.raises(ValueError, match="X has 3 features, but SoftmaxLayer is expecting 2 features"):
        layer.predict([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="y must be one of the 2 classes, got 2"):
        layer.partial_fit(X, [0, 2])
    with pytest.raises(ValueError, match=r"classes must stay \[0, 1\]"):
        layer.partial_fit(X, [0, 1], classes=[0, 1, 2])
    with pytest.raises(ValueError, match="y must stay what it was"):
        layer.partial_fit(X, [[0.5, 0.5], [1.0, 0.0]])
    with pytest.raises(ValueError, match="classes must list all labels"):
        SoftmaxLayer().partial_fit(X, [0, 1])
    with pytest.raises(ValueError, match="call fit or partial_fit first"):
        SoftmaxLayer().predict(X)
    with pytest.raises(ValueError, match="same classes"):
        layer.merge(SoftmaxLayer().fit(X, [0, 2]))
    with pytest.raises(ValueError, match="must have 2 features"):
        layer.merge(SoftmaxLayer().fit([[1.0], [2.0]], [0, 1]))
    with pytest.raises(TypeError, match="must be a SoftmaxLayer"):
        layer.merge(3)
    with pytest.raises(ValueError, match="smoothing must be positive"):
        SoftmaxLayer(smoothing=0).fit(X, [0, 1])
    with pytest.raises(ValueError, match="priming must be one of"):
        SoftmaxLayer("none").partial_fit(X, [0, 1], classes=[0, 1])
    with pytest.raises(ValueError, match=r"X must have columns, got 0 feature\(s\)"):
        SoftmaxLayer().fit(np.zeros((2, 0)), [0, 1])
    with pytest.raises(ValueError, match="every weight is zero"):
        SoftmaxLayer().fit(X, [0, 1], sample_weight=[0, 0])
    late = SoftmaxLayer().partial_fit(X, [0, 0], classes=[0, 1])
    with pytest.raises(ValueError, match=r"\[1\] have none"):
        _ = late.weights
    assert late.partial_fit(X, [1, 1]).weights.shape == (2, 2)


def read_idx(path, header):
    with gzip.open(path) as file:
        return np.frombuffer(file.read()[header:], np.uint8)


def test_mnist_reaches_the_reference_figures(data_folder):
    folder = data_folder / "mnist"
    train, test = (
        (read_idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 784) / np.float32(255)).astype(np.float32)
        for part in ("train", "t10k")
    )
    y, y_test = (read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8) for part in ("train", "t10k"))
    accuracy = np.mean(SoftmaxLayer("mean-norm").fit(train, y).predict(test) == y_test)
    assert 0.82 <= accuracy <= 0.84
    layer = SoftmaxLayer().fit(np.hstack([train, 1 - train]), y)
    log_p = layer.predict_log_proba(np.hstack([test, 1 - test]))
    assert -log_p[np.arange(len(y_test)), y_test].mean() <= 0.52


@pytest.mark.parametrize("priming", ["primed", "mean-norm"])
def test_files_round_trip_to_the_same_bits(tmp_path, priming):
    rng = np.random.default_rng(3)
    features, labels = rng.poisson(1.0, (60, 7)).astype(np.float32), rng.integers(0, 3, 60)
    layer = saffu.SoftmaxLayer(priming).fit(features, labels)
    layer.save(tmp_path / "layer.saffu")
    again = saffu.load(tmp_path / "layer.saffu")
    np.testing.assert_array_equal(layer.predict_log_proba(features), again.predict_log_proba(features))
    for one in (layer, again):
        one.partial_fit(features[:10], labels[:10])
    np.testing.assert_array_equal(layer.weights, again.weights)

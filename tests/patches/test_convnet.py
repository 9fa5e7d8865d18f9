"""ExplicitConvNet: choices, heads, gradients, files, and every mistake."""

import re

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from saffu import ExplicitConvNet
from saffu.patches import convnet_solver
from saffu.patches.heads import KINDS

RNG = np.random.default_rng(0)
Y = np.arange(90) % 3
IMAGES = RNG.random((90, 8, 8)).astype(np.float32) / 3
for image, label, place in zip(IMAGES, Y, RNG.integers(0, 7, 90), strict=True):
    if label < 2:
        image[(slice(None), place) if label else (place, slice(None))] += 1
    else:
        image[np.arange(8), (np.arange(8) + place) % 8] += 1
X = IMAGES.reshape(90, 64)


def small(**settings):
    defaults = {"patch": 3, "units": 8, "pool": 2, "rounds": 5, "hidden": (6,), "normalize": "none"}
    return ExplicitConvNet((8, 8), **defaults | settings)


@pytest.fixture(scope="module")
def nets():
    return {head: small(head=head).fit(X[:60], Y[:60]) for head in KINDS}


@pytest.mark.parametrize("head", KINDS)
def test_it_tells_lines_that_lie_stand_and_lean(nets, head):
    assert nets[head].score(X[60:], Y[60:]) >= 0.9
    p = nets[head].predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.log(p), nets[head].predict_log_proba(X), atol=1e-4)
    np.testing.assert_array_equal(nets[head].predict(X), p.argmax(axis=1))
    assert nets[head].powers_.shape == ((2,) if head == "both" else (1,))


def test_the_head_mixes_the_layer_and_the_network(nets):
    net = nets["both"]
    head, pooled = net._found().head, net._found().encoder.pooled(X, n_threads=1)
    layer, network = (part.astype(np.float64) for part in head.log_parts(pooled, 1))
    mixed = head.powers[0] * layer + head.powers[1] * network
    mixed -= np.log(np.exp(mixed).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(net.predict_log_proba(X), mixed, atol=1e-4)


def test_the_contrast_is_chosen_by_held_out_images():
    rng = np.random.default_rng(1)
    faint = X * rng.uniform(0.01, 1, (90, 1)).astype(np.float32)
    net = small(normalize="auto", head="layer").fit(faint, Y)
    assert net.normalize_ in ("deviation", "whiten")
    fixed = small(normalize=net.normalize_, head="layer").fit(faint, Y)
    np.testing.assert_array_equal(net.predict_proba(faint), fixed.predict_proba(faint))


def test_held_out_images_leave_one_of_every_class():
    for targets in (np.array([0, 1]), np.array([0, 0, 0, 0, 0, 0, 1]), np.repeat(np.arange(50), 2)):
        fitted, held_out = convnet_solver._parts(targets.astype(np.int32), np.random.default_rng(0))
        assert sorted([*fitted, *held_out]) == list(range(targets.size))
        assert set(targets[fitted]) == set(targets)
        assert set(targets[fitted[: len(set(targets))]]) == set(targets)


def test_gradients_are_those_of_differences(nets):
    solution = nets["layer"]._found()
    parameters = solution.parameters(1.0, np.float64)
    batch = X[:7].astype(np.float64), Y[:7].astype(np.int32)
    gradients = {name: np.zeros_like(part) for name, part in parameters.items()}
    loss = solution.loss_and_gradients(parameters, batch, gradients, 1)
    assert loss == pytest.approx(solution.losses(parameters, batch, 1).mean(), rel=1e-12)
    rng = np.random.default_rng(0)
    for name, part in parameters.items():
        for _ in range(6):
            place = tuple(rng.integers(part.shape))
            found = []
            for step in (1e-5, -1e-5):
                part[place] += step
                found.append(solution.losses(parameters, batch, 1).mean())
                part[place] -= step
            difference = (found[0] - found[1]) / 2e-5
            assert gradients[name][place] == pytest.approx(difference, abs=1e-6 * max(1, np.abs(gradients[name]).max()))


def test_refined_it_is_better_on_what_it_sees(nets):
    noisy = X + RNG.random(X.shape).astype(np.float32)
    net = small(head="layer", units=4).fit(noisy[:60], Y[:60])
    before = net.predict_log_proba(noisy)
    refined = net.refine(noisy[:60], Y[:60], epochs=30, learning_rate=0.01, progress=False)
    targets = np.arange(60), Y[:60]
    assert refined.predict_log_proba(noisy)[targets].mean() > before[targets].mean() + 0.01
    assert refined.history
    np.testing.assert_array_equal(net.predict_log_proba(noisy), before)
    with pytest.raises(ValueError, match='refine needs a network with head="layer"'):
        nets["both"].refine(X, Y)


@pytest.mark.parametrize("head", KINDS)
def test_saved_and_loaded_it_is_the_same(nets, tmp_path, head):
    nets[head].save(tmp_path / "net")
    loaded = saffu.load(tmp_path / "net")
    assert repr(loaded) == repr(nets[head])
    np.testing.assert_array_equal(loaded.predict_log_proba(X), nets[head].predict_log_proba(X))


def test_a_refined_network_is_saved_whole(nets, tmp_path):
    refined = nets["layer"].refine(X[:60], Y[:60], epochs=1, progress=False)
    refined.save(tmp_path / "net")
    loaded = saffu.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.predict_log_proba(X), refined.predict_log_proba(X))
    assert loaded.history == refined.history


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_the_number_of_threads_changes_no_bit(nets, n_threads):
    other = small(n_threads=n_threads).fit(X[:60], Y[:60])
    np.testing.assert_array_equal(other.predict_log_proba(X), nets["both"].predict_log_proba(X))


def test_labels_and_containers(nets):
    names = np.array(["lying", "standing", "leaning"])
    net = small().fit(csr_array(X[:60]), names[Y[:60]])
    assert net.classes_.tolist() == sorted(names)
    right = np.mean(net.predict(X) == names[Y])
    assert right >= 0.9


def test_prediction_in_parts_is_that_of_the_whole(nets, monkeypatch):
    whole = nets["layer"].predict_log_proba(X)
    monkeypatch.setattr("saffu.patches.convnet_solution.AT_ONCE", 100)
    np.testing.assert_allclose(nets["layer"].predict_log_proba(X), whole, atol=1e-5)
    assert nets["layer"].predict_log_proba(X[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("settings", "images", "labels", "message"),
    [
        ({}, X, np.zeros(90, int), "at least two classes, got 1 class"),
        ({}, X[:0], Y[:0], "at least one row"),
        ({}, X, Y[:5], "90"),
        ({"head": "all"}, X, Y, "head must be one of"),
        ({"normalize": "all"}, X, Y, "normalize must be one of"),
        ({"hidden": ()}, X, Y, "hidden must have at least one layer"),
        ({"hidden": (0,)}, X, Y, "hidden must be"),
        ({"units": 0}, X, Y, "units must be"),
        ({"patch": 99, "pool": 0}, X, Y, "pool must be"),
    ],
)
def test_mistakes_are_named(settings, images, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**settings).fit(images, labels)


def test_it_must_be_fitted():
    with pytest.raises(ValueError, match="has seen no data: call fit"):
        small().predict(X)

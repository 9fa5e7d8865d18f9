"""Softmax regression with a ridge: the minimum against a general optimiser, and the search for a ridge."""

import numpy as np
import pytest
from scipy.optimize import minimize

from saffu.patches.softmax_ridge import RidgeProblem, best_ridge, standardized


def made_up(n=80, d=5, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n_classes, n).astype(np.int32)
    centres = rng.normal(size=(n_classes, d))
    return (centres[targets] + rng.normal(size=(n, d))).astype(np.float32), targets


def losses(weights, A, prior, targets, ridge):
    logits = A @ weights + prior
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_p[np.arange(targets.size), targets].mean() + 0.5 * ridge * (weights**2).sum()


@pytest.mark.parametrize("ridge", [1.0, 0.1, 0.01])
def test_the_minimum_is_that_of_a_general_optimiser(ridge):
    features, targets = made_up()
    layer = RidgeProblem(features.copy(), targets, 3, 1).solve(ridge, 300)
    A = features.astype(np.float64)
    mean, deviation = standardized(features.copy())
    A = (A - mean) / deviation
    share = np.bincount(targets, minlength=3) + 1.0
    prior = np.log(share / share.sum())
    expected = minimize(lambda w: losses(w.reshape(5, 3), A, prior, targets, ridge), np.zeros(15)).x.reshape(5, 3)
    np.testing.assert_allclose(layer.weights * deviation[:, None], expected, atol=2e-3)
    np.testing.assert_allclose(layer.logits(features), A @ expected + prior, atol=1e-2)


def test_the_first_step_is_least_squares_with_a_ridge():
    features, targets = made_up()
    targets = np.arange(80, dtype=np.int32) % 2  # equal classes: p is the prior, one half
    layer = RidgeProblem(features.copy(), targets, 2, 1).solve(0.3, 1)
    mean, deviation = standardized(features)
    Y = np.eye(2)[targets] - 0.5
    expected = np.linalg.solve(features.T @ features / 160 + 0.3 * np.eye(5), features.T @ Y / 80)
    np.testing.assert_allclose(layer.weights * deviation[:, None], expected, rtol=1e-4)
    np.testing.assert_allclose(layer.bias, np.log(0.5) - mean @ layer.weights, rtol=1e-4)


def test_columns_that_do_not_vary_are_harmless():
    features, targets = made_up()
    features[:, 2] = 7
    layer = RidgeProblem(features.copy(), targets, 3, 1).solve(0.1)
    assert np.isfinite(layer.logits(features)).all()
    constant = RidgeProblem(np.ones((4, 2), np.float32), np.array([0, 1, 1, 1], np.int32), 2, 1).solve(0.1)
    np.testing.assert_allclose(constant.logits(np.ones((1, 2), np.float32)), np.log([[2 / 6, 4 / 6]]), atol=1e-5)


def test_the_best_ridge_has_the_lowest_loss_on_other_rows():
    features, targets = made_up(60, 30)
    problem = RidgeProblem(features[:40].copy(), targets[:40], 3, 1)
    ridge, layer, loss = best_ridge(problem, features[40:], targets[40:])
    log_p = layer.logits(features[40:]).astype(np.float64)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    assert loss == pytest.approx(-log_p[np.arange(20), targets[40:]].mean(), abs=1e-5)
    looser = RidgeProblem(features[:40].copy(), targets[:40], 3, 1).solve(ridge / 100)
    far = looser.logits(features[40:]).astype(np.float64)
    far -= np.log(np.exp(far).sum(axis=1, keepdims=True))
    assert loss < -far[np.arange(20), targets[40:]].mean()


def test_more_features_than_rows_need_no_ridge():
    rng = np.random.default_rng(2)
    features = (rng.random((10, 1)) + 1e-4 * rng.random((10, 400))).astype(np.float32)  # nearly one column, 400 times
    layer = RidgeProblem(features.copy(), np.arange(10, dtype=np.int32) % 2, 2, 1).solve(0.0)
    assert np.isfinite(layer.logits(features)).all()

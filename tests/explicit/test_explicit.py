"""Moments and log weights as Python calls, and the Newton solver."""

import numpy as np
import pytest

import saffu
from helpers import reference
from saffu.explicit.newton import newton, primed_loss


def softmax_problem(soft, seed=0):
    rng = np.random.default_rng(seed)
    groups = [rng.normal(0, scale, (300, 7)) for scale in (1.0, 5.0, 0.3)]
    logits = 1.3 * groups[0] + 0.2 * groups[1] - 0.5 * groups[2]
    p = np.exp(reference.log_softmax(logits))
    labels = np.array([rng.choice(7, p=row) for row in p], np.int32)
    return groups, (p if soft else labels), rng.random(300) + 0.1


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_primed_loss_has_the_stated_value_and_derivatives(soft, weighted):
    groups, targets, weights = softmax_problem(soft)
    weights = weights if weighted else None
    evaluate = primed_loss(groups, targets, weights, 1)
    theta, step = np.array([0.7, 0.3, -0.2]), 1e-5
    value, gradient, hessian = evaluate(theta, True)
    log_p = reference.log_softmax(sum(t * x for t, x in zip(theta, groups, strict=True)))
    Y = targets if soft else reference.one_hot(targets, 7)
    np.testing.assert_allclose(value, np.average(-(Y * log_p).sum(1), weights=weights), rtol=1e-12)
    for f in range(3):
        up, down = (evaluate(theta + sign * step * np.eye(3)[f], True) for sign in (1, -1))
        np.testing.assert_allclose(gradient[f], (up[0] - down[0]) / (2 * step), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(hessian[f], (up[1] - down[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_newton_recovers_the_scalars_of_soft_targets_in_few_steps():
    groups, targets, _ = softmax_problem(soft=True)
    values = []
    theta = newton(
        primed_loss(groups, targets, None, 1),
        [1.0, 0.0, 0.0],
        tolerance=1e-12,
        on_step=lambda step, theta, value: values.append(value),
    )
    np.testing.assert_allclose(theta, [1.3, 0.2, -0.5], rtol=1e-6)
    assert len(values) <= 8
    assert (np.diff(values) <= 0).all()


def test_newton_leaves_a_scalar_without_effect_where_it_is():
    groups, targets, _ = softmax_problem(soft=True)
    groups.insert(1, np.ones_like(groups[0]))
    theta = newton(primed_loss(groups, targets, None, 1), [1.0, 0.25, 0.0, 0.0], tolerance=1e-12)
    np.testing.assert_allclose(theta, [1.3, 0.25, 0.2, -0.5], rtol=1e-6)


def test_newton_backtracks_where_the_full_step_overshoots():
    def evaluate(theta, derivatives):  # log cosh: Newton's full step diverges from |theta| > 1.09
        value = float(np.log(np.cosh(theta[0])))
        return (value, np.tanh(theta), np.array([[1 / np.cosh(theta[0]) ** 2]])) if derivatives else (value, None, None)

    np.testing.assert_allclose(newton(evaluate, [3.0], tolerance=1e-14), [0.0], atol=1e-7)


def test_newton_starts_at_the_minimum_and_on_a_flat_function():
    def flat(theta, derivatives):
        return 1.0, np.zeros(2), np.zeros((2, 2))

    np.testing.assert_array_equal(newton(flat, [1.0, 2.0]), [1.0, 2.0])


def test_integers_lists_and_views_are_features():
    H = np.arange(12).reshape(4, 3)
    y = [1, 0, 1, 2]
    expected = H.T @ reference.one_hot(y, 3)
    for form in (H, H.tolist(), H.astype(np.uint8), H.astype(np.float16), np.asfortranarray(H, np.float32)):
        F = saffu.moments(form, y)
        assert F.dtype == np.float64
        np.testing.assert_array_equal(F, expected)


@pytest.mark.parametrize(
    ("H", "y", "kwargs", "error", "message"),
    [
        (np.ones((2, 3)), [0], {}, ValueError, "one label for each of the 2 rows, got 1"),
        (np.ones((2, 3)), [0, -1], {}, ValueError, "y must not be negative, got -1 at position 1"),
        (np.ones((2, 3)), [0, 5], {"n_classes": 5}, ValueError, "y must be below 5, got 5 at position 1"),
        (np.ones((2, 3)), [0.5, 1.0], {}, TypeError, "y must be integer labels"),
        (np.ones(3), [0], {}, ValueError, "H must be a matrix"),
        (np.array([["a"]]), [0], {}, TypeError, "H must be numbers"),
        (np.ones((2, 3)), [0, 1], {"sample_weight": [1.0]}, ValueError, "one weight for each of the 2 rows"),
        (np.ones((2, 3)), [0, 1], {"sample_weight": [1, -2]}, ValueError, "got -2.0 at position 1"),
        (np.ones((2, 3)), [0, 1], {"n_classes": 0}, ValueError, "n_classes must be at least 1"),
        (np.ones((2, 3)), np.ones((1, 4)), {}, ValueError, "one row for each of the 2 rows"),
        (np.ones((2, 3)), np.ones((2, 4)), {"n_classes": 5}, ValueError, "y must have 5 columns, got 4"),
    ],
)
def test_bad_input_is_named(H, y, kwargs, error, message):
    with pytest.raises(error, match=message):
        saffu.moments(H, y, **kwargs)


def test_a_column_of_labels_is_labels_and_a_column_of_floats_is_targets():
    H = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    expected = [[6.0, 3.0], [8.0, 4.0]]
    for y in (np.array([[0], [1], [0]]), [False, True, False], [0.0, 1.0, 0.0]):
        np.testing.assert_array_equal(saffu.moments(H, y), expected)
    np.testing.assert_array_equal(saffu.moments(H, np.array([[0.5], [1.0], [0.0]])), [[3.5], [5.0]])
    with pytest.raises(TypeError, match="y must be class numbers, got strings"):
        saffu.moments(H, ["a", "b", "a"])


@pytest.mark.parametrize("K", [0, -1.0, np.nan, "a"])
def test_priming_number_must_be_positive(K):
    with pytest.raises(ValueError, match="K must be a positive number"):
        saffu.log_weights(np.ones((2, 2)), K)

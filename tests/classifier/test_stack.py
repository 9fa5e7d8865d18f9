"""The stack of softmax layers: its function, its loss and its gradients."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from helpers import reference
from helpers.gradients import central_differences
from saffu.classifier import softmax_mlp as stack


def problem(sizes, n_rows=7, seed=0, scale=1.0, dtype=np.float64):
    """Parameters of layers with these sizes (inputs, hidden.., classes), features and class numbers."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes[:-1])):
        parameters[f"hidden{layer}.weights"] = rng.normal(0, scale, (n_in, n_out)).astype(dtype)
        parameters[f"hidden{layer}.bias"] = rng.normal(0, scale, n_out).astype(dtype)
    parameters["output.weights"] = rng.normal(0, scale, sizes[-2:]).astype(dtype)
    X = (rng.random((n_rows, sizes[0])) * (rng.random((n_rows, sizes[0])) < 0.6)).astype(dtype)
    return parameters, X, rng.integers(0, sizes[-1], n_rows).astype(np.int32)


ARCHITECTURES = [(5, 4, 3), (5, 4, 6, 3), (5, 4, 2, 6, 3), (3, 1, 2), (4, 19, 1)]


@pytest.mark.parametrize("sizes", ARCHITECTURES)
@pytest.mark.parametrize("sparse", [False, True])
def test_forward_and_losses_are_the_equations(sizes, sparse):
    parameters, X, y = problem(sizes)
    activations, p = stack.forward(parameters, csr_array(X) if sparse else X, 1)
    h = X
    for layer, activation in enumerate(activations):
        h = np.exp(reference.log_softmax(h @ parameters[f"hidden{layer}.weights"] + parameters[f"hidden{layer}.bias"]))
        np.testing.assert_allclose(activation, h, rtol=1e-12)
    assert len(activations) == len(sizes) - 2
    np.testing.assert_allclose(p, h @ np.exp(reference.log_softmax(parameters["output.weights"])), rtol=1e-12)
    losses = stack.losses(parameters, csr_array(X) if sparse else X, y, 1)
    np.testing.assert_allclose(losses, -np.log(p[np.arange(len(y)), y]), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("sizes", ARCHITECTURES)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_central_differences(sizes, sparse, weighted):
    parameters, X, y = problem(sizes)
    X = csr_array(X) if sparse else X
    weights = np.random.default_rng(1).random(len(y)) * (np.arange(len(y)) != 2) if weighted else None
    share = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()

    def loss(parameters):
        return float(share @ stack.losses(parameters, X, y, 1))

    value, gradients = stack.loss_and_gradients(parameters, X, y, weights)
    assert value == pytest.approx(loss(parameters), rel=1e-14)
    expected = central_differences(parameters, loss)
    assert gradients.keys() == parameters.keys()
    for name, gradient in gradients.items():
        error = np.linalg.norm(gradient - expected[name])
        assert error <= 1e-6 * np.linalg.norm(expected[name]) + 1e-11, name


@given(st.sampled_from(ARCHITECTURES), st.sampled_from([1.0, 30.0, 1000.0]), st.integers(0, 2**32 - 1))
def test_saturated_float32_is_finite_and_near_float64(sizes, scale, seed):
    parameters, X, y = problem(sizes, seed=seed, scale=scale, dtype=np.float32)
    value, gradients = stack.loss_and_gradients(parameters, X, y)
    wide = {name: array.astype(np.float64) for name, array in parameters.items()}
    expected, exact = stack.loss_and_gradients(wide, X.astype(np.float64), y)
    assert value == pytest.approx(expected, rel=1e-4, abs=1e-5 * scale)
    for name, gradient in gradients.items():
        assert gradient.dtype == np.float32
        assert np.isfinite(gradient).all(), name
        if scale == 1.0:
            np.testing.assert_allclose(gradient, exact[name], rtol=1e-3, atol=1e-5)


def test_a_probability_far_below_float32_still_teaches():
    parameters = {
        "hidden0.weights": np.array([[200.0, 0.0]], np.float32),
        "hidden0.bias": np.zeros(2, np.float32),
        "output.weights": np.array([[200.0, 0.0], [0.0, 200.0]], np.float32),
    }
    X, y = np.ones((1, 1), np.float32), np.array([1], np.int32)
    assert stack.forward(parameters, X, 1)[1][0, 1] == 0
    value, gradients = stack.loss_and_gradients(parameters, X, y)
    assert value == pytest.approx(200 - np.log(2), rel=1e-6)
    # Either state explains the class as well as the other: the one believed to be impossible should rise.
    np.testing.assert_allclose(gradients["hidden0.bias"], [0.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(gradients["output.weights"], [[0.5, -0.5], [0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_and_given_arrays_change_no_bit(sparse, dtype):
    parameters, X, y = problem((40, 70, 50, 6), n_rows=500, dtype=dtype)
    X = csr_array(X) if sparse else X
    value, gradients = stack.loss_and_gradients(parameters, X, y)
    for n_threads in (2, 3, 7):
        out = {name: np.full_like(array, np.nan) for name, array in parameters.items()}
        again, filled = stack.loss_and_gradients(parameters, X, y, None, n_threads, out)
        assert filled is out
        assert again == value
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(out[name], gradient)


def test_a_class_out_of_range():
    parameters, X, y = problem((5, 4, 3))
    y[3] = 3
    with pytest.raises(ValueError, match="out of range"):
        stack.loss_and_gradients(parameters, X, y)
    with pytest.raises(ValueError, match="out of range"):
        stack.losses(parameters, X, y, 1)


@pytest.mark.parametrize("shape", [(4, 3), (5, 2)])
def test_the_shape_of_a_given_array_is_checked(shape):
    X = csr_array(np.eye(7, 5))
    with pytest.raises(ValueError, match="equal lengths"):
        stack.product_transposed(X, np.ones((7, 3)), 1, np.empty(shape))

"""The Adam kernel against its naive twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import reference
from saffu import _core

pytestmark = pytest.mark.kernels

BETAS = (0.9, 0.999, 1e-8)


def state(n, dtype, seed=0):
    """Gradient, parameter, first and second moment."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.1, n)
    return [array.astype(dtype) for array in (rng.normal(0, 0.1, n), rng.normal(0, 1, n), first, first**2)]


@given(
    st.integers(0, 9000),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1, 2, 1000, 10**9]),
    st.sampled_from([BETAS, (0.0, 0.5, 0.1)]),
)
def test_equals_reference(n, dtype, step, constants):
    gradient, *arrays = state(n, dtype, seed=n)
    expected = reference.adam(gradient, *arrays, 0.003, *constants, step)
    _core.adam(gradient, *arrays, 0.003, *constants, step, 1)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for found, exact in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype):
    one = state(50_001, dtype)
    _core.adam(*one, 0.003, *BETAS, 3, 1)
    for n_threads in (2, 3, 7):
        many = state(50_001, dtype)
        _core.adam(*many, 0.003, *BETAS, 3, n_threads)
        for a, b in zip(one, many, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_zero_gradient_from_rest_moves_nothing():
    x, first, second = np.ones(5), np.zeros(5), np.zeros(5)
    _core.adam(np.zeros(5), x, first, second, 0.1, *BETAS, 1, 1)
    np.testing.assert_array_equal(x, np.ones(5))


def test_the_first_step_is_the_learning_rate():
    x, first, second = np.zeros(3), np.zeros(3), np.zeros(3)
    _core.adam(np.array([1e-3, -5.0, 1e3]), x, first, second, 0.1, *BETAS, 1, 1)
    np.testing.assert_allclose(x, [-0.1, 0.1, -0.1], rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_die_out_before_they_are_denormal(dtype):
    x, first, second = (np.full(40, value, dtype) for value in (1.0, -1.0, 1e-20))
    for step in range(1, 7001):
        _core.adam(np.zeros(40, dtype), x, first, second, 0.0, 0.9, 0.9, 1e-8, step, 1)
        assert np.all((first == 0) | (np.abs(first) >= np.finfo(dtype).tiny))
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize("place", [0, 2, 3])
def test_lengths_are_checked(place):
    arrays = [np.zeros(4) for _ in range(4)]
    arrays[place] = np.zeros(3)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.adam(*arrays, 0.1, *BETAS, 1, 1)


@pytest.mark.parametrize(
    ("step", "beta1", "beta2", "epsilon"),
    [(0, 0.9, 0.999, 1e-8), (-3, 0.9, 0.999, 1e-8), (1, 1.0, 0.999, 1e-8), (1, 0.9, -0.1, 1e-8), (1, 0.9, 0.999, 0.0)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_and_constants_that_divide_by_zero_are_refused(step, beta1, beta2, epsilon, dtype):
    """At step 0 the bias corrections are 0 / 0; nothing changes."""
    x, first, second = np.ones(3, dtype), np.zeros(3, dtype), np.zeros(3, dtype)
    with pytest.raises(ValueError, match=r"must (be between 1|lie within)"):
        _core.adam(np.ones(3, dtype), x, first, second, 0.1, beta1, beta2, epsilon, step, 1)
    np.testing.assert_array_equal([x, first, second], [np.ones(3), np.zeros(3), np.zeros(3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("n", [0, 5, 9001])
def test_without_momentum_it_is_adam_whose_beta1_is_zero(dtype, scale, n):
    gradient, x, first, second = state(n, dtype)
    expected = reference.adam(scale * gradient, x, first, second, 0.003, 0.0, 0.999, 1e-8, 7)
    _core.adam_without_momentum(gradient, x, second, scale, 0.003, 0.999, 1e-8, 7, 1)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(x, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(second, expected[2], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_momentum_bits_do_not_depend_on_threads(dtype):
    found = []
    for n_threads in (1, 2, 3, 7):
        gradient, x, _, second = state(50_001, dtype)
        _core.adam_without_momentum(gradient, x, second, 0.5, 0.003, 0.999, 1e-8, 3, n_threads)
        found.append((x.tobytes(), second.tobytes()))
    assert len(set(found)) == 1


def test_without_momentum_what_is_out_of_range_is_refused():
    gradient, x, _, second = state(4, np.float32)
    with pytest.raises(ValueError, match="x and its gradient must have equal lengths, got 4 and 3"):
        _core.adam_without_momentum(gradient[:3], x, second, 1.0, 0.1, 0.9, 1e-8, 1, 1)
    with pytest.raises(ValueError, match=r"beta2 must lie within \[0, 1\)"):
        _core.adam_without_momentum(gradient, x, second, 1.0, 0.1, 1.0, 1e-8, 1, 1)
    with pytest.raises(ValueError, match="step"):
        _core.adam_without_momentum(gradient, x, second, 1.0, 0.1, 0.9, 1e-8, 0, 1)

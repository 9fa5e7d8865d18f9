"""Dense log weights of counts of any size, against their equation in extended precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from saffu import _core

pytestmark = pytest.mark.kernels

Wide = np.longdouble


def expected(F, by_class, smoothing, exponent):
    """log(F + smoothing) - exponent log S, 0 for the log S of an empty class."""
    F = np.asarray(F, Wide) + Wide(smoothing)
    S = F.sum(1 if by_class else 0, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(F) - Wide(exponent) * np.log(np.where(S > 0, S, 1)), S.ravel()


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(np.float32, -30, 38.4), (np.float64, -200, 308.2), (np.float64, -3, 3), (np.float32, 37, 38.4)]),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1e38, 1e300, 1.5e308]),
    st.sampled_from([1.0, 0.5, -1.0]),
    st.integers(0, 2**32 - 1),
)
def test_equals_its_equation_for_finite_counts_of_any_size(rows, columns, kind, by_class, smoothing, exponent, seed):
    dtype, low, high = kind
    rng = np.random.default_rng(seed)
    F = (10.0 ** rng.uniform(low, high, (rows, columns))).astype(dtype)
    F[rng.random(F.shape) < 0.1] = 0
    U, S = _core.log_weights(F, by_class, smoothing, exponent, 1)
    value, total = expected(F, by_class, smoothing, exponent)
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(U, value.astype(float), rtol=tolerance, atol=1500 * tolerance)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(S, total.astype(float), rtol=1e-12)
    np.testing.assert_array_equal(_core.log_weights(F, by_class, smoothing, exponent, 3)[0], U)


@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_beyond_the_largest_double(order):
    """Two classes of one count, and one class of two counts whose sum is infinite."""
    F = np.array([[1e308, 1e308]], order=order)
    np.testing.assert_allclose(saffu.log_weights(F, K=np.inf), [[0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(saffu.log_weights(F.T, K=np.inf), np.full((2, 1), -np.log(2)), rtol=1e-12)
    assert saffu.log_weights([[1e308, 1e308]], K=1).tolist() == [[pytest.approx(np.log(1e308))] * 2]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("smoothing", [1.0, 1e37, 1e38, 1e300])
def test_float32_counts_that_smoothing_takes_beyond_float32(order, smoothing):
    F = np.array([[3e38, 1.0], [3e38, 2.0]], np.float32, order=order)
    U = saffu.log_weights(F, K=np.inf, smoothing=smoothing)
    assert U.dtype == np.float32
    np.testing.assert_allclose(U, expected(F, False, smoothing, 1.0)[0].astype(float), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("by_class", [False, True])
def test_classes_with_denormal_sums_have_weights_that_are_numbers_or_minus_infinity(by_class):
    """The kernels take a denormal count for none; the sum of its class must not become NaN because of it."""
    F = np.ones((40, 3))
    F[:, 1] = [0.0, 4e-310] * 20
    if by_class:
        F = np.ascontiguousarray(F.T)
    U, S = _core.log_weights(F, by_class, 0.0, 1.0, 1)
    U = U.T if by_class else U
    np.testing.assert_allclose(U[:, [0, 2]], -np.log(40))
    assert np.isneginf(U[:, 1]).all()
    np.testing.assert_allclose(S, [40, 8e-309, 40])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, -1e-300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by_class", [False, True])
def test_what_is_no_count_is_refused_among_large_ones(bad, dtype, by_class):
    F = np.full((5, 3), 3e38 if dtype == np.float32 else 1.7e308, dtype)
    F[2, 1] = bad
    if F[2, 1] == 0:
        F[2, 1] = -1e-30  # float32 holds no smaller one
    with pytest.raises(ValueError, match="counts must be finite and not negative"):
        _core.log_weights(F, by_class, 0.0, 1.0, 1)
    for smoothing in (np.nan, np.inf, -1.0):
        with pytest.raises(ValueError, match="counts must be"):
            _core.log_weights(np.ones((2, 2), dtype), by_class, smoothing, 1.0, 1)


@pytest.mark.parametrize("by_class", [False, True])
def test_infinite_weights_are_refused(by_class):
    """A priming number so small that the weights leave the dtype: an error, not infinity."""
    with pytest.raises(ValueError, match="infinite"):
        _core.log_weights(np.full((2, 2), 9, np.float32), by_class, 0.0, 1e300, 1)
    with pytest.raises(ValueError, match="infinite"):
        saffu.log_weights(np.full((2, 2), 9.0), K=1e-320)


LARGE = np.array([[1.0, 0.1], [1.0, 0.2], [0.3, 1.0], [0.2, 1.0]])


@pytest.mark.parametrize("priming", ["primed", "mean-norm"])
def test_a_layer_says_that_sums_overflow(priming):
    with pytest.raises(ValueError, match="too large"):
        saffu.SoftmaxLayer(priming).fit(1e308 * LARGE, [0, 0, 1, 1]).predict_proba(LARGE)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("scale", "dtype"), [(1e308, np.float64), (3e38, np.float32)])
def test_a_network_says_that_sums_overflow(scale, dtype):
    with pytest.raises(ValueError, match="too large"):
        saffu.ExplicitNetwork((2,)).fit((scale * LARGE).astype(dtype), [0, 0, 1, 1], progress=False)

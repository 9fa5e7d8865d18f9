"""The polynomials exp and log against extended precision, and their edges."""

import numpy as np
import pytest

from saffu import _core

pytestmark = pytest.mark.kernels

BOUND = {np.float64: 5e-16, np.float32: 3e-7}
EXP_RANGE = {np.float64: 707.9, np.float32: 86.9}


def relative_error(got, x, function):
    exact = function(x.astype(np.longdouble))
    return float(np.max(np.abs((got - exact) / np.where(exact == 0, 1, exact))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_accurate(dtype):
    rng = np.random.default_rng(0)
    for reach in (EXP_RANGE[dtype], 1.0, 1e-6):
        x = rng.uniform(-reach, reach, 100_001).astype(dtype)
        assert relative_error(_core.exp(x, 1), x, np.exp) < BOUND[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_is_accurate(dtype):
    rng = np.random.default_rng(0)
    limit = -np.log(np.finfo(dtype).tiny) * 0.999  # denormals count as zero
    for x in (np.exp(rng.uniform(-limit, limit, 100_001)), rng.uniform(0.5, 2, 100_001), 1 + rng.normal(0, 1e-4, 9999)):
        x = x.astype(dtype)
        assert relative_error(_core.log(x, 1), x, np.log) < BOUND[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges(dtype):
    inf, nan, tiny = np.inf, np.nan, np.finfo(dtype).tiny
    low, high = (-709, 710) if dtype == np.float64 else (-88, 89)
    x = np.array([-inf, inf, nan, 0, -0.0, low, high, -high * 10, high * 10], dtype)
    np.testing.assert_array_equal(_core.exp(x, 1), np.array([0, inf, nan, 1, 1, 0, inf, 0, inf], dtype))
    x = np.array([0, -0.0, inf, -inf, nan, -1, -tiny, 1, tiny / 2], dtype)
    np.testing.assert_array_equal(_core.log(x, 1), np.array([-inf, -inf, inf, nan, nan, nan, nan, 0, -inf], dtype))
    ends = np.array([tiny, np.finfo(dtype).max], dtype)
    np.testing.assert_allclose(_core.log(ends, 1), np.log(ends), rtol=BOUND[dtype])


@pytest.mark.parametrize("kernel", [_core.exp, _core.log])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(kernel, dtype):
    x = np.random.default_rng(0).uniform(0.1, 20, 50_003).astype(dtype)
    for n_threads in (2, 3, 7):
        np.testing.assert_array_equal(kernel(x, 1), kernel(x, n_threads))
    assert kernel(x[:0], 2).shape == (0,)

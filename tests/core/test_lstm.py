"""Kernels of a time step of an LSTM, against the equations and against differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import recurrent
from helpers.gradients import central_differences
from saffu import _core

pytestmark = pytest.mark.kernels
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-13)])


def step(R, C_before, G, n_threads=1):
    G = G.copy()
    C, tanh_C, M = np.empty((3, *C_before.shape), G.dtype)
    _core.lstm_step(R, C_before, G, C, tanh_C, M, n_threads)
    return G, C, tanh_C, M


def drawn(n_rows, n_cells, dtype, seed=0, scale=1.5):
    rng = np.random.default_rng(seed)
    R, G = (scale * rng.standard_normal((2, n_rows, 4 * n_cells))).astype(dtype)
    return R, rng.standard_normal((n_rows, n_cells)).astype(dtype), G


@DTYPES
@settings(max_examples=25, deadline=None)
@given(n_rows=st.integers(0, 9), n_cells=st.integers(1, 40), seed=st.integers(0, 9))
def test_a_step_is_its_equations(dtype, tolerance, n_rows, n_cells, seed):
    inputs = drawn(n_rows, n_cells, dtype, seed)
    expected = recurrent.lstm_step(*(x.astype(np.float64) for x in inputs))
    for mine, theirs in zip(step(*inputs), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)


@DTYPES
def test_gates_far_out_are_shut_or_open(dtype, tolerance):
    R, C_before, G = np.zeros((1, 8), dtype), np.ones((1, 2), dtype), np.full((1, 8), 1e4, dtype)
    G[0, 1::2] = -1e4
    gates, C, _, M = step(R, C_before, G)
    assert gates.tolist() == [[1, 0, 1, 0, 1, -1, 1, 0]]
    assert C.tolist() == [[2, 0]]
    np.testing.assert_allclose(M, [[np.tanh(2), 0]], atol=tolerance)


@DTYPES
def test_nan_stays(dtype, tolerance):
    R, C_before, G = drawn(1, 3, dtype)
    G[0, 1] = np.nan
    for found in step(R, C_before, G)[1:]:
        assert np.isnan(found[0]).tolist() == [False, True, False]


@DTYPES
def test_the_way_back_is_the_gradient(dtype, tolerance):
    R, C_before, G = drawn(2, 3, np.float64)
    rng = np.random.default_rng(1)
    dC, dM = rng.standard_normal((2, 2, 3))

    def loss(parameters):
        _, C, _, M = recurrent.lstm_step(R, parameters["C"], parameters["G"])
        return float((dC * C).sum() + (dM * M).sum())

    expected = central_differences({"G": G, "C": C_before}, loss)
    gates, _, tanh_C, _ = step(*(x.astype(dtype) for x in (R, C_before, G)))
    by_cells = dC.astype(dtype)
    _core.lstm_step_backward(C_before.astype(dtype), tanh_C, dM.astype(dtype), gates, by_cells, 1)
    bound = max(tolerance, 1e-10)
    np.testing.assert_allclose(gates, expected["G"], rtol=0, atol=bound)
    np.testing.assert_allclose(by_cells, expected["C"], rtol=0, atol=bound)


@DTYPES
def test_bits_do_not_depend_on_threads(dtype, tolerance):
    inputs = drawn(60, 70, dtype)
    for n_threads in (2, 3, 7):
        for one, other in zip(step(*inputs), step(*inputs, n_threads), strict=True):
            assert one.tobytes() == other.tobytes()


def test_what_does_not_fit_is_refused():
    R, C_before, G = drawn(2, 3, np.float32)
    C, tanh_C, M = np.empty((3, 2, 3), np.float32)
    with pytest.raises(ValueError, match="the rows of R and of G must have equal lengths, got 1 and 2"):
        _core.lstm_step(R[:1], C_before, G, C, tanh_C, M, 1)
    with pytest.raises(ValueError, match="the columns of M and a quarter of those of G"):
        _core.lstm_step(R, C_before, G, C, tanh_C, np.empty((2, 4), np.float32), 1)
    with pytest.raises(ValueError, match="the columns of G and four times the cells"):
        _core.lstm_step(R, C_before, np.empty((2, 13), np.float32), C, tanh_C, M, 1)
    with pytest.raises(ValueError, match="C and C_before must not share memory"):
        _core.lstm_step(R, C_before, G, C_before, tanh_C, M, 1)
    with pytest.raises(ValueError, match="dC and dM must not share memory"):
        _core.lstm_step_backward(C_before, tanh_C, M, G, M, 1)

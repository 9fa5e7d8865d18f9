"""The product of a few rows with a matrix in panels, against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saffu import _core
from saffu.recurrent_lm.network import in_panels

pytestmark = pytest.mark.kernels
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])


def product(A, B, n_threads=1):
    Z = np.full((len(A), B.shape[1]), np.nan, A.dtype)
    _core.panel_product(A, in_panels(B), Z, n_threads)
    return Z


@DTYPES
@settings(max_examples=40, deadline=None)
@given(n_rows=st.integers(0, 21), n_inner=st.integers(1, 40), n_columns=st.integers(1, 70), seed=st.integers(0, 9))
def test_it_is_the_product(dtype, tolerance, n_rows, n_inner, n_columns, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((n_rows, n_inner)).astype(dtype), rng.standard_normal((n_inner, n_columns)).astype(dtype)
    np.testing.assert_allclose(product(A, B), A.astype(np.float64) @ B, rtol=0, atol=tolerance)


@DTYPES
def test_bits_depend_on_neither_threads_nor_other_rows(dtype, tolerance):
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((21, 90)).astype(dtype), rng.standard_normal((90, 333)).astype(dtype)
    whole = product(A, B)
    for n_threads in (2, 3, 7):
        assert product(A, B, n_threads).tobytes() == whole.tobytes()
    for n_rows in (1, 3, 4, 8, 13):
        assert product(A[-n_rows:], B).tobytes() == whole[-n_rows:].tobytes()


def test_what_does_not_fit_is_refused():
    A, B, Z = np.ones((2, 3), np.float32), in_panels(np.ones((3, 40), np.float32)), np.empty((2, 40), np.float32)
    for arguments, message in (
        ((A[:1], B, Z), "the rows of Z and of A must have equal lengths, got 2 and 1"),
        ((A, B[:1], Z), "panels and the panels of Z must have equal lengths, got 1 and 2"),
        ((np.ones((2, 4), np.float32), B, Z), "the rows of panels and the columns of A"),
        ((A, B, B.reshape(-1)[:80].reshape(2, 40)), "Z and panels must not share memory"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.panel_product(*arguments, 1)

"""Log-probabilities with rows of either type, against their equation in extended precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pooled import Problem
from saffu import _core

pytestmark = pytest.mark.kernels

ROUNDING = 2.0**-23  # of a float32 and of a sum with it


@st.composite
def problems(draw, dtype, scalars):
    """Any number of rows, dense beginnings of any lengths, and vocabularies that are no whole blocks."""
    windows = draw(st.sampled_from([(), (5,), (3, 11)]))
    n_contexts = draw(st.integers(0, 9))
    n = 3 + n_contexts + len(windows)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fullness = draw(st.sampled_from([0.0, 0.03, 0.3, 0.6, 1.0]))
    return Problem(
        rng,
        draw(st.sampled_from([1, 15, 16, 17, 100, 2050])),
        6,
        fullness,
        draw(st.lists(scalars, min_size=n, max_size=n)),
        windows,
        draw(st.sampled_from([0, 20])),
        dtype=dtype,
    )


def own(problem):
    """The log-probability of each target."""
    return np.asarray(problem.log_distribution(problem.x)[np.arange(len(problem.targets)), problem.targets], float)


def bound(problem):
    """Rounding of rows and of sums of their products with scalars, and that of exponentials."""
    size = np.einsum("mk,mk->m", np.abs(problem.theta[problem.states]), np.abs(problem.x).max(2))
    return 4e-6 + (problem.theta.shape[1] + 4) * ROUNDING * np.asarray(size, float)


@given(problems(np.float64, st.floats(-2, 2)))
def test_rows_of_float64(problem):
    np.testing.assert_allclose(problem.pool.log_prob(problem.batch, 1), own(problem), rtol=1e-11, atol=1e-11)


@given(problems(np.float32, st.one_of(st.floats(-2, 2), st.floats(-50, 50), st.sampled_from([0.0, 1000.0, -1000.0]))))
def test_rows_of_float32_are_within_their_bound(problem):
    found = problem.pool.log_prob(problem.batch, 1)
    assert (np.abs(found - own(problem)) <= bound(problem)).all()
    assert (found <= 0).all()


def ordinary(dtype, seed=0):
    """Scalars as they are primed, and weights as counts give them."""
    rng = np.random.default_rng(seed)
    scalars = [0.1, 0.7, 0.5, 0.2, 0.2, 0.3, 0.2, 0.1, 0.1]
    return Problem(rng, 5003, 40, 0.3, scalars, (9, 15), 20, n=40, others=scalars, dtype=dtype)


def test_ordinary_log_probabilities_of_float32_are_right_to_a_millionth():
    errors = [ordinary(np.float32, seed) for seed in range(5)]
    errors = np.concatenate([p.pool.log_prob(p.batch, 1) - own(p) for p in errors])
    assert np.abs(errors).max() < 3e-6
    assert np.sqrt(np.mean(errors**2)) < 6e-7


def test_float32_rows_are_not_those_of_float64():
    """The bound would mean nothing if the rows were not rounded."""
    narrow, wide = (p.pool.log_prob(p.batch, 1) for p in (ordinary(np.float32), ordinary(np.float64)))
    assert (narrow != wide).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype):
    problem = ordinary(dtype)
    times = 30
    arrays = [np.tile(a, (times,) + (1,) * (a.ndim - 1)) for a in (problem.positions, problem.rows, problem.states)]
    positions, rows, states = arrays
    batch = _core.Batch(problem.ids, positions, np.zeros(positions.size, np.int64), rows, states)
    one = problem.pool.log_prob(batch, 1)
    np.testing.assert_allclose(one, np.tile(own(problem), times), rtol=0, atol=5e-6)
    for n_threads in (2, 3, 7):
        np.testing.assert_array_equal(problem.pool.log_prob(batch, n_threads), one)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scalar", [np.nan, np.inf, -np.inf, 1e300])
def test_scalars_that_are_not_finite_do_not_pass_for_others(dtype, scalar):
    """Those that make a logit infinite or no number, in one state; the other state is not touched by it."""
    problem = ordinary(dtype)
    problem.theta[0, 3] = scalar
    problem.theta[1, 3] = 0.25
    problem.pool = problem.make_pool(problem.continuation, (9, 15), 20)
    found, other = problem.pool.log_prob(problem.batch, 1), problem.states == 1
    if np.isnan(scalar) or scalar == np.inf:  # -inf excludes the words of the row
        assert not np.isfinite(found[~other & (problem.rows[:, 1] >= 0)]).any()
    problem.theta[0] = 0.0
    np.testing.assert_allclose(found[other], own(problem)[other], rtol=0, atol=5e-6)


def test_a_pool_is_the_same_on_any_number_of_threads():
    """Its prior is filled by parts; no bit of an answer depends on who fills which."""
    problem = ordinary(np.float32)
    one = problem.pool.log_prob(problem.batch, 1)
    for n_threads in (2, 3, 7):
        pool = problem.make_pool(problem.continuation, (9, 15), 20, n_threads)
        np.testing.assert_array_equal(pool.log_prob(problem.batch, 1), one)

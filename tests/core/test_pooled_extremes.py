"""The pooled softmax at scalars of any size, against its equation in extended precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pooled import Problem
from saffu import _core

pytestmark = pytest.mark.kernels


def close(value, expected, scale=1.0):
    np.testing.assert_allclose(value, np.asarray(expected, float), rtol=1e-9, atol=1e-9 * scale)


SCALARS = st.one_of(
    st.floats(-1000, 1000),
    st.floats(-50, 50),
    st.floats(-2, 2),
    st.sampled_from([0.0, 1.0, -1000.0, 1000.0, 800.0, 200.0, -7.5, -36.0]),
)


@st.composite
def problems(draw):
    windows = draw(st.sampled_from([(), (5,), (3, 11)]))
    n_contexts = draw(st.integers(1, 3))
    scalars = draw(st.lists(SCALARS, min_size=3 + n_contexts + len(windows), max_size=3 + n_contexts + len(windows)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vocab_size, fullness = draw(st.integers(1, 80)), draw(st.sampled_from([0.1, 0.6, 1.0]))
    return Problem(rng, vocab_size, 5, fullness, scalars, windows, draw(st.sampled_from([0, 20])))


@given(problems())
def test_log_prob_logits_and_distribution_equal_the_equation(problem):
    expected = problem.log_distribution(problem.x)
    shape, every = expected.shape, np.arange(len(expected))
    close(problem.pool.log_prob(problem.batch, 1), expected[every, problem.targets])
    wide, narrow = np.empty(shape), np.empty(shape, np.float32)
    problem.pool.logits(problem.batch, wide, 1)
    problem.pool.logits(problem.batch, narrow, 1)
    close(wide, expected)
    np.testing.assert_allclose(narrow, np.asarray(expected, float), rtol=1e-6, atol=2e-4)
    distribution = problem.pool.distribution(problem.batch, 1)
    close(distribution, np.exp(expected))
    close(distribution.sum(1), np.ones(len(expected)))


@given(problems())
def test_derivatives_equal_the_equation(problem):
    """Covariances are differences of second moments: their error is relative to those."""
    log_prob, gradient, hessian = problem.derivatives()
    found = problem.pool.derivatives(problem.batch, True, 1)
    close(found[0], log_prob)
    close(found[1], gradient, 10.0)
    close(found[2], hessian, 1e4)
    first_only = problem.pool.derivatives(problem.batch, False, 1)
    np.testing.assert_array_equal(first_only[0], found[0])
    np.testing.assert_allclose(first_only[1], found[1], rtol=1e-9, atol=1e-9)


def uniform_pool(rows, scalars):
    """16 equally frequent words, and one context."""
    row, word = np.nonzero(rows)
    indptr = np.searchsorted(row, np.arange(len(rows) + 1)).astype(np.int64)
    packed = _core.pack(indptr, word.astype(np.int32), np.asarray(rows, float)[row, word], 1)
    none = np.zeros(0, np.int64)
    log_prior = np.full((2, 16), -np.log(16))
    return _core.Pool(packed, log_prior, np.full(16, 1 / 16), np.array([scalars]), 1, none, none.astype(float), 0, 2.0)


def one_position(target, row):
    ids, state = np.array([target], np.int32), np.zeros(1, np.int32)
    place = np.zeros(1, np.int64)
    return _core.Batch(ids, place, place, np.array([[row]], np.int32), state, np.zeros((1, 1)), None)


@pytest.mark.parametrize("scalar", [-1000.0, -7.5, -6.0, 0.0, 6.0, 140.0, 150.0, 200.0, 800.0, 1000.0])
def test_a_row_that_says_the_same_of_every_word_says_nothing(scalar):
    """Its scalar cancels: log 1/16 = -2.7726, whatever it is."""
    pool, batch = uniform_pool(np.full((1, 16), 5.0), [0.0, 1.0, scalar, 0.0]), one_position(3, 0)
    np.testing.assert_allclose(pool.log_prob(batch, 1), -np.log(16), rtol=0, atol=1e-9)
    np.testing.assert_allclose(pool.distribution(batch, 1), np.full((1, 16), 1 / 16), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scalar", [-800.0, -36.0, -30.0, -3.0, 30.0, 200.0, 800.0])
def test_two_words_apart(scalar):
    """One word is seen more than the others: its log odds are the scalar times the difference."""
    u = np.full((1, 16), 5.0)
    u[0, 7] = 5.1
    pool = uniform_pool(u, [0.0, 1.0, scalar, 0.0])
    log_sum = np.logaddexp(np.log(15), 0.1 * scalar)
    np.testing.assert_allclose(pool.log_prob(one_position(7, 0), 1), 0.1 * scalar - log_sum, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(pool.log_prob(one_position(2, 0), 1), -log_sum, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_bits_do_not_depend_on_threads_or_company(n_threads):
    """Positions that are computed anew leave nothing behind for those after them."""
    rng = np.random.default_rng(0)
    extreme, usual = [0.0, 1.0, -400.0, 0.5, 0.2, 0.1], [0.0, 1.0, 0.4, 0.5, 0.2, 0.1]
    problem = Problem(rng, 70, 5, 0.6, extreme, (9,), 20, n=40, others=usual)
    tiled = {"positions": np.tile(problem.positions, 20), "rows": np.tile(problem.rows, (20, 1))}
    states, begins = np.tile(problem.states, 20), np.zeros(800, np.int64)
    batch = _core.Batch(
        problem.ids, tiled["positions"], begins, tiled["rows"], states, np.tile(problem.target_u, (20, 1)), None
    )
    one, many = (problem.pool.log_prob(batch, n) for n in (1, n_threads))
    np.testing.assert_array_equal(one, many)
    close(one, np.tile(problem.log_distribution(problem.x)[np.arange(40), problem.targets], 20))
    for a, b in zip(*(problem.pool.derivatives(batch, True, n) for n in (1, n_threads)), strict=True):
        np.testing.assert_array_equal(a, b)

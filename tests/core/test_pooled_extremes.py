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
def problems(draw, dtype=np.float64):
    windows = draw(st.sampled_from([(), (5,), (3, 11)]))
    n_contexts = draw(st.integers(1, 3))
    scalars = draw(st.lists(SCALARS, min_size=3 + n_contexts + len(windows), max_size=3 + n_contexts + len(windows)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vocab_size, fullness = draw(st.integers(1, 80)), draw(st.sampled_from([0.1, 0.6, 1.0]))
    return Problem(rng, vocab_size, 5, fullness, scalars, windows, draw(st.sampled_from([0, 20])), dtype=dtype)


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


def nearly(problem, found, precision):
    """Derivatives are those of the equation to the precision of logits, which lose it to the sizes of their terms."""
    x, every = np.asarray(problem.left_out(), float), np.arange(len(problem.rows))
    terms = np.abs(problem.theta[problem.states][:, :, None] * x).sum(1).max()
    lost, size = precision * (8 + terms), 1 + np.abs(x).max()
    for a, b, scale in zip(found, problem.derivatives(), (1, size, size**2), strict=True):
        np.testing.assert_allclose(a, np.asarray(b, float), rtol=lost, atol=4 * lost * scale * every.size)


@given(problems(np.float32))
def test_derivatives_of_rows_in_single_precision_equal_the_equation(problem):
    found = problem.pool.derivatives(problem.batch, True, 1)
    nearly(problem, found, 2.0**-23)
    first_only = problem.pool.derivatives(problem.batch, False, 1)
    np.testing.assert_array_equal(first_only[0], found[0])
    np.testing.assert_allclose(first_only[1], found[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["long rows", "all words", "no words", "one word", "windows alone"])
def test_derivatives_of_many_features_and_words(kind, dtype):
    """More than a tile of words in dense beginnings and in pairs, and features that do not come in fours."""
    rng = np.random.default_rng(3)
    vocab_size = 1 if kind == "one word" else 2500
    fullness = {
        "long rows": np.exp(-np.arange(vocab_size) / rng.uniform(20, 4000, (6, 1))),
        "all words": 1.0, "one word": 1.0, "no words": 0.0, "windows alone": 0.0,
    }[kind]  # fmt: skip
    windows = () if kind == "no words" else (3, 8, 30)
    scalars = rng.normal(0.2, 0.2, 11 + len(windows))
    scalars[:2] = 0.1, 0.8
    problem = Problem(rng, vocab_size, 6, fullness, scalars, windows, 0 if kind == "no words" else 20, 12, dtype=dtype)
    nearly(problem, problem.pool.derivatives(problem.batch, True, 2), 2.0**-23 if dtype == np.float32 else 2.0**-44)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_are_differences_of_what_they_derive(dtype):
    rng, step = np.random.default_rng(5), 1e-4 if dtype == np.float64 else 1e-2
    scalars = [0.2, 0.8, 0.3, 0.5, 0.1, 0.2, 0.15]

    def derivatives(change):
        moved = [scalar + step * c for scalar, c in zip(scalars, change, strict=True)]
        found = Problem(np.random.default_rng(6), 90, 5, 0.4, moved, (9,), 20, 30, others=moved, dtype=dtype)
        log_prob, *first_and_second = found.pool.derivatives(found.batch, True, 1)
        return -log_prob.sum(), *(value.sum(0) for value in first_and_second)

    direction = rng.normal(size=7)
    (below, low, _), (_, gradient, hessian), (above, high, _) = (derivatives(c * direction) for c in (-1, 0, 1))
    np.testing.assert_allclose((above - below) / (2 * step), gradient @ direction, rtol=1e-2 * step)
    np.testing.assert_allclose((high - low) / (2 * step), hessian @ direction, rtol=1e2 * step**2, atol=5 * step)


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

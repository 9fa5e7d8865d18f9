"""Derivatives of the pooled softmax with rows of either precision: many features and words, and differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pooled import Problem

pytestmark = pytest.mark.kernels

SCALARS = st.one_of(
    st.floats(-1000, 1000),
    st.floats(-50, 50),
    st.floats(-2, 2),
    st.sampled_from([0.0, 1.0, -1000.0, 1000.0, 800.0, 200.0, -7.5, -36.0]),
)


@st.composite
def problems(draw):
    windows = draw(st.sampled_from([(), (5,), (3, 11)]))
    size = 3 + draw(st.integers(1, 3)) + len(windows)
    scalars = draw(st.lists(SCALARS, min_size=size, max_size=size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vocab_size, fullness = draw(st.integers(1, 80)), draw(st.sampled_from([0.1, 0.6, 1.0]))
    return Problem(rng, vocab_size, 5, fullness, scalars, windows, draw(st.sampled_from([0, 20])), dtype=np.float32)


def nearly(problem, found, precision):
    """Derivatives are those of the equation to the precision of logits, which lose it to the sizes of their terms."""
    x, every = np.asarray(problem.left_out(), float), np.arange(len(problem.rows))
    terms = np.abs(problem.theta[problem.states][:, :, None] * x).sum(1).max()
    lost, size = precision * (8 + terms), 1 + np.abs(x).max()
    for a, b, scale in zip(found, problem.derivatives(), (1, size, size**2), strict=True):
        np.testing.assert_allclose(a, np.asarray(b, float), rtol=lost, atol=4 * lost * scale * every.size)


@given(problems())
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
    np.testing.assert_allclose((above - below) / (2 * step), gradient @ direction, rtol=10 * step**2 + 1e-6)
    np.testing.assert_allclose((high - low) / (2 * step), hessian @ direction, rtol=1e2 * step**2, atol=5 * step)

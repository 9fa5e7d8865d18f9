"""The likeliest next tokens, of every language model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.small_models import MODELS
from saffu.utils.sampling import likeliest


@pytest.mark.parametrize("context", [[], [0], [1, 2, 3, 4, 0, 1, 2, 3, 4, 0]])
@pytest.mark.parametrize("kind", MODELS)
def test_it_is_the_top_of_the_distribution(kind, context):
    model = MODELS[kind]()
    p = model.distribution(context)
    for k in (1, 2, 5, 9):
        ids, probabilities = model.top(context, k)
        assert (ids.dtype, probabilities.dtype) == (np.int32, np.float64)
        assert ids.tolist() == sorted(range(5), key=lambda i: (-p[i], i))[:k]
        np.testing.assert_array_equal(probabilities, p[ids])
    assert model.top(context)[0].size == 5
    greedy = model.generate(context, 1, temperature=0)
    assert next(greedy) == model.top(context, 1)[0][0]


@pytest.mark.parametrize(
    ("context", "k", "error", "message"),
    [
        ([0], 0, ValueError, "k must be at least 1, got 0"),
        ([0], 1.5, TypeError, "k must be"),
        ([9], 1, ValueError, "must be below 5, got 9"),
        ([0.5], 1, TypeError, "must be integers"),
    ],
)
@pytest.mark.parametrize("kind", MODELS)
def test_mistakes_are_named(kind, context, k, error, message):
    with pytest.raises(error, match=message):
        MODELS[kind]().top(context, k)


@given(arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0])), st.integers(1, 50))
def test_equal_ones_come_in_their_order(p, k):
    assert likeliest(p, k).tolist() == np.argsort(-p, kind="stable")[:k].tolist()

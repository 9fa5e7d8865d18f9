"""Softmax regression in one pass: losses and gradients against their equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import reference
from saffu import _core

pytestmark = pytest.mark.kernels

TOLERANCE = 2e-4


@st.composite
def cases(draw):
    """Features, weights, a bias and targets."""
    n, d = draw(st.sampled_from([0, 1, 7, 64, 65, 600])), draw(st.sampled_from([1, 5, 15, 16, 33, 50]))
    n_classes = draw(st.sampled_from([1, 2, 10, 16, 17, 33, 70]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.1, 1.0, 30.0]))  # the largest leaves classes of probability zero
    A, W = rng.normal(size=(n, d)).astype(np.float32), (scale * rng.normal(size=(d, n_classes))).astype(np.float32)
    return A, W, rng.normal(size=n_classes).astype(np.float32), rng.integers(0, n_classes, n).astype(np.int32)


@given(cases(), st.sampled_from([1, 2, 3, 7]))
def test_losses_and_gradients(case, n_threads):
    A, W, bias, targets = case
    losses, sums, dA = _core.regression_gradients(A, W, bias, targets, True, n_threads)
    wide = [part.astype(np.float64) for part in (A, W, bias)]
    expected = reference.regression_gradients(*wide, targets)
    assert dA.dtype == np.float32
    for found, wanted in zip((losses, sums.sum(axis=0), dA), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE * max(np.abs(wanted).max(initial=0), 1))


@given(cases(), st.booleans())
def test_the_bits_do_not_depend_on_the_threads(case, slopes):
    alone = _core.regression_gradients(*case, slopes, 1)
    for n_threads in (2, 3, 7):
        for found, wanted in zip(_core.regression_gradients(*case, slopes, n_threads), alone, strict=True):
            assert found is wanted is None or found.tobytes() == wanted.tobytes()


def test_what_does_not_fit_is_refused():
    A, W, bias = (np.ones(shape, np.float32) for shape in ((3, 2), (2, 4), 4))
    targets = np.array([0, 3, 1], np.int32)
    for case in [(A, W[:1], bias, targets), (A, W, bias[:3], targets), (A, W, bias, targets[:2])]:
        with pytest.raises(ValueError, match="equal lengths"):
            _core.regression_gradients(*case, False, 1)
    with pytest.raises(ValueError, match="targets out of range: expected 0 to 3, got 4 at place 2"):
        _core.regression_gradients(A, W, bias, np.array([0, 3, 4], np.int32), False, 1)

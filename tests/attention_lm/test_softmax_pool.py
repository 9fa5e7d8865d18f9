"""The pooled softmax: its loss and derivatives against those of priming in double precision, and differences."""

import numpy as np
import pytest

from saffu.attention_lm import softmax_pool as module
from saffu.attention_lm.softmax_pool import softmax_pool
from saffu.explicit.newton import primed_loss


def problem(n, width, n_groups, seed=0):
    rng = np.random.default_rng(seed)
    groups = [rng.normal(0, 1, (n, width)).astype(np.float32) for _ in range(n_groups)]
    return groups, rng.integers(0, width, n).astype(np.int32), rng.normal(0, 1, n_groups)


@pytest.mark.parametrize(("n", "width", "n_groups"), [(1, 1, 1), (7, 3, 1), (40, 11, 3), (300, 50, 4)])
@pytest.mark.parametrize("cached", [1 << 17, 100])
def test_derivatives_are_those_of_priming(n, width, n_groups, cached, monkeypatch):
    monkeypatch.setattr(module, "CACHED", cached)  # with rows in one part, and in many
    groups, y, theta = problem(n, width, n_groups)
    found = softmax_pool(groups, y, theta)
    expected = primed_loss([group.astype(np.float64) for group in groups], y, None, 1)(theta, True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(ours) / n, theirs, rtol=1e-4, atol=1e-4)


def test_derivatives_are_differences():
    groups, y, theta = problem(60, 9, 3, seed=1)
    step = 1e-2
    value, gradient, hessian = softmax_pool(groups, y, theta)
    for f in range(3):
        move = step * (np.arange(3) == f)
        above, below = softmax_pool(groups, y, theta + move), softmax_pool(groups, y, theta - move)
        assert (above[0] - below[0]) / (2 * step) == pytest.approx(gradient[f], rel=1e-3, abs=1e-2)
        np.testing.assert_allclose((above[1] - below[1]) / (2 * step), hessian[f], rtol=1e-2, atol=1e-2)
    assert value > 0


def test_no_rows_no_loss():
    groups, y, theta = problem(0, 4, 2)
    value, gradient, hessian = softmax_pool(groups, y, theta)
    assert (value, gradient.tolist(), hessian.tolist()) == (0.0, [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]])

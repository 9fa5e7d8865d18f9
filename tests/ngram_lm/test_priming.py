"""Priming: how many positions it takes, what it lowers, and that from coarse to fine it ends where Newton would."""

import numpy as np
import pytest

import saffu
from helpers.made_up import documents_with_habits
from saffu.explicit.newton import newton
from saffu.ngram_lm import priming


@pytest.fixture(scope="module")
def parts():
    ids, documents = documents_with_habits(6000, 0, 7, (0.4, 0.6))
    model = saffu.ExplicitLM(radius=2, order=3, windows=(20, 60), induction=40).partial_fit(ids, documents=documents)
    return model.solution.priming_parts(model.solution.pooled_model(model.counts), model.counts)


def test_number_of_positions_follows_from_the_number_of_scalars():
    """p / (2 n) nats are lost at most, but where there are too many scalars."""
    assert priming.n_positions(4) == priming.COARSE_POSITIONS
    assert priming.n_positions(78) == 26_000
    assert np.isclose(78 / (2 * 26_000), priming.LOSS)
    assert priming.n_positions(10_000) == priming.MOST_POSITIONS


@pytest.mark.parametrize("at", [0.3, -0.2])  # above and below zero
def test_objective_has_the_stated_derivatives(parts, at):
    """Against differences; below zero there is a penalty besides."""
    few = [part.thin(priming._nth_key(parts, 300)) for part in parts]
    rng = np.random.default_rng(1)
    start = np.full((1, 8), 0.25)
    objective = priming.Objective(few, None, start)
    theta, direction, step = start.ravel() + at, rng.normal(size=8), 1e-3
    (below, low, _), (_, gradient, hessian), (above, high, _) = (
        objective(theta + c * step * direction, True) for c in (-1, 0, 1)
    )
    assert (above - below) / (2 * step) == pytest.approx(gradient @ direction, rel=1e-3)
    np.testing.assert_allclose((high - low) / (2 * step), hessian @ direction, rtol=1e-2, atol=1e-3)
    assert objective(theta, False)[2] is None


def test_objective_takes_a_hessian_that_is_given(parts):
    start = np.full((1, 8), 0.25)
    given = np.eye(8)[None]
    hessian = priming.Objective(parts, None, start, given)(start.ravel(), True)[2]
    n = sum(part.positions.size for part in parts)
    np.testing.assert_allclose(hessian, np.eye(8) * (1 + priming.STRENGTH / n))


def test_coarse_to_fine_ends_where_newton_would(parts, monkeypatch):
    """A step on all positions from the optimum of a tenth of them loses less than a tenth of what that loses."""
    monkeypatch.setattr(priming, "COARSE_POSITIONS", 600)
    monkeypatch.setattr(priming, "SHARED_POSITIONS", 200)
    n_steps = []
    bounds, scalars = priming.prime(parts, lambda: n_steps.append(1))
    monkeypatch.setattr(priming, "newton", lambda objective, theta, **_: np.array(theta))  # no step at all
    start = priming.prime(parts)[1]
    objective = priming.Objective(parts, bounds, start)
    best = objective(newton(objective, start.ravel(), tolerance=1e-8), False)[0]
    few = [part.thin(priming._nth_key(parts, 600)) for part in parts]
    coarse = newton(priming.Objective(few, bounds, start), start.ravel(), tolerance=1e-8)
    lost = objective(scalars.ravel(), False)[0] - best
    assert lost < 0.2 * (objective(coarse, False)[0] - best)
    assert lost < 1e-3
    assert len(n_steps) > 3


def test_priming_depends_on_no_order_of_parts(parts):
    forwards, backwards = priming.prime(parts), priming.prime(parts[::-1])
    np.testing.assert_array_equal(forwards[0], backwards[0])
    np.testing.assert_allclose(forwards[1], backwards[1], rtol=1e-6, atol=1e-6)

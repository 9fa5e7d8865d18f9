"""The weights of a mixture: against a brute-force optimum, and where the optimum is at an edge or is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from saffu.mixture_lm.mixing_weights import FittedWeights, checked_weights, fit_weights, mix


def objective(weights, log_p):
    """Nats per token of a mixture, as the equation has it."""
    return -np.mean(np.log(np.exp(log_p).T @ weights))


def brute_force(log_p):
    """The best weights that a general optimiser finds from many starts."""
    n_experts = len(log_p)
    rng = np.random.default_rng(0)
    best = min(
        (
            minimize(
                objective,
                start,
                (log_p,),
                method="SLSQP",
                bounds=[(0, 1)] * n_experts,
                constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
                options={"ftol": 1e-14, "maxiter": 500},
            )
            for start in rng.dirichlet(np.ones(n_experts), 5)
        ),
        key=lambda found: found.fun,
    )
    return best.x, best.fun


def log_probabilities(n_experts, n_tokens, spread, seed=0):
    rng = np.random.default_rng(seed)
    return -rng.exponential(3, n_tokens) + spread * rng.normal(size=(n_experts, n_tokens))


@pytest.mark.parametrize("n_experts", [2, 3, 6])
@pytest.mark.parametrize("spread", [0.02, 0.5, 3])
def test_they_are_the_optimum(n_experts, spread):
    log_p = log_probabilities(n_experts, 2000, spread)
    found = fit_weights(log_p)
    weights, loss = brute_force(log_p)
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    assert objective(found.weights, log_p) <= loss + 1e-10
    np.testing.assert_allclose(found.weights, weights, atol=1e-3 / min(spread, 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.sampled_from([0.001, 0.3, 5, 300]), st.integers(0, 10**6))
def test_no_weights_are_better(n_experts, n_tokens, spread, seed):
    log_p = log_probabilities(n_experts, n_tokens, spread, seed)
    found = fit_weights(log_p)
    p = np.exp(log_p - log_p.max(axis=0))
    # The condition of the optimum: no expert explains the tokens better than the mixture, on the average.
    assert np.mean(p / (found.weights @ p), axis=1).max() <= 1 + 1e-7
    assert found.losses[-1] <= found.losses[:-1].min()
    np.testing.assert_allclose(found.losses, [*-log_p.mean(axis=1), -mix(log_p, found.weights).mean()])


def test_steps_of_em_leave_them_as_they_are():
    log_p = log_probabilities(4, 3000, 1.0)
    found = fit_weights(log_p).weights
    p = found[:, None] * np.exp(log_p)
    np.testing.assert_allclose((p / p.sum(axis=0)).mean(axis=1), found, atol=1e-7)


def test_an_expert_that_helps_nothing_gets_nothing():
    good = log_probabilities(1, 500, 0.0)
    found = fit_weights(np.vstack([good, good - 1, good - 0.1]))
    assert found.weights.tolist() == [1, 0, 0]
    assert found.losses[-1] == found.losses[0]


def test_of_equal_experts_the_first_is_taken():
    log_p = np.repeat(log_probabilities(1, 500, 0.0), 3, axis=0)
    assert fit_weights(log_p).weights.tolist() == [1, 0, 0]


def test_tokens_of_no_probability():
    log_p = np.log([[0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]])
    log_p[1, 3] = -np.inf
    found = fit_weights(log_p)
    # (0.5 a + b)^3 * 0.5 a with a + b = 1 is largest at a = 1/2.
    np.testing.assert_allclose(found.weights, [0.5, 0.5], atol=1e-9)
    assert found.losses[1] == np.inf
    impossible = np.full((2, 1), -np.inf)
    np.testing.assert_array_equal(fit_weights(np.hstack([log_p, impossible])).weights, found.weights)
    assert fit_weights(np.hstack([log_p, impossible])).losses[-1] == np.inf
    assert fit_weights(np.repeat(impossible, 3, axis=1)).weights.tolist() == [0.5, 0.5]


def test_an_expert_that_has_diverged_gets_nothing():
    log_p = log_probabilities(3, 300, 1.0)
    expected = fit_weights(log_p[[0, 2]])
    log_p[1, 7] = np.nan
    found = fit_weights(log_p)
    np.testing.assert_allclose(found.weights[[0, 2]], expected.weights, atol=1e-7)
    assert found.weights[1] == 0
    assert found.losses[1] == np.inf
    assert found.losses[-1] == pytest.approx(expected.losses[-1])


def test_no_tokens_and_one_expert():
    found = fit_weights(np.empty((4, 0)))
    assert found.weights.tolist() == [0.25] * 4
    assert (found.n_tokens, np.isnan(found.losses).all()) == (0, True)
    assert fit_weights(np.empty((1, 0))).weights.tolist() == [1]
    assert fit_weights(np.log([[0.1, 0.2]])).weights.tolist() == [1]


def test_text_before_counts_as_what_experts_were_responsible_for():
    log_p, n_before = log_probabilities(3, 400, 1.0), 250.0
    before = FittedWeights(np.array([0.2, 0.8, 0.0]), n_before, np.zeros(4))
    found = fit_weights(log_p, before)
    assert found.n_tokens == 650
    # A fixed point of incremental EM.
    p = found.weights[:, None] * np.exp(log_p)
    expected = (n_before * before.weights + (p / p.sum(axis=0)).sum(axis=1)) / 650
    np.testing.assert_allclose(found.weights, expected, atol=1e-7)
    unmoved = fit_weights(np.empty((3, 0)), before)
    np.testing.assert_allclose(unmoved.weights, before.weights, atol=1e-7)


def test_the_order_of_experts_does_not_matter():
    log_p = log_probabilities(4, 1000, 1.0)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(fit_weights(log_p[order]).weights, fit_weights(log_p).weights[order], atol=1e-6)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([0.5, 0.6], ValueError, "weights must not be negative and have unit sum"),
        ([1.5, -0.5], ValueError, "weights must not be negative and have unit sum"),
        ([np.nan, 1], ValueError, "weights must not be negative and have unit sum"),
        ([1.0], ValueError, "weights must be 2 numbers, one for each expert"),
        ([[0.5, 0.5]], ValueError, "weights must be 2 numbers, one for each expert"),
        (["a", "b"], TypeError, "weights must be numbers"),
    ],
)
def test_given_weights_are_checked(values, error, message):
    with pytest.raises(error, match=message):
        checked_weights(values, 2)

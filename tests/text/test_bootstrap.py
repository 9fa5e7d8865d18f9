"""Confidence intervals of perplexities, and the paired test of two models."""

import numpy as np
import pytest
from scipy import stats

from saffu.text import bootstrap
from saffu.text.bootstrap import nats_interval, paired_test, units
from saffu.utils.streams import TokenStream


def text(lengths):
    lengths = np.asarray(lengths)
    return TokenStream.of(np.zeros(lengths.sum(), int), np.cumsum(lengths) - lengths)


def correlated(stream, rng, deviation=0.5):
    """Log-probabilities whose documents differ."""
    lengths = stream.lengths()
    return -np.repeat(2 + deviation * rng.normal(size=lengths.size), lengths) - rng.exponential(1, stream.ids.size)


@pytest.mark.parametrize(
    ("lengths", "n_units"),
    [([10] * 20, 20), ([10] * 19, 0), ([600] * 19, 22), ([9999], 0), ([10_000], 20), ([3] * 5000, 2000), ([1], 0)],
)
def test_units(lengths, n_units):
    stream = text(lengths)
    begins = units(stream)
    assert begins.size == n_units
    if n_units:
        assert begins[0] == 0
        assert (np.diff(begins) > 0).all()
        if len(lengths) >= 20:
            assert set(begins.tolist()) <= set(stream.starts.tolist())


def test_the_interval_is_that_of_naive_draws():
    rng = np.random.default_rng(0)
    stream = text(rng.integers(5, 60, 80))
    log_prob = correlated(stream, rng)
    documents = np.split(-log_prob, stream.starts[1:])
    means = []
    for _ in range(4000):
        drawn = [documents[i] for i in rng.integers(0, len(documents), len(documents))]
        means.append(np.concatenate(drawn).mean())
    np.testing.assert_allclose(nats_interval(log_prob, stream), np.quantile(means, [0.025, 0.975]), atol=0.01)


def test_the_interval_holds_the_truth_as_often_as_it_should():
    rng = np.random.default_rng(1)
    n_inside = 0
    for _ in range(200):
        stream = text(np.full(40, 30))
        low, high = nats_interval(correlated(stream, rng), stream)
        n_inside += low <= 3 <= high
    assert 0.88 <= n_inside / 200 <= 0.99
    # Tokens drawn one by one would give far too narrow a one.
    assert high - low > 4 * 2 * 1.96 * 1.1 / np.sqrt(1200) / 2


def test_the_p_value_is_that_of_the_exact_test():
    rng = np.random.default_rng(2)
    stream = text([7] * 20)
    first, second = (correlated(stream, rng) for _ in range(2))
    found = paired_test(first, second, stream)
    sums = np.add.reduceat(first - second, stream.starts)
    exact = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=10**5, random_state=0)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.02)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.interval.low < found.difference < found.interval.high


def test_p_values_are_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(3)
    stream = text([10] * 30)
    p_values = [paired_test(*(correlated(stream, rng) for _ in range(2)), stream).p_value for _ in range(60)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_a_small_difference_on_every_document_is_found():
    rng = np.random.default_rng(4)
    stream = text(rng.integers(20, 60, 200))
    first = correlated(stream, rng)
    second = first - 0.01 + 0.05 * rng.normal(size=first.size)
    found = paired_test(first, second, stream)
    assert found.p_value < 0.001
    assert 0 < found.interval.low < 0.01 < found.interval.high < 0.02
    assert found == paired_test(first, second, stream)
    assert paired_test(second, first, stream).difference == -found.difference


def test_the_same_model_twice():
    stream = text([10] * 30)
    log_prob = correlated(stream, np.random.default_rng(5))
    log_prob[3] = -np.inf
    found = paired_test(log_prob, log_prob.copy(), stream)
    assert (found.difference, found.interval, found.p_value) == (0, (0, 0), 1)


def test_what_has_no_interval():
    short = text([30])
    log_prob = -np.ones(30)
    assert np.isnan(nats_interval(log_prob, short)).all()
    found = paired_test(log_prob, log_prob - 1, short)
    assert found.difference == 1
    assert np.isnan([*found.interval, found.p_value]).all()
    stream = text([10] * 30)
    log_prob = -np.ones(300)
    log_prob[7] = -np.inf
    assert np.isnan(nats_interval(log_prob, stream)).all()
    assert np.isinf(paired_test(log_prob, -np.ones(300), stream).difference)


def test_what_is_drawn_at_a_time_does_not_show(monkeypatch):
    stream = text([10] * 30)
    rng = np.random.default_rng(6)
    first, second = (correlated(stream, rng) for _ in range(2))
    before = paired_test(first, second, stream)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 100)
    after = paired_test(first, second, stream)
    np.testing.assert_allclose(after.interval, before.interval, rtol=0.2)
    assert after.p_value == pytest.approx(before.p_value, abs=0.02)

"""Rates of stepwise EM: they fall by a power, and not below half of what a part is of the data."""

import numpy as np
import pytest

from saffu.explicit.stepwise_em import stepwise_rate


def test_rates_fall_to_half_of_the_share_of_a_part():
    rates = np.array([stepwise_rate(step, 100, 10_000) for step in range(1, 5000)])
    assert (np.diff(rates) <= 0).all()
    assert rates[0] == 0.7
    assert rates[-1] == 0.5 * 100 / 10_000
    np.testing.assert_allclose(rates[:999], 0.7 * np.arange(1.0, 1000.0) ** -0.6, rtol=1e-12)


@pytest.mark.parametrize("step", [1, 5, 100])
def test_a_part_that_is_all_replaces_half_at_least(step):
    assert stepwise_rate(step, 8, 8) == max(0.7 / step**0.6, 0.5)

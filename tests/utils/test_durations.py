"""Amounts of time as users write them."""

import math

import numpy as np
import pytest

from saffu.utils.durations import clock, duration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90s", 90),
        ("90", 90),
        (90, 90),
        (1.5, 1.5),
        (np.float32(2), 2),
        ("15m", 900),
        ("15M", 900),
        (" 15 m ", 900),
        ("1.5h", 5400),
        ("2d", 172800),
        ("1", 1),
        ("30d", 30 * 86400),
    ],
)
def test_durations(value, seconds):
    assert duration(value, "budget") == seconds


@pytest.mark.parametrize("value", ["", "m", "15 minutes", "-5m", "1e3", "1:30", "nan", "inf", "5.m", "½h", "5mm"])
def test_what_is_none(value):
    with pytest.raises(ValueError, match=r"budget must be seconds, or a time such as '90s', '15m' or '1.5h', got "):
        duration(value, "budget")


@pytest.mark.parametrize("value", ["0", "0.5s", "31d", "9999999h", 0, -1, math.inf, math.nan])
def test_what_is_too_short_or_too_long(value):
    with pytest.raises(ValueError, match="budget must be at least 1s and at most 30d, got "):
        duration(value, "budget")


@pytest.mark.parametrize("value", [None, True, [1], b"15m"])
def test_other_types(value):
    with pytest.raises(TypeError, match="budget must be seconds, or a time"):
        duration(value, "budget")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (-3, "0:00"), (61.7, "1:01"), (3600, "1:00:00")])
def test_clock(seconds, shown):
    assert clock(seconds) == shown

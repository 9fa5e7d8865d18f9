"""Functions of arrays against loops, and checksums that see every difference."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saffu.utils.arrays import checksum, ranges, take


@given(st.lists(st.tuples(st.integers(-5, 50), st.integers(-5, 60))))
def test_ranges_are_those_of_python(bounds):
    first, last = (np.array(side, np.int64) for side in zip(*bounds, strict=True)) if bounds else np.empty((2, 0), int)
    found = ranges(first, last)
    assert found.tolist() == [i for low, high in bounds for i in range(low, high)]
    assert found.dtype == np.int64


@given(st.lists(st.integers(-1, 4)), st.sampled_from([np.int32, np.float32, np.float64]))
def test_what_is_not_there_is_zero(index, dtype):
    values = np.arange(1, 6).astype(dtype)
    found = take(values, np.array(index, np.int64))
    assert found.tolist() == [0 if i < 0 else i + 1 for i in index]
    assert found.dtype == dtype


def test_a_checksum_sees_values_types_shapes_order_and_text():
    a, b = np.arange(6.0), np.arange(3)
    given_once = checksum([a, b], "x")
    assert given_once == checksum([a.copy(), b.copy()], "x")
    assert given_once == checksum([np.repeat(a, 2)[::2], b], "x")  # memory order does not matter
    changed = a.copy()
    changed[5] += 1e-12
    others = [
        checksum([changed, b], "x"),
        checksum([a.astype(np.float32), b], "x"),
        checksum([a.reshape(2, 3), b], "x"),
        checksum([b, a], "x"),
        checksum([a, b], "y"),
        checksum([a, b]),
        checksum([a], "x"),
    ]
    assert len({given_once, *others}) == len(others) + 1

"""Integers in few bytes: what comes back, how many bytes there are, and what is refused."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu.utils.checkpoint import Damaged
from saffu.utils.coded_integers import LARGEST_BYTES, MOST_FROM_A_BYTE, decode, encode

LIMIT = 1 << 8 * LARGEST_BYTES
WIDTHS = st.sampled_from([1, 2, 255, 256, 65535, 65536, 1 << 24, 1 << 32, LIMIT - 1])
VALUES = WIDTHS.flatmap(lambda most: st.lists(st.integers(0, most), max_size=40))


@given(VALUES)
def test_what_is_encoded_comes_back(values):
    array = np.array(values, np.int64)
    coded = encode(array)
    assert coded.dtype == np.uint8
    found = decode(coded, array.size)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(decode(coded, array.size, int(array.max(initial=0)) + 1), array)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.uint16])
def test_types_and_strides_do_not_matter(dtype):
    values = np.arange(600).astype(dtype)
    np.testing.assert_array_equal(decode(encode(values[::3]), 200), values[::3])


def test_many_small_numbers_take_few_bits():
    rng = np.random.default_rng(0)
    values = rng.geometric(0.5, 100_000) - 1
    values[rng.integers(0, values.size, 20)] = 1 << 40  # some large ones among them
    assert encode(values).size * 8 / values.size < 2.3  # their entropy is 2 bits


@given(VALUES.filter(bool), st.data())
def test_other_numbers_of_values_are_refused(values, data):
    coded = encode(np.array(values))
    other = data.draw(st.integers(0, 3 * len(values)).filter(lambda n: n != len(values)))
    n_bytes = len(zlib.decompress(coded.tobytes()))
    if other == 0 or n_bytes % other or n_bytes // other > LARGEST_BYTES:
        with pytest.raises(Damaged, match="coded integers must be"):
            decode(coded, other)


@given(VALUES.filter(bool), st.data())
def test_streams_that_are_cut_or_longer_are_refused(values, data):
    coded = encode(np.array(values))
    cut = coded[: data.draw(st.integers(0, coded.size - 1))]
    for damaged in (cut, np.append(coded, np.uint8(0)), np.concatenate([coded, coded])):
        with pytest.raises(Damaged, match="coded integers must be"):
            decode(damaged, len(values))


@given(VALUES.filter(bool), st.data())
def test_damaged_bytes_are_noticed(values, data):
    """DEFLATE has a sum of its own, so no other numbers come of it."""
    coded = encode(np.array(values)).copy()
    coded[data.draw(st.integers(0, coded.size - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(coded, len(values))
    except Damaged:
        return
    np.testing.assert_array_equal(found, values)


def test_values_out_of_range_are_refused():
    for value in (-1, LIMIT):
        with pytest.raises(ValueError, match="values must be from 0"):
            encode(np.array([3, value]))
    with pytest.raises(Damaged, match="2 from 0 to 6"):
        decode(encode(np.array([3, 7])), 2, 7)


@pytest.mark.parametrize("coded", [np.zeros(20, np.int8), np.zeros((2, 20), np.uint8), np.zeros(20, np.uint8)])
def test_what_is_no_stream_is_refused(coded):
    with pytest.raises(Damaged, match="coded integers must be 3"):
        decode(coded, 3)


def test_a_bomb_is_refused_before_it_goes_off():
    """A stream is decoded to what is asked for at most, and more than it can stand for is not even tried."""
    bomb = np.frombuffer(zlib.compress(bytes(50_000_000), 9), np.uint8)
    assert bomb.size < 50_000
    for n_values in (5, MOST_FROM_A_BYTE * bomb.size + 1, 1 << 50):
        with pytest.raises(Damaged, match=f"coded integers must be {n_values:,}"):
            decode(bomb, n_values)

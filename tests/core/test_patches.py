"""Local softmax units on patches: pooled responsibilities and moments against their equations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import reference
from saffu import _core

pytestmark = pytest.mark.kernels

TOLERANCE = {np.float32: 2e-4, np.float64: 1e-11}


@st.composite
def cases(draw):
    """Images, weights and how patches are taken from them."""
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 12)), draw(st.integers(1, 3)))
    patch = (draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1])))
    stride = draw(st.integers(1, 3))
    places = reference.patch_places(shape, patch, stride)[1]
    pool = (draw(st.integers(1, places[0])), draw(st.integers(1, places[1])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    images = rng.random((draw(st.integers(0, 4)), np.prod(shape))).astype(dtype)
    images[rng.random(len(images)) < 0.2] = 0.5
    n_units = draw(st.sampled_from([1, 2, 7, 31, 32, 33, 40]))
    W = rng.normal(0, 1, (2 * patch[0] * patch[1] * shape[2] + 3, n_units)).astype(dtype)
    M = rng.normal(size=[np.prod(patch) * shape[2]] * 2).astype(dtype) if draw(st.booleans()) else None
    inputs = draw(st.sampled_from([1.0, 0.5])), draw(st.sampled_from([0.25, 0.1])), draw(st.booleans())
    return images, (shape, patch, stride, pool), M, W, inputs


def widened(*arrays):
    return [None if array is None else array.astype(np.float64) for array in arrays]


@given(cases(), st.sampled_from([1, 2, 3, 7]))
def test_pooled_responsibilities(case, n_threads):
    images, geometry, M, W, inputs = case
    pooled = _core.pool_patches(_core.Patches(*geometry, *inputs), images, M, W, n_threads)
    wide, *rest = widened(images, M, W)
    expected = reference.pool_patches(wide, *geometry, *rest, *inputs)
    assert pooled.dtype == images.dtype
    np.testing.assert_allclose(pooled, expected, atol=TOLERANCE[images.dtype.type] * max(expected.max(initial=1), 1))


@given(cases(), st.sampled_from([1, 2, 3, 7]), st.data())
def test_moments_of_some_patches(case, n_threads, data):
    images, geometry, M, W, inputs = case
    patches = _core.Patches(*geometry, *inputs)
    n = data.draw(st.integers(0, 200)) if len(images) else 0
    rng = np.random.default_rng(n)
    image_of = rng.integers(0, max(len(images), 1), n).astype(np.int32)
    place_of = rng.integers(0, np.prod(patches.places), n).astype(np.int32)
    sums = _core.patch_moments(patches, images, image_of, place_of, None, M, W, n_threads)
    shape, patch, stride, _ = geometry
    wide, *rest = widened(images, M, W)
    expected = reference.patch_moments(wide, shape, patch, stride, image_of, place_of, *rest, *inputs)
    scale = max(np.abs(expected).max(initial=1), 1)
    np.testing.assert_allclose(sums.sum(axis=0), expected, atol=TOLERANCE[images.dtype.type] * scale)


@given(cases(), st.sampled_from([1, 2, 3, 7]))
def test_moments_of_all_patches_are_those_of_a_list_of_them(case, n_threads):
    images, geometry, M, W, inputs = case
    patches = _core.Patches(*geometry, *inputs)
    n_places = np.prod(patches.places)
    image_of = np.repeat(np.arange(len(images)), n_places).astype(np.int32)
    place_of = np.tile(np.arange(n_places), len(images)).astype(np.int32)
    listed = _core.patch_moments(patches, images, image_of, place_of, None, M, W, 1)
    np.testing.assert_array_equal(_core.patch_moments(patches, images, None, None, None, M, W, n_threads), listed)


@settings(max_examples=30)
@given(cases(), st.sampled_from([1, 3]))
def test_gradient_is_that_of_differences(case, n_threads):
    images, geometry, M, W, inputs = case
    images, M, W = widened(images, M, W)
    patches = _core.Patches(*geometry, *inputs)
    rng = np.random.default_rng(0)
    slope = rng.normal(size=_core.pool_patches(patches, images, M, W, 1).shape)
    gradient = _core.patch_moments(patches, images, None, None, slope, M, W, n_threads).sum(axis=0)
    for _ in range(5):
        j, k = rng.integers(W.shape[0]), rng.integers(W.shape[1])
        step = np.zeros_like(W)
        step[j, k] = 1e-5
        ahead, behind = [(slope * _core.pool_patches(patches, images, M, W + s, 1)).sum() for s in (step, -step)]
        assert gradient[j, k] == pytest.approx((ahead - behind) / 2e-5, abs=1e-6 * max(1, np.abs(gradient).max()))


@pytest.mark.parametrize("normalize", [False, True])
def test_the_number_of_threads_and_blocks_changes_no_bit(normalize):
    rng = np.random.default_rng(1)
    images, W = rng.random((40, 256), np.float32), rng.normal(size=(75, 50)).astype(np.float32)
    M = np.eye(36, dtype=np.float32)
    patches = _core.Patches((16, 16, 1), (6, 6), 1, (3, 3), 1.0, 0.25, normalize)
    slope = rng.normal(size=(40, 9, 50)).astype(np.float32)
    for n_threads in (2, 3, 7):
        before = _core._first_block(1 << 16)
        try:
            pooled = _core.pool_patches(patches, images, M, W, n_threads)
            gradient = _core.patch_moments(patches, images, None, None, slope, M, W, n_threads)
        finally:
            _core._first_block(before)
        np.testing.assert_array_equal(pooled, _core.pool_patches(patches, images, None, W, 1))
        np.testing.assert_array_equal(gradient, _core.patch_moments(patches, images, None, None, slope, None, W, 1))


def test_values_that_are_not_finite_stay_in_their_image():
    images = np.full((3, 16), 0.5)
    images[1, 3] = np.nan
    patches = _core.Patches((4, 4, 1), (2, 2), 1, (1, 1), 1.0, 0.25, False)
    pooled = _core.pool_patches(patches, images, None, np.ones((11, 3)), 2)
    assert np.isnan(pooled[1]).any()
    np.testing.assert_allclose(pooled[[0, 2]], 3)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (((0, 4, 1), (1, 1), 1, (1, 1)), "height must be between 1"),
        (((4, 4, 1), (5, 1), 1, (1, 1)), "the height of a patch must be between 1 and 4, got 5"),
        (((4, 4, 1), (2, 2), 0, (1, 1)), "stride must be between 1"),
        (((4, 4, 1), (2, 2), 1, (4, 1)), "pool_rows must be between 1 and 3, got 4"),
        (((1 << 20, 1 << 20, 4), (2, 2), 1, (1, 1)), "an image must have at most"),
    ],
)
def test_mistakes_are_named(geometry, message):
    with pytest.raises(ValueError, match=message):
        _core.Patches(*geometry, 1.0, 0.25, False)


@pytest.mark.parametrize(("scale", "spread"), [(0.0, 1.0), (1.0, 0.0), (np.nan, 1.0), (1.0, np.inf)])
def test_scale_and_spread_are_positive(scale, spread):
    with pytest.raises(ValueError, match="scale and spread must be positive and finite"):
        _core.Patches((4, 4, 1), (2, 2), 1, (1, 1), scale, spread, False)


def test_arrays_must_fit():
    patches = _core.Patches((4, 4, 1), (2, 2), 1, (1, 1), 1.0, 0.25, False)
    images, W, some = np.zeros((2, 16)), np.zeros((11, 3)), np.zeros(1, np.int32)
    for bad, message in [
        ((np.zeros((2, 15)), None, None, None, None, W), "the values of an image and its shape"),
        ((images, None, None, None, None, np.zeros((10, 3))), "the rows of W and the inputs of a patch"),
        ((images, some, None, None, None, W), "must both be given"),
        ((images, some + 2, some, None, None, W), "image_of out of range: expected 0 to 1, got 2"),
        ((images, some, some + 9, None, None, W), "place_of out of range: expected 0 to 8, got 9"),
        ((images, some, some, np.zeros((2, 1, 3)), None, W), "slope needs all patches"),
        ((images, None, None, np.zeros((1, 1, 3)), None, W), "slope and images"),
        ((images, None, None, np.zeros((2, 2, 3)), None, W), "the columns of slope and cells"),
        ((images, None, None, None, np.zeros((4, 5)), W), "the columns of M and the values of a patch"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.patch_moments(patches, *bad, 1)

"""PatchEncoder: its EM and pooling against naive twins, geometry, files, and every mistake."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import saffu
from helpers import reference
from saffu import PatchEncoder
from saffu.patches import patch_em
from saffu.patches.contrast import KINDS, Contrast
from saffu.patches.geometry import Geometry
from saffu.patches.sample import patch_sample

RNG = np.random.default_rng(0)
BARS = np.zeros((30, 8, 8), np.float32)  # standing and lying bars, at places that differ
for number, bars in enumerate(BARS):
    bars[(slice(None), number % 8) if number % 2 else (number % 8, slice(None))] = 1
IMAGES = BARS.reshape(30, 64)
COLOURS = RNG.random((12, 6 * 5 * 3)).astype(np.float32)


def small(**settings):
    return PatchEncoder((8, 8), **{"patch": 3, "units": 5, "pool": 2, "rounds": 4} | settings)


@pytest.mark.parametrize("normalize", KINDS)
@pytest.mark.parametrize(("images", "shape"), [(IMAGES, (8, 8)), (COLOURS, (6, 5, 3))])
def test_pooled_responsibilities_are_those_of_the_equation(images, shape, normalize):
    encoder = PatchEncoder(shape, patch=(3, 2), units=4, pool=2, rounds=3, normalize=normalize).fit(images)
    contrast, shape = encoder._contrast, (*shape, 1)[:3]
    pooled = reference.pool_patches(
        images.astype(np.float64), shape, (3, 2), 1, (2, 2), contrast.whitening, encoder.weights_.astype(np.float64),
        contrast.scale, contrast.spread, normalize == "deviation",
    )  # fmt: skip
    np.testing.assert_allclose(encoder.transform(images), pooled.reshape(len(images), -1), atol=2e-4)
    rows, columns = shape[0] - 2, shape[1] - 1
    np.testing.assert_allclose(encoder.transform(images).sum(axis=1), rows * columns, rtol=1e-5)


@pytest.mark.parametrize("normalize", KINDS)
def test_inputs_without_the_kernel_are_those_of_the_kernel(normalize):
    patches = COLOURS.reshape(12, 6, 5, 3)[:, 1:4, 2:4].reshape(12, 18)
    contrast = Contrast.of(normalize, float(COLOURS.max()), RNG.random((50, 18)).astype(np.float32))
    for image, found in zip(COLOURS, contrast.inputs(patches), strict=True):
        white = None if contrast.whitening is None else contrast.whitening.astype(np.float64)
        inputs = contrast.scale, contrast.spread, normalize == "deviation"
        expected = reference.patch_inputs(image.reshape(6, 5, 3).astype(np.float64), (3, 2), (1, 2), white, *inputs)
        np.testing.assert_allclose(found, expected[:-1], atol=1e-4)


def test_whitened_differences_vary_about_equally_in_all_directions():
    mixed = (RNG.random((5000, 9)) @ RNG.normal(size=(9, 9)) + 9).astype(np.float32)
    contrast = Contrast.of("whiten", float(mixed.max()), mixed)
    plain = contrast.differences(mixed)
    spread = [np.linalg.eigvalsh(np.cov(z.T))[[1, -1]] for z in (plain, plain @ contrast.whitening.T)]
    assert spread[1][1] / spread[1][0] < 0.2 * spread[0][1] / spread[0][0]  # but for the mean, which is gone


def test_a_round_of_em_is_the_m_step_after_the_e_step():
    geometry = Geometry.of((8, 8), 3, 1, 2)

    def solved(rounds):
        settings = patch_em.EMSettings("none", 4, rounds, 1.0, 5.0, 3)
        return patch_em.solve_units(IMAGES, geometry, settings, 1, False)

    contrast, before = solved(8)
    rng = np.random.default_rng(3)
    image_of, place_of = patch_sample(IMAGES, geometry.everywhere(), contrast.scale, 4, rng)
    v = contrast.inputs(geometry.everywhere().values(IMAGES, image_of, place_of)).astype(np.float64)
    logits = v @ before[:-1] + before[-1]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    share = p.sum(axis=0)
    counts = v.T @ p + 5 * v.mean(axis=0)[:, None]
    expected = np.log(counts / counts.sum(axis=0))
    after = patch_em._weights(v.T @ p, share, v.mean(axis=0)[:, None], 1.0, 5.0)
    np.testing.assert_allclose(after[:-1], expected, atol=1e-5)
    np.testing.assert_allclose(after[-1], 0.5 * np.log((share + 1) / (share + 1).sum()), atol=1e-5)
    np.testing.assert_allclose(solved(60)[1], solved(61)[1], atol=0.2)  # it converges


def test_blank_patches_get_as_many_as_a_unit_has():
    mostly_blank = np.zeros((50, 20, 20), np.float32)
    mostly_blank[:, 9:11, 9:11] = RNG.random((50, 2, 2)) + 0.5
    geometry = Geometry.of((20, 20), 3, 1, 1)
    image_of, place_of = patch_sample(mostly_blank.reshape(50, -1), geometry, 1.0, 10, np.random.default_rng(0))
    shows = geometry.values(mostly_blank.reshape(50, -1), image_of, place_of).std(axis=1) > 0.02
    assert (~shows).sum() == shows.sum() // 10
    assert shows.sum() == 50 * 16
    nothing = patch_sample(np.ones((2, 400), np.float32), geometry, 1.0, 10, np.random.default_rng(0))
    assert nothing[0].size == 2 * 18 * 18


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.data())
def test_values_of_patches_are_slices_of_the_images(height, width, channels, stride, data):
    patch = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    geometry = Geometry.of((height, width, channels), patch, stride, 2)
    images = np.random.default_rng(1).random((3, height * width * channels)).astype(np.float32)
    places = reference.patch_places((height, width, channels), geometry.patch, stride)[0]
    assert len(places) == np.prod(geometry.places)
    numbers = np.arange(len(places), dtype=np.int32)
    found = geometry.values(images, np.full(numbers.size, 2, np.int32), numbers)
    for (y, x), values in zip(places, found, strict=True):
        image = images[2].reshape(height, width, channels)
        np.testing.assert_array_equal(values, image[y : y + geometry.patch[0], x : x + patch[1]].ravel())


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((28, 28), (6, 6)), ((32, 40, 3), (6, 6)), ((16, 16), (6, 6)), ((8, 8), (3, 3)), ((12, 8), (3, 3)),
     ((14, 14), (5, 5)), ((2, 9), (2, 3)), ((1, 30), (1, 6)), (30, (1, 6)), (8, (1, 3)), (2, (1, 2))],
)  # fmt: skip
def test_patches_of_small_images_are_smaller(shape, patch):
    images = RNG.random((3, int(np.prod(shape)))).astype(np.float32)
    encoder = PatchEncoder(shape, units=2, rounds=1).fit(images)
    assert encoder.geometry.patch == patch
    whole = PatchEncoder(shape, patch=50, units=2, rounds=1).fit(images)
    assert whole.geometry.patch == ((1, shape) if isinstance(shape, int) else shape[:2])


def test_signals_are_images_of_height_one():
    signals = RNG.random((20, 30)).astype(np.float32)
    encoder = PatchEncoder(30, patch=5, units=3, pool=4, rounds=2).fit(signals)
    assert (encoder._geometry.shape, encoder._geometry.pool) == ((1, 30, 1), (1, 4))
    np.testing.assert_array_equal(encoder.transform(signals).shape, (20, 12))
    default = PatchEncoder(patch=5, units=3, pool=4, rounds=2).fit(signals)
    np.testing.assert_array_equal(default.transform(signals), encoder.transform(signals))


@pytest.mark.parametrize("kind", [np.float64, np.uint8, csr_array, "scaled"])
def test_the_container_and_the_scale_do_not_matter(kind):
    encoder = small().fit(IMAGES)
    if kind == "scaled":
        np.testing.assert_allclose(
            small().fit(IMAGES * 255).transform(IMAGES * 255), encoder.transform(IMAGES), atol=1e-3
        )
        return
    other = csr_array(IMAGES) if kind is csr_array else IMAGES.astype(kind)
    np.testing.assert_array_equal(small().fit(other).transform(other), encoder.transform(IMAGES))


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_the_number_of_threads_changes_no_bit(n_threads):
    one, more = (small(n_threads=n).fit(IMAGES) for n in (1, n_threads))
    np.testing.assert_array_equal(one.weights_, more.weights_)
    np.testing.assert_array_equal(one.transform(IMAGES), more.transform(IMAGES))


@pytest.mark.parametrize("normalize", KINDS)
def test_saved_and_loaded_it_is_the_same(tmp_path, normalize):
    encoder = small(normalize=normalize).fit(IMAGES)
    encoder.save(tmp_path / "encoder")
    loaded = saffu.load(tmp_path / "encoder")
    assert repr(loaded) == repr(encoder)
    np.testing.assert_array_equal(loaded.transform(IMAGES), encoder.transform(IMAGES))


@pytest.mark.parametrize("images", [np.zeros((3, 64)), np.ones((1, 64)), np.full((2, 64), 1e-38), IMAGES[:1] * 1e30])
def test_images_that_show_nothing_or_are_few(images):
    pooled = small().fit(images).transform(images)
    np.testing.assert_allclose(pooled.sum(axis=1), 36, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "X", "message"),
    [
        ({}, np.ones((2, 63)), "X must have 64 columns, those of images of 8 x 8 x 1, got 63"),
        ({}, -np.ones((2, 64)), "Negative values"),
        ({}, np.full((2, 64), 1e300), "X must be below"),
        ({}, np.ones((0, 64)), "X must have at least one row"),
        ({"patch": (9, 2)}, IMAGES, "patch must fit into an image of 8 x 8, got 9 x 2"),
        ({"patch": 0}, IMAGES, "patch must be"),
        ({"units": 0}, IMAGES, "units must be"),
        ({"pool": 0}, IMAGES, "pool must be"),
        ({"stride": 0}, IMAGES, "stride must be"),
        ({"rounds": 0}, IMAGES, "rounds must be"),
        ({"sharpness": 0.0}, IMAGES, "sharpness must be"),
        ({"smoothing": -1.0}, IMAGES, "smoothing must be"),
        ({"normalize": "all"}, IMAGES, "normalize must be one of"),
        ({"seed": -1}, IMAGES, "seed must be"),
    ],
)
def test_mistakes_are_named(settings, X, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**settings).fit(X)


def test_shape_and_fit_are_needed():
    with pytest.raises(ValueError, match=re.escape("shape must be (height, width)")):
        PatchEncoder((2, 2, 2, 2)).fit(IMAGES)
    with pytest.raises(ValueError, match="has seen no data: call fit first"):
        small().transform(IMAGES)
    with pytest.raises(ValueError, match="64"):
        small().fit(IMAGES).transform(IMAGES[:, :60])


def test_names_of_features():
    encoder = small(units=2).fit(IMAGES)
    names = encoder.get_feature_names_out().tolist()
    assert names[:3] == ["cell0_unit0", "cell0_unit1", "cell1_unit0"]
    assert len(names) == encoder.n_outputs == encoder.transform(IMAGES).shape[1]


@pytest.mark.parametrize(("shape", "n_units"), [((12, 12), 100), ((16, 16), 216), ((16, 16, 3), 648), (30, 100)])
def test_units_follow_the_size_of_patches(tmp_path, shape, n_units):
    images = np.random.default_rng(0).random((3, int(np.prod(shape))), np.float32)
    encoder = PatchEncoder(shape, rounds=1).fit(images)
    assert encoder.weights_.shape[1] == n_units
    encoder.save(tmp_path / "encoder")
    np.testing.assert_array_equal(saffu.load(tmp_path / "encoder").transform(images), encoder.transform(images))

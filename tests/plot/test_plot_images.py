"""Figures of classifiers and of models of images: what is drawn is compared with what it is drawn of."""

import re

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import saffu  # noqa: E402
from saffu import plot  # noqa: E402
from saffu.patches.contrast import KINDS  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 6, 5, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    matplotlib.pyplot.close("all")


def rendered(ax):
    """Whether the figure can be drawn, with more than its background."""
    ax.figure.canvas.draw()
    return np.unique(np.asarray(ax.figure.canvas.buffer_rgba()).reshape(-1, 4), axis=0).shape[0] > 5


# ---- patches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", KINDS)
@pytest.mark.parametrize("sharpness", [1.0, 0.5])
def test_one_unit_stands_for_the_mean_patch(normalize, sharpness):
    encoder = saffu.PatchEncoder((6, 5, 3), patch=(3, 2), units=1, smoothing=0, normalize=normalize, rounds=2)
    encoder.set_params(sharpness=sharpness).fit(IMAGES.reshape(40, -1))
    values = np.lib.stride_tricks.sliding_window_view(IMAGES, (3, 2), axis=(1, 2))
    patches = np.moveaxis(values, 3, 5).reshape(-1, 18)
    expected = encoder.contrast.differences(patches).mean(axis=0).reshape(1, 3, 2, 3)
    np.testing.assert_allclose(encoder.unit_patches(), expected, atol=1e-3)


def test_a_unit_of_bright_corners_is_drawn_bright_in_that_corner():
    corners = np.zeros((40, 4, 4), np.float32)
    for number, image in enumerate(corners):
        image[2 * (number % 4 // 2), 2 * (number % 2)] = 1
    encoder = saffu.PatchEncoder((4, 4), patch=4, units=16, pool=1).fit(corners.reshape(40, 16))
    ax = plot.patches(encoder)
    assert rendered(ax)
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn.shape == (19, 19)
    assert (drawn[4::5] == 1).all()
    assert (drawn[:, 4::5] == 1).all()
    units = [drawn[y : y + 4, x : x + 4] for y in range(0, 19, 5) for x in range(0, 19, 5)]
    assert {unit.argmax() for unit in units} == {0, 2, 8, 10}
    assert all(unit.max() == pytest.approx(1) for unit in units)


def test_the_most_common_units_come_first_and_colours_are_colours():
    encoder = saffu.PatchEncoder((6, 5, 3), patch=2, units=7, rounds=3).fit(IMAGES.reshape(40, -1))
    first = np.argsort(-encoder.weights_[-1])[:2]
    drawn = np.asarray(plot.patches(encoder, count=2).images[0].get_array())
    assert drawn.shape == (5, 2, 3) or drawn.shape == (2, 5, 3)
    shown = encoder.unit_patches()[first[0]]
    np.testing.assert_allclose(drawn[:2, :2], 0.5 + 0.5 * shown / np.abs(shown).max(), atol=1e-6)
    assert np.asarray(plot.patches(encoder).images[0].get_array()).shape[2] == 3
    assert plot.patches(encoder).get_title() == "patches of 7 of 7 units"


@pytest.mark.parametrize("shape", [30, (5, 3, 2)])
def test_signals_and_other_channels_are_drawn(shape):
    rows = RNG.random((20, 30))
    net = saffu.ExplicitConvNet(shape, patch=3, units=4, rounds=2, hidden=(4,), normalize="whiten")
    ax = plot.patches(net.fit(rows, np.arange(20) % 2))
    assert np.asarray(ax.images[0].get_array()).ndim == 2
    assert rendered(ax)


def test_what_has_no_patches():
    with pytest.raises(TypeError, match="encoder must be a PatchEncoder or an ExplicitConvNet, got SoftmaxLayer"):
        plot.patches(saffu.SoftmaxLayer())
    with pytest.raises(ValueError, match="has seen no data"):
        plot.patches(saffu.PatchEncoder(4))
    with pytest.raises(ValueError, match="count must be at least 1"):
        plot.patches(saffu.PatchEncoder(4, patch=2, units=2).fit(np.eye(4)), count=0)


# ---- the confusion matrix --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [int, str, bool])
def test_it_counts_what_is_taken_for_what(kind):
    true, predicted = RNG.integers(0, 2, (2, 200)) if kind is bool else RNG.integers(0, 5, (2, 200))
    true[true == 3], predicted[predicted == 4] = 0, 1
    true, predicted = true.astype(kind), predicted.astype(kind)
    names = np.unique(np.concatenate([true, predicted]))
    ax = plot.confusion_matrix(true, predicted)
    assert rendered(ax)
    counts = np.array([[((true == a) & (predicted == b)).sum() for b in names] for a in names])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    assert {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in ax.texts} == {
        place: count for place, count in np.ndenumerate(counts) if count
    }
    assert [label.get_text() for label in ax.get_yticklabels()] == [str(name) for name in names]
    assert ax.get_title() == f"{(true == predicted).mean():.1%} of 200 right"


def test_it_agrees_with_scikit_learn_in_any_order_of_classes():
    metrics = pytest.importorskip("sklearn.metrics")
    true, predicted = np.array(["a", "b", "c"])[RNG.integers(0, 3, (2, 99))]
    order = ["c", "a", "d", "b"]
    ax = plot.confusion_matrix(true, predicted.tolist(), classes=order)
    expected = metrics.confusion_matrix(true, predicted, labels=order, normalize="true")
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    assert [label.get_text() for label in ax.get_xticklabels()] == order


def test_many_classes_are_drawn_without_counts_on_the_axes_given():
    figure, axes = matplotlib.pyplot.subplots()
    labels = np.arange(60)
    assert plot.confusion_matrix(labels, labels[::-1], ax=axes) is axes
    assert not axes.texts
    assert len(axes.get_xticks()) < 40
    assert matplotlib.pyplot.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    ("true", "predicted", "classes", "message"),
    [
        ([], [], None, "y_true must have at least one label, got none"),
        ([1, 2], [1], None, "y_pred must have one label for each of the 2 rows, got 1"),
        ([1, 2], ["1", "2"], None, "y_true and y_pred must be labels of one kind"),
        ([1, 2], [1, 3], [1, 2], "y_pred must be one of the 2 classes, got 3 at position 1"),
        ([1, 2], [1, 1], [1, 2, 1], "classes must be distinct, got [1, 2, 1]"),
    ],
)
def test_mistakes_are_named(true, predicted, classes, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        plot.confusion_matrix(true, predicted, classes=classes)

"""Figures: each is rendered, and what is drawn is compared with what the model says."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import saffu  # noqa: E402
from saffu import plot  # noqa: E402
from saffu.text import Vocabulary, tokenize  # noqa: E402

TEXT = "the cat sat on the mat . the dog sat on the cat . a dog ran . " * 12


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.build([tokenize(TEXT)])


@pytest.fixture(scope="module")
def model(vocabulary):
    model = saffu.ExplicitLM(radius=2, order=3, windows=(9,), induction=0)
    model.fit(vocabulary.encode_text(TEXT)[0], vocab_size=len(vocabulary))
    model.vocabulary = vocabulary
    return model


def rendered(ax):
    """The picture, as grey values; it holds more than the background."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=60)
    file.seek(0)
    pixels = matplotlib.image.imread(file)
    assert np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0).shape[0] > 20
    return pixels


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_priming_scalars(model):
    ax = plot.priming_scalars(model)
    rendered(ax)
    assert labels(ax.yaxis) == list(model.scalars)
    assert labels(ax.xaxis) == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(ax.images[0].get_array(), list(model.scalars.values()))
    assert [text.get_text() for text in ax.texts[:4]] == [f"{value:.2f}" for value in model.scalars["prior"]]


def test_scalars_of_fewer_states_leave_cells_empty():
    ax = plot.priming_scalars(SimpleNamespace(scalars={"prior": [1.0, 0.5], "suffix 2": [0.25]}))
    rendered(ax)
    assert np.isnan(ax.images[0].get_array()[1, 1]) or np.ma.is_masked(ax.images[0].get_array()[1, 1])
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.50", "0.25"]


def test_surprisal(model, vocabulary):
    ax = plot.surprisal(model, "the cat flew")
    rendered(ax)
    ids = vocabulary.encode(["the", "cat", "flew"])
    bits = -model.log_prob(ids) / np.log(2)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], bits, rtol=1e-12)
    assert labels(ax.xaxis) == ["the", "cat", "<unk>"]
    p = [model.distribution(ids[:t]) for t in range(3)]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [-(q * np.log2(q)).sum() for q in p], rtol=1e-9)
    assert ax.get_title() == f"{bits.mean():.2f} bits a token"
    np.testing.assert_allclose([bar.get_height() for bar in plot.surprisal(model, ids).patches], bits, rtol=1e-12)


@pytest.mark.parametrize("contexts", ["radial", "block"])
def test_attention_of_units(model, vocabulary, contexts):
    ids = vocabulary.encode_text(TEXT)[0]
    units = saffu.SaffuLM(bits=4, contexts=(contexts, "document"), radius=3, block=3, heads=2, hidden=6).fit(ids)
    ax = plot.attention(units, ids[:8], unit=f"{contexts}2", vocabulary=vocabulary)
    rendered(ax)
    table = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-5)
    near = np.tri(8, dtype=bool) & ~np.tri(8, k=-3, dtype=bool)
    if contexts == "block":
        near &= np.arange(8)[:, None] // 3 == np.arange(8) // 3
    assert (table > 0).tolist() == near.tolist()  # each position sees the last three tokens, or those of its block
    assert labels(ax.xaxis) == labels(ax.yaxis) == vocabulary.decode(ids[:8])
    # The naive twin: s = x_head X^T, a = softmax(s W + w), over the window of the last position.
    parameters = units._fitted.parameters
    logits = parameters["embeddings.logits"].astype(np.float64)
    X = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    window = ids[[7, 6, 5]] if contexts == "radial" else ids[[6, 7]]
    W, w = (parameters[f"{contexts}2.{name}"].astype(np.float64) for name in ("attention", "attention_bias"))
    scores = (X[window] @ X[ids[7]]) @ W[: len(window), : len(window)] + w[: len(window)]
    a = np.exp(scores - scores.max())
    places = [7, 6, 5] if contexts == "radial" else [6, 7]
    np.testing.assert_allclose(table[7, places], a / a.sum(), rtol=1e-4)


def test_attention_of_heads(vocabulary):
    model = saffu.Transformer(len(vocabulary), hidden=8, layers=2, heads=2, seed=1)
    ids = vocabulary.encode_text(TEXT)[0][:6]
    ax = plot.attention(model, ids, unit="layer2.head1")
    rendered(ax)
    table = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-5)
    assert not np.triu(table, 1).any()
    assert labels(ax.xaxis) == [str(i) for i in ids]
    with pytest.raises(ValueError, match="unit must be one of 'layer1"):
        plot.attention(model, ids, unit="layer3.head1")


def test_long_texts_have_no_labels(model):
    ax = plot.surprisal(model, TEXT[:400])
    rendered(ax)
    assert len(ax.patches) > 40
    assert len(ax.get_xticks()) < 40


def test_neighbours():
    rng = np.random.default_rng(0)
    names, rows = [f"w{i}" for i in range(30)], rng.random((30, 5))
    ax = plot.neighbours(rows, names, ["w3", "w7"], count=4)
    rendered(ax)
    cosine = rows @ rows.T / np.outer(*[np.linalg.norm(rows, axis=1)] * 2)
    expected = []
    for query in (3, 7):
        ranked = [i for i in np.argsort(-cosine[query]) if i != query][:4]
        expected += [names[i] for i in ranked]
        np.testing.assert_allclose(ax.images[0].get_array()[0 if query == 3 else 1], cosine[query, ranked])
    assert [text.get_text() for text in ax.texts] == expected
    assert labels(ax.yaxis) == ["w3", "w7"]


def test_neighbours_of_enriched_embeddings(vocabulary):
    ids = vocabulary.encode_text(TEXT)[0]
    cipher = saffu.BitCipher(4).fit(ids, vocab_size=len(vocabulary))
    rows = saffu.enriched_embeddings(ids, cipher, radii=[-1, 1], own=False)
    ax = plot.neighbours(rows, vocabulary, ["cat", "sat"], count=3)
    assert "dog" in [text.get_text() for text in ax.texts[:3]]  # both follow "the" and precede "sat"


def test_learning_curves():
    rng = np.random.default_rng(0)
    X, y = rng.random((300, 6)), rng.integers(0, 3, 300)
    one = saffu.SoftmaxLayer().fit(X, y).refine(X, y, epochs=3, validation=0.2)
    other = saffu.SoftmaxLayer().fit(X, y).refine(X, y, epochs=2)
    ax = plot.learning_curves({"one": one, "other": other.history})
    rendered(ax)
    assert [line.get_label() for line in ax.lines] == ["one, training", "one, validation", "other, training"]
    assert ax.lines[1].get_ydata().tolist() == [record["validation_loss"] for record in one.history]
    assert ax.lines[2].get_xdata().tolist() == [0, 1, 2]
    seconds = plot.learning_curves(one, over="seconds").lines[0].get_xdata().tolist()
    assert seconds == [record["seconds"] for record in one.history]


def calibrated(n):
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.full(4, 0.6), n)
    labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return probabilities, labels


def test_reliability_of_what_is_calibrated_and_what_is_not():
    probabilities, y = calibrated(60_000)
    right = plot.ReliabilityDisplay.from_predictions(y, probabilities, n_bins=8, name="right")
    rendered(right.ax_)
    assert right.expected_calibration_error < 0.01
    assert right.counts.sum() == 60_000
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    for number, low in enumerate(np.arange(2, 8) / 8):  # four classes: no confidence is below a quarter
        inside = (confidence >= low) & ((confidence < low + 1 / 8) | (low == 7 / 8))
        assert right.counts[number] == inside.sum()
        np.testing.assert_allclose(right.confidence[number], confidence[inside].mean())
        np.testing.assert_allclose(right.accuracy[number], correct[inside].mean())
    np.testing.assert_array_equal(right.line_.get_xdata(), right.confidence)
    np.testing.assert_array_equal(right.line_.get_ydata(), right.accuracy)
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    wrong = plot.ReliabilityDisplay.from_predictions(y, sharper, name="too sure", ax=right.ax_)
    assert wrong.expected_calibration_error > 0.1
    assert (wrong.confidence > wrong.accuracy).mean() > 0.8
    assert right.ax_.get_legend_handles_labels()[1] == [
        "perfectly calibrated",
        f"right (error {right.expected_calibration_error:.3f})",
        f"too sure (error {wrong.expected_calibration_error:.3f})",
    ]


def test_reliability_of_an_estimator():
    rng = np.random.default_rng(2)
    X = rng.random((400, 3))
    y = np.where(X[:, 0] > X[:, 1] + 0.2 * rng.standard_normal(400), "more", "less")
    layer = saffu.SoftmaxLayer().fit(X, y)
    display = plot.ReliabilityDisplay.from_estimator(layer, X, y)
    rendered(display.ax_)
    accuracy = np.average(display.accuracy, weights=display.counts)
    assert accuracy == pytest.approx(layer.score(X, y))
    assert display.estimator_name == "SoftmaxLayer"
    again = display.plot(name="again", ref_line=False, color="red")
    assert again is display
    assert [line.get_label()[:5] for line in display.ax_.lines] == ["again"]
    assert display.line_.get_color() == "red"


def test_reliability_agrees_with_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    probabilities, y = calibrated(3000)
    display = plot.ReliabilityDisplay.from_predictions(y, probabilities)
    truth = (probabilities.argmax(axis=1) == y).astype(int)
    accuracy, confidence = calibration.calibration_curve(truth, probabilities.max(axis=1), n_bins=10)
    np.testing.assert_allclose(display.accuracy, accuracy)
    np.testing.assert_allclose(display.confidence, confidence)


def test_figures_are_drawn_on_the_axes_given(model):
    figure, (left, right) = matplotlib.pyplot.subplots(1, 2)
    assert plot.priming_scalars(model, ax=left) is left
    assert plot.surprisal(model, [2, 3], ax=right) is right
    assert left.images
    assert right.patches
    rendered(left)
    assert matplotlib.pyplot.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.surprisal(saffu.ExplicitLM(order=2).fit([2, 3] * 9), "a b"), "the model has no vocabulary"),
        (lambda: plot.surprisal(saffu.ExplicitLM(order=2).fit([2, 3] * 9), []), "ids must have at least one token"),
        (lambda: plot.attention(saffu.Transformer(5, positions=4), [1] * 5), "ids must be 1 to 4 tokens, got 5"),
        (lambda: plot.neighbours([[1.0]], ["a", "b"], ["a"]), "embeddings must have a row for each of 2 types"),
        (lambda: plot.neighbours([[1.0], [2.0]], ["a", "b"], ["c"]), "queries must be types, got 'c'"),
        (lambda: plot.neighbours([[1.0], [2.0]], ["a", "b"], ["a"], count=0), "count must be at least 1"),
        (lambda: plot.learning_curves(saffu.SoftmaxLayer()), "models must have been refined, got SoftmaxLayer"),
        (lambda: plot.learning_curves([], over="hours"), "over must be"),
        (lambda: plot.ReliabilityDisplay.from_predictions([0], [[0.5, 0.5]] * 2), "y_prob must have a row for each"),
        (lambda: plot.ReliabilityDisplay.from_predictions([], np.empty((0, 2))), "y_prob must have a row for each"),
        (lambda: plot.ReliabilityDisplay.from_predictions([0], [[1.5, -0.5]]), "y_prob must be probabilities"),
        (
            lambda: plot.ReliabilityDisplay.from_predictions([0], [[0.5, 0.5]], classes=[1]),
            "classes must be 2 labels",
        ),
    ],
)
def test_mistakes_are_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()

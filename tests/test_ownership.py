"""What is kept is a copy: arrays that the caller changes, or frees, afterwards change nothing."""

import numpy as np
import pytest

import saffu
from helpers.attention import comparisons
from helpers.made_up import told_by_two
from saffu import grow
from saffu.attention_lm import windows as attention
from saffu.attention_lm.output_classes import OutputClasses
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.search.text_split import Split
from saffu.utils.initializers import Initializer
from saffu.utils.streams import TokenStream

V = 30
IDS = told_by_two(1500, 0, V, 0.4).astype(np.int32)
STARTS = np.array([0, 500, 900])


def spoil(*arrays):
    """What would crash a kernel that trusts them."""
    for array in arrays:
        array[:] = 2_000_000_000


@pytest.fixture(scope="module")
def model():
    return saffu.ExplicitLM(radius=2, order=3, windows=(20,), induction=30).fit(IDS, vocab_size=V, documents=STARTS)


def test_a_text_that_was_read(model):
    ids, starts = IDS[:400].copy(), np.array([0, 100])
    text = model.read(ids, documents=starts)
    expected = text.log_prob(), text.logits()
    spoil(ids, starts)
    np.testing.assert_array_equal(text.log_prob(), expected[0])
    np.testing.assert_array_equal(text.logits(), expected[1])
    ids[:] = 1  # valid ids, too
    np.testing.assert_array_equal(text.log_prob(), expected[0])


def test_a_text_whose_memory_is_given_back(model):
    ids = IDS[:400].copy()
    text = model.read(ids)
    expected = text.log_prob()
    ids.resize(4, refcheck=False)
    np.testing.assert_array_equal(text.log_prob(), expected)


def test_what_a_text_shows_cannot_be_written(model):
    text = model.read(IDS[:50].copy())
    for array in (text.ids, text.positions):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


def test_held_out_logits(model):
    ids, starts = IDS.copy(), STARTS.copy()
    held = HeldOutLogits(model, ids, documents=starts, folds=3)
    expected = held.log_prob(1)
    spoil(ids, starts)
    np.testing.assert_array_equal(held.log_prob(1), expected)
    fresh = HeldOutLogits(model, IDS, documents=STARTS, folds=3)
    np.testing.assert_array_equal(held.log_prob(2), fresh.log_prob(2))


@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out"])
def test_a_model_that_counted(priming):
    ids, starts = IDS.copy(), STARTS.copy()
    model = saffu.ExplicitLM(radius=2, order=3, priming=priming).partial_fit(ids, vocab_size=V, documents=starts)
    spoil(ids, starts)
    whole = saffu.ExplicitLM(radius=2, order=3, priming=priming).fit(IDS, vocab_size=V, documents=STARTS)
    np.testing.assert_array_equal(model.log_prob(IDS[:300]), whole.log_prob(IDS[:300]))
    more = IDS[:200].copy()
    model.partial_fit(more)
    spoil(more)
    whole.partial_fit(IDS[:200])
    np.testing.assert_array_equal(model.log_prob(IDS[:300]), whole.log_prob(IDS[:300]))


def test_a_solved_network():
    ids, starts = IDS.copy(), STARTS.copy()
    model = saffu.SaffuLM(bits=4, radius=3, hidden=4).fit(ids, documents=starts, vocab_size=V)
    expected = model.log_prob(IDS[:200])
    spoil(ids, starts)
    np.testing.assert_array_equal(model.log_prob(IDS[:200]), expected)
    context = IDS[:5].copy()
    session = model.session(context)
    following = session.distribution()
    spoil(context)
    np.testing.assert_array_equal(session.distribution(), following)
    np.testing.assert_array_equal(session.push(3).distribution(), model.session([*IDS[:5], 3]).distribution())


def test_windows_of_a_stream():
    ids, first, length, head = IDS.copy(), np.array([0, 5]), np.array([3, 3], np.int32), np.array([2, 7])
    windows = attention.Windows(ids, first, length, head)
    radial = attention.Windows.radial(ids, None, np.arange(10), 3)
    X = np.random.default_rng(0).normal(size=(V, 4))
    expected = [comparisons(each, X) for each in (windows, radial)]
    spoil(ids, first, length, head)
    for each, value in zip((windows, radial), expected, strict=True):
        np.testing.assert_array_equal(comparisons(each, X), value)


def test_layers_and_their_samples():
    rng = np.random.default_rng(0)
    X, y, weight = rng.poisson(2.0, (60, 4)).astype(float), rng.integers(0, 3, 60), rng.random(60)
    classes = np.arange(3)
    mine = [array.copy() for array in (X, y, weight, classes)]
    layer = saffu.SoftmaxLayer().partial_fit(mine[0], mine[1], classes=mine[3], sample_weight=mine[2])
    for array in mine:
        array[:] = 0
    whole = saffu.SoftmaxLayer().partial_fit(X, y, classes=classes, sample_weight=weight)
    np.testing.assert_array_equal(layer.predict_proba(X), whole.predict_proba(X))


def test_arrays_of_a_transformer():
    model = saffu.Transformer(5, hidden=8, layers=1, heads=2, positions=6)
    arrays = {name: value.copy() for name, value in model.arrays.items()}
    other = saffu.Transformer.from_arrays(arrays)
    larger = grow.add_heads(arrays, 3)
    ids = np.arange(8) % 5
    expected = other.log_prob(ids)
    for array in arrays.values():
        array[...] = np.nan
    np.testing.assert_array_equal(other.log_prob(ids), expected)
    assert all(np.isfinite(value).all() for value in larger.values())


def test_small_parts():
    of_word = np.array([0, 1, 1, 0], np.int32)
    cells = OutputClasses(of_word)
    spoil(of_word)
    assert cells.of_word.tolist() == [0, 1, 1, 0]
    made = np.ones((2, 3))
    given = Initializer(lambda name, shape: made, 0)("weights", (2, 3))
    made[:] = 7
    assert given.max() == 1
    ids = IDS[:20].copy()
    split = Split(TokenStream.of(ids), TokenStream.of(ids), V)
    spoil(ids)
    assert split.train.ids.max() < V
    assert split.held_out.ids.max() < V

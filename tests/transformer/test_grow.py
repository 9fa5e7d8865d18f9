"""Growth of transformers: nothing is forgotten, nothing new is dead, and misuse is refused clearly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers.small_transformers import SIX, double, rows, small
from saffu import grow
from saffu.transformer.functional import NOTHING, forward
from saffu.transformer.model import Transformer
from saffu.transformer.sequences import windows
from saffu.transformer.sizes import LayerSizes
from saffu.utils.streams import TokenStream


def distance(one, other, ids):
    """Largest difference of logits, relative to their scale."""
    a, b = one.logits(ids), other.logits(ids)
    return float(np.abs(a - b)[ids != NOTHING].max() / max(np.abs(a).max(), 1e-30))


# ---- nothing is forgotten --------------------------------------------------------------------------------------------


@st.composite
def expansions(draw):
    """Up to eight expansions, each a function of a model."""
    steps = []
    for _ in range(draw(st.integers(1, 8))):
        kind, more, seed = draw(st.sampled_from(sorted(SIX))), draw(st.integers(0, 4)), draw(st.integers(0, 99))
        part, init = draw(st.booleans()), draw(st.sampled_from(["normal", "zeros"]))
        steps.append((kind, more, seed, part, init))
    return steps


def take(model, step):
    kind, more, seed, part, init = step
    options = {"seed": seed, "init": init}
    n = len(model.sizes)
    if kind == "hidden":
        return grow.hidden(model, model.hidden + more, **options)
    if kind == "add_layer":
        return grow.add_layer(model, seed % (n + 1), heads=1 + more, mlp=1 + more, **options)
    layers = [seed % n] if part else range(n)
    if kind == "add_heads":
        return grow.add_heads(model, more, layers=layers, **options)
    field = {"mlp": "mlp", "head_dim": "value", "key_dim": "key"}[kind]
    largest = max(getattr(model.sizes[layer], field) for layer in layers)
    return getattr(grow, kind)(model, largest + more, layers=layers, **options)


@settings(deadline=None, max_examples=60)
@given(
    expansions(),
    st.integers(0, 1000),
    st.sampled_from(["relu", "gelu"]),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_sequence_of_expansions_keeps_the_function(steps, seed, activation, causal, dtype):
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(1, 4))
    sizes = {name: rng.integers(1, 6, layers).tolist() for name in ("heads", "key", "value", "mlp")}
    model = small(seed, hidden=int(rng.integers(1, 9)), layers=layers, activation=activation, causal=causal, **sizes)
    model = model if dtype == np.float32 else double(model)
    grown = model
    for step in steps:
        grown = take(grown, step)
    assert grown.dtype == dtype
    assert len(grown.growth) == len(steps)
    assert distance(model, grown, rows(seed)) <= (2e-5 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("kind", SIX)
def test_dictionaries_grow_as_models_do(kind):
    model = small()
    before = {name: value.copy() for name, value in model.arrays.items()}
    grown, arrays = SIX[kind](model, seed=3), SIX[kind](model.arrays, seed=3)
    assert type(arrays) is dict
    assert set(arrays) == set(grown.arrays)
    for name, value in grown.arrays.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert not any(np.shares_memory(arrays[name], other) for other in model.arrays.values())
    assert any(grown.arrays[name].shape != before.get(name, np.empty(0)).shape for name in grown.arrays)
    for name, value in before.items():
        np.testing.assert_array_equal(model.arrays[name], value)


def test_only_the_layers_asked_for_grow():
    grown = grow.mlp(small(), 20, layers=1)
    assert [size.mlp for size in grown.sizes] == [5, 20]
    assert grown.growth == [{"kind": "mlp", "size": 20, "layers": [1]}]


def test_sizes_that_are_there_already_change_nothing():
    model = small()
    for grown in (grow.hidden(model, 6), grow.add_heads(model, 0), grow.mlp(model, 5, layers=[0])):
        for name, value in model.arrays.items():
            np.testing.assert_array_equal(grown.arrays[name], value)


def test_new_numbers_are_what_init_makes_them():
    asked = []

    def init(name, shape):
        asked.append((name, shape))
        return np.full(shape, 0.25)

    model = small()
    grown = grow.mlp(model, 9, layers=0, init=init)
    assert asked == [("layer0.expand", (6, 9)), ("layer0.expand_bias", (9,))]
    assert (grown.arrays["layer0.expand"][:, 5:] == 0.25).all()
    assert not grown.arrays["layer0.contract"][5:].any()
    zero = grow.mlp(model, 9, init="zeros")
    assert not zero.arrays["layer0.expand"][:, 5:].any()
    one, same, other = (grow.mlp(model, 9, seed=seed).arrays["layer1.expand"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


# ---- by sizes --------------------------------------------------------------------------------------------------------


def test_a_model_grows_to_the_sizes_asked_for():
    model = small()
    grown = model.grow(layers=3, heads=3, hidden=9, mlp=12, value=5, key=6, seed=2)
    assert (grown.hidden, grown.sizes) == (9, [LayerSizes(3, 6, 5, 12)] * 3)
    assert distance(model, grown, rows()) <= 2e-5
    by_hand = grow.add_layer(model, seed=2)
    for layer, more in enumerate((1, 2, 2)):
        by_hand = grow.add_heads(by_hand, more, layers=layer, seed=2)
    for step, size in ((grow.hidden, 9), (grow.mlp, 12), (grow.head_dim, 5), (grow.key_dim, 6)):
        by_hand = step(by_hand, size, seed=2)
    for name, value in by_hand.arrays.items():
        np.testing.assert_array_equal(grown.arrays[name], value)
    assert grown.growth == by_hand.growth
    assert model.grow().sizes == model.sizes


def test_a_model_grows_by_what_a_text_shows():
    model = small()
    grown = model.grow(**text(), mlp=12, layers=3)
    init = saffu.Prototypes(model, **text())
    np.testing.assert_array_equal(
        grown.arrays["layer1.expand"], grow.mlp(grow.add_layer(model, init=init), 12, init=init).arrays["layer1.expand"]
    )
    assert distance(model, grown, rows()) <= 2e-5


# ---- nothing is dead -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SIX)
def test_gradients_reach_what_is_new(kind):
    model = double(small())
    grown = SIX[kind](model, seed=1)
    ids = rows()
    labels = np.where(ids == NOTHING, NOTHING, (ids + 1) % 11)
    text = grown._prepare(ids, labels, 1)
    gradients = {name: np.zeros_like(value) for name, value in grown.arrays.items()}
    grown._loss_and_gradients(grown.arrays, text.take(slice(None)), gradients, 1)
    reached = 0
    for name, gradient in gradients.items():
        old = model.arrays.get(name, np.empty((0,) * gradient.ndim))
        if kind == "add_layer" and name.startswith("layer"):
            old = np.empty((0,) * gradient.ndim) if name.startswith("layer1.") else gradient
        new = np.ones(gradient.shape, bool)
        new[tuple(slice(0, n) for n in old.shape)] = False
        reached += int((gradient[new] != 0).sum())
    assert reached > 0
    refined = saffu.refine(grown, ids, labels, epochs=30, batch_size=3, learning_rate=1e-2)
    assert refined.history[-1]["training_loss"] < refined.history[0]["training_loss"]


# ---- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: grow.mlp(m, 4), ValueError, "size must be at least 5, which it is now in layer 0"),
        (lambda m: grow.head_dim(m, 3), ValueError, "at least 4, which it is now in layer 1"),
        (lambda m: grow.key_dim(m, 1), ValueError, "a model can grow only, got 1"),
        (lambda m: grow.hidden(m, 5), ValueError, "size must be at least 6"),
        (lambda m: grow.hidden(m, 8, layers=[0]), ValueError, "layers must be all layers"),
        (lambda m: grow.add_heads(m, -1), ValueError, "count must be at least 0"),
        (lambda m: grow.mlp(m, 9, layers=2), ValueError, r"layers must be in \[0, 2\), got 2"),
        (lambda m: grow.mlp(m, 9, layers=["0"]), TypeError, "layers must be numbers of layers"),
        (lambda m: grow.mlp(m, 9.5), TypeError, "size must be an integer"),
        (lambda m: grow.mlp(m, 9, init="ones"), ValueError, "init must be one of 'normal', 'zeros'"),
        (lambda m: grow.mlp(m, 9, init=lambda n, s: np.ones(3)), ValueError, "shape \\(6, 9\\) for 'layer0.expand'"),
        (lambda m: grow.add_layer(m, 3), ValueError, "place must be at most 2"),
        (lambda m: grow.add_layer(m, 0, heads=0), ValueError, "heads must be at least 1"),
        (lambda m: grow.add_layer(Transformer(5, hidden=4, layers=0)), ValueError, "heads must be given"),
        (lambda m: grow.mlp(m, 9, seed=-1), ValueError, "seed must be at least 0"),
        (lambda m: m.grow(layers=1), ValueError, "layers must be at least 2, as there are now"),
        (lambda m: m.grow(heads=1), ValueError, "heads must be at least 2, as there are in layer 0"),
        (lambda m: m.grow(depth=3), TypeError, "sizes must be some of layers, heads, .*, got 'depth'"),
        (lambda m: m.grow([1, 2], mlp=9, init="zeros"), ValueError, "init must be left out"),
        (lambda m: grow.mlp("model", 9), TypeError, "model must be a saffu.Transformer"),
        (lambda m: grow.mlp({"output": np.ones((2, 2))}, 9), ValueError, "array 'embedding' is missing"),
        (lambda m: grow.mlp(m.arrays | {"more": np.ones(2)}, 9), ValueError, "array 'more' is none of"),
        (lambda m: grow.mlp(m.arrays | {"output": np.ones((5, 3))}, 9), ValueError, "array 'output' must have shape"),
    ],
)
def test_misuse_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(small())


# ---- new parts from counts -------------------------------------------------------------------------------------------


def text(n=600):
    rng = np.random.default_rng(5)
    ids = rng.choice(11, n, p=np.arange(11, 0, -1) / 66).astype(np.int32)
    return {"ids": ids, "documents": np.arange(0, n, 100)}


@pytest.mark.parametrize("kind", SIX)
def test_prototypes_keep_the_function(kind):
    model = small()
    grown = SIX[kind](model, init=saffu.Prototypes(model, **text(), seed=1))
    assert distance(model, grown, rows()) <= 2e-5


def test_prototypes_are_differences_of_means():
    """Directions by word, the one that explains most first; projections of mean zero and unit deviation."""
    model, init = small(), saffu.Prototypes(small(), **text())
    inputs, labels = windows(TokenStream.of(**text()), model.positions, model.vocab_size)
    mlp_inputs = forward(model.arrays, inputs, True, "relu").layers[1].mlp_norm.output
    known = labels != NOTHING
    states, y = mlp_inputs[known], labels[known]
    words = [word for word in range(11) if (y == word).sum() >= 5]
    differences = {word: states[y == word].mean(axis=0) - states.mean(axis=0) for word in words}
    words.sort(key=lambda word: -(y == word).sum() * (differences[word] ** 2).sum())
    columns, bias = init("layer1.expand", (6, 20)), init("layer1.expand_bias", (20,))
    projections = states @ columns[:, : len(words)] + bias[: len(words)]
    np.testing.assert_allclose(projections.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(projections.std(axis=0), 1, rtol=1e-3)
    for j, word in enumerate(words):
        cosine = columns[:, j] @ differences[word]
        assert cosine == pytest.approx(np.linalg.norm(columns[:, j]) * np.linalg.norm(differences[word]), rel=1e-4)
    heads = init("layer1.value", (3, 6, 2))
    for head in range(3):
        one = heads[head][:, 0] / np.linalg.norm(heads[head][:, 0])
        there = init._columns(init._inputs["value"][1])[0][:, 2 * head]
        np.testing.assert_allclose(one, there / np.linalg.norm(there), atol=1e-5)


def test_prototypes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one token"):
        saffu.Prototypes(small(), [])
    with pytest.raises(ValueError, match="below 11"):
        saffu.Prototypes(small(), [11])

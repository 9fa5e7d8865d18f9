"""Growth of models that are solved: silent parts change nothing, solved ones never make the criterion worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers.made_up import N_TYPES, documents_with_habits
from saffu.attention_lm import growth, scoring
from saffu.attention_lm.model import SaffuLM
from saffu.ngram_lm import solution, text_blocks
from saffu.ngram_lm.model import ExplicitLM
from saffu.utils.streams import TokenStream

V = N_TYPES
SMALL = {"bits": 4, "hidden": 5, "block": 3, "radius": 3, "span": 64, "n_threads": 1}
BASE = {"radius": 2, "order": 3, "windows": (20,), "induction": 0}
EXACT = 1e-10


def make_text(n=1200, seed=0):
    ids, documents = documents_with_habits(n, seed, back=5, up_to=(0.4, 0.7))
    return {"ids": ids, "documents": documents}


@pytest.fixture(scope="module")
def training():
    return make_text()


@pytest.fixture(scope="module")
def new():
    return make_text(600, 1)


@pytest.fixture(scope="module")
def base(training):
    return ExplicitLM(**BASE, n_threads=1).fit(**training, vocab_size=V)


@pytest.fixture(scope="module")
def alone(training):
    return SaffuLM(**SMALL, contexts=("radial",)).fit(**training, vocab_size=V)


@pytest.fixture(scope="module")
def deep(training):
    return SaffuLM(**SMALL, contexts=("block", "radial"), layers=2).fit(**training, vocab_size=V)


@pytest.fixture(scope="module")
def residual(training, base):
    model = SaffuLM(**SMALL, contexts=("radial", "document"), residual=base, words=8)
    return model.fit(**training)


def assert_same(one, other, text):
    """Log-probabilities in float64 to 1e-10, in float32 to rounding."""
    if isinstance(one, SaffuLM):
        a, b = (scoring.log_prob(model, TokenStream.of(**text), np.float64) for model in (one, other))
        np.testing.assert_allclose(other.log_prob(**text), b, atol=2e-4)
    else:
        a, b = (model.log_prob(**text) for model in (one, other))
    assert np.abs(a - b).max() <= EXACT
    context = text["ids"][:40]
    np.testing.assert_allclose(other.distribution(context), one.distribution(context), atol=1e-6)


# ---- units -----------------------------------------------------------------------------------------------------------

WAYS = {
    "radius": {"radius": 6},
    "block": {"block": 4},
    "heads": {"heads": 3},
    "hidden": {"hidden": 8},
    "bits": {"bits": 16},
    "layer": {"layers": 3},
    "everything": {"radius": 5, "block": 5, "heads": 2, "hidden": 9, "bits": 8, "layers": 3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["alone", "deep", "residual"])
def test_silent_units_change_nothing(name, way, new, request):
    model = request.getfixturevalue(name)
    before = model.log_prob(**new)
    grown = model.grow(**WAYS[way], seed=3)
    assert_same(model, grown, new)
    np.testing.assert_array_equal(model.log_prob(**new), before)
    assert model.growth == []
    if way != "block" or "block" in model.contexts:
        assert grown.n_parameters > model.n_parameters
        assert grown.growth
    assert all(getattr(grown, setting) == value for setting, value in WAYS[way].items())


def test_another_context(alone, deep, residual, new):
    for model, contexts in [
        (alone, ("radial", "document")),
        (alone, ("radial", "block", "document")),
        (residual, ("block", "radial", "document")),
    ]:
        assert_same(model, model.grow(contexts=contexts), new)
    with pytest.raises(ValueError, match="document"):
        deep.grow(contexts=("block", "radial", "document"))


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.sampled_from([{"radius": 1}, {"heads": 1}, {"hidden": 2}, {"layers": 1}, {"bits": None}]),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 99),
)
def test_any_sequence_of_growths_keeps_the_function(alone, new, steps, seed):
    grown = alone
    for step in steps:
        ((name, more),) = step.items()
        now = getattr(grown, name)
        grown = grown.grow(**{name: 2 * now if more is None else now + more}, seed=seed)
    assert len(grown.growth) == len(steps)
    assert_same(alone, grown, new)


def test_grown_models_are_saved_updated_and_grown_again(residual, new, tmp_path):
    grown = residual.grow(radius=6, hidden=9, bits=8)
    grown.save(tmp_path / "grown")
    loaded = saffu.load(tmp_path / "grown")
    np.testing.assert_array_equal(loaded.log_prob(**new), grown.log_prob(**new))
    assert loaded.growth == grown.growth
    assert loaded.summary()["growth"][-1]["kind"] == "units"
    again = loaded.grow(heads=2)
    assert_same(residual, again, new)


def test_learning_and_forgetting_go_on(alone, new):
    """Silent units learn nothing on the spot, so the grown model learns as the other does."""
    model, grown = alone.grow(), alone.grow(radius=6, hidden=9)
    for each in (model, grown):
        each.update(**new)
    assert_same(model, grown, new)
    for each in (model, grown):
        each.subtract(**new)
    assert_same(model, grown, new)
    np.testing.assert_allclose(model.log_prob(**new), alone.log_prob(**new), atol=1e-3)


@pytest.mark.parametrize("way", ["radius", "heads", "hidden", "layer", "bits"])
def test_refinement_reaches_what_is_new(way, alone, training):
    grown = alone.grow(**WAYS[way])
    new = [name for name in grown._fitted.parameters if name not in alone._fitted.parameters] or [
        f"{grown._network.units[0].name}.weights"
    ]
    refined = grown.refine(**training, epochs=2, freeze_embeddings=False, batch_tokens=64, soften=1.0)
    for name in new:
        assert np.abs(refined._fitted.parameters[name] - grown._fitted.parameters[name]).max() > 0, name
    if way != "bits":
        width = alone._fitted.parameters["output.weights"].shape[1]
        assert np.abs(refined._fitted.parameters["output.weights"][:, width:]).min(axis=0).max() > 0
    else:  # the copies of a class go apart
        X = refined._fitted.parameters["embeddings.logits"]
        assert np.abs(X[:, :4] - X[:, 4:8]).max() > 0


@pytest.mark.parametrize("way", ["radius", "heads", "hidden", "layer"])
@pytest.mark.parametrize("name", ["alone", "residual"])
def test_solved_units_never_raise_the_criterion(name, way, training, request):
    model = request.getfixturevalue(name)
    grown = model.grow(**training, **WAYS[way])
    before, after = grown.growth[-1]["losses"]
    assert after <= before
    text = grown._prepare(training["ids"], training["documents"], 1)
    assert scoring.mean_loss(grown, text) == pytest.approx(after, rel=1e-5)
    assert scoring.mean_loss(model, text) == pytest.approx(before, rel=1e-5)
    assert len(grown.scalars) == 1 + len(grown._network.units)


def test_solved_units_help(alone, training, new):
    """The fifth token before is seen by a longer radius alone."""
    grown = alone.grow(**training, radius=6, hidden=12)
    assert grown.perplexity(**new) < 0.99 * alone.perplexity(**new)
    assert all(scalar != 0 for scalar in grown.scalars[-2:])


def test_units_that_would_hurt_stay_silent(alone, training, monkeypatch):
    """A wrong output is taken back."""
    honest = growth.solved

    def wrong(*arguments):
        found = honest(*arguments)
        return found._replace(
            weights=found.weights + 50 * np.sin(np.arange(found.weights.size)).reshape(found.weights.shape)
        )

    monkeypatch.setattr(growth, "solved", wrong)
    grown = alone.grow(**training, radius=6)
    before, after = grown.growth[-1]["losses"]
    assert before == after
    assert grown.scalars[-1] == 0
    assert_same(alone, grown, training)


def test_a_grown_model_is_solved_anew_as_its_settings_say(alone, training):
    grown = alone.grow(radius=6)
    fresh = SaffuLM(**{**SMALL, "radius": 6}, contexts=("radial",)).fit(**training, vocab_size=V)
    again = grown.fit(**training, vocab_size=V)
    np.testing.assert_array_equal(again.log_prob(**training), fresh.log_prob(**training))
    assert again.growth == []


def test_callables_make_what_is_new(alone, new):
    asked = {}

    def init(name, shape):
        asked[name] = shape
        return np.full(shape, 0.5)

    grown = alone.grow(radius=6, init=init)
    assert asked == {
        "radial2.attention": (6, 6), "radial2.attention_bias": (6,), "radial2.weights": (4, 5), "radial2.bias": (5,),
    }  # fmt: skip
    assert (grown._fitted.parameters["radial2.attention"] == 0.5).all()
    assert_same(alone, grown, new)
    with pytest.raises(ValueError, match="shape"):
        alone.grow(radius=6, init=lambda name, shape: np.zeros(3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"radius": 2}, "radius must be at least 3"),
        ({"block": 2}, None),
        ({"hidden": 4}, "hidden must be at least 5"),
        ({"heads": 0}, "heads"),
        ({"layers": 0}, "layers"),
        ({"contexts": ("document",)}, "contexts must keep 'radial'"),
        ({"bits": 6}, "2, 4, 8"),
        ({"bits": 2}, "2, 4, 8"),
        ({"bits": 12}, "2, 4, 8"),
        ({"radius": 9, "init": "ones"}, "init"),
    ],
)
def test_misuse_of_units_is_named(alone, given, message):
    if message is None:  # nobody looks at blocks
        assert alone.grow(**given).block == 2
        return
    with pytest.raises(ValueError, match=message):
        alone.grow(**given)
    with pytest.raises(TypeError):
        alone.grow(radius=4.5)
    with pytest.raises(TypeError, match="unknown setting 'depth'; known are bits"):
        alone.grow(depth=3)


def test_a_document_alone_has_no_layers_to_add(training):
    model = SaffuLM(**SMALL, contexts=("document",)).fit(**training, vocab_size=V)
    with pytest.raises(ValueError, match="layers above the first"):
        model.grow(layers=2)
    assert_same(model, model.grow(hidden=9, contexts=("radial", "document")), training)


def test_an_unsolved_model_cannot_grow():
    with pytest.raises(ValueError, match="call fit first"):
        SaffuLM(**SMALL).grow(radius=8)


# ---- explicit models -------------------------------------------------------------------------------------------------

MORE = {
    "radius": {"radius": 4},
    "order": {"order": 5},
    "windows": {"windows": (20, 60)},
    "induction": {"induction": 100},
    "everything": {"radius": 3, "order": 4, "windows": (60, 20, 200), "induction": 50},
}


@pytest.mark.parametrize("way", MORE)
@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out", "unit"])
def test_silent_contexts_change_nothing(way, priming, training, new, tmp_path):
    model = ExplicitLM(**BASE, priming=priming, n_threads=1).fit(**training, vocab_size=V)
    grown = model.grow(**MORE[way])
    assert_same(model, grown, new)
    assert grown.growth[-1]["kind"] == "contexts"
    assert set(model.feature_names) < set(grown.feature_names)
    grown.save(tmp_path / "grown")
    loaded = saffu.load(tmp_path / "grown")
    np.testing.assert_array_equal(loaded.log_prob(**new), grown.log_prob(**new))
    assert loaded.growth == grown.growth
    assert_same(model, loaded.grow(windows=(*loaded.windows, 300)), new)


@pytest.mark.parametrize("way", MORE)
def test_primed_contexts_never_raise_the_criterion(way, training, base):
    grown = base.grow(**training, **MORE[way])
    before, after = grown.growth[-1]["losses"]
    assert after <= before
    fitted = ExplicitLM(**{**BASE, **MORE[way]}, n_threads=1).fit(**training, vocab_size=V)
    np.testing.assert_allclose(grown.log_prob(**training), fitted.log_prob(**training), atol=1e-9)


def test_scalars_that_would_hurt_are_not_taken(base, training, new, monkeypatch):
    honest = solution.prime

    def wrong(*arguments):
        bounds, scalars = honest(*arguments)
        return bounds, scalars + 3

    monkeypatch.setattr(solution, "prime", wrong)
    grown = base.grow(**training, windows=(20, 60))
    before, after = grown.growth[-1]["losses"]
    assert before == after
    assert_same(base, grown, new)


def test_a_grown_explicit_model_goes_on_learning(base, new):
    plain, grown, before = base.grow(), base.grow(order=4, windows=(20, 60)), base.log_prob(**new)
    for model in (plain, grown):
        model.update(**new)
    assert_same(plain, grown, new)
    np.testing.assert_array_equal(base.log_prob(**new), before)
    grown.subtract(**new)
    assert_same(base, grown, new)


def test_misuse_of_explicit_growth_is_named(base, training, new):
    with pytest.raises(ValueError, match="radius must be at least 2"):
        base.grow(radius=1)
    with pytest.raises(ValueError, match="order must be at least 3"):
        base.grow(order=2)
    with pytest.raises(ValueError, match="windows must keep 20"):
        base.grow(windows=(60,))
    with pytest.raises(ValueError, match="induction must stay 100"):
        base.grow(induction=100).grow(induction=50)
    with pytest.raises(ValueError, match="ids must be the text"):
        base.grow(**new, order=4)
    with pytest.raises(ValueError, match="ids must be the text"):
        base.grow(**new, windows=(20, 60))
    with pytest.raises(ValueError, match="ids must be the text"):
        base.grow(training["ids"][::-1], documents=training["documents"], order=4)
    with pytest.raises(ValueError, match="Kneser-Ney"):
        ExplicitLM(**BASE, priming="kneser-ney").fit(training["ids"], vocab_size=V).grow(order=4)
    with pytest.raises(ValueError, match="no text yet"):
        ExplicitLM(**BASE).grow(order=4)


def test_a_model_that_keeps_a_part_of_its_text_asks_for_it(base, training, monkeypatch):
    model = base.grow()
    monkeypatch.setattr(text_blocks, "LIMIT", 700)
    with pytest.raises(ValueError, match="ids must be given"):
        model.grow(order=4)
    assert_same(base, model.grow(windows=(20, 60)), training)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_damaged_list_of_units_is_named(alone, tmp_path):
    arrays, metadata = alone._to_checkpoint()
    for units in ([[0, "radial", 0, 3], [0, "radial", 0, 3]], [[1, "radial", 0, 3]], [[0, "sideways", 0, 3]], []):
        with pytest.raises(ValueError, match=r"unit|context|network"):
            SaffuLM._from_checkpoint(arrays, {**metadata, "units": units})

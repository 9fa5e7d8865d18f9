"""SaffuLM: texts of every size are solved, probabilities are ones, a residual adds to its base, refinement mends."""

import inspect

import numpy as np
import pytest

from helpers.made_up import N_TYPES, documents_with_habits
from saffu.attention_lm.model import SaffuLM
from saffu.attention_lm.settings import DEFAULTS
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solver import fit_shared
from saffu.attention_lm.units import EMBEDDINGS
from saffu.ngram_lm.model import ExplicitLM
from saffu.training import Epoch
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream

V = N_TYPES
SMALL = {"bits": 8, "hidden": 6, "block": 4, "radius": 3, "span": 64, "n_threads": 1}
EVERYTHING = {"contexts": ("block", "radial", "document"), "heads": 2, "layers": 2}
BASE = {"radius": 2, "order": 3, "windows": (20,), "induction": 30}


def make_text(n=1500, seed=0):
    ids, documents = documents_with_habits(n, seed, back=3, up_to=(0.5, 0.7))
    return {"ids": ids, "documents": documents}


@pytest.fixture(scope="module")
def training():
    return make_text()


@pytest.fixture(scope="module")
def new():
    return make_text(900, 1)


@pytest.fixture(scope="module")
def base(training):
    return ExplicitLM(**BASE, n_threads=1).fit(**training, vocab_size=V)


@pytest.fixture(scope="module")
def residual(training, base):
    model = SaffuLM(**SMALL, contexts=("radial", "document"), residual=base)
    return model.fit(**training)


@pytest.fixture(scope="module")
def alone(training):
    return SaffuLM(**SMALL, **EVERYTHING).fit(**training, vocab_size=V)


def unigram_perplexity(training, new):
    p = (np.bincount(training["ids"], minlength=V) + 0.1) / (training["ids"].size + 0.1 * V)
    return float(np.exp(-np.log(p[new["ids"]]).mean()))


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# ---- texts of every size ---------------------------------------------------------------------------------------------

TINY = {
    "one token": ([0], None, None),
    "one token of many": ([3], 9, None),
    "two tokens": ([0, 1], None, None),
    "one type": ([0] * 40, None, None),
    "vocabulary larger than the text": ([0, 1, 2] * 6, 50, None),
    "documents of one token": ([0, 1, 2] * 5, None, np.arange(15)),
    "documents of two": ([0, 1, 2, 3] * 10, None, np.arange(0, 40, 2)),
    "empty documents": ([0, 1, 2, 3] * 10, None, [0, 0, 7, 7, 40]),
}
SHAPES = [
    {"contexts": "radial", "bits": 1, "hidden": 1, "radius": 1},
    {"contexts": "document", "bits": 5, "hidden": 3},
    {"contexts": ("block", "radial"), "bits": 16, "hidden": 4, "radius": 9, "block": 9, "heads": 3, "layers": 2},
    {**EVERYTHING, "bits": 3, "hidden": 60},
]


@pytest.mark.parametrize("attention", ["responsibilities", "uniform"])
@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("kind", TINY)
def test_any_text_is_solved(kind, shape, attention):
    ids, vocab_size, documents = TINY[kind]
    model = SaffuLM(**{**SMALL, **SHAPES[shape]}, attention=attention).fit(
        ids, documents=documents, vocab_size=vocab_size
    )
    assert model.vocab_size == (vocab_size or max(ids) + 1)
    assert all(np.isfinite(value).all() for value in model._fitted.parameters.values())
    assert np.isfinite(model.log_prob(ids, documents=documents)).all()
    assert (np.diff(model.attention_losses) <= 0).all()
    for context in ([], ids[:1], ids):
        p = model.distribution(context)
        assert p.sum() == pytest.approx(1, abs=1e-6)
        assert p.min() > 0


@pytest.mark.parametrize("kind", [kind for kind in TINY if not kind.startswith("one token")])
def test_any_text_is_solved_on_a_model_and_refined(kind):
    ids, vocab_size, documents = TINY[kind]
    model = SaffuLM(**SMALL, **EVERYTHING, residual=ExplicitLM(**BASE), min_count=2).fit(
        ids, documents=documents, vocab_size=vocab_size
    )
    refined = model.refine(ids, epochs=1, documents=documents)
    for each in (model, refined):
        assert np.isfinite(each.log_prob(ids, documents=documents)).all()
        assert each.distribution(ids).sum() == pytest.approx(1, abs=1e-6)


# ---- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alone", "residual"])
def test_log_prob_is_that_of_distributions_that_sum_to_one(name, new, request):
    model, (ids, documents) = request.getfixturevalue(name), new.values()
    found = model.log_prob(ids, documents=documents)
    assert found.dtype == np.float64
    for t in (0, 1, 5, 149, 150, 151, 200, 333):
        context = ids[t // 150 * 150 : t]
        p = model.distribution(context)
        assert p.sum() == pytest.approx(1, abs=1e-6)
        assert found[t] == pytest.approx(np.log(p[ids[t]]), abs=1e-4)
        # The same, one token after the other as a text of its own.
        each = [model.log_prob([*context, w])[-1] for w in range(V)]
        assert np.exp(each).sum() == pytest.approx(1, abs=1e-5)
    assert model.perplexity(ids, documents=documents) == pytest.approx(np.exp(-found.mean()))


def test_no_context_reaches_into_another_document(alone, residual, new):
    ids, documents = new.values()
    for model in (alone, residual):
        whole = model.log_prob(ids, documents=documents)
        parts = [model.log_prob(ids[d : d + 150]) for d in documents]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5)
        assert np.abs(model.log_prob(ids) - whole).max() > 1e-3


def test_an_empty_text_has_no_log_prob(alone):
    assert alone.log_prob([]).shape == (0,)
    with pytest.raises(ValueError, match="ids must hold at least one token"):
        alone.perplexity([])


# ---- the solution ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture",
    [{"contexts": "radial"}, {"contexts": "block"}, {"contexts": "radial", "layers": 2}, EVERYTHING],
    ids=str,
)
def test_solved_models_are_well_below_the_unigram(architecture, training, new):
    model = SaffuLM(**SMALL, **architecture).fit(**training, vocab_size=V)
    assert model.perplexity(**new) < 0.75 * unigram_perplexity(training, new)
    assert model.history is None


def test_the_residual_is_not_worse_than_its_model(residual, base, new):
    assert residual.perplexity(**new) < 1.01 * base.perplexity(**new)


@pytest.mark.parametrize("on", [False, True], ids=["alone", "residual"])
def test_results_do_not_depend_on_threads(on, training, new):
    found = []
    for n_threads in (1, 2, 3):
        base = ExplicitLM(**BASE, n_threads=n_threads) if on else None
        model = SaffuLM(**{**SMALL, "n_threads": n_threads}, **EVERYTHING, residual=base, min_count=3)
        model.fit(**training, vocab_size=V)
        refined = model.refine(**training, epochs=1, dropout=0.1, freeze_embeddings=False)
        found.append((model, refined, model.log_prob(**new), refined.log_prob(**new)))
    for other in found[1:]:
        for i in range(2):
            same(other[i]._fitted.parameters, found[0][i]._fitted.parameters)
            np.testing.assert_array_equal(other[2 + i], found[0][2 + i])


def test_another_seed_solves_on_other_positions(training):
    models = [SaffuLM(**SMALL, seed=seed).fit(**training, vocab_size=V) for seed in (0, 0, 1)]
    same(models[0]._fitted.parameters, models[1]._fitted.parameters)
    assert not np.array_equal(
        models[0]._fitted.parameters["output.weights"], models[2]._fitted.parameters["output.weights"]
    )


# ---- residual --------------------------------------------------------------------------------------------------------


def test_without_output_weights_it_is_its_explicit_model(residual, base, new):
    silent = {name: value * (name != "output.weights") for name, value in residual._fitted.parameters.items()}
    assert not silent["output.bias"].any()
    model = residual._with_parameters(silent, [])
    np.testing.assert_allclose(model.log_prob(**new), base.log_prob(**new), rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.distribution(new["ids"][:40]), base.distribution(new["ids"][:40]), rtol=1e-4)
    assert np.abs(residual.log_prob(**new) - base.log_prob(**new)).max() > 0.05


@pytest.mark.parametrize("words", [1, 5])
def test_words_beyond_the_frequent_share_outputs(words, training, base, new):
    model = SaffuLM(**SMALL, residual=base, words=words).fit(**training)
    classes = model._fitted.output_classes
    assert words < classes.n_classes < V
    assert len(model._fitted.parameters["output.bias"]) == classes.n_classes
    frequent = np.argsort(-np.bincount(training["ids"], minlength=V), kind="stable")[:words]
    assert classes.of_word[frequent].tolist() == list(range(words))
    context = new["ids"][:60]
    p, below = model.distribution(context), base.distribution(context)
    for number in range(classes.n_classes):
        own = classes.of_word == number
        np.testing.assert_allclose(p[own] / p[own].sum(), below[own] / below[own].sum(), rtol=1e-4)
    assert model.log_prob([*context, 7])[-1] == pytest.approx(np.log(p[7]), abs=1e-4)
    refined = model.refine(**training, epochs=1)
    assert sample_loss(refined, **training) <= sample_loss(model, **training)
    assert refined.distribution(context).sum() == pytest.approx(1, abs=1e-6)
    all_words = SaffuLM(**SMALL, residual=base, words=V).fit(**training)
    assert all_words._fitted.output_classes is None
    assert all_words.n_parameters > model.n_parameters


def test_the_residual_is_solved_on_the_text_if_it_has_seen_none(training, base):
    fresh = ExplicitLM(**BASE, n_threads=1)
    model = SaffuLM(**SMALL, residual=fresh).fit(**training, vocab_size=V)
    np.testing.assert_array_equal(fresh.log_prob(**training), base.log_prob(**training))
    assert model.vocab_size == V


def sample_loss(model, ids, documents):
    """Mean loss as refinement sees it: by models that have not counted the text around."""
    rows = model._prepare(ids, documents, 1)
    return model._losses(model._parameters(1.0, np.float32), rows.take(slice(None)), 1).mean()


@pytest.mark.parametrize("name", ["alone", "residual"])
@pytest.mark.parametrize("learning_rate", [3e-3, 30.0])
def test_refinement_never_ends_above_its_start(name, learning_rate, training, request):
    model = request.getfixturevalue(name)
    refined = model.refine(**training, epochs=2, learning_rate=learning_rate, freeze_embeddings=False)
    start, end = sample_loss(model, **training), sample_loss(refined, **training)
    assert refined.history[0]["training_loss"] == pytest.approx(start, rel=1e-5)
    assert end == pytest.approx(min(record["training_loss"] for record in refined.history), rel=1e-5)
    if learning_rate == 3e-3:
        assert end < start
    else:
        same(refined._fitted.parameters, model._fitted.parameters)


def test_the_residual_trains_on_text_that_was_left_out(residual, base, training):
    """Text that was counted would be far likelier than new text."""
    assert sample_loss(residual, **training) > np.log(residual.perplexity(**training)) + 0.02
    other = make_text(900, 5)
    assert sample_loss(residual, **other) == pytest.approx(np.log(residual.perplexity(**other)), rel=1e-5)


# ---- refinement ------------------------------------------------------------------------------------------------------


def test_refinement_lowers_perplexity_of_new_text(alone, training, new):
    kept = {name: value.copy() for name, value in alone._fitted.parameters.items()}
    refined = alone.refine(**training, epochs=3, validation=(new["ids"], new["documents"]))
    same(alone._fitted.parameters, kept)
    assert refined.perplexity(**new) < 0.99 * alone.perplexity(**new)
    best = min(record["validation_loss"] for record in refined.history)
    assert np.log(refined.perplexity(**new)) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("name", ["alone", "residual"])
def test_frozen_embeddings_stay_and_thawed_ones_move(name, training, request):
    model, (ids, documents) = request.getfixturevalue(name), training.values()
    frozen = model.refine(ids, epochs=1, documents=documents)
    np.testing.assert_array_equal(frozen._fitted.parameters[EMBEDDINGS], model._fitted.parameters[EMBEDDINGS])
    thawed = model.refine(ids, epochs=2, documents=documents, thaw_after=1)
    moved = thawed._fitted.parameters[EMBEDDINGS] - model._fitted.parameters[EMBEDDINGS]
    assert 0 < np.abs(moved).max() < 0.1
    free = model.refine(ids, epochs=1, documents=documents, freeze_embeddings=False)
    assert (
        np.abs(free._fitted.parameters[EMBEDDINGS] - model._fitted.parameters[EMBEDDINGS]).max() > np.abs(moved).max()
    )
    for refined in (frozen, thawed, free):
        for part in ("radial1.attention", "radial1.weights", "radial1.bias", "output.weights"):
            assert not np.array_equal(refined._fitted.parameters[part], model._fitted.parameters[part]), part
    not_yet = model.refine(ids, epochs=1, documents=documents, thaw_after=4)
    same(not_yet._fitted.parameters, frozen._fitted.parameters)


def test_a_thaw_goes_on_from_its_checkpoint(alone, training, tmp_path):
    ids, documents = training.values()
    settings = {"documents": documents, "thaw_after": 1, "checkpoint": tmp_path / "state"}
    expected = alone.refine(ids, epochs=3, documents=documents, thaw_after=1)
    assert [record["epoch"] for record in expected.history] == [0, 1, 2, 3]
    seconds = [record["seconds"] for record in expected.history]
    assert seconds == sorted(seconds)
    same(alone.refine(ids, epochs=3, **settings)._fitted.parameters, expected._fitted.parameters)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "state.thawed"]
    same(alone.refine(ids, epochs=3, **settings)._fitted.parameters, expected._fitted.parameters)


def test_callbacks_see_models_that_score(alone, training, new):
    seen = []

    def callback(epoch: Epoch):
        seen.append(epoch.model().perplexity(**new))

    refined = alone.refine(**training, epochs=2, callback=callback)
    assert refined.perplexity(**new) == pytest.approx(seen[-1], rel=1e-6)


def test_no_epochs_change_nothing(alone, training):
    for options in ({}, {"thaw_after": 0}, {"thaw_after": 2}):
        refined = alone.refine(**training, epochs=0, **options)
        assert refined is not alone
        assert [record["epoch"] for record in refined.history] == [0]
        same(refined._fitted.parameters, alone._fitted.parameters)


@pytest.mark.parametrize("name", ["alone", "residual"])
def test_random_starts(name, training, new, request):
    model = request.getfixturevalue(name)
    start, again, other = model.random_start(), model.random_start(), model.random_start(seed=1)
    same(start._fitted.parameters, again._fitted.parameters)
    assert {n: a.shape for n, a in start._fitted.parameters.items()} == {
        n: a.shape for n, a in model._fitted.parameters.items()
    }
    for part in (EMBEDDINGS, "radial1.attention", "radial1.weights", "output.weights"):
        assert not np.array_equal(start._fitted.parameters[part], model._fitted.parameters[part])
        assert not np.array_equal(start._fitted.parameters[part], other._fitted.parameters[part])
    log_unigram = np.log(np.bincount(training["ids"], minlength=model.vocab_size) / training["ids"].size)
    expected = log_unigram - log_unigram.mean() if name == "alone" else np.zeros(model.vocab_size)
    np.testing.assert_allclose(start._fitted.parameters["output.bias"], expected, atol=2e-3)
    refined = start.refine(**training, epochs=2, freeze_embeddings=False, batch_tokens=128)
    assert refined.perplexity(**new) < start.perplexity(**new)
    assert refined._fitted.parameters["output.bias"].any()
    np.testing.assert_array_equal(
        refined.random_start()._fitted.parameters["output.bias"], start._fitted.parameters["output.bias"]
    )
    assert refined.n_parameters == model.n_parameters == sum(a.size for a in model._fitted.parameters.values())


# ---- the interface ---------------------------------------------------------------------------------------------------


def test_its_verbs_have_the_arguments_of_all_language_models():
    for verb in ("fit", "update", "subtract", "log_prob", "log_probs", "distribution", "session", "save"):
        own = inspect.signature(getattr(SaffuLM, verb)).parameters.values()
        if verb != "session":
            base = inspect.signature(getattr(LanguageModel, verb)).parameters.values()
            assert [(p.name, p.kind, p.default) for p in own] == [(p.name, p.kind, p.default) for p in base], verb
        positional = [p.name for p in own if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert len(positional) == (3 if verb == "log_probs" else 2), verb
    for verb in ("grow", "refine"):
        base, own = (inspect.signature(getattr(kind, verb)).parameters for kind in (LanguageModel, SaffuLM))
        assert {name: p.default for name, p in own.items() if name in base} == {n: p.default for n, p in base.items()}
    for verb in ("perplexity", "generate", "__repr__", "partial_fit", "merge", "prime"):
        assert getattr(SaffuLM, verb) is getattr(LanguageModel, verb)


def test_what_it_cannot_do_is_named(alone):
    for call in (alone.prime, lambda: alone.merge(alone), lambda: alone.partial_fit([0])):
        with pytest.raises(NotImplementedError, match="SaffuLM cannot"):
            call()
    with pytest.raises(NotImplementedError, match="SaffuLM cannot prime after it has forgotten text"):
        alone.subtract([0, 1], prime=True)


def test_its_representation_makes_the_model_anew(alone):
    again = eval(repr(alone), {"SaffuLM": SaffuLM})
    assert again._settings() == alone._settings()
    assert repr(SaffuLM()).startswith("SaffuLM(bits=64, contexts=('radial', 'document'), block=8, radius=8, heads=1")
    assert inspect.signature(SaffuLM).parameters["radius"].default == DEFAULTS.radius


def test_copies_are_of_the_same_class(training):
    class Own(SaffuLM):
        note = None

    model = Own(**SMALL, contexts="radial").fit(**training, vocab_size=V)
    model.note = "kept"
    copies = [
        model.refine(**training, epochs=1),
        model.refine(**training, epochs=2, thaw_after=1),
        model.random_start(),
        model.grow(radius=4),
        model.grow(bits=16),
        model.grow(**training, hidden=8),
    ]
    assert {type(each) for each in copies} == {Own}
    assert {each.note for each in copies} == {"kept"}
    assert model.growth == []


def test_counts_are_shared_by_models_of_one_text(training, alone, base, residual):
    shared = SharedCounts(TokenStream.of(**training), V, 1)
    same(fit_shared(SaffuLM(**SMALL, **EVERYTHING), shared)._fitted.parameters, alone._fitted.parameters)
    on_top = fit_shared(SaffuLM(**SMALL, contexts=("radial", "document"), residual=base), shared)
    same(on_top._fitted.parameters, residual._fitted.parameters)
    other = ExplicitLM(**BASE, n_threads=1).fit([0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="vocab_size must be 5, as of the residual"):
        fit_shared(SaffuLM(**SMALL, residual=other), shared)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bits": 0}, ValueError, "bits must be at least 1"),
        ({"block": 0}, ValueError, "block must be at least 1"),
        ({"radius": 1.5}, TypeError, "radius must be an integer"),
        ({"heads": 0}, ValueError, "heads must be at least 1"),
        ({"layers": 0}, ValueError, "layers must be at least 1"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1"),
        ({"words": 0}, ValueError, "words must be at least 1"),
        ({"span": 31}, ValueError, "span must be at least 32"),
        ({"min_count": -1}, ValueError, "min_count must be at least 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"attention": "learned"}, ValueError, "attention must be .*responsibilities.*uniform"),
        ({"contexts": ()}, ValueError, "contexts must name at least one of block, radial, document"),
        ({"contexts": ("radial", "page")}, ValueError, "contexts must be .*block.*radial.*document.*page"),
        ({"contexts": "document", "layers": 2}, ValueError, "layers above the first .* add one of them to contexts"),
        ({"residual": "model"}, TypeError, "residual must be an ExplicitLM or None, got str"),
    ],
)
def test_bad_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        SaffuLM(**settings)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, r: SaffuLM().fit([]), ValueError, "ids must hold at least one token"),
        (lambda m, r: SaffuLM().fit([0.5]), TypeError, "ids must be .*integers"),
        (lambda m, r: SaffuLM().fit([0, -1]), ValueError, "ids must not be negative"),
        (lambda m, r: SaffuLM().fit([0, 5], vocab_size=3), ValueError, "ids must be below 3"),
        (lambda m, r: SaffuLM().fit([0], vocab_size=0), ValueError, "vocab_size must be at least 1"),
        (lambda m, r: SaffuLM().fit([0, 1], documents=[5]), ValueError, "documents must be ascending"),
        (lambda m, r: SaffuLM().log_prob([0]), ValueError, "call fit first"),
        (lambda m, r: SaffuLM().refine([0]), ValueError, "call fit first"),
        (lambda m, r: SaffuLM().random_start(), ValueError, "call fit first"),
        (lambda m, r: SaffuLM().n_parameters, ValueError, "call fit first"),
        (lambda m, r: m.log_prob([V]), ValueError, f"ids must be below {V}"),
        (lambda m, r: m.refine([V] * 9), ValueError, f"ids must be below {V}"),
        (lambda m, r: m.refine([]), ValueError, "ids must hold at least one token"),
        (lambda m, r: m.refine([0], epochs=-1), ValueError, "epochs must be at least 0"),
        (lambda m, r: m.refine([0], epochs=1, thaw_after=-1), ValueError, "thaw_after must be at least 0"),
        (lambda m, r: m.refine([0], epochs=1, batch_tokens=0), ValueError, "batch_tokens must be at least 1"),
        (lambda m, r: m.refine([0], epochs=1, dropout=1.0), ValueError, "dropout must be"),
        (
            lambda m, r: SaffuLM(residual=r).fit([0, 1], vocab_size=5),
            ValueError,
            f"vocab_size must be {V}, as of the residual",
        ),
        (lambda m, r: SaffuLM(residual=r).fit([0, 1, 1, 3] * 999), ValueError, "tokens that the model has counted"),
        (lambda m, r: SaffuLM(residual=ExplicitLM()).fit([0]), ValueError, "ids must hold at least two tokens"),
    ],
)
def test_bad_input_is_named(call, error, message, alone, base):
    with pytest.raises(error, match=message):
        call(alone, base)

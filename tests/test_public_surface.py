"""The public surface: the same verb has the same arguments everywhere, settings show, and every example runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import saffu
from saffu.utils.language_model import LanguageModel

LANGUAGE_MODELS = [
    saffu.ExplicitLM,
    saffu.BackoffLM,
    saffu.SaffuLM,
    saffu.RecurrentLM,
    saffu.Transformer,
    saffu.MixtureLM,
]
CLASSIFIERS = [saffu.SoftmaxLayer, saffu.ExplicitNetwork]
VERBS = [verb for verb, value in vars(LanguageModel).items() if inspect.isfunction(value) and verb[0] != "_"]
# Verbs that have arguments of their own on some models: keyword-only, behind those that all have.
WITH_SIZES_OR_OPTIONS = {"fit", "refine", "grow", "log_prob"}
DOORS = [saffu.grow, saffu.text]
# Where two or three arguments belong together, such as rows and their labels, a model and its new size, all of them are
# positional.
POSITIONAL = {
    ("ids", "positions"),
    ("prompt", "n_tokens"),
    ("context", "k"),
    ("X", "y"),
    ("raw_documents", "y"),
    ("H", "y"),
    ("model", "X", "y"),
    ("ids", "distances"),
    ("F", "K"),
    ("ids", "cipher"),
    ("model", "ids"),
    ("model", "size"),
    ("model", "count"),
    ("model", "place"),
    ("source_dir", "out_dir"),
    ("planned", "step"),
}


def public_names(module):
    return [(f"{module.__name__}.{name}", getattr(module, name)) for name in module.__all__]


PUBLIC = [
    pytest.param(value, id=name)
    for name, value in [*public_names(saffu), *(pair for door in DOORS for pair in public_names(door))]
    if callable(value)
]


def methods(owner):
    """Public functions of a class, its constructor among them, or the function itself."""
    if not inspect.isclass(owner):
        return [owner]
    names = [name for name in dir(owner) if name == "__init__" or name[0] != "_"]
    found = [inspect.getattr_static(owner, name) for name in names]
    return [
        getattr(value, "__func__", value) for value in found if inspect.isroutine(getattr(value, "__func__", value))
    ]


def parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("model", LANGUAGE_MODELS, ids=lambda model: model.__name__)
def test_a_verb_has_the_same_signature_on_every_language_model(model, verb):
    assert issubclass(model, LanguageModel)
    expected, found = (
        [(p.name, p.kind, p.default) for p in parameters(getattr(owner, verb))] for owner in (LanguageModel, model)
    )
    if verb not in WITH_SIZES_OR_OPTIONS:
        assert found == expected
        return
    expected = [p for p in expected if p[1] != inspect.Parameter.VAR_KEYWORD]
    assert [p for p in found if p in expected] == expected
    more = [p for p in found if p not in expected]
    assert {p[1] for p in more} <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    assert all(p[2] is not p[0] for p in more)


def test_a_verb_has_the_same_signature_on_both_classifiers():
    one, other = CLASSIFIERS
    shared = [verb for verb in dir(one) if verb[0] != "_" and inspect.isfunction(getattr(other, verb, None))]
    assert {"fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score", "refine", "save"} <= {
        *shared
    }
    for verb in shared:
        assert parameters(getattr(one, verb)) == parameters(getattr(other, verb)), verb


@pytest.mark.parametrize("owner", PUBLIC)
def test_only_the_first_argument_is_positional(owner):
    for function in methods(owner):
        by_place = tuple(p.name for p in parameters(function) if p.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD)
        assert len(by_place) < 2 or by_place in POSITIONAL, function.__qualname__


@pytest.mark.parametrize("owner", PUBLIC)
def test_every_public_object_has_an_example(owner):
    assert ">>>" in (inspect.getdoc(owner) or "")


@pytest.mark.parametrize("owner", PUBLIC)
def test_every_public_method_says_what_it_does(owner):
    assert [f.__qualname__ for f in methods(owner) if f.__name__ != "__init__" and not inspect.getdoc(f)] == []


def test_representations_show_the_settings():
    for made, shown in (
        (saffu.ExplicitLM(order=3, priming="unit"), ("order=3", "priming='unit'")),
        (saffu.SaffuLM(bits=6, contexts=("radial",)), ("bits=6", "contexts=('radial',)")),
        (saffu.Transformer(11, hidden=6, seed=3), ("hidden=6", "vocab_size=11")),
        (saffu.RecurrentLM(dim=6, start="random"), ("dim=6", "start='random'")),
        (saffu.SoftmaxLayer(smoothing=0.3), ("smoothing=0.3",)),
        (saffu.ExplicitNetwork(hidden=(5,), complement=False), ("hidden=(5,)", "complement=False")),
        (saffu.ExplicitTextClassifier(3, tokenizer="chars"), ("ngrams=3", "tokenizer='chars'")),
    ):
        assert repr(made).startswith(f"{type(made).__name__}(")
        for setting in shown:
            assert setting in repr(made)


def test_what_a_model_cannot_do_is_one_clear_error():
    with pytest.raises(NotImplementedError, match="Transformer cannot subtract: "):
        saffu.Transformer(5).subtract([1, 2])
    with pytest.raises(NotImplementedError, match="ExplicitLM cannot refine: "):
        saffu.ExplicitLM().refine([1, 2])


def test_one_name_is_one_thing():
    assert inspect.isfunction(saffu.refine)
    assert "refine" not in {module.name for module in pkgutil.iter_modules(saffu.__path__)}


def test_no_example_is_lost():
    """Modules whose examples the gate runs: all but those of the doors to libraries that are not installed."""
    examples = 0
    for module in pkgutil.walk_packages(saffu.__path__, "saffu."):
        doors = ("torch", "dask", "onnx", "lm_eval")
        if any(library in module.name for library in doors) or module.name == "saffu.__main__":
            continue
        found = doctest.DocTestFinder().find(importlib.import_module(module.name))
        examples += sum(bool(test.examples) for test in found)
    assert examples > 40

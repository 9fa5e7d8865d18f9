"""The verbs of ExplicitLM are those of every language model."""

import inspect

import numpy as np
import pytest

import saffu
from saffu.ngram_lm.contexts import Contexts
from saffu.utils.language_model import LanguageModel

VERBS = ["fit", "partial_fit", "update", "subtract", "merge", "prime", "grow", "log_prob", "log_probs", "distribution"]
SMALL = {"radius": 1, "order": 3, "windows": (), "induction": 0}


@pytest.mark.parametrize("verb", VERBS)
def test_signatures(verb):
    expected = inspect.signature(getattr(LanguageModel, verb)).parameters
    found = inspect.signature(getattr(saffu.ExplicitLM, verb)).parameters
    assert list(found)[: len(expected)] == list(expected)
    for name, parameter in found.items():
        if name in expected:
            assert (parameter.kind, parameter.default) == (expected[name].kind, expected[name].default)
        else:  # what a model adds
            assert parameter.kind == parameter.KEYWORD_ONLY
            assert parameter.default is None


@pytest.mark.parametrize(
    "mistake",
    [
        lambda m: m.fit([0, 1], 2),
        lambda m: m.fit([0, 1]).prime([0, 1]),
        lambda m: m.fit([0, 1]).log_prob([0, 1], [0]),
        lambda m: m.fit([0, 1]).read([0, 1], [0]),
        lambda m: m.update([0, 1], [0]),
        lambda m: saffu.ExplicitLM(3, 4),
    ],
)
def test_nothing_behind_the_first_argument_is_positional(mistake):
    with pytest.raises(TypeError, match="positional argument"):
        mistake(saffu.ExplicitLM(**SMALL))


def test_repr_shows_the_settings():
    model = saffu.ExplicitLM(radius=2, windows=(30,), priming="unit")
    assert repr(model) == "ExplicitLM(radius=2, order=4, windows=[30], induction=2000, priming='unit')"
    assert repr(eval(repr(model), {"ExplicitLM": saffu.ExplicitLM})) == repr(model)


def test_what_a_count_cannot_do_is_refused():
    with pytest.raises(NotImplementedError, match="ExplicitLM cannot refine: put a SaffuLM on it"):
        saffu.ExplicitLM(**SMALL).fit([0, 1]).refine([0, 1])


def test_a_subclass_grows_into_itself():
    class Mine(saffu.ExplicitLM):
        pass

    model = Mine(**SMALL, n_threads=1).fit([0, 1, 2] * 30)
    grown = model.grow(order=4)
    assert type(grown) is Mine
    assert grown.n_threads == 1
    assert grown.order == 4
    assert model.order == 3
    assert model.merge(Mine(**SMALL)) is model


def test_threads_may_be_set_later():
    model = saffu.ExplicitLM(**SMALL, n_threads=1).fit([0, 1, 2] * 30)
    before = model.log_prob([0, 1, 2])
    model.n_threads = 2
    assert model.solution.n_threads == 2
    np.testing.assert_array_equal(model.fit([0, 1, 2] * 30).log_prob([0, 1, 2]), before)
    assert model.n_threads == 2


@pytest.mark.parametrize("priming", ["k-fold", "kneser-ney"])
def test_names_of_contexts_and_columns_of_scalars(priming):
    contexts = Contexts.of(2, 4, (30,), 0, priming)
    names = ["distance 1", "suffix 2", "suffix 3"]
    if priming == "k-fold":
        names = ["distance 1", "distance 2", "suffix 2", "suffix 3", "window 30"]
    assert contexts.names == names
    assert contexts.columns == ["prior", "continuation prior", *names, "induction"]
    assert contexts.n_tables == len(names) - (priming == "k-fold")

"""Adaptation: a text scored piece by piece, each piece learned once it has been scored."""

import copy
import functools

import numpy as np
import pytest

import saffu
from helpers.made_up import told_by_two
from saffu.ngram_lm import adaptation, solution
from saffu.ngram_lm.contexts import PRIMINGS

VOCAB_SIZE = 23
SETTINGS = {"radius": 3, "order": 4, "windows": (9, 30), "induction": 20}
NEW = told_by_two(400, 1, VOCAB_SIZE, 0.5).astype(np.int64)
DOCUMENTS = np.array([0, 3, 60, 61, 250])


@functools.cache
def _fitted(priming):
    ids = told_by_two(1600, 0, VOCAB_SIZE, 0.5)
    return saffu.ExplicitLM(**SETTINGS, priming=priming).fit(ids, vocab_size=VOCAB_SIZE, documents=[0, 300, 302, 700])


def fitted(priming="k-fold"):
    return copy.deepcopy(_fitted(priming))


def loop(model, ids, documents, edges):
    """Score and update a copy, piece by piece."""
    model, documents, found = copy.deepcopy(model), np.asarray(documents), []
    for first, last in zip(edges, [*edges[1:], len(ids)], strict=True):
        text = model.read(ids[:last], documents=documents[documents < last])
        found.append(text.log_prob(np.arange(first, last)))
        inside = documents[(documents >= first) & (documents < last)]
        model.update(ids[first:last], documents=inside - first)
    return np.concatenate(found)


@pytest.fixture(params=[0, 10**9], ids=["rows", "whole"])
def weighing(request, monkeypatch):
    """Weigh the rows of each position alone, or all rows at once."""
    monkeypatch.setattr(solution, "TOKENS_PER_POSITION", request.param)


@pytest.mark.parametrize("priming", PRIMINGS)
@pytest.mark.usefixtures("weighing")
def test_it_equals_a_loop_of_score_and_update(priming):
    model = fitted(priming)
    np.testing.assert_array_equal(
        model.log_prob(NEW, documents=DOCUMENTS, adapt=True), loop(model, NEW, DOCUMENTS, DOCUMENTS.tolist())
    )
    for n in (90, 1000):
        found = model.log_prob(NEW, documents=DOCUMENTS, adapt=n)
        np.testing.assert_array_equal(found, loop(model, NEW, DOCUMENTS, list(range(0, NEW.size, n))))


def test_each_document_is_scored_as_it_is_by_itself():
    model = fitted()
    found, learner = model.log_prob(NEW, documents=DOCUMENTS, adapt=True), fitted()
    for first, last in zip(DOCUMENTS, [*DOCUMENTS[1:], NEW.size], strict=True):
        np.testing.assert_array_equal(found[first:last], learner.log_prob(NEW[first:last]))
        learner.update(NEW[first:last], documents=[0])


def test_long_documents_are_cut(monkeypatch):
    monkeypatch.setattr(adaptation, "PIECE", 50)
    model, edges = fitted(), [0, 3, 53, 60, 61, 111, 161, 211, 250, 300, 350]
    found = model.log_prob(NEW, documents=DOCUMENTS, adapt=True)
    np.testing.assert_array_equal(found, loop(model, NEW, DOCUMENTS, edges))


@pytest.mark.parametrize("priming", ["k-fold", "kneser-ney"])
def test_it_is_the_distribution_of_the_model_at_that_moment(priming):
    model, learner = fitted(priming), fitted(priming)
    found = model.log_prob(NEW[:60], adapt=20)
    for first in range(0, 60, 20):
        rows = learner.log_probs(NEW[:60], range(first, first + 20))
        np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1.0, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found[first : first + 20], rows[np.arange(20), NEW[first : first + 20]], atol=1e-5)
        learner.update(NEW[first : first + 20], documents=[0] if first == 0 else [])


def test_the_model_stays_as_it_is():
    model, before = fitted(), fitted()
    model.log_prob(NEW, documents=DOCUMENTS, adapt=True)
    assert model.n_tokens == before.n_tokens
    assert model.seconds.keys() == before.seconds.keys()
    np.testing.assert_array_equal(model.log_prob(NEW), before.log_prob(NEW))
    for one, other in ((model, before), (model.prime(), before.prime())):
        np.testing.assert_array_equal(one.solution.scalars, other.solution.scalars)
    model.update(NEW, documents=DOCUMENTS, prime=True)
    before.update(NEW, documents=DOCUMENTS, prime=True)
    np.testing.assert_array_equal(model.log_prob(NEW), before.log_prob(NEW))


def test_it_stays_as_it_is_where_counts_are_on_disk(tmp_path):
    settings = {**SETTINGS, "memory_limit": 1 << 20, "spill_folder": tmp_path}
    ids = told_by_two(60_000, 2, VOCAB_SIZE, 0.5)
    model = saffu.ExplicitLM(**settings).fit(ids, vocab_size=VOCAB_SIZE)
    assert model.counted.counts.are_on_disk
    before = model.log_prob(NEW)
    found = model.log_prob(NEW, documents=DOCUMENTS, adapt=True)
    np.testing.assert_array_equal(found, loop(model, NEW, DOCUMENTS, DOCUMENTS.tolist()))
    np.testing.assert_array_equal(model.log_prob(NEW), before)


def test_false_and_none_are_no_adaptation():
    model = fitted()
    for none in (None, False):
        np.testing.assert_array_equal(model.log_prob(NEW, adapt=none), model.log_prob(NEW))
    assert model.log_prob([], adapt=True).size == 0


def test_bits_do_not_depend_on_the_number_of_threads():
    found = []
    for n_threads in (1, 2, 3, 7):
        model = fitted()
        model.n_threads = n_threads
        found.append(model.log_prob(NEW, documents=DOCUMENTS, adapt=70))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_another_kind_of_text_is_learned_and_the_same_kind_costs_nothing():
    documents = np.arange(0, 6000, 300)
    one, same, other = (told_by_two(6000, seed, VOCAB_SIZE, share) for seed, share in ((3, 0.1), (5, 0.1), (4, 0.9)))
    model = saffu.ExplicitLM(**SETTINGS).fit(one, documents=documents, vocab_size=VOCAB_SIZE)
    plain, adapted = (
        {kind: nats(model, ids, documents, adapt) for kind, ids in (("same", same), ("other", other))}
        for adapt in (None, True)
    )
    assert adapted["other"] < plain["other"] + np.log(0.92)
    assert adapted["same"] < plain["same"]


def nats(model, ids, documents, adapt):
    return -float(model.log_prob(ids, documents=documents, adapt=adapt).mean())


@pytest.mark.parametrize(
    ("adapt", "error", "message"),
    [(0, ValueError, "adapt must be at least 1, got 0"), (1.5, TypeError, "adapt must be an integer")],
)
def test_bad_input_is_named(adapt, error, message):
    with pytest.raises(error, match=message):
        fitted().log_prob(NEW, adapt=adapt)


def test_what_keeps_no_counts_cannot_adapt():
    with pytest.raises(ValueError, match="a pruned model keeps no counts"):
        fitted().pruned(threshold=1e-3).log_prob(NEW, adapt=True)

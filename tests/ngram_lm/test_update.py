"""Learning and forgetting on the spot: what is equal to what, to the bit."""

import copy
import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers import reference
from helpers.made_up import as_text, told_by_two
from saffu.ngram_lm import solution
from saffu.ngram_lm.contexts import PRIMINGS
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.log_linear import PooledModel
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils.streams import TokenStream

VOCAB_SIZE = 23
SETTINGS = {"radius": 3, "order": 4, "windows": (9, 30), "induction": 20}


def text(n, seed):
    return told_by_two(n, seed, VOCAB_SIZE, 0.5).astype(np.int64)


IDS = text(1600, 0)
DOCUMENTS = np.array([0, 300, 302, 700, 1130, 1500])
NEW = text(120, 1)
NEW_DOCUMENTS = np.array([0, 50])


def part(first, last):
    """Tokens [first, last) and the documents that start there."""
    inside = DOCUMENTS[slice(*np.searchsorted(DOCUMENTS, [first, last]))]
    return IDS[first:last], inside - first


@functools.cache
def _fitted(last, priming):
    ids, documents = part(0, last)
    return saffu.ExplicitLM(**SETTINGS, priming=priming).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)


def fitted(last=1600, priming="k-fold"):
    return copy.deepcopy(_fitted(last, priming))


def with_scalars_of(model, *spans):
    """A model that counted all this at once and took over the scalars of another."""
    whole = saffu.ExplicitLM(**SETTINGS)
    for span in spans:
        whole.partial_fit(part(*span)[0], vocab_size=VOCAB_SIZE, documents=part(*span)[1])
    whole.solution.bounds, whole.solution.scalars = model.solution.bounds, model.solution.scalars
    return whole


@pytest.fixture(params=[0, 10**9], ids=["rows", "whole"])
def weighing(request, monkeypatch):
    """Weigh the rows of each position alone, or all rows at once."""
    monkeypatch.setattr(solution, "TOKENS_PER_POSITION", request.param)
    return request.param


def same_model(one, other):
    """Equal scalars and log-probabilities, to the bit."""
    np.testing.assert_array_equal(one.solution.scalars, other.solution.scalars)
    np.testing.assert_array_equal(
        one.log_prob(NEW, documents=NEW_DOCUMENTS), other.log_prob(NEW, documents=NEW_DOCUMENTS)
    )
    for context in ([], NEW[:1], NEW[:40]):
        np.testing.assert_array_equal(one.distribution(context), other.distribution(context))


def same_counts(one, other):
    assert one.n_tokens == other.n_tokens
    np.testing.assert_array_equal(one.unigram, other.unigram)
    for a, b in zip(one.tables, other.tables, strict=True):
        np.testing.assert_array_equal(a.indptr, b.indptr)
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_array_equal(a.data, b.data)


# ---- learning --------------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.integers(600, 1600), max_size=9), st.booleans())
def test_updates_in_any_chunks_then_prime_equal_fit(cuts, prime_midway):
    model = fitted(600)
    for first, last in zip([600, *sorted(cuts)], [*sorted(cuts), len(IDS)], strict=True):
        model.update(**as_text(part(first, last)), prime=prime_midway and first == 600)
    model.prime()
    whole = fitted()
    same_counts(model.counts, whole.counts)
    same_model(model, whole)


@pytest.mark.parametrize("priming", PRIMINGS)
def test_update_then_prime_equals_fit_for_every_priming(priming, weighing):
    model = fitted(900, priming=priming)
    for first in range(900, 1600, 100):
        model.update(**as_text(part(first, first + 100))).distribution(NEW[:7])
    same_model(model.prime(), fitted(priming=priming))


def test_between_updates_the_model_is_the_whole_one_with_older_scalars(weighing):
    model = fitted(700)
    scalars = model.solution.scalars.copy()
    for first, last in [(700, 701), (701, 1130), (1130, 1140), (1140, 1600)]:
        model.update(**as_text(part(first, last)))
        whole = with_scalars_of(model, (0, last))
        same_model(model, whole)
        assert (model.solution.pooled is None) == (weighing == 0)  # or all have been
    np.testing.assert_array_equal(model.solution.scalars, scalars)


def test_touched_and_untouched_rows_equal_a_naive_model_after_an_update(monkeypatch):
    monkeypatch.setattr(solution, "TOKENS_PER_POSITION", 0)
    model = fitted(1130).update(**as_text(part(1130, 1600)))
    weights = NgramWeights(NgramCounts(VOCAB_SIZE, 3, 4, 1).of_stream(TokenStream.of(IDS, DOCUMENTS)), False)
    names = [("distance", 1), ("distance", 2), ("distance", 3), ("suffix", 2), ("suffix", 3)]
    naive = reference.DenseExplicitLM(
        IDS, DOCUMENTS, VOCAB_SIZE, 3, 4, (9, 30), 20,
        {name: table.discounts for name, table in zip(names, weights.tables, strict=True)},
    )  # fmt: skip
    log_prob = model.log_prob(NEW, documents=NEW_DOCUMENTS)
    for t in range(0, NEW.size, 3):
        start = 50 if t >= 50 else 0
        scalars = model.solution.scalars[naive.state(NEW, t, start, model.solution.bounds)]
        expected = reference.log_softmax((scalars @ naive.features(NEW, t, start))[None])[0]
        assert log_prob[t] == pytest.approx(expected[NEW[t]], abs=reference.FLOAT_ROWS)
        np.testing.assert_allclose(
            np.log(model.distribution(NEW[start:t])), expected, rtol=0, atol=reference.FLOAT_ROWS
        )


@pytest.mark.parametrize("start_length", [0, 1, 2, 3])
def test_rows_of_some_positions_are_rows_of_the_whole(start_length):
    ids, documents = NEW.astype(np.int32), NEW_DOCUMENTS
    counts = [
        NgramCounts(VOCAB_SIZE, 3, 4, start_length).of_stream(TokenStream.of(IDS[a:b]))
        for a, b in [(0, 900), (900, 1000), (1000, 1040), (1040, 1045)]
    ]
    counts_in_pieces = IncrementalCounts()
    for piece in counts:
        counts_in_pieces.push(piece)
    assert len(counts_in_pieces.pieces) > 2
    positions = np.array([0, 1, 2, 3, 49, 50, 51, 52, 53, 119])
    found = counts_in_pieces.rows(TokenStream(ids, documents), positions)
    whole = NgramWeights(counts_in_pieces.total(), False)
    expected = whole.contexts(TokenStream(ids, documents))[:, positions]
    np.testing.assert_array_equal(found.place >= 0, expected >= 0)
    some = NgramWeights.of_rows(found, Statistics.of(counts_in_pieces.total()))
    for j, (row_of, table, all_of_it) in enumerate(zip(found.place, some.tables, whole.tables, strict=True)):
        for row, expected_row in zip(row_of, expected[j], strict=True):
            if row >= 0:
                mine, theirs = (
                    slice(*t.counts.indptr[[r, r + 1]]) for t, r in [(table, row), (all_of_it, expected_row)]
                )
                np.testing.assert_array_equal(table.counts.indices[mine], all_of_it.counts.indices[theirs])
                np.testing.assert_array_equal(table.counts.data[mine], all_of_it.counts.data[theirs])
                np.testing.assert_array_equal(table.u[mine], all_of_it.u[theirs])
    bounds = np.array([30.0, 4.0, 1.0])
    states = PooledModel(some, (), 0, bounds).states(found.place)
    np.testing.assert_array_equal(states, PooledModel(whole, (), 0, bounds).states(expected))
    assert len(set(states)) > 3


def test_statistics_stay_current():
    model = fitted(300)
    for first, last in [(300, 310), (310, 311), (311, 1000), (1000, 1600)]:
        model.update(**as_text(part(first, last)))
        kept, expected = model.counted.counts.statistics, Statistics.of(fitted(last).counts)
        assert kept.n_tokens == expected.n_tokens
        np.testing.assert_array_equal(kept.unigram, expected.unigram)
        np.testing.assert_array_equal(kept.followed, expected.followed)
        np.testing.assert_array_equal(kept.repeats, expected.repeats)


def test_pieces_at_least_double():
    model = fitted(300)
    for first in range(300, 1600, 3):
        model.update(**as_text(part(first, min(first + 3, 1600))))
        sizes = [piece.n_entries for piece in model.counted.counts.pieces]
        assert all(a >= 2 * b for a, b in itertools.pairwise(sizes))


def test_an_update_alone_can_begin_a_model():
    model = saffu.ExplicitLM(**SETTINGS).partial_fit([], vocab_size=VOCAB_SIZE)
    assert model.n_tokens == 0
    for first in range(0, 1600, 400):
        model.update(**as_text(part(first, first + 400)))
    same_model(model.prime(), fitted())


def test_many_answers_weigh_everything_at_last():
    model = fitted(1500).update(**as_text(part(1500, 1600)))
    answers = [model.distribution(NEW[:10]) for _ in range(5)]
    assert model.solution.pooled is not None
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_files_keep_an_updated_model_and_that_it_is_not_primed(tmp_path):
    model = fitted(900).update(**as_text(part(900, 1600)))
    model.save(tmp_path / "model.saffu")
    again = saffu.load(tmp_path / "model.saffu")
    same_model(again, model)
    same_model(again.prime(), fitted())


def test_generation_goes_on_from_an_update(weighing):
    model = fitted(900).update(**as_text(part(900, 1600)))
    whole = with_scalars_of(model, (0, 1600))
    assert list(model.generate(NEW[:5], 30, seed=3)) == list(whole.generate(NEW[:5], 30, seed=3))


# ---- forgetting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priming", PRIMINGS)
def test_forgetting_what_was_learnt_restores_every_bit(priming, weighing):
    model, before = fitted(1130, priming=priming), fitted(1130, priming=priming)
    model.update(**as_text(part(1130, 1600))).subtract(**as_text(part(1130, 1600)))
    same_model(model, before)
    same_counts(model.counts, before.counts)
    same_model(model.prime(), before)
    for m in (model, before):
        m.update(NEW, documents=[0])
    same_counts(model.counts, before.counts)


@pytest.mark.parametrize("span", [(0, 300), (300, 302), (300, 1130), (1500, 1600), (0, 1600)])
def test_forgetting_documents_equals_never_having_counted_them(span, weighing):
    first, last = span
    model = fitted().subtract(**as_text(part(first, last)))
    same_model(model, with_scalars_of(model, (0, first), (last, 1600)) if last - first < 1600 else model)
    model.prime()
    if last - first == 1600:
        np.testing.assert_allclose(model.distribution([]), 1 / VOCAB_SIZE)
        return
    rest = saffu.ExplicitLM(**SETTINGS)
    for a, b in [(0, first), (last, 1600)]:
        rest.partial_fit(part(a, b)[0], vocab_size=VOCAB_SIZE, documents=part(a, b)[1])
    same_counts(model.counts, rest.prime().counts)
    same_model(model, rest)


def test_learning_and_forgetting_in_turns(weighing):
    model = saffu.ExplicitLM(**SETTINGS).partial_fit([], vocab_size=VOCAB_SIZE)
    spans = list(zip(DOCUMENTS, [*DOCUMENTS[1:], 1600], strict=True))
    for learnt, forgotten in [(0, None), (1, None), (2, 0), (3, None), (0, 2), (4, 1), (5, None)]:
        model.update(**as_text(part(*spans[learnt])))
        model.distribution(NEW[:6])
        if forgotten is not None:
            model.subtract(**as_text(part(*spans[forgotten])))
    left = [3, 0, 4, 5]
    same_model(model, with_scalars_of(model, *(spans[j] for j in left)))
    whole = saffu.ExplicitLM(**SETTINGS)
    for j in left:
        whole.partial_fit(part(*spans[j])[0], vocab_size=VOCAB_SIZE, documents=[0])
    same_model(model.prime(), whole.prime())


def test_equal_documents_are_forgotten_one_by_one():
    model = saffu.ExplicitLM(**SETTINGS)
    for document in ([1, 2, 3], [4, 5], [1, 2, 3], [6]):
        model.partial_fit(document, vocab_size=VOCAB_SIZE, documents=[0])
    model.subtract([1, 2, 3])
    with pytest.raises(ValueError, match="must have been counted"):
        model.subtract([1, 2, 3, 1, 2, 3], documents=[0, 3])
    assert model.n_tokens == 6
    model.subtract([1, 2, 3])
    assert model.n_tokens == 3


def test_after_the_last_document_is_forgotten_the_next_text_begins_one():
    model = saffu.ExplicitLM(**SETTINGS).partial_fit([1, 2, 3, 4, 5], vocab_size=VOCAB_SIZE, documents=[0, 3])
    model.subtract([4, 5]).update([6, 7])
    same_counts(
        model.counts,
        saffu.ExplicitLM(**SETTINGS).partial_fit([1, 2, 3, 6, 7], vocab_size=VOCAB_SIZE, documents=[0, 3]).counts,
    )
    model.subtract([1, 2, 3]).update([8])  # the last one is there yet, and goes on
    same_counts(model.counts, saffu.ExplicitLM(**SETTINGS).partial_fit([6, 7, 8], vocab_size=VOCAB_SIZE).counts)


def test_primed_again_when_asked():
    model = fitted(1500)
    scalars = model.solution.scalars.copy()
    model.update(**as_text(part(1500, 1600)), prime=True)
    assert (model.solution.scalars != scalars).any()
    same_model(model, fitted())
    model.subtract(**as_text(part(1500, 1600)), prime=True)
    np.testing.assert_array_equal(model.solution.scalars, scalars)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda m: m.update([VOCAB_SIZE]), ValueError, "below 23"),
        (lambda m: m.update([0.5]), TypeError, "ids must be integers"),
        (lambda m: m.update([1, 2], documents=[3]), ValueError, "ascending start offsets"),
        (lambda m: m.subtract([VOCAB_SIZE]), ValueError, "below 23"),
        (lambda m: m.subtract([22, 21, 22]), ValueError, "must have been counted"),
        (lambda m: m.subtract(IDS[:299]), ValueError, "whole"),
        (lambda m: m.subtract(IDS[:300], documents=[0, 5]), ValueError, "whole"),
        (lambda m: saffu.ExplicitLM().subtract([1]), ValueError, "no text yet"),
        (lambda m: saffu.ExplicitLM().partial_fit([], vocab_size=5).distribution([]), ValueError, "no text yet"),
        (
            lambda m: saffu.ExplicitLM().partial_fit([], vocab_size=5).partial_fit([1], vocab_size=6),
            ValueError,
            "vocab_size must stay 5",
        ),
        (
            lambda m: m.counted.counts.subtract(saffu.ExplicitLM(3, order=4).partial_fit(NEW, vocab_size=23).counts),
            ValueError,
            "never added",
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(action, error, message):
    model = fitted()
    with pytest.raises(error, match=message):
        action(model)
    same_model(model, fitted())


def test_nothing_to_learn_or_forget(weighing):
    model = fitted()
    model.update([]).subtract([])
    assert model.solution.pooled is not None

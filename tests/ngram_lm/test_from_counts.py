"""A model of counts that were made elsewhere is the model that would have counted them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from helpers.made_up import documents_with_habits
from saffu.ngram_lm import text_counts
from saffu.ngram_lm.contexts import PRIMINGS
from saffu.ngram_lm.text_counts import TextSummary, count_streams
from saffu.utils.streams import TokenStream

SHAPE = {"radius": 2, "order": 3, "windows": (9,), "induction": 20}
IDS, DOCUMENTS = documents_with_habits(1500, 0, 3, (0.4, 0.7))
V = 14


def fitted(**settings):
    settings = {"priming": "unit", "n_threads": 1} | settings
    return saffu.ExplicitLM(**SHAPE | settings).fit(IDS, documents=DOCUMENTS, vocab_size=V)


def again(model, **settings):
    counted = model.counted
    given = {name: value for name, value in SHAPE.items() if name != "order"}
    given |= {"priming": model.priming, "n_threads": 1} | settings
    return saffu.ExplicitLM.from_counts(counted.total(), sample=counted.sample, **{"end": counted.end} | given)


def assert_same_models(one, other):
    (mine, metadata), (theirs, their_metadata) = (model._to_checkpoint() for model in (one, other))
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert {**metadata, "seconds": 0} == {**their_metadata, "seconds": 0}
    np.testing.assert_array_equal(one.log_prob(IDS[:200]), other.log_prob(IDS[:200]))


@pytest.mark.parametrize("priming", PRIMINGS)
def test_the_model_is_the_one_that_counted(priming):
    model = fitted(priming=priming)
    assert_same_models(again(model, priming=priming), model)


def test_text_goes_on_in_the_open_document():
    one, other = fitted(), again(fitted())
    for model in (one, other):
        model.partial_fit(IDS[:50]).subtract(IDS[DOCUMENTS[3] : DOCUMENTS[4]])
    assert_same_models(one, other)


def test_without_an_end_no_document_goes_on():
    made, other = again(fitted(), end=()), fitted()
    assert made.counted.sample.open is None
    assert_same_models(made.partial_fit(IDS[:50]), other.partial_fit(IDS[:50], documents=[0]))


def test_other_windows_need_no_other_counts():
    assert_same_models(again(fitted(), windows=(30,), induction=0), fitted(windows=(30,), induction=0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"counts": 3}, TypeError, "counts must be a NgramCounts, got int"),
        ({"sample": None}, TypeError, "sample must be a TokenSample, got NoneType"),
        ({"radius": 3}, ValueError, r"radius and start_length of \(3, 1\) with these settings .*got \(2, 1\)"),
        ({"priming": "kneser-ney"}, ValueError, r"of \(1, 2\) with these settings \(priming='kneser-ney'\), got"),
        ({"windows": (0,)}, ValueError, "windows must be at least 1"),
        ({"end": [V]}, ValueError, "end must be below 14"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    model = saffu.ExplicitLM(**SHAPE).partial_fit(IDS, vocab_size=V)
    given = {"counts": model.counts, "sample": model.counted.sample, "end": model.counted.end} | arguments
    with pytest.raises(error, match=message):
        saffu.ExplicitLM.from_counts(given.pop("counts"), **given)


def test_an_end_needs_an_open_document():
    counts, sample, end = count_streams([TokenStream.of([1, 2])], fitted().contexts, V)
    with pytest.raises(ValueError, match="end must be empty"):
        saffu.ExplicitLM.from_counts(counts, sample=sample.closed(), end=end)


def test_no_text_makes_no_model():
    found = count_streams([], fitted().contexts, V)
    assert found.counts.n_entries == found.counts.n_tokens == 0
    with pytest.raises(ValueError, match="at least one token"):
        saffu.ExplicitLM.from_counts(**found._asdict())


# ---- counting in pieces ----------------------------------------------------------------------------------------------

streams = st.lists(
    st.tuples(st.lists(st.integers(0, V - 1), max_size=12), st.lists(st.integers(0, 11), max_size=3)), max_size=6
)


def stream(ids, starts, first):
    starts = sorted({start for start in starts if start < len(ids)} | ({0} if first and ids else set()))
    return TokenStream(np.array(ids, np.int32), np.array(starts, np.int64))


@given(streams, st.sampled_from([1, 5, 1000]))
def test_counts_do_not_depend_on_pieces(parts, piece):
    stretches = []
    for ids, starts in parts:
        stretches.append(stream(ids, starts, not any(part.ids.size for part in stretches)))
    whole = TokenStream.concat(stretches)
    if whole.ids.size == 0:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_counts, "PIECE", piece)
        found = count_streams(stretches, fitted_contexts(), V)
    model = saffu.ExplicitLM(**SHAPE, priming="unit").fit(whole.ids, documents=whole.starts, vocab_size=V)
    made = saffu.ExplicitLM.from_counts(**found._asdict(), windows=(9,), induction=20, priming="unit")
    assert_same_models(made, model)


def fitted_contexts():
    return saffu.ExplicitLM(**SHAPE).contexts


@given(st.lists(st.lists(st.integers(0, V - 1), max_size=12), min_size=1, max_size=6))
def test_summaries_of_parts_merge_to_that_of_the_text(parts):
    contexts = fitted_contexts()
    summaries = []
    for ids in parts:
        found = count_streams([TokenStream.of(ids)], contexts, V)
        summaries.append(TextSummary(found.counts.unigram, found.sample, found.end))
    whole = TokenStream.concat(TokenStream.of(ids) for ids in parts if ids)
    merged = summaries[0]
    for summary in summaries[1:]:
        merged = merged.merge(summary)
    expected = count_streams([whole], contexts, V)
    np.testing.assert_array_equal(merged.unigram, expected.counts.unigram)
    np.testing.assert_array_equal(merged.end, expected.end)
    for found, wanted in zip(merged.sample.blocks()[0], expected.sample.blocks()[0], strict=True):
        np.testing.assert_array_equal(found, wanted)

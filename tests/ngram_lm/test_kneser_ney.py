"""Kneser-Ney on documents against an independent implementation with a start token, and on every incremental path."""

import copy
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
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.weights import NgramWeights
from saffu.text import LINE_END_ID, Corpus
from saffu.utils import checkpoint
from saffu.utils.streams import TokenStream

VOCAB_SIZE = 11


def documents_of(lengths, seed):
    """A text in documents of these lengths that begins with every word, and where they start."""
    ids = told_by_two(VOCAB_SIZE + sum(lengths), seed, VOCAB_SIZE, 0.4)
    ids[:VOCAB_SIZE] = np.arange(VOCAB_SIZE)
    starts = np.cumsum([0, VOCAB_SIZE, *lengths])[:-1]
    return ids, np.unique(starts[starts < ids.size])


def kneser_ney(ids, order, documents, vocab_size=VOCAB_SIZE):
    return saffu.ExplicitLM(order=order, priming="kneser-ney").fit(ids, vocab_size=vocab_size, documents=documents)


LENGTHS = {
    "one word each": [1] * 300,
    "shorter than the order": [1, 2, 3] * 150,
    "short": [4, 9, 2] * 100,
    "long": [700, 5, 900],
    "one": [2000],
}


@pytest.mark.parametrize("order", range(2, 7))
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_equals_an_implementation_with_a_start_token(lengths, order):
    ids, documents = documents_of(lengths, 0)
    new, new_documents = documents_of([1, 2, 3, 40, 1], 1)
    model, naive = kneser_ney(ids, order, documents), reference.KneserNey(ids, order, documents)
    for text, starts in ((new, new_documents), (ids[:400], documents[documents < 400])):
        np.testing.assert_allclose(
            model.log_prob(text, documents=starts), naive.log_prob(text, starts), rtol=0, atol=1e-9
        )
    for context in ([], [3], [3, 1, 4, 1, 5, 9, 2, 6]):
        expected = [naive.probability(w, ("<s>", *context)) for w in range(VOCAB_SIZE)]
        np.testing.assert_allclose(model.distribution(context), expected, rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(2, 6))
def test_small_texts_with_degenerate_discounts(seed, lengths, order):
    """Counts of counts that are zero: the fallbacks of the discounts are the same in both."""
    ids, documents = documents_of(lengths, seed)
    model, naive = kneser_ney(ids, order, documents), reference.KneserNey(ids, order, documents)
    np.testing.assert_allclose(
        model.log_prob(ids, documents=documents), naive.log_prob(ids, documents), rtol=0, atol=1e-9
    )


def opened_alike(n, seed):
    """Documents 0, 1, one of ten words, one of ten others: four words of sqrt(10) each."""
    r = np.random.default_rng(seed).integers(0, 10, (2, n))
    return np.stack([np.zeros(n, int), np.ones(n, int), 2 + r[0], 12 + r[1]], axis=1).ravel(), np.arange(0, 4 * n, 4)


@pytest.mark.parametrize("priming", ["kneser-ney", "k-fold"])
def test_what_opens_every_document_is_foreseen(priming):
    ids, documents = opened_alike(1000, 0)
    model = saffu.ExplicitLM(order=3, priming=priming).fit(ids, vocab_size=22, documents=documents)
    assert model.distribution([])[0] > 0.99
    assert model.distribution([0])[1] > 0.99
    assert model.perplexity(**as_text(opened_alike(1000, 1))) == pytest.approx(np.sqrt(10), rel=0.03)


def test_a_word_that_only_opens_documents_has_a_continuation():
    weights = NgramWeights(NgramCounts(4, 2, 3).of_stream(TokenStream.of([3, 0, 1] * 9, np.arange(0, 27, 3))), True)
    np.testing.assert_allclose(weights.continuation[[0, 1, 3]], 1 / 3, rtol=1e-9)


def test_what_is_cut_out_of_a_document_has_no_start_token_before_it():
    ids, documents = np.array([3, 1, 2, 3, 1, 2], np.int32), np.array([0, 3])
    stream = TokenStream(ids, documents)
    counts = NgramCounts(4, 2, 4).of_stream(stream)
    weights, cut = NgramWeights(counts, False), np.array([True, False])
    known, unknown = weights.contexts(stream) >= 0, weights.contexts(stream, cut) >= 0
    np.testing.assert_array_equal(known[:, :3], known[:, 3:])
    np.testing.assert_array_equal(known[:, :3], [[1, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(unknown[:, :3], known[:, :3])
    np.testing.assert_array_equal(unknown[:, 3:], [[0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]])
    assert counts.of_stream(stream, opens=cut).distance[0].data.sum() == 5


# ---- incremental paths -----------------------------------------------------------------------------------------------

IDS, DOCUMENTS = documents_of([1, 2, 3, 50, 1, 1, 4, 80, 2, 7], 2)
TEXT, TEXT_DOCUMENTS = documents_of([1, 2, 9], 3)


def part(first, last):
    low, high = np.searchsorted(DOCUMENTS, [first, last])
    return IDS[first:last], DOCUMENTS[low:high] - first


def same_model(one, other):
    for a, b in zip(one.counts.tables, other.counts.tables, strict=True):
        for name in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(
        one.log_prob(TEXT, documents=TEXT_DOCUMENTS), other.log_prob(TEXT, documents=TEXT_DOCUMENTS)
    )


@pytest.mark.parametrize("priming", ["kneser-ney", "unit"])
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, IDS.size - 1), max_size=6), order=st.integers(2, 6), update=st.booleans())
def test_documents_split_between_chunks(priming, cuts, order, update):
    """At every cut, also one that falls near the start of a document."""
    model = saffu.ExplicitLM(radius=2, order=order, windows=(), induction=0, priming=priming)
    whole = copy.deepcopy(model).fit(IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS)
    model.partial_fit([], vocab_size=VOCAB_SIZE)
    for first, last in itertools.pairwise([0, *sorted(cuts), IDS.size]):
        learn = model.update if update else model.partial_fit
        learn(part(first, last)[0], documents=part(first, last)[1])
    same_model(model, whole)


@pytest.mark.parametrize("priming", PRIMINGS)
@pytest.mark.parametrize("cut", DOCUMENTS[1:].tolist())
def test_merging_and_subtracting_documents(priming, cut):
    def counted(*spans):
        model = saffu.ExplicitLM(radius=2, order=4, windows=(5,), induction=3, priming=priming)
        for span in spans:
            model.partial_fit(part(*span)[0], vocab_size=VOCAB_SIZE, documents=part(*span)[1])
        return model

    whole, first, last = counted((0, IDS.size)), (0, cut), (cut, IDS.size)
    both, kept = counted(first).merge(counted(last)), counted(first)
    whole.prime()
    for model in (both, kept):  # what is asked here is about counts and weights
        model.solution.scalars, model.solution.bounds = whole.solution.scalars, whole.solution.bounds
    same_model(both, whole)
    same_model(both.subtract(**as_text(part(*last))), kept)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_statistics_and_rows_at_the_starts_of_documents(order, monkeypatch):
    monkeypatch.setattr(solution, "TOKENS_PER_POSITION", 0)  # weigh rows alone, always
    ids, documents = part(0, 68)
    model = saffu.ExplicitLM(radius=3, order=order, windows=(), induction=0).fit(
        ids, vocab_size=VOCAB_SIZE, documents=documents
    )
    for first, last in itertools.pairwise([68, 69, 71, 75, 120, IDS.size]):
        model.update(**as_text(part(first, last)))
        whole = copy.deepcopy(model)
        kept, fresh = whole.counted.counts.statistics, Statistics.of(whole.counts)
        assert kept.n_tokens == fresh.n_tokens
        for name in ("unigram", "followed", "repeats"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))
        whole.solution.solved()
        for text in ([], TEXT[:1], TEXT[:2], TEXT):
            np.testing.assert_array_equal(model.distribution(text), whole.distribution(text))
        np.testing.assert_array_equal(
            model.log_prob(TEXT, documents=TEXT_DOCUMENTS), whole.log_prob(TEXT, documents=TEXT_DOCUMENTS)
        )
        assert model.solution.pooled is None


def twin_without(ids, documents, left_out):
    """A naive model of radius 2 and order 4 that has not counted some positions."""
    counted = ~np.isin(np.arange(ids.size), left_out)
    twin = reference.DenseExplicitLM(ids, documents, VOCAB_SIZE, 2, 4, (), 0, None, counted)
    twin.discounts = {
        name: reference.discounts([int(n) for (f, _), row in twin.count.items() if f == name for n in row if n])[1:]
        for name in [("distance", 1), ("distance", 2), ("suffix", 2), ("suffix", 3)]
    }
    return twin


def held_out_text(lengths, seed):
    ids, documents = documents_of(lengths, seed)
    model = saffu.ExplicitLM(radius=2, order=4, windows=(), induction=0, priming="unit")
    return model.fit(ids, vocab_size=VOCAB_SIZE, documents=documents), ids, documents


def test_held_out_logits_leave_starts_of_documents_out():
    model, ids, documents = held_out_text([3, 1, 2, 90, 5, 1] * 12, 4)
    held_out = HeldOutLogits(model, ids, documents=documents, folds=3)
    for fold in range(3):
        twin = twin_without(ids, documents, held_out.positions(fold))
        opening = documents[held_out.fold_of(documents) == fold]
        X = np.stack([twin.features(ids, t, t) for t in opening])
        expected = reference.log_softmax(model.solution.scalars[0, : X.shape[1]] @ X)
        np.testing.assert_allclose(held_out.logits(fold, opening), expected, atol=1e-5)


@pytest.mark.parametrize(("first", "last", "begins"), [(0, 60, True), (20, 200, False), (11, 312, True)])
def test_held_out_logits_of_a_part_of_the_text(first, last, begins):
    """Its first document may be a part of one: no start token was counted before that."""
    model, ids, documents = held_out_text([300, 2, 90, 1, 40], 5)
    inside = documents[(first <= documents) & (documents < last)]
    held_out = HeldOutLogits(model, ids[first:last], documents=inside - first, folds=2)
    assert (0 in held_out._begins) == begins
    held_out.logits(0)
    positions = held_out.positions(1)
    twin = twin_without(ids, documents, first + positions)
    X = np.stack([twin.features(ids, t, documents[documents <= t].max()) for t in first + positions])
    expected = reference.log_softmax(model.solution.scalars[0, : X.shape[1]] @ X)
    np.testing.assert_allclose(held_out.logits(1), expected, atol=1e-5)


# ---- files of earlier versions ---------------------------------------------------------------------------------------


def of_an_earlier_version(priming, folder, last=IDS.size):
    """A model whose counts know no start token, as a file had them, and that file loaded."""
    model = saffu.ExplicitLM(radius=2, order=4, windows=(5,), induction=3, priming=priming)
    model.counted.start_length = 0
    model.partial_fit(part(0, last)[0], vocab_size=VOCAB_SIZE, documents=part(0, last)[1]).prime()
    arrays, metadata = model._to_checkpoint()
    del metadata["start_token"]
    assert arrays["table0.lengths"].shape == (VOCAB_SIZE,)
    checkpoint.write(folder / "old.saffu", "explicit-lm", arrays, metadata)
    return model, saffu.load(folder / "old.saffu")


@pytest.mark.parametrize("priming", ["kneser-ney", "unit", "k-fold"])
def test_an_older_file_gives_the_numbers_it_gave_and_stays_as_it_was(priming, tmp_path):
    model, loaded = of_an_earlier_version(priming, tmp_path)
    same_model(loaded, model)
    first = loaded.solution.at(TokenStream(TEXT, TEXT_DOCUMENTS), TEXT_DOCUMENTS)[1]
    assert (first == -1).all()  # nothing is known of the starts of documents
    _, longer = of_an_earlier_version(priming, tmp_path, last=73)
    longer.update(**as_text(part(73, IDS.size)))
    longer.solution.scalars, longer.solution.bounds = model.solution.scalars, model.solution.bounds
    same_model(longer, model)
    _, shorter = of_an_earlier_version(priming, tmp_path, last=73)
    shorter.solution.scalars, shorter.solution.bounds = model.solution.scalars, model.solution.bounds
    same_model(longer.subtract(**as_text(part(73, IDS.size))), shorter)
    longer.save(tmp_path / "again.saffu")
    assert saffu.load(tmp_path / "again.saffu").counts.start_length == 0


def test_counts_with_and_without_starts_do_not_mix(tmp_path):
    _, old = of_an_earlier_version("unit", tmp_path)
    new = saffu.ExplicitLM(radius=2, order=4, windows=(5,), induction=3, priming="unit")
    same_model(copy.deepcopy(new).merge(old), old)
    new.fit(IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS)
    for one, other in ((new, old), (old, new)):
        with pytest.raises(ValueError, match="starts of documents, or neither"):
            one.merge(other)
    same_model(old.fit(IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS), new)


# ---- real text -------------------------------------------------------------------------------------------------------


def test_brown_gives_the_published_figures(data_folder):
    """As one stream, and with a start token before each sentence."""
    train = Corpus(data_folder / "brown" / "train.txt.gz", tokenizer="whitespace")
    vocabulary = train.build_vocabulary(3)
    test = Corpus(data_folder / "brown" / "test.txt.gz", tokenizer="whitespace")
    ids = [part.read(vocabulary).ids for part in (train, test)]
    sentences = [np.append(0, np.flatnonzero(text[:-1] == LINE_END_ID) + 1) for text in ids]
    for starts, published in (([None, None], 197.9), (sentences, 198.8)):
        model = kneser_ney(ids[0], 4, starts[0], len(vocabulary))
        assert model.perplexity(ids[1], documents=starts[1]) == pytest.approx(published, abs=0.1)

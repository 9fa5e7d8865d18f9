"""Kneser-Ney of the same counts, mixed into the probabilities of the pooled weights."""

import copy
import functools

import numpy as np
import pytest

import saffu
from helpers.made_up import told_by_two
from saffu import kenlm
from saffu.ngram_lm import floor
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.utils import checkpoint

VOCAB_SIZE, KN = 40, "kneser-ney"
SETTINGS = {"radius": 2, "order": 3, "windows": (9, 30), "induction": 0}
IDS = told_by_two(3000, 0, VOCAB_SIZE, 0.4)
DOCUMENTS = np.arange(0, 3000, 150)
NEW, NEW_DOCUMENTS = told_by_two(500, 1, VOCAB_SIZE, 0.4), np.array([0, 1, 130])


@functools.cache
def _fitted(of):
    return saffu.ExplicitLM(**SETTINGS, floor=of).fit(IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS)


def fitted(of="kneser-ney"):
    return copy.deepcopy(_fitted(of))


def test_it_is_a_mixture_of_two_models():
    model, plain = (saffu.ExplicitLM(**SETTINGS, floor=of).fit(IDS, vocab_size=VOCAB_SIZE) for of in (KN, None))
    lower = saffu.ExplicitLM(order=3, priming="kneser-ney").fit(IDS, vocab_size=VOCAB_SIZE)
    share = model.solution.share
    assert 0.0 < share < 1.0
    np.testing.assert_array_equal(model.solution.scalars, plain.solution.scalars)
    expected = np.logaddexp(np.log1p(-share) + plain.log_prob(NEW), np.log(share) + lower.log_prob(NEW))
    # Kneser-Ney by itself has longer contexts that begin with <s>: here one n-gram more, which moves discounts.
    np.testing.assert_allclose(model.log_prob(NEW)[2:], expected[2:], atol=0.02)
    assert np.abs(model.log_prob(NEW) - plain.log_prob(NEW)).max() > 0.1


def test_the_share_is_that_of_the_best_mixture():
    """The derivative of the likelihood by the share is zero on the parts that it was fitted to."""
    model = fitted()
    solution, floors = model.solution, []
    parts = solution.priming_parts(None, model.counts, floors=floors)
    assert len(parts) == len(floors)

    def likelihood(share):
        pooled = np.concatenate([floor.log_prob_of(part, solution.bounds, solution.scalars) for part in parts])
        own = [f.score(part.stream)[0][part.positions] for part, f in zip(parts, floors, strict=True)]
        return floor.Floor(floors[0], share).mixed(pooled, np.concatenate(own)).mean()

    best = likelihood(solution.share)
    assert best > likelihood(0.9 * solution.share)
    assert best > likelihood(1.1 * solution.share)
    assert best > likelihood(1e-12)


def test_every_answer_is_the_same_and_sums_to_one():
    model, text = fitted(), fitted().read(NEW, documents=NEW_DOCUMENTS)
    positions = np.array([0, 1, 2, 3, 129, 130, 131, 300, 499])
    log_prob = model.log_prob(NEW, documents=NEW_DOCUMENTS)
    rows = model.log_probs(NEW, positions, documents=NEW_DOCUMENTS)
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows[np.arange(positions.size), NEW[positions]], log_prob[positions], atol=1e-5)
    np.testing.assert_array_equal(text.log_prob(), log_prob)
    np.testing.assert_array_equal(text.log_prob(positions), log_prob[positions])
    np.testing.assert_allclose(text.logits(positions), rows, atol=2e-6)
    for position, row in zip(positions, rows, strict=True):
        begin = NEW_DOCUMENTS[position >= NEW_DOCUMENTS].max()
        found = model.distribution(NEW[begin:position])
        np.testing.assert_allclose(found.sum(), 1.0, rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.log(found), row, atol=1e-9)


def test_it_lowers_perplexity():
    found, plain = (fitted(of).perplexity(NEW, documents=NEW_DOCUMENTS) for of in ("kneser-ney", None))
    assert found < plain


def test_it_adapts_and_updates_as_any_model():
    model, learner = fitted(), fitted()
    found = model.log_prob(NEW, documents=NEW_DOCUMENTS, adapt=True)
    for first, last in ((0, 1), (1, 130), (130, 500)):
        np.testing.assert_array_equal(found[first:last], learner.log_prob(NEW[first:last]))
        learner.update(NEW[first:last], documents=[0])
    whole = saffu.ExplicitLM(**SETTINGS, floor="kneser-ney").fit(
        np.concatenate([IDS, NEW]), documents=[*DOCUMENTS, *(NEW_DOCUMENTS + IDS.size)], vocab_size=VOCAB_SIZE
    )
    learner.prime()
    assert learner.solution.share == whole.solution.share
    np.testing.assert_array_equal(learner.log_prob(NEW), whole.log_prob(NEW))
    learner.subtract(NEW, documents=NEW_DOCUMENTS, prime=True)
    np.testing.assert_array_equal(learner.log_prob(NEW), model.log_prob(NEW))


def test_merging_equals_fitting():
    half = DOCUMENTS[10]
    one, other = (
        saffu.ExplicitLM(**SETTINGS, floor="kneser-ney").fit(ids, documents=DOCUMENTS[:10], vocab_size=VOCAB_SIZE)
        for ids in (IDS[:half], IDS[half:])
    )
    np.testing.assert_array_equal(one.merge(other).log_prob(NEW), fitted().log_prob(NEW))


def test_it_is_saved(tmp_path):
    model = fitted()
    model.save(tmp_path / "model.saffu")
    loaded = checkpoint.load(tmp_path / "model.saffu")
    assert repr(loaded) == repr(model)
    assert "floor='kneser-ney'" in repr(model)
    assert loaded.summary()["floor_share"] == model.solution.share
    np.testing.assert_array_equal(loaded.log_prob(NEW), model.log_prob(NEW))


def test_without_it_nothing_of_it_is_saved():
    arrays, metadata = fitted(None)._to_checkpoint()
    assert "share" not in arrays
    assert "floor" not in metadata
    assert "floor_share" not in fitted(None).summary()


def test_bits_do_not_depend_on_the_number_of_threads():
    found = []
    for n_threads in (1, 2, 3):
        model = saffu.ExplicitLM(**SETTINGS, floor="kneser-ney", n_threads=n_threads)
        found.append(model.fit(IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS).log_prob(NEW))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_held_out_logits_have_it_too():
    model = fitted()
    held_out = HeldOutLogits(model, IDS, documents=DOCUMENTS, folds=4)
    positions = held_out.positions(1)[:50]
    rows = held_out.logits(1, positions, np.empty((50, VOCAB_SIZE)))
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1.0, rtol=0, atol=1e-9)
    targets = rows[np.arange(50), IDS[positions]]
    np.testing.assert_allclose(targets, held_out.log_prob(1, positions), atol=1e-5)
    plain = HeldOutLogits(fitted(None), IDS, documents=DOCUMENTS, folds=4).log_prob(1, positions)
    assert np.abs(plain - targets).max() > 1e-3


def test_it_grows_with_its_floor():
    model = fitted()
    grown = model.grow(windows=(9, 30, 100))
    np.testing.assert_allclose(grown.log_prob(NEW), model.log_prob(NEW), atol=1e-5)
    better = model.grow(IDS, documents=DOCUMENTS, windows=(9, 30, 100))
    assert 0.0 < better.solution.share < 1.0
    np.testing.assert_allclose(np.exp(better.log_probs(NEW, [3])).sum(), 1.0, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"floor": "unigram"}, ValueError, "floor must be one of 'kneser-ney'|floor must be 'kneser-ney'"),
        ({"floor": "kneser-ney", "priming": "unit"}, ValueError, "floor needs priming='k-fold'"),
        ({"floor": "kneser-ney", "memory_limit": "1G"}, ValueError, "floor needs all counts in memory"),
        ({"floor": "kneser-ney", "min_entry": (1, 2)}, ValueError, "floor needs all counts in memory"),
    ],
)
def test_settings_that_do_not_go_together(settings, error, message):
    with pytest.raises(error, match=message):
        saffu.ExplicitLM(**settings)


def test_what_it_cannot_become():
    with pytest.raises(ValueError, match="with a floor cannot be pruned"):
        fitted().pruned(threshold=1e-3)
    with pytest.raises(ValueError, match="has a floor"):
        fitted().to_backoff()
    assert not fitted().is_backoff


def test_one_word_at_a_time(tmp_path):
    """The door of kenlm asks the same model."""
    model = fitted()
    model.vocabulary = saffu.text.Vocabulary([f"w{n}" for n in range(VOCAB_SIZE - 2)], tokenizer="whitespace")
    model.save(tmp_path / "model.saffu")
    words = model.vocabulary.types[2:6]
    ids = model.vocabulary.encode(words)
    total = sum(model.log_prob(ids)) / np.log(10)
    found = kenlm.Model(tmp_path / "model.saffu").score(" ".join(words), bos=True, eos=False)
    assert found == pytest.approx(total, abs=1e-4)


def test_types_that_were_never_counted_lower_the_share():
    """Kneser-Ney gives them next to nothing, so all of its share is lost on them."""
    unlike = np.random.default_rng(0).permutation(1000).astype(np.int32)
    model, plain = (saffu.ExplicitLM(**SETTINGS, floor=of).fit(unlike, vocab_size=1400) for of in (KN, None))
    assert model.solution.share < 1e-6
    np.testing.assert_allclose(model.log_prob([1200, 1]), plain.log_prob([1200, 1]), atol=1e-5)

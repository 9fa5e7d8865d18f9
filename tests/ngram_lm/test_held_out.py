"""Logits of a text whose own counts are taken away, against models that never had them; and logits of any text."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import saffu
from helpers import reference
from helpers.made_up import told_by_two
from saffu.explicit.discounting import discounts
from saffu.ngram_lm.cross_fitting import HeldOutLogits

VOCAB_SIZE = 23
SETTINGS = {"radius": 3, "order": 4, "windows": (7, 150), "induction": 60}  # windows longer and shorter than a block
FOLDS = 5


def text(n, seed, vocab_size=VOCAB_SIZE):
    return told_by_two(n, seed, vocab_size, 0.4)


@pytest.fixture(scope="module")
def training():
    return text(1500, 0), np.array([0, 400, 403, 900])


@pytest.fixture(scope="module")
def model(training):
    ids, documents = training
    return saffu.ExplicitLM(**SETTINGS).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)


@pytest.fixture(scope="module")
def held_out(model, training):
    return HeldOutLogits(model, training[0], documents=training[1], folds=FOLDS)


# ---- what they are ---------------------------------------------------------------------------------------------------


def twin_without(held_out, model, ids, documents, fold):
    """Dense twin that counts what ends outside the fold, with the discounts of those counts."""
    counted = np.ones(ids.size, bool)
    counted[held_out.positions(fold)] = False
    names = [("distance", k) for k in (1, 2, 3)] + [("suffix", n) for n in (2, 3)]
    twin = reference.DenseExplicitLM(
        ids, documents, model.vocab_size, model.radius, model.order, model.windows, model.induction, None, counted
    )
    counts = {name: [row[row > 0] for (f, _), row in twin.count.items() if f == name] for name in names}
    twin.discounts = {name: discounts(np.concatenate(rows).astype(np.int64)) for name, rows in counts.items()}
    return twin


@pytest.mark.parametrize("min_count", [0, 60])
def test_equal_a_model_that_never_counted_the_fold(model, training, min_count):
    ids, documents = training
    held_out = HeldOutLogits(model, ids, documents=documents, folds=FOLDS, min_count=min_count)
    pooled, scalars = model.solution.solved()
    for fold in (0, 3):
        twin = twin_without(held_out, model, ids, documents, fold)
        positions = held_out.positions(fold)[::11]
        logits = held_out.logits(fold, positions, np.empty((positions.size, VOCAB_SIZE)))
        read = held_out.tokens(fold)
        rare = np.bincount(np.delete(ids, held_out.positions(fold)), minlength=VOCAB_SIZE) < min_count
        np.testing.assert_array_equal(read, np.where(rare[ids], 0, ids))
        assert rare[ids].any() == (min_count > 0)
        for t, found in zip(positions, logits, strict=True):
            start = max(d for d in documents if d <= t)
            scalar = scalars[twin.state(read, t, start, pooled.bounds)]
            expected = reference.log_softmax((scalar @ twin.features(read, t, start))[None])[0]
            np.testing.assert_allclose(found, expected, rtol=0, atol=reference.FLOAT_ROWS)
        own = logits[np.arange(positions.size), read[positions]]
        np.testing.assert_allclose(held_out.log_prob(fold, positions), own, rtol=0, atol=reference.FLOAT_ROWS)


def test_equal_a_fit_to_the_other_documents():
    """Where blocks are whole documents, the counts left are those of the other documents."""
    length, n = 60, 20
    ids, documents = text(length * n, 1), np.arange(n) * length
    model = saffu.ExplicitLM(**SETTINGS).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    held_out = HeldOutLogits(model, ids, documents=documents, folds=FOLDS)
    assert held_out.block_length == length
    rest = np.delete(ids, held_out.positions(2))
    other = saffu.ExplicitLM(**SETTINGS).fit(rest, vocab_size=VOCAB_SIZE, documents=documents[: n - n // FOLDS]).prime()
    other.solution.scalars, other.solution.pooled.bounds = model.solution.scalars, model.solution.bounds
    positions = held_out.positions(2)
    expected = other.log_probs(ids, positions, documents=documents)
    np.testing.assert_allclose(held_out.logits(2, positions), expected, rtol=0, atol=1e-5)
    t = positions[100]
    p = other.distribution(ids[t // length * length : t])
    np.testing.assert_allclose(held_out.logits(2, [t])[0], np.log(p), rtol=0, atol=1e-5)


def test_are_worse_than_those_of_counted_text_and_near_those_of_new_text(held_out, model, training):
    counted = model.perplexity(training[0], documents=training[1])
    own = np.exp(-np.mean([held_out.log_prob(fold).mean() for fold in range(FOLDS)]))
    new = model.perplexity(text(1500, 5))
    assert counted < 0.8 * own
    assert own == pytest.approx(new, rel=0.15)


def test_kneser_ney(training):
    ids, documents = training
    model = saffu.ExplicitLM(order=3, priming="kneser-ney").fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    held_out = HeldOutLogits(model, ids, documents=documents, folds=FOLDS)
    logits = held_out.logits(1)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1.0, rtol=1e-5)
    assert held_out.log_prob(1).mean() < model.log_prob(ids, documents=documents)[held_out.positions(1)].mean()


@pytest.mark.parametrize("priming", ["kneser-ney", "backoff"])
def test_models_of_a_fold_count_continuations_where_the_whole_one_does(training, priming):
    ids, documents = training
    model = saffu.ExplicitLM(order=3, priming=priming).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    again, whole = model.solution.pooled_model(model.counts), model.solution.solved()[0]
    for table, expected in zip(again.weights.tables, whole.weights.tables, strict=True):
        np.testing.assert_array_equal(table.u, expected.u)


# ---- the folds -------------------------------------------------------------------------------------------------------


def test_folds_share_out_the_text(held_out):
    positions = [held_out.positions(fold) for fold in range(held_out.n_folds)]
    np.testing.assert_array_equal(np.sort(np.concatenate(positions)), np.arange(held_out.n_tokens))
    for fold, own in enumerate(positions):
        assert (held_out.fold_of(own) == fold).all()
        assert np.unique(own // held_out.block_length).size >= 4


def test_large_texts_have_blocks_of_8192():
    ids = np.random.default_rng(0).integers(0, 5, 200_000)
    model = saffu.ExplicitLM(radius=1, order=2, windows=(), induction=0).fit(ids)
    assert HeldOutLogits(model, ids, folds=4).block_length == 8192
    assert HeldOutLogits(model, ids, folds=10).block_length == 5000


@pytest.mark.parametrize("n_threads", [2, 3])
def test_same_bits_on_any_number_of_threads(held_out, model, training, n_threads):
    other = HeldOutLogits(model, training[0], documents=training[1], folds=FOLDS, n_threads=n_threads)
    np.testing.assert_array_equal(other.logits(1), held_out.logits(1))
    np.testing.assert_array_equal(other.log_prob(1), held_out.log_prob(1))


def test_any_order_of_positions(held_out):
    """A jump fills the windows afresh, a step slides them."""
    shuffled = np.random.default_rng(0).permutation(held_out.positions(4))
    sorted_out, shuffled_out = (np.empty((shuffled.size, VOCAB_SIZE)) for _ in range(2))
    held_out.logits(4, None, sorted_out)
    assert held_out.logits(4, shuffled, shuffled_out) is shuffled_out
    order = np.argsort(shuffled)
    np.testing.assert_allclose(shuffled_out[order], sorted_out, rtol=0, atol=1e-12)


def test_folds_that_do_not_fit_are_built_again(held_out, model, training):
    lean = HeldOutLogits(model, training[0], documents=training[1], folds=FOLDS, memory=0)
    for fold in (2, 0, 2):
        np.testing.assert_array_equal(lean.logits(fold), held_out.logits(fold))
        assert len(lean._kept) == 1
    two = HeldOutLogits(model, training[0], documents=training[1], folds=FOLDS, memory=int(2.5 * lean.text(2).n_bytes))
    for fold in (0, 1, 0, 2):
        two.text(fold)
    assert list(two._kept) == [0, 2]


def test_batches_from_several_threads(held_out, model, training):
    """Each builds, or finds, the fold it needs, also where only one fits."""
    lean = HeldOutLogits(model, training[0], documents=training[1], folds=FOLDS, memory=0, n_threads=1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lean.logits, [0, 1, 0, 2, 1, 0, 2, 2]))
    for fold, logits in zip([0, 1, 0, 2, 1, 0, 2, 2], found, strict=True):
        np.testing.assert_array_equal(logits, held_out.logits(fold))


def test_a_part_of_what_was_counted(model, training):
    """Two of four documents: the others stay counted."""
    ids, _ = training
    part = HeldOutLogits(model, ids[:403], documents=np.array([0, 400]), folds=2)
    assert np.isfinite(part.log_prob(1)).all()


@pytest.mark.parametrize(
    ("ids", "folds"), [([0, 1], 2), ([0, 0, 0], 3), ([0, 1, 2, 0], 2), ([3, 1, 2] * 5, 15)], ids=str
)
def test_tiny_texts(ids, folds):
    model = saffu.ExplicitLM(windows=(3,), induction=3).fit(ids)
    held_out = HeldOutLogits(model, ids, folds=folds)
    for fold in range(folds):
        np.testing.assert_allclose(np.exp(held_out.logits(fold)).sum(axis=1), 1.0, rtol=1e-5)
        assert held_out.logits(fold, []).shape == (0, max(ids) + 1)
        assert held_out.log_prob(fold, []).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, ids: HeldOutLogits(m, ids[:4], folds=5), ValueError, "folds must be at most the number of tokens"),
        (lambda m, ids: HeldOutLogits(m, [], folds=2), ValueError, "folds must be at most the number of tokens, 0"),
        (lambda m, ids: HeldOutLogits(m, ids, folds=1), ValueError, "folds must be at least 2"),
        (lambda m, ids: HeldOutLogits(m, np.repeat(ids, 2)), ValueError, "more of token 0"),
        (lambda m, ids: HeldOutLogits(m, ids[::-1]).logits(0), ValueError, "must be those that the model has counted"),
        (lambda m, ids: HeldOutLogits(m, ids, unknown=VOCAB_SIZE), ValueError, "unknown must be below"),
        (lambda m, ids: HeldOutLogits("m", ids), TypeError, "model must be an ExplicitLM"),
        (lambda m, ids: HeldOutLogits(saffu.ExplicitLM(), ids), ValueError, "has seen no text"),
        (lambda m, ids: HeldOutLogits(m, ids).positions(10), ValueError, "fold must be below 10"),
        (lambda m, ids: HeldOutLogits(m, ids).text(-1), ValueError, "fold must be at least 0"),
    ],
)
def test_bad_input_is_named(model, training, call, error, message):
    with pytest.raises(error, match=message):
        call(model, training[0])


# ---- logits of any text ----------------------------------------------------------------------------------------------


def test_logits_of_new_text(model):
    ids, documents = text(300, 3), np.array([0, 120])
    logits = model.read(ids, documents=documents).logits()
    assert logits.dtype == np.float32
    assert logits.shape == (300, VOCAB_SIZE)
    np.testing.assert_allclose(logits[np.arange(300), ids], model.log_prob(ids, documents=documents), rtol=0, atol=1e-5)
    positions = [7, 250, 0, 120, 299]
    exact = model.log_probs(ids, positions, documents=documents)
    np.testing.assert_allclose(logits[positions], exact, rtol=0, atol=1e-5)
    for t, found in zip(positions, exact, strict=True):
        p = model.distribution(ids[120 if t >= 120 else 0 : t])
        np.testing.assert_allclose(found, np.log(p), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_updates", [0, 1])
def test_log_probs_behind_the_text(model, n_updates):
    model = copy.deepcopy(model)
    for _ in range(n_updates):  # then the rows of few positions are weighed alone
        model.update(text(40, 4), documents=[0])
    ids = text(60, 5)
    found = model.log_probs(ids, [60, 0, 31], documents=[0, 20, 31])
    for row, seen in zip(found, (ids[31:], ids[:0], ids[:0]), strict=True):
        np.testing.assert_allclose(row, np.log(model.distribution(seen)), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(model.log_probs([], [0]), model.log_probs(ids, [0]))
    assert model.log_probs(ids, []).shape == (0, VOCAB_SIZE)


@pytest.mark.parametrize(
    ("positions", "error", "message"),
    [
        ([61], ValueError, r"positions must be in \[0, 60\], the length of the text, got 61"),
        ([3, -1], ValueError, "got -1"),
        ([0.5], TypeError, "positions must be a vector of integers"),
        ([[1, 2]], TypeError, "positions must be a vector of integers"),
    ],
)
def test_bad_positions_of_log_probs_are_named(model, positions, error, message):
    with pytest.raises(error, match=message):
        model.log_probs(text(60, 5), positions)


def test_logits_of_a_wide_vocabulary():
    """More words than one tile of the kernel, the last block cut."""
    ids = np.random.default_rng(0).zipf(1.2, 4000) % 2345
    model = saffu.ExplicitLM(**SETTINGS).fit(ids, vocab_size=2345)
    found = model.log_probs(ids, [3999])[0]
    np.testing.assert_allclose(found, np.log(model.distribution(ids[:3999])), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("positions", "out", "error", "message"),
    [
        ([300], None, ValueError, "positions must be among those of this text, but 300 is not"),
        ([-1], None, ValueError, "but -1 is not"),
        ([0.5], None, TypeError, "positions must be a vector of integers"),
        ([[1, 2]], None, TypeError, "positions must be a vector of integers"),
        ([1], np.empty((2, VOCAB_SIZE)), ValueError, "out must be"),
        ([1], np.empty((1, VOCAB_SIZE), np.float16), ValueError, "out must be"),
        ([1, 2], np.empty((VOCAB_SIZE, 2)).T, ValueError, "out must be"),
        ([1], [[0.0] * VOCAB_SIZE], ValueError, "got list"),
    ],
)
def test_bad_positions_and_buffers_are_named(model, positions, out, error, message):
    with pytest.raises(error, match=message):
        model.read(text(300, 3)).logits(positions, out)


def test_a_position_of_another_fold_is_refused(held_out):
    with pytest.raises(ValueError, match="positions must be among those of this text"):
        held_out.logits(0, held_out.positions(1)[:1])

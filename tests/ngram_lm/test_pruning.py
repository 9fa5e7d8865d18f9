"""Pruned models: rows that still sum to one, the chosen entries, targets that are met, files, and what is refused."""

import pickle

import numpy as np
import pytest

import saffu
from helpers.made_up import told_by_two
from saffu.ngram_lm import HeldOutLogits, priming
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.pruned_text import compact_tables, rounded
from saffu.ngram_lm.pruning import EVERYTHING, search
from saffu.ngram_lm.row_pruning import RowPruner, TableScalars, expected_loss, needed_entries
from saffu.ngram_lm.weights import NgramWeights
from saffu.text import Vocabulary
from saffu.utils.streams import TokenStream

VOCAB_SIZE = 23
STARTS = np.array([0, 700, 705, 1900])
SETTINGS = {"radius": 2, "order": 4, "windows": (20,), "induction": 0}
PRIMINGS = ("k-fold", "leave-one-out", "kneser-ney", "unit")


def text(n, seed):
    return told_by_two(n, seed, VOCAB_SIZE, 0.4, drift=500).astype(np.int64)


@pytest.fixture(scope="module", autouse=True)
def few_folds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(priming, "FOLDS", 3)
        yield


@pytest.fixture(scope="module")
def models(few_folds):
    """A model of each priming, and what is left of it."""
    found = {}
    for name in PRIMINGS:
        exact = saffu.ExplicitLM(**SETTINGS, priming=name).fit(text(3000, 0), documents=STARTS, vocab_size=VOCAB_SIZE)
        found[name] = exact, exact.pruned(threshold=0.05)
    return found


@pytest.fixture(scope="module")
def new():
    return text(300, 1)


def weights_of(continuation):
    counts = NgramCounts(VOCAB_SIZE, 2, 4).of_stream(TokenStream.of(text(3000, 0), STARTS))
    return NgramWeights(counts, continuation, 1)


def pruner_of(scalar, continuation=False):
    weights = weights_of(continuation)
    scalars = np.full(len(weights.tables), scalar)
    return RowPruner(weights, TableScalars(scalars, scalars))


def word(table, context):
    """Weights of a row over all words."""
    row = np.zeros(VOCAB_SIZE)
    span = slice(*table.counts.indptr[context : context + 2])
    row[table.counts.indices[span]] = table.u[span]
    return row


# ---- the entries that go, and the rows that are left -----------------------------------------------------------------


def test_expected_loss_is_the_relative_entropy_of_a_word_or_not():
    p, d = np.array([0.01, 0.3, 0.8, 0.5]), np.array([2.0, -1.0, 3.0, 0.0])
    after = p * np.exp(-d) / (1 - p + p * np.exp(-d))
    naive = p * np.log(p / after) + (1 - p) * np.log((1 - p) / (1 - after))
    np.testing.assert_allclose(expected_loss(p, d), naive, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("continuation", [False, True])
def test_nothing_changes_at_threshold_zero(continuation):
    pruner = pruner_of(0.4, continuation)
    for before, after in zip(pruner.weights.tables, pruner.tables(0.0), strict=True):
        np.testing.assert_array_equal(after.u, before.u)
        np.testing.assert_array_equal(after.total, before.total)


@pytest.mark.parametrize("threshold", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("continuation", [False, True])
def test_rows_of_the_suffix_chain_still_sum_to_one(threshold, continuation):
    """With scalars of one the chain is Stolcke's: kept entries keep their probability, the rest falls back.

    A distribution that sums to one is built anew for every row, from the shortest contexts on.
    """
    pruner = pruner_of(1.0, continuation)
    before, after = pruner.weights.tables, pruner.tables(threshold)
    assert any((new.u == 0)[old.u != 0].any() for old, new in zip(before, after, strict=True))
    old_rows, new_rows = [pruner.weights.continuation] * VOCAB_SIZE, [pruner.weights.continuation] * VOCAB_SIZE
    old_rows, new_rows = [old_rows[0]] * (VOCAB_SIZE + 1), [new_rows[0]] * (VOCAB_SIZE + 1)
    shorter = np.zeros(VOCAB_SIZE + 1, int)  # the row below of each row; that of a single token is the prior
    checked = 0
    for j in (0, 2, 3):
        old, new, lower_old, lower_new = before[j], after[j], old_rows, new_rows
        old_rows, new_rows = [], []
        for context in range(old.total.size):
            q, new_q = lower_old[shorter[context]], lower_new[shorter[context]]
            p, new_p = (below * np.exp(word(table, context)) for below, table in ((q, old), (new_q, new)))
            p, new_p = p / p.sum(), new_p / new_p.sum()
            kept = word(new, context) != 0
            np.testing.assert_allclose(new_p[kept], p[kept], rtol=1e-8)
            checked += int(kept.any() and not kept.all())
            old_rows.append(p)
            new_rows.append(new_p)
        row_of_entry = np.repeat(np.arange(old.total.size), np.diff(old.counts.indptr))
        # The context of row r of the next table is entry r; without its oldest token it is this entry a table below.
        parents = pruner._parents[j]
        shorter = parents if j else old.counts.indices
        assert row_of_entry.size == shorter.size
    assert checked > 20


def test_dropping_everything_leaves_nothing():
    pruner = pruner_of(0.4)
    tables = compact_tables(pruner.tables(EVERYTHING), 2)
    assert sum(table.u.size for table in tables) == 0
    assert not any(table.total.any() for table in tables)


def test_the_larger_the_threshold_the_fewer_entries():
    pruner = pruner_of(0.4)
    sizes = [sum(int(n.sum()) for n in needed_entries(pruner.tables(t), 2)) for t in (0, 0.01, 0.1, 1, 10, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pruner.n_entries or weights_of(False).tables[0].counts.data.min() == 0
    assert len(set(sizes)) > 3


def test_entries_of_small_scalars_go_first():
    weights = weights_of(False)
    small, large = 0.05, 0.8
    scalars = np.array([large, small, large, large])
    tables = RowPruner(weights, TableScalars(scalars, scalars)).tables(0.3)
    left = [np.count_nonzero(table.u) / table.u.size for table in tables]
    assert left[1] < 0.1 < left[0]


def test_visits_are_the_share_of_positions_with_a_context():
    pruner = pruner_of(0.4)
    for visits, table in zip(pruner.visits[:2], pruner.weights.tables, strict=False):
        np.testing.assert_allclose(visits, table.total / table.total.sum(), atol=2e-3)
    for visits in pruner.visits[2:]:
        assert visits.min() > 0
        assert visits.sum() < 1


@pytest.mark.parametrize("step", [0.0, 1 / 16, 1.0])
def test_compact_tables_find_the_same_entries(new, step):
    pruner = pruner_of(0.5)
    loose = pruner.weights.with_tables(rounded(pruner.tables(0.2), step))
    priors = pruner.weights.unigram, pruner.weights.continuation
    tight = NgramWeights.of_tables(compact_tables(loose.tables, 2), 2, priors, 3, 1)
    stream = TokenStream.of(new)
    rows, tight_rows = loose.contexts(stream), tight.contexts(stream)
    np.testing.assert_array_equal(rows >= 0, tight_rows >= 0)
    np.testing.assert_array_equal(loose.target_u(rows, stream.ids), tight.target_u(tight_rows, stream.ids))
    assert sum(t.u.size for t in tight.tables) < sum(t.u.size for t in loose.tables)


# ---- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_the_search_comes_close_from_below(power, scale):
    calls = []
    found = search(lambda x: calls.append(x) or (x / scale) ** power, first=1.0)
    assert 0.9 <= (found / scale) ** power <= 1.0
    assert len(calls) <= 12


def test_the_search_ends_where_there_is_no_end():
    calls = []
    assert search(lambda x: calls.append(x) or 0.5, first=1.0) > 1.0
    assert len(calls) < 4
    assert search(lambda x: 2.0, first=1.0) == 0.0


def test_the_loss_is_at_most_what_was_asked_for(models):
    exact, _ = models["k-fold"]
    losses, sizes = [], []
    for most in (0.002, 0.02):
        model = exact.pruned(max_loss=most)
        losses.append(model.pruning["loss"])
        sizes.append(model.summary()["n_entries"])
        assert model.pruning["loss"] <= most
        before, after = model.pruning["criterion"]
        assert np.expm1(after - before) == pytest.approx(model.pruning["loss"])
    assert losses[0] < losses[1]
    assert sizes[1] < sizes[0] < exact.summary()["n_entries"]


def test_the_file_is_at_most_as_large_as_was_asked_for(models, tmp_path):
    exact, _ = models["k-fold"]
    sizes = []
    for size in (8_000, 11_000):
        exact.pruned(target_size=size).save(tmp_path / "model")
        sizes.append((tmp_path / "model").stat().st_size)
        assert 0.5 * size < sizes[-1] <= size
    assert sizes[0] < sizes[1]


def test_everything_goes_where_it_may():
    ids = np.random.default_rng(0).integers(0, 9, 2000)
    exact = saffu.ExplicitLM(radius=2, order=3, windows=(), induction=0).fit(ids, vocab_size=9)
    model = exact.pruned(max_loss=1.0)
    assert model.summary()["n_entries"] == 0
    pooled = model.solution.pooled
    alpha, beta = model.solution.scalars[pooled.states(np.full((3, 1), -1, np.int32))[0]][:2]
    prior = pooled.weights.unigram**alpha * pooled.weights.continuation**beta
    np.testing.assert_allclose(model.distribution([3, 4]), prior / prior.sum(), rtol=1e-9)


# ---- a pruned model as a model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("priming", PRIMINGS)
def test_all_answers_agree(models, new, priming):
    _, model = models[priming]
    log_prob = model.log_prob(new)
    assert model.summary()["n_entries"] < models[priming][0].summary()["n_entries"]
    rows = model.log_probs(new, np.arange(new.size))
    np.testing.assert_allclose(rows[np.arange(new.size), new], log_prob, atol=2e-6)  # float32 against float64
    np.testing.assert_allclose(model.read(new).log_prob(), log_prob, atol=1e-12)
    distribution = model.distribution(new[:100])
    assert distribution.sum() == pytest.approx(1.0)
    assert np.log(distribution[new[100]]) == pytest.approx(log_prob[100])
    assert model.perplexity(new) == pytest.approx(np.exp(-log_prob.mean()))
    assert list(model.generate(new[:5], 10, seed=1)) == list(model.generate(new[:5], 10, seed=1))
    assert model.n_tokens == 3000
    assert model.prime() is model


@pytest.mark.parametrize("priming", PRIMINGS)
def test_files_and_copies_answer_with_the_same_bits(models, new, priming, tmp_path):
    _, model = models[priming]
    model.save(tmp_path / "model")
    loaded = saffu.load(tmp_path / "model")
    loaded.save(tmp_path / "again")
    for copy in (loaded, saffu.load(tmp_path / "again"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.log_prob(new), model.log_prob(new))
        assert copy.pruning == model.pruning
        assert copy.scalars == model.scalars
        assert repr(copy) == repr(model)
        assert copy.summary() == model.summary()
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_a_threshold_of_zero_keeps_the_model(models, new):
    exact, _ = models["k-fold"]
    model = exact.pruned(threshold=0.0)
    assert model.summary()["features"] == exact.summary()["features"]
    assert abs(model.pruning["loss"]) < 1e-6
    np.testing.assert_allclose(model.log_prob(new), exact.log_prob(new), atol=1e-5)


def test_bits_do_not_depend_on_threads(models, new):
    exact, _ = models["k-fold"]
    found = []
    for n_threads in (1, 3):
        exact.n_threads = n_threads
        model = exact.pruned(max_loss=0.01)
        found.append((model.pruning, model.scalars, model.log_prob(new).tolist()))
    exact.n_threads = None
    assert found[0] == found[1]


def test_the_model_itself_stays_as_it_is(models, new):
    exact, _ = models["unit"]
    before = exact.log_prob(new)
    exact.pruned(threshold=1.0)
    np.testing.assert_array_equal(exact.log_prob(new), before)
    assert exact.pruning is None
    assert "pruning" not in exact.summary()


def test_the_vocabulary_and_settings_are_kept(models):
    class Mine(saffu.ExplicitLM):
        pass

    model = Mine(**SETTINGS, n_threads=1).fit(text(3000, 0), vocab_size=VOCAB_SIZE)
    model.vocabulary = Vocabulary([str(i) for i in range(VOCAB_SIZE - 2)])  # and two that all vocabularies have
    smaller = model.pruned(threshold=0.1)
    assert type(smaller) is Mine
    assert smaller.vocabulary == model.vocabulary
    assert smaller.n_threads == 1
    assert repr(smaller) == repr(model)


def test_fitting_forgets_that_it_was_pruned(models, new):
    _, pruned = models["k-fold"]
    again = pickle.loads(pickle.dumps(pruned)).fit(text(3000, 0), documents=STARTS, vocab_size=VOCAB_SIZE)
    np.testing.assert_array_equal(again.log_prob(new), models["k-fold"][0].log_prob(new))
    assert again.pruning is None


# ---- what is refused -------------------------------------------------------------------------------------------------

NEEDS_COUNTS = {
    "partial_fit": lambda pruned, exact: pruned.partial_fit([0, 1]),
    "update": lambda pruned, exact: pruned.update([0, 1]),
    "subtract": lambda pruned, exact: pruned.subtract([0, 1]),
    "merge": lambda pruned, exact: pruned.merge(exact),
    "merge into": lambda pruned, exact: exact.merge(pruned),
    "merge into an empty one": lambda pruned, exact: saffu.ExplicitLM(**SETTINGS).merge(pruned),
    "grow": lambda pruned, exact: pruned.grow(order=5),
    "grow on text": lambda pruned, exact: pruned.grow([0, 1], order=5),
    "prune": lambda pruned, exact: pruned.pruned(),
    "counts": lambda pruned, exact: pruned.counts,
    "held-out logits": lambda pruned, exact: HeldOutLogits(pruned, np.arange(20)),
}


@pytest.mark.parametrize("action", NEEDS_COUNTS)
def test_what_needs_counts_names_the_remedy(models, new, action):
    exact, pruned = models["k-fold"]
    before = exact.log_prob(new)
    with pytest.raises(
        ValueError, match=r"a pruned model keeps no counts.*do that with the model that it was made from"
    ):
        NEEDS_COUNTS[action](pruned, exact)
    np.testing.assert_array_equal(exact.log_prob(new), before)
    pruned.log_prob(new)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (
            {"max_loss": 0.1, "threshold": 1.0},
            ValueError,
            "one of max_loss, target_size and threshold .*max_loss and thr",
        ),
        ({"max_loss": 0.0}, ValueError, "max_loss must be"),
        ({"max_loss": -1.0}, ValueError, "max_loss must be"),
        ({"max_loss": "much"}, (ValueError, TypeError), "max_loss must be"),
        ({"threshold": -1.0}, ValueError, "threshold must be"),
        ({"threshold": float("nan")}, ValueError, "threshold must be"),
        ({"target_size": 0}, ValueError, "target_size must be"),
        ({"target_size": 1.5}, TypeError, "target_size must be"),
        ({"target_size": 100}, ValueError, "target_size must be at least .* got 100"),
    ],
)
def test_bad_targets_are_named(models, targets, error, message):
    with pytest.raises(error, match=message):
        models["k-fold"][0].pruned(**targets)


def test_models_without_text_are_refused():
    with pytest.raises(ValueError, match="has seen no text"):
        saffu.ExplicitLM().pruned()

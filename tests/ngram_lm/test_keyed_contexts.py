"""Pairs of tokens that skip some, the present word, and the place in a line, as contexts of an ExplicitLM."""

import copy
import functools
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

import saffu
from helpers import reference
from helpers.made_up import told_by_two
from saffu.ngram_lm import context_selection
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.ngram_lm.keyed_contexts import LONGEST_LINE, LONGEST_STRING, KeyedContexts
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils.streams import TokenStream

V = 14
KEYS = {"skips": ((1, 3), (2, 3), (2, 4)), "words": 2, "delimiters": [3, 4], "line_ends": [5]}
SETTINGS = {"radius": 3, "order": 4, "windows": (9, 30), "induction": 0, "n_threads": 1, **KEYS}
IDS = told_by_two(3000, 0, V, 0.4)
DOCUMENTS = np.array([0, 1, 2, 150, *range(300, 3000, 150)])
NEW, NEW_DOCUMENTS = told_by_two(400, 1, V, 0.4), np.array([0, 1, 130])


@functools.cache
def _fitted():
    return saffu.ExplicitLM(**SETTINGS).fit(IDS, vocab_size=V, documents=DOCUMENTS)


def fitted():
    return copy.deepcopy(_fitted())


def model_of(ids, documents):
    return saffu.ExplicitLM(**SETTINGS).fit(ids, vocab_size=V, documents=documents)


def naive_contexts(document, keys):
    """For each position the name of its context, None for none, by the column of the context."""
    for t in range(len(document)):
        found = [(document[t - a], document[t - b]) if t >= b else None for a, b in keys.skips]
        begins = [s for s in range(t + 1) if s == 0 or document[s - 1] in keys.delimiters]
        line = max(s for s in range(t + 1) if s == 0 or document[s - 1] in keys.line_ends)
        found += [min(t - line, LONGEST_LINE)] if keys.line_ends else []
        for n in range(1, keys.words + 1):
            string = tuple(document[begins[-n] : t]) if len(begins) >= n else None
            found.append(string if string is None or len(string) <= LONGEST_STRING else None)
        yield found


def documents_of(ids, documents):
    return [part.tolist() for part in np.split(ids, documents[1:])]


def naive_counts(ids, documents, keys):
    """Counts of the tokens after each context; the contexts of all words are one table."""
    tables = defaultdict(lambda: defaultdict(Counter))
    for document in documents_of(ids, documents):
        for token, found in zip(document, naive_contexts(document, keys), strict=True):
            for column, name in zip(keys.columns, found, strict=True):
                if name is not None:
                    tables[column][name][token] += 1
    return tables


LONG = np.where(np.arange(3000) % 2999 < 900, np.where(np.isin(IDS, [3, 4, 5]), 6, IDS), IDS)  # long words and lines


@pytest.mark.parametrize("ids", [IDS, LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    "keys",
    [KEYS, {"words": 3, "delimiters": [3]}, {"line_ends": [5, 6]}, {"skips": ((1, 2),)}],
    ids=["all", "words", "lines", "pair"],
)
def test_contexts_counts_and_weights_are_those_of_a_naive_twin(ids, keys):
    settings = {"skips": (), "words": 0, "delimiters": (), "line_ends": ()} | keys
    keys = KeyedContexts.of(**settings)
    counts = NgramCounts(V, 3, 4, 1, keys).of_stream(TokenStream.of(ids, DOCUMENTS))
    weights = NgramWeights(counts, False)
    expected = naive_counts(ids, DOCUMENTS, keys)
    n_near = 3 + 2
    rows = weights.contexts(TokenStream.of(NEW, NEW_DOCUMENTS))[n_near:]
    names = [found for d in documents_of(NEW, NEW_DOCUMENTS) for found in naive_contexts(d, keys)]
    for column, (j, own) in enumerate(zip(keys.columns, rows, strict=True)):
        table, discount = weights.keyed[j], naive_discounts(expected[j])
        np.testing.assert_allclose(table.discounts, discount)
        for t, row in enumerate(own):
            name = names[t][column]
            known = name is not None and name in expected[j]
            assert known == (row >= 0), (t, name)
            if not known:
                continue
            entries = slice(*table.counts.indptr[row : row + 2])
            found = dict(zip(table.counts.indices[entries].tolist(), table.counts.data[entries].tolist(), strict=True))
            assert found == expected[j][name]
            n = table.counts.data[entries]
            taken = np.array([0.0, *discount])[np.minimum(n, 3)]
            lower = weights.unigram[table.counts.indices[entries]]
            if j < len(keys.skips):
                lower = nearer_probability(weights, keys.skips[j][0], name[0], table.counts.indices[entries])
            np.testing.assert_allclose(table.u[entries], np.log1p((n - taken) / (taken.sum() * lower)), rtol=1e-9)


def naive_discounts(table):
    return np.array(reference.discounts([n for row in table.values() for n in row.values()])[1:])


def nearer_probability(weights, distance, token, words):
    """The probabilities of words after the token at a distance, interpolated with unigrams."""
    table = weights.distance[distance - 1]
    n = table.counts[[token]].toarray()[0]
    taken = np.array([0.0, *table.discounts])[np.minimum(n, 3)]
    lower = weights.continuation if distance == 1 else weights.unigram
    return ((n - taken + taken.sum() * lower) / n.sum())[words]


def test_every_answer_is_the_same_and_sums_to_one():
    model, text = fitted(), fitted().read(NEW, documents=NEW_DOCUMENTS)
    positions = np.array([0, 1, 2, 3, 129, 130, 131, 300, 399])
    log_prob = model.log_prob(NEW, documents=NEW_DOCUMENTS)
    rows = model.log_probs(NEW, positions, documents=NEW_DOCUMENTS)
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows[np.arange(positions.size), NEW[positions]], log_prob[positions], atol=1e-5)
    np.testing.assert_array_equal(text.log_prob(positions), log_prob[positions])
    np.testing.assert_allclose(text.logits(positions), rows, atol=2e-6)
    for position, row in zip(positions, rows, strict=True):
        begin = NEW_DOCUMENTS[position >= NEW_DOCUMENTS].max()
        found = model.distribution(NEW[begin:position])
        np.testing.assert_allclose(np.log(found), row, atol=1e-9)
    np.testing.assert_allclose(model.distribution(NEW[130:400]), model.distribution(NEW[400 - model.history : 400]))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_bits_do_not_depend_on_threads_or_chunks(n_threads):
    model = saffu.ExplicitLM(**SETTINGS | {"n_threads": n_threads})
    cuts = [0, 1, 3, 90, 155, 160, 777, 3000]
    for first, last in pairwise(cuts):
        starts = np.intersect1d(DOCUMENTS, np.arange(first, last)) - first
        model.partial_fit(IDS[first:last], vocab_size=V, documents=starts)
        model.counted.count_waiting(None, progress=False)
    for found, expected in zip(model.counts.tables, fitted().counts.tables, strict=True):
        np.testing.assert_array_equal(found.indptr, expected.indptr)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(model.log_prob(NEW), fitted().log_prob(NEW))


def test_update_and_subtract_are_exact_with_rows_alone_too():
    model = model_of(IDS[:2700], DOCUMENTS[:-2]).update(IDS[2700:2820], documents=[0]).update(IDS[2820:])
    cut = DOCUMENTS[DOCUMENTS != 2850]
    whole = model_of(IDS, cut)
    whole.solution.take(whole.solution.solved()[0].weights, model.solution.bounds, model.solution.primed_scalars())
    context = NEW[:40]
    found = model.distribution(context)
    assert model.solution.pooled is None  # its rows were weighed alone
    np.testing.assert_array_equal(found, whole.distribution(context))
    np.testing.assert_array_equal(model.log_prob(NEW), whole.log_prob(NEW))
    np.testing.assert_array_equal(model.prime().log_prob(NEW), model_of(IDS, cut).log_prob(NEW))
    model.subtract(IDS[300:600], documents=[0, 150])
    found = model.distribution(context)
    assert model.solution.pooled is None
    kept = np.r_[0:300, 600:3000]
    rest = model_of(IDS[kept], np.array([0, 1, 2, 150, *(d - 300 for d in cut if d >= 600)]))
    np.testing.assert_array_equal(model.prime().log_prob(NEW), rest.log_prob(NEW))


def test_merging_and_files(tmp_path):
    parts = [model_of(IDS[a:b], np.arange(0, b - a, 150)) for a, b in ((300, 1500), (1500, 3000))]
    whole = model_of(IDS[300:], np.arange(0, 2700, 150))
    merged = parts[1].merge(parts[0])
    np.testing.assert_array_equal(merged.log_prob(NEW), whole.log_prob(NEW))
    merged.save(tmp_path / "model")
    again = saffu.load(tmp_path / "model")
    assert again.summary() == merged.summary()
    assert again.summary()["features"]["word 2"] == again.summary()["features"]["word 1"]
    np.testing.assert_array_equal(again.log_prob(NEW), whole.log_prob(NEW))
    assert list(again.generate([1], 20, seed=3)) == list(whole.generate([1], 20, seed=3))
    made = saffu.ExplicitLM.from_counts(
        whole.counts, sample=whole.counted.sample, windows=SETTINGS["windows"], induction=0
    )
    np.testing.assert_array_equal(made.log_prob(NEW), whole.log_prob(NEW))
    with pytest.raises(ValueError, match="equal settings"):
        whole.merge(saffu.ExplicitLM(**SETTINGS | {"words": 1}).fit(IDS, vocab_size=V))


def test_held_out_logits_and_growth():
    model = fitted()
    held_out = HeldOutLogits(model, IDS, documents=DOCUMENTS, folds=5)
    assert np.isfinite(held_out.log_prob(1)).all()
    larger = model.grow(order=5)
    assert larger.contexts.keys == model.contexts.keys
    np.testing.assert_allclose(larger.log_prob(NEW), model.log_prob(NEW), atol=1e-6)


def words_in_lines(n, seed):
    """Words of letters 2-9, each spelled in one way after the first two letters, in lines of six; 0 and 1 end them."""
    rng = np.random.default_rng(seed)
    spelled = np.random.default_rng(0).integers(2, 10, (60, 7))
    lines = [np.concatenate([np.append(w, 0) for w in spelled[rng.integers(0, 60, 6)]] + [[1]]) for _ in range(n)]
    return np.concatenate(lines)


@pytest.mark.parametrize(
    "keys", [{"words": 1, "delimiters": [0, 1]}, {"line_ends": [1]}, {"skips": ((1, 3),)}], ids=["word", "line", "pair"]
)
def test_they_lower_perplexity_where_text_has_what_they_see(keys):
    near = {"radius": 3, "order": 2, "windows": (), "induction": 0, "n_threads": 1}
    found, plain = (
        saffu.ExplicitLM(**near, **more).fit(words_in_lines(150, 1), vocab_size=10).perplexity(words_in_lines(40, 2))
        for more in (keys, {})
    )
    assert found < 0.97 * plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"skips": [(1, 1)]}, "skips must be"),
        ({"skips": [(1, 5)]}, "within the radius"),
        ({"skips": [(1, 2, 3)]}, "skips must be pairs"),
        ({"skips": [(1, 2), (1, 2)]}, "different pairs"),
        ({"words": 2}, "delimiters must be given"),
        ({"words": 99, "delimiters": [1]}, "words must be"),
        ({"line_ends": [-1]}, "line_ends"),
        ({"line_ends": [1], "priming": "unit"}, "priming='k-fold'"),
        ({"line_ends": [1], "memory_limit": "1G"}, "memory_limit"),
        ({"line_ends": [1], "min_entry": (1, 2)}, "min_entry"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        saffu.ExplicitLM(radius=3, **settings)


def test_pruning_is_refused():
    with pytest.raises(ValueError, match="cannot be pruned"):
        fitted().pruned()


# ---- selection -------------------------------------------------------------------------------------------------------


def test_only_contexts_that_pay_are_selected(tmp_path):
    keys = {"skips": ((1, 3), (2, 3)), "words": 2, "delimiters": [0, 1], "line_ends": [1]}
    settings = {"radius": 3, "order": 3, "windows": (20,), "induction": 0, "n_threads": 1}
    text, new = words_in_lines(300, 1), words_in_lines(40, 2)
    model = saffu.ExplicitLM(**settings, **keys).fit(text, vocab_size=10)
    found = model.select()
    paying = {name: value for name, value in keys.items() if name != "skips"}
    assert found.contexts.keys.settings() == paying
    assert model.contexts.keys.settings().keys() == keys.keys()
    expected = saffu.ExplicitLM(**settings, **paying).fit(text, vocab_size=10)
    np.testing.assert_array_equal(found.log_prob(new), expected.log_prob(new))
    np.testing.assert_array_equal(found.update(new).prime().log_prob(new), expected.update(new).prime().log_prob(new))
    found.save(tmp_path / "model")
    again = saffu.load(tmp_path / "model")
    assert again.summary()["growth"][0]["kind"] == "selection"
    assert again.summary()["words"] == 2
    same = expected.select()
    assert same.contexts == expected.contexts
    np.testing.assert_array_equal(same.log_prob(new), expected.log_prob(new))


def test_none_is_selected_where_nothing_can_be_known():
    ids = np.random.default_rng(0).integers(0, 10, 8000)
    settings = {"radius": 3, "order": 3, "windows": (20,), "induction": 0, "n_threads": 1}
    model = saffu.ExplicitLM(**settings, skips=((1, 3),), words=1, delimiters=[0], line_ends=[1]).fit(ids)
    assert not model.select().contexts.keys


def test_what_is_left_of_a_quadratic_without_some_variables():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 5, 5))
    hessian, theta, group = root @ root.transpose(0, 2, 1) + np.eye(5), rng.normal(size=(3, 5)), np.array([1, 4])
    left, own = context_selection.without(theta, hessian, group)
    rest, moved = [0, 2, 3], np.zeros((3, 5))
    moved[:, rest] = left
    away = moved - theta
    np.testing.assert_allclose((hessian @ away[..., None])[:, rest, 0], 0.0, atol=1e-12)  # the best of the rest
    expected = 0.5 * np.einsum("si,sij,sj", away, hessian, away)
    np.testing.assert_allclose(context_selection.gain(theta, hessian, group), expected)
    np.testing.assert_array_equal(own, hessian[:, rest][:, :, rest])

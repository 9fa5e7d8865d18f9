"""The explicit language model against its equations, and its life: chunks, merges, files, bad input."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from helpers import reference
from helpers.made_up import told_by_two
from saffu.explicit.discounting import discounts
from saffu.ngram_lm import text_sample_files as sample_files
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.log_linear import PooledModel
from saffu.ngram_lm.weights import NgramWeights
from saffu.utils.streams import TokenStream

VOCAB_SIZE = 23


def text(n, seed, vocab_size=VOCAB_SIZE):
    return told_by_two(n, seed, vocab_size, 0.4, drift=500).astype(np.int64)


@pytest.fixture(scope="module")
def stream():
    return text(3000, 0), np.array([0, 700, 705, 1900])


@pytest.fixture(scope="module")
def held_out():
    return text(300, 1), np.array([0, 120])


# ---- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4])
def test_kneser_ney_equals_the_textbook(order):
    ids, new = text(4000, 2), text(400, 3)
    model = saffu.ExplicitLM(order=order, windows=(), induction=0, priming="kneser-ney").fit(ids, vocab_size=VOCAB_SIZE)
    naive = reference.KneserNey(ids, order)
    np.testing.assert_allclose(model.log_prob(new), naive.log_prob(new), rtol=0, atol=1e-9)


def test_kneser_ney_is_a_special_case_of_the_scalars(stream):
    """alpha = 0, beta = 1, lambda = 1 on the suffix chain and 0 elsewhere, over continuation counts."""
    ids, _ = stream
    weights = NgramWeights(NgramCounts(VOCAB_SIZE, 3, 4).of_stream(TokenStream.of(ids)), True)
    model = PooledModel(weights, (50,), 40)
    scalars = np.array([[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    new, start = text(200, 4).astype(np.int32), np.array([0])
    rows = weights.contexts(TokenStream(new, start))
    batch = model.batch(TokenStream(new, start), np.arange(new.size), rows, model.states(rows))
    textbook = saffu.ExplicitLM(order=4, priming="kneser-ney").fit(ids, vocab_size=VOCAB_SIZE)
    np.testing.assert_allclose(model.pool(scalars).log_prob(batch, 1), textbook.log_prob(new), rtol=0, atol=1e-10)


# ---- the pooled softmax against its dense twin -----------------------------------------------------------------------


def dense_twin(model, ids, documents):
    names = [("distance", k + 1) for k in range(model.radius)] + [("suffix", n) for n in range(2, model.order)]
    weights = model.solution.solved()[0].weights
    found = {name: table.discounts for name, table in zip(names, weights.tables, strict=True)}
    return reference.DenseExplicitLM(
        ids, documents, model.vocab_size, model.radius, model.order, model.windows, model.induction, found
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"priming": "unit"},
        {"priming": "k-fold", "radius": 3, "windows": (7, 30), "induction": 25},
        {"priming": "leave-one-out", "radius": 2, "order": 3, "windows": (), "induction": 11},
        {"priming": "k-fold", "radius": 1, "order": 2, "windows": (1,), "induction": 0},
    ],
)
def test_log_prob_and_distribution_equal_the_dense_twin(stream, held_out, settings):
    (ids, documents), (new, new_documents) = stream, held_out
    model = saffu.ExplicitLM(**settings).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    twin = dense_twin(model, ids, documents)
    log_prob = model.log_prob(new, documents=new_documents)
    pooled, scalars = model.solution.solved()
    for t in range(len(new)):
        start = max(d for d in new_documents if d <= t)
        state = 0 if pooled.bounds is None else twin.state(new, t, start, pooled.bounds)
        expected = reference.log_softmax((scalars[state] @ twin.features(new, t, start))[None])[0]
        assert log_prob[t] == pytest.approx(expected[new[t]], abs=reference.FLOAT_ROWS)
        if t % 25 == 0:
            p = model.distribution(new[start:t])
            assert abs(p.sum() - 1) < 1e-9
            np.testing.assert_allclose(np.log(p), expected, rtol=0, atol=reference.FLOAT_ROWS)


@pytest.mark.kernels
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 17, 40]), st.sampled_from([1, 2, 3]))
def test_derivatives_equal_moments_of_the_dense_features(seed, vocab_size, n_threads):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab_size, 80).astype(np.int32)
    documents = np.array([0, 33])
    radius, order, windows, induction = 2, 4, (4, 9), 12
    weights = NgramWeights(
        NgramCounts(vocab_size, radius, order, 1).of_stream(TokenStream(ids, documents)), False, n_threads
    )
    model = PooledModel(weights, windows, induction, bounds=np.array([3.0, 1.0, 1.0]))
    scalars = rng.normal(0.3, 0.5, (model.n_states, 2 + len(weights.tables) + 3))
    rows = weights.contexts(TokenStream(ids, documents))
    positions = np.sort(rng.choice(ids.size, 30, replace=False))
    rows = np.ascontiguousarray(rows[:, positions])
    target_u = rng.normal(1.0, 1.0, rows.shape)  # any values: the kernel must take the target's as told
    states = model.states(rows)
    batch = model.batch(TokenStream(ids, documents), positions, rows, states, target_u)
    log_prob, gradient, hessian = model.pool(scalars, weights.pack(np.float64)).derivatives(batch, True, n_threads)
    names = [("distance", 1), ("distance", 2), ("suffix", 2), ("suffix", 3)]
    twin = reference.DenseExplicitLM(
        ids, documents, vocab_size, radius, order, windows, induction,
        {name: table.discounts for name, table in zip(names, weights.tables, strict=True)},
    )  # fmt: skip
    expected_gradient, expected_hessian = np.zeros_like(gradient), np.zeros_like(hessian)
    for i, t in enumerate(positions):
        x = twin.features(ids, t, 33 if t >= 33 else 0)
        x[2 : 2 + len(names), ids[t]] = np.where(rows[:, i] >= 0, target_u[:, i], 0.0)
        log_p = reference.log_softmax((scalars[states[i]] @ x)[None])[0]
        p = np.exp(log_p)
        mean = x @ p
        assert log_prob[i] == pytest.approx(log_p[ids[t]], abs=1e-9)
        expected_gradient[states[i]] += mean - x[:, ids[t]]
        expected_hessian[states[i]] += (x * p) @ x.T - np.outer(mean, mean)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(hessian, expected_hessian, rtol=1e-9, atol=1e-8)


def test_leave_one_out_weights_are_those_of_the_smaller_counts(stream):
    """Against counts from which the pair was really taken, with the discounts held."""
    ids, documents = stream[0][:400].astype(np.int32), np.array([0])
    weights = NgramWeights(NgramCounts(VOCAB_SIZE, 2, 4).of_stream(TokenStream(ids, documents)), False)
    rows = np.ascontiguousarray(weights.contexts(TokenStream(ids, documents))[:, 5:])
    targets = ids[5:]
    kept, target_u = weights.leave_one_out(rows, targets)
    for i in range(0, targets.size, 7):
        lower = weights.continuation[targets[i]]
        for j, table in enumerate(weights.tables):
            row = rows[j, i]
            counts = table.counts.toarray()[row].astype(float)
            counts[targets[i]] -= 1
            d = np.array([0.0, *table.discounts])[np.minimum(counts, 3).astype(int)]
            q = weights.unigram[targets[i]] if j == 1 else lower
            if counts.sum() == 0:
                assert kept[j, i] == -1
                continue
            left = counts[targets[i]] - d[targets[i]]
            assert target_u[j, i] == pytest.approx(np.log1p(left / (d.sum() * q)), rel=1e-9, abs=1e-12)
            if j != 1:
                lower = (left + d.sum() * q) / counts.sum()


@pytest.mark.kernels
def test_bits_do_not_depend_on_threads(stream, held_out):
    fits = [
        saffu.ExplicitLM(windows=(60, 500), n_threads=n).fit(stream[0], vocab_size=VOCAB_SIZE, documents=stream[1])
        for n in (1, 2, 3, 7)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(fits[0].solution.scalars, other.solution.scalars)
        np.testing.assert_array_equal(
            fits[0].log_prob(held_out[0], documents=held_out[1]), other.log_prob(held_out[0], documents=held_out[1])
        )


# ---- priming ---------------------------------------------------------------------------------------------------------


def test_priming_beats_its_special_cases(stream):
    ids, documents = stream
    new = text(1500, 9)
    perplexity = {
        priming: saffu.ExplicitLM(windows=(50,), induction=0, priming=priming)
        .fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
        .perplexity(new)
        for priming in ("k-fold", "leave-one-out", "kneser-ney", "unit")
    }
    assert perplexity["k-fold"] < perplexity["unit"]
    assert perplexity["leave-one-out"] < perplexity["unit"]
    assert perplexity["k-fold"] < perplexity["kneser-ney"] * 1.01


def test_discounts_of_a_known_table():
    counts = np.array([1] * 50 + [2] * 20 + [3] * 10 + [4] * 5 + [9])
    shared = 50 / 90
    np.testing.assert_allclose(
        discounts(counts), [1 - 2 * shared * 20 / 50, 2 - 3 * shared * 10 / 20, 3 - 4 * shared * 5 / 10]
    )


@pytest.mark.parametrize("counts", [[], [1], [7, 7], [1, 1, 1], [2, 3], [1, 2, 3, 4], [1] * 5 + [2] * 90])
def test_discounts_of_small_tables_free_some_mass(counts):
    found = discounts(np.array(counts, np.int64))
    assert (found > 0).all()
    assert (found <= [1, 2, 3]).all()


# ---- chunks, merges, files -------------------------------------------------------------------------------------------


def equal_counts(a, b):
    assert a.n_tokens == b.n_tokens
    np.testing.assert_array_equal(a.unigram, b.unigram)
    for one, other in zip([*a.distance, *a.suffix], [*b.distance, *b.suffix], strict=True):
        np.testing.assert_array_equal(one.indptr, other.indptr)
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.data, other.data)


@given(
    st.lists(st.integers(0, 3000), max_size=8),
    st.sampled_from([dict(radius=5, order=4), dict(radius=1, order=2), dict(radius=2, order=5)]),
)
def test_partial_fit_in_any_chunking_equals_fit(cuts, shape):
    ids, documents = text(3000, 0), np.array([0, 700, 705, 1900])
    whole = saffu.ExplicitLM(**shape).partial_fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    parts = saffu.ExplicitLM(**shape)
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(ids)], strict=True):
        inside = documents[(documents >= first) & (documents < last)] - first
        parts.partial_fit(ids[first:last], vocab_size=VOCAB_SIZE, documents=inside)
    equal_counts(whole.counts, parts.counts)
    (one, facts), (other, others) = sample_files.write(whole.counted.sample), sample_files.write(parts.counted.sample)
    assert facts == others
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("order_of_merging", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_merge_in_any_order_equals_fit(stream, order_of_merging):
    ids, _ = stream
    pieces = [ids[:1000], ids[1000:1100], ids[1100:]]
    whole = saffu.ExplicitLM().partial_fit(ids, vocab_size=VOCAB_SIZE, documents=[0, 1000, 1100])
    parts = [saffu.ExplicitLM().partial_fit(piece, vocab_size=VOCAB_SIZE) for piece in pieces]
    merged = saffu.ExplicitLM()
    for j in order_of_merging:
        merged.merge(parts[j])
    equal_counts(whole.counts, merged.counts)
    assert np.isfinite(merged.perplexity(ids[:100]))


def test_subtracting_undoes_adding(stream):
    ids, _ = stream
    a = saffu.ExplicitLM().partial_fit(ids[:2000], vocab_size=VOCAB_SIZE).counts
    b = saffu.ExplicitLM().partial_fit(ids[2000:], vocab_size=VOCAB_SIZE).counts
    rest = a.add(b).subtract(b)
    np.testing.assert_array_equal(rest.unigram, a.unigram)
    for n, (one, other) in enumerate(zip(rest.distance, a.distance, strict=True)):
        np.testing.assert_array_equal(one.toarray(), other.toarray(), err_msg=f"distance {n + 1}")
    assert [int(t.data.sum()) for t in rest.suffix] == [int(t.data.sum()) for t in a.suffix]
    with pytest.raises(ValueError, match="never added"):
        a.subtract(b)


@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out", "kneser-ney", "unit"])
def test_files_round_trip_to_the_same_bits(tmp_path, stream, held_out, priming):
    model = saffu.ExplicitLM(priming=priming, windows=(20, 70), induction=30).fit(
        stream[0], vocab_size=VOCAB_SIZE, documents=stream[1]
    )
    model.save(tmp_path / "model.saffu")
    again = saffu.load(tmp_path / "model.saffu")
    np.testing.assert_array_equal(
        model.log_prob(held_out[0], documents=held_out[1]), again.log_prob(held_out[0], documents=held_out[1])
    )
    equal_counts(model.counts, again.counts)
    assert again.scalars == model.scalars
    for m in (model, again):
        m.partial_fit(held_out[0])
    np.testing.assert_array_equal(
        model.log_prob(held_out[0], documents=held_out[1]), again.log_prob(held_out[0], documents=held_out[1])
    )


@pytest.mark.parametrize(
    "name",
    [
        *("table0.words", "table1.counts", "table2.lengths", "scalars", "unigram"),
        *("sample.ids", "sample.lengths", "sample.counts", "sample.open", "documents.counts"),
    ],
)
def test_damaged_arrays_are_refused(stream, name):
    model = saffu.ExplicitLM(radius=2, order=3).fit(stream[0], vocab_size=VOCAB_SIZE, documents=stream[1])
    arrays, metadata = model._to_checkpoint()
    saffu.ExplicitLM._from_checkpoint(copy.deepcopy(arrays), metadata)
    damaged = copy.deepcopy(arrays)
    damaged[name].flat[0] = -(10**6) if name != "scalars" else np.nan
    with pytest.raises(ValueError, match=r"damaged|must"):
        saffu.ExplicitLM._from_checkpoint(damaged, metadata)


# ---- generation ------------------------------------------------------------------------------------------------------


def test_generate_is_deterministic_and_follows_the_distribution(stream):
    model = saffu.ExplicitLM(windows=(20,), induction=10).fit(stream[0], vocab_size=VOCAB_SIZE)
    assert list(model.generate([1, 2], 30, seed=5)) == list(model.generate([1, 2], 30, seed=5))
    assert list(model.generate([1, 2], 30, seed=5)) != list(model.generate([1, 2], 30, seed=6))
    greedy = list(model.generate([1, 2], 5, temperature=0))
    assert greedy == list(model.generate([1, 2], 5, top_k=1, seed=0))
    assert greedy[0] == model.distribution([1, 2]).argmax()
    drawn = [next(model.generate([1, 2], 1, seed=s)) for s in range(400)]
    p = model.distribution([1, 2])
    observed = np.bincount(drawn, minlength=VOCAB_SIZE) / 400
    assert np.abs(observed - p).max() < 5 * np.sqrt(0.25 / 400)


def test_context_beyond_the_history_does_not_matter(stream):
    model = saffu.ExplicitLM(radius=2, order=3, windows=(9,), induction=7).fit(stream[0], vocab_size=VOCAB_SIZE)
    np.testing.assert_array_equal(model.distribution(stream[0][:200]), model.distribution(stream[0][200 - 9 : 200]))


# ---- degenerate and bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[0], [3, 3], [0, 1, 2], [5] * 50])
@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out", "kneser-ney", "unit"])
def test_tiny_text_gives_a_proper_distribution(ids, priming):
    model = saffu.ExplicitLM(priming=priming).fit(ids, vocab_size=9)
    p = model.distribution(ids)
    assert abs(p.sum() - 1) < 1e-9
    assert (p >= 0).all()
    assert np.isfinite(model.log_prob([0, 8, 5])).all()
    assert model.log_prob([]).shape == (0,)


@pytest.mark.parametrize(("largest", "priming"), [(10**6, "unit"), (10**5, "k-fold")])  # which reads every type
def test_huge_ids_and_vocabulary(largest, priming):
    ids = np.array([0, largest, 5, largest, 5, largest] * 20)
    model = saffu.ExplicitLM(radius=1, order=3, windows=(10,), induction=0, priming=priming).fit(ids)
    assert model.vocab_size == largest + 1
    assert model.distribution([largest]).argmax() in (0, 5)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda: saffu.ExplicitLM(radius=0), ValueError, "radius must be at least 1"),
        (lambda: saffu.ExplicitLM(order=1), ValueError, "order must be at least 2"),
        (lambda: saffu.ExplicitLM(order=2.5), TypeError, "order must be an integer"),
        (lambda: saffu.ExplicitLM(windows=(0,)), ValueError, "windows must be at least 1"),
        (lambda: saffu.ExplicitLM(priming="best"), ValueError, "priming must be one of"),
        (lambda: saffu.ExplicitLM(n_threads=0), ValueError, "n_threads must be at least 1"),
        (lambda: saffu.ExplicitLM().fit([]), ValueError, "at least one token"),
        (lambda: saffu.ExplicitLM().fit([0.5]), TypeError, "ids must be integers"),
        (lambda: saffu.ExplicitLM().fit([0, 5], vocab_size=5), ValueError, "below 5, got 5 at position 1"),
        (lambda: saffu.ExplicitLM().log_prob([0]), ValueError, "no text yet"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).log_prob([2]), ValueError, "below 2"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).perplexity([]), ValueError, "at least one token"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).partial_fit([0], vocab_size=3), ValueError, "vocab_size must stay 2"),
        (lambda: saffu.ExplicitLM().fit([0, 1], documents=[1, 0]), ValueError, "ascending start offsets"),
        (lambda: saffu.ExplicitLM().merge(saffu.ExplicitLM(radius=2)), ValueError, "equal settings"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).merge(saffu.ExplicitLM().fit([0])), ValueError, "vocab_size must be"),
        (lambda: saffu.ExplicitLM().merge("model"), TypeError, "must be an ExplicitLM"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).generate(temperature=-1), ValueError, "temperature"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).generate(top_k=0), ValueError, "top_k"),
        (lambda: saffu.ExplicitLM().fit([0, 1]).generate([7]), ValueError, "prompt must be below 2"),
    ],
)
def test_bad_input_is_named(action, error, message):
    with pytest.raises(error, match=message):
        action()


# ---- real text -------------------------------------------------------------------------------------------------------


def test_brown_perplexity(data_folder):
    from saffu.text import Corpus

    train = Corpus([data_folder / "brown" / "train.txt.gz"], tokenizer="whitespace")
    vocabulary = train.build_vocabulary(min_count=3)
    assert len(vocabulary) == 19_422
    chunk = train.read(vocabulary)
    model = saffu.ExplicitLM().fit(chunk.ids, vocab_size=len(vocabulary), documents=chunk.starts)
    test = Corpus([data_folder / "brown" / "test.txt.gz"], tokenizer="whitespace").read(vocabulary)
    assert model.perplexity(test.ids, documents=test.starts) < 140

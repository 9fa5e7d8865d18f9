"""Back-off models: the same function as the pooled model that they are made of, and how the latter is primed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers.made_up import as_text, told_by_two
from saffu.ngram_lm import backoff_priming
from saffu.ngram_lm.backoff import of_pooled
from saffu.ngram_lm.priming import criterion
from saffu.utils import checkpoint
from saffu.utils.streams import TokenStream

V = 13
PRIMINGS = {
    "kneser-ney": {},
    "backoff": {},
    "unit": {"radius": 1, "windows": (), "induction": 0},
}


def text(n_tokens, seed, length=9):
    return told_by_two(n_tokens, seed, V, 0.5), np.arange(0, n_tokens, length)


def model_of(priming, order, ids, documents):
    return saffu.ExplicitLM(order=order, priming=priming, **PRIMINGS[priming]).fit(
        ids, documents=documents, vocab_size=V
    )


def check_equal(model, seed=1):
    """Both score new text alike: its tokens, and every type at every place."""
    ids, documents = text(80, seed, 7)
    tables = of_pooled(*model.solution.solved())
    stream, places = TokenStream.of(ids, documents), np.arange(81)
    found, length = tables.score(stream)
    # Rows of models without continuation counts are rounded to float32.
    close = 1e-11 if model.contexts.is_backoff else 2e-6
    np.testing.assert_allclose(found, model.log_prob(ids, documents=documents), rtol=0, atol=close)
    assert (length >= 1).all()
    assert length.max() <= tables.order == model.order
    every = tables.log_probs(tables.contexts(stream.with_next(0), places), places.size)
    np.testing.assert_allclose(every, model.log_probs(ids, places, documents=documents), rtol=0, atol=close)
    np.testing.assert_allclose(np.exp(every).sum(axis=1), 1.0, rtol=0, atol=1e-10)
    return tables


@pytest.mark.parametrize("order", range(2, 7))
@pytest.mark.parametrize("priming", PRIMINGS)
def test_is_the_pooled_model(priming, order):
    check_equal(model_of(priming, order, *text(700, 0)))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 5), st.sampled_from(sorted(PRIMINGS)))
def test_is_the_pooled_model_of_any_small_text(seed, n_tokens, order, priming):
    check_equal(model_of(priming, order, *text(n_tokens, seed, 4)), seed + 1)


@pytest.mark.parametrize("priming", PRIMINGS)
def test_is_the_pooled_model_after_text_has_come_and_gone(priming):
    model = model_of(priming, 4, *text(400, 0))
    more, documents = text(90, 5)
    check_equal(model.update(more, documents=documents))
    check_equal(model.subtract(more[:9], documents=[0]))
    check_equal(model.partial_fit(more, documents=[4]))


def test_any_scalars_of_one_state():
    model = model_of("backoff", 4, *text(500, 0))
    model.solution.scalars = np.array([[0.3, 0.5, 0.7, 0.0, -0.2, 1.0]])
    check_equal(model)


def test_counts_without_the_start_of_documents():
    """As in files of earlier versions."""
    model = saffu.ExplicitLM(order=3, priming="kneser-ney")
    model.counted.start_length = 0
    model.partial_fit(text(300, 0)[0], documents=[0, 40], vocab_size=V)
    tables = check_equal(model)
    assert tables.tables[0].shape == (V + 1, V)


def test_the_weight_is_the_ratio_of_the_normalisers():
    """From the head of the module, by sums over all types."""
    ids, documents = text(500, 0)
    model = model_of("backoff", 4, ids, documents)
    pooled, scalars = model.solution.solved()
    tables = of_pooled(pooled, scalars)
    alpha, beta, *lambdas = scalars[0]
    z = alpha * np.log(pooled.weights.unigram) + beta * np.log(pooled.weights.continuation)
    context = tuple(ids[20:23].tolist())  # oldest first, within a document
    rows, row = [], None
    for suffix in (context[2:], context[1:], context):
        row = suffix[0]
        for table, token in zip(pooled.weights.tables, suffix[1:], strict=False):
            first, last = table.counts.indptr[row : row + 2]
            row = first + int(np.flatnonzero(table.counts.indices[first:last] == token)[0])
        rows.append(row)
    for n, (table, scalar) in enumerate(zip(pooled.weights.tables, lambdas, strict=False)):
        shorter = np.exp(z).sum()
        first, last = table.counts.indptr[rows[n] : rows[n] + 2]
        z[table.counts.indices[first:last]] += scalar * table.u[first:last]
        np.testing.assert_allclose(tables.weights[n][rows[n]], np.log(shorter / np.exp(z).sum()), rtol=1e-12)


# ---- priming ---------------------------------------------------------------------------------------------------------


def test_one_state_of_suffixes_alone():
    model = model_of("backoff", 4, *text(900, 0))
    assert list(model.scalars) == ["prior", "continuation prior", "distance 1", "suffix 2", "suffix 3"]
    assert {len(column) for column in model.scalars.values()} == {1}
    assert model.is_backoff
    assert "priming='backoff'" in repr(model)


def test_never_worse_than_kneser_ney_where_it_is_fitted():
    model = model_of("backoff", 4, *text(3000, 0))
    pooled, scalars = model.solution.solved()
    parts = model.solution.priming_parts(pooled, model.counts)
    start = backoff_priming.start(3)[None]
    assert criterion(parts, None, scalars) < criterion(parts, None, start)
    np.testing.assert_allclose(backoff_priming.prime(parts, 3), scalars)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("order", [2, 3, 5])
def test_new_text_is_not_worse_than_under_kneser_ney(order, seed):
    training, new = ((told_by_two(n, seed + n, 40, 0.5), np.arange(0, n, 9)) for n in (6000, 3000))
    perplexity = {
        priming: saffu.ExplicitLM(order=order, priming=priming)
        .fit(**as_text(training), vocab_size=40)
        .perplexity(**as_text(new))
        for priming in ("kneser-ney", "backoff")
    }
    assert perplexity["backoff"] <= perplexity["kneser-ney"]


def test_no_suffix_is_trusted_more_than_by_kneser_ney():
    ids, documents = text(4000, 0)
    ids[1::2] = (5 * ids[::2] + 3) % V  # what Kneser-Ney discounts is certain
    model = saffu.ExplicitLM(order=4, priming="backoff").fit(ids, documents=documents)
    assert np.concatenate(list(model.scalars.values()))[2:].max() < 1.02


def test_a_gain_that_is_too_small_is_not_taken(monkeypatch):
    ids, documents = text(1000, 0)
    gained = model_of("backoff", 3, ids, documents).solution.scalars
    monkeypatch.setattr(backoff_priming, "LEAST_GAIN", 1.0)
    kept = model_of("backoff", 3, ids, documents).solution.scalars
    assert kept.tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0]]
    assert np.abs(gained - kept).max() > 0.05


def test_types_that_only_the_left_out_text_holds_do_not_count():
    """A type that fills one stretch of the text alone would flatten the unigrams if it did."""
    ids, documents = text(4000, 0)
    ids[2000:2200] = V + np.arange(200) % 7
    model = saffu.ExplicitLM(order=3, priming="backoff").fit(ids, documents=documents, vocab_size=V + 7)
    parts = model.solution.priming_parts(model.solution.solved()[0], model.counts)
    kept = [backoff_priming.of_counted_types(part) for part in parts]
    for part, left in zip(parts, kept, strict=True):
        counted = np.asarray(part.model.weights.distance[0].counts.sum(axis=0)).ravel() > 0
        np.testing.assert_array_equal(left.positions, part.positions[counted[part.stream.ids[part.positions]]])
        assert left.rows.shape == left.target_u.shape == (2, left.positions.size)


def test_without_text_the_scalars_are_those_of_kneser_ney():
    ids, documents = text(40, 0, 40)
    model = model_of("backoff", 3, ids, documents).subtract(ids, documents=documents).prime()
    assert np.concatenate(list(model.scalars.values())).tolist() == [0.0, 1.0, 1.0, 1.0]


def test_it_cannot_grow():
    with pytest.raises(ValueError, match="Kneser-Ney or back-off cannot grow"):
        model_of("backoff", 3, *text(100, 0)).grow(order=4)


def test_files_and_threads(tmp_path):
    ids, documents = text(2000, 0)
    one, three = (
        saffu.ExplicitLM(order=4, priming="backoff", n_threads=n).fit(ids, documents=documents) for n in (1, 3)
    )
    np.testing.assert_array_equal(one.solution.scalars, three.solution.scalars)
    one.save(tmp_path / "model")
    again = checkpoint.load(tmp_path / "model")
    for a, b in itertools.pairwise(of_pooled(*model.solution.solved()) for model in (one, three, again)):
        for x, y in zip([a.unigram, *a.weights], [b.unigram, *b.weights], strict=True):
            np.testing.assert_array_equal(x, y)


# ---- what is one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"windows": ()}, "has a context of distance 2"),
        ({"radius": 1}, "has a context of window 60"),
        ({"radius": 1, "windows": ()}, "has a context of induction 2000"),
        ({"radius": 1, "windows": (), "induction": 0}, "has scalars that vary by state"),
    ],
)
def test_other_models_are_refused(settings, why):
    model = saffu.ExplicitLM(order=3, **settings).fit(text(300, 0)[0], vocab_size=V)
    assert not model.is_backoff
    with pytest.raises(ValueError, match=why):
        model.to_backoff()


def test_the_types_must_have_names():
    with pytest.raises(ValueError, match="must have a vocabulary"):
        model_of("backoff", 3, *text(100, 0)).to_backoff()

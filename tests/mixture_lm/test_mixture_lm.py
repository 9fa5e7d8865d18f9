"""MixtureLM: its answers are those of its experts, weighed; and what it learns, they learn."""

import numpy as np
import pytest

import saffu
from helpers.made_up import documents_with_habits
from saffu.text import Vocabulary
from saffu.utils import checkpoint

V = 30
IDS, STARTS = documents_with_habits(2500, 0, V, (0.4, 0.3))
NEW, NEW_STARTS = documents_with_habits(600, 1, V, (0.4, 0.3))
TEXT = {"documents": STARTS, "vocab_size": V}
HEAD = IDS[:200], STARTS[STARTS < 200]
SMALL = {"windows": (), "induction": 0}


class Bigram:
    """An object of another library: it answers, and has no base class."""

    def __init__(self, ids):
        counts = np.full((V + 1, V), 0.1)
        np.add.at(counts, (np.append(V, ids[:-1]), ids), 1)
        self.p = counts / counts.sum(axis=1, keepdims=True)

    def log_prob(self, ids, *, documents=None):
        before = np.append(V, ids[:-1])
        before[documents] = V
        return np.log(self.p[before, ids])

    def distribution(self, context):
        return self.p[context[-1] if len(context) else V]


class Certain:
    """Puts all on the token that follows in the order of ids: no probability for any other."""

    vocab_size = V

    def log_prob(self, ids, *, documents=None):
        with np.errstate(divide="ignore"):
            return np.log([self.distribution(ids[:t])[ids[t]] for t in range(len(ids))])

    def distribution(self, context):
        p = np.zeros(V)
        p[(context[-1] + 1) % V if len(context) else 0] = 1
        return p


def experts():
    return [
        saffu.ExplicitLM(radius=2, order=3, windows=(20,), induction=0),
        saffu.SaffuLM(bits=4, radius=3, hidden=4),
        saffu.ExplicitLM(radius=1, order=2, **SMALL),
    ]


@pytest.fixture(scope="module")
def model():
    return saffu.MixtureLM(experts()).fit(IDS, **TEXT)


@pytest.fixture(scope="module")
def mixed_kinds():
    """Every kind of expert at once."""
    counts = saffu.ExplicitLM(order=3, radius=2, **SMALL).fit(IDS, **TEXT)
    on_counts = saffu.SaffuLM(bits=3, radius=2, hidden=4, residual=counts).fit(IDS, **TEXT)
    backoff = saffu.ExplicitLM(order=3, priming="backoff").fit(IDS, **TEXT)
    backoff.vocabulary = Vocabulary([f"w{i}" for i in range(V - 2)])
    transformer = saffu.Transformer(V, hidden=8, layers=1, positions=32)
    parts = [counts, on_counts, backoff.to_backoff(), transformer, Bigram(IDS), Certain()]
    return saffu.MixtureLM(parts, weights=np.array([3, 2, 2, 1, 1, 1]) / 10)


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["model", "mixed_kinds"])
def test_answers_agree_with_each_other(which, request):
    model = request.getfixturevalue(which)
    ids, starts = HEAD
    log_prob = model.log_prob(ids, documents=starts)
    rows = model.log_probs(ids, np.arange(ids.size + 1), documents=starts)
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1, atol=1e-9)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}  # networks score in float32
    np.testing.assert_allclose(rows[np.arange(ids.size), ids], log_prob, **tolerance)
    for place in (*range(9), *starts[1:5], ids.size):
        begin = starts[np.searchsorted(starts, min(place, ids.size - 1), side="right") - 1]
        p = model.distribution(ids[begin:place])
        assert p.sum() == pytest.approx(1, abs=1e-9)
        np.testing.assert_allclose(np.log(p), rows[place], **tolerance)


def test_answers_of_exact_experts_agree_to_rounding():
    model = saffu.MixtureLM([Bigram(IDS), Bigram(NEW)], weights=[0.25, 0.75])
    ids = IDS[: STARTS[1]]
    expected = [np.log(model.distribution(ids[:t])[ids[t]]) for t in range(ids.size)]
    np.testing.assert_allclose(model.log_prob(ids), expected, rtol=1e-12)
    np.testing.assert_allclose(model.log_probs(ids, np.arange(9))[range(9), ids[:9]], expected[:9], rtol=1e-12)


def test_it_is_the_sum_of_weighed_probabilities(model):
    ids, starts = HEAD
    each = [np.exp(expert.log_prob(ids, documents=starts)) for expert in model.experts]
    np.testing.assert_allclose(model.log_prob(ids, documents=starts), np.log(model.weights @ each), rtol=1e-12)
    each = [expert.distribution(ids[:9]) for expert in model.experts]
    np.testing.assert_allclose(model.distribution(ids[:9]), model.weights @ each, rtol=1e-12)


def test_generation_is_from_the_distribution(mixed_kinds):
    drawn = list(mixed_kinds.generate(IDS[:5], 30, temperature=0))
    text = IDS[:5].tolist()
    for token in drawn:
        assert token == mixed_kinds.top(text, 1)[0][0]
        text.append(token)
    assert list(mixed_kinds.generate((), 20, seed=3)) == list(mixed_kinds.generate((), 20, seed=3))
    assert 7 not in list(mixed_kinds.generate((), 200, seed=1, exclude=[7]))


def test_rows_that_are_asked_for_many_times(model):
    from saffu.utils.streams import TokenStream

    ids, starts = HEAD
    rows = model._log_prob_rows(TokenStream.of(ids, starts))
    for places in (np.array([3, 0]), np.array([ids.size - 1])):
        np.testing.assert_allclose(rows(places), model.log_probs(ids, places, documents=starts), rtol=1e-6, atol=1e-6)


def test_an_expert_without_weight_is_not_asked():
    class Silent(Certain):
        def log_prob(self, ids, *, documents=None):
            raise AssertionError

        def distribution(self, context):
            raise AssertionError

    counts = saffu.ExplicitLM(order=2, **SMALL).fit(IDS, **TEXT)
    model = saffu.MixtureLM([Silent(), counts], weights=[0, 1])
    np.testing.assert_array_equal(model.log_prob(IDS[:50]), counts.log_prob(IDS[:50]))
    np.testing.assert_array_equal(model.distribution(IDS[:5]), counts.distribution(IDS[:5]))
    assert len(list(model.generate(IDS[:5], 3))) == 3


def test_no_tokens(model):
    assert model.log_prob([]).shape == (0,)
    assert model.log_probs([], [0]).shape == (1, V)
    assert model.distribution([]).sum() == pytest.approx(1, abs=1e-9)


# ---- fitting ---------------------------------------------------------------------------------------------------------


def test_weights_are_fitted_on_what_experts_have_not_seen(model):
    assert model.weights.sum() == pytest.approx(1)
    assert model.perplexities[-1] <= min(model.perplexities[:-1])
    assert model.perplexity(NEW, documents=NEW_STARTS) < 1.01 * min(
        expert.perplexity(NEW, documents=NEW_STARTS) for expert in model.experts
    )


@pytest.mark.parametrize("documents", [STARTS, None, [0, 1000]], ids=["documents", "one", "two"])
def test_counts_end_as_if_fitted_to_all_of_the_text(documents):
    counts = [saffu.ExplicitLM(radius=1, order=n, windows=(30,), induction=0) for n in (2, 3)]
    saffu.MixtureLM(counts).fit(IDS, documents=documents, vocab_size=V)
    for expert in counts:
        alone = saffu.ExplicitLM(**expert.contexts.settings()).fit(IDS, documents=documents, vocab_size=V)
        assert expert.scalars == alone.scalars
        np.testing.assert_array_equal(expert.log_prob(*HEAD[:1]), alone.log_prob(*HEAD[:1]))


def test_fit_begins_anew(model):
    again = saffu.MixtureLM(experts()).fit(NEW, documents=NEW_STARTS, vocab_size=V).fit(IDS, **TEXT)
    np.testing.assert_array_equal(again.weights, model.weights)
    np.testing.assert_array_equal(again.log_prob(HEAD[0]), model.log_prob(HEAD[0]))


def test_a_residual_base_may_be_an_expert_too():
    counts = saffu.ExplicitLM(order=3, radius=2, **SMALL)
    network = saffu.SaffuLM(bits=3, radius=2, hidden=4, residual=counts)
    model = saffu.MixtureLM([network, counts]).fit(IDS, **TEXT)
    assert counts.n_tokens == IDS.size
    model.update(NEW, documents=NEW_STARTS)
    assert counts.n_tokens == IDS.size + NEW.size


def test_weights_of_fitted_experts():
    one, other = (saffu.ExplicitLM(order=n, radius=1, **SMALL).fit(IDS, **TEXT) for n in (2, 4))
    model = saffu.MixtureLM([one, other])
    with pytest.raises(ValueError, match="the weights are not fitted yet"):
        model.log_prob(NEW)
    assert model.weights is None
    assert model.fit_weights(NEW, documents=NEW_STARTS, progress=False) is model
    p = np.exp([expert.log_prob(NEW, documents=NEW_STARTS) for expert in (one, other)])
    losses = [-np.mean(np.log(w * p[0] + (1 - w) * p[1])) for w in np.linspace(0, 1, 201)]
    assert -model.log_prob(NEW, documents=NEW_STARTS).mean() <= min(losses)
    assert model.perplexities == pytest.approx([m.perplexity(NEW, documents=NEW_STARTS) for m in (one, other, model)])


def test_experts_that_cannot_be_fitted_stay():
    bigram = Bigram(IDS[:50])
    table = bigram.p.copy()
    model = saffu.MixtureLM([bigram, saffu.ExplicitLM(order=3, **SMALL)]).fit(IDS, **TEXT)
    np.testing.assert_array_equal(bigram.p, table)
    assert model.weights[1] > 0.5
    with pytest.raises(NotImplementedError, match="MixtureLM cannot fit: none of its experts can"):
        saffu.MixtureLM([bigram, Certain()]).fit(IDS)


@pytest.mark.parametrize("n_tokens", [1, 2, 19, 20, 41])
@pytest.mark.parametrize("n_experts", [1, 2])
def test_tiny_texts(n_tokens, n_experts):
    parts = [saffu.ExplicitLM(order=n, radius=1, **SMALL) for n in (2, 3)][:n_experts]
    model = saffu.MixtureLM(parts).fit(IDS[:n_tokens], vocab_size=V)
    assert model.weights.sum() == pytest.approx(1)
    assert model.distribution(IDS[:3]).sum() == pytest.approx(1, abs=1e-9)
    assert [expert.n_tokens for expert in parts] == [n_tokens] * n_experts


def test_one_expert_is_that_expert():
    alone, one = (saffu.ExplicitLM(order=3, **SMALL) for _ in range(2))
    model = saffu.MixtureLM([one]).fit(IDS, **TEXT)
    alone.fit(IDS, **TEXT)
    assert model.weights.tolist() == [1]
    np.testing.assert_array_equal(model.log_prob(HEAD[0]), alone.log_prob(HEAD[0]))


def test_an_expert_that_is_given_twice_learns_once():
    one = saffu.ExplicitLM(order=3, **SMALL)
    model = saffu.MixtureLM([one, one]).fit(IDS, **TEXT)
    assert one.n_tokens == IDS.size
    assert model.update(NEW, documents=NEW_STARTS).experts[0].n_tokens == IDS.size + NEW.size


def test_an_expert_of_no_probability_for_some_tokens():
    counts = saffu.ExplicitLM(order=3, **SMALL).fit(IDS, **TEXT)
    model = saffu.MixtureLM([Certain(), counts]).fit_weights(NEW, documents=NEW_STARTS)
    log_prob = model.log_prob(NEW, documents=NEW_STARTS)
    assert np.isfinite(log_prob).all()
    assert model.perplexities[0] == np.inf
    certain = saffu.MixtureLM([Certain()], weights=[1])
    assert (certain.log_prob([0, 1, 5]) == [0, 0, -np.inf]).all()


def test_given_weights_stay():
    parts = [saffu.ExplicitLM(order=n, **SMALL) for n in (2, 3)]
    model = saffu.MixtureLM(parts, weights=[0.25, 0.75]).fit(IDS, **TEXT).update(NEW, prime=True)
    assert model.weights.tolist() == [0.25, 0.75]
    assert parts[0].n_tokens == IDS.size + NEW.size


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_threads_do_not_matter(model, n_threads):
    other = saffu.MixtureLM(experts(), n_threads=n_threads).fit(IDS, **TEXT)
    assert [expert.n_threads for expert in other.experts] == [n_threads] * 3
    np.testing.assert_array_equal(other.weights, model.weights)
    np.testing.assert_array_equal(other.log_prob(HEAD[0]), model.log_prob(HEAD[0]))


# ---- learning on the spot --------------------------------------------------------------------------------------------


def test_update_is_that_of_the_experts(tmp_path):
    model = saffu.MixtureLM(experts()).fit(IDS, **TEXT)
    model.save(tmp_path / "before")
    weights = model.weights
    alone = saffu.load(tmp_path / "before").experts
    model.update(NEW, documents=NEW_STARTS)
    np.testing.assert_array_equal(model.weights, weights)
    for expert, other in zip(model.experts, alone, strict=True):
        other.update(NEW, documents=NEW_STARTS)
        np.testing.assert_array_equal(expert.log_prob(HEAD[0]), other.log_prob(HEAD[0]))


def test_update_with_priming_moves_the_weights():
    def fixed():
        return saffu.Transformer(V, hidden=4, layers=1, positions=16)

    counts = saffu.ExplicitLM(order=3, **SMALL)
    model = saffu.MixtureLM([counts, fixed()]).fit(IDS, **TEXT)
    before = model.weights
    noise = np.random.default_rng(0).integers(0, V, 3000)
    model.update(noise, prime=True)  # of which counts know nothing
    assert 0 < model.weights[0] < before[0]
    assert model.summary()["weights_fitted_on"] == 3000 + len(IDS) // 20
    everything = saffu.ExplicitLM(order=3, **SMALL).fit(np.append(IDS, noise), **TEXT)  # the last document goes on
    assert counts.scalars == everything.scalars


def test_what_cannot_learn_says_so():
    model = saffu.MixtureLM([saffu.Transformer(V, hidden=4, layers=1), Bigram(IDS)], weights=[0.5, 0.5])
    with pytest.raises(NotImplementedError, match="MixtureLM cannot update: none of its experts can learn on the spot"):
        model.update(NEW)
    with pytest.raises(NotImplementedError, match="MixtureLM cannot refine: refine an expert"):
        model.refine(NEW)
    with pytest.raises(NotImplementedError, match="MixtureLM cannot subtract"):
        model.subtract(NEW)


def test_merge():
    half = int(STARTS[STARTS.size // 2])
    cut = STARTS.size // 2

    def mixture(ids, starts, weights=(0.5, 0.5)):
        parts = [saffu.ExplicitLM(order=n, radius=1, **SMALL) for n in (2, 3)]
        return saffu.MixtureLM(parts, weights=weights).fit(ids, documents=starts, vocab_size=V)

    whole = mixture(IDS, STARTS)
    first, second = mixture(IDS[:half], STARTS[:cut]), mixture(IDS[half:], STARTS[cut:] - half)
    assert first.merge(second) is first
    np.testing.assert_array_equal(first.log_prob(HEAD[0]), whole.log_prob(HEAD[0]))
    n_tokens = first.experts[0].n_tokens
    for other, error, message in (
        (mixture(NEW, NEW_STARTS, (0.4, 0.6)), ValueError, "must have equal weights"),
        (saffu.ExplicitLM(), TypeError, "other must be a MixtureLM, got ExplicitLM"),
        (first, ValueError, "must be different objects"),
        (saffu.MixtureLM([*reversed(second.experts)], weights=[0.5, 0.5]), ValueError, "must have equal settings"),
        (saffu.MixtureLM(second.experts[:1], weights=[1]), ValueError, "must be 2 numbers"),
        (saffu.MixtureLM([second.experts[0], Bigram(IDS)], weights=[0.5, 0.5]), ValueError, "equal settings"),
    ):
        with pytest.raises(error, match=message):
            first.merge(other)
        assert first.experts[0].n_tokens == n_tokens
    one, other = (saffu.MixtureLM([saffu.Transformer(V, hidden=4, layers=1)], weights=[1]) for _ in range(2))
    with pytest.raises(NotImplementedError, match="Transformer cannot merge"):
        one.merge(other)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_files_keep_every_bit(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = saffu.load(tmp_path / "model")
    loaded.save(tmp_path / "again")
    assert (tmp_path / "model").read_bytes() == (tmp_path / "again").read_bytes()
    np.testing.assert_array_equal(loaded.weights, model.weights)
    assert loaded.perplexities == model.perplexities
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded.log_prob(HEAD[0]), model.log_prob(HEAD[0]))
    np.testing.assert_array_equal(loaded.distribution(IDS[:9]), model.distribution(IDS[:9]))
    loaded.fit_weights(NEW, documents=NEW_STARTS)


def test_a_mixture_of_mixtures_is_saved(tmp_path):
    inner = saffu.MixtureLM([saffu.ExplicitLM(order=n, **SMALL) for n in (2, 3)], weights=[0.5, 0.5]).fit(IDS, **TEXT)
    model = saffu.MixtureLM([inner, saffu.Transformer(V, hidden=4, layers=1)], weights=[0.5, 0.5])
    model.vocabulary = Vocabulary([f"w{i}" for i in range(V - 2)])
    model.save(tmp_path / "model")
    loaded = saffu.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.log_prob(HEAD[0]), model.log_prob(HEAD[0]))
    assert loaded.vocabulary == model.vocabulary


def test_what_cannot_be_saved_says_so(tmp_path):
    model = saffu.MixtureLM([Bigram(IDS)], weights=[1])
    with pytest.raises(TypeError, match="an expert of type Bigram cannot be saved"):
        model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="the weights are not fitted yet"):
        saffu.MixtureLM(experts()).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, m: a.update(weights=np.array([0.5, 0.6, 0.1])), "unit sum"),
        (lambda a, m: a.update(weights=a["weights"][:2]), "'weights' must be finite"),
        (lambda a, m: a.update(losses=a["losses"][:2]), "'losses' must be"),
        (lambda a, m: m.update(n_tokens=-1), "number of tokens"),
        (lambda a, m: m.update(experts=7), "not iterable"),
        (lambda a, m: m["experts"][0].update(kind="cipher"), "which is no language model"),
        (lambda a, m: m["experts"][0].update(kind="bit-cipher"), "which is no language model"),
        (lambda a, m: m["experts"][0].pop("metadata"), "'metadata' is missing"),
        (lambda a, m: m["experts"].pop(), "'weights' must be finite"),
        (lambda a, m: m.pop("held_out"), "'held_out' is missing"),
        (lambda a, m: m.update(held_out=2), "held_out must be below 1"),
    ],
)
def test_damaged_files_are_refused(model, tmp_path, change, message):
    model.save(tmp_path / "model")
    kind, arrays, metadata = checkpoint.read(tmp_path / "model")
    change(arrays, metadata)
    checkpoint.write(tmp_path / "damaged", kind, arrays, metadata)
    with pytest.raises(checkpoint.Damaged, match=message):
        saffu.load(tmp_path / "damaged")


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: saffu.MixtureLM([]), ValueError, "experts must hold at least one language model"),
        (lambda: saffu.MixtureLM(3), TypeError, "experts must be a sequence of language models, got int"),
        (lambda: saffu.MixtureLM([saffu.ExplicitLM(), 3]), TypeError, "got int at place 1"),
        (lambda: saffu.MixtureLM([saffu.ExplicitLM]), TypeError, "experts must be language models"),
        (lambda: saffu.MixtureLM([saffu.Transformer(4), saffu.Transformer(5)]), ValueError, "got sizes 4, 5"),
        (lambda: saffu.MixtureLM(experts(), weights="equal"), ValueError, "weights must be one of 'fitted'"),
        (lambda: saffu.MixtureLM(experts(), weights=[1, 0]), ValueError, "weights must be 3 numbers"),
        (lambda: saffu.MixtureLM(experts(), held_out=1), ValueError, "held_out must be below 1, got 1"),
        (lambda: saffu.MixtureLM(experts(), held_out=0), ValueError, "held_out must be positive"),
        (lambda: saffu.MixtureLM(experts(), n_threads=0), ValueError, "n_threads must be at least 1"),
        (lambda: saffu.MixtureLM(experts()).fit([]), ValueError, "ids must hold at least one token"),
        (lambda: saffu.MixtureLM(experts()).fit([0.5]), TypeError, "ids must be integers"),
        (lambda: saffu.MixtureLM(experts()).fit_weights([1]), ValueError, "have seen no text yet"),
        (lambda: saffu.MixtureLM(experts()).vocab_size, ValueError, "have seen no text yet"),
    ],
)
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_vocabulary_is_that_of_the_experts():
    words = Vocabulary([f"w{i}" for i in range(V - 2)])
    one, other = (saffu.ExplicitLM(order=2, **SMALL).fit(IDS, **TEXT) for _ in range(2))
    one.vocabulary = words
    assert saffu.MixtureLM([one, other], weights=[0.5, 0.5]).vocabulary is words
    other.vocabulary = Vocabulary([f"v{i}" for i in range(V - 2)])
    with pytest.raises(ValueError, match="experts must have equal vocabularies"):
        saffu.MixtureLM([one, other])


@pytest.mark.parametrize("answer", [np.zeros(3), np.full(V, np.nan), np.zeros(V, int), "text"])
def test_answers_of_other_objects_are_checked(answer):
    class Odd(Certain):
        def distribution(self, context):
            return answer

    model = saffu.MixtureLM([Odd()], weights=[1])
    with pytest.raises(ValueError, match="distribution of Odd must give 30 numbers"):
        model.distribution([0])

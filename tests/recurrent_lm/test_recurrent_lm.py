"""RecurrentLM as a model of text: its answers, its training, its files, and odd texts."""

import numpy as np
import pytest

import saffu
from helpers import recurrent
from helpers.made_up import as_text, documents_with_habits
from saffu import RecurrentLM, _core
from saffu.recurrent_lm import scoring
from saffu.text import Vocabulary

V = 12
TEXT = as_text(documents_with_habits(3000, 0, 7, (0.5, 0.7)))
OTHER = as_text(documents_with_habits(700, 1, 7, (0.5, 0.7)))
SIZES = {"one layer": {"dim": 8, "cells": 8}, "projection": {"dim": 6, "cells": 9, "layers": 2}}


@pytest.fixture(scope="module", params=SIZES)
def model(request):
    return RecurrentLM(**SIZES[request.param], epochs=3).fit(**TEXT)


def classes_of_words(n_tokens, seed, n_classes=6, of_a_class=20):
    """Each token is of a class that the class before it tells; which word of it is drawn."""
    rng = np.random.default_rng(seed)
    follow = np.random.default_rng(99).integers(0, n_classes, (n_classes, 2))
    ids, kind = np.empty(n_tokens, np.int32), 0
    for t in range(n_tokens):
        kind = follow[kind, int(rng.random() < 0.3)]
        ids[t] = kind * of_a_class + min(rng.zipf(1.3) - 1, of_a_class - 1)
    return ids


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_every_token_is_scored_as_the_equations_say(model):
    starts = OTHER["documents"]
    expected = recurrent.log_prob(model._fitted, OTHER["ids"], starts)
    np.testing.assert_allclose(model.log_prob(**OTHER), expected, atol=1e-5)


def test_log_prob_is_the_log_of_distribution_at_every_position(model):
    ids, starts = OTHER["ids"][:60], np.array([0, 25])
    scored, rows = model.log_prob(ids, documents=starts), model.log_probs(ids, np.arange(61), documents=starts)
    for t in range(60):
        first = starts[starts <= t].max()
        p = model.distribution(ids[first:t])
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert scored[t] == pytest.approx(np.log(p[ids[t]]), abs=1e-6)
        np.testing.assert_allclose(rows[t], np.log(p), atol=1e-6)
    np.testing.assert_allclose(rows[60], np.log(model.distribution(ids[starts[-1] :])), atol=1e-6)


def test_documents_side_by_side_are_those_alone(model, monkeypatch):
    """Documents of odd lengths, more than there are streams, and a segment that does not divide them."""
    monkeypatch.setattr(scoring, "STEPS", 5)
    rng = np.random.default_rng(3)
    ids = rng.integers(0, V, 500).astype(np.int32)
    starts = np.sort(np.append(rng.choice(np.arange(1, 500), 90, replace=False), 0))
    alone = [model.log_prob(part) for part in np.split(ids, starts[1:])]
    np.testing.assert_allclose(model.log_prob(ids, documents=starts), np.concatenate(alone), atol=2e-6)


def test_rows_are_asked_many_times(model):
    ids, starts = OTHER["ids"][:300], np.array([0, 150])
    rows = model._log_prob_rows(saffu.utils.streams.TokenStream.of(ids, starts, V))
    expected = model.log_probs(ids, [7, 299, 7, 300], documents=starts)
    found = np.concatenate([rows(np.array(part)) for part in ([7], [299, 7], [300])])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert model.log_probs(ids, []).shape == (0, V)
    with pytest.raises(ValueError, match=r"positions must be in \[0, 300\]"):
        model.log_probs(ids, [301])


def test_generation_carries_the_state(model):
    """What is drawn token by token is what a model that reads everything anew draws."""
    prompt, drawn = [3, 1, 4], list(model.generate([3, 1, 4], 20, temperature=0))
    for t, token in enumerate(drawn):
        assert token == int(model.distribution([*prompt, *drawn[:t]]).argmax())
    assert list(model.generate([3], 30, seed=5)) == list(model.generate([3], 30, seed=5))
    assert 0 not in list(model.generate([3], 60, seed=5, exclude=[0]))


def test_a_long_context_is_read_in_pieces(model, monkeypatch):
    context = OTHER["ids"][:100]
    whole = model.distribution(context)
    monkeypatch.setattr(scoring, "READ", 7)
    np.testing.assert_allclose(model.distribution(context), whole, atol=1e-7)


# ---- training --------------------------------------------------------------------------------------------------------


def test_training_learns_what_is_to_be_learned():
    """Half of all tokens are told by the one before, a fifth by the one seven before: more than a unigram knows."""
    model = RecurrentLM(dim=16, epochs=8).fit(**TEXT)
    counts = np.bincount(TEXT["ids"], minlength=V) + 1.0
    unigram = np.exp(-np.log(counts / counts.sum())[OTHER["ids"]].mean())
    assert model.perplexity(**OTHER) < 0.8 * unigram
    assert [record["epoch"] for record in model.history] == list(range(1, 9))
    assert model.history[-1]["training_loss"] < model.history[0]["training_loss"]


def test_the_explicit_start_leads():
    ids, other = classes_of_words(8000, 0), classes_of_words(2000, 1)
    found = {
        start: [RecurrentLM(dim=24, start=start, seed=seed, epochs=1).fit(ids).perplexity(other) for seed in range(3)]
        for start in ("explicit", "random")
    }
    assert max(found["explicit"]) < 0.97 * min(found["random"])


@pytest.mark.parametrize(("start", "sizes"), [("explicit", SIZES["one layer"]), ("random", SIZES["projection"])])
def test_bits_do_not_depend_on_threads(start, sizes):
    ids = documents_with_habits(40 * 35 * 17, 2, 7, (0.5, 0.7))[0]  # two groups of streams
    models = [RecurrentLM(**sizes, start=start, epochs=1, n_threads=n).fit(ids, vocab_size=2100) for n in (1, 2, 3)]
    for other in models[1:]:
        for name, array in models[0]._fitted.items():
            assert array.tobytes() == other._fitted[name].tobytes(), name
        assert models[0].log_prob(**OTHER).tobytes() == other.log_prob(**OTHER).tobytes()


def test_the_seed_decides():
    one, same, other = (RecurrentLM(dim=4, epochs=1, seed=seed).fit(**TEXT) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one._fitted["tokens"], same._fitted["tokens"])
    assert not np.array_equal(one._fitted["tokens"], other._fitted["tokens"])


def test_the_best_epoch_on_validation_text_is_kept():
    rng = np.random.default_rng(0)  # of which nothing can be learned but by heart
    ids, validation = rng.integers(0, V, 600), (rng.integers(0, V, 300), None)
    model = RecurrentLM(dim=32, epochs=20, dropout=0.0).fit(ids, vocab_size=V, validation=validation)
    losses = [record["validation_loss"] for record in model.history]
    assert min(losses) < losses[-1]  # it overfits
    found = -model.log_prob(validation[0], documents=validation[1]).mean()
    assert found == pytest.approx(min(losses), abs=1e-6)


class Ticks:
    """A clock that goes on by a hundredth of a second whenever it is read."""

    seconds = 0.0

    def perf_counter(self):
        self.seconds += 0.01
        return self.seconds


@pytest.mark.parametrize("validation", [None, (OTHER["ids"], OTHER["documents"])])
def test_a_budget_is_wall_time(monkeypatch, validation):
    clock = Ticks()
    monkeypatch.setattr("saffu.recurrent_lm.training.time", clock)
    monkeypatch.setattr("saffu.recurrent_lm.model.time", clock)
    rates, adam = [], _core.adam_without_momentum
    monkeypatch.setattr(_core, "adam_without_momentum", lambda *a: (rates.append(a[4]), adam(*a)))
    model = RecurrentLM(dim=8, budget=5.0).fit(**TEXT, validation=validation)
    assert 4.0 < clock.seconds < 5.2
    assert rates == sorted(rates, reverse=True) or validation
    assert rates[0] > 0.0029
    assert rates[-1] < 0.0001
    assert model.history[-1]["tokens"] > TEXT["ids"].size
    assert model.perplexity(**OTHER) < V


def test_refinement_goes_on_and_leaves_the_model(model):
    before = {name: array.copy() for name, array in model._fitted.items()}
    refined = model.refine(**TEXT, epochs=4, validation=(OTHER["ids"], OTHER["documents"]))
    assert refined.perplexity(**TEXT) < model.perplexity(**TEXT)
    assert len(refined.history) == len(model.history) + 4
    for name, array in model._fitted.items():
        np.testing.assert_array_equal(array, before[name])


def test_an_interruption_keeps_what_was_learned(monkeypatch):
    calls = []

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 40:
            raise KeyboardInterrupt
        adam(*arguments)

    adam = _core.adam_without_momentum
    monkeypatch.setattr(_core, "adam_without_momentum", interrupt)
    with pytest.warns(RuntimeWarning, match="interrupted in epoch 1: what was learned so far is kept"):
        model = RecurrentLM(dim=4, epochs=9).fit(**TEXT)
    assert model.interrupted
    assert model.perplexity(**OTHER) < V
    monkeypatch.setattr(_core, "adam_without_momentum", adam)
    assert not model.fit(**TEXT).interrupted


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_the_same_to_the_bit(model, tmp_path):
    model.vocabulary = Vocabulary([f"w{i}" for i in range(V - 2)])
    path = tmp_path / "model.saffu"
    model.save(path)
    loaded = saffu.load(path)
    model.vocabulary, vocabulary = None, model.vocabulary
    assert loaded.vocabulary == vocabulary
    assert repr(loaded) == repr(model)
    assert loaded.history == model.history
    assert loaded.log_prob(**OTHER).tobytes() == model.log_prob(**OTHER).tobytes()
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_file_whose_parts_do_not_fit_is_damaged(model, tmp_path):
    arrays, metadata = model._to_checkpoint()
    for name in ("network.tokens", "network.layer0.bias"):
        less = {key: array[:-1] if key == name else array for key, array in arrays.items()}
        saffu.utils.checkpoint.write(tmp_path / "damaged", "recurrent-lm", less, metadata)
        if name == "network.tokens":  # a vocabulary of one type less: a model, though another
            assert saffu.load(tmp_path / "damaged").vocab_size == V - 1
            continue
        with pytest.raises(ValueError, match="is a damaged recurrent-lm model: array 'layer0"):
            saffu.load(tmp_path / "damaged")
    saffu.utils.checkpoint.write(tmp_path / "damaged", "recurrent-lm", arrays, metadata | {"sizes": [1, 2]})
    with pytest.raises(ValueError, match="is a damaged recurrent-lm model"):
        saffu.load(tmp_path / "damaged")


# ---- odd texts and mistakes ------------------------------------------------------------------------------------------

ODD = {
    "one token": ([0], None, None),
    "one type": ([0] * 50, None, None),
    "two types": ([0, 1] * 40, None, None),
    "a type that is never seen": ([0, 1] * 40, None, 5),
    "documents of one token": ([0, 1, 2] * 20, np.arange(60), None),
    "one long and many short documents": ([0, 1, 2] * 60, [0, *range(100, 180)], None),
    "more tokens than a segment": ([0, 1, 2] * 12, None, None),
}


@pytest.mark.parametrize("start", ["explicit", "random"])
@pytest.mark.parametrize("case", ODD)
def test_odd_texts(case, start):
    ids, documents, vocab_size = ODD[case]
    model = RecurrentLM(dim=5, cells=7, epochs=2, start=start).fit(ids, documents=documents, vocab_size=vocab_size)
    assert model.vocab_size == (vocab_size or max(ids) + 1)
    scored = model.log_prob(ids, documents=documents)
    assert scored.shape == (len(ids),)
    assert np.isfinite(scored).all()
    np.testing.assert_allclose(model.distribution(ids[:1]).sum(), 1, atol=1e-12)
    assert len(list(model.generate([], 3, seed=0))) == 3


def test_no_text_at_all(model):
    assert model.log_prob([]).shape == (0,)
    assert model.log_probs([], [0]).shape == (1, V)
    for verb in (RecurrentLM().fit, model.refine):
        with pytest.raises(ValueError, match="ids must hold at least one token, got none"):
            verb([])
    with pytest.raises(ValueError, match="validation must hold at least one token, got none"):
        RecurrentLM(dim=2).fit([0, 1], validation=([], None))


def test_no_epoch_leaves_the_start():
    model = RecurrentLM(dim=5, epochs=0).fit(**TEXT)
    assert model.history == []
    assert model.perplexity(**OTHER) < 1.05 * V


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim must be"),
        ({"cells": 1.5}, "cells must be"),
        ({"layers": 0}, "layers must be"),
        ({"dropout": 1.0}, "dropout must be below 1, got 1.0"),
        ({"start": "warm"}, "start must be one of 'explicit', 'random', got 'warm'"),
        ({"budget": 0}, "budget must be"),
        ({"epochs": 2, "budget": 3.0}, "epochs and budget cannot both be given, got 2 and 3.0"),
        ({"n_threads": 0}, "n_threads must be"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        RecurrentLM(**settings)


def test_a_model_without_text_says_so():
    for ask in (lambda m: m.log_prob([1]), lambda m: m.distribution([]), lambda m: m.vocab_size, lambda m: m.summary()):
        with pytest.raises(ValueError, match="the model has seen no text yet; call fit first"):
            ask(RecurrentLM())


def test_ids_out_of_range(model):
    with pytest.raises(ValueError, match="ids"):
        model.log_prob([V])
    with pytest.raises(ValueError, match="context"):
        model.distribution([V])

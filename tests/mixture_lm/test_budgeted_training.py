"""A mixture within a given time: counts first, a neural expert for the rest, and what an interrupt leaves."""

import re
import time
import warnings

import numpy as np
import pytest

import saffu
from helpers.made_up import documents_with_habits
from saffu.mixture_lm import TimeBudget, train_within
from saffu.mixture_lm.budgeted_training import recurrent_expert
from saffu.mixture_lm.held_out import FEWEST_DOCUMENTS, LEAD, MOST_TOKENS, hold_out
from saffu.utils.streams import TokenStream

V = 30
IDS, STARTS = documents_with_habits(4000, 0, V, (0.4, 0.3))
STREAM = TokenStream.of(IDS, STARTS)
SMALL = {"order": 3, "radius": 1, "windows": (), "induction": 0}


class Neural(saffu.Transformer):
    """A neural expert that is trained in a moment, and remembers what it was given."""

    def __init__(self, *, budget, n_threads=None):
        super().__init__(V, hidden=8, layers=1, positions=16, n_threads=n_threads)
        self.budget = budget

    def fit(self, ids, *, documents=None, vocab_size=None, validation=None, progress=None):
        self.seen = ids, documents, validation
        trained = self.refine(ids, documents=documents, epochs=1, batch_tokens=256, progress=progress)
        self.arrays = trained.arrays
        return self


def within(budget=60, stream=STREAM, **more):
    explicit = saffu.ExplicitLM(**SMALL)
    found = train_within(stream, budget=TimeBudget(budget), explicit=explicit, vocab_size=V, progress=False, **more)
    assert found.experts[0] is explicit
    return found


def test_counts_are_whole_and_the_neural_expert_gets_the_rest_of_the_time():
    lines, began = [], time.monotonic()
    model = within(neural=Neural, report=lines.append)
    seconds = time.monotonic() - began
    counts, neural = model.experts
    alone = saffu.ExplicitLM(**SMALL).fit(IDS, documents=STARTS, vocab_size=V)
    assert counts.scalars == alone.scalars
    assert 60 - seconds - 0.03 * 60 - 1.5 < neural.budget < 60 - 0.03 * 60 - 1
    assert not model.interrupted
    assert model.perplexities[-1] <= min(model.perplexities[:-1])
    assert [line.split(":")[0] for line in lines] == ["counted expert", "neural expert", "mixture"]
    assert f"held-out perplexity {model.perplexities[0]:,.1f}, " in lines[0]
    assert lines[2].endswith("left")


def test_weights_are_fitted_on_text_that_the_neural_expert_was_not_shown():
    model = within(neural=Neural)
    ids, _, validation = model.experts[1].seen
    n_held_out = IDS.size // 20
    assert ids.size == IDS.size - n_held_out
    assert validation[0].size == n_held_out // 4
    assert model.summary()["weights_fitted_on"] == n_held_out - validation[0].size


def test_no_time_is_left_for_a_neural_expert():
    def never(**settings):
        raise AssertionError

    lines = []
    model = within(1, neural=never, report=lines.append)
    assert model.weights.tolist() == [1]
    assert model.experts[0].n_tokens == IDS.size
    assert lines[-1] == "no neural expert: no time is left for it"


def test_a_text_that_is_too_short():
    lines = []
    model = within(stream=TokenStream.of(IDS[:10]), report=lines.append)
    assert model.weights.tolist() == [1]
    assert lines[-1] == "no neural expert: the text is too short"


def test_a_neural_expert_that_helps_nothing_has_no_weight():
    class Useless(Neural):
        def log_prob(self, ids, *, documents=None, progress=None):
            return np.full(len(ids), -np.inf)

    model = within(neural=Useless)
    assert model.weights.tolist() == [1, 0]
    np.testing.assert_array_equal(model.log_prob(IDS[:50]), model.experts[0].log_prob(IDS[:50]))


@pytest.mark.parametrize("moment", ["fit", "log_prob"])
def test_an_interrupt_leaves_the_counts(moment):
    class Interrupted(Neural):
        pass

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    setattr(Interrupted, moment, interrupt)
    model = within(neural=Interrupted)
    assert model.interrupted
    assert model.weights.tolist() == [1]
    assert model.experts[0].n_tokens == IDS.size


def test_an_interrupted_neural_expert_is_mixed_as_it_is(tmp_path):
    class Interrupted(Neural):
        def fit(self, ids, **settings):
            super().fit(ids, **settings)
            self.interrupted = True
            return self

    model = within(neural=Interrupted)
    assert model.interrupted
    assert len(model.experts) == 2
    model.save(tmp_path / "model")
    assert saffu.load(tmp_path / "model").interrupted


def test_an_interrupt_of_counting_ends_everything(monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(saffu.ExplicitLM, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        within(neural=Neural)


def test_the_recurrent_model_is_the_neural_expert():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = within(600, neural=lambda budget, n_threads: recurrent_expert(budget=1.0, n_threads=n_threads))
    assert type(model.experts[1]).__name__ == "RecurrentLM"
    assert model.perplexities[-1] <= model.perplexities[0]


def test_a_budget():
    budget = TimeBudget("10m", began=time.monotonic() - 15)
    assert 540 < budget.left() <= 585
    assert re.fullmatch(r"9:\d\d left", str(budget))
    with pytest.raises(ValueError, match="budget must be"):
        TimeBudget("soon")


# ---- the part that is held out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_documents", [1, 2, 30, 300])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_both_parts_are_the_text(n_documents, share):
    rng = np.random.default_rng(n_documents)
    lengths = rng.integers(1, 40, n_documents) if n_documents > 2 else np.full(n_documents, 3000)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    stream = TokenStream.of(ids, np.cumsum(lengths) - lengths)
    part = hold_out(stream, share)
    assert sorted([*part.training.ids, *part.held_out.ids]) == ids.tolist()
    np.testing.assert_array_equal(part.scored.ids[part.lead :], part.held_out.ids)
    assert abs(part.held_out.ids.size - share * ids.size) <= max(0.3 * share * ids.size, 40)
    whole = [document.tolist() for document in np.split(ids, stream.starts[1:])]
    if n_documents * share >= FEWEST_DOCUMENTS:
        for side in part[:2]:
            assert all(document.tolist() in whole for document in np.split(side.ids, side.starts[1:]))
        assert part.held_out.ids[-1] == ids[-1]
    elif share:
        cut = part.held_out.ids[0]
        np.testing.assert_array_equal(part.held_out.ids, ids[cut:])
        begin = stream.begins(np.array([cut]))[0]
        assert part.lead == min(cut - begin, LEAD)
        assert part.scored.ids[0] == cut - part.lead
        assert part.held_out.starts.tolist() == [start - cut for start in stream.starts if start >= cut]


def test_no_more_is_held_out_than_weights_need():
    part = hold_out(TokenStream.of(np.zeros(30 * MOST_TOKENS, np.int32)), 0.2)
    assert part.held_out.ids.size == MOST_TOKENS
    assert part.lead == LEAD

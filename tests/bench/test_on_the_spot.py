"""The benchmark of learning on the spot: its grammar and lexicon, what the explicit learner does, and its tables."""

import csv

import numpy as np
import pytest

from bench.data.utterances import (
    ACTIONS,
    COMPLAINTS,
    DEVICES,
    FRAMES,
    Lexicon,
    _misspelt,
    documents_of,
    utterances,
)
from bench.experiments import learning_on_the_spot
from bench.trials.one_core import on_one_core


def test_utterances_are_determined_by_their_seed():
    assert utterances(80, 3) == utterances(200, 3)[:80]
    assert utterances(80, 3) != utterances(80, 4)
    assert utterances(1, 0)[0].text == utterances(1, 0)[0].text.lower().strip()


def test_every_action_is_drawn_and_can_be_said():
    assert set(FRAMES) == set(COMPLAINTS) == set(ACTIONS)
    assert {action.rsplit(" ", 1)[0] for action in ACTIONS} == set(DEVICES)
    share = np.bincount([spoken.action for spoken in utterances(2000, 0)], minlength=len(ACTIONS)) / 2000
    assert np.abs(share - 1 / len(ACTIONS)).max() < 0.03


def test_unknown_words_keep_coming():
    known = {word for spoken in utterances(200, 0) for word in spoken.text.split()}
    fresh = [word for spoken in utterances(200, 1) for word in spoken.text.split()]
    assert 0.02 < np.mean([word not in known for word in fresh]) < 0.15


@pytest.mark.parametrize("seed", range(5))
def test_a_misspelling_is_one_slip_and_takes_the_number_of_its_word(seed):
    rng = np.random.default_rng(seed)
    lexicon = Lexicon(10, 20)
    words = lexicon.learn("kitchen curtains tired")
    for word, number in zip(("kitchen", "curtains", "tired"), words, strict=True):
        slips = [_misspelt(word, rng) for _ in range(20)]
        assert {len(slip) - len(word) for slip in slips} <= {-1, 0, 1}
        assert len(set(slips)) > 5
        assert {tuple(lexicon.known(slip)) for slip in slips} == {(number,)}
    assert _misspelt("a", rng) == "a"


def test_lexicon_learns_only_when_it_is_to_and_until_it_is_full():
    lexicon = Lexicon(5, 8)
    assert lexicon.known("on off") == [5, 5]
    assert lexicon.learn("on off on") == [6, 7, 6]
    assert lexicon.learn("of up on") == [
        5,
        5,
        6,
    ]  # short words are not slips of each other, and it is full
    assert lexicon.known("on off of") == [6, 7, 5]


def test_explicit_learner_answers_by_the_likeliest_document():
    learner = learning_on_the_spot.Explicit()
    assert learner.answer([20]) == 0
    for tokens, action in [([20, 21], 3), ([22, 23, 24], 7), ([20, 25], 3), ([22], 7)] * 3:
        learner.update(tokens, action)
        learner.rest()
    np.testing.assert_array_equal(documents_of([20, 21], [3, 7]), [3, 20, 3, 21, 7, 20, 7, 21])
    assert [learner.answer(tokens) for tokens in ([20, 21], [20], [24, 22], [23, 26])] == [3, 3, 7, 7]
    score = [
        sum(lp for t, lp in enumerate(learner.model.log_prob(documents_of([24, 22], [a]))) if t != 2)
        for a in range(len(ACTIONS))
    ]
    assert int(np.argmax(score)) == learner.answer([24, 22])
    assert learner.n_weights == learner.model.counts.n_entries


def test_it_learns():
    lesson = learning_on_the_spot.taught(learning_on_the_spot.Explicit, 0, (0, 120), 100)
    assert lesson.accuracy[0] < 0.3
    assert lesson.accuracy[120] > 0.7
    assert [len(part) for part in lesson[1:2] + lesson[3:]] == [120] * 4


def test_small_configuration_stays_within_its_memory():
    found = on_one_core()
    assert 120_000 < found["entries"] < 180_000
    assert found["megabytes"] < learning_on_the_spot.MEGABYTES


@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_quick_run_writes_table_and_figure(tmp_path, capsys):
    for library in ("matplotlib", "torch"):
        pytest.importorskip(library)
    learning_on_the_spot.main(["--quick", "--out", str(tmp_path)])
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    names = {record["contender"].split(",")[0] for record in records}
    assert names == {"explicit", "same shape", "bag of words", "recurrent"}
    assert all(0 <= float(record["accuracy"]) <= 1 for record in records)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.startswith(capsys.readouterr().out[: len(table) - 1])
    assert "Seeds: 10, 11." in table
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"

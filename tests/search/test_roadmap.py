"""The roadmap: grids and balanced samples, the journal, the held-out split, runs that are stopped, the report."""

import collections
import csv
import functools
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu.cli import main as cli
from saffu.search import architectures as grid
from saffu.search import figures as plot
from saffu.search import report, roadmap
from saffu.search.architectures import Architecture
from saffu.search.report import Refined, Result
from saffu.search.result_log import Journal
from saffu.text import Corpus, Vocabulary

TIMES = {"seconds_solve", "seconds_score", "seconds_refine", "pareto_seconds", "peak_megabytes"}
SMALL = {"bits": [16, 32], "contexts": ["radial", "block+document"], "radius": [2, 4]}


default_grid = functools.cache(grid.default_grid)


@pytest.fixture(autouse=True)
def without_figures(request, monkeypatch):
    """No figure, which takes most of the time of a run, but where a test asks for one."""
    if "draws" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def draws():
    """Let a test draw."""
    pytest.importorskip("matplotlib")


# ---- architectures ---------------------------------------------------------------------------------------------------


def test_what_has_no_effect_is_none():
    plain = Architecture(contexts=("document",), block=2, radius=3, heads=4)
    assert (plain.block, plain.radius, plain.heads) == (None, None, None)
    assert plain == Architecture(contexts="document")
    mixed = Architecture(contexts=["document", "radial"], block=2, radius=3, heads=4)
    assert (mixed.contexts, mixed.block, mixed.radius, mixed.heads) == (("radial", "document"), None, 3, 4)


def test_an_architecture_survives_json():
    for architecture in grid.default_grid(40):
        again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
        assert (again, again.key) == (architecture, architecture.key)


def test_keys_and_names_tell_architectures_apart():
    every = default_grid()
    assert len({architecture.key for architecture in every}) == len(every)
    assert len({str(architecture) for architecture in every}) == len(every)
    assert len({roadmap._file_name(architecture) for architecture in every}) == len(every)


def test_default_grid_has_every_value_equally_often():
    every = default_grid()
    assert 240 <= len(set(every)) == len(every) <= 260
    for name, values in grid.DEFAULT_CHOICES.items():
        counts = collections.Counter(getattr(architecture, name) for architecture in every)
        counts.pop(None, None)
        assert set(counts) == set(values)
        if name == "contexts":
            assert counts.pop(("document",)) == 4 * 4 * 2  # all there are: bits, hidden, residual
        assert max(counts.values()) - min(counts.values()) <= 1, name


def test_default_grid_has_pairs_of_values_about_equally_often():
    every = default_grid()
    for one, other in itertools.combinations(grid.NAMES, 2):
        pairs = [(getattr(item, one), getattr(item, other)) for item in every]
        counts = collections.Counter(pair for pair in pairs if None not in pair)
        assert max(counts.values()) - min(counts.values()) <= 5, (one, other)


@pytest.mark.parametrize("size", [28, 63, 100])
def test_each_beginning_of_the_default_grid_is_balanced(size):
    beginning = default_grid()[:size]
    assert beginning == grid.default_grid(size)
    for name in grid.NAMES:
        counts = collections.Counter(getattr(architecture, name) for architecture in beginning)
        counts.pop(None, None)
        assert max(counts.values()) - min(counts.values()) <= 1, name


def test_product_has_each_model_once():
    found = grid.product({"bits": [16, 32], "contexts": ["radial", "document"], "block": [2, 4], "radius": [2, 4]})
    assert len(found) == 2 * (2 + 1)
    assert len(set(found)) == len(found)


def test_sample_of_a_list():
    every = grid.product({"bits": [16, 32, 64], "layers": [1, 2]})
    sample = grid.balanced_sample(every, 3)
    assert sorted(architecture.bits for architecture in sample) == [16, 32, 64]
    assert set(grid.balanced_sample(every, 100)) == set(every)
    assert grid.balanced_sample(every, 3, seed=1) != sample


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("3", "must hold an object of lists or a list of architectures, got 3"),
        ("[]", "must hold an object of lists"),
        ('{"bit": [1]}', "unknown hyper-parameter 'bit'; known are bits, contexts"),
        ('{"bits": 64}', "bits must be a list of at least one value, got 64"),
        ('{"bits": []}', "bits must be a list of at least one value"),
        ('{"bits": [0]}', "bits must be at least 1, got 0"),
        ('{"bits": ["64"]}', "bits must be an integer, got '64'"),
        ('{"heads": [true]}', "heads must be an integer, got True"),
        ('{"contexts": ["radial"], "block": [-1]}', "block must be at least 1, got -1"),
        ('{"residual": [1]}', "residual must be true or false, got 1"),
        ('{"contexts": ["far"]}', "contexts must be one of 'block', 'radial', 'document', got 'far'"),
        ('{"contexts": [["radial", "radial"]]}', "each once"),
        ('{"contexts": [[]]}', "at least one context"),
        ('{"contexts": [7]}', "contexts must be a list of block, radial, document, got 7"),
        ('[{"bits": 64}, {"bits": "x"}]', "architecture 2: bits must be an integer, got 'x'"),
        ("[7]", "architecture 1: an architecture must be an object, got 7"),
        (json.dumps({name: list(range(1, 30)) for name in ("bits", "block", "radius", "hidden")}), "combinations"),
    ],
)
def test_a_bad_grid_is_named(tmp_path, content, message):
    path = tmp_path / "grid.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"grid\.json") as caught:
        grid.read_grid(path)
    assert message in str(caught.value)


def test_grids_are_read(tmp_path):
    path = tmp_path / "grid.json"
    path.write_text(json.dumps(SMALL))
    assert grid.read_grid(path) == grid.product(SMALL)
    listed = [{"bits": 32, "contexts": ["block", "radial"]}, {"residual": True}, {"residual": True, "block": 3}]
    path.write_text(json.dumps(listed))
    assert grid.read_grid(path) == [Architecture(bits=32, contexts="radial+block"), Architecture(residual=True)]


# ---- the journal -----------------------------------------------------------------------------------------------------


def test_a_journal_keeps_its_records(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, {"text": "a"}) as journal:
        journal.append({"x": 0.1})
        with pytest.raises(ValueError, match="JSON"):
            journal.append({"x": math.nan})
        journal.append({"x": "two\nlines"})
        assert path.read_bytes().count(b"\n") == 3
    with Journal(path, {"text": "a"}) as journal:
        assert journal.records == [{"x": 0.1}, {"x": "two\nlines"}]


def test_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, {"text": "a"}) as journal:
        journal.append({"x": 1})
        journal.append({"y": 2})
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with Journal(path, {"text": "a"}) as journal:
            n_whole = sum(end <= size for end in ends)
            assert journal.records == [{"x": 1}, {"y": 2}][: max(n_whole - 1, 0)]
            journal.append({"z": 3})
        with Journal(path, {"text": "a"}) as journal:
            assert journal.records[-1] == {"z": 3}


def test_a_journal_of_something_else_is_refused(tmp_path):
    path = tmp_path / "journal"
    Journal(path, {"tokens": 10, "text": "a"}).close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"tokens 10 instead of 20; name another folder, or delete the file"):
        Journal(path, {"tokens": 20, "text": "a"})
    assert path.read_bytes() == before


def test_damage_before_the_last_line_is_named(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b'{"text": "a"}\n{"x": \n{"y": 2}\n')
    with pytest.raises(ValueError, match="damaged at line 2; delete that line"):
        Journal(path, {"text": "a"})


def test_a_journal_is_for_one_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "journal", {}), pytest.raises(OSError, match="in use by another process"):
        Journal(tmp_path / "journal", {})
    Journal(tmp_path / "journal", {}).close()


# ---- the held-out split ----------------------------------------------------------------------------------------------


def write_text(path, n_documents, lines_each=2, tokens_each=3, seed=0, line_end="\n"):
    """A file of words of decreasing frequency; each line ends a token later."""
    rng = np.random.default_rng(seed)
    words = np.array([f"w{number}" for number in range(40)])
    weights = 1 / np.arange(1, 41)
    documents = []
    for _ in range(n_documents):
        drawn = rng.choice(words, (lines_each, tokens_each), p=weights / weights.sum())
        documents.append(line_end.join(" ".join(line) for line in drawn))
    path.write_text("\n\n".join(documents) + "\n")
    return path


def test_given_held_out_text_leaves_all_text_for_training(tmp_path):
    train, valid = write_text(tmp_path / "train", 30), write_text(tmp_path / "valid", 10, seed=1)
    split = roadmap.read_split(train, valid=valid)
    vocabulary = Corpus(train).build_vocabulary()
    assert split.vocabulary == vocabulary
    assert split.vocab_size == len(vocabulary)
    for path, ids, starts in ((train, split.ids, split.documents), (valid, split.held_out, split.held_out_documents)):
        text = Corpus(path).read(vocabulary)
        np.testing.assert_array_equal(ids, text.ids)
        np.testing.assert_array_equal(starts, text.documents)


def test_every_twentieth_document_is_held_out(tmp_path):
    text = Corpus(write_text(tmp_path / "text", 100))
    split = roadmap.read_split(text.paths)
    assert (split.ids.size, split.held_out.size) == (95 * 8, 5 * 8)
    np.testing.assert_array_equal(split.documents, 8 * np.arange(95))
    np.testing.assert_array_equal(split.held_out_documents, 8 * np.arange(5))
    tokens = np.reshape([*itertools.chain.from_iterable(text.token_lists())], (100, 8))
    trained = np.arange(100) % 20 != 19
    assert split.vocabulary == Vocabulary.build([tokens[trained].ravel().tolist()], 3)  # ties included
    whole = text.read(split.vocabulary).ids.reshape(100, 8)
    np.testing.assert_array_equal(split.ids, whole[trained].ravel())
    np.testing.assert_array_equal(split.held_out, whole[~trained].ravel())


def test_numbers_of_tokens_are_limits(tmp_path):
    path = write_text(tmp_path / "text", 100)
    split = roadmap.read_split(path, tokens=400)  # 421 tokens are read: 53 documents, two held out
    assert (split.ids.size, split.held_out.size) == (400, 16)
    split = roadmap.read_split(path, held_out_tokens=17)  # 800 tokens: every 48th document
    assert (split.ids.size, split.held_out.size) == (98 * 8, 2 * 8)
    split = roadmap.read_split(path, tokens=50, valid=path, held_out_tokens=17)
    assert (split.ids.size, split.held_out.size) == (50, 17)
    np.testing.assert_array_equal(split.held_out_documents, [0, 8, 16])


def test_every_file_gives_its_share_and_a_short_one_what_it_has(tmp_path):
    short, long, longer = (write_text(tmp_path / str(n), n, seed=n) for n in (5, 60, 90))
    split = roadmap.read_split([longer, short, long], tokens=400, valid=short)
    whole = [Corpus(path).read(split.vocabulary).ids for path in (short, long, longer)]
    np.testing.assert_array_equal(split.ids, np.concatenate([whole[0], whole[1][:180], whole[2][:180]]))
    np.testing.assert_array_equal(np.diff(split.documents)[[0, 3, 4, 26]], [8, 8, 8, 8])
    assert 40 + 180 in split.documents


def test_few_documents_are_cut_at_lines_and_few_lines_at_tokens(tmp_path):
    split = roadmap.read_split(write_text(tmp_path / "lines", 1, 40, 4))
    assert (split.ids.size, split.held_out.size) == (38 * 5, 2 * 5)
    split = roadmap.read_split(write_text(tmp_path / "tokens", 1, 1, 199))
    assert (split.ids.size, split.held_out.size) == (190, 10)
    np.testing.assert_array_equal(split.held_out_documents, [0])
    (tmp_path / "short").write_text("only a few words")
    with pytest.raises(ValueError, match="too few to hold some out"):
        roadmap.read_split(tmp_path / "short")


def test_unigram_perplexity():
    split = make_split()
    frequency = np.bincount(split.ids, minlength=4) / split.ids.size
    assert split.unigram_perplexity == pytest.approx(np.exp(-np.log(frequency[split.held_out]).mean()))


# ---- runs ------------------------------------------------------------------------------------------------------------


def make_split(seed=0):
    rng = np.random.default_rng(seed)
    ids = np.append(rng.integers(0, 4, 500), np.arange(4))
    return roadmap.Split(ids, [0, 100], rng.integers(0, 4, 50), [0], 4)


class FakeModel:
    """Better the larger it is, and by a fifth after each epoch; some architectures fail."""

    def __init__(self, architecture, split):
        if architecture.hidden == 666:
            raise MemoryError("too many\nhidden units")
        self.n_parameters = architecture.bits * architecture.hidden * len(architecture.contexts)
        self.score = 100 / math.log(self.n_parameters) + (architecture.radius or 0)

    def perplexity(self, ids, documents):
        return self.score + ids.size / 1000

    def refine(self, ids, *, epochs, documents):
        assert documents is not None
        self.score *= 0.8**epochs
        return self

    def save(self, path):
        Path(path).write_text(f"{self.score}")


class Solver:
    """A fake solve that counts its calls and can be made to stop at one of them."""

    def __init__(self, stop_at=None, stop=None):
        self.calls, self.stop_at, self.stop = [], stop_at, stop

    def __call__(self, architecture, split, shared):
        assert shared == "shared"
        self.calls.append(architecture)
        if len(self.calls) == self.stop_at:
            self.stop()
        return FakeModel(architecture, split)


def run(out, solve=None, architectures=None, split=None, **settings):
    """A run over fakes."""
    architectures = grid.product(SMALL) if architectures is None else architectures
    settings = {"refine": 2, "prepare": lambda split: "shared"} | settings
    return roadmap.run(split or make_split(), architectures, out, solve=solve or Solver(), **settings)


def table(out):
    """The rows of results.csv without what differs from run to run."""
    with open(Path(out) / "results.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def saved(out):
    return {path.name: path.read_text() for path in (Path(out) / "models").iterdir()}


def test_a_run_writes_what_it_found(tmp_path):
    found = run(tmp_path / "map")
    rows = table(tmp_path / "map")
    assert len(rows) == len(found.results) == len(grid.product(SMALL)) == 6
    assert found.n_pending == 0
    scores = [float(row["perplexity"]) for row in rows]
    assert scores == sorted(scores)
    for row, result in zip(rows, found.results, strict=True):
        architecture = result.architecture
        model = FakeModel(architecture, None)
        assert float(row["perplexity"]) == result.perplexity == pytest.approx(model.score + 0.05)
        assert int(row["n_parameters"]) == result.n_parameters == model.n_parameters
        assert row["contexts"] == "+".join(architecture.contexts)
        assert row["radius"] == ("" if architecture.radius is None else str(architecture.radius))
        assert row["train_tokens"] == "504"
    refined = [float(row["refined_perplexity"]) for row in rows if row["refined_perplexity"]]
    assert refined == pytest.approx([0.8 * (score - 0.05) + 0.05 for score in scores[:2]])
    assert set(saved(tmp_path / "map")) == {Path(row["refined_file"]).name for row in rows[:2]}
    assert {Path(name).name for name in found.files} >= {"results.csv", "summary.md"}


def test_a_second_run_solves_nothing(tmp_path):
    run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    solve = Solver()
    run(tmp_path, solve, prepare=None)
    assert solve.calls == []
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name in ("results.jsonl", "results.csv", "summary.md"):
        assert after[name] == before[name]


def test_what_is_shared_is_computed_once(tmp_path):
    calls = []
    run(tmp_path, prepare=lambda split: calls.append(split) or "shared")
    assert len(calls) == 1


def test_a_run_cut_short_anywhere_ends_with_the_same_results(tmp_path):
    run(tmp_path / "whole")
    journal = (tmp_path / "whole" / "results.jsonl").read_bytes()
    lines = [0, *(place + 1 for place, byte in enumerate(journal) if byte == ord("\n"))]
    for begin in lines:
        for size in {begin, begin + 1, begin + 40, begin - 1} & set(range(len(journal) + 1)):
            out = tmp_path / f"cut{size}"
            out.mkdir()
            (out / "results.jsonl").write_bytes(journal[:size])
            solve = Solver()
            run(out, solve)
            assert table(out) == table(tmp_path / "whole")
            n_kept = sum(b'"solved"' in line for line in journal[:size].split(b"\n")[:-1])
            n_refined = sum(b'"refined"' in line for line in journal[:size].split(b"\n")[:-1])
            assert len(solve.calls) == 6 - n_kept + 2 - n_refined  # nothing is done twice


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import test_roadmap as here
here.run(sys.argv[1], here.Solver(int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_is_resumed(tmp_path):
    run(tmp_path / "whole")
    out, places = tmp_path / "killed", [str(Path(__file__).parent), str(Path(saffu.__file__).parents[1])]
    for call, n_solved, n_refined in ((3, 2, 0), (2, 3, 0), (5, 6, 1)):
        killed = subprocess.run([sys.executable, "-P", "-c", KILLED, out, str(call), *places], check=False)
        assert killed.returncode == -signal.SIGKILL
        journal = (out / "results.jsonl").read_text()
        assert (journal.count('"solved"'), journal.count('"refined"')) == (n_solved, n_refined)
    run(out)
    assert table(out) == table(tmp_path / "whole")
    assert saved(out) == saved(tmp_path / "whole")


def test_an_interrupt_loses_nothing(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Solver(4, interrupt))
    solve = Solver()
    run(tmp_path / "stopped", solve)
    assert len(solve.calls) == 3 + 2
    assert table(tmp_path / "stopped") == table(tmp_path / "whole")


def test_a_failure_does_not_stop_the_others(tmp_path):
    architectures = [Architecture(hidden=666), *grid.product(SMALL)]
    found = run(tmp_path, architectures=architectures)
    assert len(found.results) == 7
    assert found.results[-1].error == "MemoryError: too many hidden units"
    assert table(tmp_path)[-1]["error"] == "MemoryError: too many hidden units"
    assert "MemoryError: too many hidden units" in (tmp_path / "summary.md").read_text()
    solve = Solver()
    run(tmp_path, solve, architectures=architectures)
    assert solve.calls == []
    run(tmp_path, solve, architectures=architectures, retry=True)
    assert solve.calls == [Architecture(hidden=666)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_perplexity_that_is_no_number_is_a_failure(tmp_path, monkeypatch, value):
    monkeypatch.setattr(FakeModel, "perplexity", lambda *_, **__: value)
    found = run(tmp_path, architectures=[Architecture()])
    assert found.results[0].error == f"ValueError: the perplexity of the held-out text is {value}"


def test_a_failure_to_refine_keeps_the_solved_model(tmp_path, monkeypatch):
    def refine(self, ids, *, epochs, documents):
        raise ValueError("no step helps")

    with monkeypatch.context() as patch:
        patch.setattr(FakeModel, "refine", refine)
        found = run(tmp_path, refine=1)
    assert found.results[0].perplexity is not None
    assert found.results[0].refined.error == "ValueError: no step helps"
    assert "no step helps" in (tmp_path / "summary.md").read_text()
    assert run(tmp_path, refine=1).results[0].refined.perplexity is None
    assert run(tmp_path, refine=1, retry=True).results[0].refined.perplexity is not None


def test_a_failure_of_what_is_shared_stops_the_run(tmp_path):
    def prepare(split):
        raise ValueError("no counts")

    with pytest.raises(ValueError, match="no counts"):
        run(tmp_path, prepare=prepare)
    assert len(run(tmp_path).results) == 6


def test_other_numbers_of_epochs_refine_anew(tmp_path):
    one = run(tmp_path, refine=1).results[0].refined
    three = run(tmp_path, refine=1, epochs=3).results[0].refined
    assert (one.epochs, three.epochs) == (1, 3)
    assert three.perplexity < one.perplexity


def test_a_refined_model_may_be_a_new_one(tmp_path, monkeypatch):
    def refine(self, ids, *, epochs, documents):
        model = FakeModel(Architecture(), None)
        model.score = 1.0
        return model

    monkeypatch.setattr(FakeModel, "refine", refine)
    assert run(tmp_path, refine=1).results[0].refined.perplexity == pytest.approx(1.05)


def test_no_time_leaves_everything_to_a_later_run(tmp_path):
    found = run(tmp_path, minutes=0)
    assert (found.results, found.n_pending) == ([], 6)
    assert (tmp_path / "results.csv").read_text().startswith("bits,contexts,block,radius,heads,layers,hidden,residual,")
    assert "6 are still to be done" in (tmp_path / "summary.md").read_text()
    found = run(tmp_path)
    assert (len(found.results), found.n_pending) == (6, 0)
    assert "still to be done" not in (tmp_path / "summary.md").read_text()


def test_results_of_another_text_are_not_mixed(tmp_path):
    run(tmp_path, settings={"saffu": "1"})
    for other in ({"split": make_split(1), "settings": {"saffu": "1"}}, {"settings": {"saffu": "2"}}):
        with pytest.raises(ValueError, match=r"holds other results: .* delete the file"):
            run(tmp_path, **other)


def test_further_architectures_join_the_results(tmp_path):
    run(tmp_path)
    found = run(tmp_path, architectures=[Architecture(hidden=512)])
    assert len(found.results) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architectures": []}, "architectures must name at least one"),
        ({"refine": -1}, "refine must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"minutes": -1}, "minutes must be finite and not negative"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **settings)


# ---- the report ------------------------------------------------------------------------------------------------------

FACTS = {"tokens": 9000, "held_out_tokens": 500, "types": 70, "unigram_perplexity": 300.0, "seconds_shared": 1.5}


def planted(architectures, noise=0.0):
    """Results whose log perplexity, parameters and seconds are sums of known effects."""
    rng = np.random.default_rng(0)
    results = []
    for item in architectures:
        nats = 5 - 0.1 * math.log2(item.bits) + (0.05 * math.log2(item.radius) if item.radius else 0)
        nats += 0.3 * ("document" not in item.contexts) - 0.5 * item.residual + noise * rng.normal()
        results.append(Result(item, 10 * item.bits * item.hidden, math.exp(nats), 0.01 * (item.layers or 1), 0.1))
    return results


def effect_of(found, name, value):
    [effect] = [effect for effect in found if (effect.name, effect.value) == (name, value)]
    return effect


def test_effects_are_those_planted():
    every = default_grid()
    uneven = [item for place, item in enumerate(every) if place % 3 or item.bits != 16 or item.residual]
    found = report.effects(planted(uneven))
    for place, bits in enumerate((16, 32, 64, 128)):
        effect = effect_of(found, "bits", bits)
        assert effect.effect == pytest.approx(-0.1 * (place - 1.5), abs=1e-9)
        assert effect.parameters == pytest.approx(math.log(2) * (place - 1.5), abs=1e-9)
        assert effect.seconds == pytest.approx(0, abs=1e-9)
        assert effect.n_models == sum(item.bits == bits for item in uneven)
        assert effect_of(found, "radius", 2 ** (place + 1)).effect == pytest.approx(0.05 * (place - 1.5), abs=1e-9)
    assert effect_of(found, "residual", True).effect == pytest.approx(-0.25)
    assert effect_of(found, "layers", 2).seconds == pytest.approx(math.log(2) / 2)
    assert effect_of(found, "heads", 3).effect == pytest.approx(0, abs=1e-9)
    shares = report.shares(planted(uneven))
    assert sorted(shares, key=shares.get)[-3:] == ["bits", "contexts", "residual"]
    assert shares["layers"] == pytest.approx(0, abs=1e-9)


def test_margins_cover_what_was_planted():
    found = report.effects(planted(default_grid(), noise=0.2))
    errors = [abs(effect_of(found, "bits", 16 << place).effect + 0.1 * (place - 1.5)) for place in range(4)]
    margins = [effect_of(found, "bits", 16 << place).margin for place in range(4)]
    # The standard error of a mean of 63 against that of 252.
    assert margins == pytest.approx([1.97 * 0.2 * math.sqrt(3 / 252)] * 4, rel=0.2)
    assert all(error < 1.5 * margin for error, margin in zip(errors, margins, strict=True))


def test_too_few_results_have_no_effects():
    assert report.effects(planted(grid.default_grid(20))) == []
    assert report.effects([]) == []
    assert report.effects(planted([Architecture()] * 3)) == []
    assert "Too few results" in report.summary(planted(grid.default_grid(20)), FACTS)


def test_pareto_front_is_what_nobody_beats():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost, score = rng.integers(0, 8, (2, 12))
        front = report.pareto_front(cost, score)
        beaten = [
            any(
                (cost[b] <= cost[a] and score[b] < score[a]) or (cost[b] < cost[a] and score[b] <= score[a])
                for b in range(12)
            )
            for a in range(12)
        ]
        points = {(cost[place], score[place]) for place in range(12) if not beaten[place]}
        assert [(cost[place], score[place]) for place in front] == sorted(points)


def test_best_within_a_budget():
    results = planted(default_grid())
    for budget in (10_000, 100_000, math.inf):
        best = report.best_within(results, budget)
        assert best.n_parameters <= budget
        assert best.perplexity == min(result.perplexity for result in results if result.n_parameters <= budget)
    assert report.best_within(results, 10) is None


def test_the_summary_answers_its_questions():
    results = planted(default_grid())
    best = report.ranked(results)[0]
    results[results.index(best)] = best.with_refined(Refined(2, 44.4, 12.0, "models/a.saffu"))
    text = report.summary(results, FACTS, has_figure=True)
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Best models",
        "Best model for each number of parameters",
        "Is the best the largest?",
        "Pareto front: parameters",
        "Pareto front: seconds of solving",
        "What each hyper-parameter does",
    ]
    assert "252 architectures, each solved on the same 9,000 tokens" in text
    assert f"| 1 | {best.architecture} | {best.n_parameters:,} | {best.perplexity:.1f} | 0.0" in text
    assert "44.4 | 12.0 |" in text
    within = report.best_within([result for result in results if not result.architecture.residual], 30_000)
    assert f"| <= 30,000 | compact | {within.architecture} |" in text
    assert "<= 10,000 | residual" in text
    bits = effect_of(report.effects(results), "bits", 128)
    assert f"| bits | 128 | 63 | {bits.perplexity:.1f} | {100 * math.expm1(-0.15):+.1f} ± 0.0 %" in text
    assert "![" in text
    assert text.count("\n\n\n") == 0
    n_larger = sum(other.n_parameters > best.n_parameters for other in results if other.architecture.residual)
    assert (f"larger and no better: {n_larger}." if n_larger else "yes, no other") in text


def test_the_figure_shows_every_model(draws):
    results = planted(default_grid(), noise=0.1)
    results[0] = results[0].with_refined(Refined(1, 50.0, 1.0))
    content = report.draw(results, 300.0)
    assert content.startswith(b"\x89PNG")
    some = plot.Series("some", *np.array([[1.0, 2], [3, 4], [9, 8], [7, np.nan], [5, np.nan]]))
    figure = plot.pareto([some], 10.0, report.pareto_front)
    assert len(figure.axes) == 2
    costs = ((some.parameters, 1.0), (some.seconds, 5.0))
    for axes, (cost, refined_cost) in zip(figure.axes, costs, strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([cost, some.perplexity], axis=1))
        assert axes.get_xscale() == axes.get_yscale() == "log"
        [stars] = [line for line in axes.lines if line.get_label() == "some, refined"]
        np.testing.assert_allclose(stars.get_xydata(), [[refined_cost, 7.0]])


def test_without_matplotlib_the_rest_is_written(tmp_path):
    found = run(tmp_path)
    assert found.notes == ["a figure needs matplotlib; pip install 'saffu[plot]' installs it"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "results.csv",
        "results.jsonl",
        "summary.md",
    ]
    assert "![" not in (tmp_path / "summary.md").read_text()


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fakes(monkeypatch):
    """Fake models in place of real ones."""
    monkeypatch.setattr(roadmap, "shared_counts", lambda split, n_threads: "shared")
    monkeypatch.setattr(
        roadmap, "solve_saffu", lambda architecture, split, shared, n_threads: FakeModel(architecture, split)
    )
    return monkeypatch


def command(capsys, *arguments):
    code = cli.main(["roadmap", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_makes_the_default_roadmap(tmp_path, capsys, fakes, draws):
    text, out = write_text(tmp_path / "text", 40), tmp_path / "map"
    code, output, errors = command(capsys, text, "--out", out)
    assert (code, errors) == (0, "")
    assert output.startswith(f"{grid.DEFAULT_SIZE} architectures; the best: ")
    assert str(out / "summary.md") in output
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(table(out)) == grid.DEFAULT_SIZE
    assert sum(row["refined_perplexity"] != "" for row in table(out)) == 3
    assert command(capsys, text, "--out", out, "--quiet") == (0, output, "")


def test_the_command_takes_a_grid_and_held_out_text(tmp_path, capsys, fakes):
    text, valid = write_text(tmp_path / "text", 40), write_text(tmp_path / "valid", 4, seed=1)
    (tmp_path / "grid.json").write_text(json.dumps(SMALL))
    out = tmp_path / "map"
    options = ["--out", out, "--grid", tmp_path / "grid.json", "--limit", 4, "--refine", 0, "--tokens", 100]
    code, _, _ = command(capsys, text, "--valid", valid, *options, "--min-count", 1, "--tokenizer", "whitespace")
    assert code == 0
    rows = table(out)
    assert len(rows) == 4
    assert {(row["train_tokens"], row["held_out_tokens"], row["refined_perplexity"]) for row in rows} == {
        ("100", "32", "")
    }
    code, output, errors = command(capsys, text, *options)
    assert (code, output) == (2, "")
    assert "holds other results" in errors


def test_the_command_says_when_it_was_not_complete(tmp_path, capsys, fakes):
    code, output, _ = command(capsys, write_text(tmp_path / "text", 40), "--out", tmp_path / "map", "--minutes", 0)
    assert code == 0
    assert f"{grid.DEFAULT_SIZE} still to be done, the same command goes on" in output


def test_an_interrupt_says_how_to_go_on(tmp_path, capsys, fakes):
    def interrupt(architecture, split, shared, n_threads):
        raise KeyboardInterrupt

    fakes.setattr(roadmap, "solve_saffu", interrupt)
    code, output, errors = command(capsys, write_text(tmp_path / "text", 40), "--out", tmp_path / "map")
    assert (code, output) == (130, "")
    line = "saffu roadmap: interrupted; no result is lost, the same command goes on from here"
    assert errors.splitlines()[1:] == [line]  # the first one says that there will be no figure


def test_the_command_fails_if_everything_does(tmp_path, capsys, fakes):
    (tmp_path / "grid.json").write_text('{"hidden": [666]}')
    text = write_text(tmp_path / "text", 40)
    code, output, errors = command(capsys, text, "--out", tmp_path / "map", "--grid", tmp_path / "grid.json")
    assert (code, output) == (2, "")
    assert "every architecture failed, the first with MemoryError: too many hidden units" in errors


def test_progress_is_for_terminals(tmp_path, capsys, fakes):
    text = write_text(tmp_path / "text", 40)
    fakes.setattr(sys.stderr, "isatty", lambda: True)
    assert "best perplexity" in command(capsys, text, "--out", tmp_path / "map", "--limit", 9)[2]
    assert command(capsys, text, "--out", tmp_path / "quiet", "--limit", 9, "--quiet")[2].count("\n") == 1  # no figure


def test_the_folder_may_not_be_a_file(tmp_path, capsys, fakes):
    text = write_text(tmp_path / "text", 40)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "map"):
        code, _, errors = command(capsys, text, "--out", out)
        assert (code, errors.count(os.linesep)) == (2, 1)
        assert "file' is not a folder" in errors
    assert (tmp_path / "file").read_text() == ""


def test_a_folder_in_use_is_named_before_the_work(tmp_path, capsys, fakes):
    text, out = write_text(tmp_path / "text", 40), tmp_path / "map"
    assert command(capsys, text, "--out", out, "--limit", 2)[0] == 0
    before = (out / roadmap.JOURNAL).read_bytes()
    header = json.loads(before.splitlines()[0])
    fakes.setattr(roadmap, "read_split", None)
    with Journal(out / roadmap.JOURNAL, header):
        assert command(capsys, text, "--out", out, "--limit", 3)[::2] == (
            2,
            f"saffu roadmap: error: {os.fspath(out / roadmap.JOURNAL)!r} is in use by another process; "
            "wait for it or write elsewhere\n",
        )
    assert (out / roadmap.JOURNAL).read_bytes() == before


def test_an_interrupted_refinement_is_no_result(tmp_path, capsys, fakes):
    text, out = write_text(tmp_path / "text", 40), tmp_path / "map"
    fakes.setattr(FakeModel, "interrupted", True, raising=False)
    assert command(capsys, text, "--out", out, "--limit", 2)[0] == 130
    assert "refined" not in (out / roadmap.JOURNAL).read_text()
    assert not (out / "models").exists()
    fakes.setattr(FakeModel, "interrupted", False)
    assert command(capsys, text, "--out", out, "--limit", 2)[0] == 0
    assert (out / roadmap.JOURNAL).read_text().count('"refined"') == 2


def test_an_empty_file_among_others_is_left_out(tmp_path, capsys, fakes):
    text, empty = write_text(tmp_path / "text", 40), tmp_path / "empty"
    empty.write_text(" \n")
    code, _, errors = command(capsys, empty, text, "--out", tmp_path / "map", "--limit", 2)
    assert code == 0
    line = f"saffu roadmap: warning: {os.fspath(empty)!r} holds no text and is left out"
    assert errors.splitlines()[1:] == [line]  # the first one says that there will be no figure
    code, _, errors = command(capsys, empty, empty, "--out", tmp_path / "none")
    assert (code, errors.count("\n")) == (2, 2)
    assert "holds no text, nor does any other file" in errors
    assert not (tmp_path / "none").exists()


def test_what_draws_is_missed_before_the_work(tmp_path, capsys, fakes):
    text = write_text(tmp_path / "text", 40)
    fakes.setattr(roadmap, "run", None)  # whatever comes after the warning fails
    errors = command(capsys, text, "--out", tmp_path / "map")[2].splitlines()
    assert errors[0] == (
        "saffu roadmap: warning: a figure needs matplotlib; pip install 'saffu[plot]' installs it; there will be none"
    )


# ---- the real models -------------------------------------------------------------------------------------------------


def test_the_command_solves_refines_and_saves(tmp_path, capsys, draws):
    text, out = write_text(tmp_path / "text", 60, lines_each=4, tokens_each=6), tmp_path / "map"
    choices = {"bits": [6], "contexts": ["radial", "block+document"], "hidden": [8], "residual": [False, True]}
    (tmp_path / "grid.json").write_text(json.dumps(choices | {"layers": [1, 2], "radius": [2], "block": [3]}))
    options = ["--out", out, "--grid", tmp_path / "grid.json", "--min-count", 2, "--threads", 1]
    code, output, errors = command(capsys, text, *options, "--refine", 2)
    assert (code, errors) == (0, "")
    assert output.startswith("8 architectures; the best: ")
    rows = table(out)
    assert len(rows) == 8
    assert [row["error"] for row in rows] == [""] * 8
    files = sorted(path for path in (out / "models").iterdir())
    assert len(files) == 2
    split = roadmap.read_split(text, min_count=2)
    for path in files:
        model = saffu.load(path)
        assert model.vocabulary == split.vocabulary
        assert model.min_count == (2 if model.residual is not None else 0)
        found = model.perplexity(split.held_out, split.held_out_documents)
        refined = [float(row["refined_perplexity"]) for row in rows if row["refined_perplexity"]]
        assert min(abs(found - value) for value in refined) < 1e-3 * found
    assert command(capsys, text, *options, "--refine", 2, "--quiet") == (0, output, "")


def test_all_architectures_share_one_set_of_counts(monkeypatch):
    split = make_split()
    fitted = []
    monkeypatch.setattr(roadmap.ExplicitLM, "fit", lambda model, ids, **text: fitted.append(model) or model)
    shared = roadmap.shared_counts(split, 1)
    monkeypatch.undo()
    assert fitted == [shared.explicit_lm]
    shared = roadmap.shared_counts(split, 1)
    for hidden in (4, 8):
        architecture = grid.Architecture(bits=4, radius=2, hidden=hidden, residual=True)
        model = roadmap.solve_saffu(architecture, split, shared, 1)
        assert model.residual is shared.explicit_lm
        assert model.hidden == hidden
    assert len(shared.counts.sources) == 1

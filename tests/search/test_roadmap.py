"""Runs of a roadmap that are stopped, killed, continued and that fail."""

import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import saffu
from helpers.fake_roadmap import SMALL, FakeModel, FakeSolver, make_split, run, table
from saffu.search import architectures, solving
from saffu.search.architectures import Architecture
from saffu.search.solving import SaffuSolver


def saved(out):
    return {path.name: path.read_text() for path in (Path(out) / "models").iterdir()}


def test_a_run_writes_what_it_found(tmp_path):
    found = run(tmp_path / "map")
    rows = table(tmp_path / "map")
    assert len(rows) == len(found.results) == len(architectures.product(SMALL)) == 6
    assert found.n_pending == 0
    scores = [float(row["perplexity"]) for row in rows]
    assert scores == sorted(scores)
    for row, result in zip(rows, found.results, strict=True):
        architecture = result.architecture
        model = FakeModel(architecture)
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
    solve = FakeSolver()
    run(tmp_path, solve)
    assert solve.calls == solve.prepared == []
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name in ("results.jsonl", "results.csv", "summary.md"):
        assert after[name] == before[name]


def test_what_is_shared_is_computed_once(tmp_path):
    solve = FakeSolver()
    run(tmp_path, solve)
    assert len(solve.prepared) == 1


def test_a_run_cut_short_anywhere_ends_with_the_same_results(tmp_path):
    run(tmp_path / "whole")
    journal = (tmp_path / "whole" / "results.jsonl").read_bytes()
    lines = [0, *(place + 1 for place, byte in enumerate(journal) if byte == ord("\n"))]
    for begin in lines:
        for size in {begin, begin + 1, begin + 40, begin - 1} & set(range(len(journal) + 1)):
            out = tmp_path / f"cut{size}"
            out.mkdir()
            (out / "results.jsonl").write_bytes(journal[:size])
            solve = FakeSolver()
            run(out, solve)
            assert table(out) == table(tmp_path / "whole")
            n_kept = sum(b'"solved"' in line for line in journal[:size].split(b"\n")[:-1])
            n_refined = sum(b'"refined"' in line for line in journal[:size].split(b"\n")[:-1])
            assert len(solve.calls) == 6 - n_kept + 2 - n_refined  # nothing is done twice


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from helpers import fake_roadmap
fake_roadmap.run(sys.argv[1], fake_roadmap.FakeSolver(int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_is_resumed(tmp_path):
    run(tmp_path / "whole")
    out, places = tmp_path / "killed", [str(Path(__file__).parents[1]), str(Path(saffu.__file__).parents[1])]
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
        run(tmp_path / "stopped", FakeSolver(4, interrupt))
    solve = FakeSolver()
    run(tmp_path / "stopped", solve)
    assert len(solve.calls) == 3 + 2
    assert table(tmp_path / "stopped") == table(tmp_path / "whole")


def test_a_failure_does_not_stop_the_others(tmp_path):
    tried = [Architecture(hidden=666), *architectures.product(SMALL)]
    found = run(tmp_path, tried=tried)
    assert len(found.results) == 7
    assert found.results[-1].error == "MemoryError: too many hidden units"
    assert table(tmp_path)[-1]["error"] == "MemoryError: too many hidden units"
    assert "MemoryError: too many hidden units" in (tmp_path / "summary.md").read_text()
    solve = FakeSolver()
    run(tmp_path, solve, tried=tried)
    assert solve.calls == []
    run(tmp_path, solve, tried=tried, retry=True)
    assert solve.calls == [Architecture(hidden=666)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_perplexity_that_is_no_number_is_a_failure(tmp_path, monkeypatch, value):
    monkeypatch.setattr(FakeModel, "perplexity", lambda *_, **__: value)
    found = run(tmp_path, tried=[Architecture()])
    assert found.results[0].error == f"ValueError: the perplexity of the held-out text is {value}"


def test_a_failure_to_refine_keeps_the_solved_model(tmp_path, monkeypatch):
    def refine(self, ids, *, documents, epochs):
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
    class Failing(FakeSolver):
        def prepare(self, split):
            raise ValueError("no counts")

    with pytest.raises(ValueError, match="no counts"):
        run(tmp_path, Failing())
    assert len(run(tmp_path).results) == 6


def test_other_numbers_of_epochs_refine_anew(tmp_path):
    one = run(tmp_path, refine=1).results[0].refined
    three = run(tmp_path, refine=1, epochs=3).results[0].refined
    assert (one.epochs, three.epochs) == (1, 3)
    assert three.perplexity < one.perplexity


def test_a_refined_model_may_be_a_new_one(tmp_path, monkeypatch):
    def refine(self, ids, *, documents, epochs):
        model = FakeModel(Architecture())
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
    found = run(tmp_path, tried=[Architecture(hidden=512)])
    assert len(found.results) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tried": []}, "architectures must name at least one"),
        ({"refine": -1}, "refine must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"minutes": -1}, "minutes must be finite and not negative"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **settings)


def test_all_architectures_share_one_set_of_counts(monkeypatch):
    split, solver = make_split(), SaffuSolver(1)
    fitted = []
    monkeypatch.setattr(solving.ExplicitLM, "fit", lambda model, ids, **_: fitted.append(model) or model)
    shared = solver.prepare(split)
    monkeypatch.undo()
    assert fitted == [shared.explicit_lm]
    shared = solver.prepare(split)
    for hidden in (4, 8):
        architecture = Architecture(bits=4, radius=2, hidden=hidden, residual=True)
        model = solver.solve(architecture, split, shared)
        assert model.residual is shared.explicit_lm
        assert model.hidden == hidden
    assert len(shared.counts._sources) == 1

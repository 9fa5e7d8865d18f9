"""The command ``saffu roadmap``, over fakes and over real models."""

import json
import os
import sys

import pytest

import saffu
from helpers.fake_roadmap import SMALL, FakeModel, table, write_text
from saffu.cli import main as cli
from saffu.search import architectures, roadmap, text_split
from saffu.search.result_log import ResultLog
from saffu.search.solving import SaffuSolver


@pytest.fixture
def fakes(monkeypatch):
    """Fake models in place of real ones."""
    monkeypatch.setattr(SaffuSolver, "prepare", lambda solver, split: "shared")
    monkeypatch.setattr(SaffuSolver, "solve", lambda solver, architecture, split, shared: FakeModel(architecture))
    return monkeypatch


def command(capsys, *arguments):
    code = cli.main(["roadmap", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_makes_the_default_roadmap(tmp_path, capsys, fakes, draws):
    text, out = write_text(tmp_path / "text", 40), tmp_path / "map"
    code, output, errors = command(capsys, text, "--out", out)
    assert (code, errors) == (0, "")
    assert output.startswith(f"{architectures.DEFAULT_SIZE} architectures; the best: ")
    assert str(out / "summary.md") in output
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(table(out)) == architectures.DEFAULT_SIZE
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


def test_the_command_reports_that_it_was_not_complete(tmp_path, capsys, fakes):
    code, output, _ = command(capsys, write_text(tmp_path / "text", 40), "--out", tmp_path / "map", "--minutes", 0)
    assert code == 0
    assert f"{architectures.DEFAULT_SIZE} still to be done, the same command goes on" in output


def test_an_interrupt_tells_how_to_go_on(tmp_path, capsys, fakes):
    def interrupt(solver, architecture, split, shared):
        raise KeyboardInterrupt

    fakes.setattr(SaffuSolver, "solve", interrupt)
    code, output, errors = command(capsys, write_text(tmp_path / "text", 40), "--out", tmp_path / "map")
    assert (code, output) == (130, "")
    line = "saffu roadmap: interrupted; no result is lost, the same command goes on from here"
    assert errors.splitlines()[1:] == [line]  # the first warns that there will be no figure


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
    before = (out / roadmap.RESULT_LOG).read_bytes()
    header = json.loads(before.splitlines()[0])
    fakes.setattr(text_split, "read_split", None)
    with ResultLog(out / roadmap.RESULT_LOG, header):
        assert command(capsys, text, "--out", out, "--limit", 3)[::2] == (
            2,
            f"saffu roadmap: error: {os.fspath(out / roadmap.RESULT_LOG)!r} is in use by another process; "
            "wait for it or write elsewhere\n",
        )
    assert (out / roadmap.RESULT_LOG).read_bytes() == before


def test_an_interrupted_refinement_is_no_result(tmp_path, capsys, fakes):
    text, out = write_text(tmp_path / "text", 40), tmp_path / "map"
    fakes.setattr(FakeModel, "interrupted", True, raising=False)
    assert command(capsys, text, "--out", out, "--limit", 2)[0] == 130
    assert "refined" not in (out / roadmap.RESULT_LOG).read_text()
    assert not (out / "models").exists()
    fakes.setattr(FakeModel, "interrupted", False)
    assert command(capsys, text, "--out", out, "--limit", 2)[0] == 0
    assert (out / roadmap.RESULT_LOG).read_text().count('"refined"') == 2


def test_an_empty_file_among_others_is_left_out(tmp_path, capsys, fakes):
    text, empty = write_text(tmp_path / "text", 40), tmp_path / "empty"
    empty.write_text(" \n")
    code, _, errors = command(capsys, empty, text, "--out", tmp_path / "map", "--limit", 2)
    assert code == 0
    line = f"saffu roadmap: warning: {os.fspath(empty)!r} holds no text and is left out"
    assert errors.splitlines()[:-1] == [line]  # the last warns that there will be no figure
    code, _, errors = command(capsys, empty, empty, "--out", tmp_path / "none")
    assert (code, errors.count("\n")) == (2, 1)
    assert "holds no text, nor does any other file" in errors
    assert not (tmp_path / "none").exists()


def test_what_draws_is_missed_before_the_work(tmp_path, capsys, fakes):
    text = write_text(tmp_path / "text", 40)
    fakes.setattr(roadmap, "run", None)  # whatever comes after the warning fails
    errors = command(capsys, text, "--out", tmp_path / "map")[2].splitlines()
    assert errors[0] == (
        "saffu roadmap: warning: a figure needs matplotlib; pip install 'saffu[plot]' installs it; there will be none"
    )


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
    split = text_split.read_split(text, min_count=2)
    for path in files:
        model = saffu.load(path)
        assert model.vocabulary == split.vocabulary
        assert model.min_count == (2 if model.residual is not None else 0)
        found = model.perplexity(split.held_out.ids, documents=split.held_out.starts)
        refined = [float(row["refined_perplexity"]) for row in rows if row["refined_perplexity"]]
        assert min(abs(found - value) for value in refined) < 1e-3 * found
    assert command(capsys, text, *options, "--refine", 2, "--quiet") == (0, output, "")

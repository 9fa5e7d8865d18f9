"""No command writes over one of its inputs, and an output that cannot be written is refused before any work."""

import json
import os
import sys
from types import SimpleNamespace

import pytest

from saffu.cli import files as cli_files
from saffu.cli import main as cli
from saffu.search import roadmap
from saffu.text.reading import TextFile
from saffu.utils import checkpoint

TEXT = "the cat sat on the mat .\nthe dog sat on the cat .\n" * 20
COMPACT = ("--model", "saffu", "--bits", "4", "--hidden", "4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all kinds of inputs."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("text", "valid"):
        (folder / name).write_text(TEXT)
    (folder / "grid").write_text(json.dumps([{"bits": 4, "hidden": 4}]))
    quick = ("--windows", "", "--induction", "0", "--quiet")
    assert cli.main(["train", str(folder / "text"), "--out", str(folder / "model"), *quick]) == 0
    (folder / "labelled").write_text("__label__a x y\n__label__b z\n" * 9)
    assert cli.main(["classify", "train", str(folder / "labelled"), "--out", str(folder / "texts"), "--quiet"]) == 0
    return folder


@pytest.fixture
def inputs(made, tmp_path, monkeypatch, capsys):
    """The present folder, with copies of the inputs in it."""
    for file in made.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return tmp_path


# Each command with all its inputs; the output comes last.
COMMANDS = {
    ("train", "text", "--out"): ("text",),
    ("train", "valid", "text", *COMPACT, "--refine", "1", "--valid", "grid", "--out"): ("text", "valid", "grid"),
    ("grow", "model", "--set", "order=5", "--data", "valid", "text", "--out"): ("model", "valid", "text"),
    ("grow", "model", "--set", "order=5", "--out"): ("model",),
    ("prune", "model", "--out"): ("model",),
    ("export", "model", "--arpa"): ("model",),
    ("surprisal", "model", "valid", "text", "--out"): ("model", "valid", "text"),
    ("filter", "model", "valid", "--out"): ("model", "valid"),
    ("classify", "train", "labelled", "--out"): ("labelled",),
    ("classify", "quantize", "texts", "--target-size", "9k", "--out"): ("texts",),
}
LINKS = {
    "itself": lambda file: file,
    "with a dot": lambda file: f"./{file}",
    "around": lambda file: f"../{os.path.basename(os.getcwd())}/{file}",
    "absolute": os.path.abspath,
    "hard link": lambda file: os.link(file, "other") or "other",
    "symbolic link": lambda file: os.symlink(file, "other") or "other",
    "link to a link": lambda file: os.symlink(file, "one") or os.symlink("one", "other") or "other",
    "through a folder": lambda file: os.symlink(".", "here") or f"here/{file}",
}


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *arguments):
    """The line that refuses a command."""
    assert cli.main([*map(str, arguments)]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    return errors


def never(*arguments, **settings):
    raise AssertionError("there was work before the outputs were checked")


@pytest.fixture
def no_work(monkeypatch):
    """Let nothing be read and nothing be solved."""
    monkeypatch.setattr(TextFile, "blocks", never)
    monkeypatch.setattr(checkpoint, "load", never)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    ("command", "file"), [(command, file) for command, files in COMMANDS.items() for file in files]
)
def test_no_output_is_an_input(inputs, capsys, no_work, command, file, link):
    out = LINKS[link](file)
    before = contents(inputs)
    errors = refused(capsys, *command, out)
    name = " ".join(command[: 2 if command[0] == "classify" else 1])
    assert f"saffu {name}: error: {out!r} is an input" in errors
    assert contents(inputs) == before


@pytest.mark.parametrize("link", ["hard link", "symbolic link", "link to a link"])
@pytest.mark.parametrize("file", ["text", "valid", "grid"])
@pytest.mark.parametrize("place", [roadmap.RESULT_LOG, "results.csv", "summary.md", "figure.png", "models/best.saffu"])
def test_no_file_of_a_roadmap_is_an_input(inputs, capsys, no_work, file, link, place):
    (inputs / "map" / "models").mkdir(parents=True)
    other = inputs / LINKS[link](file)
    if link == "hard link":
        os.rename(other, inputs / "map" / place)
    else:
        os.symlink(other, inputs / "map" / place)
    before = contents(inputs)
    errors = refused(capsys, "roadmap", "text", "--valid", "valid", "--grid", "grid", "--out", "map")
    assert f"{place}' is an input ({file!r}), too" in errors
    assert contents(inputs) == before


def test_a_text_within_the_folder_of_a_roadmap_is_an_input(inputs, capsys, no_work):
    (inputs / "results.csv").write_text(TEXT)
    assert "results.csv' is an input" in refused(capsys, "roadmap", "results.csv", "--out", ".")
    assert "'text' is an input" in refused(capsys, "roadmap", "text", "--out", "text")


def test_the_place_of_an_interrupted_refinement_is_no_input(inputs, capsys, no_work):
    os.rename("text", "out.interrupted")
    command = ("train", "out.interrupted", *COMPACT, "--refine", "1", "--out", "out")
    assert "'out.interrupted' is an input" in refused(capsys, *command)


def test_standard_input_is_an_input_as_well(inputs, capsys, monkeypatch):
    with open("text", "rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file, fileno=file.fileno))
        errors = refused(capsys, "train", "-", "--out", "./text")
    assert "'./text' is an input (standard input), too" in errors
    assert (inputs / "text").read_text() == TEXT


def test_an_output_in_a_folder_that_is_an_input_is_refused(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    os.symlink(tmp_path / "data", tmp_path / "link")
    for out in ("data/new", "data/deep/new", "link/new", "link/deep/new"):
        with pytest.raises(ValueError, match=r"lies in .*data'?, which is an input"):
            cli_files.check_outputs([str(tmp_path / out)], [str(tmp_path / "data")])
        with pytest.raises(ValueError, match=r"lies in .*data'?, which is an input"):
            cli_files.check_folder(str(tmp_path / out), [], [str(tmp_path / "data")])
    cli_files.check_outputs([str(tmp_path / "new")], [str(tmp_path / "data")])
    cli_files.check_folder(str(tmp_path / "other" / "new"), [], [str(tmp_path / "data")])
    assert sorted(os.listdir(tmp_path)) == ["data", "link"]


def test_other_files_may_be_written_over(inputs, capsys):
    (inputs / "old").write_text("old")
    os.symlink("nowhere", "dangling")
    for out in ("old", "dangling", "new"):
        assert cli.main(["train", "text", "--out", out, "--windows", "", "--induction", "0", "--radius", "1"]) == 0
    assert os.path.islink("dangling")
    assert {checkpoint.load(name).n_tokens for name in ("old", "nowhere", "new")} == {320}


# ---- what cannot be written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "it is a folder"),
        ("missing/new", "there is no folder"),
        ("valid/new", "there is no folder"),
        (os.devnull, "not a regular file"),
        ("/proc/new", "cannot write '/proc/new'"),
        ("n" * 300, "cannot write"),
        ("", "cannot write"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("train", "text", "--out"),
        ("grow", "model", "--set", "order=5", "--out"),
        ("prune", "model", "--out"),
        ("surprisal", "model", "text", "--out"),
        ("filter", "model", "text", "--out"),
        ("classify", "train", "labelled", "--out"),
        ("classify", "quantize", "texts", "--target-size", "9k", "--out"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(inputs, capsys, no_work, command, out, message):
    before = contents(inputs)
    assert message in refused(capsys, *command, out)
    assert contents(inputs) == before


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("valid", "'valid' is an input"),
        ("model", "is not a folder"),
        ("model/map", "is not a folder"),
        (os.devnull, "is not a folder"),
        ("/proc/map", "cannot write"),
        ("full", "cannot write 'full/results.csv': it is a folder"),
        ("odd", "there is no folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(inputs, capsys, no_work, out, message):
    (inputs / "full" / "results.csv").mkdir(parents=True)
    (inputs / "odd").mkdir()
    (inputs / "odd" / "models").write_text("a file")
    before = contents(inputs)
    errors = refused(capsys, "roadmap", "text", "--valid", "valid", "--out", out)
    assert message in errors
    assert contents(inputs) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_outputs_are_refused_before_the_work(inputs, capsys, no_work):
    (inputs / "old").write_text("old")
    (inputs / "old").chmod(0o400)
    assert "read-only" in refused(capsys, "train", "text", "--out", "old")
    (inputs / "locked").mkdir(0o500)
    assert "in its folder" in refused(capsys, "train", "text", "--out", "locked/new")
    assert "cannot write" in refused(capsys, "roadmap", "text", "--out", "locked/map")


def test_a_folder_may_hold_anything_already(tmp_path):
    """What is tried there has a name of its own: a checkout, say, has a folder of the package's name."""
    (tmp_path / "saffu").mkdir()
    cli_files.check_folder(str(tmp_path / "roadmap"), [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["saffu"]

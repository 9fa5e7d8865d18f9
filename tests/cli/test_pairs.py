"""``saffu pairs``: accuracy on minimal pairs, ties counted half."""

import gzip
import io
import json
import sys
from types import SimpleNamespace

import pytest

from saffu.cli import main as cli
from saffu.cli import pairs
from saffu.text import reading
from saffu.utils import checkpoint

TEXT = "the cat sits .\nthe cats sit .\n\nthe dog sits .\nthe dogs sit .\n\n" * 20
PAIRS = [
    ("the cat sits .", "the cat sit .", "number"),
    ("the cats sit .", "the cats sits .", "number"),
    ("the dog sit .", "the dog sits .", "number"),
    ("the zebra sits .", "the giraffe sits .", "unknown"),
    ("the cat sits .", "sits cat the .", "order"),
    ("the cat sits .", "the cat sits .", "order"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "text").write_text(TEXT)
    command = ["train", str(folder / "text"), "--out", str(folder / "model"), "--windows", "", "--induction", "0"]
    assert cli.main([*command, "--quiet"]) == 0
    (folder / "pairs.tsv").write_text(table(PAIRS))
    return folder


def table(rows):
    return "".join("\t".join(row) + "\n" for row in rows)


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main(["pairs", *map(str, arguments)])
    return code, *capsys.readouterr()


def answer(capsys, *arguments):
    code, output, errors = run(capsys, *arguments, "--json")
    assert (code, errors) == (0, "")
    return json.loads(output)


def score(model, sentence):
    return model.log_prob(model.vocabulary.encode_text(sentence + "\n")[0]).sum()


@pytest.mark.parametrize("batch", [1, 4, 4096])
def test_accuracy_counts_ties_half(folder, capsys, monkeypatch, batch):
    monkeypatch.setattr(pairs, "BATCH", batch)
    found = answer(capsys, folder / "model", folder / "pairs.tsv")
    assert found == {
        "accuracy": pytest.approx((1 + 1 + 0 + 0.5 + 1 + 0.5) / 6),
        "pairs": 6,
        "ties": 2,
        "unk_rate": pytest.approx(1 / 6),
        "kinds": {"number": pytest.approx(2 / 3), "order": 0.75, "unknown": 0.5},
    }
    model = checkpoint.load(folder / "model")
    wins = [score(model, good) > score(model, bad) for good, bad, _ in PAIRS]
    assert wins == [True, True, False, False, True, False]


def test_without_kinds(folder, tmp_path, capsys, monkeypatch):
    content = "\n\n" + table([row[:2] for row in PAIRS]) + "\n  \n"
    (tmp_path / "pairs.tsv.gz").write_bytes(gzip.compress(content.encode()))
    found = answer(capsys, folder / "model", tmp_path / "pairs.tsv.gz", "--threads", "1")
    assert list(found) == ["accuracy", "pairs", "ties", "unk_rate"]
    assert found["accuracy"] == pytest.approx(4 / 6)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))
    monkeypatch.setattr(reading, "BLOCK_BYTES", 30)
    assert answer(capsys, folder / "model", "-") == found


def test_what_people_read(folder, capsys):
    code, output, errors = run(capsys, folder / "model", folder / "pairs.tsv")
    assert (code, errors) == (0, "")
    rows = dict(line.rsplit(maxsplit=1) for line in output.splitlines() if line != "kinds")
    assert rows["accuracy"] == "0.6667"
    assert rows["pairs"] == "6"
    assert rows["  number"] == "0.6667"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no pairs"),
        ("\n \n", "holds no pairs"),
        ("the cat\n", "line 1 of 'foul' must have two sentences with a tab between"),
        ("a\tb\n\na\tb\tc\td\n", "line 3 of 'foul' must have two sentences"),
        (b"a\tb\xff\n", "is not UTF-8"),
        (None, "'foul': No such file"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "foul").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, output, errors = run(capsys, folder / "model", "foul")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors


def test_other_files_are_refused(folder, capsys):
    code, _, errors = run(capsys, folder / "text", folder / "pairs.tsv")
    assert (code, errors.count("\n")) == (2, 1)
    assert "is not a saffu model" in errors

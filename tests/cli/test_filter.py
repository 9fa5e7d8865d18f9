"""``saffu filter``: which lines are kept, in which order, to the byte."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from saffu.cli import filter as cli_filter
from saffu.cli import main as cli
from saffu.utils import checkpoint

GOOD = "the cat sat on the mat .\nthe dog saw the naïve cat .\n\n" * 20
BAD = "buy cheap pills now !\nclick here now , buy the cat !\n\n" * 20
LINES = [
    b"the cat sat on the mat .\n",
    b"buy cheap pills now !\r\n",
    b"\n",
    b"  the dog sat .  \n",
    b"the na\xefve cat\n",
    "the naïve cat .\n".encode(),
    b"the cat\rsat . <eos> now\n",
    b" \t \n",
    b"the mat ! now",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filter")
    for name, text in (("good", GOOD), ("bad", BAD), ("chars", GOOD)):
        (folder / "text").write_text(text)
        options = ("--tokenizer", "chars") if name == "chars" else ("--min-count", "1")
        command = ["train", str(folder / "text"), "--out", str(folder / name), "--windows", "", "--induction", "0"]
        assert cli.main([*command, *options, "--quiet"]) == 0
    return folder


@pytest.fixture
def run(folder, capfdbinary, monkeypatch):
    """Exit code, output and error output of the command with this standard input."""

    def call(content, *arguments):
        lines = content if isinstance(content, bytes) else b"".join(content)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
        monkeypatch.chdir(folder)
        capfdbinary.readouterr()
        return cli.main(["filter", *map(str, arguments)]), *capfdbinary.readouterr()

    return call


def bits(model, line):
    """The score of a line by hand: the mean of the log-probabilities of its tokens and of its end."""
    text = line.decode("utf-8", "replace").rstrip("\r\n").replace("\r", "\n")
    ids, _ = model.vocabulary.encode_text(text + "\n")
    return model.log_prob(ids).sum() / np.log(2), ids.size


@pytest.mark.parametrize("batch", [1, 40, 1 << 18])
@pytest.mark.parametrize("threshold", [-99, -6, -1.5, 0])
def test_likely_lines_are_kept_as_they_were(folder, run, monkeypatch, threshold, batch):
    monkeypatch.setattr(cli_filter, "BATCH_BYTES", batch)
    model = checkpoint.load(folder / "good")
    scores = {line: np.divide(*bits(model, line)) for line in LINES if line.strip()}
    expected = [line for line in LINES if line in scores and scores[line] >= threshold]
    assert run(LINES, "good", "--threshold", threshold) == (0, b"".join(expected), b"")
    assert (threshold in (-6, -1.5)) == (0 < len(expected) < len(scores))


@pytest.mark.parametrize("options", [(), ("--threshold", "1.5"), ("--threads", "1"), ("--threshold", "-99")])
@pytest.mark.parametrize("other", ["bad", "chars"])
def test_two_models_compare_what_they_say(folder, run, options, other):
    good, bad = (checkpoint.load(folder / name) for name in ("good", other))
    threshold = float(options[1]) if "--threshold" in options else 0
    ratios = []
    for line in LINES:
        (ours, n), (theirs, _) = bits(good, line), bits(bad, line)
        ratios.append((ours - theirs) / n if line.strip() else -np.inf)
    expected = [line for line, ratio in zip(LINES, ratios, strict=True) if ratio >= threshold]
    assert run(LINES, "good", other, *options) == (0, b"".join(expected), b"")
    if other == "bad" and threshold == 0:
        assert LINES[0] in expected
        assert LINES[1] not in expected


def test_scores_before_the_lines(folder, run):
    good, bad = (checkpoint.load(folder / name) for name in ("good", "bad"))
    code, output, errors = run(LINES, "good", "bad", "--scores")
    assert (code, errors) == (0, b"")
    rest = output
    for line in LINES:
        *columns, rest = rest.split(b"\t", 3)
        assert rest.startswith(line)
        rest = rest[len(line) :]
        if not line.strip():
            assert columns == [b"", b"", b""]
            continue
        (ours, n), (theirs, _) = bits(good, line), bits(bad, line)
        np.testing.assert_allclose(np.array(columns, float), [(ours - theirs) / n, ours / n, theirs / n], rtol=1e-5)
    assert rest == b""
    one = run(LINES, "good", "--scores", "--threshold", "-6")[1].splitlines()
    assert all(float(line.split(b"\t")[0]) >= -6 for line in one if b"\t" in line)


def test_json_lines(folder, run):
    records = [
        {"id": 1, "text": "the cat sat on the mat .", "score": 3},
        {"id": 2, "text": "buy cheap pills now !\n\nclick here now"},
        {"id": 3, "text": ""},
        {"text": "the dog saw\nthe naïve cat \ud800 .", "id": [4, None, "é"]},
    ]
    lines = [
        (json.dumps(record, ensure_ascii=i % 2 == 0) + "\n").encode("utf-8", "backslashreplace")
        for i, record in enumerate(records)
    ]
    lines.insert(2, b"\n")
    code, output, errors = run(lines, "good", "bad", "--field", "text")
    assert (code, output, errors) == (0, lines[0] + lines[4], b"")
    code, output, errors = run(lines, "good", "bad", "--field", "text", "--scores")
    found = [json.loads(line) for line in output.splitlines()]
    blank = found.pop(2)
    assert {name: blank[name] for name in blank} == dict.fromkeys(("saffu_ratio", "saffu_score", "saffu_other"))
    assert [{name: line[name] for name in record} for line, record in zip(found, records, strict=True)] == records
    good = checkpoint.load(folder / "good")
    ids, starts = good.vocabulary.encode_text(records[1]["text"] + "\n")
    score = good.log_prob(ids, documents=[0, *starts]).sum() / np.log(2) / ids.size
    assert found[1]["saffu_score"] == pytest.approx(score)
    assert found[1]["saffu_ratio"] == pytest.approx(found[1]["saffu_score"] - found[1]["saffu_other"])
    assert found[1]["saffu_ratio"] < 0 < found[0]["saffu_ratio"]
    assert found[2]["saffu_score"] is None
    one = json.loads(run(lines[:1], "good", "--field", "text", "--scores")[1])
    assert one.keys() == {"id", "text", "score", "saffu_score"}


def test_an_output_file(folder, run, tmp_path):
    code, output, errors = run(LINES, "good", "--threshold", "-6", "--out", tmp_path / "kept")
    assert (code, errors) == (0, b"")
    kept = (tmp_path / "kept").read_bytes()
    assert kept == run(LINES, "good", "--threshold", "-6")[1]
    n = len(io.BytesIO(kept).readlines())
    assert output.decode().startswith(f"{tmp_path / 'kept'}: {n} of {len(LINES)} lines, {n / len(LINES):.1%}, ")
    code, output, _ = run(b"", "good", "--threshold", "-6", "--out", tmp_path / "none")
    assert (code, (tmp_path / "none").read_bytes()) == (0, b"")
    assert output.startswith(f"{tmp_path / 'none'}: 0 of 0 lines, 0.0%".encode())


def test_an_error_leaves_no_file(folder, run, tmp_path):
    (tmp_path / "kept").write_text("old")
    lines = [b'{"text": "the cat"}\n', b"the cat\n"]
    code, output, errors = run(lines, "good", "--threshold", "0", "--field", "text", "--out", tmp_path / "kept")
    assert (code, output) == (2, b"")
    assert errors.startswith(b"saffu filter: error: line 2 is no JSON: Expecting value")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept", "old")]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", ["good"], "with one model give --threshold or --scores"),
        (b"", ["good", "--threshold", "x"], "--threshold: expected a number, got 'x'"),
        (b"", ["good", "--threshold", "nan"], "--threshold: expected a number, got 'nan'"),
        (b"", ["nowhere", "--scores"], "'nowhere': No such file"),
        (b"", ["good", "text"], "'text' is not a saffu model"),
        (b"", ["good", "--scores", "--out", "good"], "'good' is an input, too"),
        (b"", ["good", "bad", "--out", "bad"], "'bad' is an input, too"),
        (b"", ["good", "--scores", "--out", "missing/new"], "there is no folder"),
        (b"[]\n", ["good", "--scores", "--field", "t"], "line 1 is no JSON object with a text in its field 't'"),
        (b'\n{"t": 3}\n', ["good", "--scores", "--field", "t"], "line 2 is no JSON object with a text in its field"),
        (b"[" * 99999, ["good", "--scores", "--field", "t"], "line 1 is no JSON"),
    ],
)
def test_mistakes_are_one_line(run, content, arguments, message):
    code, output, errors = run(content, *arguments)
    assert (code, output, errors.count(b"\n")) == (2, b"", 1)
    assert message in errors.decode()
    assert len(errors) < 400


def test_closed_standard_input_is_named(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["filter", str(folder / "good"), "--scores"]) == 2
    assert capsys.readouterr().err == "saffu filter: error: standard input is closed\n"

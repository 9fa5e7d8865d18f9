"""``saffu surprisal``."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import saffu
from saffu.cli import main as cli
from saffu.cli import models
from saffu.text import Corpus, reading, surprisal
from saffu.utils import checkpoint

TEXT = "the cat sat on the mat .\nthe dog saw the cat .\n\na \\ bird .\n\n" * 12
NEW = "the bird sat on \\ me .\n\n\nthe zebra\nsat .\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("surprisal")
    (folder / "text").write_text(TEXT)
    (folder / "new").write_text(NEW)
    quick = ("--windows", "20", "--induction", "0", "--quiet")
    for tokenizer in ("words", "chars", "bytes"):
        command = ["train", str(folder / "text"), "--tokenizer", tokenizer, "--out", str(folder / tokenizer), *quick]
        assert cli.main(command) == 0
    np.savez(folder / "ids.npz", ids=np.arange(9) % 5, documents=[0, 4])
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main([*map(str, arguments)])
    return code, *capsys.readouterr()


def table(capsys, *arguments):
    """The columns that the command prints, by name."""
    code, output, errors = run(capsys, "surprisal", *arguments)
    assert (code, errors) == (0, "")
    header, *rows = (line.split("\t") for line in output.removesuffix("\n").split("\n"))
    assert header == ["token", "surprisal", "entropy", "unknown"]
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def expected(path, file, documents=None):
    """Surprisals and entropies in bits of a text, token by token."""
    model = checkpoint.load(path)
    text = Corpus(file, tokenizer=model.vocabulary.tokenizer, documents=documents or model.vocabulary.documents)
    text = text.read(model.vocabulary)
    log_p = model.log_probs(text.ids, np.arange(text.ids.size), documents=text.starts) / np.log(2)
    bits = -model.log_prob(text.ids, documents=text.starts) / np.log(2)
    return bits, -(2**log_p * log_p).sum(axis=1)


@pytest.mark.parametrize("batch", [1, 1 << 26])
def test_a_line_for_each_token(folder, capsys, monkeypatch, batch):
    monkeypatch.setattr(surprisal, "BATCH_BYTES", batch)
    found = table(capsys, folder / "words", folder / "new")
    assert " ".join(found["token"]) == "the bird sat on \\\\ <unk> . <eos> the <unk> <eos> sat . <eos>"
    assert found["unknown"] == [str(int(token == "<unk>")) for token in found["token"]]
    bits, entropy = expected(folder / "words", folder / "new")
    np.testing.assert_allclose(np.array(found["surprisal"], float), bits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(found["entropy"], float), entropy, rtol=1e-5, atol=1e-6)
    quick = table(capsys, folder / "words", folder / "new", "--no-entropy", "--threads", "1")
    assert quick == found | {"entropy": [""] * len(found["token"])}


@pytest.mark.parametrize("batch", [1, 8 * 25 * 7, 1 << 26])
@pytest.mark.parametrize("tokenizer", ["chars", "bytes"])
def test_a_line_for_each_word_of_pieces(folder, capsys, monkeypatch, tokenizer, batch):
    monkeypatch.setattr(surprisal, "BATCH_BYTES", batch)
    found = table(capsys, folder / tokenizer, folder / "new")
    words = [word.replace("\ufffd", "z") for word in found["token"]]
    assert " ".join(words) == "the bird sat on \\\\ me . <eos> <eos> <eos> the zebra <eos> sat . <eos>"
    assert found["unknown"] == [str(int(word == "zebra")) for word in words]
    bits, entropy = expected(folder / tokenizer, folder / "new")
    starts = [0, 3, 8, 12, 15, 17, 20, 22, 23, 24, 25, 28, 34, 35, 38, 40]
    np.testing.assert_allclose(np.array(found["surprisal"], float), np.add.reduceat(bits, starts), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        np.array(found["entropy"], float), np.add.reduceat(entropy, starts), rtol=1e-5, atol=1e-6
    )
    pieces = table(capsys, folder / tokenizer, folder / "new", "--by", "token")
    assert pieces["token"][:5] == ["t", "h", "e", " ", "b"]
    np.testing.assert_allclose(np.array(pieces["surprisal"], float), bits, rtol=1e-5, atol=1e-6)


def test_words_of_a_model_of_words(folder, capsys):
    assert table(capsys, folder / "words", folder / "new", "--by", "word") == table(
        capsys, folder / "words", folder / "new", "--by", "token"
    )


def test_token_ids(folder, capsys):
    found = table(capsys, folder / "words", folder / "ids.npz", folder / "ids.npz")
    model = checkpoint.load(folder / "words")
    assert found["token"] == [model.vocabulary.types[i % 5] for i in range(9)] * 2
    model.vocabulary = None
    model.save(folder / "bare")
    assert table(capsys, folder / "bare", folder / "ids.npz")["token"] == [str(i % 5) for i in range(9)]
    bits = -model.log_prob(np.arange(9) % 5, documents=[0, 4]) / np.log(2)
    np.testing.assert_allclose(np.array(found["surprisal"], float), [*bits, *bits], rtol=1e-5, atol=1e-6)
    assert set(found["unknown"]) == {"0", "1"}
    code, _, errors = run(capsys, "surprisal", folder / "bare", folder / "ids.npz", "--by", "word")
    assert (code, errors) == (2, "saffu surprisal: error: --by word needs a model with a vocabulary\n")


def test_documents_and_blocks(folder, capsys, monkeypatch):
    whole = table(capsys, folder / "words", folder / "text", "--documents", "line", "--no-entropy")
    bits, _ = expected(folder / "words", folder / "text", "line")
    np.testing.assert_allclose(np.array(whole["surprisal"], float), bits, rtol=1e-5, atol=1e-6)
    for documents in ("line", "blank-line", "file"):
        options = ("--documents", documents, "--no-entropy")
        monkeypatch.setattr(reading, "BLOCK_BYTES", 50)
        blocks = table(capsys, folder / "words", folder / "text", *options)
        monkeypatch.undo()
        assert blocks == table(capsys, folder / "words", folder / "text", *options)


def test_standard_input_and_a_file(folder, tmp_path, capsys, monkeypatch):
    printed = run(capsys, "surprisal", folder / "words", folder / "new")[1]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(NEW.encode())))
    assert run(capsys, "surprisal", folder / "words", "-", "--out", tmp_path / "table") == (0, "", "")
    assert (tmp_path / "table").read_text() == printed
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_printing_into_the_text_is_refused(folder, tmp_path):
    (tmp_path / "text").write_text(NEW)
    command = [sys.executable, "-P", "-m", "saffu", "surprisal", folder / "words", "text"]
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    with open(tmp_path / "text", "a") as file:
        done = subprocess.run(
            command, cwd=tmp_path, stdout=file, stderr=subprocess.PIPE, text=True, timeout=60, env=environment
        )
    message = "standard output goes to 'text', which is an input; name another output"
    assert (done.returncode, done.stderr) == (2, f"saffu surprisal: error: {message}\n")
    assert (tmp_path / "text").read_text() == NEW


def test_progress_counts_what_was_scored(folder, monkeypatch):
    counted = []
    bar = models.ScoringBar(SimpleNamespace(update=counted.append))
    corpus = Corpus(folder / "text")
    vocabulary = checkpoint.load(folder / "words").vocabulary
    monkeypatch.setattr(reading, "BLOCK_BYTES", 50)
    for stream in models.whole_documents(corpus.chunks(vocabulary, advance=bar.read)):
        advance = bar.scored(stream)
        for _ in range(stream.ids.size):
            advance(1)
    assert len(counted) > 100
    assert 0.9 < sum(counted) / len(TEXT) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["surprisal", "words"], "required: FILE"),
        (["surprisal", "words", "nowhere"], "'nowhere': No such file"),
        (["surprisal", "new", "new"], "'new' is not a saffu model"),
        (["surprisal", "layer", "new"], "'layer' holds SoftmaxLayer, which is not a language model"),
        (["surprisal", "layer", "ids.npz"], "'layer' holds SoftmaxLayer, which is not a language model"),
        (["surprisal", "words", "new", "--by", "line"], "invalid choice: 'line'"),
        (["surprisal", "words", "new", "--out", "new"], "'new' is an input, too"),
        (["surprisal", "words", "new", "--out", "words"], "'words' is an input, too"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    saffu.SoftmaxLayer().fit(np.eye(3), [0, 1, 2]).save("layer")
    code, output, errors = run(capsys, *arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors

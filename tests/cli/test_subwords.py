"""``--tokenizer`` with a tokenizer of another library, and what the commands make of a model of pieces."""

import io
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import saffu
from helpers import subwords
from saffu.cli import main as cli
from saffu.text import Corpus
from saffu.utils import checkpoint

tokenizers = pytest.importorskip("tokenizers")
sentencepiece = pytest.importorskip("sentencepiece")

TEXT = subwords.TEXT * 9
QUICK = ("--windows", "", "--induction", "0", "--quiet")
KINDS = {"bpe": "bpe:320", "json": "pieces.json", "model": "pieces.model"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts, tokenizers, and a model of each: the tokenizers are gone when they are used."""
    folder = tmp_path_factory.mktemp("subwords")
    (folder / "text").write_text(TEXT)
    write_tokenizers(folder)
    here = os.getcwd()
    os.chdir(folder)
    for kind, tokenizer in KINDS.items():
        assert cli.main(["train", "text", "--tokenizer", tokenizer, "--out", kind, *QUICK]) == 0
    os.chdir(here)
    for name in ("pieces.json", "pieces.model"):
        (folder / name).unlink()
    return folder


def write_tokenizers(folder):
    subwords.byte_pairs(tokenizers).save(str(folder / "pieces.json"))
    (folder / "pieces.model").write_bytes(subwords.sentence_pieces(sentencepiece).serialized_model_proto())


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main([*map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_trained_tokenizer_is_that_of_the_library(folder):
    model = checkpoint.load(folder / "bpe")
    lines = TEXT.splitlines()
    expected = saffu.text.SubwordTokenizer.train_bpe(lines, vocab_size=320)
    assert model.vocabulary.tokenizer == expected
    assert len(model.vocabulary) == 2 + 320
    ids = Corpus(folder / "text", tokenizer=model.vocabulary.tokenizer).read(model.vocabulary).ids
    assert ids.size == model.n_tokens == sum(len(expected.encode([line])[0]) + 1 for line in lines if line)
    assert model.vocabulary.detokenize(ids) == TEXT.replace("\n\n", "\n")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_generated_is_joined_by_the_library(folder, capsys, kind):
    prompt, command = "The lower cat", ("generate", folder / kind, "--tokens", "60", "--seed", "1")
    code, output, errors = run(capsys, *command, "--prompt", prompt)
    assert (code, errors) == (0, "")
    model = checkpoint.load(folder / kind)
    context, _ = model.vocabulary.encode_text(prompt)
    drawn = [*context, *model.generate(context, 60, seed=1, exclude=[0])]
    lines, ours = [[]], model.vocabulary.tokenizer
    for name in model.vocabulary.decode(drawn):
        if name == "<eos>":
            lines.append([])
        else:
            lines[-1].append(ours._number(name))
    if kind == "model":
        processor = sentencepiece.SentencePieceProcessor(model_proto=ours.store())
        expected = "\n".join(map(processor.decode, lines))
    else:
        library = tokenizers.Tokenizer.from_str(ours.store().decode())
        expected = "\n".join(library.decode(line, skip_special_tokens=False) for line in lines)
    assert output == expected + "\n"
    assert output.startswith("the lower cat" if kind == "pieces" else prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_commands_take_models_of_pieces(folder, tmp_path, capsys, kind):
    code, output, _ = run(capsys, "eval", folder / kind, folder / "text", "--json")
    assert code == 0
    assert 1 < json.loads(output)["perplexity"] < 20
    (tmp_path / "new").write_text("The lower cat\nis closed .\n")
    code, output, _ = run(capsys, "surprisal", folder / kind, tmp_path / "new")
    words = [line.split("\t")[0] for line in output.splitlines()[1:]]
    assert words == ["The", "lower", "cat", "<eos>", "is", "closed", ".", "<eos>"]
    code, output, _ = run(capsys, "info", folder / kind, "--json")
    library = "sentencepiece" if kind == "model" else "tokenizers"
    assert json.loads(output)["vocabulary"]["tokenizer"].startswith(f"{library}, ")
    assert run(capsys, "info", folder / kind)[0] == 0
    assert run(capsys, "grow", folder / kind, "--set", "order=5", "--out", tmp_path / "grown")[0] == 0
    assert checkpoint.load(tmp_path / "grown").vocabulary == checkpoint.load(folder / kind).vocabulary


def test_pieces_that_were_not_seen_can_come(folder, capsys, tmp_path):
    (tmp_path / "new").write_text("ZÜRICH §7 ☃\n")
    for kind in ("bpe", "json"):
        code, output, _ = run(capsys, "eval", folder / kind, tmp_path / "new", "--json")
        assert code == 0
        assert json.loads(output)["unk_rate"] == 0
        assert np.isfinite(json.loads(output)["perplexity"])


@pytest.mark.parametrize("tokenizer", ["bpe:300", "pieces.json", "pieces.model"])
def test_compact_models_and_roadmaps(folder, tmp_path, capsys, monkeypatch, tokenizer):
    monkeypatch.chdir(tmp_path)
    write_tokenizers(tmp_path)
    (tmp_path / "text").write_text(TEXT)
    compact = ("--model", "saffu", "--bits", "3", "--hidden", "3", "--refine", "1", "--valid", "text", "--quiet")
    assert run(capsys, "train", "text", "--tokenizer", tokenizer, "--out", "new", *compact)[0] == 0
    vocabulary = checkpoint.load("new").vocabulary
    assert len(vocabulary) >= len(vocabulary.tokenizer.pieces) + 2
    command = ("roadmap", "text", "--tokenizer", tokenizer, "--out", "map", "--limit", "1", "--refine", "1", "--quiet")
    code, _, errors = run(capsys, *command)
    if tokenizer == "bpe:300":
        assert (code, errors.count("\n")) == (2, 1)
        assert "--tokenizer bpe:N is for 'saffu train'" in errors
        return
    assert code == 0
    best = checkpoint.load("map/models/" + os.listdir("map/models")[0])
    assert {*best.vocabulary.types} >= {*vocabulary.tokenizer.pieces}


def test_standard_input_is_read_once(tmp_path, capsys, monkeypatch, folder):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode())))
    assert run(capsys, "train", "-", "--tokenizer", "bpe:320", "--out", tmp_path / "new", *QUICK)[0] == 0
    model = checkpoint.load(tmp_path / "new")
    assert model.n_tokens == checkpoint.load(folder / "bpe").n_tokens
    assert model.vocabulary == checkpoint.load(folder / "bpe").vocabulary


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("word", "expected one of words, whitespace, chars, bytes, a file .json or .model, or bpe:N, got 'word'"),
        ("bpe", "got 'bpe'"),
        ("bpe:", "bpe: expected an integer of at least 257, got ''"),
        ("bpe:256", "bpe: expected an integer of at least 257, got '256'"),
        ("bpe:99999999999", "bpe: must be at most 16777216, got 99999999999"),
        ("nowhere.json", "'nowhere.json': No such file or directory"),
        ("foul.json", "'foul.json' is no tokenizer of tokenizers"),
        ("foul.model", "'foul.model' is no tokenizer of sentencepiece"),
        (".model", "'.model': No such file"),
    ],
)
@pytest.mark.parametrize("command", ["train", "roadmap"])
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, command, tokenizer, message):
    monkeypatch.chdir(tmp_path)
    for name in ("foul.json", "foul.model"):
        (tmp_path / name).write_text("{foul")
    (tmp_path / "text").write_text(TEXT)
    code, output, errors = run(capsys, command, "text", "--tokenizer", tokenizer, "--out", "new")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert f"--tokenizer: {message}" in errors or message in errors
    assert len(errors) < 400
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["pieces.json", "pieces.model"])
def test_the_tokenizer_is_an_input(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_tokenizers(tmp_path)
    (tmp_path / "text").write_text(TEXT)
    before = (tmp_path / name).read_bytes()
    for command, out in (("train", name), ("train", f"./{name}"), ("roadmap", name)):
        code, _, errors = run(capsys, command, "text", "--tokenizer", name, "--out", out)
        assert (code, errors.count("\n")) == (2, 1)
        assert "is an input" in errors
    assert (tmp_path / name).read_bytes() == before


def test_a_missing_library_is_one_line(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "text").write_text(TEXT)
    write_tokenizers(tmp_path)
    for library in ("tokenizers", "sentencepiece"):
        monkeypatch.setitem(sys.modules, library, None)
    line = "is not installed; pip install 'saffu[tokenizers]' installs it\n"
    for tokenizer in ("bpe:300", tmp_path / "pieces.json", tmp_path / "pieces.model"):
        code, output, errors = run(
            capsys, "train", tmp_path / "text", "--tokenizer", tokenizer, "--out", tmp_path / "new"
        )
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert errors.removesuffix(" (see 'saffu train --help')\n").endswith(line.rstrip()) or errors.endswith(line)
    for kind in KINDS:
        code, output, errors = run(capsys, "eval", folder / kind, folder / "text")
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert errors.endswith(line)

"""``saffu export``."""

import numpy as np
import pytest

import saffu
from saffu.cli import main as cli
from saffu.ngram_lm import BackoffLM
from saffu.text import Corpus
from saffu.utils import checkpoint

TEXT = "the cat sat on the mat .\n\nthe dog sat on the cat .\n\n" * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "text").write_text(TEXT)
    for priming in ("backoff", "kneser-ney", "k-fold"):
        assert cli.main(["train", str(folder / "text"), "--priming", priming, "--out", str(folder / priming)]) == 0
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main([*map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("priming", ["backoff", "kneser-ney"])
def test_writes_what_the_model_says(folder, tmp_path, capsys, priming, name):
    out = tmp_path / name
    code, output, errors = run(capsys, "export", folder / priming, "--arpa", out)
    assert (code, errors) == (0, "")
    model, found = checkpoint.load(folder / priming), BackoffLM.from_arpa(out)
    text = Corpus(folder / "text").read(model.vocabulary)
    np.testing.assert_allclose(
        found.log_prob(text.ids, documents=text.starts), model.log_prob(text.ids, documents=text.starts), atol=1e-8
    )
    assert [line.split()[0] for line in output.splitlines()] == ["file", "ngrams"]
    assert output.splitlines()[1].split()[1:] == [str(size) for size in found.summary()["ngrams"]]


def test_models_without_counts(folder, tmp_path, capsys):
    checkpoint.load(folder / "backoff").to_backoff().save(tmp_path / "model")
    assert run(capsys, "export", tmp_path / "model", "--arpa", tmp_path / "model.arpa", "--threads", "1")[0] == 0
    assert (tmp_path / "model.arpa").stat().st_size > 500
    for command in ("info", "eval"):
        code, output, _ = run(capsys, command, tmp_path / "model", *[folder / "text"] * (command == "eval"))
        assert (code, bool(output)) == (0, True)


def test_other_models_are_refused_in_one_line(folder, tmp_path, capsys):
    out = tmp_path / "model.arpa"
    code, output, errors = run(capsys, "export", folder / "k-fold", "--arpa", out)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "has a context of distance 2" in errors
    saffu.Transformer(5).save(tmp_path / "transformer")
    code, output, errors = run(capsys, "export", tmp_path / "transformer", "--arpa", out)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "holds Transformer; ARPA files can hold an ExplicitLM" in errors
    assert not out.exists()


def test_where_to_write_must_be_said(folder, capsys):
    code, _, errors = run(capsys, "export", folder / "backoff")
    assert (code, errors.count("\n")) == (2, 1)
    assert "--arpa" in errors

"""``saffu prune`` and ``saffu train --prune``."""

import argparse
import json

import numpy as np
import pytest

import saffu
from helpers.made_up import told_by_two
from saffu.cli import main as cli
from saffu.cli.prune import file_size
from saffu.ngram_lm import priming

QUICK = ("--windows", "", "--induction", "0", "--radius", "2", "--order", "3", "--min-count", "1", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text and a model of it."""
    folder = tmp_path_factory.mktemp("prune")
    words = [chr(ord("a") + token) for token in told_by_two(4000, 0, 23, 0.4)]
    (folder / "text").write_text("\n".join(" ".join(words[begin : begin + 20]) for begin in range(0, 4000, 20)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(priming, "FOLDS", 3)
        assert cli.main(["train", str(folder / "text"), "--out", str(folder / "model"), *QUICK]) == 0
        yield folder


def run(capsys, *arguments):
    """Output of a command that succeeds."""
    assert cli.main([str(argument) for argument in arguments]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_prune_info_eval_and_generate(folder, tmp_path, capsys):
    out = tmp_path / "small"
    lines = run(capsys, "prune", folder / "model", "--out", out, "--max-loss", "0.02").splitlines()
    before, after = (file.stat().st_size for file in (folder / "model", out))
    assert lines[0] == f"bytes {before:,} -> {after:,}"
    assert "entries" in lines[1]
    assert lines[2] == f"wrote {out}"
    assert after < before
    info = json.loads(run(capsys, "info", out, "--json"))
    assert info["model"]["pruning"]["loss"] <= 0.02
    assert info["model"]["n_entries"] == info["model"]["pruning"]["n_entries"][1]
    figures = [json.loads(run(capsys, "eval", f, folder / "text", "--json")) for f in (folder / "model", out)]
    assert figures[1]["perplexity"] < 1.3 * figures[0]["perplexity"]
    assert len(run(capsys, "generate", out, "--tokens", "5", "--seed", "1")) > 0


def test_training_prunes_to_the_same_model(folder, tmp_path, capsys):
    run(capsys, "prune", folder / "model", "--out", tmp_path / "one", "--max-loss", "0.02")
    lines = run(capsys, "train", folder / "text", "--out", tmp_path / "two", *QUICK, "--prune", "0.02")
    assert "perplexity of text left out" in lines
    one, two = saffu.load(tmp_path / "one"), saffu.load(tmp_path / "two")
    ids = np.arange(8)
    np.testing.assert_array_equal(one.log_prob(ids), two.log_prob(ids))
    assert one.pruning == two.pruning


def test_a_size_is_kept(folder, tmp_path, capsys):
    size = 5_500
    run(capsys, "prune", folder / "model", "--out", tmp_path / "small", "--target-size", "5.5k")
    assert 0.6 * size < (tmp_path / "small").stat().st_size <= size
    assert saffu.load(tmp_path / "small").pruning["loss"] > 0.001


@pytest.mark.parametrize(("text", "size"), [("300", 300), ("2k", 2000), ("20M", 20_000_000), ("1.5G", 1_500_000_000)])
def test_sizes_have_units(text, size):
    assert file_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "0", "-3M", "nan", "inf", "1e999", "20 MB", "20m", "0.5"])
def test_bad_sizes_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a size such as"):
        file_size(text)

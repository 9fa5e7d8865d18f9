"""``saffu grow``: sizes as text, and models of every kind that can grow."""

import json

import numpy as np
import pytest

import saffu
from saffu.attention_lm.model import SaffuLM
from saffu.cli import main as cli
from saffu.cli.grow import grown, sizes_for
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import Chunk, Corpus, Vocabulary
from saffu.transformer.model import Transformer

V = 9
IDS = (np.arange(400) * 7 % 11 % V).astype(np.int32)
TEXT = Chunk(IDS, np.array([0, 150]), 400)


@pytest.fixture(scope="module")
def compact():
    return SaffuLM(bits=3, hidden=3, radius=3, contexts=("radial",)).fit(IDS, vocab_size=V)


@pytest.fixture(scope="module")
def explicit():
    return ExplicitLM(order=2, radius=2, windows=(20,), induction=20).fit(IDS, vocab_size=V)


@pytest.fixture
def transformer():
    return Transformer(vocab_size=V, hidden=4, layers=1, heads=2, positions=5)


def larger(model, *settings, layers=(), **options):
    return grown(model, sizes_for(model, settings), layers, **options)


def test_sizes_are_read_from_text(compact, explicit, transformer):
    assert larger(compact, "radius=6", "contexts=radial+document").contexts == ("radial", "document")
    assert larger(explicit, "windows=20,60", "order=4").windows == (20, 60)
    assert larger(compact, layers=[None, 2]).layers == 3
    sizes = larger(transformer, "heads=3", "hidden=6", "mlp=30", "key=7", "value=8", layers=[0, None]).sizes
    assert [tuple(size) for size in sizes] == [(3, 7, 8, 30)] * 3


def test_growth_keeps_the_function(compact, transformer):
    for model in (compact, transformer):
        np.testing.assert_allclose(larger(model, "hidden=9").log_prob(IDS), model.log_prob(IDS), atol=1e-5)


def test_the_seed_decides_what_is_free(transformer):
    first, same, other = (larger(transformer, "mlp=40", seed=seed).arrays for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("settings", "layers", "message"),
    [
        (["depth=3"], [], "expected NAME=VALUE with one of bits"),
        (["radius"], [], "expected NAME=VALUE"),
        (["radius=long"], [], "whole number"),
        ([], [0], "added above all 1"),
    ],
)
def test_misuse_of_sizes_is_named(compact, settings, layers, message):
    with pytest.raises(ValueError, match=message):
        larger(compact, *settings, layers=layers)


def test_misuse_by_kind_is_named(explicit, transformer):
    with pytest.raises(ValueError, match="no layers"):
        larger(explicit, layers=[None])
    with pytest.raises(ValueError, match="heads must be at least 2"):
        larger(transformer, "heads=1")
    with pytest.raises(ValueError, match="transformer"):
        larger(transformer, "heads=3", text=TEXT)
    with pytest.raises(TypeError, match="object cannot grow"):
        sizes_for(object(), ["heads=1"])


# ---- the command -----------------------------------------------------------------------------------------------------

LINES = "the cat sat on the mat .\nthe dog sat on the cat .\n\n" * 20
COMPACT = ("--model", "saffu", "--bits", "4", "--hidden", "4", "--radius", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, and a model of each kind that grows."""
    folder = tmp_path_factory.mktemp("grow")
    (folder / "text").write_text(LINES)
    for name, options in (("compact", COMPACT), ("explicit", ("--windows", "20"))):
        assert cli.main(["train", str(folder / "text"), "--out", str(folder / name), *options]) == 0
    Transformer(vocab_size=9, hidden=4, layers=1, positions=5).save(folder / "transformer")
    return folder


def run(capsys, *arguments):
    """Exit code, output and error output of the command line."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_compact_model(folder, tmp_path, capsys):
    wide, solved = tmp_path / "wide", tmp_path / "solved"
    wider = ("--set", "radius=4", "--set", "hidden=6", "--add-layer")
    code, output, _ = run(capsys, "grow", folder / "compact", *wider, "--out", wide)
    assert code == 0
    assert "parameters" in output
    scored = [run(capsys, "eval", model, folder / "text", "--json")[1] for model in (folder / "compact", wide)]
    figures = [json.loads(line)["nats_per_token"] for line in scored]
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)
    data = ("--out", solved, "--data", folder / "text")
    code, output, _ = run(capsys, "grow", folder / "compact", "--set", "radius=4", *data)
    assert code == 0
    before, after = (float(word) for word in output.split("per token: ")[1].split("\n")[0].split(" -> "))
    assert after <= before
    code, output, _ = run(capsys, "info", wide)
    assert "growth" in output
    assert "radius 4" in output


def test_an_explicit_model_and_a_transformer(folder, tmp_path, capsys):
    out = tmp_path / "grown"
    data = ("--data", folder / "text", "--threads", "2")
    code, output, _ = run(capsys, "grow", folder / "explicit", "--set", "order=5", "--out", out, *data)
    assert code == 0
    assert "nats per token" in output
    assert json.loads(run(capsys, "info", out, "--json")[1])["model"]["order"] == 5
    assert run(capsys, "grow", folder / "transformer", "--set", "mlp=32", "--out", out, "--quiet") == (
        0,
        f"parameters 316 -> 460\nwrote {out}\n",
        "",
    )
    assert json.loads(run(capsys, "info", out, "--json")[1])["model"]["growth"][0]["kind"] == "mlp"


def test_sizes_are_read_before_the_text(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Corpus, "read", None)
    for setting, message in (("depth=3", "expected NAME=VALUE"), ("order=x", "order must be a whole number")):
        options = ("--set", setting, "--data", folder / "text", "--out", tmp_path / "out")
        code, output, errors = run(capsys, "grow", folder / "explicit", *options)
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert message in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to grow"),
        (("--set", "order=1"), "order must be at least"),
        (("--set", "depth=3"), "expected NAME=VALUE"),
        (("--add-layer",), "no layers"),
    ],
)
def test_misuse_is_one_line(folder, tmp_path, capsys, options, message):
    code, _, errors = run(capsys, "grow", folder / "explicit", *options, "--out", tmp_path / "out")
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_kind_that_cannot_grow_is_one_line(tmp_path, capsys):
    saffu.BitCipher(3).fit([0, 1, 2]).save(tmp_path / "cipher")
    code, _, errors = run(capsys, "grow", tmp_path / "cipher", "--set", "bits=4", "--out", tmp_path / "out")
    assert (code, errors) == (2, "saffu grow: error: BitCipher cannot grow\n")


def test_a_vocabulary_is_kept(folder, tmp_path, capsys):
    run(capsys, "grow", folder / "explicit", "--set", "order=5", "--out", tmp_path / "out")
    vocabularies = [saffu.load(path).vocabulary for path in (folder / "explicit", tmp_path / "out")]
    assert isinstance(vocabularies[0], Vocabulary)
    assert vocabularies[0] == vocabularies[1]

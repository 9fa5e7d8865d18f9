"""The command line, run in this process; its entry points, pipes and exit codes once through ``python -m saffu``."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import saffu
from saffu.attention_lm.model import SaffuLM
from saffu.cli import main as cli
from saffu.cli import train
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import Corpus, reading
from saffu.utils import checkpoint

LINE = "the a cat dog bird sees likes hears small big old red tree house river and or with under over"
WORDS = LINE.split()


def make_text(seed, n_documents=6, n_lines=30):
    """Documents of lines of words, each word mostly decided by the one before it."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(n_documents):
        word = 0
        for _ in range(n_lines):
            line = []
            for _ in range(rng.integers(3, 9)):
                word = (3 * word + int(rng.integers(1, 4))) % len(WORDS)
                line.append(WORDS[word])
            lines.append(" ".join(line) + " .")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with texts and a model trained on one of them."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "train.txt").write_text(make_text(0))
    with gzip.open(folder / "test.txt.gz", "wt") as file:
        file.write(make_text(1, n_documents=2) + "\nunheard words .\n")
    assert cli.main(["train", str(folder / "train.txt"), "--out", str(folder / "model.saffu"), "--quiet"]) == 0
    return folder


def run(capsys, *arguments):
    """Exit code, output and error output of the command line."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def spawn(*arguments, **settings):
    """The command line as a process of its own, with the package that is under test."""
    path = os.pathsep.join([str(Path(saffu.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-P", "-m", "saffu", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **settings)


# ---- train and eval --------------------------------------------------------------------------------------------------


def test_train_says_what_it_wrote(trained, tmp_path, capsys):
    out = tmp_path / "model.saffu"
    code, output, errors = run(capsys, "train", trained / "train.txt", "--out", out)
    assert (code, errors) == (0, "")
    model = saffu.utils.checkpoint.load(out)
    assert f"{out}: {model.n_tokens:,} tokens, {len(model.vocabulary):,} types" in output
    assert [path.name for path in tmp_path.iterdir()] == ["model.saffu"]


def test_eval_agrees_with_the_library(trained, capsys):
    code, output, errors = run(capsys, "eval", trained / "model.saffu", trained / "test.txt.gz", "--json")
    assert (code, errors) == (0, "")
    figures = json.loads(output)
    assert list(figures) == [
        *("perplexity", "perplexity_low", "perplexity_high", "nats_per_token", "bits_per_char", "bits_per_byte"),
        *("tokens", "unk_rate", "seconds", "tokens_per_second"),
    ]
    model = checkpoint.load(trained / "model.saffu")
    text = Corpus(trained / "test.txt.gz").read(model.vocabulary)
    nats = -model.log_prob(text.ids, documents=text.starts).mean()
    content = gzip.decompress((trained / "test.txt.gz").read_bytes()).decode()
    lines = [line for line in content.split("\n") if line]
    characters = sum(len(line) + 1 for line in lines)
    tokens = sum(len(line.split()) + 1 for line in lines)
    assert figures["tokens"] == text.ids.size == tokens
    assert figures["nats_per_token"] == pytest.approx(nats)
    assert figures["perplexity"] == pytest.approx(np.exp(nats))
    assert figures["perplexity"] == pytest.approx(model.perplexity(text.ids, documents=text.starts))
    assert figures["bits_per_char"] == pytest.approx(nats * tokens / np.log(2) / characters)
    assert figures["bits_per_byte"] == figures["bits_per_char"]  # the text is ASCII
    assert figures["unk_rate"] == pytest.approx(2 / tokens)
    assert figures["tokens_per_second"] == pytest.approx(tokens / figures["seconds"])


def test_eval_prints_the_same_figures_for_people(trained, capsys):
    _, output, _ = run(capsys, "eval", trained / "model.saffu", trained / "test.txt.gz", "--json")
    figures = json.loads(output)
    code, output, _ = run(capsys, "eval", trained / "model.saffu", trained / "test.txt.gz")
    assert code == 0
    rows = dict(line.rsplit(maxsplit=1) for line in output.splitlines())
    assert list(rows) == [name.replace("_", " ") for name, value in figures.items() if value is not None]
    assert float(rows["perplexity"]) == pytest.approx(figures["perplexity"], abs=6e-4)


def test_eval_may_adapt(trained, tmp_path, capsys):
    before = (trained / "model.saffu").read_bytes()
    code, output, errors = run(capsys, "eval", trained / "model.saffu", trained / "test.txt.gz", "--json", "--adapt")
    assert (code, errors) == (0, "")
    model = checkpoint.load(trained / "model.saffu")
    text = Corpus(trained / "test.txt.gz").read(model.vocabulary)
    nats = -model.log_prob(text.ids, documents=text.starts, adapt=True).mean()
    assert json.loads(output)["nats_per_token"] == pytest.approx(nats, rel=1e-12)
    assert (trained / "model.saffu").read_bytes() == before


def test_eval_adapts_explicit_models_alone(trained, tmp_path, capsys):
    saffu.Transformer(vocab_size=5, hidden=4, layers=1, positions=8).save(tmp_path / "transformer.saffu")
    np.savez(tmp_path / "ids.npz", ids=[0, 1, 2])
    code, _, errors = run(capsys, "eval", tmp_path / "transformer.saffu", tmp_path / "ids.npz", "--adapt")
    assert code == 2
    assert "--adapt wants a model that learns on the spot, an ExplicitLM, got Transformer" in errors


def test_training_learns(trained, capsys):
    _, output, _ = run(capsys, "eval", trained / "model.saffu", trained / "test.txt.gz", "--json")
    model = checkpoint.load(trained / "model.saffu")
    text = Corpus(trained / "test.txt.gz").read(model.vocabulary)
    assert json.loads(output)["perplexity"] < 0.7 * np.exp(-model.unigram_log_prob(text.ids).mean())


def test_standard_input_equals_a_file(trained, tmp_path, capsys, monkeypatch):
    content = (trained / "train.txt").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert run(capsys, "train", "-", "--out", tmp_path / "piped.saffu")[0] == 0
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    piped = json.loads(run(capsys, "eval", tmp_path / "piped.saffu", "-", "--json")[1])
    whole = json.loads(run(capsys, "eval", trained / "model.saffu", trained / "train.txt", "--json")[1])
    assert piped["perplexity"] == whole["perplexity"]


def test_blocks_do_not_show_in_the_model(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 500)
    assert run(capsys, "train", trained / "train.txt", "--out", tmp_path / "blocks.saffu")[0] == 0
    monkeypatch.undo()
    first, second = (
        json.loads(run(capsys, "eval", model, trained / "test.txt.gz", "--json")[1])
        for model in (tmp_path / "blocks.saffu", trained / "model.saffu")
    )
    assert first["perplexity"] == second["perplexity"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tokenizer", "chars"], ("chars", "file", 1)),
        (["--tokenizer", "bytes", "--documents", "blank-line"], ("bytes", "blank-line", 1)),
        (["--tokenizer", "whitespace", "--min-count", "5"], ("whitespace", "blank-line", 5)),
        (["--windows", "", "--induction", "0"], ("words", "blank-line", 3)),
        (["--windows", "20,100", "--radius", "2", "--order", "2", "--threads", "1"], ("words", "blank-line", 3)),
        (["--priming", "kneser-ney"], ("words", "blank-line", 3)),
        (["--priming", "backoff"], ("words", "blank-line", 3)),
        (["--priming", "leave-one-out"], ("words", "blank-line", 3)),
    ],
)
def test_options_reach_the_model(trained, tmp_path, capsys, options, expected):
    out = tmp_path / "model.saffu"
    code, _, errors = run(capsys, "train", trained / "train.txt", "--out", out, *options)
    assert (code, errors) == (0, "")
    vocabulary = checkpoint.load(out).vocabulary
    assert (vocabulary.tokenizer, vocabulary.documents, vocabulary.min_count) == expected
    code, output, _ = run(capsys, "eval", out, trained / "test.txt.gz", "--json")
    assert code == 0
    assert 1 < json.loads(output)["perplexity"] < len(vocabulary)


def test_contexts_can_be_switched_off(trained, tmp_path, monkeypatch, capsys):
    settings = {}

    class Recorder(ExplicitLM):
        def __init__(self, **given):
            settings.update(given)
            super().__init__(**given)

    monkeypatch.setattr(train, "ExplicitLM", Recorder)
    options = ["--windows", "", "--induction", "0", "--radius", "3", "--order", "2", "--threads", "2"]
    options += ["--priming", "unit"]
    assert run(capsys, "train", trained / "train.txt", "--out", tmp_path / "model", *options)[0] == 0
    assert settings == {
        "radius": 3, "order": 2, "windows": (), "induction": 0, "priming": "unit", "n_threads": 2,
    }  # fmt: skip


def test_contexts_are_selected(trained, tmp_path, capsys):
    command = ["train", trained / "train.txt", "--out", tmp_path / "model", "--select-contexts", "--threads", "1"]
    assert run(capsys, *command, "--tokenizer", "chars", "--order", "4", "--windows", "30", "--induction", "0")[0] == 0
    summary = json.loads(run(capsys, "info", tmp_path / "model", "--json")[1])["model"]
    assert summary["growth"][0]["kind"] == "selection"
    assert set(summary["growth"][0]["gains"]) <= {"words", "place in line"}
    assert ("words" in summary) == ("word 2" in summary["features"])
    assert run(capsys, *command, "--min-entry", "1,2")[0] != 0
    assert run(capsys, *command, "--model", "saffu")[0] != 0


# ---- compact models --------------------------------------------------------------------------------------------------

COMPACT = ["--model", "saffu", "--bits", "8", "--hidden", "10"]


@pytest.fixture(scope="module")
def compact(trained):
    """The folder, with a compact model that stands on an explicit one, refined."""
    options = [*COMPACT, "--residual", "--refine", "1", "--quiet"]
    assert cli.main(["train", str(trained / "train.txt"), "--out", str(trained / "compact.saffu"), *options]) == 0
    return trained


def test_a_compact_model_equals_that_of_the_library(compact, tmp_path):
    model = checkpoint.load(compact / "compact.saffu")
    text = Corpus(compact / "train.txt").read(model.vocabulary)
    base = ExplicitLM().fit(text.ids, vocab_size=len(model.vocabulary), documents=text.starts)
    twin = SaffuLM(bits=8, hidden=10, residual=base, min_count=3).fit(text.ids, documents=text.starts)
    twin = twin.refine(text.ids, epochs=1, documents=text.starts)
    test = Corpus(compact / "test.txt.gz").read(model.vocabulary)
    np.testing.assert_allclose(
        model.log_prob(test.ids, documents=test.starts), twin.log_prob(test.ids, documents=test.starts), atol=1e-5
    )
    assert model.history[-1]["epoch"] == 1


def test_eval_generate_and_info_take_a_compact_model(compact, capsys):
    path, test = compact / "compact.saffu", compact / "test.txt.gz"
    model = checkpoint.load(path)
    code, output, errors = run(capsys, "eval", path, test, "--json")
    assert (code, errors) == (0, "")
    text = Corpus(test).read(model.vocabulary)
    assert json.loads(output)["perplexity"] == pytest.approx(model.perplexity(text.ids, documents=text.starts))
    options = ["generate", path, "--prompt", "the cat", "--tokens", "20", "--top-k", "5", "--seed", "1"]
    code, first, errors = run(capsys, *options)
    assert (code, errors) == (0, "")
    assert first.startswith("the cat")
    assert len(saffu.text.tokenize(first.removesuffix("\n"), tokenizer="words")) == 2 + 20
    assert run(capsys, *options)[1] == first
    code, output, _ = run(capsys, "info", path, "--json")
    assert code == 0
    facts = json.loads(output)
    assert facts["model"]["n_parameters"] == model.n_parameters
    assert facts["model"]["residual"]["order"] == 4
    assert facts["model"]["epochs_refined"] == 1
    np.testing.assert_allclose(facts["scalars"], model.scalars)
    code, output, _ = run(capsys, "info", path)
    assert code == 0
    assert "n parameters" in output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--contexts", "document+block", "--block", "3"], {"contexts": ("block", "document"), "block": 3}),
        (["--contexts", "radial", "--radius", "2", "--layers", "2", "--heads", "2"], {"radius": 2, "layers": 2}),
        (["--residual", "--order", "3", "--windows", "", "--induction", "0"], {"min_count": 3, "radius": 8}),
        (["--tokenizer", "chars", "--residual"], {"min_count": 1}),
    ],
)
def test_options_reach_the_compact_model(trained, tmp_path, capsys, options, expected):
    out = tmp_path / "model"
    code, output, errors = run(capsys, "train", trained / "train.txt", "--out", out, *COMPACT, *options)
    assert (code, errors) == (0, "")
    model = checkpoint.load(out)
    assert f"{out}: " in output
    assert (model.bits, model.hidden) == (8, 10)
    assert {name: getattr(model, name) for name in expected} == expected
    assert (model.residual is not None) == ("--residual" in options)
    if "--order" in options:
        assert (model.residual.order, model.residual.windows, model.residual.radius) == (3, (), 5)
    assert model.history is None
    assert run(capsys, "eval", out, trained / "test.txt.gz")[0] == 0


def test_options_reach_the_refinement(trained, tmp_path, capsys, monkeypatch):
    given = {}

    def refine(model, ids, epochs, **options):
        given.update(options, epochs=epochs, n=len(ids))
        return model

    monkeypatch.setattr(SaffuLM, "refine", refine)
    options = ["--refine", "3", "--learning-rate", "0.01", "--dropout", "0.2", "--thaw-after", "1"]
    options += ["--valid", str(trained / "test.txt.gz")]
    assert run(capsys, "train", trained / "train.txt", "--out", tmp_path / "model", *COMPACT, *options)[0] == 0
    text = Corpus(trained / "test.txt.gz").read(checkpoint.load(tmp_path / "model").vocabulary)
    np.testing.assert_array_equal(given.pop("validation")[0], text.ids)
    assert given.pop("documents").size == 6
    assert given.pop("n") > 1000
    assert given == {"epochs": 3, "learning_rate": 0.01, "dropout": 0.2, "thaw_after": 1, "progress": True}


# ---- generate, info, demo --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_text(trained, capsys):
    options = ["generate", trained / "model.saffu", "--prompt", "the cat", "--tokens", "40"]
    code, first, errors = run(capsys, *options, "--seed", "1")
    assert (code, errors) == (0, "")
    assert first.startswith("the cat")
    assert first.endswith("\n")
    assert run(capsys, *options, "--seed", "1")[1] == first
    assert run(capsys, *options, "--seed", "2")[1] != first
    known = set(WORDS) | {".", "<unk>"}
    assert set(first.replace(".", " . ").split()) <= known
    assert len(saffu.text.tokenize(first.removesuffix("\n"), tokenizer="words")) == 2 + 40


def test_generate_obeys_its_options(trained, capsys):
    greedy = ["generate", trained / "model.saffu", "--top-k", "1", "--tokens", "12"]
    assert run(capsys, *greedy, "--seed", "1")[1] == run(capsys, *greedy, "--seed", "2")[1]
    cold = ["generate", trained / "model.saffu", "--temperature", "0", "--tokens", "12", "--seed", "3"]
    assert run(capsys, *cold)[1] == run(capsys, *greedy)[1]


@pytest.mark.parametrize("tokenizer", ["chars", "bytes"])
def test_generate_joins_characters(trained, tmp_path, capsys, tokenizer):
    out = tmp_path / "model"
    assert run(capsys, "train", trained / "train.txt", "--out", out, "--tokenizer", tokenizer)[0] == 0
    code, output, _ = run(capsys, "generate", out, "--prompt", "the c", "--tokens", "50", "--seed", "1")
    assert code == 0
    assert output.startswith("the c")
    assert len(output) == 5 + 50 + 1


def test_info_names_what_is_inside(trained, capsys):
    model = checkpoint.load(trained / "model.saffu")
    code, output, errors = run(capsys, "info", trained / "model.saffu", "--json")
    assert (code, errors) == (0, "")
    facts = json.loads(output)
    assert facts["bytes"] == (trained / "model.saffu").stat().st_size
    assert facts["vocabulary"] == {
        "types": len(model.vocabulary), "tokenizer": "words", "documents": "blank-line", "min_count": 3,
    }  # fmt: skip
    for name, value in model.scalars.items():
        np.testing.assert_allclose(facts["scalars"][name], value)
    code, output, _ = run(capsys, "info", trained / "model.saffu")
    assert code == 0
    for name in model.scalars:
        assert name.replace("_", " ") in output


def test_demo_beats_the_simpler_models(capsys):
    code, output, errors = run(capsys, "demo")
    assert (code, errors) == (0, "")
    rows = dict(line.strip().rsplit(maxsplit=1) for line in output.splitlines() if line.startswith("  "))
    unigram, kneser_ney, unit, primed = (
        float(rows[name]) for name in ("unigram", "modified Kneser-Ney", "every scalar 1", "this model, primed")
    )
    assert primed < min(kneser_ney, unit)
    assert kneser_ney < unigram
    for heading in ("seconds   count", "types", "fitted scalars", "generated (seed 1)\nThe "):
        assert heading in output


# ---- bad input -------------------------------------------------------------------------------------------------------


def assert_user_error(result, message):
    code, output, errors = result
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.startswith("saffu")
    assert errors.count("\n") == 1
    assert errors.endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND (see 'saffu --help')"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "train.txt"], "saffu train: error: the following arguments are required: --out"),
        (["train", "--out", "new"], "required: FILE"),
        (
            ["train", "train.txt", "--out", "new", "--tokenizer", "word"],
            "--tokenizer: expected one of words, whitespace",
        ),
        (["train", "train.txt", "--out", "new", "--documents", "verse"], "--documents: invalid choice: 'verse'"),
        (["train", "train.txt", "--out", "new", "--priming", "none"], "--priming: invalid choice: 'none'"),
        (["train", "train.txt", "--out", "new", "--min-count", "0"], "integer of at least 1, got '0'"),
        (["train", "train.txt", "--out", "new", "--radius", "x"], "--radius: expected an integer of at least 1"),
        (["train", "train.txt", "--out", "new", "--order", "1"], "--order: expected an integer of at least 2"),
        (["train", "train.txt", "--out", "new", "--windows", "60;500"], "--windows: expected distinct positive"),
        (["train", "train.txt", "--out", "new", "--windows", "60,60"], "--windows: expected distinct positive"),
        (["train", "train.txt", "--out", "new", "--windows", "0"], "--windows: expected distinct positive"),
        (["train", "train.txt", "--out", "new", "--induction", "-1"], "--induction: expected an integer of at least 0"),
        (["train", "train.txt", "--out", "new", "--threads", "0"], "--threads: expected an integer of at least 1"),
        (["train", "train.txt", "--out", "new", "--model", "big"], "--model: invalid choice: 'big'"),
        (["train", "train.txt", "--out", "new", "--bits", "8"], "--bits is for --model saffu"),
        (["train", "train.txt", "--out", "new", "--residual"], "--residual is for --model saffu"),
        (["train", "train.txt", "--out", "new", "--learning-rate", "1"], "--learning-rate is for --model saffu"),
        (["train", "train.txt", "--out", "new", *COMPACT, "--order", "3"], "--order is for --model explicit, or needs"),
        (["train", "train.txt", "--out", "new", *COMPACT, "--dropout", "0.1"], "--dropout needs --refine"),
        (["train", "train.txt", "--out", "new", *COMPACT, "--dropout", "1"], "at least 0 and below 1, got '1'"),
        (["train", "train.txt", "--out", "new", *COMPACT, "--learning-rate", "0"], "a number above 0, got '0'"),
        (["train", "train.txt", "--out", "new", *COMPACT, "--contexts", "far"], "expected some of block, radial"),
        (["train", "train.txt", "--out", "new", *COMPACT, "--contexts", "block+block"], "each once"),
        (
            ["train", "train.txt", "--out", "new", *COMPACT, "--contexts", "document", "--layers", "2"],
            "add one of them",
        ),
        (["train", "train.txt", "--out", "new", *COMPACT, "--refine", "1", "--valid", "no.txt"], "'no.txt': No such"),
        (["train", "train.txt", "--out", "new", "--speed", "9"], "unrecognized arguments: --speed 9"),
        (["train", "nowhere.txt", "--out", "new"], "'nowhere.txt': No such file or directory"),
        (["train", ".", "--out", "new"], "'.': Is a directory"),
        (["train", "empty.txt", "--out", "new"], "'empty.txt' holds no text"),
        (["train", "latin.txt", "--out", "new"], "'latin.txt' is not UTF-8: byte 0xe9 at position 6 (line 2)"),
        (["train", "cut.txt.gz", "--out", "new"], "'cut.txt.gz' is damaged"),
        (["train", "-", "-", "--out", "new"], "standard input ('-') can be named only once"),
        (["train", "train.txt", "--out", "nowhere/new"], "cannot write 'nowhere/new': there is no folder"),
        (["train", "train.txt", "--out", "."], "cannot write '.': it is a folder"),
        (["train", "train.txt", "--out", "train.txt"], "'train.txt' is an input, too"),
        (["eval", "nowhere.saffu", "train.txt"], "'nowhere.saffu': No such file or directory"),
        (["eval", "train.txt", "train.txt"], "'train.txt' is not a saffu model"),
        (["eval", "cut.saffu", "train.txt"], "'cut.saffu' is cut short"),
        (["eval", "newer.saffu", "train.txt"], "'newer.saffu' has format 2"),
        (["eval", "model.saffu", "nowhere.txt"], "'nowhere.txt': No such file or directory"),
        (["eval", "model.saffu", "empty.txt"], "'empty.txt' holds no text"),
        (["eval", "model.saffu", "latin.txt"], "'latin.txt' is not UTF-8"),
        (["eval", "bare.saffu", "train.txt"], "'bare.saffu' holds a language model without a vocabulary"),
        (["generate", "train.txt"], "'train.txt' is not a saffu model"),
        (["generate", "model.saffu", "--tokens", "0"], "--tokens: expected an integer of at least 1"),
        (["generate", "model.saffu", "--temperature", "-1"], "--temperature: expected a number of at least 0"),
        (["generate", "model.saffu", "--temperature", "nan"], "--temperature: expected a number of at least 0"),
        (["generate", "model.saffu", "--top-k", "0"], "--top-k: expected an integer of at least 1"),
        (["generate", "model.saffu", "--seed", "x"], "--seed: expected an integer of at least 0"),
        (["info", "empty.txt"], "'empty.txt' is not a saffu model"),
        (["info", "."], "'.': Is a directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(trained, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("train.txt", "model.saffu"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"ok\ncaf\xe9\n")
    (tmp_path / "cut.txt.gz").write_bytes((trained / "test.txt.gz").read_bytes()[:-9])
    (tmp_path / "cut.saffu").write_bytes((trained / "model.saffu").read_bytes()[:-9])
    model = checkpoint.load("model.saffu")
    model.vocabulary = None
    model.save("bare.saffu")
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.save(model, "newer.saffu")
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert_user_error(run(capsys, *arguments), message)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_kind_of_model_is_named(tmp_path, capsys, monkeypatch):
    class Other:
        @classmethod
        def _from_checkpoint(cls, arrays, metadata):
            return cls()

    monkeypatch.setitem(checkpoint._kinds, "other", Other)
    checkpoint.write(tmp_path / "other", "other", {}, {})
    assert_user_error(run(capsys, "info", tmp_path / "other"), "holds Other, of which nothing is known here")


def test_closed_output_is_named(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["info", str(trained / "model.saffu")]) == 2
    assert capsys.readouterr().err == "saffu info: error: standard output is closed\n"


@pytest.mark.parametrize("place", ["partial_fit", "prime", "save"])
def test_an_interrupt_leaves_the_old_model(trained, tmp_path, capsys, monkeypatch, place):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    out = tmp_path / "model"
    out.write_bytes(b"the old one")
    monkeypatch.setattr(ExplicitLM, place, interrupt)
    code, output, errors = run(capsys, "train", trained / "train.txt", "--out", out)
    assert (code, output, errors) == (130, "", "saffu train: interrupted\n")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model", b"the old one")]


# ---- terminals and processes -----------------------------------------------------------------------------------------


def test_progress_is_for_terminals(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for options in ([], [*COMPACT, "--residual", "--refine", "1"]):
        arguments = ["train", trained / "train.txt", "--out", tmp_path / "model", *options]
        shown = run(capsys, *arguments)[2]
        assert all(stage in shown for stage in ["read", "prime", *["solve", "refine"] * bool(options)])
        code, output, errors = run(capsys, *arguments, "--quiet")
        assert (code, errors) == (0, "")
        assert f"{tmp_path / 'model'}: " in output  # a result, and no progress
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert run(capsys, *arguments)[2] == ""


COMMANDS = (
    "demo",
    "train",
    "eval",
    "surprisal",
    "pairs",
    "filter",
    "generate",
    "info",
    "grow",
    "prune",
    "export",
    "classify",
    "grow-checkpoint",
    "roadmap",
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), "--help"])
    output = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"  saffu {command}".rstrip() in output.split("examples:" if command else "first steps:")[1]


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"saffu {saffu.__version__}\n")


def test_as_a_process(trained, tmp_path):
    process = spawn("train", "-", "--out", tmp_path / "model", stdin=subprocess.PIPE)
    output, errors = process.communicate((trained / "train.txt").read_bytes(), timeout=120)
    assert (process.returncode, errors) == (0, b"")
    assert b" tokens, " in output
    process = spawn("info", trained / "train.txt")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (2, b"")
    assert errors.endswith(b"is not a saffu model" + os.linesep.encode())
    assert errors.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_a_reader_may_go_away(trained):
    process = spawn("generate", trained / "model.saffu", "--tokens", "1000000")
    assert process.stdout.read(1)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=120), errors) == (141, b"")

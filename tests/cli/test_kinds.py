"""``saffu eval`` and ``saffu info`` of every kind of model that can be saved, and threads of every command."""

import json
import sys

import numpy as np
import pytest

import saffu
from saffu.cli import main as cli
from saffu.text import Vocabulary
from saffu.utils import checkpoint

rng = np.random.default_rng(0)
LABELS = np.arange(90) % 3
X = rng.poisson(1 + 4.0 * (LABELS[:, None] == np.arange(6) % 3)).astype(np.float32)
NAMES = np.array(["cat", "dog", "fish"])[LABELS]
IDS = (np.arange(300) * 7 % 11 % 5).astype(np.int32)
TEXTS = [f"{words} {i}" for i in range(9) for words in ("a b", "c d")]
STARTS = np.array([0, 100])
TINY = {"order": 2, "radius": 1, "windows": (), "induction": 0}


def backoff_model():
    model = saffu.ExplicitLM(order=2, priming="backoff").fit(IDS)
    model.vocabulary = Vocabulary(["a", "b", "c"])
    return model.to_backoff()


MODELS = {
    "ExplicitLM": lambda: saffu.ExplicitLM(**TINY).fit(IDS),
    "SaffuLM": lambda: saffu.SaffuLM(bits=2, hidden=2, radius=2).fit(IDS),
    "RecurrentLM": lambda: saffu.RecurrentLM(dim=3, epochs=1).fit(IDS),
    "Transformer": lambda: saffu.Transformer(vocab_size=5, hidden=4, layers=1, positions=8),
    "MixtureLM": lambda: saffu.MixtureLM([saffu.ExplicitLM(**TINY), saffu.ExplicitLM(1)]).fit(IDS),
    "SoftmaxLayer": lambda: saffu.SoftmaxLayer().fit(X, LABELS),
    "ExplicitNetwork": lambda: saffu.ExplicitNetwork(hidden=(6,)).fit(X, LABELS, progress=False),
    "ExplicitConvNet": lambda: saffu.ExplicitConvNet(6, patch=3, units=9, hidden=(6,)).fit(X, LABELS, progress=False),
    "PatchEncoder": lambda: saffu.PatchEncoder(6, patch=3, units=4, rounds=2).fit(X),
    "ExplicitTextClassifier": lambda: saffu.ExplicitTextClassifier().fit(TEXTS, ["x", "y"] * 9),
    "BitCipher": lambda: saffu.BitCipher(3).fit(IDS),
    "BackoffLM": backoff_model,
}
LANGUAGE_MODELS = ("ExplicitLM", "SaffuLM", "RecurrentLM", "Transformer", "BackoffLM", "MixtureLM")
CLASSIFIERS = ("SoftmaxLayer", "ExplicitNetwork", "ExplicitConvNet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of each kind, and arrays to evaluate them on."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, make in MODELS.items():
        make().save(folder / name)
    saffu.SoftmaxLayer().fit(X, NAMES).save(folder / "names")
    np.savez(folder / "ids.npz", ids=IDS, documents=STARTS)
    np.savez(folder / "more.npz", ids=IDS[:50])
    np.savez(folder / "rows.npz", X=X, y=LABELS)
    np.savez(folder / "names.npz", X=X, y=NAMES)
    lines = [f"{y} {' '.join(f'{d + 1}:{v:g}' for d, v in enumerate(x) if v)}" for x, y in zip(X, LABELS, strict=True)]
    (folder / "rows.svm").write_text("\n".join(lines) + "\n")
    return folder


def run(capsys, *arguments):
    """Exit code, output and error output of the command line."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def answer(capsys, *arguments):
    """The JSON object that a command prints."""
    code, output, errors = run(capsys, *arguments, "--json")
    assert (code, errors) == (0, "")
    return json.loads(output)


def test_all_kinds_are_here():
    kinds = [kind for kind in checkpoint._kinds.values() if kind.__module__.startswith("saffu.")]
    assert {kind.__name__ for kind in kinds} == set(MODELS)


# ---- eval ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_token_ids_are_evaluated(folder, capsys, kind):
    model = saffu.load(folder / kind)
    figures = answer(capsys, "eval", folder / kind, folder / "ids.npz", folder / "more.npz")
    expected = [*model.log_prob(IDS, documents=STARTS), *model.log_prob(IDS[:50])]
    names = ["perplexity", "perplexity_low", "perplexity_high", "nats_per_token"]
    assert list(figures) == [*names, "tokens", "seconds", "tokens_per_second"]
    assert figures["perplexity_low"] is None  # so short a text has no interval
    assert figures["tokens"] == 350
    assert figures["nats_per_token"] == pytest.approx(-np.mean(expected))
    assert figures["perplexity"] == pytest.approx(np.exp(-np.mean(expected)))


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("file", ["rows.npz", "rows.svm"])
def test_rows_are_evaluated(folder, capsys, kind, file):
    if file == "rows.svm":
        pytest.importorskip("sklearn")
    model = saffu.load(folder / kind)
    figures = answer(capsys, "eval", folder / kind, folder / file)
    assert list(figures) == ["accuracy", "nats_per_row", "rows", "seconds", "rows_per_second"]
    assert figures["rows"] == 90
    assert figures["accuracy"] == pytest.approx(np.mean(model.predict(X) == LABELS))
    expected = -np.log(model.predict_proba(X)[np.arange(90), LABELS].astype(float)).mean()
    assert figures["nats_per_row"] == pytest.approx(expected, rel=1e-4)
    assert figures["accuracy"] > 0.7


def test_labels_may_be_strings(folder, capsys):
    figures = answer(capsys, "eval", folder / "names", folder / "names.npz")
    assert figures["accuracy"] == answer(capsys, "eval", folder / "SoftmaxLayer", folder / "rows.npz")["accuracy"]


def test_figures_of_rows_for_people(folder, capsys):
    code, output, _ = run(capsys, "eval", folder / "SoftmaxLayer", folder / "rows.npz")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == ["accuracy", "nats", "rows", "seconds", "rows"]


@pytest.fixture
def foul(folder):
    """Files that hold something else than what is asked for."""
    (folder / "text.npz").write_text("plain text")
    np.savez(folder / "objects.npz", X=np.array([{}], dtype=object), y=np.array([0]))
    np.savez(folder / "other.npz", Z=X)
    np.savez(folder / "no-rows.npz", X=X[:0], y=LABELS[:0])
    np.savez(folder / "no-ids.npz", ids=IDS[:0])
    np.savez(folder / "large.npz", ids=IDS + 1)
    np.savez(folder / "matrix.npz", ids=X)
    np.savez(folder / "narrow.npz", X=X[:, :5], y=LABELS)
    np.savez(folder / "short.npz", X=X, y=LABELS[:9])
    np.savez(folder / "unknown.npz", X=X, y=LABELS + 1)
    np.savez(folder / "negative.npz", X=-X, y=LABELS)
    whole = (folder / "rows.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.npz").write_bytes(whole[:300] + bytes([whole[300] ^ 255]) + whole[301:])
    (folder / "wide.svm").write_text("1 1:1 9:1\n")
    (folder / "prose.svm").write_text("it was a dark night\n")
    (folder / "long.svm").write_text("x" * 100_000)
    return folder


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("SoftmaxLayer", "missing.npz", "missing.npz': No such file"),
        ("SoftmaxLayer", "text.npz", "is not an archive of arrays, as numpy.savez writes them"),
        ("SoftmaxLayer", "cut.npz", "is not an archive of arrays"),
        ("SoftmaxLayer", "flipped.npz", "is damaged"),
        ("SoftmaxLayer", "objects.npz", "holds other things than arrays of numbers"),
        ("SoftmaxLayer", "other.npz", "must hold X and y, it holds Z"),
        ("SoftmaxLayer", "no-rows.npz", "holds no rows"),
        ("SoftmaxLayer", "narrow.npz", "must have 6 columns, got 5"),
        ("SoftmaxLayer", "short.npz", "must have one label for each of the 90 rows, got 9"),
        ("SoftmaxLayer", "unknown.npz", "must be one of the 3 classes, got 3"),
        ("SoftmaxLayer", "negative.npz", "must be finite and not negative"),
        ("SoftmaxLayer", "names.npz", "must be numbers as the classes are, got strings"),
        ("ExplicitNetwork", "negative.npz", "must be finite and not negative"),
        ("Transformer", "no-ids.npz", "holds no tokens"),
        ("Transformer", "large.npz", "must be below 5, got 5 at position"),
        ("Transformer", "matrix.npz", "must be one-dimensional"),
        ("Transformer", "rows.npz", "must hold ids, it holds X, y"),
        ("Transformer", "rows.svm", "holds a language model without a vocabulary"),
        ("BitCipher", "ids.npz", "BitCipher' holds BitCipher, which predicts nothing to evaluate"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(foul, capsys, model, file, message):
    code, output, errors = run(capsys, "eval", foul / model, foul / file)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors


@pytest.mark.parametrize("file", ["wide.svm", "prose.svm", "long.svm"])
def test_damaged_svmlight_is_one_line(foul, capsys, file):
    pytest.importorskip("sklearn")
    code, output, errors = run(capsys, "eval", foul / "SoftmaxLayer", foul / file)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "is neither .npz nor svmlight with 6 features" in errors
    assert len(errors) < 400


def test_what_reads_svmlight_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, errors = run(capsys, "eval", folder / "SoftmaxLayer", folder / "rows.svm")
    assert code == 2
    assert "pip install 'saffu[sklearn]' lets saffu read the svmlight format" in errors


def test_rows_come_from_one_file(folder, capsys):
    code, _, errors = run(capsys, "eval", folder / "SoftmaxLayer", folder / "rows.npz", folder / "rows.npz")
    assert code == 2
    assert "a classifier is evaluated on one file of rows, got 2" in errors


# ---- info ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_has_facts(folder, capsys, kind):
    facts = answer(capsys, "info", folder / kind)
    assert facts["kind"] == kind
    assert facts["bytes"] == (folder / kind).stat().st_size
    code, output, errors = run(capsys, "info", folder / kind)
    assert (code, errors) == (0, "")
    assert kind in output
    assert "  ".join(output.splitlines()[2].split()) == f"kind  {kind}"


def test_facts_of_a_language_model(folder, tmp_path, capsys):
    assert "vocabulary" not in answer(capsys, "info", folder / "ExplicitLM")
    model = saffu.load(folder / "ExplicitLM")
    model.vocabulary = Vocabulary(["a", "b", "c"], tokenizer="chars")
    model.save(tmp_path / "named")
    facts = answer(capsys, "info", tmp_path / "named")
    assert facts["vocabulary"] == {"types": 5, "tokenizer": "chars", "documents": "file", "min_count": 1}
    assert facts["model"]["order"] == 2
    assert facts["model"]["n_tokens"] == 300


def test_facts_of_classifiers(folder, capsys):
    layer = answer(capsys, "info", folder / "names")
    assert layer["model"]["classes"] == ["cat", "dog", "fish"]
    assert (layer["model"]["n_features"], layer["model"]["n_classes"], layer["model"]["rows"]) == (6, 3, 90.0)
    assert layer["scalars"] == pytest.approx(saffu.load(folder / "names").scalars)
    network = answer(capsys, "info", folder / "ExplicitNetwork")
    assert network["model"]["hidden"] == [6]
    assert network["model"]["n_parameters"] == saffu.load(folder / "ExplicitNetwork").n_parameters
    assert list(network["scalars"]["layer_1"]) == ["likelihood", "share", "output"]


def test_facts_of_a_cipher(folder, capsys):
    assert answer(capsys, "info", folder / "BitCipher")["model"] == {"bits": 3, "vocab_size": 5, "n_coded": 5}


def test_facts_of_a_classifier_of_texts(folder, capsys):
    found = answer(capsys, "info", folder / "ExplicitTextClassifier")
    assert found["model"]["classes"] == ["x", "y"]
    assert (found["model"]["n_ngrams"], found["model"]["tokenizer"]) == (15, "words")
    assert found["folds"]["held_out_loss"] < 0.5


# ---- threads, radius of the residual base ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("demo",),
        ("train", "text", "--out", "new"),
        ("eval", "SoftmaxLayer", "rows.npz"),
        ("surprisal", "ExplicitLM", "ids.npz"),
        ("pairs", "ExplicitLM", "rows.svm"),
        ("filter", "ExplicitLM", "--scores"),
        ("generate", "ExplicitLM"),
        ("info", "SoftmaxLayer"),
        ("grow", "SaffuLM", "--set", "hidden=3", "--out", "new"),
        ("roadmap", "text", "--out", "map"),
        ("classify train", "rows.svm", "--out", "new"),
        ("classify test", "ExplicitTextClassifier", "rows.svm"),
        ("classify predict", "ExplicitTextClassifier", "rows.svm"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_takes_threads(folder, capsys, monkeypatch, command):
    monkeypatch.chdir(folder)
    code, output, errors = run(capsys, *command[0].split(), *command[1:], "--threads", "1025")
    assert (code, output) == (2, "")
    assert errors == f"saffu {command[0]}: error: n_threads must be at most 1024, got 1025\n"


@pytest.mark.parametrize("kind", [*LANGUAGE_MODELS, *CLASSIFIERS])
def test_threads_reach_the_model(folder, capsys, monkeypatch, kind):
    loaded = []
    read = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path, **how: loaded.append(read(path, **how)) or loaded[-1])
    file = folder / ("ids.npz" if kind in LANGUAGE_MODELS else "rows.npz")
    answer(capsys, "eval", folder / kind, file, "--threads", "3")
    assert loaded[0].n_threads == 3


def test_the_radius_of_the_residual_base(tmp_path, capsys):
    (tmp_path / "text").write_text("the cat sat on the mat .\n" * 30)
    compact = ("--model", "saffu", "--bits", "3", "--hidden", "3", "--radius", "4", "--threads", "2")
    train = ("train", tmp_path / "text", "--out", tmp_path / "new", *compact)
    assert run(capsys, *train, "--residual", "--residual-radius", "2", "--windows", "20")[0] == 0
    model = saffu.load(tmp_path / "new")
    assert (model.radius, model.residual.radius, model.residual.windows) == (4, 2, (20,))
    assert (
        run(capsys, *train, "--residual-radius", "2")[2] == "saffu train: error: --residual-radius needs --residual\n"
    )
    explicit = ("train", tmp_path / "text", "--out", tmp_path / "new", "--residual-radius", "2")
    assert run(capsys, *explicit)[2] == "saffu train: error: --residual-radius is for --model saffu\n"

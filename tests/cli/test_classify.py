"""The command classify: files in, fastText's output out, and a line number for every line that cannot be read."""

import csv
import gzip
import io
import json
import lzma
import re

import numpy as np
import pytest

import saffu
from saffu.classifier.text_scores import TextScores
from saffu.cli import main as cli

SENTENCES = {
    "ham": ["see you at lunch", "the report is late", "lunch at noon then", "call me about the report"],
    "spam": ["free money now", "win money for free", "claim a free prize now", "a prize for you"],
}


def examples(n=40):
    return [(label, f"{text} {i}") for i in range(n) for label, texts in SENTENCES.items() for text in texts]


def as_fasttext(rows):
    return "".join(f"__label__{label} {text}\n" for label, text in rows)


def as_csv(rows, header=("label", "text"), delimiter=","):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([header, *rows] if header else rows)
    return file.getvalue()


def as_jsonl(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in rows)


def run(capsys, *arguments):
    code = cli.main([*map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    (folder / "train.txt").write_text(as_fasttext(examples()))
    assert cli.main(["classify", "train", str(folder / "train.txt"), "--out", str(folder / "model"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    return saffu.load(folder / "model").predict_proba(["free lunch", "the prize"])


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("rows.csv", as_csv(examples()), ()),
        ("rows.tsv", as_csv(examples(), delimiter="\t"), ()),
        ("bare.csv", as_csv(examples(), None), ("--label", "1", "--text", "2")),
        ("named.csv", as_csv(examples(), ("y", "x")), ("--label", "y", "--text", "x")),
        ("rows.jsonl", as_jsonl(examples()), ()),
        ("rows", as_jsonl(examples()), ("--format", "jsonl")),
        ("other.txt", as_fasttext(examples()).replace("__label__", "#"), ("--label-prefix", "#")),
        ("end.txt", "".join(f"{text} __label__{label}\n\n" for label, text in examples()), ()),
        ("windows.txt", as_fasttext(examples()).replace("\n", "\r\n"), ()),
    ],
)
def test_every_layout_gives_the_same_classifier(folder, capsys, expected, name, content, options):
    for ending, pack in (("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)):
        path = folder / f"{name}{ending}"
        path.write_bytes(pack(content.encode()))
        code, output, errors = run(capsys, "classify", "train", path, "--out", folder / "again", *options)
        assert (code, errors) == (0, "")
        assert "texts 320  labels 2" in output
        found = saffu.load(folder / "again")
        assert found.classes_.tolist() == ["ham", "spam"]
        np.testing.assert_allclose(found.predict_proba(["free lunch", "the prize"]), expected, atol=1e-6)


def test_several_files_and_batches_are_one(folder, capsys, expected, monkeypatch):
    monkeypatch.setattr("saffu.cli.labelled_texts.BATCH_CHARACTERS", 1000)
    rows = examples()
    for name, part in (("a.txt", rows[:100]), ("b.txt", rows[100:])):
        (folder / name).write_text(as_fasttext(part))
    assert run(capsys, "classify", "train", folder / "a.txt", folder / "b.txt", "--out", folder / "again")[0] == 0
    np.testing.assert_allclose(saffu.load(folder / "again").predict_proba(["free lunch", "the prize"]), expected)


def test_counts_are_kept_where_that_is_asked_for(folder, capsys):
    assert run(capsys, "classify", "train", folder / "train.txt", "--out", folder / "again", "--counts")[0] == 0
    assert saffu.load(folder / "again").counts.n_texts == 320
    with pytest.raises(ValueError, match="keeps no counts"):
        saffu.load(folder / "model").counts  # noqa: B018 (a property)


def test_texts_may_have_several_labels(folder, capsys):
    lines = ["__label__a __label__b x y", "__label__a x z", "__label__b y z", "__label__a __label__b x y w"] * 20
    (folder / "several.txt").write_text("\n".join(lines))
    assert run(capsys, "classify", "train", folder / "several.txt", "--out", folder / "several")[0] == 0
    code, output, _ = run(capsys, "classify", "test", folder / "several", folder / "several.txt", "--k", "2")
    assert code == 0
    assert "R@2\t1.000" in output
    (folder / "lines").write_text("x y\nx z\ny z\n")
    output = run(capsys, "classify", "predict", folder / "several", folder / "lines", "--k", "2", "--threshold", "0.5")[
        1
    ]
    assert [sorted(line.split()) for line in output.splitlines()] == [
        ["__label__a", "__label__b"],
        ["__label__a"],
        ["__label__b"],
    ]


# ---- what is printed -------------------------------------------------------------------------------------------------


def test_predictions_are_printed_as_fasttext_does(folder, capsys):
    (folder / "lines").write_text("free money\n\nlunch at noon\n__label__x the free prize\n")
    code, output, errors = run(capsys, "classify", "predict", folder / "model", folder / "lines")
    assert (code, output, errors) == (0, "__label__spam\n\n__label__ham\n__label__spam\n", "")
    output = run(capsys, "classify", "predict", folder / "model", folder / "lines", "--k", "2", "--prob")[1]
    p = saffu.load(folder / "model").predict_proba(["free money"])[0]
    assert output.splitlines()[0] == f"__label__spam {p[1]:.6g} __label__ham {p[0]:.6g}"
    output = run(
        capsys, "classify", "predict", folder / "model", folder / "lines", "--k", "2", "--threshold", "0.5", "--prob"
    )[1]
    assert [len(line.split()) for line in output.splitlines()] == [2, 0, 2, 2]


def test_standard_input_is_read(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"free money\nat noon")))
    assert run(capsys, "classify", "predict", folder / "model")[1] == "__label__spam\n__label__ham\n"


def test_measures_are_printed_as_fasttext_does(folder, capsys):
    test = [("ham", "lunch at noon"), ("spam", "free money"), ("spam", "see you at lunch"), ("eggs", "free prize")]
    (folder / "test.txt").write_text(as_fasttext(test))
    code, output, errors = run(capsys, "classify", "test", folder / "model", folder / "test.txt", "--per-label")
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "F1-Score : 0.666667  Precision : 0.500000  Recall : 1.000000   __label__ham"
    assert lines[1] == "F1-Score : 0.500000  Precision : 0.500000  Recall : 0.500000   __label__spam"
    assert lines[2:5] == ["N\t4", "P@1\t0.500", "R@1\t0.500"]
    log_p = saffu.load(folder / "model").predict_log_proba([text for _, text in test[:3]])
    assert lines[5] == f"NLL\t{-log_p[[0, 1, 2], [0, 1, 1]].mean():.4f}"
    found = json.loads(
        run(capsys, "classify", "test", folder / "model", folder / "test.txt", "--per-label", "--json")[1]
    )
    assert found["texts"] == 4
    assert found["labels"]["spam"]["n_texts"] == 2


def test_a_smaller_file(folder, capsys):
    size = (folder / "model").stat().st_size
    code, output, _ = run(
        capsys, "classify", "quantize", folder / "model", "--out", folder / "small", "--target-size", "3k"
    )
    assert code == 0
    assert (folder / "small").stat().st_size <= 3000 < size
    assert f"bytes {size:,} -> " in output
    test = run(capsys, "classify", "test", folder / "small", folder / "train.txt")[1]
    assert "P@1\t1.000" in test
    pruned = ("classify", "train", folder / "train.txt", "--out", folder / "new", "--prune", "3k")
    assert run(capsys, *pruned)[0] == 0
    assert (folder / "new").stat().st_size <= 3000


# ---- lines that cannot be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "__label__a x\nno label\n", "line 2: a line must have a label, which begins with __label__"),
        ("a.txt", "__label__a x\n\n__label__ y\n", "line 3: a label must have a name behind __label__"),
        ("a.csv", "text,label\nx,a\n,\n", "line 3: the label is empty"),
        ("a.csv", 'text,label\n"x\ny",a\nz\n', "line 4: a row must have 2 columns or more, got 1"),
        ("a.csv", 'text,label\n"x" y,a\n', "line 2: no row of a table: "),
        ("a.csv", "content,label\nx,a\n", "line 1: there is no column 'text', but 'content, label'; name it by --text"),
        ("a.csv", "text,class\nx,a\n", "line 1: there is no column 'label'"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": "x"\n', "line 2: no JSON: "),
        ("a.jsonl", '\n["x"]\n', "line 2: an object of JSON is needed, got list"),
        ("a.jsonl", '{"text": 5, "label": "a"}\n', "line 1: 'text' must be a string, got 5"),
        ("a.jsonl", '{"text": "x", "label": null}\n', "line 1: 'label' must be a string, an integer or a list of them"),
        ("a.jsonl", "[" * 100_000, "line 1: no JSON: "),
    ],
)
@pytest.mark.parametrize("command", ["train", "test"])
def test_a_line_that_cannot_be_read_is_named(folder, capsys, command, name, content, message):
    (folder / name).write_text(content)
    options = (
        (folder / name, "--out", folder / "new.model") if command == "train" else (folder / "model", folder / name)
    )
    code, output, errors = run(capsys, "classify", command, *options)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"saffu classify {command}: error: '{folder / name}', ")
    assert message in errors
    assert not (folder / "new.model").exists()


# ---- languages -------------------------------------------------------------------------------------------------------

LANGUAGES = {  # the first article of the Universal Declaration of Human Rights, and sentences of everyday use
    "de": "alle menschen sind frei und gleich an würde und rechten geboren . sie sind mit vernunft und gewissen begabt "
    "und sollen einander im geist der brüderlichkeit begegnen . ich habe heute keine zeit . wo ist der bahnhof ? "
    "das wetter ist schön und die kinder spielen draußen . wir gehen morgen in die stadt .",
    "en": "all human beings are born free and equal in dignity and rights . they are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood . i have no time today . where is "
    "the station ? the weather is nice and the children play outside . we will go to the city tomorrow .",
    "es": "todos los seres humanos nacen libres e iguales en dignidad y derechos y , dotados como están de razón y "
    "conciencia , deben comportarse fraternalmente los unos con los otros . hoy no tengo tiempo . dónde está la "
    "estación ? hace buen tiempo y los niños juegan fuera . mañana iremos a la ciudad .",
    "fr": "tous les êtres humains naissent libres et égaux en dignité et en droits . ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité . je n'ai pas le temps "
    "aujourd'hui . où est la gare ? il fait beau et les enfants jouent dehors . nous irons en ville demain .",
}


def test_languages_are_told_apart(folder, capsys):
    """An example of --tokenizer chars: the training text is cut into pieces of a few words."""
    rows = []
    for language, text in LANGUAGES.items():
        words = text.split()
        rows += [(language, " ".join(words[i : i + n])) for n in (3, 5) for i in range(len(words) - n + 1)]
    (folder / "languages.txt").write_text(as_fasttext(rows), encoding="utf-8")
    options = ("--tokenizer", "chars", "--ngrams", "4", "--out", folder / "languages")
    assert run(capsys, "classify", "train", folder / "languages.txt", *options)[0] == 0
    lines = {"der zug kommt gleich": "de", "she was born in london": "en", "los libros están en la mesa": "es",
             "nous avons les mêmes droits": "fr", "kannst du mir helfen": "de", "what are you doing there": "en",
             "muchas gracias señor": "es", "il est dans la maison": "fr"}  # fmt: skip
    (folder / "lines").write_text("\n".join(lines), encoding="utf-8")
    output = run(capsys, "classify", "predict", folder / "languages", folder / "lines")[1]
    right = [line == f"__label__{label}" for line, label in zip(output.splitlines(), lines.values(), strict=True)]
    assert sum(right) >= 7


# ---- measures --------------------------------------------------------------------------------------------------------


def test_measures_equal_their_definitions():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 200)
    y = rng.integers(0, 4, 200)
    labels = np.eye(4, dtype=bool)[y]
    scores = TextScores(4, 2, 0.3)
    for part in (slice(0, 70), slice(70, 200)):
        scores.add(np.log(p[part]), labels[part], several=False)
    chosen = [[j for j in np.argsort(-row)[:2] if row[j] >= 0.3] for row in p]
    right = sum(int(label in each) for label, each in zip(y, chosen, strict=True))
    found = scores.summary()
    assert found["precision"] == pytest.approx(right / sum(map(len, chosen)))
    assert found["recall"] == pytest.approx(right / 200)
    assert found["nll"] == pytest.approx(-np.log(p[np.arange(200), y]).mean())
    bins = (p.max(axis=1) * 15).astype(int)
    error = sum(
        (bins == b).mean() * abs(p.max(axis=1)[bins == b].mean() - (p.argmax(axis=1) == y)[bins == b].mean())
        for b in set(bins.tolist())
    )
    assert found["calibration_error"] == pytest.approx(error)
    for j, each in enumerate(scores.per_label()):
        predicted = [j in picked for picked in chosen]
        assert each.recall == pytest.approx(np.mean(np.array(predicted)[y == j]))
        assert each.n_texts == (y == j).sum()


def test_the_loss_of_several_labels_is_that_of_each():
    p = np.array([[0.9, 0.2], [0.5, 0.6]])
    labels = np.array([[True, False], [False, True]])
    scores = TextScores(2, 1, 0.0)
    scores.add(np.log(p), labels, several=True)
    expected = -np.log([0.9 * 0.8, 0.5 * 0.6]).mean()
    assert scores.summary()["nll"] == pytest.approx(expected)


def test_help_of_each_part(capsys):
    for part in ("train", "test", "predict", "quantize"):
        with pytest.raises(SystemExit):
            cli.main(["classify", part, "--help"])
        assert re.search(rf"examples:\n  .*saffu classify {part} ", capsys.readouterr().out)

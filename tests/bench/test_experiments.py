"""The experiments run, on made-up data, and their tables say what was measured."""

import csv
import importlib
import itertools
import re
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from bench.data import datasets
from bench.data.datasets import Split, made_up
from bench.experiments import drift, network_warm_start
from bench.measure import clock
from bench.measure.scores import Point
from bench.report import command, tables
from bench.trials.tuning import tuned


@pytest.fixture(scope="module")
def split():
    return made_up()


# ---- commands --------------------------------------------------------------------------------------------------------

CONTENDERS = {
    "near_optimality": ("start", {"mean-norm", "primed", "primed, refined", "random, refined"}),
    "drift": ("measure", {"layer, weights", "layer, function", "network, hidden weights", "network, function"}),
    "network_warm_start": ("contender", {"warm", "mean-norm", "cold", "cold, equal time"}),
    "less_data": ("contender", {"explicit", "refined", "cold"}),
    "accuracy_over_time": (
        "contender",
        {"explicit, 30 hidden", "explicit, 100 hidden", "explicit", "explicit, refined"},
    ),
}


@pytest.mark.parametrize("name", CONTENDERS)
def test_quick_run_writes_table_and_figure(name, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    if name == "accuracy_over_time":  # its peers have a test of their own
        monkeypatch.setattr("bench.experiments.accuracy_over_time.installed", lambda library: False)
    importlib.import_module(f"bench.experiments.{name}").main(["--quick", "--out", str(tmp_path)])
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    column, expected = CONTENDERS[name]
    assert {record[column] for record in records} == expected
    numbers = [float(record[key]) for record in records for key in record if key in ("nll", "test_nll", "cosine")]
    assert numbers
    assert np.isfinite(numbers).all()
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.startswith(capsys.readouterr().out[: len(table) - 1])
    assert "Seeds: " in table
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", CONTENDERS)
def test_what_a_command_needs_is_missed_before_the_work(name, tmp_path, capsys, monkeypatch):
    command = importlib.import_module(f"bench.experiments.{name}")
    monkeypatch.setattr(command, "run", lambda given: pytest.fail("there was work"))
    for module, options in (("matplotlib", ["--quick"]), ("sklearn", ["--print"])):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(SystemExit) as ended:
                command.main([*options, "--out", str(tmp_path / "new")])
        output, errors = capsys.readouterr()
        assert (ended.value.code, output, errors.count("\n")) == (2, "", 1)
        # Others may be missing besides, where the test extra alone is installed.
        assert re.search(rf"error: this needs (\w+ and )?{module}( and \w+)?; pip install 'saffu\[bench\]'", errors)
    assert list(tmp_path.iterdir()) == []


def test_what_a_command_cannot_write_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("old")
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SAFFU_DATA", str(tmp_path / "data"))
    for out, message in (("file", "is not a folder"), ("file/new", "is not a folder"), ("data/new", "is an input")):
        with pytest.raises(SystemExit) as ended:
            command.options("drift", None, ["--quick", "--out", str(tmp_path / out)], needs=[])
        output, errors = capsys.readouterr()
        assert (ended.value.code, output, errors.count("\n")) == (2, "", 1)
        assert message in errors
    monkeypatch.setattr("bench.report.tables.RESULTS", tmp_path / "file")
    with pytest.raises(SystemExit):
        command.options("drift", None, ["--out", str(tmp_path / "new")], needs=[])
    assert "has no lines <!-- drift:begin -->" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file"]
    (tmp_path / "file").write_text("before <!-- drift:begin -->\nold\n<!-- drift:end --> after")
    tables.publish("drift", "new", False)
    assert (tmp_path / "file").read_text() == "before <!-- drift:begin -->\nnew\n<!-- drift:end --> after"


def test_growth_writes_its_tables(tmp_path, capsys):
    pytest.importorskip("torch")
    importlib.import_module("bench.experiments.growth").main(["--quick", "--out", str(tmp_path)])
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    assert {record["part"] for record in records} == {"exact", "solved", "progressive", "family"}
    assert all(float(record["difference"]) < 2e-5 for record in records if record["part"] == "exact")
    for record in records:
        if record["part"] == "solved":
            assert float(record["criterion after"]) <= float(record["criterion before"])
            assert float(record["perplexity after"]) > 1
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in capsys.readouterr().out


def test_growth_of_decoders_is_within_its_limits(tmp_path, capsys):
    for library in ("torch", "transformers"):
        pytest.importorskip(library)
    importlib.import_module("bench.experiments.exact_growth").main(["--quick", "--out", str(tmp_path)])
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == [
        *("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"),
        "saffu.Transformer",
    ]
    assert all(float(row[3]) <= 1e-10 and float(row[4]) <= 1e-5 and row[5] == "0" for row in rows[2:])
    assert "All are within 1e-10 in float64 and 1e-05 in float32." in table


def test_a_decoder_grows_without_a_jump(tmp_path, capsys):
    for library in ("matplotlib", "torch", "transformers"):
        pytest.importorskip(library)
    importlib.import_module("bench.experiments.growing_decoder").main(["--quick", "--out", str(tmp_path)])
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| grown")]
    assert [row[0] for row in rows] == ["grown, 60%", "grown, equal time"] + ["grown, 60%"] * 2 + [
        "grown, equal time"
    ] * 2
    assert all(abs(float(row[-1])) < 1e-5 for row in rows[2:])
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_curves_with_every_peer(tmp_path, capsys):
    for library in ("matplotlib", "torch", "sklearn"):
        pytest.importorskip(library)
    importlib.import_module("bench.experiments.accuracy_over_time").main(["--quick", "--out", str(tmp_path)])
    table = capsys.readouterr().out
    for name in ("same network, torch, cold", "ReLU network, torch, cold", "MLPClassifier", "LogisticRegression"):
        assert f"| {name} |" in table


@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_classifiers_of_texts_beside_their_peers(capsys, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr("bench.peers.text_classifiers.installed", lambda library: False)
    importlib.import_module("bench.experiments.text_classifier_quality").main(["--quick"])
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| made up")]
    assert {cells[1] for cells in table} >= {"saffu", "ComplementNB, tf-idf", "NB-SVM", "LogisticRegression, tf-idf"}
    assert all(float(cells[2]) > 0.85 for cells in table)
    assert all(cells[3] == "-" or float(cells[3]) < 0.6 for cells in table)


@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_classifiers_of_images_beside_their_peers(capsys, monkeypatch):
    for library in ("torch", "sklearn"):
        pytest.importorskip(library)
    monkeypatch.setattr("bench.peers.torch_images.KMEANS_PATCHES", 500)
    importlib.import_module("bench.experiments.image_classifier_quality").main(["--quick"])
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| made up")]
    assert [cells[1] for cells in table][::5] == ["ExplicitConvNet", "torch convolutional network"]
    solved = [cells for cells in table if not cells[1].startswith("torch")]  # which trains by the clock
    assert all(float(cells[2]) > 0.8 for cells in solved)  # chance is 0.25


@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_encoders_of_patches_beside_torch(capsys, monkeypatch):
    pytest.importorskip("torch")
    experiment = importlib.import_module("bench.experiments.patch_encoder_speed")
    peak_of, unfold = experiment.peak_of, "torch: unfold, 10 at once"
    # The others' processes would do the same.
    monkeypatch.setattr(experiment, "peak_of", lambda *what: peak_of(*what) if what[1] == unfold else 0.0)
    experiment.main(["--quick"])
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| 28 x 28")]
    assert [cells[1].split(",")[0] for cells in table] == [
        "saffu",
        *["torch: unfold"] * 2,
        "torch: convolution of pixels",
    ]
    assert all(float(cells[2].replace(",", "")) > 0 for cells in table)
    assert table[-1][5].startswith("another function")


# ---- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_subset_is_a_stratified_share(split, share):
    part = datasets.subset(split, share, seed=1)
    sizes = np.bincount(split.y_train)
    np.testing.assert_array_equal(np.bincount(part.y_train), np.maximum(np.rint(share * sizes), 1))
    assert part.test is split.test
    rows = {row.tobytes() for row in split.train}
    assert all(row.tobytes() in rows for row in part.train)


def test_subsets_differ_by_seed_alone(split):
    first, again, other = (datasets.subset(split, 0.3, seed).train for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_cuts_the_training_rows_in_two(split):
    part = datasets.held_out(split, 0.25)
    together = np.vstack([part.train, part.test])
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(split.train, axis=0))
    assert together.shape == split.train.shape
    assert part.y_test.size == pytest.approx(0.25 * split.y_train.size, abs=2)


def test_frequent_words_keeps_what_is_in_most_rows():
    train = csr_array(np.array([[1, 0, 2, 0], [3, 0, 1, 0], [0, 5, 1, 0], [1, 0, 0, 0]], float))
    test = csr_array(np.array([[0, 7, 0, 1], [1, 0, 3, 0]], float))
    labels = np.array([0, 1, 0, 1])
    part = datasets.frequent_words(Split(train, labels, test, labels[:2]), min_rows=2, limit=3)
    np.testing.assert_allclose(part.test.toarray(), np.log1p([[0, 0], [1, 3]]), rtol=1e-6)
    assert part.train.dtype == np.float32
    assert part.train.shape == (4, 2)


# ---- tuning and tables -----------------------------------------------------------------------------------------------


def test_tuned_takes_the_best_of_those_that_screening_kept():
    nll = {"late": {1: 3.0, 5: 0.1}, "good": {1: 1.0, 5: 0.5}, "early": {1: 0.9, 5: 0.8}, "broken": {1: np.nan}}
    asked = []

    def run(setting, epochs):
        asked.append((setting, epochs))
        return [Point(0, 0.0, 9.0, 0.0), Point(epochs, 0.0, nll[setting][epochs], 0.0)]

    trial = tuned(list(nll), run, screening=1, epochs=5, keep=2)
    assert trial == ("good", 0.5, 5)
    assert [setting for setting, epochs in asked if epochs == 5] == ["early", "good"]


def test_a_start_that_beats_all_does_not_decide_between_settings():
    trial = tuned([1, 2], lambda setting, epochs: [Point(0, 0.0, 0.1, 0.0), Point(1, 0.0, 1 / setting, 0.0)], 1, 1)
    assert trial == (2, 0.5, 0)


def test_stopwatch_stands_still_while_paused(monkeypatch):
    now = iter([10.0, 13.0, 18.0, 19.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    watch = clock.Stopwatch(1.0)
    with watch.paused() as seconds:
        assert seconds == 4.0
    assert watch.seconds == 5.0


def test_time_to_equal_loss():
    def run(contender, *points):
        return network_warm_start.Run("d", 30, contender, 0, [Point(n, *point, 0.5) for n, point in enumerate(points)])

    warm = run("warm", (1.0, 0.9), (2.0, 0.4))
    cold = run("cold, equal time", (0.0, 2.0), (3.0, 0.95), (6.0, 0.9))
    lines = network_warm_start.time_table([warm, cold]).splitlines()
    assert lines[-1] == "| d | 30 | 1.0 | 6.0 | 1.0 | 6x | 0 of 1 |"


def test_target_and_budget_tables():
    curves = importlib.import_module("bench.experiments.accuracy_over_time")
    slow = curves.Run("slow", 10, "", [Point(1, 5.0, 0.2, 0.961), Point(2, 20.0, 0.1, 0.981)])
    quick = curves.Run("quick", 20, "", [Point(1, 0.5, 0.3, 0.955)])
    target = curves.target_table([slow, quick]).splitlines()
    assert target[2] == "| slow | 10 |  | 5.0 | 5.0 | 20.0 | 20.0 | 20.0 | 20.0 | 0.9810 | 0.1000 |"
    assert target[3].count("not reached") == 5
    budget = curves.budget_table([slow, quick]).splitlines()
    assert budget[2].startswith("| slow | - | - | **0.9610** / **0.2000** | **0.9810** / **0.1000** |")
    assert budget[3].startswith("| quick | **0.9550** / **0.3000** | **0.9550** / **0.3000** | 0.9550 / 0.3000 |")


# ---- cosines ---------------------------------------------------------------------------------------------------------


def test_matched_cosine_ignores_the_order_of_the_units():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 6))
    assert drift.matched_cosine(a, 3 * a[:, rng.permutation(6)]) == pytest.approx(1)
    assert drift.matched_cosine(a, -a) < 0.6


def test_contributions_ignore_shifts_and_absent_features():
    rng = np.random.default_rng(1)
    X, W = rng.random((20, 5)), rng.normal(size=(5, 3))
    X[:, 2] = 0
    for features in (X, csr_array(X)):
        labels = np.zeros(20, int)
        found = drift.contributions(W + rng.normal(size=(5, 1)), Split(features, labels, features, labels))
        centred = W - W.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found, np.sqrt((X**2).mean(axis=0))[:, None] * centred, atol=1e-12)
        assert not found[2].any()


# ---- torch -----------------------------------------------------------------------------------------------------------


def test_torch_multiplies_sparse_rows_as_dense_ones():
    torch = pytest.importorskip("torch")
    from bench.peers.torch_networks import Rows

    sparse = made_up(sparse=True).train
    rows, W = np.array([5, 0, 77]), torch.randn(20, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    gradients = []
    for features in (sparse, sparse.toarray()):
        product = Rows(features).product(rows, W)
        np.testing.assert_allclose(product.detach().numpy(), sparse[rows] @ W.detach().numpy(), rtol=1e-5, atol=1e-6)
        gradients.append(torch.autograd.grad((product**2).sum(), W)[0].numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_torch_networks_learn(kind, sparse):
    pytest.importorskip("torch")
    from bench.peers import torch_networks

    split = made_up(sparse=sparse)

    def build():
        if kind == "softmax":
            return torch_networks.SoftmaxNetwork(20, 16, 4, "glorot")
        return torch_networks.ReluNetwork(20, 16, 4)

    points = torch_networks.train(build, split, 3e-2, epochs=12, batch_size=16)
    assert [point.epoch for point in points] == list(range(1, 13))
    assert points[-1].accuracy > 0.9
    assert points[-1].nll < points[0].nll
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(points))


def test_pruned_models_are_smaller_and_criteria_are_compared(capsys):
    importlib.import_module("bench.experiments.pruning").main(["--quick"])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    (header, _, exact, pruned), criteria = lines[:4], lines[4:]
    assert [exact[header.index("corpus")], pruned[header.index("loss asked for")]] == ["made up", "2.0%"]
    column = header.index("entries")
    assert int(pruned[column].replace(",", "")) < int(exact[column].replace(",", ""))
    assert float(pruned[header.index("measured")].rstrip("%")) <= 2.0
    assert [row[0] for row in criteria[2:]] == ["saffu", "Stolcke, each table", *["count cut-off"] * 3]


def test_a_mixture_stands_beside_its_experts(capsys, monkeypatch):
    class Neural(saffu.Transformer):
        def __init__(self, *, budget, n_threads=None):
            super().__init__(40, hidden=8, layers=1, positions=16)

        def fit(self, ids, *, documents=None, vocab_size=None, validation=None, progress=None):
            return super().fit(ids, documents=documents, progress=progress)

    monkeypatch.setattr("saffu.mixture_lm.budgeted_training.recurrent_expert", Neural)
    importlib.import_module("bench.experiments.mixtures").main(["--quick", "--budget", "9s"])
    header, _, row = (
        line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")
    )
    found = dict(zip(header, row, strict=True))
    assert found["corpus"] == "made up"
    mixed = float(found["**MixtureLM**"].strip("*"))
    assert mixed < 1.02 * float(found["ExplicitLM"])
    assert mixed < float(found["RecurrentLM"])
    assert 0 <= float(found["weight of ExplicitLM"]) <= 1


def test_corpora_of_mixtures_are_named():
    with pytest.raises(SystemExit):
        importlib.import_module("bench.experiments.mixtures").main(["--corpora", "brown,nothing"])

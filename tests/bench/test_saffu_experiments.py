"""The experiments with units of self-attention run, on made-up text, and their tables say what was measured."""

import csv
import functools
import importlib
import itertools
import math

import numpy as np
import pytest

from bench.data import corpora
from bench.data.texts import made_up
from bench.experiments import architecture_roadmap, attention_lm_residual, attention_lm_warm_start
from bench.experiments.attention_lm_residual import Row
from bench.experiments.attention_lm_warm_start import COLD, COLD_AS_LONG, WARM, Run
from bench.trials.attention_lm import Moment, best, solve, trained
from saffu import ExplicitLM
from saffu.search.architectures import Architecture
from saffu.text import LINE_END_ID

ARCHITECTURE = {"bits": 6, "hidden": 5, "radius": 4, "block": 3}
PEERS = {"Kneser-Ney", "ExplicitLM", "residual SaffuLM, solved", "residual SaffuLM, refined"}


@pytest.fixture(scope="module")
def text():
    return made_up(800)


# ---- commands --------------------------------------------------------------------------------------------------------


def quick(name, folder):
    importlib.import_module(f"bench.experiments.{name}").main(["--quick", "--out", str(folder)])
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "Seeds: " in table
    return records, table


def test_warm_and_cold(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    records, table = quick("attention_lm_warm_start", tmp_path)
    assert table in capsys.readouterr().out
    assert {record["contender"] for record in records} == {WARM, COLD, COLD_AS_LONG}
    assert {record["budget"] for record in records} == {"1", "2"}
    assert np.isfinite([float(record["test_nll"]) for record in records]).all()
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    for budget in "12":
        seconds = {
            name: max(float(r["seconds"]) for r in records if (r["contender"], r["budget"]) == (name, budget))
            for name in (WARM, COLD_AS_LONG)
        }
        assert seconds[COLD_AS_LONG] > 0.3 * seconds[WARM]


def test_attention_contexts_and_embeddings(tmp_path):
    records, table = quick("attention_lm_ablation", tmp_path)
    assert {record["part"] for record in records} == {"attention", "contexts", "embeddings"}
    assert {"uniform, and stays so", "learned from random weights", "block + radial + document"} <= {
        record["name"] for record in records
    }
    solved = {record["name"]: float(record["perplexity"]) for record in records if record["epoch"] == "0"}
    gain = 1 - solved["explicit, and stays so"] / solved["uniform, and stays so"]
    assert gain > 0.1
    assert f"by {gain:.1%}" in table


@pytest.mark.parametrize("with_torch", [False, True])
def test_residual(with_torch, tmp_path, monkeypatch):
    if with_torch:
        pytest.importorskip("torch")
        monkeypatch.setattr("bench.peers.torch_training.EVALUATIONS", 1)
        monkeypatch.setattr("bench.peers.torch_training.available_cpus", lambda: 1)  # others may need the rest
    else:
        monkeypatch.setattr("bench.experiments.attention_lm_residual.installed", lambda library: False)
    records, table = quick("attention_lm_residual", tmp_path)
    expected = PEERS | ({f"{kind}, {n} x the time" for kind in ("transformer", "LSTM") for n in (0.1, 0.2)})
    assert {record["name"] for record in records} == (expected if with_torch else PEERS)
    sizes = [int(r["n_parameters"]) for r in records if "count" not in r["name"] and r["name"][0] in "rtL"]
    assert max(sizes) / min(sizes) < 1.04
    assert all(f"| {record['name']} |" in table for record in records)


def test_throughput(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    for module in ("bench.experiments.attention_lm_throughput", "bench.trials.refiner_steps"):
        monkeypatch.setattr(f"{module}.available_cpus", lambda: 1)
    records, table = quick("attention_lm_throughput", tmp_path)
    assert {record["network"] for record in records} == {"compact", "compact, every context", "residual"}
    assert all(float(record["difference"]) < 1e-4 for record in records)
    assert all(float(record["saffu"]) > 0 and float(record["torch"]) > 0 for record in records)
    assert table.count("| frozen |") == table.count("| thawed |") == 3


def test_roadmap_gives_the_best_of_each_size(tmp_path):
    pytest.importorskip("matplotlib")
    records, table = quick("architecture_roadmap", tmp_path)
    assert len(records) == 4
    perplexity = {(r["bits"], r["residual"]): float(r["perplexity"]) for r in records}
    for residual in "01":
        best = min(value for (_, kind), value in perplexity.items() if kind == residual)
        bits = next(bits for (bits, kind), value in perplexity.items() if kind == residual and value == best)
        assert table.count(f" {bits} bits, radial 2, 1 head, 1 layer, 4 hidden | {best:.1f} |") >= 2
    refined = [float(r["refined_perplexity"]) for r in records if r["refined_perplexity"]]
    assert len(refined) == 1
    assert f"| {refined[0]:.1f} |\n" in table


def test_roadmap_table_keeps_to_the_sizes():
    model, of = architecture_roadmap.Model, functools.partial(Architecture, radius=4)
    found = [
        model(of(bits=16), 900_000, 120.04, None),
        model(of(bits=32), 900_000, 110.0, None),
        model(of(bits=64), 2_000_000, 100.0, None),
        model(of(bits=128), 17_260_000, 99.0, None),
        model(of(bits=16, residual=True), 950_000, 50.0, 48.0),
        model(of(bits=64, residual=True), 2_900_000, 45.0, 44.0),
        model(of(bits=128, residual=True), 9_000_000, 46.0, 41.26),
    ]
    lines = architecture_roadmap.table(found).splitlines()[2:]
    rest = "radial 4 + document, 1 head, 1 layer, 64 hidden"
    assert lines == [
        f"| to 1 million | 32 bits, {rest} | 110.0 | 16 bits, {rest} | 50.0 | 48.0 |",
        f"| to 3 million | 64 bits, {rest} | 100.0 | 64 bits, {rest} | 45.0 | 44.0 |",
        f"| any | 128 bits, {rest} (17.3 million) | 99.0 | 64 bits, {rest} (2.9 million) | 45.0 | 41.3 |",
    ]


def test_a_text_without_a_place_for_its_table_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(attention_lm_residual, "run", lambda given: pytest.fail("there was work"))
    with pytest.raises(SystemExit):
        attention_lm_residual.main(["--tokens", "77", "--out", str(tmp_path)])
    assert "has no lines <!-- attention-lm-residual-77:begin -->" in capsys.readouterr().err


# ---- texts -----------------------------------------------------------------------------------------------------------


def test_sample_holds_whole_lines_in_their_documents(text):
    part = corpora.sample(text.train, 200, runs=4)
    assert 200 <= part.ids.size <= 280
    assert part.starts[0] == 0
    assert (part.ids[np.append(part.starts[1:], part.ids.size) - 1] != -1).all()
    lines = np.split(part.ids, np.flatnonzero(part.ids == LINE_END_ID)[:-1] + 1)
    whole = {line.tobytes() for line in np.split(text.train.ids, np.flatnonzero(text.train.ids == LINE_END_ID) + 1)}
    assert all(line.tobytes() in whole for line in lines)
    assert corpora.sample(text.train, 10**6) is text.train


def test_joined_texts_keep_their_documents(text):
    both = corpora.joined([text.train, text.valid])
    np.testing.assert_array_equal(both.ids, np.concatenate([text.train.ids, text.valid.ids]))
    np.testing.assert_array_equal(both.starts, [*text.train.starts, *(text.valid.starts + text.train.ids.size)])


def test_unigram_of_a_text(text):
    counts = np.bincount(text.train.ids, minlength=text.n_types) + 1
    expected = -np.log(counts[text.test.ids] / counts.sum()).mean()
    assert math.log(text.unigram) == pytest.approx(expected)


# ---- training and tables ---------------------------------------------------------------------------------------------


def test_epochs_are_numbered_on_when_embeddings_are_thawed(text):
    model, seconds = solve(text, **ARCHITECTURE, contexts=("radial",))
    moments = trained(model, text, 3, seconds, thaw_after=1, learning_rate=1e-3)
    assert [moment.epoch for moment in moments] == [0, 1, 2, 3]
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(moments))
    assert moments[0].seconds == seconds
    assert moments[0].perplexity == pytest.approx(model.perplexity(text.test.ids, documents=text.test.starts))


def run_of(contender, *moments, seed=0):
    return Run("t", 9, 3, 40.0, contender, ("glorot", 0.01), 2, seed, [Moment(i, *m) for i, m in enumerate(moments)])


def test_best_epoch_is_chosen_by_validation_text():
    run = run_of(WARM, (1.0, 2.0, math.log(30)), (2.0, 1.5, math.log(20)), (3.0, 1.6, math.log(10)))
    assert run.perplexity == pytest.approx(20)
    assert run.seconds == 3.0
    assert best([Moment(0, 0.0, math.nan, 0.0), Moment(1, 0.0, 3.0, 0.0)]).epoch == 1


@pytest.mark.parametrize(
    ("cold", "verdict"),
    [(22.0, "| yes |"), (20.5, "| on average against cold |"), (14.0, "| **not against cold** |")],
)
def test_the_table_says_where_warm_does_not_win(cold, verdict):
    start = (1.0, 2.0, math.log(30))
    results = [run_of(WARM, start, (2.0, 1.0, math.log(x)), seed=seed) for seed, x in enumerate((19.0, 21.0))]
    for seed, perplexity in enumerate((25.0, cold)):
        results.append(run_of(COLD, start, (2.0, 1.0, math.log(perplexity)), seed=seed))
        results.append(run_of(COLD_AS_LONG, start, (2.0, 1.0, math.log(24)), seed=seed))
    line = attention_lm_warm_start.table(results).splitlines()[-1]
    assert line.startswith("| t | 9 | 3 | 40.0 | 30.0 ± 0.0 | 2 | 20.0 ± 1.4 |")
    assert line.endswith(verdict)
    found = attention_lm_warm_start.summary(results)
    assert ("better everywhere" in found) == ("not" not in verdict)
    assert ("cold start everywhere" in found) == (verdict == "| yes |")


def test_residual_summary_names_what_it_does_not_beat():
    rows = [
        Row("Kneser-Ney", 1, 1.0, 200.0, 190.0),
        Row(attention_lm_residual.EXPLICIT, 1, 1.0, 150.0, 140.0),
        Row(attention_lm_residual.REFINED, 1, 60.0, 130.0, 126.0),
        Row("LSTM, 3 x the time", 1, 180.0, 120.0, 125.0),
    ]
    text = attention_lm_residual.summary(rows)
    assert "10.0% below the ExplicitLM" in text
    assert text.endswith("It is not below: LSTM, 3 x the time.")
    assert "| LSTM, 3 x the time | 1 | 180.0 | 120.0 | **125.0** | -10.7% |" in attention_lm_residual.table(rows)
    assert "below every other line" in attention_lm_residual.summary(rows[:3])


# ---- the network in torch --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks(text):
    """A network of every kind of unit by itself, and one on an explicit model."""
    explicit = ExplicitLM(radius=2, order=3, windows=(20,), induction=0)
    settings = ARCHITECTURE | {"contexts": ("block", "radial", "document"), "heads": 2, "span": 64}
    return {on: solve(text, **settings, words=10, residual=explicit if on else None)[0] for on in (True, False)}


@pytest.mark.parametrize("blockwise", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_torch_network_has_the_same_loss_gradients_and_steps(residual, frozen, blockwise, text, networks):
    pytest.importorskip("torch")
    from bench.peers.torch_attention_lm import TorchSaffu, train
    from bench.trials.refiner_steps import Refiner

    ours = Refiner(networks[residual], text, frozen, batch_tokens=96)
    theirs = TorchSaffu(networks[residual], ours.text, frozen, ours.RATE, blockwise)
    batches = ours.batches(4)
    loss = theirs.loss(batches[0])
    before = ours.loss(batches[0])
    assert float(loss.detach()) == pytest.approx(before, rel=1e-5)
    loss.backward()
    assert set(theirs.parameters) == set(ours.run.gradients)
    for name, parameter in theirs.parameters.items():
        np.testing.assert_allclose(ours.run.gradients[name], parameter.grad.numpy(), rtol=2e-3, atol=2e-6)
    ours.train(batches)
    losses = train(theirs, batches, ours.rates(4))
    assert losses[0] == pytest.approx(before, rel=1e-5)
    after = ours.loss(batches[0])
    assert float(theirs.loss(batches[0]).detach()) == pytest.approx(after, rel=1e-5)
    assert after < before - 1e-3

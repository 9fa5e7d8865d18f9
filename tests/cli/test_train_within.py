"""``saffu train --model mixture``: within a budget of time, and through interrupts."""

import json
import os
import time

import numpy as np
import pytest

import saffu
from saffu.cli import main as cli
from saffu.mixture_lm import budgeted_training

TEXT = "the cat sat on the mat .\nthe dog sat on the cat .\n\na bird sees the old house .\n" * 60


class Neural(saffu.Transformer):
    """A neural expert that is trained in a moment."""

    def __init__(self, *, budget, n_threads=None):
        super().__init__(20, hidden=8, layers=1, positions=16, n_threads=n_threads)
        self.budget = budget

    def fit(self, ids, *, documents=None, vocab_size=None, validation=None, progress=None):
        fresh = saffu.Transformer(vocab_size, hidden=8, layers=1, positions=16)
        self.arrays = fresh.refine(ids, documents=documents, batch_tokens=128, progress=progress).arrays
        return self


class Interrupted(Neural):
    def fit(self, ids, **settings):
        raise KeyboardInterrupt


class Stopped(Neural):
    def fit(self, ids, **settings):
        super().fit(ids, **settings)
        self.interrupted = True
        return self


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(TEXT)
    monkeypatch.setattr(budgeted_training, "recurrent_expert", Neural)
    return tmp_path


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


MIXTURE = ("train", "text", "--out", "out", "--model", "mixture", "--order", "3", "--windows", "20")


def test_a_mixture_is_trained_and_known_by_every_command(folder, capsys):
    code, output, errors = run(capsys, *MIXTURE, "--budget", "5m", "--threads", "1")
    assert (code, errors) == (0, "")
    first, second = output.splitlines()
    model = saffu.load(folder / "out")
    assert type(model) is saffu.MixtureLM
    assert first.startswith(f"out: {model.experts[0].n_tokens:,} tokens, {len(model.vocabulary):,} types")
    assert second.startswith("held-out perplexity: counts ")
    assert f"weights: counts {model.weights[0]:.3f}, neural expert {model.weights[1]:.3f}" in second
    assert model.experts[0].windows == (20,)
    facts = json.loads(run(capsys, "info", "out", "--json")[1])
    assert facts["kind"] == "MixtureLM"
    assert facts["model"]["expert_1"]["kind"] == "ExplicitLM"
    assert facts["model"]["expert_2"]["kind"] == "Transformer"
    assert facts["model"]["weights"] == model.weights.tolist()
    assert "expert 2" in run(capsys, "info", "out")[1]
    figures = json.loads(run(capsys, "eval", "out", "text", "--json")[1])
    assert 1 < figures["perplexity"] < 5
    code, output, _ = run(capsys, "generate", "out", "--prompt", "the cat", "--tokens", "4", "--temperature", "0")
    assert output.startswith("the cat sat on the")
    assert run(capsys, "surprisal", "out", "text")[0] == 0


def test_a_neural_model_alone(folder, capsys):
    code, output, errors = run(capsys, "train", "text", "--out", "out", "--model", "recurrent", "--budget", "9s")
    assert (code, errors, output.count("\n")) == (0, "", 1)
    assert type(saffu.load(folder / "out")) is saffu.Transformer


def test_the_budget_is_what_is_left_since_the_command_began(folder, capsys, monkeypatch):
    given = []

    class Watched(Neural):
        def __init__(self, **settings):
            given.append(settings)
            super().__init__(**settings)

    monkeypatch.setattr(budgeted_training, "recurrent_expert", Watched)
    began = time.monotonic()
    assert run(capsys, *MIXTURE, "--budget", "1m", "--threads", "1")[0] == 0
    spent = time.monotonic() - began
    assert given[0]["n_threads"] == 1
    assert 57.2 - spent < given[0]["budget"] < 57.2
    assert run(capsys, *MIXTURE, "--threads", "1")[0] == 0
    assert 850 < given[1]["budget"] < 900


@pytest.mark.parametrize(("neural", "n_experts"), [(Interrupted, 1), (Stopped, 2)])
def test_an_interrupt_keeps_what_has_been_learned(folder, capsys, monkeypatch, neural, n_experts):
    monkeypatch.setattr(budgeted_training, "recurrent_expert", neural)
    (folder / "out").write_bytes(b"the old one")
    code, output, errors = run(capsys, *MIXTURE, "--budget", "5m")
    assert (code, output) == (130, "")
    assert errors == "saffu train: interrupted; 'out' was not written; the best so far is in 'out.interrupted'\n"
    assert (folder / "out").read_bytes() == b"the old one"
    assert sorted(os.listdir(folder)) == ["out", "out.interrupted", "text"]
    model = saffu.load(folder / "out.interrupted")
    assert len(model.experts) == n_experts
    assert model.interrupted
    assert np.isfinite(model.log_prob([2, 3, 4])).all()
    assert len(model.vocabulary) == model.vocab_size


def test_an_interrupt_while_counting_writes_nothing(folder, capsys, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(saffu.ExplicitLM, "fit", interrupt)
    code, output, errors = run(capsys, *MIXTURE)
    assert (code, output, errors) == (130, "", "saffu train: interrupted\n")
    assert os.listdir(folder) == ["text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "explicit", "--budget", "5m"), "--budget is for --model mixture and recurrent"),
        (("--model", "saffu", "--budget", "5m"), "--budget is for --model mixture and recurrent"),
        (("--model", "mixture", "--refine", "3"), "--refine is for --model saffu"),
        (("--model", "mixture", "--bits", "3"), "--bits is for --model saffu"),
        (("--model", "mixture", "--residual"), "--residual is for --model saffu"),
        (("--model", "mixture", "--prune", "0.1"), "--prune is for --model explicit"),
        (("--model", "mixture", "--memory", "1G"), "--memory is for --model explicit"),
        (("--model", "recurrent", "--order", "3"), "--order is for --model explicit"),
        (("--model", "mixture", "--order", "99"), "order must be at most 32, got 99"),
        (("--model", "mixture", "--budget", "soon"), "--budget: the time must be seconds, or a time such as '90s'"),
        (("--model", "mixture", "--budget", "0.1s"), "--budget: the time must be at least 1s and at most 30d"),
        (("--model", "mixture", "--budget", "-5m"), "--budget"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, options, message):
    code, output, errors = run(capsys, "train", "text", "--out", "out", *options)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert os.listdir(folder) == ["text"]

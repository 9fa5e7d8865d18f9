"""Every progress bar ends at 100 per cent, passes it nowhere, and is silent where there is no terminal."""

import io
import re
import sys

import numpy as np
import pytest

import saffu
from helpers.made_up import told_by_two
from saffu.cli import main as cli
from saffu.utils import progress as _progress


class Bars(list):
    terminal: io.StringIO


@pytest.fixture
def bars(monkeypatch):
    """The bars that are made, as on a terminal, and what each was told in all, before any bound."""
    told, terminal = Bars(), io.StringIO()
    told.terminal = terminal

    class Counting(_progress.Bar):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, mininterval=0, file=terminal)
            self.told = 0
            if not self.disable:
                told.append(self)

        def update(self, n=1):
            self.told += n
            return super().update(n)

    monkeypatch.setattr(_progress, "Bar", Counting)
    monkeypatch.setattr(_progress, "on_terminal", lambda: True)
    return told


def check(bars, *descriptions):
    """The bars that were shown: told of no more steps than there are, and full at the end."""
    assert [bar.desc.rstrip(": ") for bar in bars] == list(descriptions)
    for bar in bars:
        assert bar.told <= bar.total, bar.desc
        assert bar.n == bar.total, bar.desc
    shown = [int(percent) for percent in re.findall(r"(\d+)%\|", bars.terminal.getvalue())]
    assert max(shown) == shown[-1] == 100
    assert shown.count(100) >= len(bars)
    bars.clear()


IDS = told_by_two(1500, 0, 30, 0.4).astype(np.int64)
STARTS = np.array([0, 300, 900])


@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out", "unit", "kneser-ney"])
def test_explicit_model(bars, priming):
    model = saffu.ExplicitLM(priming=priming, radius=2, order=3).fit(
        IDS, vocab_size=30, documents=STARTS, progress=True
    )
    check(bars, "count", "prime")
    model.log_prob(IDS[:500], progress=True)
    check(bars, "score")
    if priming == "k-fold":
        model.grow(IDS, documents=STARTS, order=4, progress=True)
        check(bars, "count", "prime")
        model.pruned(max_loss=0.1, progress=True)
        check(bars, "prune")


@pytest.mark.parametrize("attention", ["responsibilities", "gradient", "uniform"])
@pytest.mark.parametrize("residual", [False, True])
def test_solved_network(bars, attention, residual):
    explicit = None
    if residual:
        explicit = saffu.ExplicitLM(order=2, radius=1).fit(IDS, vocab_size=30, documents=STARTS, progress=False)
    model = saffu.SaffuLM(bits=4, radius=3, block=4, layers=2, hidden=4, attention=attention, residual=explicit)
    model.fit(IDS, documents=STARTS, vocab_size=30, progress=True)
    check(bars, "solve")
    model.log_prob(IDS[:700], progress=True)
    check(bars, "score")
    if not residual:
        model.grow(IDS, documents=STARTS, heads=2, progress=True)
        check(bars, "grow")
        model.refine(IDS, epochs=2, documents=STARTS, validation=(IDS[:500], None), progress=True)
        check(bars, "refine")


@pytest.mark.parametrize("corrections", [0, 3])
@pytest.mark.parametrize("rounds", [1, 6])
def test_network_of_layers(bars, rounds, corrections):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    X = rng.poisson(1 + 2.0 * (y[:, None] == np.arange(5) % 3)).astype(np.float32)
    network = saffu.ExplicitNetwork((4, 3), rounds=rounds, corrections=corrections).fit(X, y, progress=True)
    check(bars, "solving")
    saffu.refine(network, X, y, epochs=3, patience=1, validation=(X[:50], y[:50]), progress=True)
    check(bars, "refine")


def test_command_line(bars, tmp_path, capsys):
    text, model = tmp_path / "text.txt", tmp_path / "m.saffu"
    text.write_text("a b c d e f a b c\n" * 300)
    assert not cli.main(["train", str(text), "--out", str(model)])
    check(bars, "read", "count", "prime")
    assert not cli.main(["eval", str(model), str(text)])
    check(bars, "read", "score")


def test_a_bar_of_unknown_length_ends_at_what_there_was(bars):
    with _progress.progress_bar(None, "read", True) as bar:
        bar.update(3)
        bar.update(4)
    assert (bar.n, bar.total) == (7, 7)


def test_a_failure_leaves_the_bar_where_it_was(bars):
    with pytest.raises(KeyError), _progress.progress_bar(10, "work", True) as bar:  # noqa: PT012
        bar.update(3)
        raise KeyError
    assert bar.n == 3


@pytest.mark.parametrize("stream", ["file", "closed", "none"])
def test_silent_without_a_terminal(stream, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", None if stream == "none" else stderr)
    if stream == "closed":
        stderr.close()
    saffu.ExplicitLM(radius=1, order=2).fit(IDS[:500], vocab_size=30, progress=True)
    with _progress.progress_bar(None, "read", True) as bar:
        bar.update(3)
    assert stream != "file" or stderr.getvalue() == ""

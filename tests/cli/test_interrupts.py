"""Ctrl-C: the whole command ends once, with one line and exit code 130, and no file is left half done."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu import refine
from saffu.attention_lm.model import SaffuLM
from saffu.cli import main as cli
from saffu.training.run import Run
from saffu.utils import checkpoint
from saffu.utils import interrupts as _interrupts

if sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)
from helpers.forked import CommandLine, but_for_the_figure

OLD = b"the old one"
MOMENTS = 6


def write_text(path, n_lines):
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(300)])
    lines = [
        " ".join(words[np.minimum(rng.zipf(1.4, 8) - 1, 299)]) + "\n" * (1 + (i % 20 == 0)) for i in range(n_lines)
    ]
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    server = CommandLine(tmp_path_factory.mktemp("streams"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def texts(tmp_path_factory, command_line):
    folder = tmp_path_factory.mktemp("texts")
    write_text(folder / "text", 1500)
    write_text(folder / "short", 120)
    quick = ("--windows", "", "--induction", "0", "--order", "3", "--radius", "2")
    assert command_line.run(folder, "train", "text", "--out", "model", *quick)[0] == 0
    return folder


COMPACT = ("train", "short", "--out", "out", "--model", "saffu", "--bits", "8", "--hidden", "8", "--tokenizer", "words")
LONG = {
    "train": ("train", "text", "--out", "out"),
    "compact": (*COMPACT, "--residual", "--order", "3"),
    "refine": (*COMPACT, "--refine", "100000"),
    "thaw": (*COMPACT, "--refine", "100000", "--thaw-after", "1"),
    "mixture": ("train", "short", "--out", "out", "--model", "mixture", "--budget", "5m", "--order", "3"),
    "grow": ("grow", "model", "--set", "order=4", "--set", "windows=60", "--data", "text", "--out", "out"),
    "roadmap": ("roadmap", "short", "--out", "map", "--limit", "5", "--refine", "2", "--epochs", "100000"),
    "eval": ("eval", "model", "text"),
    "surprisal": ("surprisal", "model", "text", "--out", "table"),
    "generate": ("generate", "model", "--tokens", "100000000"),
    "demo": ("demo",),
}


def moments(name, longest):
    """Seeded moments, one in each part of so many seconds."""
    rng = random.Random(name)
    return [longest * (part + rng.random()) / MOMENTS for part in range(MOMENTS)]


@pytest.mark.parametrize("name", LONG)
def test_every_long_command_ends_at_once_and_leaves_files_whole(texts, command_line, tmp_path, name):
    for file in texts.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    inputs = {file: file.read_bytes() for file in tmp_path.iterdir()}
    out, kept = tmp_path / "out", tmp_path / "out.interrupted"
    n_interrupted = 0
    for moment in moments(name, 0.35):
        out.write_bytes(OLD)
        kept.unlink(missing_ok=True)
        code, _, errors = command_line.run(tmp_path, *LONG[name], interrupt_after=moment)
        errors = but_for_the_figure(errors)
        assert code in (0, 130)
        assert not [file.name for file in tmp_path.rglob("*.tmp")]
        assert {file: file.read_bytes() for file in inputs} == inputs
        if code == 0:  # it was done by then
            assert errors == ""
            assert "out" not in LONG[name] or checkpoint.load(out)
            continue
        n_interrupted += 1
        assert errors.startswith(f"saffu{'' if 'saffu: ' in errors else f' {LONG[name][0]}'}: interrupted"), errors
        assert errors.count("\n") == 1
        assert "/" not in errors  # no path of a source file
        assert command_line.seconds < moment + 5
        if out.read_bytes() != OLD:  # it came after the file was written
            assert checkpoint.load(out)
        if kept.exists():
            assert f"the best {'' if name == 'mixture' else 'epoch '}so far is in" in errors
            assert name == "mixture" or checkpoint.load(kept).history[-1]["epoch"] >= 1
    assert n_interrupted >= MOMENTS // 2 or name in ("eval", "surprisal", "compact")


@pytest.mark.parametrize("options", [(), ("--thaw-after", "1"), ("--residual", "--order", "3")])
@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_refinement_is_kept_under_a_name_of_its_own(
    texts, tmp_path, monkeypatch, capsys, options, epoch
):
    run, recorded = Run, []

    def record_and_interrupt(state, parameters):
        record(state, parameters)
        recorded.append(state.epoch)
        if len(recorded) > epoch:  # in the first epoch there is nothing to keep yet
            monkeypatch.setattr(run, "_record", record)
            monkeypatch.setattr(run, "_step", interrupt)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    record = run._record
    monkeypatch.setattr(run, "_record", record_and_interrupt)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_bytes((texts / "short").read_bytes())
    (tmp_path / "out").write_bytes(OLD)
    assert cli.main([*COMPACT, "--refine", "9", *options]) == 130
    output, errors = capsys.readouterr()
    assert (output, (tmp_path / "out").read_bytes()) == ("", OLD)
    if epoch == 0:
        assert errors == "saffu train: interrupted; 'out' was not written\n"
        assert sorted(os.listdir(tmp_path)) == ["out", "short"]
        return
    n = 1 if "--thaw-after" in options else 2  # the second stage begins with a record of its own
    assert errors == (
        "saffu train: interrupted; 'out' was not written; the best epoch so far is in 'out.interrupted'\n"
    )
    assert checkpoint.load(tmp_path / "out.interrupted").history[-1]["epoch"] == n


# ---- a process of its own --------------------------------------------------------------------------------------------

# Ctrl-C comes when a module is imported: before numpy, within saffu, and within the command line.
IMPORTS = ["numpy", "scipy.sparse", "saffu.ngram_lm.model", "saffu.cli", "saffu.cli.demo"]
PRESS = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
"""
AS_MODULE = """
import runpy
sys.argv[0], sys.orig_argv = "-m", ["python", "-m", "saffu", "demo"]
runpy.run_module("saffu", run_name="__main__", alter_sys=True)
"""
AS_SCRIPT = """
sys.argv[0] = "/somewhere/bin/saffu"
from saffu.__main__ import main
sys.exit(main())
"""


def environment():
    package = str(Path(saffu.__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize(
    ("start", "module"), [*((AS_MODULE, module) for module in IMPORTS), (AS_SCRIPT, "numpy"), (AS_SCRIPT, "saffu.cli")]
)
def test_an_interrupt_while_importing_is_one_line(start, module):
    command = [sys.executable, "-P", "-c", PRESS.format(module=module) + start, "demo"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "saffu: interrupted\n")


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.25])
def test_an_interrupt_soon_after_the_start_is_one_line(delay):
    # -X importtime tells when the first module of ours is there: before, Python itself is starting.
    command = [sys.executable, "-P", "-X", "importtime", "-m", "saffu", "demo"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "saffu.utils.interrupts" in line:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert process.returncode == 130
    assert lines in (["saffu: interrupted"], ["saffu demo: interrupted"])


def test_a_program_that_imports_saffu_keeps_its_own_interrupts():
    program = (
        PRESS.format(module="saffu.ngram_lm.model")
        + """
try:
    from saffu import ExplicitLM
except KeyboardInterrupt:
    print("mine")
sys.meta_path.pop(0)
from saffu import ExplicitLM
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\nTrue\n", "")


# ---- the watch -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pressed():
    """What presses Ctrl-C in this process, and afterwards makes its effect what it was."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    _interrupts.leave_at_once()
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_was_swallowed_ends_the_command_all_the_same(pressed, capsys):
    def command():
        try:
            pressed()
        except KeyboardInterrupt:
            return 0

    assert _interrupts.Watch().run(command) == 130
    assert capsys.readouterr().err == "saffu: interrupted\n"


def test_an_interrupt_in_a_destructor_comes_again(pressed, capsys):
    class Last:
        def __del__(self):
            pressed()

    def command():
        Last()
        threading.Event().wait(5)
        return 0

    began = time.perf_counter()
    assert _interrupts.Watch().run(command) == 130
    assert time.perf_counter() - began < 3
    assert capsys.readouterr().err == "saffu: interrupted\n"


def test_a_key_held_down_is_one_interrupt(pressed, capsys):
    def command():
        try:
            pressed()
        finally:
            pressed()
            pressed()
            print("cleared up")
        return 0

    assert _interrupts.Watch().run(command) == 130
    assert capsys.readouterr() == ("cleared up\n", "saffu: interrupted\n")


def test_an_ignored_interrupt_stays_ignored(capsys):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _interrupts.leave_at_once()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert _interrupts.Watch().run(lambda: signal.raise_signal(signal.SIGINT) or 7) == 7
    finally:
        signal.signal(signal.SIGINT, before)


# ---- the library -----------------------------------------------------------------------------------------------------


def interrupt_in(epoch):
    def callback(state):
        if state.epoch == epoch:
            raise KeyboardInterrupt

    return callback


def refinable(kind):
    """A model and how to refine it."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 3
    X = rng.poisson(1 + 3 * (np.arange(3) == y[:, None])).astype(float)
    ids = np.arange(400) * 7 % 11 % 5
    if kind == "layer":
        model = saffu.SoftmaxLayer().fit(X, y)
        return model, lambda **options: refine(model, X, y, epochs=6, **options)
    if kind == "network":
        model = saffu.ExplicitNetwork(hidden=(4,)).fit(X, y)
        return model, lambda **options: refine(model, X, y, epochs=6, **options)
    if kind == "transformer":
        model = saffu.Transformer(vocab_size=5, hidden=4, layers=1, positions=5)
        text = ids[:400].reshape(80, 5)
        return model, lambda **options: model.refine(text, epochs=6, **options)
    model = SaffuLM(bits=4, hidden=4, radius=2).fit(ids)
    return model, lambda **options: model.refine(ids, epochs=6, thaw_after=2 if kind == "thawed" else None, **options)


@pytest.mark.parametrize("kind", ["layer", "network", "compact", "thawed"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_the_library_returns_the_best_so_far_and_says_so(kind, epoch):
    given, run = refinable(kind)
    whole = run()
    with pytest.warns(RuntimeWarning, match=f"interrupted after epoch {epoch} of"):
        stopped = run(callback=interrupt_in(epoch))
    assert (given.interrupted, whole.interrupted, stopped.interrupted) == (False, False, True)
    assert [record["epoch"] for record in stopped.history] == list(range(epoch + 1))
    assert [record["epoch"] for record in whole.history] == list(range(7))


def test_an_interrupt_while_the_result_is_judged_loses_nothing(monkeypatch):
    judge, n_calls = Run.result, []

    def interrupted_once(run):
        n_calls.append(run)
        if len(n_calls) == 1:
            raise KeyboardInterrupt
        return judge(run)

    monkeypatch.setattr(Run, "result", interrupted_once)
    _, run = refinable("layer")
    with pytest.warns(RuntimeWarning, match="interrupted after epoch 6 of 6"):
        stopped = run()
    assert stopped.interrupted
    assert len(stopped.history) == 7


def test_a_refinement_of_an_interrupted_model_is_not_interrupted():
    _, run = refinable("compact")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stopped = run(callback=interrupt_in(1))
    assert not stopped.refine(np.arange(400) * 7 % 11 % 5, epochs=1).interrupted

"""saffu train within a memory limit: the same model, and nothing left behind by whatever ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu.cli import main as cli
from saffu.ngram_lm import spilled_counts
from saffu.utils.spill_folder import PREFIX

QUICK = ("--windows", "", "--induction", "0", "--order", "3", "--radius", "2", "--quiet")
# Stops for ever at the second run that is written, when the first one is on disk.
STOPPING = """
import sys, time
from saffu.cli import main as cli
from saffu.ngram_lm import spilled_counts, table_merging, waiting_text
from saffu.utils.interrupts import Watch, leave_at_once
spilled_counts.SHARE_OF_PIECES = 0.0
counted_text = sys.modules["saffu.ngram_lm.counted_text"]
counted_text.MOST = 1000
written = []
merged = spilled_counts.merged
def stop(*arguments):
    if written:
        print("ready", flush=True)
        time.sleep(60)
    written.append(merged(*arguments))
    return written[-1]
spilled_counts.merged = stop
leave_at_once()
sys.exit(Watch().run(lambda: cli.main(sys.argv[1:])))
"""


@pytest.fixture
def book(tmp_path):
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(200)])
    lines = [" ".join(words[np.minimum(rng.zipf(1.4, 9) - 1, 199)]) + "\n" * (i % 20 == 0) for i in range(1500)]
    (tmp_path / "book").write_text("\n".join(lines))
    return tmp_path / "book"


def run(*arguments):
    assert cli.main([os.fspath(argument) for argument in arguments]) == 0


def test_the_model_is_that_without_a_limit(book, monkeypatch, capsys):
    folder = book.parent
    run("train", book, "--out", folder / "plain", *QUICK)
    monkeypatch.setattr(spilled_counts, "SHARE_OF_PIECES", 0.0)
    run("train", book, "--out", folder / "limited", "--memory", "1M", *QUICK)
    assert sorted(os.listdir(folder)) == ["book", "limited", "plain"]
    plain, limited = saffu.load(folder / "plain"), saffu.load(folder / "limited", mmap=True)
    assert plain.scalars == limited.scalars
    assert plain.vocabulary == limited.vocabulary
    ids = plain.vocabulary.encode_text(book.read_text())[0][:500]
    assert np.array_equal(plain.log_prob(ids), limited.log_prob(ids))
    capsys.readouterr()


def test_a_mapped_model_gives_the_same_answers(book, capsys):
    folder = book.parent
    run("train", book, "--out", folder / "model", "--memory", "1M", *QUICK)
    capsys.readouterr()
    evaluated, generated = [], []
    for more in ((), ("--mmap",)):
        run("eval", folder / "model", book, "--json", *more)
        evaluated.append(json.loads(capsys.readouterr().out)["perplexity"])
        run("generate", folder / "model", "--tokens", "9", "--seed", "1", *more)
        generated.append(capsys.readouterr().out)
    assert evaluated[0] == evaluated[1]
    assert generated[0] == generated[1]


def test_rare_entries_are_dropped(book, capsys):
    folder = book.parent
    for name, more in (("plain", ()), ("pruned", ("--min-entry", "1,1,2"))):
        run("train", book, "--out", folder / name, *QUICK, *more)
    plain, pruned = saffu.load(folder / "plain"), saffu.load(folder / "pruned")
    assert pruned.counts.distance[0].nnz == plain.counts.distance[0].nnz
    assert pruned.counts.suffix[0].nnz == (plain.counts.suffix[0].data > 1).sum()
    assert os.path.getsize(folder / "pruned") < os.path.getsize(folder / "plain")
    capsys.readouterr()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=lambda value: str(value),
)
def test_what_ends_it_leaves_no_model_and_no_counts(book, number, code, capsys):
    folder = book.parent
    arguments = ("train", book, "--out", folder / "model", "--memory", "1M", *QUICK)
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", STOPPING, *map(os.fspath, arguments)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        assert [name.startswith(PREFIX) for name in os.listdir(folder)].count(True) == 1
        time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, errors
    assert errors.count("\n") == (number != signal.SIGKILL)
    if number == signal.SIGKILL:
        assert [name.startswith(PREFIX) for name in os.listdir(folder)].count(True) == 1
        run(*arguments)
        assert sorted(os.listdir(folder)) == ["book", "model"]
    else:
        assert os.listdir(folder) == ["book"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--memory", "2X"), "must be bytes, or a size such as '512M' or '2G', got '2X'"),
        (("--memory", "10"), "at least 1M"),
        (("--min-entry", "2,2"), "expected counts that begin with 1 and do not descend"),
        (("--min-entry", "1,3,2"), "expected counts that begin with 1 and do not descend"),
        (("--min-entry", "1,1,2", "--priming", "kneser-ney"), "min_entry is not for priming 'kneser-ney'"),
        (("--memory", "1G", "--model", "saffu"), "--memory is for --model explicit"),
        (("--memory", "1G", "--spill-folder", "no-such"), "cannot write into the folder 'no-such'"),
    ],
)
def test_mistakes_are_one_line(book, arguments, message, capsys):
    assert cli.main(["train", os.fspath(book), "--out", os.fspath(book.parent / "model"), *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert os.listdir(book.parent) == ["book"]

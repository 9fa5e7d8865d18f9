"""Every mistake at the command line is one clear line and exit code 2, in bounded time and memory."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu import _core
from saffu.attention_lm.model import SaffuLM
from saffu.cli import main as cli
from saffu.ngram_lm.model import ExplicitLM
from saffu.search.architectures import Architecture
from saffu.transformer.model import Transformer
from saffu.utils import checkpoint
from saffu.utils import progress as _progress

if sys.platform == "win32":
    pytest.skip("needs fork and limits of memory", allow_module_level=True)
from helpers.forked import CommandLine, but_for_the_figure

GIGABYTE = 1 << 30
TWENTY = "9" * 20
TEXT = "the cat sat on the mat .\nthe dog sat on the cat .\n" * 20


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    server = CommandLine(tmp_path_factory.mktemp("streams"), GIGABYTE)
    yield server
    server.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, command_line):
    """A folder of inputs, sound and foul."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "text").write_text(TEXT)
    (folder / "empty").write_text("\n")
    (folder / "void").write_text("")
    (folder / "utf16").write_bytes(TEXT.encode("utf-16-le"))
    (folder / "utf16-bom").write_bytes(TEXT.encode("utf-16"))
    (folder / "zeros").write_bytes(bytes(1000))
    (folder / "zstd").write_bytes(b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00a b\n")
    (folder / "unreadable").write_text("a b\n")
    (folder / "unreadable").chmod(0)
    for name, packed in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        (folder / f"cut.{name}").write_bytes(packed(TEXT.encode())[:-5])
    assert command_line.run(folder, "train", "text", "--out", "model", "--windows", "20")[0] == 0
    assert command_line.run(folder, "train", "text", "--out", "compact", *COMPACT)[0] == 0
    (folder / "labelled").write_text("__label__a x y\n__label__b z\n" * 9)
    assert command_line.run(folder, "classify", "train", "labelled", "--out", "texts")[0] == 0
    Transformer(vocab_size=9, hidden=4, layers=1, positions=5).save(folder / "transformer")
    kind, arrays, metadata = checkpoint.read(folder / "model")
    checkpoint.write(folder / "huge", kind, arrays, {**metadata, "vocab_size": 10**12})
    flipped = bytearray((folder / "model").read_bytes())
    flipped[-9] ^= 1
    (folder / "flipped").write_bytes(flipped)
    (folder / "grid.json").write_text(json.dumps({"bits": [2 * 10**9]}))
    return folder


COMPACT = ("--model", "saffu", "--bits", "4", "--hidden", "4")
EXPLICIT = ("train", "text", "--out", "new")
NETWORK = (*EXPLICIT, *COMPACT)
ROADMAP = ("roadmap", "text", "--out", "map")
BILLIONS = 2 * 10**9
READERS = ("train", "pairs")  # the other commands read files as "train" does
has_limit = pytest.mark.skipif(not hasattr(_core, "MAX_THREADS"), reason="the core has no limit of threads")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")


def rows():
    """Command and what its line says."""
    windows = "must be at most 16777216"
    yield ("generate", "model", "--temperature", "1e-320"), "--temperature: expected 0 or a number of at least 1e-300"
    for value in ("inf", "-inf", "nan", "-1", "1e400", "x", ""):
        told = f"expected a number of at least 0, got '{value}'"
        yield ("generate", "model", f"--temperature={value}"), f"--temperature: {told}"
        yield (*NETWORK, "--refine", "1", f"--learning-rate={value}"), f"--learning-rate: {told}"
        yield (*NETWORK, "--refine", "1", f"--dropout={value}"), f"--dropout: {told}"
        yield (*ROADMAP, f"--minutes={value}"), f"--minutes: {told}"
        yield (*EXPLICIT, f"--prune={value}"), f"--prune: {told}"
        yield ("prune", "model", "--out", "new", f"--max-loss={value}"), f"--max-loss: {told}"
        size = f"--target-size: expected a size such as 500k, 20M or 1.5G, got '{value}'"
        yield ("prune", "model", "--out", "new", f"--target-size={value}"), size
    for value in (99999999999, 40000, 100000, TWENTY):
        for command in (EXPLICIT, NETWORK, ROADMAP):
            yield pytest.param((*command, "--threads", value), "n_threads must be at most", marks=has_limit)
    for value in (10**12, TWENTY, 16777217):
        yield (*EXPLICIT, "--windows", value), f"windows {windows}, got {value}"
        yield (*EXPLICIT, "--induction", value), f"induction {windows}, got {value}"
        yield (*NETWORK, "--residual", "--windows", value), f"windows {windows}"
        yield ("grow", "model", "--data", "text", "--out", "new", "--set", f"windows=20,{value}"), f"windows {windows}"
    yield (*EXPLICIT, "--windows", ",".join(map(str, range(1, 67)))), "windows must be at most 64, got 66"
    for value in (200, 33, TWENTY):
        yield (*EXPLICIT, "--order", value), f"order must be at most 32, got {value}"
        yield ("grow", "model", "--data", "text", "--out", "new", "--set", f"order={value}"), "order must be at most 32"
    for value in (BILLIONS, TWENTY):
        yield (*EXPLICIT, "--radius", value), f"radius must be at most 256, got {value}"
        yield (
            ("grow", "model", "--data", "text", "--out", "new", "--set", f"radius={value}"),
            "radius must be at most 256",
        )
        for name, most in (("bits", 65536), ("hidden", 65536), ("radius", 65536), ("block", 65536), ("heads", 1024)):
            yield (*NETWORK, f"--{name}", value), f"{name} must be at most {most}, got {value}"
            yield ("grow", "compact", "--out", "new", "--set", f"{name}={value}"), f"{name} must be at most {most}"
        yield (*NETWORK, "--layers", value), "layers must be at most 1024"
        for name in ("mlp", "heads", "value", "key", "hidden"):
            yield ("grow", "transformer", "--out", "new", "--set", f"{name}={value}"), "must be at most"
    for name in ("--refine", "--min-count"):
        yield (*NETWORK, name, TWENTY), "must be at most 2147483647"
    yield (*NETWORK, "--refine", "1", "--thaw-after", TWENTY), "--thaw-after: must be at most 2147483647"
    for name in ("--tokens", "--valid-tokens", "--limit", "--refine", "--epochs", "--min-count"):
        yield (*ROADMAP, name, TWENTY), "must be at most 2147483647"
        yield (*ROADMAP, name, "-1"), f"{name}: expected an integer of at least"
        yield (*ROADMAP, name, "1.5"), f"{name}: expected an integer of at least"
    yield ("generate", "model", "--tokens", "1" * 5000), "--tokens: expected an integer of at least 1"
    yield (*ROADMAP, "--grid", "grid.json"), "bits must be at most 65536, got 2000000000"
    yield ("info", "huge"), "'huge' is a damaged explicit-lm model: vocab_size must be at most 2147483647"
    yield ("eval", "huge", "text"), "vocab_size must be at most 2147483647"
    yield ("info", "flipped"), "'flipped' is a damaged model: array "
    for command in (
        ("train",),
        ("eval", "model"),
        ("surprisal", "model"),
        ("pairs", "model"),
        ("roadmap",),
        ("grow", "model", "--set", "order=5", "--data"),
    ):
        out = () if command[0] in ("eval", "surprisal", "pairs") else ("--out", "new")
        for file, message in (
            ("missing", "'missing': No such file"), (".", "'.'"), ("empty", "'empty' holds no text"),
            ("void", "'void' holds no text"), (os.devnull, "'/dev/null' holds no text"), ("utf16", "looks like UTF-16"),
            ("utf16-bom", "looks like UTF-16"), ("zeros", "is not UTF-8"), ("/dev/zero", "is not UTF-8"),
            ("cut.gz", "'cut.gz' is damaged"), ("cut.bz2", "'cut.bz2' is damaged"), ("cut.xz", "'cut.xz' is damaged"),
            ("model", "'model' is not UTF-8"),
        ):  # fmt: skip
            if command[0] == "pairs" and "holds no text" in message:
                message = "holds no pairs"
            if command[0] in READERS or file in ("missing", ".", "empty", "/dev/zero", "cut.gz"):
                yield (*command, file, *out), message
        if command[0] == "pairs":
            continue
        yield (*command, "empty", "void", *out), "holds no text, nor does any other file"
        yield pytest.param((*command, "unreadable", *out), "'unreadable': Permission denied", marks=not_root)
    for command in (
        ("info",),
        ("generate",),
        ("eval",),
        ("surprisal",),
        ("pairs",),
        ("filter", "--scores"),
        ("grow", "--set", "radius=9", "--out", "new"),
        ("prune", "--out", "new"),
    ):
        for file in ("text", "void", os.devnull, "/dev/zero", "missing", "."):
            message = "'.'" if file == "." else "No such" if file == "missing" else "is not a saffu model"
            yield (
                (command[0], file, *command[1:], *(("text",) if command[0] in ("eval", "surprisal", "pairs") else ())),
                message,
            )
    for file in ("missing", ".", os.devnull, "text", "model"):
        yield (*ROADMAP, "--grid", file), repr(file)
        if file != "text":
            yield (*ROADMAP, "--valid", file), repr(file)
            yield (*NETWORK, "--refine", "1", "--valid", file), repr(file)
    for out in (".", "missing/new", "text/new", os.devnull):
        yield ("train", "text", "--out", out), "'text/new' lies in 'text'" if out == "text/new" else "cannot write"
        yield ("grow", "compact", "--set", "radius=9", "--out", out), "cannot write"
        yield ("prune", "model", "--out", out), "cannot write"
    for out in ("text", "text/map", os.devnull):
        yield ("roadmap", "model", "--out", out), "is not a folder"
    yield ("generate", "model", "--prompt", "a\udcff", "--tokens", "1"), None
    yield ("prune", "compact", "--out", "new"), "'compact' holds SaffuLM; only an ExplicitLM can be pruned"
    yield ("prune", "model", "--out", "new", "--target-size", "10"), "target_size must be at least"
    yield ("prune", "model", "--out", "new", "--target-size", "5k", "--max-loss", "1"), "not allowed with argument"
    yield (*NETWORK, "--prune", "0.1"), "--prune is for --model explicit"
    yield from rows_of_classify()
    yield ("fly",), "invalid choice: 'fly'"
    yield ("grow", "transformer", "--set", "mlp=x", "--out", "new"), "mlp must be a whole number"


def rows_of_classify():
    train, test, predict = ("classify", "train"), ("classify", "test", "texts"), ("classify", "predict", "texts")
    out = ("--out", "new")
    for command, more in ((train, out), (test, ()), (predict, ())):
        for file, message in (
            ("missing", "'missing': No such file"), (".", "'.'"), ("utf16", "looks like UTF-16"),
            ("utf16-bom", "looks like UTF-16"), ("zeros", "is not UTF-8"), ("/dev/zero", "is not UTF-8"),
            ("cut.gz", "'cut.gz' is damaged"), ("cut.bz2", "'cut.bz2' is damaged"), ("cut.xz", "'cut.xz' is damaged"),
            ("model", "'model' is not UTF-8"),
        ):  # fmt: skip
            yield (*command, file, *more), message
        yield pytest.param((*command, "unreadable", *more), "'unreadable': Permission denied", marks=not_root)
        yield pytest.param((*command, "labelled", *more, "--threads", TWENTY), "must be at most", marks=has_limit)
        yield (*command, "labelled", *more, "--label-prefix", ""), "--label-prefix must be characters"
        yield (*command, "labelled", *more, "--format", "csv"), "'labelled', line 1: there is no column 'text'"
        yield (*command, "labelled", *more, "--format", "jsonl"), "'labelled', line 1: no JSON"
    for command, more in ((train, out), (test, ())):
        yield (*command, "text", *more), "'text', line 1: a line must have a label, which begins with __label__"
        for file in ("empty", "void", os.devnull):
            yield (*command, file, *more), f"'{file}' holds no text"
        yield (*command, "labelled", *more, "--format", "csv", "--text", "2"), "--label must be a number from 1"
        yield (*command, "labelled", *more, "--format", "csv", "--text", "0", "--label", "1"), "must be a number from 1"
        yield (
            (*command, "labelled", *more, "--format", "csv", "--text", TWENTY, "--label", "1"),
            "columns or more, got 1",
        )
    for value in (TWENTY, "0", "-1", "x"):
        for name in ("--ngrams", "--min-count", "--buckets"):
            expected = "must be at most" if value == TWENTY else f"{name}: expected an integer of at least"
            yield (*train, "labelled", *out, f"{name}={value}"), expected
        if value != TWENTY:
            yield (*train, "labelled", *out, f"--ridge={value}"), "--ridge: expected a number"
            yield (*train, "labelled", *out, f"--prune={value}"), "--prune: expected a size"
        for command in (test, predict):
            yield (*command, "labelled", f"--k={value}"), "--k: "
    for value in ("inf", "nan", "-1", "x", ""):
        yield (*predict, "labelled", f"--threshold={value}"), "--threshold: expected a number of at least 0"
    for file in ("text", "void", os.devnull, "/dev/zero", "missing", "model", "compact"):
        message = (
            "No such"
            if file == "missing"
            else "is no classifier of texts"
            if file in ("model", "compact")
            else "is not a saffu"
        )
        for command in (
            ("test", file, "labelled"),
            ("predict", file, "labelled"),
            ("quantize", file, *out, "--target-size", "9k"),
        ):
            yield ("classify", *command), message
    for place in (".", "missing/new", os.devnull):
        yield (*train, "labelled", "--out", place), "cannot write"
        yield ("classify", "quantize", "texts", "--target-size", "9k", "--out", place), "cannot write"
    yield ("classify", "quantize", "texts", *out, "--target-size", "100"), "target_size must be at least"
    yield ("eval", "texts", "labelled"), "'texts' holds a classifier of texts; 'saffu classify test' measures it"
    yield ("classify",), "required: COMMAND"
    yield ("classify", "fly"), "invalid choice: 'fly'"


@pytest.mark.parametrize(("arguments", "message"), [*rows()])
def test_a_mistake_is_one_line_within_ten_seconds_and_a_gigabyte(folder, command_line, arguments, message):
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    code, output, errors = command_line.run(folder, *arguments)
    if message is None:
        assert code == 0
        return
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.startswith("saffu")
    assert errors.count("\n") == 1
    assert len(errors) < 400
    assert command_line.seconds < 10
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


# ---- what is no mistake ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "model", "--tokens", "3", "--seed", TWENTY),
        ("generate", "model", "--tokens", "3", "--top-k", "2147483647"),
        ("generate", "model", "--tokens", "3", "--temperature", "1e-300"),
        ("generate", "model", "--tokens", "3", "--temperature", "1e308"),
        ("generate", "model", "--tokens", "3", "--prompt", "a \x00\r\n b\udcff"),
        (*EXPLICIT, "--windows", "16777216", "--induction", "16777216", "--quiet"),
        (*EXPLICIT, "--min-count", "2147483647"),
        (*NETWORK, "--refine", "1", "--dropout", "1e-320", "--learning-rate", "1e-320"),
        (*NETWORK, "--refine", "1", "--thaw-after", "2147483647"),
        ("roadmap", "text", "--out", "map", "--minutes", "0", "--tokens", "2147483647", "--valid-tokens", "2147483647"),
    ],
)
def test_extreme_values_that_mean_something_work(folder, command_line, tmp_path, arguments):
    for name in ("text", "model"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    code, output, errors = command_line.run(tmp_path, *arguments)
    assert (code, but_for_the_figure(errors)) == (0, "")
    assert output


def test_a_rate_that_diverges_is_a_warning(folder, command_line, tmp_path):
    (tmp_path / "text").write_bytes((folder / "text").read_bytes())
    code, output, errors = command_line.run(tmp_path, *NETWORK, "--refine", "2", "--learning-rate", "1e300")
    assert (code, errors.count("\n")) == (0, 1)
    assert errors.startswith("saffu train: warning: the loss is not finite after epoch 1")
    assert output.startswith("new: ")


def test_an_empty_file_among_others_is_a_warning(folder, command_line, tmp_path):
    for name in ("text", "empty"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    code, output, errors = command_line.run(tmp_path, "train", "empty", "text", "--out", "new")
    assert (code, errors) == (0, "saffu train: warning: 'empty' holds no text and is left out\n")
    assert output.startswith("new: ")


# ---- debugging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environment"), [(("--debug",), {}), ((), {"SAFFU_DEBUG": "1"}), (("--debug",), {"SAFFU_DEBUG": "0"})]
)
def test_debugging_shows_where_an_error_came_from(folder, command_line, options, environment):
    code, output, errors = command_line.run(folder, *options, "info", "text", **environment)
    assert (code, output) == (2, "")
    lines = errors.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "checkpoint.py" in errors
    assert lines[-1] == "saffu info: error: 'text' is not a saffu model"
    for quiet in ({}, {"SAFFU_DEBUG": ""}, {"SAFFU_DEBUG": "0"}):
        assert command_line.run(folder, "info", "text", **{"SAFFU_DEBUG": "0", **quiet})[2] == f"{lines[-1]}\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (MemoryError("unable to\nallocate"), "not enough memory: unable to allocate"),
        (TypeError("x must be a y"), "x must be a y"),
        (OSError(28, "No space left on device", "out"), "'out': No space left on device"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero; this should not happen, 'saffu --debug COMMAND' "),
        (ValueError(), "ValueError: ; this should not happen"),
    ],
)
def test_every_error_is_one_line(monkeypatch, capsys, error, line):
    def fail(arguments):
        raise error

    monkeypatch.setattr(cli.demo, "run", fail)
    assert cli.main(["demo"]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith(f"saffu demo: error: {line}")


# ---- closed streams --------------------------------------------------------------------------------------------------


def shell(folder, line, **environment):
    """A shell's command line, in which ``saffu`` is the command."""
    path = os.pathsep.join([str(Path(saffu.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = f'saffu() {{ "{sys.executable}" -P -m saffu "$@"; }}; {line}'
    environment = os.environ | {"PYTHONPATH": path, **environment}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_standard_input_is_one_line(folder):
    code, output, errors = shell(folder, "saffu train - --out new <&-")
    assert (code, output, errors) == (2, "", "saffu train: error: standard input ('-') is closed\n")
    assert not (folder / "new").exists()


def test_nothing_goes_elsewhere_where_standard_error_is_closed(folder, tmp_path):
    (tmp_path / "text").write_bytes((folder / "text").read_bytes())
    assert shell(tmp_path, "saffu train missing --out new 2>&-") == (2, "", "")
    code, output, errors = shell(tmp_path, "saffu train text --out new 2>&- <&-")
    assert (code, errors) == (0, "")
    assert output.startswith("new: ")
    assert checkpoint.load(tmp_path / "new").n_tokens > 0


def test_a_closed_standard_output_is_one_line(folder):
    assert shell(folder, "saffu info model >&-") == (2, "", "saffu info: error: standard output is closed\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(folder):
    code, output, errors = shell(folder, "saffu info model >/dev/full")
    assert (code, output, errors) == (2, "", "saffu info: error: No space left on device\n")


def test_a_thread_count_that_the_runtime_would_die_of_is_one_line(folder):
    if not hasattr(_core, "MAX_THREADS"):
        pytest.skip("the core has no limit of threads")
    code, output, errors = shell(folder, "ulimit -v 4000000; saffu train text --out new --threads 100000")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "n_threads must be at most" in errors


def closed():
    file = open(os.devnull, "w")  # noqa: SIM115
    file.close()
    return file


@pytest.mark.parametrize("stream", [None, closed()], ids=["missing", "closed"])
def test_the_library_works_without_standard_error(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    ids = np.arange(300) * 7 % 11 % 5
    ExplicitLM(order=2, radius=1, windows=(), induction=0).fit(ids, progress=True).log_prob(ids, progress=True)
    SaffuLM(bits=2, hidden=2, radius=2).fit(ids, progress=True).refine(ids, epochs=1, progress=True)
    saffu.ExplicitNetwork(hidden=(5,)).fit(np.eye(4)[ids[:40] % 4], ids[:40] % 4, progress=True)
    with _progress.progress_bar(3, "bar", True) as bar:
        bar.update(3)
        bar.set_postfix_str("done")


# ---- limits in Python ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**12, 10**20, np.iinfo(np.int64).max])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: ExplicitLM(radius=n),
        lambda n: ExplicitLM(order=n),
        lambda n: ExplicitLM(windows=(n,)),
        lambda n: ExplicitLM(induction=n),
        lambda n: ExplicitLM().fit([0, 1], vocab_size=n),
        *(
            lambda n, name=name: SaffuLM(**{name: n})
            for name in ("bits", "block", "radius", "heads", "layers", "hidden")
        ),
        *(lambda n, name=name: SaffuLM(**{name: n}) for name in ("words", "span", "min_count")),
        lambda n: SaffuLM(bits=2).fit([0, 1], vocab_size=n),
        *(lambda n, name=name: Architecture(**{name: n}) for name in ("bits", "radius", "heads", "layers", "hidden")),
        *(
            lambda n, name=name: Transformer(9, **{name: n})
            for name in ("hidden", "layers", "heads", "mlp", "positions")
        ),
        lambda n: Transformer(n),
        lambda n: saffu.ExplicitNetwork(hidden=(n,)).fit([[1.0], [2.0]], [0, 1]),
        lambda n: saffu.BitCipher(n),
        lambda n: saffu.BitCipher(4).fit([0, 1], vocab_size=n),
        lambda n: saffu.cooccurrence([0, 1], 1, vocab_size=n),
        lambda n: saffu.text.Vocabulary(["a"], min_count=n),
        lambda n: saffu.grow.mlp(Transformer(9, hidden=2, layers=1, positions=3), n),
        lambda n: saffu.grow.add_heads(Transformer(9, hidden=2, layers=1, positions=3), n),
    ],
)
def test_sizes_beyond_reason_are_refused_with_the_limit(make, value):
    with pytest.raises(ValueError, match=rf"must be at most \d+, got {value}"):
        make(value)


@pytest.mark.parametrize("temperature", [1e-320, 5e-324, 9e-301, float("nan"), float("inf"), -1.0])
def test_temperatures_that_cannot_be_divided_by_are_refused(temperature):
    model = ExplicitLM(order=2, radius=1, windows=(), induction=0).fit(np.arange(60) % 5)
    with pytest.raises(ValueError, match="temperature must be"):
        list(model.generate([0], 3, temperature=temperature))
    compact = SaffuLM(bits=2, hidden=2, radius=2).fit(np.arange(60) % 5)
    with pytest.raises(ValueError, match="temperature must be"):
        list(compact.generate([0], 3, temperature=temperature))


def test_the_least_temperature_takes_the_likeliest():
    model = ExplicitLM(order=2, radius=1, windows=(), induction=0).fit(np.arange(60) % 5)
    cold = [list(model.generate([0], 9, temperature=temperature, seed=1)) for temperature in (0, 1e-300)]
    assert cold[0] == cold[1]

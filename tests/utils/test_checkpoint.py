"""One-file models: whole or absent, bit for bit, and every damage named."""

import json
import os
import stat
import struct
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from saffu.ngram_lm.model import ExplicitLM
from saffu.utils import checkpoint


@checkpoint.register("pair of numbers")
class Pair:
    """The smallest model: one array and one number."""

    def __init__(self, weights, scale):
        self.weights, self.scale = weights, scale

    def _to_checkpoint(self):
        return {"weights": self.weights}, {"scale": self.scale}

    @classmethod
    def _from_checkpoint(cls, arrays, metadata):
        if metadata["scale"] < 0:
            raise checkpoint.Damaged("scale must be positive")
        return cls(arrays["weights"], metadata["scale"])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.saffu"
    checkpoint.save(Pair(np.arange(5), 0.1), path)
    return path


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


dtypes = st.sampled_from(["?", "i1", "u1", "<i4", ">i4", "i8", "u8", "f2", "f4", ">f4", "f8"])


@given(dtypes, st.lists(st.integers(0, 4), max_size=3), st.sampled_from("CF"), st.floats(allow_nan=False, width=64))
def test_arrays_and_metadata_come_back_bit_for_bit(tmp_path_factory, dtype, shape, order, number):
    path = tmp_path_factory.getbasetemp() / "bits.saffu"
    rng = np.random.default_rng(0)
    array = np.asarray(rng.integers(0, 100, shape), dtype=dtype, order=order)
    metadata = {"number": number if abs(number) < 1e308 else 0.1, "text": 'é"\n', "list": [1, None, True]}
    checkpoint.write(path, "test", {"array": array, "strided": array[..., None].repeat(2, -1)[..., ::2]}, metadata)
    kind, arrays, again = checkpoint.read(path)
    assert (kind, again) == ("test", metadata)
    for name in ("array", "strided"):
        assert arrays[name].dtype == array.dtype.newbyteorder("=")
        assert arrays[name].flags.writeable
    np.testing.assert_array_equal(arrays["array"], array, strict=array.dtype.isnative)
    np.testing.assert_array_equal(arrays["strided"][..., 0], array)


def test_models_come_back(saved):
    model = checkpoint.load(saved)
    assert type(model) is Pair
    assert model.scale == 0.1
    np.testing.assert_array_equal(model.weights, np.arange(5))
    assert files_in(saved.parent) == ["model.saffu"]


def test_permissions_are_those_of_any_new_file(saved):
    other = saved.parent / "other"
    other.write_text("")
    assert saved.stat().st_mode == other.stat().st_mode
    saved.chmod(0o640)
    checkpoint.save(Pair(np.ones(1), 2), saved)
    if sys.platform != "win32":
        assert stat.S_IMODE(saved.stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError("no space left")])
def test_an_interrupted_write_leaves_the_old_file(saved, monkeypatch, error):
    before = saved.read_bytes()

    def write_half(path, arrays, describe):
        with open(path, "wb") as file:
            file.write(before[:50])
        raise error

    monkeypatch.setattr(checkpoint.tensor_files, "write", write_half)
    with pytest.raises(error if isinstance(error, type) else OSError):
        checkpoint.save(Pair(np.ones(9), 2), saved)
    assert saved.read_bytes() == before
    assert files_in(saved.parent) == ["model.saffu"]


def test_a_symbolic_link_stays_one(saved):
    link = saved.parent / "link"
    try:
        link.symlink_to(saved)
    except OSError:
        pytest.skip("no symbolic links here")
    checkpoint.save(Pair(np.arange(2), 3), link)
    assert link.is_symlink()
    assert checkpoint.load(saved).scale == 3


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    for length in range(len(whole)):
        saved.write_bytes(whole[:length])
        message = "is not a saffu model" if length < 9 else "is cut short"
        with pytest.raises(ValueError, match=message):
            checkpoint.load(saved)


def flips(path, step=1):
    """The file with one byte changed, at every place and in several ways; at last as it was."""
    whole = path.read_bytes()
    for place in range(0, len(whole), step):
        for change in (0x01, 0x2A):  # 0x2A makes a line end of a space
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(damaged)
            yield place
    path.write_bytes(whole)


def test_every_changed_byte_is_found(saved):
    checkpoint.write(saved, "pair of numbers", {"weights": np.arange(5), "z": np.zeros((0, 3), "f4")}, {"scale": 0.25})
    for place in flips(saved):
        with pytest.raises(ValueError, match=r"damaged|cut short|not a saffu model|has format|unknown kind"):
            print(place, checkpoint.load(saved))
    assert checkpoint.load(saved).scale == 0.25


def test_a_changed_count_of_a_language_model_is_found(tmp_path):
    path = tmp_path / "model.saffu"
    ExplicitLM(order=3, radius=1, windows=(), induction=0).fit(np.arange(60) % 7).save(path)
    for place in flips(path, step=97):
        with pytest.raises(ValueError, match=r"model.saffu' (is|has)"):
            print(place, checkpoint.load(path))
    checkpoint.load(path)


def without_checksums(path):
    """The file as it was written before there were checksums."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["saffu"])
    assert set(ours) == {"format", "kind", "metadata", "checksums", "checksum"}
    header["__metadata__"]["saffu"] = json.dumps({name: ours[name] for name in ("format", "kind", "metadata")})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])


def test_files_of_before_the_checksums_load(saved, tmp_path):
    without_checksums(saved)
    assert b"checksum" not in saved.read_bytes()
    model = checkpoint.load(saved)
    np.testing.assert_array_equal(model.weights, np.arange(5))
    path = tmp_path / "language.saffu"
    ExplicitLM(order=3, radius=1, windows=(), induction=0).fit(np.arange(60) % 7).save(path)
    expected = checkpoint.load(path).log_prob(np.arange(7))
    without_checksums(path)
    np.testing.assert_array_equal(checkpoint.load(path).log_prob(np.arange(7)), expected)


@pytest.mark.parametrize("error", [TypeError, AttributeError, KeyError, ValueError, ZeroDivisionError])
def test_an_error_of_the_program_is_no_damage(saved, monkeypatch, error):
    def broken(arrays, metadata):
        raise error("of the program")

    monkeypatch.setattr(Pair, "_from_checkpoint", broken)
    with pytest.raises(error, match="of the program") as caught:
        checkpoint.load(saved)
    assert "damaged" not in str(caught.value)
    assert type(caught.value) is error


def test_what_a_file_lacks_is_damage(saved, monkeypatch):
    monkeypatch.setattr(Pair, "_from_checkpoint", lambda arrays, metadata: metadata["scale"] + arrays["bias"])
    with pytest.raises(checkpoint.Damaged, match="is a damaged pair of numbers model: 'bias' is missing"):
        checkpoint.load(saved)
    monkeypatch.setattr(Pair, "_from_checkpoint", lambda arrays, metadata: checkpoint.parse(int, "x"))
    with pytest.raises(checkpoint.Damaged, match="damaged pair of numbers model: invalid literal"):
        checkpoint.load(saved)


def test_a_size_in_a_file_takes_no_memory(tmp_path):
    path = tmp_path / "model.saffu"
    ExplicitLM(order=3, radius=1, windows=(), induction=0).fit(np.arange(60) % 7).save(path)
    kind, arrays, metadata = checkpoint.read(path)
    for size, message in (
        (10**12, "vocab_size must be at most"),
        (2**31 - 1, "array 'unigram' must be"),
        (-1, "least"),
    ):
        checkpoint.write(path, kind, arrays, {**metadata, "vocab_size": size})
        with pytest.raises(checkpoint.Damaged, match=message):
            checkpoint.load(path)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_never_runs_amok(tmp_path_factory, position, value):
    path = tmp_path_factory.getbasetemp() / "fuzz.saffu"
    checkpoint.save(Pair(np.arange(5), 0.1), path)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(data)
    with suppress(ValueError):  # any other exception fails the test
        assert isinstance(checkpoint.load(path), Pair)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"plain text, not a model\n" * 9,
        struct.pack("<Q", 12) + b"{not json..}",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_what_is_not_a_model_is_named(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes.txt' is not a saffu model"):
        checkpoint.load(path)


def damaged_header(**changes):
    return json.dumps({"format": 1, "kind": "pair of numbers", "metadata": {"scale": 1}} | changes)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"format": "pt"}, "another safetensors file"),
        ({"saffu": "{"}, "metadata of .* is damaged"),
        ({"saffu": "[]"}, "metadata of .* is damaged"),
        ({"saffu": damaged_header(format="1")}, "metadata of .* is damaged"),
        ({"saffu": damaged_header(kind=3)}, "metadata of .* is damaged"),
        ({"saffu": damaged_header(metadata=None)}, "metadata of .* is damaged"),
        ({"saffu": '{"format": 2}'}, "has format 2, .* up to 1; install a newer saffu"),
        ({"saffu": damaged_header(kind="other")}, "unknown kind 'other'; known here: .*pair of numbers"),
        ({"saffu": damaged_header(metadata={})}, "damaged pair of numbers model: 'scale' is missing"),
        ({"saffu": damaged_header(metadata={"scale": -1})}, "damaged pair of numbers model: scale must be positive"),
    ],
)
def test_damaged_and_newer_metadata_is_named(tmp_path, headers, message):
    path = tmp_path / "model.saffu"
    save_file({"weights": np.zeros((2, 2))}, path, metadata=headers)
    with pytest.raises(ValueError, match=message):
        checkpoint.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_named(saved):
    reading, writing = os.pipe()
    try:
        with pytest.raises(ValueError, match="is a pipe; a model is read from a file"):
            checkpoint.load(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.saffu"):
        checkpoint.load(tmp_path / "nowhere.saffu")


@pytest.mark.parametrize("attempt", [checkpoint.check_writable, lambda path: checkpoint.write(path, "test", {}, {})])
def test_unwritable_outputs_are_named(tmp_path, attempt):
    with pytest.raises(OSError, match="it is a folder"):
        attempt(tmp_path)
    with pytest.raises(OSError, match="there is no folder"):
        attempt(tmp_path / "nowhere" / "model")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match="there is no folder"):
        attempt(file / "model")
    if os.path.exists(os.devnull) and not os.path.isfile(os.devnull):
        with pytest.raises(OSError, match="not a regular file"):
            attempt(os.devnull)
    assert files_in(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_outputs_are_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    file.chmod(0o400)
    with pytest.raises(OSError, match="read-only"):
        checkpoint.check_writable(file)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="in its folder"):
            checkpoint.check_writable(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)


def test_check_writable_leaves_nothing(saved):
    before = saved.read_bytes()
    checkpoint.check_writable(saved)
    checkpoint.check_writable(saved.parent / "new")
    assert saved.read_bytes() == before
    assert files_in(saved.parent) == ["model.saffu"]


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "message"),
    [
        ({"names": np.array(["a"])}, {}, TypeError, "array 'names' must be boolean, integer or float"),
        ({"z": np.array([1j])}, {}, TypeError, "array 'z' must be .* got complex128"),
        ({"o": np.array([None])}, {}, TypeError, "got object"),
        ({}, {"x": float("nan")}, ValueError, "not JSON compliant"),
        ({}, {"x": {1, 2}}, TypeError, "not JSON serializable"),
    ],
)
def test_what_cannot_be_stored_is_named(saved, arrays, metadata, error, message):
    before = saved.read_bytes()
    with pytest.raises(error, match=message):
        checkpoint.write(saved, "test", arrays, metadata)
    assert saved.read_bytes() == before
    assert files_in(saved.parent) == ["model.saffu"]


def test_unregistered_models_and_doubled_kinds_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"model must be one of .*pair of numbers.*, got dict"):
        checkpoint.save({}, tmp_path / "model")
    with pytest.raises(ValueError, match="already registered, by Pair"):
        checkpoint.register("pair of numbers")(dict)

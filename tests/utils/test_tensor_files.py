"""The file format: written here, read by safetensors, and mapped."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from saffu.utils import checkpoint, mapped_files, tensor_files


def arrays_of_every_type():
    rng = np.random.default_rng(0)
    kinds = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]
    found = {f"{kind} {i}": rng.integers(0, 2, 5 + 3 * i).astype(kind) for i, kind in enumerate(kinds)}
    return {**found, "matrix": rng.random((70, 300)), "none": np.empty((0, 4), np.int32), "one": np.array(3.5)}


def test_safetensors_reads_what_is_written(tmp_path):
    arrays = arrays_of_every_type()
    tensor_files.write(tmp_path / "file", arrays, lambda sums: {"text": 'é"\n'})
    found = load_file(tmp_path / "file")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_checksums_are_known_when_the_header_is_written(tmp_path):
    arrays = arrays_of_every_type()
    tensor_files.write(tmp_path / "file", arrays, lambda sums: {"sums": json.dumps(dict(sums))})
    content = (tmp_path / "file").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found = json.loads(header["__metadata__"]["sums"])
    assert found == {name: tensor_files.checksum(array) for name, array in arrays.items()}


def test_mapped_arrays_are_those_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "SMALL", 8)
    arrays = arrays_of_every_type()
    (tmp_path / "theirs").write_bytes(save(arrays))
    tensor_files.write(tmp_path / "ours", arrays, lambda sums: {})
    for name in ("theirs", "ours"):
        content = (tmp_path / name).read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        header.pop("__metadata__", None)
        found = dict(tensor_files.read_mapped(tmp_path / name, header))
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array, strict=True)
        assert mapped_files.is_mapped(found["matrix"])
        assert not found["matrix"].flags.writeable
        assert not mapped_files.is_mapped(found["one"])
        mapped_files.release(*found.values())
        np.testing.assert_array_equal(found["matrix"], arrays["matrix"])


@pytest.mark.parametrize("places", [[0, 41], [-8, 32], [0, 39], [8, 48], [40, 0]])
def test_a_place_outside_the_file_is_damage(tmp_path, places):
    tensor_files.write(tmp_path / "file", {"numbers": np.arange(5)}, lambda sums: {})
    entries = {"numbers": {"dtype": "I64", "shape": [5], "data_offsets": places}}
    with pytest.raises(ValueError, match="does not fit the file"):
        dict(tensor_files.read_mapped(tmp_path / "file", entries))


def test_only_models_that_can_be_mapped_are(tmp_path):
    checkpoint.write(tmp_path / "file", "bit-cipher", {"numbers": np.arange(100_000)}, {})
    _, arrays, _ = checkpoint.read(tmp_path / "file", mmap=True)
    assert not mapped_files.is_mapped(arrays["numbers"])
    checkpoint.write(tmp_path / "file", "explicit-lm", {"numbers": np.arange(100_000)}, {})
    _, arrays, _ = checkpoint.read(tmp_path / "file", mmap=True)
    assert mapped_files.is_mapped(arrays["numbers"])

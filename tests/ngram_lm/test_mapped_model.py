"""Models that are memory-mapped from their files."""

import numpy as np
import pytest

import saffu
from saffu.ngram_lm import serialization, statistics
from saffu.utils import checkpoint, mapped_files, tensor_files

V = 60
QUICK = {"order": 3, "windows": (), "induction": 0}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A model whose tables are stored as they are used, and every array is mapped."""
    monkeypatch.setattr(serialization, "LARGE", 1)
    monkeypatch.setattr(tensor_files, "SMALL", 8)
    ids = np.minimum(np.random.default_rng(0).zipf(1.4, 3000), V) - 1
    model = saffu.ExplicitLM(**QUICK).fit(ids, vocab_size=V)
    model.save(tmp_path / "model")
    return model, tmp_path / "model", ids


def test_a_mapped_model_is_the_same(saved):
    model, path, ids = saved
    mapped, read = saffu.load(path, mmap=True), saffu.load(path)
    for again, is_mapped in ((mapped, True), (read, False)):
        for table in again.counts.tables:
            arrays = table.indptr, table.indices, table.data
            assert [mapped_files.is_mapped(array) for array in arrays] == [is_mapped] * 3
        assert np.array_equal(again.log_prob(ids[:3]), model.log_prob(ids[:3]))
        assert np.array_equal(again.log_prob(ids), model.log_prob(ids))
        assert again.scalars == model.scalars


def test_its_statistics_need_no_pass_over_the_tables(saved, monkeypatch):
    model, path, ids = saved
    mapped = saffu.load(path, mmap=True)
    monkeypatch.setattr(statistics.Statistics, "of", None)
    assert np.array_equal(mapped.log_prob(ids[:3]), model.log_prob(ids[:3]))


def test_it_learns_on_as_any_other(saved, tmp_path):
    model, path, ids = saved
    mapped = saffu.load(path, mmap=True)
    for one in (model, mapped):
        one.update(ids[:200], documents=[0]).prime()
    assert mapped.scalars == model.scalars
    mapped.save(path)  # over the file that it is mapped from
    assert np.array_equal(saffu.load(path).log_prob(ids), model.log_prob(ids))


def test_damage_is_found_when_the_file_is_read(saved):
    _, path, _ = saved
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(checkpoint.Damaged, match="is not what was written"):
        saffu.load(path)
    saffu.load(path, mmap=True)


@pytest.mark.parametrize("name", ["table0.indptr", "table1.words", "table2.counts", "statistics.repeats"])
def test_arrays_that_do_not_fit_are_damage(saved, name):
    _, path, _ = saved
    kind, arrays, metadata = checkpoint.read(path)
    arrays[name] = arrays[name][:-1]
    checkpoint.write(path, kind, arrays, metadata)
    for mmap in (False, True):
        with pytest.raises(checkpoint.Damaged):
            saffu.load(path, mmap=mmap)

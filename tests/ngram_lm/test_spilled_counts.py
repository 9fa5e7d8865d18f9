"""Counts within a memory limit equal those without one, to the bit, and leave nothing behind."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu.ngram_lm import spilled_counts, table_merging
from saffu.ngram_lm.counts import NgramCounts
from saffu.utils import mapped_files, spill_folder
from saffu.utils.byte_sizes import byte_size
from saffu.utils.streams import TokenStream

V = 300


def text(n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.3, n), V) - 1
    documents = np.unique(np.append(0, rng.integers(0, n, n // 500)))
    return ids, documents


def assert_equal_counts(one, other):
    assert one.n_tokens == other.n_tokens
    assert np.array_equal(one.unigram, other.unigram)
    for a, b in zip(one.tables, other.tables, strict=True):
        assert a.shape == b.shape
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("indptr", "indices", "data"))


@pytest.fixture
def tiny(monkeypatch):
    """Every chunk goes to disk, and ranges of rows are short."""
    monkeypatch.setattr(spilled_counts, "SHARE_OF_PIECES", 0.0)
    monkeypatch.setattr(table_merging, "MOST_ENTRIES", 500)


@pytest.fixture(scope="module")
def plain():
    ids, documents = text()
    return saffu.ExplicitLM().fit(ids, documents=documents, vocab_size=V)


# ---- merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_merged_tables_are_the_sum(tmp_path, seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(3, 40))
    empty = NgramCounts(size, int(rng.integers(1, 4)), int(rng.integers(2, 6)), start_length=int(rng.integers(0, 3)))
    pieces = [
        empty.of_stream(TokenStream.of(rng.integers(0, size, rng.integers(1, 300)), [0]))
        for _ in range(rng.integers(1, 7))
    ]
    total = pieces[0]
    for piece in pieces[1:]:
        total = total.add(piece)
    memory = int(rng.choice([1, 64 * 7, 64 * 50, 1 << 30]))
    found = table_merging.merged(pieces, os.fspath(tmp_path), memory)
    assert_equal_counts(found, total)
    assert mapped_files.is_mapped(found.unigram) is False
    assert all(mapped_files.is_mapped(table.data) or table.nnz == 0 for table in found.tables)
    assert not [name for name in os.listdir(tmp_path) if "places" in name]


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_model_within_a_limit_is_the_same(plain, tiny, tmp_path, seed):
    ids, documents = text()
    rng = np.random.default_rng(seed)
    model = saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path)
    cuts = np.unique(rng.integers(1, ids.size, 1 + 9 * seed))
    for first, last in zip([0, *cuts], [*cuts, ids.size], strict=True):
        inside = documents[(documents >= first) & (documents < last)] - first
        model.partial_fit(ids[first:last], documents=inside, vocab_size=V)
    assert model.counted.counts.are_on_disk
    assert_equal_counts(model.counts, plain.counts)
    assert model.scalars == plain.scalars
    assert np.array_equal(model.log_prob(ids[:300]), plain.log_prob(ids[:300]))


def test_one_fit_is_counted_in_slices(plain, tiny, tmp_path):
    ids, documents = text()
    model = saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path).fit(ids, documents=documents, vocab_size=V)
    assert model.counted.limits.most_tokens(ids.size) < ids.size / 10
    assert_equal_counts(model.counts, plain.counts)
    assert model.scalars == plain.scalars


def test_text_may_come_and_go_after_counts_went_to_disk(tiny, tmp_path):
    ids, documents = text(6000)
    more = text(700, seed=1)[0]
    models = [saffu.ExplicitLM(), saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path)]
    for model in models:
        model.fit(ids, documents=documents, vocab_size=V)
        model.update(more, documents=[0]).subtract(ids[: documents[1]]).update(more[:50], documents=[0]).prime()
    assert_equal_counts(models[0].counts, models[1].counts)
    assert models[0].scalars == models[1].scalars


def test_larger_contexts_are_counted_within_the_limit_too(tiny, tmp_path):
    ids, documents = text(5000)
    models = [
        saffu.ExplicitLM(order=3, memory_limit=limit, spill_folder=tmp_path)
        .fit(ids, documents=documents, vocab_size=V)
        .grow(ids, documents=documents, order=4)
        for limit in (None, "1M")
    ]
    assert_equal_counts(models[0].counts, models[1].counts)
    assert models[0].scalars == models[1].scalars


def test_a_copy_does_not_need_the_folder(tiny, tmp_path):
    ids, _ = text(5000)
    model = saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path).partial_fit(ids, vocab_size=V)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    expected = model.counts.n_entries
    del model
    assert [one.counts.n_entries for one in copies] == [expected, expected]
    assert copies[0].partial_fit(ids, documents=[0]).n_tokens == 2 * ids.size


@pytest.mark.parametrize("limit", [None, "1M"])
def test_text_whose_counting_is_interrupted_was_never_given(monkeypatch, tmp_path, limit):
    ids, _ = text(2000)
    model = saffu.ExplicitLM(memory_limit=limit, spill_folder=tmp_path).partial_fit(ids, vocab_size=V)
    of_stream = NgramCounts.of_stream

    def interrupted(self, stream, **settings):
        if stream.ids.size < 400:
            raise KeyboardInterrupt
        return of_stream(self, stream, **settings)

    monkeypatch.setattr(NgramCounts, "of_stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.update(ids[:300])
    monkeypatch.undo()
    expected = saffu.ExplicitLM().partial_fit(ids, vocab_size=V).partial_fit(ids[300:600]).prime()
    model.partial_fit(ids[300:600]).prime()
    assert_equal_counts(model.counts, expected.counts)
    assert model.scalars == expected.scalars


def test_counts_are_kept_if_the_disk_is_full(tiny, tmp_path, monkeypatch):
    ids, _ = text(3000)
    expected = saffu.ExplicitLM().partial_fit(ids, vocab_size=V).counts
    model = saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path).partial_fit(ids[:1000], vocab_size=V)
    assert model.counts.n_tokens == 1000

    class Full:
        def __init__(self, path, dtype):
            raise OSError(f"cannot write into {path!r}: No space left on device")

    monkeypatch.setattr(table_merging, "ArrayFile", Full)
    model.partial_fit(ids[1000:2000])
    with pytest.raises(OSError, match="No space left on device"):
        model.partial_fit(ids[2000:])
    monkeypatch.undo()
    monkeypatch.setattr(spilled_counts, "SHARE_OF_PIECES", 0.0)
    model.partial_fit(ids[2000:])
    assert_equal_counts(model.counts, expected)


def test_merging_chunks_costs_little_more_than_counting_them_at_once():
    pieces, n_written = [], 0
    counts = saffu.ngram_lm.incremental_counts.IncrementalCounts()
    empty = NgramCounts(V, 2, 3)
    for seed in range(64):
        piece = empty.of_stream(TokenStream.of(text(500, seed)[0], [0]))
        before = list(counts.pieces)
        counts.push(piece)
        n_written += sum(held.n_entries for held in counts.pieces if held not in before)
        pieces.append(piece.n_entries)
    assert n_written <= 7 * sum(pieces)  # 1 + log2(64)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_the_folder_is_gone_with_its_model(tiny, tmp_path):
    ids, _ = text(3000)
    model = saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path).partial_fit(ids, vocab_size=V)
    assert len(os.listdir(tmp_path)) == 1
    del model
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_error(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    model = saffu.ExplicitLM(memory_limit="1M", spill_folder=tmp_path / "file")
    with pytest.raises(OSError, match=r"cannot write into the folder .*file'"):
        model.fit(text(3000)[0], vocab_size=V)


KILLED = """
import os, sys, time
from saffu.utils.spill_folder import SpillFolder
folder = SpillFolder(sys.argv[1])
open(os.path.join(folder.new(), "run"), "w").write("counts")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_a_killed_process_leaves_is_removed_by_the_next_one(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", KILLED, tmp_path]
    alive, killed = (subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        assert [process.stdout.readline() for process in (alive, killed)] == ["ready\n"] * 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        names = os.listdir(tmp_path)
        assert len(names) == 2
        own = spill_folder.SpillFolder(tmp_path)
        left = {int(name.removeprefix(spill_folder.PREFIX).split("-")[0]) for name in os.listdir(tmp_path)}
        assert left == {alive.pid, os.getpid()}
        own.remove()
    finally:
        for process in (alive, killed):
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_folder_that_is_just_being_made_stays(tmp_path):
    young, old = (tmp_path / f"{spill_folder.PREFIX}{name}" for name in ("young", "old"))
    young.mkdir()
    old.mkdir()
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    spill_folder.remove_stale(tmp_path)
    assert os.listdir(tmp_path) == [young.name]


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "size"),
    [("512M", 512 << 20), ("2G", 2 << 30), ("1.5 GiB", 3 << 29), ("2gb", 2 << 30), (1 << 22, 1 << 22)],
)
def test_sizes(given, size):
    assert byte_size(given, "memory_limit") == size


@pytest.mark.parametrize("given", ["", "many", "-2G", "2X", "10", 5, "2 G B", "4000T"])
def test_what_is_no_size_is_one_error(given):
    with pytest.raises(ValueError, match=r"memory_limit must be .*'?"):
        saffu.ExplicitLM(memory_limit=given)
    with pytest.raises(TypeError, match="memory_limit must be bytes"):
        saffu.ExplicitLM(memory_limit=2.5)

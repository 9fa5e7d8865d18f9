"""The sample of labelled rows: bounded, the same in any chunks, fair, and no order but that of content."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import saffu.classifier.row_sample
from helpers.rows import problem
from saffu import SoftmaxLayer
from saffu.classifier.row_sample import RowSample, content_keys, keys, mixed
from saffu.utils import checkpoint


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(saffu.classifier.row_sample, "SAMPLE_ROWS", 40)


def assert_same(a, b):
    assert a.n_seen == b.n_seen
    for name in ("bound", "mass", "index", "key", "features", "targets", "weights"):
        one, other = getattr(a, name), getattr(b, name)
        one, other = (each.toarray() if hasattr(each, "toarray") else each for each in (one, other))
        np.testing.assert_array_equal(one, other)


def stream(n, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    y = rng.choice(5, n, p=[0.6, 0.3, 0.06, 0.03, 0.01]).astype(np.int32)
    return rng.poisson(1.0, (n, 3)).astype(float), y, rng.random(n) if weighted else None


@given(st.lists(st.integers(0, 2000), max_size=6), st.booleans(), st.booleans())
def test_any_chunks_leave_the_same_sample(cuts, weighted, sparse):
    saffu.classifier.row_sample.SAMPLE_ROWS, before = 40, saffu.classifier.row_sample.SAMPLE_ROWS
    try:
        X, y, weights = stream(2000, weighted=weighted)
        X = csr_array(X) if sparse else X
        whole, pieces = RowSample(), RowSample()
        whole.add(X, y, weights, 5)
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 2000], strict=True):
            pieces.add(X[begin:end], y[begin:end], None if weights is None else weights[begin:end], 5)
        assert_same(whole, pieces)
        assert whole.index.size <= 40
    finally:
        saffu.classifier.row_sample.SAMPLE_ROWS = before


def test_merging_what_comes_next_is_one_stream(few):
    X, y, _ = stream(2000)
    whole, first, rest = RowSample(), RowSample(), RowSample()
    whole.add(X, y, None, 5)
    first.add(X[:1970], y[:1970], None, 5)
    rest.add(X[1970:], y[1970:], None, 5)  # these all fit
    first.merge(rest)
    assert_same(whole, first)


def test_many_layers_of_one_row_are_merged(few):
    X, y, _ = stream(300)
    sample = RowSample()
    for row in range(300):
        one = RowSample()
        one.add(X[row : row + 1], y[row : row + 1], None, 5)
        sample.merge(one)
    whole = RowSample()
    whole.add(X, y, None, 5)
    assert_same(whole, sample)


@pytest.mark.parametrize("weighted", [False, True])
def test_rare_classes_are_kept_and_weights_make_up_for_the_others(few, weighted):
    X, y, weights = stream(1500, weighted=weighted)
    sample = RowSample()
    sample.add(X, y, weights, 5)
    for limit in (1000, 20):
        rows = sample.primed(limit)
        kept = np.bincount(rows.targets, minlength=5)
        assert (kept >= min(limit, 32) // 5 - 1).all()  # equal rows are one
        np.testing.assert_allclose(
            np.bincount(rows.targets, rows.weights), np.bincount(y, weights, minlength=5), rtol=1e-12
        )


def test_rows_of_merged_streams_are_kept_alike(few):
    """A row is as likely to stay whether its stream was thinned before or not."""
    kept = np.zeros(4)
    for seed in range(80):
        sample = RowSample(n_seen=1000 * seed)
        for part in range(4):
            other = RowSample(n_seen=5000 * seed + 100 * part)
            origin = np.full((300, 1), float(part))
            other.add(origin, np.zeros(300, np.int32), None, 1)
            sample.merge(other)
        assert sample.index.size <= 40
        kept += np.bincount(sample.features[:, 0].astype(int), minlength=4)
        assert sample.primed(1000).weights.sum() == pytest.approx(1200)
    np.testing.assert_allclose(kept / kept.sum(), 0.25, atol=0.04)


@pytest.mark.parametrize("period", [2, 3, 4, 64, 1000])
def test_a_periodic_stream_has_all_its_phases(monkeypatch, period):
    monkeypatch.setattr(saffu.classifier.row_sample, "SAMPLE_ROWS", 4000)
    phase = np.arange(64_000) % period
    sample = RowSample()
    sample.add(phase[:, None].astype(float), np.zeros(64_000, np.int32), None, 1)
    counts = np.bincount(phase[sample.index], minlength=period)
    expected = sample.index.size / period
    assert np.square(counts - expected).sum() / expected < period + 5 * np.sqrt(2 * period)


def test_long_rows_are_bounded_by_their_values(monkeypatch):
    monkeypatch.setattr(saffu.classifier.row_sample, "SAMPLE_VALUES", 300)
    H, y = problem(100)
    assert SoftmaxLayer().fit(H, y)._fitted.sample.index.size <= 10
    assert 1 < SoftmaxLayer().fit(csr_array(H), y)._fitted.sample.features.nnz <= 300
    monkeypatch.setattr(saffu.classifier.row_sample, "SAMPLE_VALUES", 7)  # less than a row
    assert SoftmaxLayer().fit(H, y)._fitted.sample.index.size == 1
    assert SoftmaxLayer().fit(H, y).weights.shape == (30, 4)


def test_more_classes_than_rows_are_kept(few):
    X = np.random.default_rng(0).poisson(1.0, (300, 4)).astype(float)
    layer = SoftmaxLayer().fit(X, np.arange(300))
    assert 1 <= layer._fitted.sample.index.size <= 40
    assert np.isfinite(layer.weights).all()


@given(st.permutations(range(30)), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_order_and_form_do_not_matter_for_priming(order, sparse, dtype):
    X, y, weights = stream(30, weighted=True)
    X[10:20], y[10:20] = X[:10], y[:10]  # some rows are equal
    plain, other = RowSample(), RowSample()
    plain.add(X, y, weights, 5)
    X, y, weights = X[order].astype(dtype), y[order], weights[order]
    other.add(csr_array(X) if sparse else X, y, weights, 5)
    a, b = plain.primed(100), other.primed(100)
    np.testing.assert_array_equal(a.features, b.features.toarray() if sparse else b.features)
    for name in ("targets", "repeats", "weights"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.repeats.sum() == pytest.approx(weights.sum(), rel=1e-12)
    assert len(np.unique(np.column_stack([a.features, a.targets]), axis=0)) == a.targets.size


def test_rows_differ_by_any_value_place_or_target():
    X = np.array([[1.0, 0, 2], [0, 1, 2], [2, 0, 1], [1, 0, 2], [1, 0, -0.0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    keys = content_keys(X, np.array([0, 0, 0, 1, 0, 0, 0, 1], np.int32))
    for key in keys:
        assert len(set(key.tolist())) == 7  # minus zero is zero
    soft = content_keys(X[:3], np.array([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]]))
    assert len(set(soft[0].tolist())) == 3
    rows = np.random.default_rng(0).integers(0, 3, (5000, 12)).astype(float)
    first, second = content_keys(rows, np.zeros(5000, np.int32))
    distinct = len(np.unique(rows, axis=0))
    assert len(set(first.tolist())) == len(set(second.tolist())) == distinct


def test_hashes_are_those_of_splitmix():
    # The first numbers of SplitMix64 from the seed 1234567, as published with its reference code.
    state = np.array([1234567], np.uint64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    for value in expected:
        assert int(mixed(state)[0]) == value
        state = state + np.uint64(0x9E3779B97F4A7C15)


def test_keys_are_even_and_do_not_depend_on_one_another():
    found = keys(np.arange(1 << 16))
    assert found.min() >= 0
    assert found.max() < 1
    np.testing.assert_allclose(np.histogram(found, 16, (0, 1))[0] / (1 << 12), 1, atol=0.06)
    for lag in (1, 2, 1024):
        assert abs(np.corrcoef(found[lag:], found[:-lag])[0, 1]) < 0.015


def test_a_file_without_keys_still_loads_and_takes_more_rows(tmp_path):
    """As versions before wrote them: rows whose number is a multiple of a power of two."""
    H, y = problem(100)
    layer = SoftmaxLayer().fit(H, y)
    arrays, metadata = layer._to_checkpoint()
    for name in ("sample.key", "sample.bound", "sample.mass"):
        del arrays[name]
    del metadata["class_names"]
    for name in ("index", "targets", "features", "weights"):
        arrays[f"sample.{name}"] = np.ascontiguousarray(arrays[f"sample.{name}"][::4])
    checkpoint.write(tmp_path / "old", "softmax-layer", arrays, metadata | {"stride": 4})
    old = checkpoint.load(tmp_path / "old")
    np.testing.assert_array_equal(old.weights, layer.weights)
    assert old._fitted.sample.bound.tolist() == [0.25] * 4
    old.partial_fit(H, y)
    assert 45 < old._fitted.sample.index.size < 85
    assert np.isfinite(old.weights).all()
    np.testing.assert_allclose(old._fitted.sample.primed(100).weights.sum(), 200)
    checkpoint.write(tmp_path / "old", "softmax-layer", arrays, metadata | {"stride": 0})
    with pytest.raises(ValueError, match="sample"):
        checkpoint.load(tmp_path / "old")

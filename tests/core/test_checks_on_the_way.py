"""What a kernel follows is checked in the pass that reads it: every bad entry is found, wherever it lies."""

import numpy as np
import pytest

from saffu import _core

pytestmark = pytest.mark.kernels

STARTS = np.array([2, 3, 9, 9, 20, 29], np.int64)  # a gap before the first, one of a single token, one of none


@pytest.mark.parametrize("distances", [[1], [4], [1, 3]])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_counting_finds_a_bad_target_at_every_place(distances, n_threads):
    ids = (np.arange(30) % 7).astype(np.int32)
    for place in range(30):
        for bad in (7, -1, -(2**31), 2**31 - 1):
            targets = ids.copy()
            targets[place] = bad
            with pytest.raises(ValueError, match=f"targets out of range: expected 0 to 6, got {bad} at place {place}"):
                _core.count(ids, targets, np.array(distances), STARTS, 7, 7, n_threads)


def test_counting_at_one_distance_without_any_column():
    ids = np.zeros(5, np.int32)
    with pytest.raises(ValueError, match="targets out of range"):
        _core.count(ids, ids, np.array([1]), np.array([0]), 1, 0, 1)


@pytest.mark.parametrize("n_rows", [3, 700])  # rows are looked at 256 together
def test_weighing_finds_a_bad_parent_and_a_bad_count_in_every_row(n_rows):
    indptr = np.arange(n_rows + 1) * 2
    counts, parent = np.full(2 * n_rows, 3), np.zeros(2 * n_rows, np.int32)
    lower, discounts = np.array([0.5, 0.5]), np.array([0.5, 0.6, 0.7])
    for place in (0, 1, n_rows, 2 * n_rows - 1):
        for bad in (2, -1, 2**31 - 1):
            other = parent.copy()
            other[place] = bad
            with pytest.raises(ValueError, match=f"parent out of range: expected 0 to 1, got {bad} at place {place}"):
                _core.weigh(indptr, counts, other, lower, discounts, 1)
        other = counts.copy()
        other[place] = -1
        with pytest.raises(ValueError, match="counts must be finite and not negative"):
            _core.weigh(indptr, other, parent, lower, discounts, 1)


def test_packing_takes_words_that_descend_between_rows_only():
    lengths = np.random.default_rng(0).integers(0, 5, 1000)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    words = np.concatenate([np.arange(n) * 3 for n in lengths]).astype(np.int32)
    u = np.ones(words.size)
    _core.pack(indptr, words, u, 1)
    for row in np.flatnonzero(lengths > 1)[::50]:
        for change in (-1, 0):  # below the word before, or the same
            other = words.copy()
            other[indptr[row] + 1] = other[indptr[row]] + change
            with pytest.raises(ValueError, match=r"must ascend|words out of range"):
                _core.pack(indptr, other, u, 1)
    for row, bad in ((np.flatnonzero(lengths)[0], -1), (np.flatnonzero(lengths)[-1], 2**31 - 1)):
        other = words.copy()
        other[indptr[row] if bad < 0 else indptr[row + 1] - 1] = bad
        with pytest.raises(ValueError, match="words out of range"):
            _core.pack(indptr, other, u, 1)


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 3), (np.float64, 2)])
def test_the_longest_beginning_of_which_enough_is_seen(dtype, most):
    rng = np.random.default_rng(1)
    for density in (0.02, 0.3, 0.5, 0.7, 1.0):
        words = np.flatnonzero(rng.random(2000) < density * np.linspace(1.2, 0.2, 2000)).astype(np.int32)
        u = np.ones(words.size, dtype)
        head_ptr, head, _, tail_word, _ = _core.pack(np.array([0, words.size]), words, u, 1)
        ends = 16 * (np.unique(words // 16) + 1)  # of blocks with a word
        lengths = [n for n in ends if most * (words < n).sum() >= n]
        assert head_ptr[1] == max(lengths, default=0) == head.size
        np.testing.assert_array_equal(tail_word, words[words >= head.size])


def test_log_sums_name_their_own_argument():
    X, words = np.zeros((2, 3)), np.arange(3, dtype=np.int32)
    with pytest.raises(ValueError, match="begins must ascend"):
        _core.log_sums(X, words, np.array([0, 2, 1, 3]), np.empty((2, 3)), 1)


@pytest.fixture
def small_blocks():
    before = _core._first_block(1)
    yield
    _core._first_block(before)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_weights_by_feature_in_blocks(dtype, large, small_blocks):
    F = np.random.default_rng(2).random((203, 37)).astype(dtype)
    F[:2, 5] = np.finfo(dtype).max if large else 1.0
    parts = _core.log_weights(F, False, 0.1, 0.9, 1)
    _core._first_block(1 << 24)
    for part, whole in zip(parts, _core.log_weights(F, False, 0.1, 0.9, 1), strict=True):
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("add", [False, True])
def test_moments_of_many_classes_in_blocks_of_features(add, small_blocks):
    rng = np.random.default_rng(3)
    H, labels = rng.random((500, 150)), rng.integers(0, 3000, 500).astype(np.int32)
    weights, F, mass = rng.random(500), np.ones((3000, 150)), np.ones(3000)
    _core.moments_labels(H, labels, weights, F, mass, add, 2)
    expected, expected_mass = np.full((3000, 150), float(add)), np.full(3000, float(add))
    np.add.at(expected, labels, weights[:, None] * H)
    np.add.at(expected_mass, labels, weights)
    np.testing.assert_allclose(F, expected, rtol=1e-14)
    np.testing.assert_allclose(mass, expected_mass, rtol=1e-14)


def test_a_distribution_is_that_of_its_position_alone():
    """The windows of a batch move on from position to position; those of a single position are filled."""
    rng = np.random.default_rng(4)
    V, n = 60, 90
    ids, share = rng.integers(0, V, 200).astype(np.int32), rng.dirichlet(np.ones(V))
    prior = np.zeros((2, 64))
    prior[:, :V] = np.log(share)
    packed = _core.pack(np.array([0, 20]), np.arange(20, dtype=np.int32), rng.random(20), 1)
    pool = _core.Pool(packed, prior, share, np.full((1, 6), 0.7), 1, np.array([5, 40]), np.array([3.0, 9.0]), 30, 2.0)
    positions, rows, none = np.arange(100, 100 + n), np.zeros((n, 1), np.int32), np.zeros(n, np.int32)
    begins = np.full(n, 20)
    whole = pool.distribution(_core.Batch(ids, positions, begins, rows, none), 1)
    for i in range(n):
        batch = _core.Batch(ids, positions[i : i + 1], begins[:1], rows[:1], none[:1])
        np.testing.assert_allclose(whole[i], pool.distribution(batch, 1)[0], rtol=1e-12)
    np.testing.assert_allclose(whole.sum(1), 1)

"""Attention over windows of a stream against its naive twins, its derivatives, and what must not change its bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import reference
from helpers.attention import aligned, attend, attend_backward, comparisons
from saffu import _core
from saffu.attention_lm import windows as attention
from saffu.attention_lm.windows import ComparisonCache, Windows

pytestmark = pytest.mark.kernels

TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


def random_windows(rng, n, n_ids, n_types, n_positions, step):
    """Windows of all lengths, anywhere in a random stream, with heads anywhere."""
    ids = rng.integers(0, n_types, n_ids)
    length = rng.integers(0, min(n_positions, n_ids) + 1, n)
    oldest = rng.integers(0, n_ids - length + 1)
    first = oldest if step == 1 else oldest + length - 1
    head = np.where(length > 0, rng.integers(0, n_ids, n), -7)
    return Windows(ids, np.where(length > 0, first, -9), length, head, step, n_positions)


def parameters(rng, n_types, d, n_positions, dtype):
    X = rng.dirichlet(np.ones(d), n_types).astype(dtype)
    return X, rng.normal(0, 2, (n_positions, n_positions)).astype(dtype), rng.normal(0, 2, n_positions).astype(dtype)


def plain(windows):
    """Arguments of the twins."""
    return windows.ids, windows.first, windows.length, windows.head, windows.step


@st.composite
def problems(draw):
    """Windows, X, W, bias or None: dtypes and shapes of all sorts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, n_positions = draw(st.integers(0, 140)), draw(st.sampled_from([0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 70]))
    d, n_types = (
        draw(st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 50, 64, 65, 100])),
        draw(st.integers(1, 30)),
    )
    windows = random_windows(rng, n, draw(st.integers(1, 90)), n_types, n_positions, draw(st.sampled_from([1, -1])))
    X, W, bias = parameters(rng, n_types, d, n_positions, draw(st.sampled_from([np.float32, np.float64])))
    return windows, X, W, draw(st.sampled_from([bias, None]))


@given(problems())
def test_equals_reference(problem):
    windows, X, W, bias = problem
    tolerance = TOLERANCE[X.dtype]
    found = attend(windows, X, W, bias, n_threads=1)
    for ours, twin in zip(found, reference.attend(*plain(windows), X, W, bias), strict=True):
        assert ours.dtype == X.dtype
        np.testing.assert_allclose(ours, twin, rtol=10 * tolerance, atol=tolerance)
    np.testing.assert_array_equal(comparisons(windows, X, n_threads=1), found[2])


@given(problems(), st.integers(0, 2**32 - 1))
def test_backward_equals_reference(problem, seed):
    windows, X, W, bias = problem
    rng, tolerance = np.random.default_rng(seed), 20 * TOLERANCE[X.dtype]
    Z, A, S = attend(windows, X, W, bias, n_threads=1)
    dZ, before = rng.normal(0, 1, Z.shape).astype(X.dtype), rng.normal(0, 1, X.shape).astype(X.dtype)
    dX = before.copy()
    found = attend_backward(windows, X, W, dZ, A, S, dX, n_threads=1)
    *expected, gradient = reference.attend_backward(*plain(windows), X, W, dZ, A, S)
    scale = max(1, len(windows))
    for ours, twin in zip((*found, dX), (*expected, gradient + before), strict=True):
        assert ours.dtype == X.dtype
        np.testing.assert_allclose(ours, twin, rtol=tolerance, atol=tolerance * scale)


@pytest.fixture(autouse=True, scope="module")
def partial_tables_of_any_width():
    """Small embeddings are narrow; their partial tables are tested all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "WIDE_BYTES", 0)
        yield


def test_narrow_embeddings_have_a_whole_table_or_none(monkeypatch):
    monkeypatch.setattr(attention, "WIDE_BYTES", 1024)
    narrow, wide = np.ones((20, 255), np.float32), np.ones((20, 256), np.float32)
    assert ComparisonCache(narrow, 400 * 4).table.shape == (20, 20)
    assert ComparisonCache(narrow, 399 * 4).table is None
    assert ComparisonCache(wide, 399 * 4).table.shape == (19, 19)


@given(problems(), st.integers(0, 33))
def test_cached_comparisons_have_the_bits_of_computed_ones(problem, n_cached):
    windows, X, W, bias = problem
    cache = ComparisonCache(X, n_cached**2 * X.itemsize, n_threads=1)
    n = min(n_cached, len(X))
    if n == 0:
        assert cache.table is None
    else:
        assert cache.table.shape == (n, n)
        np.testing.assert_allclose(cache.table, X[:n] @ X[:n].T, rtol=1e-5)
    S = comparisons(windows, X, n_threads=1)
    np.testing.assert_array_equal(comparisons(windows, X, cache, 1), S)
    plain = attend(windows, X, W, bias, n_threads=1)
    for other in (attend(windows, X, W, bias, cache, 1), attend(windows, X, W, bias, None, 1, S)):
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_array_equal(a, b)


def many(dtype, d, n_positions):
    rng = np.random.default_rng(d)
    windows = random_windows(rng, 5000, 3000, 200, n_positions, -1)
    X, W, bias = parameters(rng, 200, d, n_positions, dtype)
    return windows, X, W, bias, rng.normal(0, 1, (5000, d)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "n_positions"), [(5, 3), (50, 9), (97, 16)])
def test_bits_do_not_depend_on_threads(dtype, d, n_positions):
    windows, X, W, bias, dZ = many(dtype, d, n_positions)

    def run(n_threads):
        cache, dX = ComparisonCache(X, 90**2 * X.itemsize, n_threads), np.ones_like(X)
        Z, A, S = attend(windows, X, W, bias, cache, n_threads)
        gradients = attend_backward(windows, X, W, dZ, A, S, dX, n_threads=n_threads)
        return Z, A, S, comparisons(windows, X, None, n_threads), cache.table, dX, *gradients

    one = run(1)
    for n_threads in (2, 3, 7):
        for a, b in zip(one, run(n_threads), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_alignment(dtype):
    windows, X, W, bias, _ = many(dtype, 50, 9)
    copy, shifted = aligned(X), aligned(np.concatenate([X.reshape(-1)[:1], X.reshape(-1)]))[1:].reshape(X.shape)
    assert copy.ctypes.data % 64 == 0
    assert shifted.ctypes.data % 64 == X.itemsize
    for a, b in zip(attend(windows, copy, W, bias), attend(windows, shifted, W, bias), strict=True):
        np.testing.assert_array_equal(a, b)


def difference(function, x, place, step=1e-5):
    """Central difference of a function of an array by one entry."""
    moved = [x.copy(), x.copy()]
    moved[0][place] += step
    moved[1][place] -= step
    return (function(moved[0]) - function(moved[1])) / (2 * step)


def test_gradients_are_derivatives():
    rng = np.random.default_rng(3)
    windows = random_windows(rng, 40, 30, 6, 5, -1)  # few types: one token is several elements, and the head as well
    X, W, bias = parameters(rng, 6, 9, 5, np.float64)
    X *= 3
    target = rng.normal(0, 1, (40, 9))

    def loss(X=X, W=W, bias=bias):
        return float((attend(windows, X, W, bias, n_threads=1)[0] * target).sum())

    _, A, S = attend(windows, X, W, bias, n_threads=1)
    dX = np.zeros_like(X)
    dW, dbias, _ = attend_backward(windows, X, W, target, A, S, dX, n_threads=1)
    for name, x, gradient in [("X", X, dX), ("W", W, dW), ("bias", bias, dbias)]:
        for place in np.ndindex(x.shape):
            expected = difference(lambda moved, name=name: loss(**{name: moved}), x, place)
            assert gradient[place] == pytest.approx(expected, rel=1e-6, abs=1e-6), (name, place)


def test_gradient_by_comparisons():
    rng = np.random.default_rng(4)
    windows = random_windows(rng, 12, 30, 6, 5, 1)
    X, W, bias = parameters(rng, 6, 20, 5, np.float64)
    target = rng.normal(0, 1, (12, 20))
    _, A, S = attend(windows, X, W, bias, n_threads=1)
    dS = attend_backward(windows, X, W, target, A, S, np.zeros_like(X), n_threads=1)[2]
    assert attend_backward(windows, X, W, target, A, S, n_threads=1)[2] is None

    def loss(S):
        return float((attend(windows, X, W, bias, comparisons=S, n_threads=1)[0] * target).sum())

    for place in np.ndindex(S.shape):
        assert dS[place] == pytest.approx(difference(loss, S, place), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positions_that_are_switched_off(dtype):
    windows = Windows([0, 1, 2, 1], [3, 3], [4, 2], [3, 3], -1)
    X, W, _ = parameters(np.random.default_rng(0), 3, 18, 4, dtype)
    bias = np.array([-np.inf, -np.inf, 0, -np.inf], dtype)
    Z, A, S = attend(windows, X, W, bias)
    np.testing.assert_array_equal(A, [[0, 0, 1, 0], [0.5, 0.5, 0, 0]])  # nothing but -inf: uniform
    np.testing.assert_allclose(Z, [X[1], (X[1] + X[2]) / 2], rtol=1e-6)
    found = attend_backward(windows, X, W, np.ones_like(Z), A, S, np.zeros_like(X))
    assert all(np.isfinite(gradient).all() for gradient in found)


def test_nan_is_not_hidden():
    windows, X, W = Windows([0, 1], [0], [2], [1]), np.ones((2, 16)), np.full((2, 2), np.nan)
    assert np.isnan(attend(windows, X, W)[0]).all()


def test_empty_streams_and_no_windows():
    X, W = np.ones((3, 4)), np.ones((2, 2))
    Z, A, S = attend(Windows([], [-1, 5], [0, 0], [0, 0], n_positions=2), X, W)
    assert Z.tolist() == [[0] * 4] * 2
    assert A.tolist() == S.tolist() == [[0, 0]] * 2
    none = Windows([0], [], [], [], n_positions=2)
    Z, A, S = attend(none, X, W)
    assert (Z.shape, A.shape, S.shape) == ((0, 4), (0, 2), (0, 2))
    dW, dbias, _ = attend_backward(none, X, W, Z, A, S)
    assert dW.tolist() == [[0, 0]] * 2
    assert dbias.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("ids", "first", "length", "head", "step"),
    [
        ([0, 3, 1], [0], [2], [0], 1),  # an id that is not below V
        ([0, 3, 1], [0], [1], [1], 1),  # the same, of the head
        ([0, 1, 2], [-1], [2], [0], 1),
        ([0, 1, 2], [3], [1], [0], -1),
        ([0, 1, 2], [2], [2], [0], 1),
        ([0, 1, 2], [0], [2], [0], -1),
        ([0, 1, 2], [2**62], [2], [0], 1),
        ([0, 1, 2], [0], [2], [3], 1),
        ([0, 1, 2], [0], [2], [-1], 1),
    ],
)
def test_out_of_range(ids, first, length, head, step):
    windows, X, W = Windows(ids, first, length, head, step), np.ones((3, 20)), np.ones((max(length), max(length)))
    Z, A = np.zeros((1, 20)), np.zeros((1, len(W)))
    for read in [
        lambda: comparisons(windows, X),
        lambda: comparisons(windows, X, ComparisonCache(X)),
        lambda: attend(windows, X, W),
        lambda: attend_backward(windows, X, W, Z, A, A, np.zeros_like(X)),
    ]:
        with pytest.raises(ValueError, match="out of range"):
            read()


def test_arguments_are_checked():
    windows, X, W = Windows([0, 1], [0], [2], [1]), np.ones((2, 5)), np.ones((2, 2))
    Z, A, S = attend(windows, X, W)
    wrong_forward = [(X, np.ones((3, 2))), (X, np.ones((2, 3))), (X, W, np.ones(3))]
    for arguments in wrong_forward:
        with pytest.raises(ValueError, match="equal lengths"):
            attend(windows, *arguments)
    with pytest.raises(ValueError, match="equal lengths"):
        attend(windows, X, W, comparisons=np.ones((1, 3)))
    for arguments in [(Z[:, :4], A, S), (Z, A[:, :1], S), (Z, A, S[:0]), (Z, A, S, np.ones((2, 4)))]:
        with pytest.raises(ValueError, match="equal lengths"):
            attend_backward(windows, X, W, *arguments)
    with pytest.raises(ValueError, match="share memory"):
        attend_backward(windows, X, W, Z, A, S, X)
    with pytest.raises(ValueError, match="larger than the vocabulary"):
        _core.comparisons(windows.view, X, np.ones((3, 3)), 1)
    with pytest.raises(ValueError, match="length must be between 0 and 1"):
        Windows([0, 1], [0], [2], [1], n_positions=1)
    with pytest.raises(ValueError, match="length must be between"):
        Windows([0, 1], [0], [-1], [1])
    with pytest.raises(ValueError, match="step must be"):
        Windows([0, 1], [0], [1], [1], 2)
    with pytest.raises(ValueError, match="equal lengths"):
        Windows([0, 1], [0, 1], [1], [1])


# ---- windows and the cache -------------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.lists(st.integers(0, 30), max_size=4), st.integers(1, 9))
def test_windows_stay_in_their_document(n, starts, size):
    documents = sorted({0, *(start for start in starts if start < n)}) if n else []
    ids, positions = np.arange(n), np.arange(n + 1)
    radial = Windows.radial(ids, documents, positions, size)
    block = Windows.block(ids, documents, positions, size)
    assert radial.n_positions == block.n_positions == size
    for t in positions:
        begin = max((start for start in documents if start <= t), default=0)
        seen = [ids[radial.first[t] - k] for k in range(radial.length[t])]
        assert seen == list(range(t - 1, max(begin, t - size) - 1, -1))
        blocks = [list(range(at, min(at + size, t))) for at in range(begin, t, size)]
        assert [ids[block.first[t] + k] for k in range(block.length[t])] == (blocks[-1] if blocks else [])
        if t > begin:
            assert radial.head[t] == block.head[t] == t - 1
    X, W = np.eye(max(n, 1)), np.ones((size, size))
    for windows in (radial, block):
        np.testing.assert_array_equal(attend(windows, X, W, n_threads=1)[1].sum(1) > 0, windows.length > 0)


def test_positions_are_checked():
    for positions in ([-1], [4]):
        with pytest.raises(ValueError, match="positions must be between 0 and 3"):
            Windows.radial([0, 1, 2], None, positions, 2)
    with pytest.raises(ValueError, match="one-dimensional"):
        Windows.block([0, 1, 2], None, [[1]], 2)
    with pytest.raises(ValueError, match="radius must be at least 1"):
        Windows.radial([0], None, [0], 0)
    with pytest.raises(ValueError, match="block must be at least 1"):
        Windows.block([0], None, [0], 0)


def test_cache_of_other_embeddings():
    windows, X = Windows([0, 1, 1], [0], [3], [2]), np.random.default_rng(0).random((2, 20))
    cache = ComparisonCache(X)
    np.testing.assert_array_equal(comparisons(windows, X, cache), comparisons(windows, X))
    np.testing.assert_array_equal(comparisons(windows, X[:], cache), comparisons(windows, X))  # a view of the same
    other = X + 1
    with pytest.raises(ValueError, match="other embeddings"):
        comparisons(windows, other, cache)
    cache.invalidate()
    np.testing.assert_array_equal(comparisons(windows, other, cache), comparisons(windows, other))
    cache.refresh(other)
    np.testing.assert_array_equal(comparisons(windows, other, cache), comparisons(windows, other))

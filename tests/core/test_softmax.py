"""Softmax, logsumexp and cross-entropy over rows against their naive twins."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from helpers import reference
from saffu import _core

pytestmark = pytest.mark.kernels

TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


@st.composite
def logits(draw):
    n_rows, n_columns = draw(st.integers(0, 9)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.normal(0, draw(st.sampled_from([0.1, 10.0, 300.0])), (n_rows, n_columns))
    X[rng.random(X.shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = -np.inf
    return X.astype(draw(st.sampled_from([np.float32, np.float64])))


@given(logits())
def test_equals_reference(X):
    tolerance = TOLERANCE[X.dtype]
    scale = max(1.0, np.abs(X[np.isfinite(X)]).max(initial=0.0))
    expected = reference.log_softmax(X)
    np.testing.assert_allclose(_core.softmax(X, True, 1), expected, rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(_core.softmax(X, False, 1), np.exp(expected), rtol=tolerance * scale, atol=1e-37)
    np.testing.assert_allclose(_core.logsumexp(X, 1), reference.logsumexp(X), rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(_core.softmax(X, False, 1).sum(1), np.ones(len(X)), rtol=1e-5)


@given(logits(), st.integers(0, 2**32 - 1))
def test_cross_entropy_equals_reference(X, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, X.shape[1], len(X)).astype(np.int32)
    targets = rng.dirichlet(np.ones(X.shape[1]), len(X)).astype(X.dtype).reshape(X.shape)
    targets[np.isinf(X) & ~np.isinf(X).all(1, keepdims=True)] = 0  # an impossible class that is no target costs nothing
    log_p = reference.log_softmax(X)
    tolerance = TOLERANCE[X.dtype] * max(1.0, np.abs(X[np.isfinite(X)]).max(initial=0.0))
    expected = -log_p[np.arange(len(X)), labels]
    np.testing.assert_allclose(_core.cross_entropy_labels(X, labels, 1), expected, rtol=1e-5, atol=tolerance)
    expected = -np.where(targets > 0, targets * np.where(targets > 0, log_p, 0), 0).sum(1)
    np.testing.assert_allclose(_core.cross_entropy_soft(X, targets, 1), expected, rtol=1e-4, atol=tolerance)


@given(logits(), st.integers(0, 2**32 - 1), st.booleans())
def test_cross_entropy_backward_equals_reference(X, seed, weighted):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, X.shape[1], len(X)).astype(np.int32)
    scale = rng.normal(size=len(X)) if weighted else None
    expected_loss, expected = reference.cross_entropy_backward(X, labels, np.ones(len(X)) if scale is None else scale)
    tolerance = TOLERANCE[X.dtype] * max(1.0, np.abs(X[np.isfinite(X)]).max(initial=0.0))
    for n_threads in (1, 3):
        gradient = X.copy()
        loss = _core.cross_entropy_backward(gradient, labels, scale, n_threads)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=tolerance)
        np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)


def test_cross_entropy_backward_on_any_number_of_threads():
    """Enough work for a team; a label that is none is refused."""
    X = np.random.default_rng(0).normal(size=(40, 1003)).astype(np.float32)
    labels = np.arange(40, dtype=np.int32)
    gradients = [X.copy() for _ in range(3)]
    losses = [_core.cross_entropy_backward(g, labels, None, n) for g, n in zip(gradients, (1, 2, 5), strict=True)]
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        np.testing.assert_array_equal(loss, losses[0])
        np.testing.assert_array_equal(gradient, gradients[0])
    labels[7] = 1003
    with pytest.raises(ValueError, match="out of range"):
        _core.cross_entropy_backward(X, labels, None, 2)


def test_nan_and_infinity_are_not_hidden():
    X = np.array([[np.nan, 1.0], [np.nan, -np.inf], [np.inf, 0.0]])
    assert np.isnan(_core.softmax(X, False, 1)[:2]).all()
    assert np.isnan(_core.softmax(X, True, 1)[2, 0])
    np.testing.assert_array_equal(_core.logsumexp(X, 1), [np.nan, np.nan, np.inf])


def test_no_rows_and_no_columns():
    assert _core.softmax(np.empty((0, 3)), False, 2).shape == (0, 3)
    assert _core.softmax(np.empty((2, 0)), True, 2).shape == (2, 0)
    np.testing.assert_array_equal(_core.logsumexp(np.empty((2, 0)), 1), [-np.inf, -np.inf])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(0, 3, (999, 37)).astype(dtype)
    labels, T = rng.integers(0, 37, 999).astype(np.int32), rng.random((999, 37)).astype(dtype)
    for n_threads in (2, 3, 7):
        for log in (True, False):
            np.testing.assert_array_equal(_core.softmax(X, log, 1), _core.softmax(X, log, n_threads))
        np.testing.assert_array_equal(_core.logsumexp(X, 1), _core.logsumexp(X, n_threads))
        one, many = (_core.cross_entropy_labels(X, labels, n) for n in (1, n_threads))
        np.testing.assert_array_equal(one, many)
        np.testing.assert_array_equal(_core.cross_entropy_soft(X, T, 1), _core.cross_entropy_soft(X, T, n_threads))


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range(label):
    with pytest.raises(ValueError, match="out of range"):
        _core.cross_entropy_labels(np.zeros((1, 3)), np.array([label], np.int32), 1)


@given(logits(), st.integers(0, 2**32 - 1))
def test_backward_equals_reference(X, seed):
    P = _core.softmax(X, False, 1)
    dP = np.random.default_rng(seed).normal(0, 2, X.shape).astype(X.dtype)
    expected = reference.softmax_backward(P, dP)
    _core.softmax_backward(P, dP, 1)
    np.testing.assert_allclose(dP, expected, rtol=TOLERANCE[X.dtype], atol=10 * TOLERANCE[X.dtype])


@st.composite
def mixtures(draw):
    """Logits, log probabilities of the classes in each state, labels and scales; dtypes and shapes of all sorts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, n_states, n_classes = draw(st.integers(0, 9)), draw(st.integers(1, 70)), draw(st.integers(1, 5))
    dtype, spread = draw(st.sampled_from([np.float32, np.float64])), draw(st.sampled_from([0.1, 10.0, 300.0]))
    X = rng.normal(0, spread, (n_rows, n_states)).astype(dtype)
    T = reference.log_softmax(rng.normal(0, spread, (n_states, n_classes))).T.astype(dtype)
    return X, np.ascontiguousarray(T), rng.integers(0, n_classes, n_rows).astype(np.int32), rng.random(n_rows)


@given(mixtures())
def test_mixture_equals_reference(problem):
    X, T, labels, scale = problem
    log_prob, R, dX = reference.mixture(X, T, labels, scale)
    tolerance = TOLERANCE[X.dtype] * max(1.0, np.abs(X).max(initial=0.0), np.abs(T).max())
    forward = _core.mixture(X, T, labels, 1)
    np.testing.assert_allclose(forward, log_prob, rtol=tolerance, atol=tolerance)
    found, posterior = _core.mixture_backward(X, T, labels, scale, 1)  # X becomes its gradient
    np.testing.assert_array_equal(found, forward)
    np.testing.assert_allclose(posterior, R, rtol=tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(X, dX, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_of_the_backward_passes_do_not_depend_on_threads(dtype):
    rng = np.random.default_rng(0)
    X, T = rng.normal(0, 3, (999, 37)).astype(dtype), rng.normal(-2, 1, (5, 37)).astype(dtype)
    labels, scale = rng.integers(0, 5, 999).astype(np.int32), rng.random(999)
    P, gradient = _core.softmax(X, False, 1), rng.normal(0, 1, X.shape).astype(dtype)

    def run(n_threads):
        dX, dP = X.copy(), gradient.copy()
        log_prob, R = _core.mixture_backward(dX, T, labels, scale, n_threads)
        _core.softmax_backward(P, dP, n_threads)
        return log_prob, R, dX, dP, _core.mixture(X, T, labels, n_threads)

    one = run(1)
    for n_threads in (2, 3, 7):
        for a, b in zip(one, run(n_threads), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_of_a_mixture_out_of_range(label):
    X, T, labels = np.zeros((1, 2)), np.zeros((3, 2)), np.array([label], np.int32)
    with pytest.raises(ValueError, match="out of range"):
        _core.mixture(X, T, labels, 1)
    with pytest.raises(ValueError, match="out of range"):
        _core.mixture_backward(X, T, labels, np.ones(1), 1)


def test_shapes_of_the_backward_passes_are_checked():
    X, T, labels = np.zeros((2, 4)), np.zeros((3, 4)), np.zeros(2, np.int32)
    for wrong in [(X[:, :3].copy(), T, labels), (X, T, labels[:1])]:
        with pytest.raises(ValueError, match="equal lengths"):
            _core.mixture(*wrong, 1)
        with pytest.raises(ValueError, match="equal lengths"):
            _core.mixture_backward(*wrong, np.ones(2), 1)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.mixture_backward(X, T, labels, np.ones(3), 1)
    for wrong in [np.zeros((3, 4)), np.zeros((2, 3))]:
        with pytest.raises(ValueError, match="equal lengths"):
            _core.softmax_backward(X, wrong, 1)


# ---- rows without a greatest finite entry ----------------------------------------------------------------------------

SPECIAL = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def special_rows(width, dtype):
    """Rows of one width with NaN, +inf and -inf at their ends, in the middle, alone, everywhere and mixed."""
    rng = np.random.default_rng(width)
    places = [[0], [width // 2], [width - 1], list(range(width)), list(range(0, width, 2))]
    rows = [rng.normal(0, 2, width)]
    for value in SPECIAL.values():
        for place in places:
            for base in (rng.normal(0, 2, width), np.full(width, -np.inf)):
                rows.append(base.copy())
                rows[-1][place] = value
    for one, other in ((np.nan, np.inf), (np.inf, np.nan), (np.nan, -np.inf), (np.inf, -np.inf)):
        rows.append(np.full(width, one))
        rows[-1][width // 2 :] = other
    return np.array(rows, dtype)


def expected_log_softmax(X):
    """As torch has it, but that nothing but -inf is uniform: NaN for a row with NaN or +inf."""
    out = reference.log_softmax(np.where(np.isnan(X) | np.isposinf(X), 0, X))
    out[(np.isnan(X) | np.isposinf(X)).any(1)] = np.nan
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", range(1, 71))
def test_one_rule_for_rows_without_a_greatest_finite_entry(width, dtype):
    X = special_rows(width, dtype)
    expected = expected_log_softmax(X)
    labels = np.random.default_rng(0).integers(0, width, len(X)).astype(np.int32)
    told, close = np.arange(len(X)), {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(_core.softmax(X, True, 1), expected, **close)
    np.testing.assert_allclose(_core.softmax(X, False, 1), np.exp(expected), **close)
    with np.errstate(all="ignore"):
        total = scipy.special.logsumexp(X.astype(float), axis=1)
    np.testing.assert_allclose(_core.logsumexp(X, 1), total, **close)
    np.testing.assert_allclose(_core.cross_entropy_labels(X, labels, 1), -expected[told, labels], **close)
    soft = np.eye(width, dtype=dtype)[labels]
    np.testing.assert_allclose(_core.cross_entropy_soft(X, soft, 1), -expected[told, labels], **close)
    gradient = X.copy()
    np.testing.assert_allclose(
        _core.cross_entropy_backward(gradient, labels, None, 1), -expected[told, labels], **close
    )
    np.testing.assert_allclose(gradient, np.exp(expected) - soft, **close)
    one_cell = np.empty((len(X), 1), dtype)
    _core.log_sums(X, np.arange(width, dtype=np.int32), np.array([0, width]), one_cell, 1)
    np.testing.assert_allclose(one_cell[:, 0], total, **close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 4, 15, 16, 17, 32, 40, 64])
def test_a_mixture_follows_the_same_rule(width, dtype):
    """The classes' log-probabilities in a state may be -inf, too; a class that no state can say has log 0."""
    X = special_rows(width, dtype)
    rng = np.random.default_rng(1)
    T = np.ascontiguousarray(np.log(rng.dirichlet(np.ones(3), width).T), dtype)
    T[1, ::2] = -np.inf
    T = np.vstack([T, np.full((1, width), -np.inf, dtype)])
    labels = rng.integers(0, 4, len(X)).astype(np.int32)
    scale = rng.normal(size=len(X))
    log_h = expected_log_softmax(X)
    joint = log_h + T[labels]
    log_prob = reference.logsumexp(np.where(np.isnan(joint), 0, joint))
    log_prob[np.isnan(joint).any(1)] = np.nan
    posterior = np.exp(expected_log_softmax(joint.astype(float)))
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(_core.mixture(X, T, labels, 1), log_prob, **close)
    gradient = X.copy()
    found, R = _core.mixture_backward(gradient, T, labels, scale, 1)
    np.testing.assert_allclose(found, log_prob, **close)
    np.testing.assert_allclose(R, scale[:, None] * posterior, **close)
    np.testing.assert_allclose(gradient, scale[:, None] * (np.exp(log_h) - posterior), **close)


@pytest.mark.parametrize("width", [1, 4, 15, 16, 17, 40, 64])
def test_attention_follows_the_same_rule(width):
    """Of the logits, here the bias alone: NaN or +inf in one makes all its weights NaN, nothing but -inf equal ones."""
    n = 5
    ids = np.zeros(width + 1, np.int32)
    view = _core.View(ids, np.zeros(n, np.int64), np.full(n, width, np.int32), np.full(n, width, np.int64), 1, width)
    X, W, S = np.ones((1, 4), np.float32), np.zeros((width, width), np.float32), np.zeros((n, width), np.float32)
    for bias in special_rows(width, np.float32):
        A = _core.attend(view, X, None, W, bias, S, 1)[1]
        np.testing.assert_allclose(A, np.tile(np.exp(expected_log_softmax(bias[None])), (n, 1)), rtol=1e-5, atol=1e-6)


def test_torch_agrees():
    """Where torch is installed: the same NaN and the same numbers, but for a row of -inf, which is uniform here."""
    torch = pytest.importorskip("torch")
    X = special_rows(33, np.float64)
    X = X[~np.isneginf(X).all(1)]
    labels = np.arange(len(X), dtype=np.int32) % 33
    tensor = torch.tensor(X, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(tensor, torch.tensor(labels, dtype=torch.long), reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(_core.softmax(X, False, 1), torch.softmax(tensor, 1).detach(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(_core.logsumexp(X, 1), torch.logsumexp(tensor, 1).detach(), rtol=1e-12)
    gradient = X.copy()
    np.testing.assert_allclose(_core.cross_entropy_backward(gradient, labels, None, 1), loss.detach(), rtol=1e-12)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-12, atol=1e-12)

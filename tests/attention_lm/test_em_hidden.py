"""Hidden layers solved by counting: each step against its definition, and what they find."""

import numpy as np
import pytest

from helpers import reference
from saffu.attention_lm.em_hidden import INPUT_MASS, WORD_MASS, _Solver, solve

VOCAB_SIZE, WIDTH, HIDDEN = 7, 5, 4


def examples(n=300, seed=0):
    """Inputs of unit sum, and words that follow from the largest of them."""
    rng = np.random.default_rng(seed)
    Z = rng.dirichlet(np.full(WIDTH, 0.3), n).astype(np.float32)
    y = np.where(rng.random(n) < 0.8, Z.argmax(axis=1), rng.integers(0, VOCAB_SIZE, n)).astype(np.int32)
    return Z, y


def unigram_of(y, vocab_size=VOCAB_SIZE):
    counts = np.bincount(y, minlength=vocab_size) + 0.1
    return counts / counts.sum()


def mixture_loss(layer, Z, y):
    """Mean negative log-likelihood of ``p(y) = sum_i h_i B(y | i)``."""
    H = np.exp(reference.log_softmax(Z @ layer.weights + layer.bias))
    return -np.log((H * layer.B[y]).sum(axis=1)).mean()


# ---- one step --------------------------------------------------------------------------------------------------------


def test_weights_are_logarithms_of_counts():
    Z, y = examples()
    unigram, rng = unigram_of(y), np.random.default_rng(1)
    solver = _Solver(Z, y, unigram, HIDDEN, 1)
    R = rng.dirichlet(np.ones(HIDDEN), len(Z)).astype(np.float32)
    solver.absorb(np.arange(len(Z)), R, Z.T @ R, 1.0)
    mean, B = Z.mean(axis=0), solver.word_shares(np.arange(VOCAB_SIZE))
    for i in range(HIDDEN):
        mass = sum(z.sum() * r[i] for z, r in zip(Z, R, strict=True))
        for j in range(WIDTH):
            F = sum(z[j] * r[i] for z, r in zip(Z, R, strict=True))
            expected = np.log((F + INPUT_MASS * mean[j]) / (mass + INPUT_MASS) / mean[j])
            assert solver.U[j, i] == pytest.approx(expected, abs=1e-4)
        assert solver.u[i] == pytest.approx(np.log(R[:, i].sum() / R.sum()), abs=1e-4)
        words = np.bincount(y, R[:, i], VOCAB_SIZE) + WORD_MASS * unigram
        np.testing.assert_allclose(B[:, i], words / words.sum(), rtol=1e-4)


def test_parts_are_mixed_as_if_each_were_all():
    Z, y = examples()
    R = np.random.default_rng(1).dirichlet(np.ones(HIDDEN), len(Z)).astype(np.float32)
    whole, half = (_Solver(Z, y, unigram_of(y), HIDDEN, 1) for _ in range(2))
    whole.absorb(np.arange(len(Z)), R, Z.T @ R, 1.0)
    first, second = np.arange(0, len(Z), 2), np.arange(1, len(Z), 2)
    half.absorb(first, R[first], Z[first].T @ R[first], 1.0)
    half.absorb(second, R[second], Z[second].T @ R[second], 0.5)
    np.testing.assert_allclose(half.inputs, whole.inputs, rtol=1e-4)
    np.testing.assert_allclose(half.kept * half.words, whole.words, rtol=1e-4, atol=1e-6)


def test_targets_are_the_shares_of_the_word_that_came():
    Z, y = examples()
    rng = np.random.default_rng(1)
    solver = _Solver(Z, y, unigram_of(y), HIDDEN, 1)
    R = rng.dirichlet(np.full(HIDDEN, 0.2), len(Z)).astype(np.float32)
    solver.absorb(np.arange(len(Z)), R, Z.T @ R, 1.0)
    solver.scale = 0.8
    log_ratios = (Z @ solver.U).astype(np.float64)
    joint = np.exp(reference.log_softmax(0.8 * log_ratios + solver.u)) * solver.word_shares(y)
    expected = joint / joint.sum(axis=1, keepdims=True)

    def gain(scale):
        """What the scale is fitted to: mean log-probability of the targets."""
        return (expected * reference.log_softmax(scale * log_ratios + solver.u)).sum(axis=1).mean()

    found, inputs = solver.respond(np.arange(len(Z)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(inputs, Z.T @ expected, rtol=1e-3, atol=1e-5)
    slope = (gain(0.8 + 1e-4) - gain(0.8 - 1e-4)) / 2e-4
    curvature = -(gain(0.8 + 1e-3) - 2 * gain(0.8) + gain(0.8 - 1e-3)) / 1e-6
    assert solver.scale - 0.8 == pytest.approx(0.5 * slope / (curvature + 1e-3), rel=1e-2)
    assert gain(solver.scale) > gain(0.8)


# ---- the whole -------------------------------------------------------------------------------------------------------


def solved(Z, y, hidden, vocab_size=VOCAB_SIZE, n_threads=1, seed=0):
    rng = np.random.default_rng(7)
    codes = rng.dirichlet(np.full(hidden, 0.2), vocab_size).astype(np.float32)
    B = np.full((vocab_size, Z.shape[1]), 0.1)
    np.add.at(B, y, Z)
    B = (B / B.sum(axis=0)).astype(np.float32)
    return solve(Z, y, B, codes, unigram_of(y, vocab_size), n_threads, seed)


@pytest.mark.parametrize("hidden", [1, 4, 40])
def test_it_is_a_mixture_better_than_the_unigram(hidden):
    Z, y = examples(2000)
    layer = solved(Z, y, hidden)
    assert [a.shape for a in layer] == [(WIDTH, hidden), (hidden,), (VOCAB_SIZE, hidden)]
    assert {a.dtype for a in layer} == {np.dtype(np.float32)}
    np.testing.assert_allclose(layer.B.sum(axis=0), 1, rtol=1e-5)
    unigram = -np.log(unigram_of(y))[y].mean()
    new = mixture_loss(layer, *examples(1000, 1))
    assert new == pytest.approx(unigram, rel=0.02) if hidden == 1 else new < unigram - 0.3


@pytest.mark.parametrize("n", [0, 1, 2, 9])
@pytest.mark.parametrize(("width", "hidden", "vocab_size"), [(1, 1, 1), (3, 8, 5), (8, 3, 40), (20, 20, 2)])
def test_few_examples(n, width, hidden, vocab_size):
    rng = np.random.default_rng(0)
    Z = rng.dirichlet(np.ones(width), n).astype(np.float32).reshape(n, width)
    layer = solved(Z, rng.integers(0, vocab_size, n).astype(np.int32), hidden, vocab_size)
    assert all(np.isfinite(a).all() for a in layer)
    np.testing.assert_allclose(layer.B.sum(axis=0), 1, rtol=1e-5)
    assert layer.weights.shape == (width, hidden)


def test_inputs_that_are_never_seen_and_zero_rows():
    Z, y = examples()
    Z[:, 2] = 0
    Z[:3] = 0
    assert all(np.isfinite(a).all() for a in solved(Z, y, HIDDEN))


def test_same_bits_on_any_number_of_threads():
    Z, y = examples(20_000)  # more than one part
    expected = solved(Z, y, 8)
    for n_threads in (2, 3):
        for found, own in zip(solved(Z, y, 8, n_threads=n_threads), expected, strict=True):
            np.testing.assert_array_equal(found, own)

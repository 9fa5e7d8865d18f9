"""Kernels of the pooled softmax on one core: dense beginnings of rows, pairs, distributions, the prior of a pool."""

import numpy as np
import pytest

from bench.measure.clock import record
from saffu import _core

N_POSITIONS, N_ROWS, N_TABLES = 400, 60, 5
HEADS = {"five heads of 3,504 words": (19_422, 3504, 5), "one head of 17,504 words": (19_422, 17_504, 1)}
TYPES = {"float32": np.float32, "float64": np.float64}
WITHIN = {"float32": 3e-6, "float64": 1e-9}  # nats
NONE = np.zeros(0, np.int64)


def packed_rows(rng, dtype, n_head, n_tail, vocab_size):
    """Rows with so many words in their dense beginnings, and so many pairs beyond."""
    head_ptr, tail_ptr = np.arange(N_ROWS + 1) * n_head, np.arange(N_ROWS + 1) * n_tail
    beyond = np.arange(n_head, vocab_size)
    words = [np.sort(rng.choice(beyond, n_tail, replace=False)) for _ in range(N_ROWS)]
    u = rng.gamma(1.0, 1.0, N_ROWS * (n_head + n_tail)).astype(dtype)
    return _core.Packed(head_ptr, u[: N_ROWS * n_head], tail_ptr, np.concatenate(words), u[N_ROWS * n_head :])


def log_prior(unigram):
    padded = np.zeros((2, -(-unigram.size // _core.BLOCK) * _core.BLOCK))
    padded[:, : unigram.size] = np.log(unigram)
    return padded


def problem(dtype, n_head, n_tail, vocab_size, n_contexts, n_states=1):
    """A pool and a batch, and what the equation gives for its first positions."""
    rng = np.random.default_rng(0)
    unigram = 1.0 / np.arange(2, vocab_size + 2)
    unigram /= unigram.sum()
    packed = packed_rows(rng, dtype, n_head, n_tail, vocab_size)
    theta = np.tile([0.2, 0.8, *[1.0 / n_contexts] * n_contexts, 0.1], (n_states, 1))
    pool = _core.Pool(packed, log_prior(unigram), unigram, theta, n_contexts, NONE, NONE.astype(float), 0, 2.0)
    ids = rng.integers(0, vocab_size, N_POSITIONS).astype(np.int32)
    rows = rng.integers(0, N_ROWS, (N_POSITIONS, n_contexts)).astype(np.int32)
    begins, states = np.zeros(N_POSITIONS, np.int64), np.zeros(N_POSITIONS, np.int32)
    batch = _core.Batch(ids, np.arange(N_POSITIONS), begins, rows, states)
    _, head, tail_ptr, tail_word, tail_u = packed
    expected = []
    for target, of_position in zip(ids[:20], rows[:20], strict=True):
        z = np.log(unigram)
        for c in of_position:
            z[:n_head] += head[c * n_head : (c + 1) * n_head] / n_contexts
            tail = slice(tail_ptr[c], tail_ptr[c + 1])
            z[tail_word[tail]] += tail_u[tail] / np.float64(n_contexts)
        expected.append(z[target] - np.logaddexp.reduce(z))
    return pool, batch, np.array(expected)


def positions_of(benchmark, run):
    found, seconds = record(benchmark, run, 9, threads=1)
    benchmark.extra_info.update(microseconds_a_position=seconds.cpu / N_POSITIONS * 1e6)
    return found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("heads", HEADS)
def test_log_prob_of_dense_beginnings(benchmark, heads, dtype):
    vocab_size, n_head, n_contexts = HEADS[heads]
    pool, batch, expected = problem(TYPES[dtype], n_head, 0, vocab_size, n_contexts)
    found = positions_of(benchmark, lambda: pool.log_prob(batch, 1))
    np.testing.assert_allclose(found[:20], expected, rtol=0, atol=WITHIN[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_log_prob_of_pairs(benchmark, dtype):
    """Five rows of 2,000 pairs among 200,000 words."""
    pool, batch, expected = problem(TYPES[dtype], 0, 2000, 200_000, N_TABLES)
    found = positions_of(benchmark, lambda: pool.log_prob(batch, 1))
    np.testing.assert_allclose(found[:20], expected, rtol=0, atol=WITHIN[dtype])


def test_distribution(benchmark):
    pool, batch, expected = problem(np.float32, 3504, 500, 19_422, N_TABLES)
    found = positions_of(benchmark, lambda: pool.distribution(batch, 1))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    own = pool.log_prob(batch, 1)
    np.testing.assert_allclose(own[:20], expected, rtol=0, atol=WITHIN["float32"])


def test_pool(benchmark):
    """The prior of 100,000 words in 8 states, made whenever scalars change."""
    unigram = np.full(100_000, 1e-5)
    packed, theta = _core.Packed([0, 0], [], [0, 0], [], []), np.full((8, 4), 0.5)
    arguments = (packed, log_prior(unigram), unigram, theta, 1, NONE, NONE.astype(float), 0, 2.0)
    _, seconds = record(benchmark, lambda: _core.Pool(*arguments), 20, threads=1)
    benchmark.extra_info.update(nanoseconds_a_word=seconds.cpu / theta.shape[0] / unigram.size * 1e9)

"""Sparse rows times dense weights beside scipy's CSR product and BLAS on the dense matrix, one thread each."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from bench.measure.clock import quickest
from saffu.utils.sparse import SparseRows

N_ROWS, N_FEATURES, DENSITY = 60_000, 784, 0.19  # about MNIST
COLUMNS = [30, 300, 1000]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    H = rng.random((N_ROWS, N_FEATURES), np.float32)
    H *= rng.random(H.shape, np.float32) < DENSITY
    return H


@pytest.fixture(scope="module", params=COLUMNS)
def problem(request, features):
    weights = np.random.default_rng(1).normal(0, 1, (N_FEATURES, request.param)).astype(np.float32)
    return features, weights


def report(benchmark, H, W, n_entries, **peers):
    """Bytes that must be moved once, flops that are needed, and how many times as long each peer took."""
    n_bytes = 8 * n_entries + 8 * (N_ROWS + 1) + W.nbytes + 4 * N_ROWS * W.shape[1]
    flops = 2 * n_entries * W.shape[1]
    benchmark.extra_info.update(bytes=n_bytes, flops=flops, density=n_entries / H.size, threads=1)
    if benchmark.stats:
        mine = benchmark.stats["min"]
        benchmark.extra_info.update(GB_per_s=n_bytes / mine / 1e9, GFLOP_per_s=flops / mine / 1e9)
        benchmark.extra_info.update({f"ratio_to_{name}": peer() / mine for name, peer in peers.items()})


def test_saffu(benchmark, problem):
    H, W = problem
    rows, matrix = SparseRows.of(H, 1), csr_array(H)
    Z = benchmark.pedantic(rows.product, args=(W,), rounds=3, warmup_rounds=1)
    report(
        benchmark, H, W, matrix.nnz, scipy=lambda: quickest(lambda: matrix @ W, 2), blas=lambda: quickest(lambda: H @ W)
    )
    np.testing.assert_allclose(Z, H @ W, rtol=1e-3, atol=1e-3)


def test_saffu_in_double(benchmark, problem):
    """Counts, H^T R with R as wide as W: the sums are float64, R is float32."""
    H, W = problem
    R = np.random.default_rng(2).random((N_ROWS, W.shape[1]), np.float32)
    rows, matrix, F = SparseRows.of(H, 1).transposed(), csr_array(H.T), np.empty(W.shape)
    benchmark.pedantic(rows.product_double, args=(R, F), rounds=3, warmup_rounds=1)
    report(
        benchmark,
        H,
        W,
        matrix.nnz,
        scipy=lambda: quickest(lambda: matrix @ R, 2),
        blas=lambda: quickest(lambda: H.T @ R),
    )
    np.testing.assert_allclose(F, H.T @ R, rtol=1e-3)


def test_scipy(benchmark, problem):
    H, W = problem
    matrix = csr_array(H)
    benchmark.pedantic(lambda: matrix @ W, rounds=2, warmup_rounds=1)
    report(benchmark, H, W, matrix.nnz)


def test_blas(benchmark, problem):
    H, W = problem
    benchmark.pedantic(lambda: H @ W, rounds=3, warmup_rounds=1)
    report(benchmark, H, W, int(np.count_nonzero(H)))


def test_compression(benchmark, features):
    """Dense rows made sparse: what every solution of dense features pays once."""
    rows = benchmark.pedantic(SparseRows.of, args=(features, 1), rounds=3, warmup_rounds=1)
    n_bytes = 2 * features.nbytes + 8 * rows.data.size  # it is read twice
    benchmark.extra_info.update(bytes=n_bytes, threads=1)
    if benchmark.stats:
        mine = benchmark.stats["min"]
        scipy = quickest(lambda: csr_array(features), 2)
        benchmark.extra_info.update(GB_per_s=n_bytes / mine / 1e9, ratio_to_scipy=scipy / mine)

"""F = H^T Y beside scipy's one-hot product, torch's index_add_ and one read of H."""

import numpy as np
import pytest

import saffu
from bench.measure.clock import quickest
from bench.peers.dense import MOMENT_SHAPES, one_hot_product
from saffu import _core


@pytest.fixture(scope="module", params=MOMENT_SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def problem(request):
    n, n_features, n_classes = request.param
    rng = np.random.default_rng(0)
    return rng.random((n, n_features), np.float32), rng.integers(0, n_classes, n), n_classes


def report(benchmark, H, n_threads, **ratios):
    benchmark.extra_info.update(bytes=H.nbytes, threads=n_threads, **ratios)
    if benchmark.stats:
        benchmark.extra_info["GB_per_s"] = H.nbytes / benchmark.stats["min"] / 1e9


@pytest.mark.parametrize("n_threads", [1, 2])
def test_saffu(benchmark, problem, n_threads):
    H, y, n_classes = problem
    benchmark.pedantic(lambda: saffu.moments(H, y, n_classes=n_classes, n_threads=n_threads), rounds=5, warmup_rounds=1)
    read = quickest(lambda: _core.lowest(H.reshape(-1), n_threads))
    peer = quickest(lambda: one_hot_product(H, y, n_classes))
    report(benchmark, H, n_threads)
    if benchmark.stats:
        mine = benchmark.stats["min"]
        benchmark.extra_info.update(share_of_read_bandwidth=read / mine, ratio_to_scipy=peer / mine)


def test_scipy_one_hot(benchmark, problem):
    H, y, n_classes = problem
    F = benchmark.pedantic(one_hot_product, args=(H, y, n_classes), rounds=5, warmup_rounds=1)
    report(benchmark, H, 1)
    np.testing.assert_allclose(saffu.moments(H, y, n_classes=n_classes), F.T, rtol=1e-3)  # scipy's sums are float32


def test_torch_index_add(benchmark, problem):
    torch = pytest.importorskip("torch")
    H, y, n_classes = problem
    features, labels = torch.from_numpy(H), torch.from_numpy(y)

    def run():
        return torch.zeros(n_classes, H.shape[1]).index_add_(0, labels, features)

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    report(benchmark, H, torch.get_num_threads())


@pytest.mark.parametrize("n_threads", [1, 2])
def test_read_floor(benchmark, problem, n_threads):
    H, _, _ = problem
    benchmark.pedantic(lambda: _core.lowest(H.reshape(-1), n_threads), rounds=5, warmup_rounds=1)
    report(benchmark, H, n_threads)

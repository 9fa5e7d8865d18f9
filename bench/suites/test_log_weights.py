"""Dense log weights beside the numpy expression."""

import numpy as np
import pytest

import saffu
from bench.measure.clock import median_seconds, timed
from bench.peers.dense import LOG_SHAPES, numpy_expression


@pytest.fixture(scope="module", params=LOG_SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request):
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_saffu(benchmark, shape, dtype, order):
    F = np.asarray(np.random.default_rng(0).random(shape) + 0.1, dtype, order=order)
    benchmark.pedantic(lambda: saffu.log_weights(F, 100.0, n_threads=1), rounds=9, warmup_rounds=1)
    peer = median_seconds([timed(lambda: numpy_expression(F, 100.0))[1] for _ in range(9)])
    expected = numpy_expression(F, 100.0)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(saffu.log_weights(F, 100.0), expected, rtol=tolerance, atol=tolerance)
    benchmark.extra_info.update(bytes=2 * F.nbytes, threads=1)
    if benchmark.stats:
        mine = benchmark.stats["median"]
        benchmark.extra_info.update(GB_per_s=2 * F.nbytes / mine / 1e9, ratio_to_numpy=peer.wall / mine)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy(benchmark, shape, dtype):
    F = (np.random.default_rng(0).random(shape) + 0.1).astype(dtype)
    benchmark.pedantic(numpy_expression, args=(F, 100.0), rounds=9, warmup_rounds=1)
    benchmark.extra_info.update(bytes=2 * F.nbytes, threads=1)

"""Counting the pairs of 5M Zipf ids, V = 20,000, at distances 1..R: beside numpy, scipy and polars."""

import pytest

from bench.measure.clock import record
from bench.peers import counting
from bench.report.requirements import installed

ROUNDS = 3
numpy_cpu: dict[int, float] = {}  # seconds at each radius, for the ratios of those that follow


@pytest.fixture(scope="module")
def ids():
    return counting.zipf_ids()


@pytest.mark.parametrize("contender", counting.CONTENDERS)
@pytest.mark.parametrize("radius", [1, 10])
def test_counting(benchmark, ids, radius, contender):
    if contender == "polars" and not installed("polars"):
        pytest.skip("polars is not installed; pip install 'saffu[bench]'")
    pairs = counting.n_pairs(ids.size, radius)
    rounds = ROUNDS if contender != "polars" else 1
    result, seconds = record(benchmark, lambda: counting.CONTENDERS[contender](ids, radius), rounds)
    assert counting.total_count(result) == pairs
    if contender == "numpy":
        numpy_cpu[radius] = counting.best_numpy_cpu(radius, ids)
    memory = counting.alone(contender, radius, ids)
    benchmark.extra_info.update(
        threads=2 if contender.endswith("2 threads") else 1,
        pairs_per_second=round(pairs / seconds.wall),
        result_bytes=memory["result"],
        peak_bytes_beyond_input=memory["peak"],
        peak_over_result=memory["peak"] / memory["result"],
        times_numpy_cpu=numpy_cpu[radius] / seconds.cpu if radius in numpy_cpu else None,
    )

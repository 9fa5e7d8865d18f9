"""Merging, products, moments, weights and counts at sizes of their own, beside numpy and scipy on one thread."""

import pytest

from bench.measure.clock import race, record
from bench.peers import kernels

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", kernels.MAKERS)
def test_kernel(benchmark, name):
    problem = kernels.MAKERS[name]()
    problem.check()
    ours, *others = problem.contenders
    _, seconds = record(benchmark, problem.contenders[ours], 5)
    peers = race({other: problem.contenders[other] for other in others}, 2)
    benchmark.extra_info.update(
        threads=1, **{f"ratio_to_{other}": times.cpu / seconds.cpu for other, times in peers.items()}
    )

"""Kernels of language models and classifiers beside what small prototypes of them took, and beside an earlier core.

``python -m bench.experiments.kernel_aims [--before CORE] [--print]`` takes about a minute.

``--before`` names the compiled module of another version, ``_core.abi3.so``: both are loaded into this process and
called in turn, on one thread, so that a busy spell of the machine falls on both. The prototypes were C programs of a
few lines for one shape each, measured on another machine with AVX-512: trust ratios rather than times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from bench.peers.kernel_calls import core_of
from bench.report.command import parser_of
from bench.report.tables import check_published, machine_line, markdown_table, publish
from saffu import _core

NAME = "kernel-aims"
N_POSITIONS, N_ROWS, VOCAB_SIZE = 400, 60, 19_422
SECONDS = 3.0  # for each kernel
NONE = np.zeros(0, np.int64)


class Kernel(NamedTuple):
    """A kernel on one problem: what makes a call of it with a core, and what is told of its seconds."""

    name: str
    call: Callable[[ModuleType], Callable[[], Any]]
    rate: Callable[[float], str]
    aim: str


def rows_of(core: ModuleType, n_head: int, dtype: type) -> Any:
    """Packed rows that are dense up to a word; cores that know no float32 take the same as float64."""
    u = np.random.default_rng(0).gamma(1.0, 1.0, N_ROWS * n_head).astype(dtype)
    place = np.arange(N_ROWS + 1, dtype=np.int64)
    parts = (place * n_head, u, place * 0, np.zeros(0, np.int32), u[:0])
    try:
        return core.Packed(*parts)
    except (AttributeError, TypeError, ValueError):
        return (parts[0], u.astype(np.float64), *parts[2:4], np.zeros(0))


def pool_of(core: ModuleType, n_head: int, n_contexts: int, dtype: type) -> tuple[Any, Any]:
    """A pool and a batch of positions, the same for every core."""
    rng = np.random.default_rng(1)
    unigram = 1.0 / np.arange(2, VOCAB_SIZE + 2)
    unigram /= unigram.sum()
    padded = np.zeros((2, -(-VOCAB_SIZE // core.BLOCK) * core.BLOCK))
    padded[:, :VOCAB_SIZE] = np.log(unigram)
    theta = np.array([[0.2, 0.8, *[1.0 / n_contexts] * n_contexts, 0.1]])
    packed = rows_of(core, n_head, dtype)
    pool = core.Pool(packed, padded, unigram, theta, n_contexts, NONE, NONE.astype(float), 0, 2.0)
    ids = rng.integers(0, VOCAB_SIZE, N_POSITIONS).astype(np.int32)
    rows = rng.integers(0, N_ROWS, (N_POSITIONS, n_contexts)).astype(np.int32)
    begins, states = np.zeros(N_POSITIONS, np.int64), np.zeros(N_POSITIONS, np.int32)
    u = np.ones((N_POSITIONS, n_contexts))
    previous = np.full(N_POSITIONS, -1, np.int32)
    return pool, core.Batch(ids, np.arange(N_POSITIONS), begins, rows, states, u, previous)


def scoring(n_head: int, n_contexts: int, dtype: type) -> Callable[[ModuleType], Callable[[], Any]]:
    """Calls of log_prob."""

    def call(core: ModuleType) -> Callable[[], Any]:
        pool, batch = pool_of(core, n_head, n_contexts, dtype)
        return lambda: pool.log_prob(batch, 1)

    return call


def second_derivatives(core: ModuleType) -> Callable[[], Any]:
    """Calls of derivatives, five heads."""
    pool, batch = pool_of(core, 3504, 5, np.float32)
    return lambda: pool.derivatives(batch, True, 1)


def weighing(core: ModuleType) -> Callable[[], Any]:
    """Calls of weigh, on the pairs of 2M tokens drawn by Zipf's law."""
    ids = (np.random.default_rng(0).zipf(1.3, 2_000_000) % 20_000).astype(np.int32)
    indptr, words, counts = core.count(ids, ids, np.array([1]), np.zeros(1, np.int64), 20_000, 20_000, 1)
    lower, discounts = np.full(20_000, 1 / 20_000), np.array([0.5, 0.6, 0.7])
    return lambda: core.weigh(indptr, counts, words.astype(np.int32), lower, discounts, 1)


def soft_moments(core: ModuleType) -> Callable[[], Any]:
    """Calls of moments_soft."""
    rng = np.random.default_rng(0)
    H, Y = rng.random((20_000, 512), np.float32), rng.random((20_000, 32))
    F, mass = np.zeros((32, 512)), np.zeros(32)
    return lambda: core.moments_soft(H, Y, None, F, mass, False, 1)


def product(core: ModuleType) -> Callable[[], Any]:
    """Calls of product: one row of 100 entries, 17 columns."""
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(200_000, 100, replace=False)).astype(np.int32)
    data, B = rng.random(100, np.float32), rng.random((200_000, 17), np.float32)
    indptr = np.array([0, 100])
    return lambda: core.product(indptr, indices, data, B, None, 1)


def microseconds(n: int) -> Callable[[float], str]:
    """Time for each of n."""
    return lambda seconds: f"{seconds / n * 1e6:.1f} us"


def kernels() -> Iterator[Kernel]:
    """All of them."""
    for heads, size, aims in (("five dense heads of 3,504 words", (3504, 5), ("3.3 us", "1.2 us")),
                              ("one of 17,504", (17_504, 1), ("13.7 us", "5.7 us"))):  # fmt: skip
        for dtype, aim in zip((np.float64, np.float32), aims, strict=True):
            name = f"log_prob, {heads}, {np.dtype(dtype).name}"
            yield Kernel(name, scoring(*size, dtype), microseconds(N_POSITIONS), aim)
    yield Kernel("Hessian, the five heads", second_derivatives, microseconds(N_POSITIONS), "11.0 us")
    n_entries = weighing(_core)()[2].size
    yield Kernel("weigh, an entry", weighing, lambda seconds: f"{seconds / n_entries * 1e9:.1f} ns", "5.0 to 5.2 ns")
    flops = 2 * 20_000 * 512 * 32
    yield Kernel("moments of soft targets", soft_moments, lambda s: f"{flops / s / 1e9:.1f} Gflop/s", "30.0 Gflop/s")
    yield Kernel("product of one row, 17 columns", product, microseconds(1), "7.3 us")


def race(calls: Sequence[Callable[[], Any]]) -> list[list[float]]:
    """Seconds of calls that take turns."""
    found: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    ends = time.perf_counter() + SECONDS
    while time.perf_counter() < ends or len(found[0]) < 5:
        for call, seconds in zip(calls, found, strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return found


def lines(before: ModuleType | None) -> Iterator[list[str]]:
    """Lines of the table."""
    for kernel in kernels():
        now, *old = race([kernel.call(core) for core in (_core, before) if core is not None])
        line = [kernel.name, kernel.rate(statistics.median(now)), kernel.aim]
        if old:
            ratio = statistics.median(b / a for a, b in zip(now, old[0], strict=True))
            line += [kernel.rate(statistics.median(old[0])), f"{ratio:.2f}x"]
        yield line


def add_options(parser: argparse.ArgumentParser) -> None:
    """What else there is."""
    parser.add_argument("--before", metavar="CORE", help="the compiled module of an earlier version")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, add_options).parse_args(argv)
    check_published(NAME, given.print)
    before = None if given.before is None else core_of(given.before)
    header = ["kernel, one thread", "saffu", "prototype"] + (["before", "times as fast"] if before else [])
    text = f"{markdown_table(header, [*lines(before)])}\n\n{machine_line('one thread, medians of calls in turn')}"
    publish(NAME, text, given.print)


if __name__ == "__main__":
    main()

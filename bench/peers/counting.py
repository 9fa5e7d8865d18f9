"""Contenders of the counting benchmark: pairs of a Zipf stream at distances 1..R.

``python -m bench.peers.counting CONTENDER R IDS.npy`` counts in a fresh process and prints CPU time and peak memory as
JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

import saffu
from bench.measure.clock import median_seconds, timed
from bench.measure.memory import in_fresh_process, peak_bytes

N_TOKENS, VOCAB_SIZE = 5_000_000, 20_000
# numpy sorts several times faster without AVX-512 on processors that compress vectors slowly (AMD Zen 4); it reads
# the variable once, when it is imported.
WITHOUT_AVX512 = "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
Ids = NDArray[np.int32]


def zipf_ids(n_tokens: int = N_TOKENS, vocab_size: int = VOCAB_SIZE, seed: int = 0) -> Ids:
    """Independent draws with probability proportional to 1 / rank."""
    cumulative = np.cumsum(1.0 / np.arange(1, vocab_size + 1))
    draws = np.random.default_rng(seed).random(n_tokens) * cumulative[-1]
    return np.searchsorted(cumulative, draws, side="right").astype(np.int32)


def n_pairs(n_tokens: int, radius: int) -> int:
    """Pairs within ``radius`` tokens."""
    return sum(n_tokens - k for k in range(1, radius + 1))


def by_saffu(ids: Ids, radius: int, n_threads: int = 1) -> Any:
    """One table of all distances."""
    return saffu.cooccurrence(ids, range(1, radius + 1), vocab_size=VOCAB_SIZE, n_threads=n_threads)


def by_numpy(ids: Ids, radius: int) -> Any:
    """Sorted distinct keys and their counts, a pair of arrays for each distance."""
    wide = ids.astype(np.int64)
    return [np.unique(wide[:-k] * VOCAB_SIZE + wide[k:], return_counts=True) for k in range(1, radius + 1)]


def by_scipy(ids: Ids, radius: int) -> Any:
    """One table, the sum of a coo -> csr conversion for each distance."""
    total = 0
    for k in range(1, radius + 1):
        ones = np.ones(ids.size - k, np.int64)
        total = coo_array((ones, (ids[:-k], ids[k:])), shape=(VOCAB_SIZE, VOCAB_SIZE)).tocsr() + total
    return total


def by_polars(ids: Ids, radius: int) -> Any:
    """A frame of distinct pairs and their counts for each distance."""
    import polars

    return [
        polars.DataFrame({"context": ids[:-k], "word": ids[k:]}).group_by("context", "word").len()
        for k in range(1, radius + 1)
    ]


CONTENDERS: dict[str, Callable[[Ids, int], Any]] = {
    "numpy": by_numpy,
    "saffu": by_saffu,
    "saffu, 2 threads": lambda ids, radius: by_saffu(ids, radius, 2),
    "scipy": by_scipy,
    "polars": by_polars,
}


def result_bytes(result: Any) -> int:
    """Bytes of the arrays of what a contender returned."""
    if isinstance(result, (list, tuple)):
        return sum(map(result_bytes, result))
    if hasattr(result, "indptr"):
        return result.data.nbytes + result.indices.nbytes + result.indptr.nbytes
    return result.nbytes if isinstance(result, np.ndarray) else int(result.estimated_size())


def total_count(result: Any) -> int:
    """Number of pairs that a result accounts for."""
    if hasattr(result, "indptr"):
        return int(result.sum())
    return sum(int(part["len"].sum()) if hasattr(part, "columns") else int(part[1].sum()) for part in result)


def alone(contender: str, radius: int, ids: Ids, **environment: str) -> dict[str, Any]:
    """One contender in a process of its own.

    Returns
    -------
    dict
        ``peak``, bytes beyond the input; ``result``, bytes; ``cpu``, median CPU seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.npy"
        np.save(path, ids)
        return in_fresh_process("bench.peers.counting", contender, radius, path, POLARS_MAX_THREADS="1", **environment)


def best_numpy_cpu(radius: int, ids: Ids) -> float:
    """CPU seconds of numpy with the better of its sorts for this processor."""
    return min(alone("numpy", radius, ids, NPY_DISABLE_CPU_FEATURES=off)["cpu"] for off in ("", WITHOUT_AVX512))


def main(contender: str, radius: str, path: str) -> None:
    """Count in this process, after a small run that loads all code, and print what :func:`alone` returns."""
    run = CONTENDERS[contender]
    run(np.arange(1000, dtype=np.int32), 2)
    ids = np.load(path)
    before = peak_bytes()
    facts: dict[str, Any] = {"result": result_bytes(run(ids, int(radius)))}
    facts["peak"] = peak_bytes() - before
    facts["cpu"] = median_seconds([timed(lambda: run(ids, int(radius)))[1] for _ in range(3)]).cpu
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A small explicit model fitted, updated and asked on one core: milliseconds and peak memory of a process of its own.

``python -m bench.trials.one_core`` does it in this process and prints what :func:`on_one_core` returns as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import saffu
from bench.measure.clock import timed
from bench.measure.memory import in_fresh_process, peak_bytes

N_TOKENS, VOCAB_SIZE, LENGTH = 100_000, 1_000, 10  # of the text, of its vocabulary, of a document
REPEATS = 100
SETTINGS: dict[str, Any] = {"radius": 3, "order": 4, "windows": (), "induction": 0, "n_threads": 1}
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def on_one_core() -> dict[str, float]:
    """Fit a model of about 150,000 weights over 1,000 tokens in a process of its own, update it, let it answer.

    Returns its entries, the peak megabytes of the process, and milliseconds: of the fit, of 100 updates by ten tokens,
    and of 100 such updates each with an answer after it.
    """
    return in_fresh_process("bench.trials.one_core", **ONE_THREAD)


def main() -> None:
    """Measure in this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ids = np.minimum(np.random.default_rng(0).zipf(1.25, N_TOKENS) - 1, VOCAB_SIZE - 1)
    utterance = ids[:LENGTH]
    model = saffu.ExplicitLM(**SETTINGS)

    def milliseconds(run: Callable[[], Any], repeats: int = 1) -> float:
        return 1e3 * timed(lambda: [run() for _ in range(repeats)])[1].wall

    spent = {
        "fit": milliseconds(lambda: model.fit(ids, documents=np.arange(0, N_TOKENS, LENGTH), vocab_size=VOCAB_SIZE)),
        "update": milliseconds(lambda: model.update(utterance, documents=[0]), REPEATS),
        "answer": milliseconds(lambda: model.update(utterance, documents=[0]).distribution(utterance), REPEATS),
    }
    print(json.dumps({"entries": model.counts.n_entries, "megabytes": peak_bytes() / 2**20, **spent}))


if __name__ == "__main__":
    main()

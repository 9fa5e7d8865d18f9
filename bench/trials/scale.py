"""One size of text: ``saffu train`` and the scoring of its model, each in a process of its own.

``python -m bench.trials.scale train TEXT MODEL [OPTION ...]`` and ``... score MODEL TEXT`` print a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import saffu
from bench.measure.memory import in_fresh_process, peak_bytes
from saffu.cli import main as cli

MODULE = "bench.trials.scale"
SCORED = 20_000  # tokens


def trained(text: Path, model: Path, options: list[str], threads: int | None) -> dict[str, Any]:
    """Seconds, those of all processors, peak memory and sizes of ``saffu train``."""
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    return in_fresh_process(MODULE, "train", text, model, *options, **environment)


def scored(model: Path, text: Path, threads: int | None) -> dict[str, Any]:
    """Seconds to load a model as a memory-mapped one, and its perplexity."""
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    return in_fresh_process(MODULE, "score", model, text, **environment)


def train(text: str, model: str, *options: str) -> dict[str, Any]:
    """In the process that is measured."""
    began = time.perf_counter()
    if cli.main(["train", text, "--out", model, "--quiet", *options]):
        raise SystemExit(1)
    seconds, peak = time.perf_counter() - began, peak_bytes()
    return {
        "seconds": seconds,
        "processor seconds": time.process_time(),
        "peak bytes": peak,
        "model bytes": Path(model).stat().st_size,
    }


def score(model: str, text: str) -> dict[str, Any]:
    """In the process that is measured."""
    began = time.perf_counter()
    loaded = saffu.load(model, mmap=True)
    seconds = time.perf_counter() - began
    ids, starts = loaded.vocabulary.encode_text(Path(text).read_text(encoding="utf-8"))
    ids, starts = ids[:SCORED], starts[starts < min(ids.size, SCORED)]
    log_prob = loaded.log_prob(ids, documents=[0, *starts.tolist()])
    return {
        "load seconds": seconds,
        "perplexity": float(np.exp(-log_prob.mean())),
        "tokens": loaded.n_tokens,
        "types": loaded.vocab_size,
        "entries": loaded.counts.n_entries,
    }


if __name__ == "__main__":
    print(json.dumps({"train": train, "score": score}[sys.argv[1]](*sys.argv[2:])))

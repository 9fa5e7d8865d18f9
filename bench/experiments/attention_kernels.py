"""The attention kernels beside numpy and torch, milliseconds and how many times as long each peer takes.

``python -m bench.experiments.attention_kernels [--print]`` takes about two minutes. Needs torch and pytest-benchmark of
the bench extra.

Runs the suite ``bench/suites/test_attention.py`` and writes its ratios into RESULTS.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.report.command import only_print
from bench.report.tables import machine_line, markdown_table, publish

SUITE = ROOT / "bench" / "suites" / "test_attention.py"


def measured() -> list[dict[str, Any]]:
    """The records of the suite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "pytest", "-q", str(SUITE), "--benchmark-enable", f"--benchmark-json={path}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return json.loads(path.read_text(encoding="utf-8"))["benchmarks"]


def shape_of(record: dict[str, Any]) -> tuple[int, int, str]:
    """K, d, and what comes after them in the name of a benchmark."""
    found = re.search(r"\[K(\d+)-d(\d+)-(\w+)\]", record["name"])
    assert found is not None, record["name"]
    return int(found[1]), int(found[2]), found[3]


def pass_table(records: Sequence[dict[str, Any]]) -> str:
    """Forward, and forward with backward."""
    lines = []
    for record in records:
        K, d, part = shape_of(record)
        info = record["extra_info"]
        ratios = [f"{info[f'ratio_to_{peer}']:.1f}x" for peer in ("numpy", "einsum", "torch")]
        speed = f"{info['GB_per_s']:.0f}", f"{info['GFLOP_per_s']:.0f}"
        lines.append([part, str(K), str(d), f"{1e3 * record['stats']['median']:.2f}", *speed, *ratios])
    header = ["pass", "K", "d", "ms", "GB/s gathered", "GFLOP/s", "numpy, BLAS", "numpy, einsum", "torch"]
    return markdown_table(header, lines)


def cache_table(records: Sequence[dict[str, Any]]) -> str:
    """Comparisons from a table beside the same computed."""
    lines = []
    for record in records:
        K, d, part = shape_of(record)
        info = record["extra_info"]
        share, gain = f"{info['cached_pairs']:.0%}", f"{info['ratio_to_computed']:.2f}x"
        types = f"{info['cached_types']:,}" + (" (all)" if part == "all" else "")
        lines.append([str(K), str(d), types, share, f"{1e3 * record['stats']['median']:.2f}", gain])
    return markdown_table(["K", "d", "types in the table", "pairs found", "ms", "computed"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    printed = only_print("attention-kernels", __doc__, argv, ["torch", "pytest_benchmark"])
    records = measured()
    passes = [r for r in records if r["name"].startswith("test_attend[")]
    cached = [r for r in records if r["name"].startswith("test_cached_comparisons[")]
    about = (
        "4,096 positions of a Zipf stream, float32, one thread each, processor time; how many times as long each peer "
        "takes, the median of rounds in which both take turns. The numpy peers gather the windows and multiply by BLAS "
        "or by `einsum`; `both` is with the gradients of W and w, torch's by autograd."
    )
    report = [about, pass_table(passes), "Comparisons from the cache:", cache_table(cached)]
    publish("attention-kernels", "\n\n".join([*report, machine_line("one core", ["torch"])]), printed)


if __name__ == "__main__":
    main()

"""Benchmarks beside real peers, and the commands that write their tables. Run from the root of a checkout.

``python -m pytest bench --benchmark-enable`` runs the suites. ``python -m bench.results --all`` writes every table of
``bench/RESULTS.md``; each is also a command of its own: ``python -m bench.speed`` and ``python -m bench.quality``;
``bench.near_optimality``, ``drift``, ``warm_cold``, ``less_data`` and ``curves``, the experiments with hidden layers;
``bench.on_the_spot``, that of learning from each utterance heard; ``bench.saffu_warm_cold``, ``saffu_attention``,
``saffu_residual`` and ``saffu_throughput``, those with units of self-attention; ``bench.growth``. ``python -m
bench.neural_peers`` trains the neural peers of the language models alone, ``python -m bench.sanitize`` runs the kernel
tests under the sanitizers.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not list((ROOT / "saffu").glob("_core*.so")) + list((ROOT / "saffu").glob("_core*.pyd")):
    # An unbuilt checkout must not hide the installed package; benchmarks are then found behind it.
    sys.path[:] = [*(place for place in sys.path if Path(place or ".").resolve() != ROOT), str(ROOT)]

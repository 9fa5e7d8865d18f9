"""Benchmarks beside real peers, and the commands that write their tables. Run from the root of a checkout.

``python -m bench.results --all`` writes every table of ``bench/RESULTS.md`` and the table of the README; each table is
also a command of its own, ``python -m bench.experiments.NAME``. ``python -m pytest bench --benchmark-enable`` runs the
suites, ``python -m bench.sanitize`` the kernel tests under the sanitizers.

From the top down; nothing imports what is above it:

* ``suites``: pytest-benchmark, a kernel or a model beside its peers.
* ``experiments``: one command, one table. None imports another.
* ``trials``: training by the clock and tuning, the same for every contender.
* ``peers``: what saffu is measured against, in numpy, scipy, polars, scikit-learn and torch.
* ``data``: corpora, labelled data sets, made-up utterances.
* ``measure``: clocks, memory, scores.
* ``report``: how a command is called, what it needs, the tables that it writes.

A new experiment is a file in ``experiments`` with a ``main(argv)``, a line in ``results.TABLES`` and two marks in
``RESULTS.md``; its quick run is a test.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not list((ROOT / "saffu").glob("_core*.so")) + list((ROOT / "saffu").glob("_core*.pyd")):
    # An unbuilt checkout must not hide the installed package; benchmarks are then found behind it.
    sys.path[:] = [*(place for place in sys.path if Path(place or ".").resolve() != ROOT), str(ROOT)]

"""Commands, each of which measures one table of ``bench/RESULTS.md``.

``python -m bench.experiments.NAME --help``.
"""

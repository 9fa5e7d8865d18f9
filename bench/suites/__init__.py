"""Suites of pytest-benchmark: ``python -m pytest bench --benchmark-enable``."""

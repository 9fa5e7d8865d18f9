"""Benchmarks against peers; they need the ``bench`` extra."""

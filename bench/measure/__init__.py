"""Clocks, memory and scores: what every benchmark measures with. Nothing of ``bench`` but its root is imported here."""

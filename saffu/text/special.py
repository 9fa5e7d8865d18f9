"""The tokens that every vocabulary has."""

from __future__ import annotations

UNKNOWN, LINE_END = "<unk>", "<eos>"
REPLACEMENT = "\ufffd"  # what stands in a text for what cannot be decoded

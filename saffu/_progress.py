"""Progress on long work: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys

from tqdm import tqdm


def on_terminal() -> bool:
    """Whether standard error is a terminal; it may be closed, or missing."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def progress_bar(total: int | None, description: str, show: bool, in_bytes: bool = False) -> tqdm:
    """A bar of ``total`` steps or bytes; silent if ``show`` is False or standard error is not a terminal."""
    unit = {"unit": "B", "unit_scale": True} if in_bytes else {}
    return tqdm(total=total, desc=description, leave=False, disable=not (show and on_terminal()), **unit)

"""Progress on long work: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

from tqdm import tqdm


def progress_bar(total: int, description: str, show: bool) -> tqdm:
    """A bar of ``total`` steps; silent if ``show`` is False or standard error is not a terminal."""
    return tqdm(total=total, desc=description, leave=False, disable=None if show else True)

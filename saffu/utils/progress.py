"""Progress on long work: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

DELAY = 0.5  # seconds


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar that never passes its end, and is full when the work inside ``with`` is done.

    Iterations that may stop early are counted by the most that there can be.
    """

    n: float
    total: float | None

    def update(self, n: float = 1) -> bool | None:
        """Advance by ``n`` steps."""
        drawn: bool | None = super().update(n if self.total is None else min(n, self.total - self.n))
        return drawn

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if exc_type is None and not self.disable:
            self.total = self.n if self.total is None else self.total
            self.n = self.total
            self.refresh()
        super().__exit__(exc_type, exc_value, traceback)


def progress_bar(total: int | None, description: str, show: bool | None, in_bytes: bool = False) -> Bar:
    """A bar on standard error, drawn only if that is a terminal.

    Parameters
    ----------
    total : int or None
        Steps or bytes; None if that is not known.
    description : str
        What is written before the bar.
    show : bool or None
        None draws the bar if the work takes longer than DELAY seconds.
    in_bytes : bool
        Whether ``total`` and steps are bytes.

    Examples
    --------
    >>> with progress_bar(3, "count", show=False) as bar:
    ...     for _ in range(3):
    ...         _ = bar.update()
    """
    unit: dict[str, Any] = {"unit": "B", "unit_scale": True} if in_bytes else {}
    hidden = show is False or not on_terminal()
    return Bar(total=total, desc=description, leave=False, disable=hidden, delay=0 if show else DELAY, **unit)


def on_terminal() -> bool:
    """Whether standard error is a terminal; it may be closed, or there may be none."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False

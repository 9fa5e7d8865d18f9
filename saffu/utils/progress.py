"""Progress on long work: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

DELAY = 0.5  # seconds


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar that never passes its end, and stands there when the work inside ``with`` is done.

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
    """A bar of ``total`` steps or bytes (None: not known), on a terminal only.

    ``show`` is whether to draw it; None draws it if the work takes longer than DELAY.
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

"""An amount of wall time, and what is left of it."""

from __future__ import annotations

import time

from saffu.utils.durations import clock, duration


class TimeBudget:
    """Wall time that work may take.

    Parameters
    ----------
    seconds : float or str
        Or a time such as "15m"; see :func:`saffu.utils.durations.duration`.
    began : float, optional
        What ``time.monotonic`` was when it began; by default now.

    Examples
    --------
    >>> budget = TimeBudget("15m")
    >>> 890 < budget.left() <= 900
    True
    """

    def __init__(self, seconds: float | str, *, began: float | None = None) -> None:
        self.seconds = duration(seconds, "budget")
        self.began = time.monotonic() if began is None else began

    def left(self) -> float:
        """Seconds that are left; negative when it is over."""
        return self.began + self.seconds - time.monotonic()

    def __str__(self) -> str:
        return f"{clock(self.left())} left"

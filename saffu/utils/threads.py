"""The only thread policy: how many threads a call uses, and how work is dealt out to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from saffu import _core
from saffu.utils.locks import Lock

T = TypeVar("T")


def available_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def resolve_threads(n_threads: int | None = None) -> int:
    """Resolve ``n_threads`` to a positive number.

    Parameters
    ----------
    n_threads : int, optional
        None means ``OMP_NUM_THREADS`` if it is set, else the CPUs this process may use; a limit
        set by ``threadpoolctl`` lowers it. The core lowers it further to 4 a CPU or 16, whichever
        is more, and to 1 in a forked child; it does so again whenever it is called, so that a
        number that was resolved before a fork does no harm after it.

    Raises
    ------
    ValueError
        If ``n_threads`` is zero or negative, or above 1,024.
    TypeError
        If it is not an integer.

    Examples
    --------
    >>> resolve_threads(1)
    1
    """
    if n_threads is None:
        setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        resolved = int(setting) if setting.isdigit() and int(setting) > 0 else available_cpus()
        resolved = min(resolved, max(_core.max_threads(), 1), _core.MAX_THREADS)
    elif isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
        raise TypeError(f"n_threads must be a positive integer or None, got {n_threads!r}")
    else:
        resolved = int(n_threads)
        if resolved < 1:
            raise ValueError(f"n_threads must be at least 1, got {resolved}; leave it out to use every available CPU")
        if resolved > _core.MAX_THREADS:
            raise ValueError(f"n_threads must be at most {_core.MAX_THREADS}, got {resolved}")
    return _core.threads(resolved)


class Workers:
    """Threads that map a function over chunks; one call at a time.

    They start when they are first needed. Those of a parent process are not there in a forked child: it works alone.

    Parameters
    ----------
    n_threads : int

    Examples
    --------
    >>> Workers(2).map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(self, n_threads: int) -> None:
        self._wanted = n_threads
        self._pool: ThreadPoolExecutor | None = None

    @property
    def n_threads(self) -> int:
        """How many work, here and now."""
        return _core.threads(self._wanted)

    def map(self, function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """``[function(item) for item in items]``."""
        if self.n_threads == 1:
            return [function(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_threads)
        return list(self._pool.map(function, items))


_limiting = Lock()
_n_within = 0
_limits_before: list[tuple[Any, int]] = []  # libraries of BLAS, and what they go back to


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context in which BLAS computes on the thread that calls it, until the last thread has left it."""
    global _n_within, _limits_before
    blas = ThreadpoolController().select(user_api="blas")
    with _limiting:  # most limits hold for the process: the first thread sets them, the last one takes them back
        if _n_within == 0:
            _limits_before = [(library, library.num_threads) for library in blas.lib_controllers]
            _limit([(library, 1) for library in blas.lib_controllers])
        _n_within += 1
    try:
        with blas.limit(limits=1):  # some hold for a thread
            yield
    finally:
        with _limiting:
            _n_within -= 1
            if _n_within == 0:
                _limit(_limits_before)


def _limit(libraries: Iterable[tuple[Any, int]]) -> None:
    for library, number in libraries:
        # Since threadpoolctl 3.8 the first thread that limits OpenBLAS is the only one that can.
        give_up = getattr(library, "clear_controlling_thread", None)
        if give_up is not None:
            give_up(force=True)
        library.set_num_threads(number)
        if give_up is not None:
            give_up(force=True)

"""Values that are made when they are first asked for, by whichever of many threads asks first.

Any number of threads may read a model at once; a thread that changes it must be alone. Reading may still make values,
such as weights from counts. One thread makes each, under the lock of the object that keeps it, and publishes it whole
by setting one attribute. A thread that finds the attribute set takes no lock.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_generation = 0  # forks between the first process and this one
_renewing = threading.Lock()


def _after_fork() -> None:
    # The thread that held a lock in the parent does not exist in the child, and would never release it.
    global _generation, _renewing
    _generation, _renewing = _generation + 1, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Lock:
    """A lock that the thread which holds it may take again.

    A copy of it is open, and so is an unpickled one, or one after a fork in the child.
    """

    def __init__(self) -> None:
        self._lock, self._made_in = threading.RLock(), _generation

    def __enter__(self) -> None:
        if self._made_in != _generation:
            with _renewing:
                if self._made_in != _generation:
                    self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


def made_once(attribute: str) -> Callable[[Callable[[Any], T]], Callable[[Any], T]]:
    """Decorator of a method without arguments: its result is kept under ``attribute`` until that is None again.

    The object has a :class:`Lock` named ``_lock``.

    Parameters
    ----------
    attribute : str
        Name of the attribute, None at first.

    Examples
    --------
    >>> class Squares:
    ...     def __init__(self):
    ...         self._lock, self._table = Lock(), None
    ...
    ...     @made_once("_table")
    ...     def table(self):
    ...         print("made")
    ...         return [n * n for n in range(4)]
    >>> squares = Squares()
    >>> squares.table()
    made
    [0, 1, 4, 9]
    >>> squares.table()
    [0, 1, 4, 9]
    """

    def decorate(make: Callable[[Any], T]) -> Callable[[Any], T]:
        @functools.wraps(make)
        def made(self: Any) -> T:
            value: T | None = getattr(self, attribute)
            if value is None:
                with self._lock:
                    value = getattr(self, attribute)
                    if value is None:
                        value = make(self)
                        setattr(self, attribute, value)
            return value

        return made

    return decorate

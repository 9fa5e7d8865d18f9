"""Ctrl-C at the command line: one line and exit code 130, at any moment from the first import on.

While modules are imported nothing is being written, and the importing code of other libraries may swallow an exception
or print it: there Ctrl-C ends the process at once. Afterwards it raises KeyboardInterrupt once, which unwinds what is
under way, so that files are whole. A program that imports saffu is left alone: only the process of the command does
this. Since it comes before everything else it imports next to nothing, and does the first step when it is imported.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without the enumerations of signal itself, which take too long to import
import os
import sys
import time

TYPE_CHECKING = False  # that of typing, which would have to be imported
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

INTERRUPTED = 130
AGAIN = 1.0  # seconds in which another Ctrl-C is the same one: keys are held down


def begin_import() -> None:
    """Let Ctrl-C end the process at once while the package is imported, if the process is the command."""
    if _looks_for_module() or _is_script():
        leave_at_once()


def end_import() -> None:
    """Undo that, unless ``python -m saffu`` has yet to find and run the module."""
    if not _looks_for_module():
        as_before()


def _looks_for_module() -> bool:
    """Whether this is ``python -m saffu`` and Python is still looking for the module to run."""
    arguments: list[str] = getattr(sys, "argv", [])
    return arguments[:1] == ["-m"] and ("saffu" in sys.orig_argv or "-msaffu" in sys.orig_argv)


def _is_script() -> bool:
    arguments: list[str] = getattr(sys, "argv", None) or [""]
    name = os.path.basename(arguments[0])
    return name.removesuffix(".exe").removesuffix("-script.py") == "saffu"


def leave_at_once() -> None:
    """Let Ctrl-C end the process at once, with a line."""
    _replace(signal.default_int_handler, _leave)


def as_before() -> None:
    """Undo :func:`leave_at_once`."""
    _replace(_leave, signal.default_int_handler)


def _replace(old: Any, new: Any) -> bool:
    """Replace what Ctrl-C does if it is the old; a shell has it ignored in its background."""
    if signal.getsignal(signal.SIGINT) is not old:
        return False
    try:
        signal.signal(signal.SIGINT, new)
    except ValueError:  # not in the main thread
        return False
    return True


def _leave(number: int, frame: FrameType | None) -> None:
    print_error("saffu: interrupted")
    os._exit(INTERRUPTED)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End the process as a signal does, but unwind what is under way, so that temporary files are removed."""
    signal.signal(number, signal.SIG_DFL)  # another one is not waited for
    print_error("saffu: terminated")
    sys.exit(128 + number)


def print_error(line: str) -> None:
    """Write a line to standard error, if there is one; never to anything else."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # a full disk, a reader gone away, a closed file
            pass


class Watch:
    """Runs a command such that Ctrl-C raises KeyboardInterrupt in it once, and after it does nothing."""

    def __init__(self) -> None:
        self._last: float | None = None  # when Ctrl-C came
        self._over = False

    def run(self, command: Callable[[], int]) -> int:
        """Return the exit code of a command, or 130 if it was interrupted."""
        if not _replace(_leave, self._interrupt):
            return command()
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            code = command()
            self._over = True
            if self._last is not None and code == 0:  # it came when all was done, or some library swallowed it
                print_error("saffu: interrupted")
                code = INTERRUPTED
        except KeyboardInterrupt:
            self._over = True
            print_error("saffu: interrupted")
            code = INTERRUPTED
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process is about to end
        return code

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._over or (self._last is not None and now < self._last + AGAIN):
            return
        self._last = now
        raise KeyboardInterrupt

    def _unraisable(self, what: Any) -> None:
        """In a destructor or a callback an exception cannot be raised: raise it again in a moment, elsewhere."""
        if not issubclass(what.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(what)
            return
        from threading import Timer, main_thread

        self._last = None
        if hasattr(signal, "pthread_kill"):  # which wakes the main thread, too
            again = Timer(0.01, signal.pthread_kill, [main_thread().ident, signal.SIGINT])
        else:
            again = Timer(0.01, signal.raise_signal, [signal.SIGINT])
        again.daemon = True
        again.start()


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed, so that no file gets its number.

    What writes to standard error below Python would write into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


begin_import()

"""Folders for what does not fit into memory, which are gone when their process is, whatever ended it.

A folder is removed when its owner is collected or Python exits, also after an exception or Ctrl-C. A process that is
killed cannot do that: the next one that makes a folder in the same place removes those it finds without an owner. The
owner holds a lock on a file in the folder, which the system lets go with the process.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import weakref
from contextlib import suppress

PREFIX = ".saffu-spill-"
LOCK = "lock"
YOUNG = 60.0  # seconds in which a folder without a lock may be one that is being made


class SpillFolder:
    """A new folder in another, with folders of its own in it.

    Parameters
    ----------
    parent : str, optional
        By default the place of temporary files.

    Attributes
    ----------
    path : str

    Raises
    ------
    OSError
        If none can be made there.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = SpillFolder(parent)
    ...     there = os.path.isdir(folder.new())
    ...     folder.remove()
    ...     there, os.listdir(parent)
    (True, [])
    """

    def __init__(self, parent: str | None = None) -> None:
        parent = tempfile.gettempdir() if parent is None else parent
        remove_stale(parent)
        try:
            self.path = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=os.path.abspath(parent))
            lock = os.open(os.path.join(self.path, LOCK), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise OSError(f"cannot write into the folder {parent!r}: {error.strerror}") from error
        _try_to_lock(lock)
        self._n_made = 0
        self.remove = weakref.finalize(self, _remove_own, self.path, lock, os.getpid())

    def new(self) -> str:
        """A new folder in this one."""
        path = os.path.join(self.path, str(self._n_made))
        os.mkdir(path)
        self._n_made += 1
        return path


def remove_stale(parent: str) -> None:
    """Remove the folders in another whose processes are gone; what cannot be looked at stays."""
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False) and _is_stale(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_stale(path: str) -> bool:
    try:
        lock = os.open(os.path.join(path, LOCK), os.O_RDWR)
    except FileNotFoundError:
        with suppress(OSError):
            return time.time() - os.stat(path).st_mtime > YOUNG
        return False
    except OSError:
        return False
    try:
        return _try_to_lock(lock)
    finally:
        os.close(lock)


def _try_to_lock(descriptor: int) -> bool:
    """Lock a file for as long as it stays open; whether nobody else holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _remove_own(path: str, lock: int, pid: int) -> None:
    if os.getpid() == pid:  # not in a child that was forked off
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)

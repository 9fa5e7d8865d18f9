"""What every command checks before it works: that its outputs can be written, and are none of its inputs.

A file is the same through every kind of link, so files are compared by device and number, not by name.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterable, Sequence

from saffu.text import STANDARD_INPUT
from saffu.utils import checkpoint

Identity = tuple[int, int]


def check_outputs(outputs: Sequence[str], inputs: Iterable[str]) -> None:
    """Refuse an output that is an input, lies in a folder that is one, or cannot be written.

    Parameters
    ----------
    outputs : sequence of str
        Files to be written. Nothing is left of what is tried here.
    inputs : iterable of str
        Files and folders to be read; ``-`` is standard input.

    Raises
    ------
    ValueError
        If an output is an input, or lies in one.
    OSError
        If an output cannot be written.
    """
    known = _known(inputs)
    for output in outputs:
        _check_is_no_input(output, known)
        checkpoint.check_writable(output)


def check_standard_output(inputs: Iterable[str]) -> None:
    """Refuse to print into a file that is read: it would grow while it is read, without an end.

    Raises
    ------
    ValueError
        If standard output goes to one of the inputs.
    """
    try:
        status = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # a standard output that is no file
        return
    name = _known(inputs).get((status.st_dev, status.st_ino))
    if name is not None and stat.S_ISREG(status.st_mode):
        raise ValueError(f"standard output goes to {name!r}, which is an input; name another output")


def check_folder(folder: str, files: Iterable[str], inputs: Iterable[str]) -> None:
    """The same of a folder, which need not be there yet, and of files in it.

    Parameters
    ----------
    folder : str
    files : iterable of str
        What may be written in it, or in folders in it if these are there.
    inputs : iterable of str
    """
    known = _known(inputs)
    _check_is_no_input(folder, known)
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise OSError(f"cannot write into {folder!r}: {place!r} is not a folder")
    checkpoint.check_writable(os.path.join(place, f".saffu-{secrets.token_hex(8)}"))  # a name that nothing has
    for file in files:
        if os.path.lexists(os.path.dirname(file)):
            _check_is_no_input(file, known)
            checkpoint.check_writable(file)


def _known(inputs: Iterable[str]) -> dict[Identity, str]:
    """The inputs that there are, by what identifies them."""
    found = ((_identity(path), path) for path in inputs)
    return {identity: path for identity, path in found if identity is not None}


def _identity(path: str) -> Identity | None:
    try:
        status = os.fstat(sys.stdin.fileno()) if path == STANDARD_INPUT else os.stat(path)
    except (OSError, AttributeError, ValueError):  # not there, or a standard input that is no file
        return None
    return status.st_dev, status.st_ino


def _check_is_no_input(output: str, known: dict[Identity, str]) -> None:
    place = os.path.realpath(output)
    identity = _identity(place)
    if identity in known:
        other = known[identity]
        name = "standard input" if other == STANDARD_INPUT else repr(other)
        also = "" if other == output else f" ({name})"
        raise ValueError(f"{output!r} is an input{also}, too, and would be replaced; name another output")
    while (above := os.path.dirname(place)) != place:
        place = above
        identity = _identity(place)
        if identity in known:
            raise ValueError(f"{output!r} lies in {known[identity]!r}, which is an input; name another output")

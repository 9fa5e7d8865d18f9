"""A file of results that only grows: one JSON object on each line, on the disk before the next one is begun.

A process may be killed at any moment. Then the last line may be torn; it is dropped at the next opening, and
everything before it counts. The first line names what the results belong to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Self

try:
    import fcntl
except ImportError:  # there is no such lock on Windows
    fcntl = None  # type: ignore[assignment]


class ResultLog:
    """Opens or creates the file, drops a torn last line, and reads the records.

    Parameters
    ----------
    path : str or path
    header : mapping
        What the records belong to, as JSON can hold it.

    Attributes
    ----------
    records : list of dict
        The records in the file, the header left out.

    Raises
    ------
    OSError
        If the file cannot be read and written, or another process has it open.
    ValueError
        If the file belongs to another header, or a line other than the last is damaged.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "results.jsonl")
    >>> with ResultLog(path, {"text": "a"}) as log:
    ...     log.append({"perplexity": 12.5})
    >>> with ResultLog(path, {"text": "a"}) as log:
    ...     log.records
    [{'perplexity': 12.5}]
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        self.path = os.fspath(path)
        self.records: list[dict[str, Any]] = []
        self._file = open(self.path, "a+b")  # noqa: SIM115 (closed by close)
        try:
            self._lock()
            self._recover(dict(header))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it is whole after every :meth:`append` anyway."""
        self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record and wait until it is on the disk.

        Raises
        ------
        ValueError, TypeError
            If JSON cannot hold it, as it cannot hold NaN; nothing is written then.
        """
        line = json.dumps(record, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(json.loads(line))  # as it will be read back

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(_in_use(self.path)) from None

    def _recover(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        torn = lines.pop()
        if torn:
            self._file.truncate(self._file.tell() - len(torn))
        records = [self._parsed(line, number) for number, line in enumerate(lines, 1)]
        if not records:
            self.append(header)
            self.records.clear()
        elif records[0] != json.loads(json.dumps(header)):
            raise ValueError(
                f"{self.path!r} holds other results: {_differences(records[0], header)}; name "
                "another folder, or delete the file to begin anew"
            )
        else:
            self.records = records[1:]

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(f"{self.path!r} is damaged at line {number}; delete that line to go on without its result")
        return record


def check_free(path: str | os.PathLike[str]) -> None:
    """Raise OSError now if another process has the file open; nothing is changed, and a file need not be there."""
    if fcntl is None or not os.path.exists(path):
        return
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back as the file is closed
        except BlockingIOError:
            raise OSError(_in_use(os.fspath(path))) from None


def _in_use(path: str) -> str:
    return f"{path!r} is in use by another process; wait for it or write elsewhere"


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    return ", ".join(f"{name} {found.get(name)} instead of {expected.get(name)}" for name in names)

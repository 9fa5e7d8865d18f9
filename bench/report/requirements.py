"""What a command will need in the end, looked for before it begins; a command ends with one line if it is missing."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from saffu.cli import files as cli_files


def fail(message: str) -> NoReturn:
    """End the command with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def installed(library: str) -> bool:
    """Whether a distribution is installed."""
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def require(*modules: str) -> None:
    """End now if a module that the command will need later is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        fail(f"this needs {' and '.join(missing)}; pip install 'saffu[bench]' installs what the benchmarks need")


def check_writable(files: Sequence[Path]) -> None:
    """End now if one of some files cannot be written, or lies in the folder of the data sets."""
    data = [os.environ["SAFFU_DATA"]] if os.environ.get("SAFFU_DATA") else []
    try:
        for file in files:
            cli_files.check_folder(str(file.parent), [str(file)], data)
    except (OSError, ValueError) as error:
        fail(str(error))


def data_folder() -> Path:
    """Folder of the data sets, from the environment variable SAFFU_DATA."""
    folder = Path(os.environ.get("SAFFU_DATA", ""))
    if not os.environ.get("SAFFU_DATA") or not folder.is_dir():
        fail("set SAFFU_DATA to the folder of the data sets")
    return folder

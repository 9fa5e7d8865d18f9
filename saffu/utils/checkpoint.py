"""One-file models: arrays as safetensors, everything else as JSON in its header. Loading executes nothing.

A file appears under its name only when it is whole: it is written beside it under a temporary name, flushed to disk
and renamed. It holds a CRC-32 of every array and one of the metadata; files of before, without them, load as well.

A class takes part by ``@register("its kind")``, a method ``_to_checkpoint() -> (arrays, metadata)`` and a classmethod
``_from_checkpoint(arrays, metadata)``. The latter raises :class:`Damaged` where the parts do not make a model, and only
there: any other exception is an error of the program and stays what it is. Keys that are missing in its arguments, or
in any mapping within, raise it by themselves; :func:`parse` turns what a check of the arguments raises into it.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from saffu.utils import tensor_files
from saffu.utils.arrays import Array

FORMAT = 1
_HEADER_KEY = "saffu"
_LAST = ', "checksum": '  # what comes before the CRC-32 of all metadata before it, the last entry of the metadata
_HEADER_LIMIT = 100_000_000  # bytes; the limit of safetensors itself
_kinds: dict[str, type] = {}
Path = str | os.PathLike[str]
Model = TypeVar("Model", bound=type)
T = TypeVar("T")


# ---- damage ----------------------------------------------------------------------------------------------------------


class Damaged(ValueError):
    """The parts of a file do not make a model: one is missing, or does not fit the others in kind or size."""


class Parts(dict[str, Any]):
    """What a file holds, by name; what it lacks is damage."""

    def __missing__(self, name: str) -> NoReturn:
        raise Damaged(f"{name!r} is missing")


def parse(check: Callable[..., T], *arguments: Any, **settings: Any) -> T:
    """Return ``check(*arguments, **settings)``, where arguments come from a file: what it refuses is damage.

    Raises
    ------
    Damaged
        Instead of the ValueError, TypeError or OverflowError of the check.
    """
    try:
        return check(*arguments, **settings)
    except (ValueError, TypeError, OverflowError) as error:
        raise Damaged(str(error)) from error


# ---- models ----------------------------------------------------------------------------------------------------------


def register(kind: str) -> Callable[[Model], Model]:
    """Class decorator: files of this ``kind`` are loaded as instances of the class.

    Raises
    ------
    ValueError
        If another class is registered for the kind.
    """

    def decorate(cls: Model) -> Model:
        if kind in _kinds:
            raise ValueError(f"kind {kind!r} is already registered, by {_kinds[kind].__name__}")
        _kinds[kind] = cls
        cls._checkpoint_kind = kind  # type: ignore[attr-defined]
        return cls

    return decorate


def save(model: Any, path: Path) -> None:
    """Write a model to one file; an existing file is replaced only when the new one is whole.

    Parameters
    ----------
    model : object
        An instance of a registered class.
    path : str or path

    Raises
    ------
    OSError
        If the file cannot be written; nothing is left behind.
    TypeError
        If the model's class is not registered.
    """
    kind = getattr(model, "_checkpoint_kind", None)
    if kind is None:
        raise TypeError(f"model must be one of {', '.join(all_kinds())}, got {type(model).__name__}")
    arrays, metadata = model._to_checkpoint()
    write(path, kind, arrays, metadata)


def load(path: Path, *, mmap: bool = False) -> Any:
    """Load a model from the file that :func:`save` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path
    mmap : bool
        Map the tables of an :class:`saffu.ExplicitLM` into memory instead of reading them: that takes a moment
        whatever their size, and memory for what is looked at alone. The file is then not checked, so do this with files
        that you trust, and keep them as they are while the model is in use (:meth:`save` replaces a file without a
        change to the old one). Large models and those of a memory limit are saved so that this works; small ones, and
        models of other kinds, are read as without it.

    Returns
    -------
    object
        A model of the class that the file names.

    Raises
    ------
    FileNotFoundError, OSError
        If the file cannot be read.
    ValueError
        If it is not a model, is cut short or damaged, or comes from a newer format or an unknown kind.

    Examples
    --------
    >>> import tempfile
    >>> from saffu import BitCipher
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     BitCipher(2).fit([0, 0, 1]).save(f"{folder}/cipher")
    ...     load(f"{folder}/cipher").vocab_size
    2
    """
    kind, arrays, metadata = read(path, mmap)
    if kind not in all_kinds():
        raise ValueError(f"{_name(path)} holds a model of unknown kind {kind!r}; known here: {', '.join(_kinds)}")
    try:
        return _kinds[kind]._from_checkpoint(arrays, metadata)  # type: ignore[attr-defined]
    except Damaged as error:
        raise Damaged(f"{_name(path)} is a damaged {kind} model: {error}") from error


def checked(arrays: Mapping[str, Array], name: str, dtype: type, shape: tuple[int, ...]) -> Array:
    """An array of a file.

    Raises
    ------
    Damaged
        If it is missing, of another type or shape, or not finite.
    """
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape or not np.isfinite(array).all():
        raise Damaged(f"array {name!r} must be finite {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
    return array


def with_prefix(arrays: Mapping[str, Array], prefix: str) -> Parts:
    """The arrays whose names begin so, by the rest of their names."""
    return Parts((name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix))


def all_kinds() -> dict[str, type]:
    """The registered classes: those of the package are when its names, imported when asked for, have been asked for."""
    for name in import_module("saffu").__all__:
        getattr(import_module("saffu"), name)
    return _kinds


# ---- files -----------------------------------------------------------------------------------------------------------


def write(path: Path, kind: str, arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to one file, whole or not at all.

    Parameters
    ----------
    path : str or path
    kind : str
        What :func:`load` will make of it.
    arrays : mapping of str to ndarray
        Booleans, integers or floats of any shape and memory order.
    metadata : mapping
        Anything that JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as it was.
    TypeError, ValueError
        If an array or the metadata cannot be represented.
    """
    contiguous = {name: _storable(name, array) for name, array in arrays.items()}

    def describe(checksums: Mapping[str, int]) -> dict[str, str]:
        header = {"format": FORMAT, "kind": kind, "metadata": dict(metadata), "checksums": dict(checksums)}
        text = json.dumps(header, allow_nan=False).removesuffix("}")
        return {_HEADER_KEY: f"{text}{_LAST}{zlib.crc32(text.encode())}}}"}

    describe(dict.fromkeys(contiguous, 0))  # what JSON cannot hold is an error before anything is written
    with replacing(path) as temporary:
        tensor_files.write(temporary, contiguous, describe)


def read(path: Path, mmap: bool = False) -> tuple[str, dict[str, Array], dict[str, Any]]:
    """Read the kind, the arrays and the metadata of a file.

    Parameters
    ----------
    path : str or path
    mmap : bool
        Map large arrays into memory, if the class can be made of such; they are read-only, and none is checked.

    Returns
    -------
    kind : str
    arrays, metadata : Parts

    Raises
    ------
    FileNotFoundError, OSError
        If the file cannot be read.
    ValueError
        If it is not a model, is cut short or damaged, or comes from a newer format.
    """
    header = _read_header(path)
    kind, metadata, checksums = _parse(path, header)
    if mmap and getattr(all_kinds().get(kind), "_can_be_mapped", False):
        return kind, _mapped(path, header), metadata
    try:
        with safe_open(os.fspath(path), "numpy") as file:
            arrays = Parts((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise Damaged(f"{_name(path)} is a damaged model: {error}") from error
    if checksums is not None:
        for name in sorted({*arrays, *checksums}):
            if name not in arrays or checksums.get(name) != tensor_files.checksum(arrays[name]):
                raise Damaged(f"{_name(path)} is a damaged model: array {name!r} is not what was written")
    return kind, arrays, metadata


def _mapped(path: Path, header: Mapping[str, Any]) -> Parts:
    """The arrays of a file, those that are large mapped into memory."""
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    try:
        return Parts(tensor_files.read_mapped(path, entries))
    except (ValueError, TypeError, LookupError) as error:
        raise Damaged(f"{_name(path)} is a damaged model: {error}") from error


def check_writable(path: Path) -> None:
    """Raise OSError now if :func:`write` could not write ``path`` later."""
    target = _target(path)
    temporary = _temporary_name(target)
    try:
        _create(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _storable(name: str, array: Array) -> Array:
    array = np.asarray(array)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"array {name!r} must be boolean, integer or float of at most 64 bits, got {array.dtype}")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


@contextmanager
def replacing(path: Path) -> Iterator[str]:
    """Yield a temporary name beside ``path``; rename it on success, remove it on any error."""
    target = _target(path)
    temporary = _temporary_name(target)
    try:
        mode = _create(temporary, target)
        yield temporary
        os.chmod(temporary, mode)
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, (SafetensorError, OSError)) and not str(error).startswith("cannot write "):
            raise OSError(f"cannot write {_name(path)}: {error}") from error
        raise


def _target(path: Path) -> str:
    """Where a file is really written: behind symbolic links, and only over a regular file."""
    target = os.path.realpath(path)
    if os.path.lexists(target) and not os.path.isfile(target):
        what = "a folder" if os.path.isdir(target) else "not a regular file"
        raise OSError(f"cannot write {_name(path)}: it is {what}")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise OSError(f"cannot write {_name(path)}: there is no folder {folder!r}")
    try:
        os.lstat(target)
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long
        raise OSError(f"cannot write {_name(path)}: {error.strerror}") from error
    if os.path.isfile(target) and not os.access(target, os.W_OK):
        raise OSError(f"cannot write {_name(path)}: the existing file is read-only")
    return target


def _temporary_name(target: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name[:100]}.{secrets.token_hex(6)}.tmp")


def _create(temporary: str, target: str) -> int:
    """Create an empty file beside ``target``; return the permissions that the target shall have."""
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        raise OSError(f"cannot write {target!r}: {error.strerror} in its folder") from error
    try:
        existing = os.path.exists(target)
        return stat.S_IMODE((os.stat(target) if existing else os.fstat(descriptor)).st_mode)
    finally:
        os.close(descriptor)


def _flush(path: str) -> None:
    """Wait until a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, after a check that the file has the length it gives."""
    not_a_model = f"{_name(path)} is not a saffu model"
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
            raise ValueError(f"{_name(path)} is a pipe; a model is read from a file")
        size = status.st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        start = file.read(1)
        if len(prefix) < 8 or length > _HEADER_LIMIT or start != b"{":
            raise ValueError(not_a_model)
        text = start + file.read(length - 1)
    cut_short = f"{_name(path)} is cut short: it has {size} bytes and should have"
    if len(text) < length:
        raise ValueError(f"{cut_short} more than {8 + length}")
    if not text.rstrip(b" ").endswith(b"}"):  # what fills the header up is spaces
        raise ValueError(not_a_model)
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(not_a_model) from error
    if size < expected:
        raise ValueError(f"{cut_short} {expected}")
    return header


def _parse(path: Path, header: dict[str, Any]) -> tuple[str, Parts, dict[str, int] | None]:
    """Kind, metadata and checksums (None in a file of before there were any) of a header, its format checked."""
    strings = header.get("__metadata__")
    if not isinstance(strings, dict) or _HEADER_KEY not in strings:
        raise ValueError(f"{_name(path)} is not a saffu model, but another safetensors file")
    text = strings[_HEADER_KEY]
    damaged = Damaged(f"the metadata of {_name(path)} is damaged")
    try:
        ours = json.loads(text, object_hook=Parts)
        version = ours["format"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise damaged from error
    if type(version) is int and version > FORMAT:
        upgrade = f"this saffu reads formats up to {FORMAT}; install a newer saffu"
        raise ValueError(f"{_name(path)} has format {version}, and {upgrade}")
    kind, metadata, checksums = ours.get("kind"), ours.get("metadata"), ours.get("checksums")
    if type(version) is not int or not isinstance(kind, str) or not isinstance(metadata, dict):
        raise damaged
    if checksums is None and "checksum" not in ours:  # a file has both or neither
        return kind, Parts(metadata), None
    if not isinstance(checksums, dict) or ours.get("checksum") != zlib.crc32(text.rpartition(_LAST)[0].encode()):
        raise damaged
    return kind, Parts(metadata), checksums


def _name(path: Path) -> str:
    return repr(os.fspath(path))

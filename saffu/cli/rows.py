"""Rows and token ids as arrays in files: ``.npz`` of numpy, and the svmlight format."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from saffu.classifier.labels import Classes, numbers_of
from saffu.utils import validate
from saffu.utils.arrays import Array, Int32, Matrix
from saffu.utils.streams import TokenStream


def is_npz(path: str) -> bool:
    """Whether a file has the name of an archive of arrays."""
    return path.endswith(".npz")


def read_ids(path: str, vocab_size: int) -> TokenStream:
    """Token ids: an array ``ids`` and, optionally, ``documents``, the offsets at which documents start.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError, TypeError
        If it is no archive, lacks ``ids``, or holds something else in them than tokens of this vocabulary.
    """
    arrays = _read_npz(path, "ids")
    stream = TokenStream.of(arrays["ids"], arrays.get("documents"), vocab_size, f"ids of {path!r}")
    if stream.ids.size == 0:
        raise ValueError(f"{path!r} holds no tokens")
    return stream


def read_rows(path: str, n_features: int) -> tuple[Matrix, Array]:
    """Features, shape (M, D), and labels, shape (M,).

    Parameters
    ----------
    path : str
        An archive with arrays ``X`` and ``y``, or a file of the svmlight format.
    n_features : int
        D.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is neither, or holds no rows; or if scikit-learn, which reads svmlight, is not installed.
    """
    if is_npz(path):
        arrays = _read_npz(path, "X", "y")
        X, y = arrays["X"], arrays["y"]
    else:
        X, y = _read_svmlight(path, n_features)
    X = validate.features(X, f"X of {path!r}", n_features)
    if X.shape[0] == 0:
        raise ValueError(f"{path!r} holds no rows")
    return X, validate.labels(y, f"y of {path!r}", X.shape[0])


def class_numbers(labels: Array, classes: Classes, path: str) -> Int32:
    """The place of each label among the classes of a model.

    Raises
    ------
    ValueError, TypeError
        If a label is none of them.
    """
    return numbers_of(labels, classes, f"y of {path!r}")


def n_features(model: Any) -> int:
    """D, the number of features of a classifier."""
    return int(model.n_features_in_)


def _read_npz(path: str, *names: str) -> Mapping[str, Array]:
    """The arrays of an archive, among them those of these names; nothing in it is executed."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path!r} is not an archive of arrays, as numpy.savez writes them")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
            raise ValueError(f"{path!r} is damaged, or holds other things than arrays of numbers: {error}") from error
    for name in names:
        if name not in arrays:
            raise ValueError(f"{path!r} must hold {' and '.join(names)}, it holds {', '.join(arrays) or 'nothing'}")
    return arrays


def _read_svmlight(path: str, n_features: int) -> tuple[Any, Array]:
    try:
        from sklearn.datasets import load_svmlight_file
    except ImportError as error:
        raise ValueError(
            f"{path!r} is not named .npz; pip install 'saffu[sklearn]' lets saffu read the svmlight format"
        ) from error
    with open(path, "rb") as file:
        try:
            X, y = load_svmlight_file(file, n_features=n_features, dtype=np.float64)
        except (ValueError, UnicodeDecodeError, IndexError, OverflowError) as error:
            reason = str(error)[:100]  # which may quote a line of any length
            raise ValueError(f"{path!r} is neither .npz nor svmlight with {n_features} features: {reason}") from error
    return X, y

"""The only input checks: each returns its value, converted, or names the argument, what was expected and what came.

A value of the wrong type is a TypeError, one that is out of range or does not fit the others a ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from saffu import _core
from saffu.utils.arrays import Array, Float64, Int32, Int64
from saffu.utils.arrays import Matrix as Matrix

INT32_MAX = 2**31 - 1
LABELS = "integer labels, booleans or strings"
# The largest sizes of models. A computation near them takes more memory than there is, but more are surely a mistake.
LARGEST = {
    "bits": 1 << 16,
    "block": 1 << 16,
    "radius": 1 << 16,
    "heads": 1 << 10,
    "layers": 1 << 10,
    "hidden": 1 << 16,
    "head_dim": 1 << 16,
    "key": 1 << 16,
    "key_dim": 1 << 16,
    "value": 1 << 16,
    "mlp": 1 << 18,
    "positions": 1 << 24,
    "window": 1 << 24,
    "vocab_size": INT32_MAX,
    "units": 1 << 16,
    "rounds": 1 << 16,
    "shape": INT32_MAX,
    "patch": INT32_MAX,
    "stride": INT32_MAX,
    "pool": INT32_MAX,
}


def integer(value: Any, name: str, minimum: int, maximum: int | None = None) -> int:
    """``value`` as an int of at least ``minimum`` and, if given, at most ``maximum``.

    Examples
    --------
    >>> integer(0, "order", minimum=2)
    Traceback (most recent call last):
    ValueError: order must be at least 2, got 0
    """
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {value}")
    return int(value)


def size(value: Any, name: str, minimum: int = 1) -> int:
    """``value`` as a size of a model, of at least ``minimum`` and at most ``LARGEST`` of that name."""
    return integer(value, name, minimum, LARGEST[name])


def choice(value: Any, name: str, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    chosen: str = value
    return chosen


def token_ids(values: ArrayLike, name: str = "ids", vocab_size: int | None = None, keep: bool = False) -> Int32:
    """A stream of token ids as a contiguous int32 vector, every id in [0, vocab_size).

    The result may be the caller's own memory. With ``keep`` it is a copy, for who keeps it beyond the call: ids that
    are trusted to be in the vocabulary must not change afterwards.

    Examples
    --------
    >>> token_ids([1, 7], vocab_size=5)
    Traceback (most recent call last):
    ValueError: ids must be below 5, got 7 at position 1
    """
    array = np.asarray(values)
    if array.size == 0 and array.ndim <= 1:
        return np.empty(0, np.int32)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}; encode tokens with a Vocabulary first")
    low, high = int(array.min()), int(array.max())
    bound = INT32_MAX if vocab_size is None else vocab_size
    if low < 0:
        raise ValueError(f"{name} must not be negative, got {low} at position {int(array.argmin())}")
    if high >= bound:
        raise ValueError(f"{name} must be below {bound}, got {high} at position {int(array.argmax())}")
    if array.size > INT32_MAX:
        raise ValueError(f"{name} holds {array.size} tokens; feed at most {INT32_MAX} at a time (partial_fit)")
    return np.array(array, np.int32) if keep else np.ascontiguousarray(array, np.int32)


def document_starts(values: ArrayLike | None, n_tokens: int, name: str = "documents", from_zero: bool = True) -> Int64:
    """Ascending start offsets of documents in a stream of ``n_tokens``, in a new array; None means one document.

    With ``from_zero`` the stream's first token always begins a document, whether or not 0 is listed.

    Examples
    --------
    >>> document_starts([3, 5], n_tokens=9).tolist()
    [0, 3, 5]
    """
    if values is None:
        array = np.empty(0, np.int64)
    else:
        array = np.atleast_1d(np.asarray(values))
        if array.size == 0:
            array = np.empty(0, np.int64)
        elif array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{name} must be a vector of integer start offsets, got {array.dtype} {array.shape}")
        array = array.astype(np.int64)
        if array.size and (array[0] < 0 or array[-1] > n_tokens or (np.diff(array) < 0).any()):
            raise ValueError(f"{name} must be ascending start offsets between 0 and {n_tokens}, the number of tokens")
        array = np.unique(array[array < n_tokens])
    if from_zero and n_tokens and (array.size == 0 or array[0] != 0):
        array = np.concatenate([np.zeros(1, np.int64), array])
    return array


def distances(values: ArrayLike | int, name: str = "distances") -> Int64:
    """Ascending, distinct, positive distances; an integer is a single one."""
    array = np.atleast_1d(np.asarray(values))
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    array = np.sort(array.astype(np.int64).ravel())
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one distance")
    if array[0] < 1:
        raise ValueError(f"{name} must be at least 1, got {array[0]}")
    if (np.diff(array) == 0).any():
        raise ValueError(f"{name} must be distinct, got {array.tolist()}")
    return array


# ---- features, labels and targets of a classifier ----------------------------------------------------------------


def features(values: Any, name: str = "features", n_columns: int | None = None) -> Matrix:
    """A matrix of float32 or float64: a C-contiguous array, or a CSR array if ``values`` is sparse.

    Integers become float32 where that is exact (up to 16 bits) and float64 otherwise.

    Examples
    --------
    >>> features([[1, 0], [0, 2]]).dtype
    dtype('float64')
    """
    matrix: Matrix = _csr(values, name) if issparse(values) else np.asarray(values)
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numbers, got dtype {matrix.dtype}")
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be a matrix with a row for each example, got shape {matrix.shape}")
    if n_columns is not None and matrix.shape[1] != n_columns:
        raise ValueError(f"{name} must have {n_columns} columns, got {matrix.shape[1]}")
    if matrix.dtype not in (np.float32, np.float64):
        small = (matrix.dtype.kind != "f" and matrix.dtype.itemsize <= 2) or matrix.dtype == np.float16
        matrix = matrix.astype(np.float32 if small else np.float64)
    return matrix if issparse(matrix) else np.ascontiguousarray(matrix)


def _csr(values: Any, name: str) -> csr_array:
    """A sparse matrix as CSR, whose offsets and indices are checked before any code of scipy follows them."""
    if len(values.shape) != 2:
        raise ValueError(f"{name} must be a matrix with a row for each example, got shape {values.shape}")
    if values.format not in ("csr", "csc", "bsr"):
        if values.format == "dia" and np.shape(values.offsets) != np.shape(values.data)[:1]:
            raise ValueError(f"{name} must have one offset for each of its diagonals")
        values = values.tocoo()
    try:
        _sparse_parts(values)
        matrix = csr_array(values)
        _sparse_parts(matrix)
    except ValueError as error:
        raise ValueError(f"{name} is not a sound sparse matrix: {error}") from None
    return matrix


def _sparse_parts(matrix: Any) -> None:
    """Refuse offsets that do not ascend within the stored values, and rows or columns out of range."""
    if matrix.format == "coo":
        for places, size, axis in zip(matrix.coords, matrix.shape, ("row", "column"), strict=True):
            places = np.asarray(places)
            if places.shape != np.shape(matrix.data):
                raise ValueError(f"{axis} indices and values must have equal lengths")
            if places.size and not (places.min() >= 0 and places.max() < size):
                raise ValueError(f"{axis} indices must be between 0 and {size - 1}")
        return
    n_rows, n_columns = matrix.shape if matrix.format != "csc" else matrix.shape[::-1]
    data = np.asarray(matrix.data)
    if matrix.format == "bsr":
        if data.ndim != 3 or 0 in data.shape[1:] or n_rows % data.shape[1] or n_columns % data.shape[2]:
            raise ValueError(f"blocks {data.shape[1:]} must divide the shape {matrix.shape}")
        n_rows, n_columns = n_rows // data.shape[1], n_columns // data.shape[2]
    elif data.ndim != 1:
        raise ValueError(f"values must be a vector, got shape {data.shape}")
    indptr, indices = (_integers(part) for part in (matrix.indptr, matrix.indices))
    if indptr.size != n_rows + 1:
        raise ValueError(f"indptr must have {n_rows + 1} offsets, got {indptr.size}")
    _core.check_csr(indptr, indices, n_columns, len(data), min(_core.max_threads(), _core.MAX_THREADS))


def _integers(values: Any) -> Array:
    """A vector of int32 or int64."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"offsets and indices must be vectors of integers, got {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, np.int32 if array.dtype == np.int32 else np.int64)


def lowest(matrix: Matrix, n_threads: int) -> float:
    """The least stored entry of what ``features`` returned; NaN if one is not finite, inf if there is none."""
    stored = matrix.data if issparse(matrix) else matrix.reshape(-1)
    return _core.lowest(np.ascontiguousarray(stored), n_threads)


def counts_like(matrix: Matrix, name: str, n_threads: int) -> None:
    """Refuse a negative, infinite or NaN entry."""
    least = lowest(matrix, n_threads)
    if least >= 0:
        return
    stored = matrix.data if issparse(matrix) else matrix.reshape(-1)
    place = int(np.argmax(~(stored >= 0) | np.isinf(stored)))
    if issparse(matrix):
        row, column = int(np.searchsorted(matrix.indptr, place, "right")) - 1, int(matrix.indices[place])
    else:
        row, column = divmod(place, matrix.shape[1])
    raise ValueError(f"{name} must be finite and not negative, got {stored[place]} in row {row}, column {column}")


def is_soft(values: Any) -> bool:
    """Whether ``values`` are a matrix of soft targets; a column of labels is labels."""
    try:
        shape = np.shape(values)
    except ValueError:  # rows of unequal lengths, which ``labels`` refuses
        return False
    return len(shape) == 2 and shape[1] != 1


def labels(values: ArrayLike, name: str, n_rows: int) -> Array:
    """A vector of labels, one for each row: integers of any size, booleans or strings (dtype ``U``).

    ``values`` may be a column, floats with integral values, or objects that are labels of one kind.

    Examples
    --------
    >>> labels([2.0, 5.0], "y", n_rows=2).tolist()
    [2, 5]
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be a vector of labels or a matrix of soft targets: {error}") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a vector of labels or a matrix of soft targets, got shape {array.shape}")
    if array.dtype.kind == "O" or (array.dtype.kind == "U" and not hasattr(values, "__array__")):
        # A list of strings and numbers is an array of strings to numpy: look at its elements one by one.
        array = _labels_of_one_kind(np.asarray(values, dtype=object).reshape(-1), name)
    if array.dtype.kind == "f":
        array = _integral(array, name)
    if array.dtype.kind not in "iubU":
        raise TypeError(f"{name} must be {LABELS}, or soft targets, got dtype {array.dtype}")
    if array.size != n_rows:
        raise ValueError(f"{name} must have one label for each of the {n_rows} rows, got {array.size}")
    return array


def _labels_of_one_kind(objects: NDArray[np.object_], name: str) -> Array:
    kinds = np.array([_kind_of_label(value) for value in objects])
    if kinds[0] == "":
        raise TypeError(f"{name} must be {LABELS}, got {objects[0]!r} at position 0")
    if (kinds != kinds[0]).any():
        place = int((kinds != kinds[0]).argmax())
        raise TypeError(
            f"{name} must be labels of one kind, got {objects[0]!r} at position 0 and {objects[place]!r} at {place}"
        )
    if kinds[0] != "number":
        return objects.astype(np.str_ if kinds[0] == "string" else np.bool_)
    if any(isinstance(value, (float, np.floating)) for value in objects):
        return objects.astype(np.float64)
    try:
        return objects.astype(np.int64)
    except OverflowError as error:
        raise ValueError(f"{name} must fit into 64 bits with a sign") from error


def _kind_of_label(value: Any) -> str:
    """What an object is as a label; nothing if it is none, such as None."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    return "number" if isinstance(value, (int, float, np.integer, np.floating)) else ""


def _integral(array: NDArray[np.floating], name: str) -> Int64:
    bound = 2.0**63
    wrong = ~((array == np.rint(array)) & (array >= -bound) & (array < bound))
    if wrong.any():
        place = int(wrong.argmax())
        raise TypeError(f"{name} must be {LABELS}, got {array[place]} at position {place}")
    return array.astype(np.int64)


def class_numbers(values: ArrayLike, name: str, n_rows: int, n_classes: int | None = None) -> Int32:
    """Labels that are class numbers, 0 <= label < n_classes."""
    array = labels(values, name, n_rows)
    if array.dtype.kind == "U":
        raise TypeError(f"{name} must be class numbers, got strings")
    if array.size:
        low, high = int(array.min()), int(array.max())
        bound = INT32_MAX if n_classes is None else n_classes
        if low < 0:
            raise ValueError(f"{name} must not be negative, got {low} at position {int(array.argmin())}")
        if high >= bound:
            raise ValueError(f"{name} must be below {bound}, got {high} at position {int(array.argmax())}")
    return np.ascontiguousarray(array, np.int32)


def soft_targets(values: ArrayLike, name: str, n_rows: int, n_classes: int | None, n_threads: int) -> Array:
    """Targets (n_rows, n_classes): not negative, each row with unit sum (within 1e-3)."""
    array: Array = features(values, name, n_classes)
    if issparse(array):
        raise TypeError(f"{name} must be a dense matrix of soft targets, got a sparse one")
    if array.shape[0] != n_rows:
        raise ValueError(f"{name} must have one row for each of the {n_rows} rows of features, got {array.shape[0]}")
    counts_like(array, name, n_threads)
    sums = array.sum(axis=1, dtype=np.float64)
    if sums.size and not np.abs(sums - 1).max() <= 1e-3:
        row = int(np.abs(sums - 1).argmax())
        raise ValueError(f"each row of soft targets must sum to one, but row {row} of {name} sums to {sums[row]:.6g}")
    return array


def sample_weights(values: ArrayLike | None, n_rows: int, name: str = "sample_weight") -> Float64 | None:
    """Finite weights that are not negative, one for each row; None stays None."""
    if values is None:
        return None
    array = np.ascontiguousarray(values, np.float64)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} must have one weight for each of the {n_rows} rows, got shape {array.shape}")
    if array.size and not (array.min() >= 0 and np.isfinite(array.max())):
        place = int(np.argmax(~(array >= 0) | np.isinf(array)))
        raise ValueError(f"{name} must be finite and not negative, got {array[place]} at position {place}")
    return array


def positive(value: Any, name: str, or_zero: bool = False) -> float:
    """``value`` as a positive (with ``or_zero``: not negative) finite float."""
    if isinstance(value, (bool, np.bool_, str)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not (number > 0 or (or_zero and number == 0)) or np.isinf(number):
        raise ValueError(
            f"{name} must be {'finite and not negative' if or_zero else 'positive and finite'}, got {value}"
        )
    return number

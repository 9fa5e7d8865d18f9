"""What users give to classifiers: features with the names of their columns, labels, and weights of rows.

Arrays and sparse matrices are checked by :mod:`saffu.utils.validate`. This module adds what tables bring along, and
the phrases by which scikit-learn recognises an error, such as "Negative values in data".
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from saffu.utils import validate
from saffu.utils.arrays import Array, Float64, Matrix

SHOWN_NAMES = 5  # of the columns that a table has too many or too few


@dataclass(frozen=True)
class Columns:
    """The columns of the features that a classifier was fitted to.

    Attributes
    ----------
    n_features : int
        D.
    names : tuple of str, optional
        Those of the columns of a table (pandas, polars); None for an array.
    """

    n_features: int
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, X: Any, matrix: Matrix) -> Columns:
        """The columns of X, of which ``matrix`` holds the values."""
        return cls(matrix.shape[1], names_of(X))

    @classmethod
    def from_file(cls, n_features: int, names: Any) -> Columns:
        """The columns in a file: their number, and their names or None; ValueError if these are damaged."""
        if names is None:
            return cls(n_features)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != n_features:
            raise ValueError("the names of the features are damaged")
        return cls(n_features, tuple(names))


def names_of(X: Any) -> tuple[str, ...] | None:
    """The names of the columns of a table, if all are strings; None for anything else."""
    names = getattr(X, "columns", None)
    if not isinstance(names, Iterable):
        return None
    listed = tuple(names)
    return listed if listed and all(isinstance(name, str) for name in listed) else None


# ---- features --------------------------------------------------------------------------------------------------------


def features(X: Any, owner: str, known: Columns | None, n_threads: int) -> Matrix:
    """Features that are finite and not negative, as an array in C order or a CSR array without duplicates.

    Parameters
    ----------
    X : array_like, table or sparse matrix, shape (M, D)
        What the user gave.
    owner : str
        Name of the classifier's class, for messages.
    known : Columns, optional
        The columns that X must have; by default X may have any number of them but none at all.
    n_threads : int
        Threads of the checks.

    Returns
    -------
    ndarray or csr_array of float32 or float64, shape (M, D)

    Raises
    ------
    ValueError, TypeError
        If X is no matrix of real numbers, its columns are not the known ones, or an entry is negative or not finite.
    """
    values = X if issparse(X) else _numbers(X)
    if values.dtype.kind == "c":
        raise ValueError(f"X must be real numbers, got dtype {values.dtype}: Complex data not supported")
    if values.ndim != 2:
        raise ValueError(
            f"X must be a matrix with a row for each example, got shape {values.shape}. Reshape your data, by "
            "X.reshape(1, -1) if it is one row and by X.reshape(-1, 1) if it is one column"
        )
    if known is not None:
        check_columns(names_of(X), values.shape[1], known, owner)
    elif values.shape[1] == 0:
        raise ValueError(
            f"X must have columns, got 0 feature(s) (shape={values.shape}) while a minimum of 1 is required."
        )
    matrix: Matrix = validate.features(values, "X")
    if issparse(matrix) and not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    try:
        validate.counts_like(matrix, "X", n_threads)
    except ValueError as error:
        raise ValueError(f"{error}: {_what_is_wrong(matrix)} in data passed to {owner}") from None
    return matrix


def _numbers(X: Any) -> Array:
    array = np.asarray(X)
    if array.dtype.kind != "O":
        return array
    try:
        numbers: Array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"X must be numbers, got objects of which one is none: {error}") from error
    return numbers


def _what_is_wrong(matrix: Matrix) -> str:
    stored = matrix.data if issparse(matrix) else matrix
    if np.isnan(stored).any():
        return "NaN"
    return "infinity" if np.isinf(stored).any() else "Negative values"


def check_columns(names: tuple[str, ...] | None, n_columns: int, known: Columns, owner: str) -> None:
    """Raise ValueError if so many columns, or those of these names, are not the known ones of the owner."""
    if names is not None and known.names is not None and names != known.names:
        raise ValueError(
            "The feature names should match those that were passed during fit.\n"
            + (
                _listed("Feature names unseen at fit time", set(names) - set(known.names))
                + _listed("Feature names seen at fit time, yet now missing", set(known.names) - set(names))
                or "Feature names must be in the same order as they were in fit.\n"
            )
        )
    if n_columns != known.n_features:
        raise ValueError(f"X has {n_columns} features, but {owner} is expecting {known.n_features} features as input")


def _listed(heading: str, names: set[str]) -> str:
    if not names:
        return ""
    shown = [f"- {name}" for name in sorted(names)[:SHOWN_NAMES]] + ["- ..."] * (len(names) > SHOWN_NAMES)
    return "\n".join([f"{heading}:", *shown]) + "\n"


# ---- targets and weights ---------------------------------------------------------------------------------------------


def target(y: Any, owner: str) -> ArrayLike:
    """What is given as labels or soft targets, as an array if it is none but knows how to become one.

    Warns if labels stand in a column, as scikit-learn does: it may be a mistake, but what is meant is clear.

    Raises
    ------
    ValueError
        If there is none.
    """
    if y is None:
        raise ValueError(f"{owner} requires y to be passed, but the target y is None")
    given: ArrayLike = np.asarray(y) if hasattr(y, "__array__") else y
    if not validate.is_soft(given) and len(_shape(given)) == 2:
        exceptions = sys.modules.get("sklearn.exceptions")
        category: type[Warning] = UserWarning if exceptions is None else exceptions.DataConversionWarning
        message = "A column-vector y was passed when a 1d array was expected: shape (M,), such as that of y.ravel()"
        warnings.warn(message, category, stacklevel=3)
    return given


def _shape(given: ArrayLike) -> tuple[int, ...]:
    try:
        return np.shape(given)
    except ValueError:  # rows of unequal lengths, which ``labels`` refuses
        return ()


def labels(y: ArrayLike, n_rows: int) -> Array:
    """A vector of labels, one for each row; see :func:`saffu.utils.validate.labels`.

    Raises
    ------
    TypeError
        If they are not of one kind, or of none that labels can be.
    ValueError
        If there are too many or too few, or they are continuous numbers.
    """
    try:
        return validate.labels(y, "y", n_rows)
    except TypeError as error:
        if np.asarray(y).dtype.kind != "f":
            raise
        raise ValueError(f"{error}; Unknown label type: continuous") from error


def sample_weights(values: ArrayLike | None, n_rows: int) -> Float64 | None:
    """Weights of rows, finite and not negative, of which one is positive; None stays None."""
    weights = validate.sample_weights(values, n_rows)
    if weights is not None and weights.size and not weights.any():
        raise ValueError("sample_weight must be positive for at least one row, but every weight is zero")
    return weights

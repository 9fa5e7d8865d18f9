"""Columns of categories: any values that can be put in order, such as words, labels and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from saffu.classifier.inputs import Columns, check_columns, names_of
from saffu.utils.arrays import Array, Int64


def columns_of(X: Any, owner: str, known: Columns | None) -> list[Array]:
    """The columns of a table or an array, each a vector of its own dtype.

    Parameters
    ----------
    X : array_like or table, shape (M, D)
    owner : str
        Name of the class that was given X, for messages.
    known : Columns, optional
        The columns that X must have; by default any number of them but none at all, of at least one row.

    Returns
    -------
    list of ndarray of shape (M,), length D
        Strings are of dtype object.

    Raises
    ------
    ValueError, TypeError
        If X is no matrix, its columns are not the known ones, or a value is missing, infinite or complex.
    """
    if issparse(X):
        raise TypeError(f"X must be dense categories, got a sparse matrix: Sparse data was passed to {owner}")
    if hasattr(X, "columns") and hasattr(X, "shape"):  # each column of a table has a dtype of its own
        columns = [np.asarray(X[name]) for name in X.columns]
        shape = X.shape
    else:
        array = np.asarray(X)
        shape = array.shape
        columns = list(array.T) if array.ndim == 2 else []
    if len(shape) != 2:
        raise ValueError(
            f"X must be a matrix with a row for each example, got shape {shape}. Reshape your data, by "
            "X.reshape(1, -1) if it is one row and by X.reshape(-1, 1) if it is one column"
        )
    if known is not None:
        check_columns(names_of(X), shape[1], known, owner)
    elif not all(shape):
        what = "feature(s)" if shape[0] else "sample(s)"
        raise ValueError(
            f"X must have rows and columns, got 0 {what} (shape={shape}) while a minimum of 1 is required."
        )
    return [_checked(column, place, owner) for place, column in enumerate(columns)]


def _checked(column: Array, place: int, owner: str) -> Array:
    if column.dtype.kind == "c":
        raise ValueError(f"X must not be complex, got {column.dtype} in column {place}: Complex data not supported")
    if column.dtype.kind in "UST":
        return column.astype(object)
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        what = "NaN" if np.isnan(column).any() else "infinity"
        raise ValueError(f"X must be categories, got {what} in column {place} of the data passed to {owner}")
    if column.dtype.kind == "O":
        for value in column:
            if value is None or value != value:
                raise ValueError(f"X must be categories, got {value} in column {place} of the data passed to {owner}")
    return column


def count(column: Array, place: int) -> tuple[Array, Int64]:
    """The categories of a column in ascending order, and how often each is found.

    Raises
    ------
    TypeError
        If values cannot be compared; it names the column by its place.
    """
    try:
        categories, counts = np.unique(column, return_counts=True)
    except TypeError as error:
        raise TypeError(
            f"X must have categories of one type in column {place}, a string or a number: {error}"
        ) from None
    return categories, counts


def look_up(column: Array, categories: Array) -> Int64:
    """The place of each value of a column among ascending categories, or -1."""
    if "O" in (column.dtype.kind, categories.dtype.kind):
        known = {category: place for place, category in enumerate(categories.tolist())}
        return np.fromiter((known.get(value, -1) for value in column.tolist()), np.int64, column.size)
    places = np.minimum(np.searchsorted(categories, column), categories.size - 1)
    return np.where(categories[places] == column, places, -1)

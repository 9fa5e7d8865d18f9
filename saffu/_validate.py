"""The only input checks: each names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

INT32_MAX = 2**31 - 1


def integer(value: Any, name: str, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def choice(value: Any, name: str, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def token_ids(values: ArrayLike, name: str = "ids", vocab_size: int | None = None) -> NDArray[np.int32]:
    """A stream of token ids as a contiguous int32 vector, every id in [0, vocab_size)."""
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
    return np.ascontiguousarray(array, np.int32)


def document_starts(
    values: ArrayLike | None, n_tokens: int, name: str = "documents", from_zero: bool = True
) -> NDArray[np.int64]:
    """Ascending start offsets of documents in a stream of ``n_tokens``; None means one document.

    With ``from_zero`` the stream's first token always begins a document, whether or not 0 is listed.
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


def distances(values: ArrayLike | int, name: str = "distances") -> NDArray[np.int64]:
    """Ascending, distinct, positive distances; an integer stands for itself alone."""
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

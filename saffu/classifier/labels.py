"""Labels of a classifier: which classes there are, and the number of each label's class.

Labels are integers, booleans or strings; floats with integral values are taken for integers. Classes are kept in
ascending order, as int64, booleans or strings, and predictions are labels of that type.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saffu.utils.arrays import Array, Bools, Int32

Classes = Array


def distinct(labels: Array) -> Classes:
    """The distinct labels, ascending: of integers by marking where they are dense, by sorting elsewhere."""
    if labels.dtype.kind not in "iu":
        return np.unique(labels)
    if labels.size == 0:
        return np.empty(0, np.int64)
    low, high = int(labels.min()), int(labels.max())
    if high > np.iinfo(np.int64).max:
        raise ValueError(f"labels must fit into 64 bits with a sign, got {high}")
    if high - low > 4 * labels.size + 1024:
        return np.unique(labels).astype(np.int64)
    seen = np.zeros(high - low + 1, bool)
    seen[labels.astype(np.int64) - low] = True
    return np.flatnonzero(seen) + low


def numbers_of(labels: Array, classes: Classes, name: str = "y") -> Int32:
    """The place of each label in ``classes``.

    Raises
    ------
    TypeError
        If one of the two are strings and the other are not.
    ValueError
        If a label is none of the classes.
    """
    if labels.size == 0:
        return np.empty(0, np.int32)
    strings = labels.dtype.kind == "U", classes.dtype.kind == "U"
    if strings[0] != strings[1]:
        kinds = ["strings" if each else "numbers" for each in strings]
        raise TypeError(f"{name} must be {kinds[1]} as the classes are, got {kinds[0]}")
    if strings[0]:
        return _found(labels, classes, np.searchsorted(classes, labels), name)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    numbers = classes.astype(np.int64, copy=False)
    low, high = int(numbers[0]), int(numbers[-1])
    if int(labels.min()) < low or int(labels.max()) > high:
        wild = (labels < low) | (labels > high)
        raise _unknown(labels, classes, wild, name)
    if high - low > 4 * labels.size + 1024:
        return _found(labels, numbers, np.searchsorted(numbers, labels), name)
    number = np.full(high - low + 1, -1, np.int32)
    number[numbers - low] = np.arange(numbers.size, dtype=np.int32)
    places = number[labels.astype(np.int64) - low]
    if (places < 0).any():
        raise _unknown(labels, classes, places < 0, name)
    return places


def same(classes: Classes, others: Classes) -> bool:
    """Whether two lists of classes are equal, of one kind too."""
    kinds = [each.dtype.kind == "U" for each in (classes, others)]
    return kinds[0] == kinds[1] and bool(np.array_equal(classes, others))


def _found(labels: Array, classes: Classes, places: Array, name: str) -> Int32:
    wild = classes[np.minimum(places, classes.size - 1)] != labels
    if wild.any():
        raise _unknown(labels, classes, wild, name)
    return places.astype(np.int32)


def _unknown(labels: Array, classes: Classes, wild: Bools, name: str) -> ValueError:
    place = int(wild.argmax())
    label = labels[place].item()
    return ValueError(f"{name} must be one of the {classes.size} classes, got {label!r} at position {place}")


# ---- files -------------------------------------------------------------------------------------------------------


def classes_to_file(classes: Classes) -> tuple[Array, list[str] | None]:
    """What a file keeps of the classes: an array, and the names where labels are strings (an array holds none)."""
    if classes.dtype.kind == "U":
        return np.arange(classes.size), classes.tolist()
    return classes, None


def classes_from_file(array: Array, names: Any) -> Classes:
    """Undo ``classes_to_file``; ValueError if the classes are damaged."""
    classes = array
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of the classes are damaged")
        classes = np.array(names, dtype=str)
        if not np.array_equal(array, np.arange(classes.size)):
            raise ValueError("the names of the classes do not fit their numbers")
    known = classes.ndim == 1 and (classes.dtype in (np.int64, np.bool_) or classes.dtype.kind == "U")
    if not known or not (classes[1:] > classes[:-1]).all():
        raise ValueError("the classes must be distinct and in ascending order")
    return classes

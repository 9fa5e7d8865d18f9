"""Models within models: how the file of the outer one holds the inner one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from saffu.utils.arrays import Array
from saffu.utils.checkpoint import with_prefix

T = TypeVar("T")


def nested(model: Any, prefix: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of an inner model of a registered class, their names after this prefix, and its metadata."""
    arrays, metadata = model._to_checkpoint()
    return {prefix + name: array for name, array in arrays.items()}, metadata


def from_nested(kind: type[T], arrays: Mapping[str, Array], prefix: str, metadata: Any) -> T:
    """Undo :func:`nested`; :class:`saffu.utils.checkpoint.Damaged` if the parts do not make a model of this class."""
    found: T = kind._from_checkpoint(with_prefix(arrays, prefix), metadata)  # type: ignore[attr-defined]
    return found

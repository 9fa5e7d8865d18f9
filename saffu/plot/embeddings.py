"""Figures of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.plot.axes import axes_or_new
from saffu.text import Vocabulary
from saffu.utils import validate


def neighbours(
    embeddings: ArrayLike,
    types: Vocabulary | Sequence[str],
    queries: Sequence[str],
    *,
    count: int = 8,
    ax: Any = None,
) -> Any:
    """Draw the nearest neighbours of some types among embeddings, by their cosines.

    Parameters
    ----------
    embeddings : array_like of float, shape (V, d)
        Such as :func:`saffu.enriched_embeddings` makes.
    types : Vocabulary or sequence of str, length V
        The name of each row.
    queries : sequence of str
        The types whose neighbours are drawn, each in a row.
    count : int
        How many neighbours, the nearest first.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A cell for each neighbour, with its name in it.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit, or a query is no type.

    Examples
    --------
    >>> axes = neighbours([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], ["cat", "dog", "of"], ["cat"], count=2)
    >>> [text.get_text() for text in axes.texts]
    ['dog', 'of']
    """
    names = types.types if isinstance(types, Vocabulary) else list(types)
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or len(rows) != len(names):
        raise ValueError(f"embeddings must have a row for each of {len(names)} types, got shape {rows.shape}")
    count = min(validate.integer(count, "count", 1), len(names) - 1)
    places = {name: place for place, name in enumerate(names)}
    for query in queries:
        if query not in places:
            raise ValueError(f"queries must be types, got {query!r}")
    asked = np.array([places[query] for query in queries])
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    cosines = unit[asked] @ unit.T
    cosines[np.arange(asked.size), asked] = -np.inf  # a type is no neighbour of its own
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    shown = np.take_along_axis(cosines, nearest, axis=1)
    ax = axes_or_new(ax, 2 + 0.9 * count, 1 + 0.35 * len(queries))
    image = ax.imshow(shown, cmap="Blues", aspect="auto")
    middle = float(shown.min() + shown.max()) / 2
    for (row, column), place in np.ndenumerate(nearest):
        colour = "white" if shown[row, column] > middle else "black"
        ax.text(column, row, names[place], ha="center", va="center", color=colour)
    ax.set_yticks(range(len(queries)), list(queries))
    ax.set_xticks(range(count), [str(rank + 1) for rank in range(count)])
    ax.set(xlabel="neighbour", title="nearest neighbours")
    ax.figure.colorbar(image, ax=ax, label="cosine")
    return ax

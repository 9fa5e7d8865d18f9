"""The confusion matrix of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.classifier.labels import distinct, numbers_of
from saffu.plot.axes import axes_or_new
from saffu.utils import validate
from saffu.utils.arrays import Array, Int64

MOST_WRITTEN = 20  # classes, for their counts to be read


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, *, classes: ArrayLike | None = None, ax: Any = None) -> Any:
    """Draw how often each class is predicted where each is true.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (M,)
        True and predicted labels: integers, booleans or strings.
    classes : array_like, shape (N,), optional
        The labels in the order in which they are drawn; by default all that occur, ascending.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row for each true class and a column for each predicted one. The colour is the share of the row, which is what
        the image holds; counts other than zero are written in the cells of at most 20 classes.

    Raises
    ------
    ValueError, TypeError
        If there are no labels, the two differ in number or kind, or one is none of the classes.

    Examples
    --------
    >>> axes = confusion_matrix(["cat", "cat", "dog"], ["cat", "dog", "dog"])
    >>> axes.images[0].get_array().tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    true = validate.labels(y_true, "y_true", np.size(y_true))
    predicted = validate.labels(y_pred, "y_pred", true.size)
    if not true.size:
        raise ValueError("y_true must have at least one label, got none")
    if (true.dtype.kind == "U") != (predicted.dtype.kind == "U"):
        raise TypeError("y_true and y_pred must be labels of one kind, got strings and numbers")
    if classes is None:
        named = distinct(np.concatenate([true, predicted]))
    else:
        named = validate.labels(classes, "classes", np.size(classes))
    counts = _counts(true, predicted, named)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2 + 0.45 * min(named.size, MOST_WRITTEN)
    ax = axes_or_new(ax, size + 1, size)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [str(name) for name in named.tolist()]
    if named.size <= MOST_WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                ax.text(column, row, str(count), ha="center", va="center", color=colour)
        ax.set_xticks(range(named.size), names, rotation=90 if max(map(len, names)) > 3 else 0)
        ax.set_yticks(range(named.size), names)
    accuracy = np.trace(counts) / true.size
    ax.set(xlabel="predicted", ylabel="true", title=f"{accuracy:.1%} of {true.size} right")
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
    return ax


def _counts(true: Array, predicted: Array, named: Array) -> Int64:
    """How often each pair of classes occurs, (N, N)."""
    order = np.argsort(named, kind="stable")
    if distinct(named).size != named.size:
        raise ValueError(f"classes must be distinct, got {named.tolist()}")
    rows, columns = (order[numbers_of(y, named[order], name)] for y, name in ((true, "y_true"), (predicted, "y_pred")))
    return np.bincount(rows * named.size + columns, minlength=named.size**2).reshape(named.size, named.size)

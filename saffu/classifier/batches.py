"""Rows that do not fit into memory, batch by batch: the same batches in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu.classifier import inputs
from saffu.classifier.class_rows import Rows, Source
from saffu.classifier.inputs import Columns
from saffu.classifier.labels import Classes, distinct, numbers_of
from saffu.classifier.network_solution import NetworkSettings
from saffu.classifier.network_solver import Survey, class_sizes, with_weights
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64, Matrix
from saffu.utils.sparse import SparseRows

Batch = tuple[Any, ArrayLike] | tuple[Any, ArrayLike, ArrayLike | None]
GivenBatches = Iterable[Batch] | Callable[[], Iterable[Batch]]


class Batches:
    """What a user gives as batches, checked in every pass.

    Parameters
    ----------
    batches : iterable or callable
        What yields ``(X, y)`` or ``(X, y, sample_weight)``, or returns such an iterable; the same in every pass.
    check : callable
        ``check(X, columns)`` returns the checked features of a batch; ``columns`` is None in the first of all.
    n_threads : int
        Threads of the kernels.

    Raises
    ------
    TypeError
        If batches is an iterator, which can be read only once.
    """

    def __init__(self, batches: GivenBatches, check: Callable[[Any, Columns | None], Matrix], n_threads: int):
        if isinstance(batches, Iterator):
            raise TypeError("batches can be read only once; give a list, or a function that returns a new iterator")
        self.batches, self.check, self.n_threads = batches, check, n_threads
        self.columns: Columns | None = None

    def _read(self) -> Iterator[tuple[Matrix, Array, Float64 | None]]:
        """One pass: the rows of positive weight of each batch, their labels and their weights."""
        for batch in self.batches() if callable(self.batches) else self.batches:
            X, y, *rest = batch
            matrix = self.check(X, self.columns)
            if self.columns is None:
                self.columns = Columns.of(X, matrix)
            labels = inputs.labels(y, matrix.shape[0])
            weights = validate.sample_weights(rest[0], matrix.shape[0]) if rest else None
            yield with_weights(matrix, labels, weights)

    def survey(self, classes: ArrayLike | None, settings: NetworkSettings) -> Survey:
        """One pass that learns the classes and the sizes; ``classes`` are by default the labels that come."""
        mass: dict[Any, float] = {}
        ceiling: Float64 | None = None
        dtypes = []
        for matrix, labels, weights in self._read():
            seen = distinct(labels)
            for label, more in zip(seen.tolist(), np.bincount(numbers_of(labels, seen), weights), strict=True):
                mass[label] = mass.get(label, 0.0) + float(more)
            highest = SparseRows.of(matrix, self.n_threads).ceiling()
            ceiling = highest if ceiling is None else np.maximum(ceiling, highest)
            dtypes.append(matrix.dtype)
        if ceiling is None or not mass:
            raise ValueError("batches must hold at least one row, got none")
        known = _known_classes(mass, classes)
        settings.check_classes(known)
        sizes = class_sizes(known, np.array([mass.get(label, 0.0) for label in known.tolist()]))
        return Survey(known, sizes, ceiling, np.result_type(*dtypes), len(dtypes))

    def source(self, survey: Survey) -> Source:
        """Fresh passes over all rows."""

        def rows() -> Iterator[Rows]:
            for matrix, labels, weights in self._read():
                features = SparseRows.of(matrix.astype(survey.dtype, copy=False), self.n_threads)
                yield Rows(features, numbers_of(labels, survey.classes), survey.classes.size, weights).distinct()

        return rows


def _known_classes(mass: dict[Any, float], classes: ArrayLike | None) -> Classes:
    """The classes that were asked for, or those of the labels; an error if a label is none of them."""
    if len({isinstance(label, str) for label in mass}) > 1:
        raise TypeError("y must be labels of one kind in every batch, got strings and numbers")
    seen = np.array(sorted(mass))
    if classes is None:
        return seen
    known = distinct(validate.labels(classes, "classes", np.size(classes)))
    if known.size:
        numbers_of(seen, known)
    return known

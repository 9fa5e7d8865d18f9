"""What saffu's transformers of columns have in common: the interface of scikit-learn, which need not be installed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from saffu.classifier.inputs import Columns
from saffu.utils import containers, validate
from saffu.utils.arrays import Array
from saffu.utils.settings import Settings, not_fitted


class ColumnTransformer(Settings, ABC):
    """A transformer of the columns of a table or a matrix."""

    _estimator_type = "transformer"
    _columns: Columns | None = None

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from X."""

    @abstractmethod
    def transform(self, X: Any) -> Any:
        """What becomes of X."""

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """:meth:`fit`, then :meth:`transform` of the same X."""
        return self.fit(X, y).transform(X)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose what ``transform`` and ``fit_transform`` return.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, optional
            An array, or a table of that library; None changes nothing.
        """
        if transform is not None:
            choice = validate.choice(transform, "transform", containers.CONTAINERS)
            self._sklearn_output_config = {"transform": choice}  # under this name scikit-learn clones it
        return self

    def _known_columns(self) -> Columns:
        if self._columns is None:
            raise not_fitted(self)
        return self._columns

    @property
    def n_features_in_(self) -> int:
        """The number of columns, D."""
        return self._known_columns().n_features

    @property
    def feature_names_in_(self) -> Array:
        """Names of the columns of the table that was fitted to, shape (D,); AttributeError if it was none."""
        names = self._known_columns().names
        if names is None:
            raise AttributeError(f"this {type(self).__name__} was fitted to columns without names")
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return self._columns is not None

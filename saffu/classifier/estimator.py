"""What saffu's classifiers have in common: the interface of scikit-learn's estimators.

scikit-learn itself is not needed. It is imported only inside methods that scikit-learn calls. So these classifiers go
into a ``Pipeline``, ``GridSearchCV``, ``CalibratedClassifierCV`` and the like, and pass scikit-learn's own checks of
estimators.

Decisions. A constructor stores its arguments as they are, and nothing else: what scikit-learn clones or sets must
come back as the same objects. They are checked by ``fit``, and take effect there; what was fitted keeps the settings
that it was fitted with, whatever ``set_params`` does later. Everything that a fit finds is kept in private attributes,
whose values before are those of the class.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu.classifier import inputs
from saffu.classifier.examples import Batch, Examples
from saffu.classifier.inputs import Columns
from saffu.classifier.labels import Classes
from saffu.classifier.routing import Routed
from saffu.training.refinement import refine
from saffu.utils import checkpoint
from saffu.utils.arrays import Array, Float64, Matrix
from saffu.utils.settings import Settings, not_fitted
from saffu.utils.threads import resolve_threads


class Fitted(Protocol):
    """What a fit finds, and what :func:`saffu.refine` needs of it.

    Parameters of a model are a dict of arrays by name; a batch is rows and their class numbers.
    """

    @property
    def classes(self) -> Classes:
        """The label of each class, ascending, (N,)."""
        ...

    def parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        """Copies of all parameters, the logits of hidden layers multiplied by ``soften``."""
        ...

    def with_parameters(self, parameters: dict[str, Array]) -> Self:
        """The same with copies of these parameters."""
        ...

    def losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        """Cross-entropy of each row of a batch (M,), in nats."""
        ...

    def loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        """Write the gradients of the mean cross-entropy of a batch; return it."""
        ...


F = TypeVar("F", bound=Fitted)


class Classifier(Settings, Routed, ABC, Generic[F]):
    """A classifier of rows with non-negative features.

    A subclass fits an object of the class F, and has ``predict`` and ``_prepare``.
    """

    interrupted = False  # whether Ctrl-C ended the refinement that this classifier comes from
    _estimator_type = "classifier"  # what scikit-learn before 1.6 asks for
    _fitted: F | None = None
    _columns: Columns | None = None
    _history: list[dict[str, Any]] | None = None

    # ---- settings ----------------------------------------------------------------------------------------------------

    n_threads: int | None

    def _threads(self) -> int:
        return resolve_threads(self.n_threads)

    # ---- what a fit found --------------------------------------------------------------------------------------------

    def _take(self, fitted: F, columns: Columns | None, history: list[dict[str, Any]] | None = None) -> Self:
        self._fitted, self._columns, self._history = fitted, columns, history
        return self

    def _found(self) -> F:
        """What the fit found; an error if there was none."""
        if self._fitted is None:
            raise not_fitted(self, "fit or partial_fit")
        return self._fitted

    def _known_columns(self) -> Columns:
        self._found()
        assert self._columns is not None
        return self._columns

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    @property
    def n_features_in_(self) -> int:
        """The number of features, D."""
        return self._known_columns().n_features

    @property
    def feature_names_in_(self) -> Array:
        """The names of the columns of the table that the classifier was fitted to, objects of shape (D,).

        There is no such attribute if it was fitted to an array or a matrix.
        """
        names = self._known_columns().names
        if names is None:
            raise AttributeError(f"this {type(self).__name__} was fitted to features without names")
        return np.array(names, dtype=object)

    @property
    def classes_(self) -> Classes:
        """The label of each class, ascending, shape (N,)."""
        return self._found().classes

    @property
    def history(self) -> list[dict[str, Any]] | None:
        """The epochs of :func:`saffu.refine` if the weights come from there; None if they follow from counts."""
        return self._history

    @history.setter
    def history(self, records: list[dict[str, Any]] | None) -> None:
        self._history = records

    def _features(self, X: Any, known: Columns | None) -> Matrix:
        """Checked features; with the known columns, or for a fit."""
        return inputs.features(X, type(self).__name__, known, self._threads())

    # ---- predicting --------------------------------------------------------------------------------------------------

    @abstractmethod
    def predict(self, X: Any) -> Array:
        """Label of the most probable class of each row, shape (M,)."""

    def score(self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy: the share of rows whose label is predicted.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Features, as in ``fit``.
        y : array_like, shape (M,)
            The labels.
        sample_weight : array_like, shape (M,), optional
            A weight for each row.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, or X, y or the weights are not as in ``fit``.
        """
        predicted = self.predict(X)
        labels = inputs.labels(inputs.target(y, type(self).__name__), predicted.size)
        weights = inputs.sample_weights(sample_weight, predicted.size)
        if not predicted.size:
            raise ValueError("X must have at least one row, got none")
        strings = predicted.dtype.kind == "U", labels.dtype.kind == "U"
        right = np.zeros(predicted.size, bool) if strings[0] != strings[1] else predicted == labels
        return float(np.average(right, weights=weights))

    # ---- refining and files ------------------------------------------------------------------------------------------

    def refine(
        self,
        X: Any,
        y: ArrayLike,
        *,
        epochs: int = 8,
        validation: float | tuple[Any, ArrayLike] | None = None,
        seed: int = 0,
        progress: bool | None = None,
        **options: Any,
    ) -> Self:
        """Improve the classifier by backpropagation; return the refined one, and leave this one as it is.

        Parameters
        ----------
        X, y
            Rows and labels, as in ``fit``.
        epochs : int
            Passes over the rows.
        validation : float or (X, y), optional
            A share of the rows to hold out, or other rows.
        seed : int
            Of the order of the rows and whatever else is left to chance.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.
        **options
            More arguments of :func:`saffu.refine`, which this method calls.
        """
        return refine(self, X, y, epochs=epochs, validation=validation, seed=seed, progress=progress, **options)

    def _parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        return self._found().parameters(soften, dtype)

    @abstractmethod
    def _prepare(self, X: Any, y: Any, n_threads: int) -> Examples:
        """Check rows and labels as ``fit`` does."""

    def _loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        return self._found().loss_and_gradients(parameters, batch, gradients, n_threads)

    def _losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        return self._found().losses(parameters, batch, n_threads)

    def _with_parameters(self, parameters: dict[str, Array], history: list[dict[str, Any]]) -> Self:
        """A classifier with these parameters, and this one's counts and scalars."""
        fitted = self._found().with_parameters(parameters)
        return type(self)(**self.get_params())._take(fitted, self._columns, [dict(record) for record in history])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the classifier to one file, which :func:`saffu.load` reads; nothing in it is ever executed.

        An old file is replaced only when the new one is whole. Errors: OSError if it cannot be written, ValueError if
        there is nothing to write yet.
        """
        checkpoint.save(self, path)

    # ---- scikit-learn ------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: here a classifier, of features that are not negative."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(sparse=True, positive_only=True),
        )

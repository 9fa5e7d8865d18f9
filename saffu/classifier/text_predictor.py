"""What a classifier of texts tells of new texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.classifier import inputs
from saffu.classifier.labels import Classes
from saffu.classifier.routing import Routed
from saffu.classifier.text_explanation import Explanation, explanations
from saffu.classifier.text_features import batches_of, texts_of
from saffu.classifier.text_model import TextModel
from saffu.classifier.text_targets import TextLabels
from saffu.utils import validate
from saffu.utils.arrays import Array, Float32
from saffu.utils.settings import Settings
from saffu.utils.threads import resolve_threads


class TextPredictor(Settings, Routed, ABC):
    """A classifier of texts that predicts; a subclass fits it."""

    _estimator_type = "classifier"  # what scikit-learn before 1.6 asks for
    n_threads: int | None

    def _threads(self) -> int:
        return resolve_threads(self.n_threads)

    @abstractmethod
    def _solved(self) -> TextModel:
        """What predicts; an error if nothing was fitted."""

    @property
    @abstractmethod
    def classes_(self) -> Classes:
        """The labels, ascending, shape (N,)."""

    # ---- predicting --------------------------------------------------------------------------------------------------

    @property
    def several_labels(self) -> bool:
        """Whether a text may have several labels, and each label has a probability of its own."""
        return self._solved().calibration.several

    @property
    def n_ngrams(self) -> int:
        """The number of n-grams that are read."""
        return self._solved().scale.size

    def decision_function(self, X: Any) -> Array:
        """Logits of texts, shape (M, N); of two labels, of which each text has one, the second's less the first's."""
        logits = self._logits(X)
        if logits.shape[1] != 2 or self.several_labels:
            return logits
        difference: Array = logits[:, 1] - logits[:, 0]
        return difference

    def predict_log_proba(self, X: Any) -> Float32:
        """Logarithms of ``predict_proba``, in nats, shape (M, N)."""
        logits = self._logits(X)
        if self.several_labels:
            return -np.logaddexp(np.float32(0), -logits)
        found: Float32 = _core.softmax(logits, True, self._threads())
        return found

    def predict_proba(self, X: Any) -> Float32:
        """Probability of each label, shape (M, N): shares, or where texts have several labels one of each."""
        if self.several_labels:
            return np.exp(self.predict_log_proba(X))
        found: Float32 = _core.softmax(self._logits(X), False, self._threads())
        return found

    def predict(self, X: Any) -> Any:
        """The most probable label of each text, shape (M,); where texts have several, a tuple of those above a half.

        Parameters
        ----------
        X : sequence of str, shape (M,)
        """
        logits = self._logits(X)
        if not self.several_labels:
            return self.classes_[logits.argmax(axis=1)]
        return [tuple(self.classes_[row > 0].tolist()) for row in logits]

    def top(self, X: Any, *, k: int = 5) -> tuple[Array, Float32]:
        """The most probable labels of each text, and their probabilities.

        Parameters
        ----------
        X : sequence of str, shape (M,)
        k : int
            How many; all if there are fewer.

        Returns
        -------
        labels : ndarray, shape (M, k)
        probabilities : ndarray of float32, shape (M, k)
            Descending in each row.
        """
        p = self.predict_proba(X)
        k = min(validate.integer(k, "k", 1), p.shape[1])
        order = np.argsort(-p, axis=1, kind="stable")[:, :k]
        return self.classes_[order], np.take_along_axis(p, order, axis=1)

    def explain(self, X: Any, *, labels: ArrayLike | None = None, k: int = 10) -> list[Explanation]:
        """The words of each text that spoke for a label.

        Parameters
        ----------
        X : sequence of str, shape (M,)
        labels : array_like, shape (M,), optional
            By default the most probable label of each text.
        k : int
            How many words, or n-grams of them, at most.

        Returns
        -------
        list of Explanation
            The label, its probability and pairs of words and weights, of which those with the largest weight come
            first. A weight is what the words add to the label's logit, less what they add to a label's on average.
        """
        texts = texts_of(X, type(self).__name__)
        k = validate.integer(k, "k", 1)
        p = self.predict_proba(texts)
        if labels is None:
            numbers = p.argmax(axis=1)
        else:
            numbers = TextLabels.of(labels, len(texts), type(self).__name__).matrix(self.classes_).indices
        return explanations(self._solved(), texts, p, numbers, k, self._threads())

    def score(self, X: Any, y: Any, *, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy: the share of texts whose label is predicted, or whose labels are all predicted and no others.

        Parameters
        ----------
        X : sequence of str, shape (M,)
        y : array_like, shape (M,), or list of lists
        sample_weight : array_like, shape (M,), optional
        """
        texts = texts_of(X, type(self).__name__)
        if not texts:
            raise ValueError("X must have at least one text, got none")
        labels = TextLabels.of(y, len(texts), type(self).__name__)
        predicted = TextLabels.of(self.predict(texts), len(texts), type(self).__name__)
        weights = inputs.sample_weights(sample_weight, len(texts))
        return float(np.average(labels.equal(predicted), weights=weights))

    def _logits(self, X: Any) -> Float32:
        model, texts = self._solved(), texts_of(X, type(self).__name__)
        parts = [model.logits(texts[batch], self._threads()) for batch in batches_of(texts)]
        return np.concatenate(parts)

    # ---- scikit-learn ------------------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: here a classifier of strings."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(one_d_array=True, two_d_array=False, string=True),
        )

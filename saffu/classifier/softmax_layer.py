"""A softmax layer solved by counting, as a classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu import _core
from saffu.classifier import inputs, layer_checkpoint
from saffu.classifier.estimator import Classifier
from saffu.classifier.examples import Examples
from saffu.classifier.inputs import Columns
from saffu.classifier.labels import Classes, distinct, numbers_of, same
from saffu.classifier.layer_counts import LayerCounts, LayerSettings
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.progress import progress_bar


@checkpoint.register("softmax-layer")
class SoftmaxLayer(Classifier[LayerCounts]):
    """Softmax regression on non-negative features, solved by counting instead of gradient descent.

    Parameters
    ----------
    priming : {"primed", "mean-norm"}
        ``"primed"``: ``logits = alpha log p + lambda h V`` with V the log likelihoods ``log F - log S``, p the shares
        of the classes, and the two scalars fitted by Newton on training rows, each left out of the likelihood of its
        own class (leave-one-out) but not of the shares. ``"mean-norm"``: the papers' formula to the letter,
        ``U = log F - ((K - 1) / K) log S`` with K the mean 1-norm of the rows, and no bias.
    smoothing : float
        Added to every count before the logarithm, in primed layers also to the mass of each class; positive.
    n_threads : int, optional
        By default every available CPU. The counts do not depend on it.

    Attributes
    ----------
    counts : ndarray of float64, shape (D, N)
        The moments F, without smoothing.
    class_mass : ndarray of float64, shape (N,)
        The number (or total weight) of the rows of each class.
    classes_ : ndarray of int64, bool or str, shape (N,)
        The label of each column, ascending.
    weights : ndarray of float64, shape (D, N)
        ``logits = X @ weights + bias``.
    bias : ndarray of float64, shape (N,)
        Zero if ``"mean-norm"``.
    scalars : dict
        ``"prior"`` and ``"likelihood"``: alpha and lambda, both positive; 0 and 1 if ``"mean-norm"``.
    history : list of dict or None
        The epochs of :func:`saffu.refine`, if the weights come from there; None if they follow from counts. Counts
        and scalars of a refined layer are those of the layer it began as.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray of object, shape (D,)
        The names of the columns of a table (pandas, polars); there are none if the features came without.

    Notes
    -----
    Fitting only counts; weights are solved when they are first needed. Any number of threads may predict at once, also
    then; one that counts must be alone.

    It is an estimator as scikit-learn defines them, and can be used in its pipelines and searches; scikit-learn need
    not be installed. The arguments of the constructor take effect in ``fit``, or in the first ``partial_fit``.

    Every sum of counts takes its rows in order, in float64. So ``partial_fit`` on consecutive chunks gives the same
    bits as one ``fit``, for any features and any chunking. ``merge`` adds sums of separate streams: it gives those
    bits, in any order, when the sums are exact, that is, when all (weighted) features are multiples of one power of two
    2^-a and no sum reaches 2^(53 - a): integers up to 2^53, and for example float32 pixels k/255 of up to four million
    images. Otherwise merging in another order may change the last bits, as any sum of floats does.

    The scalars are fitted to at most 20,000 training rows, with at most 4 million feature values, which are kept. As
    long as all rows are among them, the scalars are the same bits for any order of the rows, of chunks and of merging,
    if the sums are exact. Of more rows a hash of the row's number selects those that are kept, from small classes a
    larger share; then any chunks still give the same bits, and so does merging the next rows, but another order of the
    rows keeps others of them, so that the scalars differ as those of any two samples do.

    A row of weight k counts as k rows, in the counts and in priming, where one of the k is left out. That is exact to
    rounding as long as all rows are kept.

    Examples
    --------
    >>> layer = SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], ["ham", "ham", "spam", "spam"])
    >>> layer.predict([[5.0, 1.0], [0.0, 4.0]])
    array(['ham', 'spam'], dtype='<U4')
    >>> layer.merge(SoftmaxLayer().fit([[4.0, 0.0], [0.0, 1.0]], ["ham", "spam"])).class_mass
    array([3., 3.])
    """

    def __init__(self, priming: str = "primed", *, smoothing: float = 0.1, n_threads: int | None = None):
        self.priming = priming
        self.smoothing = smoothing
        self.n_threads = n_threads

    # ---- counting ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_classes: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Count from scratch.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Non-negative, finite features; float32 and float64 are used as they are, sparse matrices as CSR.
        y : array_like, shape (M,) or (M, N)
            Labels: integers, booleans or strings, in arrays of objects too, or floats with integral values, which
            become integers. Or soft targets, N > 1: rows that sum to one.
        sample_weight : array_like, shape (M,), optional
            A weight for each row: k stands for k such rows.
        n_classes : int, optional
            N; then labels are class numbers, 0 <= y < N. By default the classes are the distinct labels, sorted.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.

        Returns
        -------
        SoftmaxLayer
            Itself.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, labels are not of one kind or a label is missing, a feature is negative or not finite,
            a label is no class, a class has no rows, or a setting is out of its range.

        Warns
        -----
        UserWarning
            If the labels stand in a column. It is scikit-learn's DataConversionWarning if scikit-learn is imported.
        """
        settings, threads = self._checked_settings(), self._threads()
        H = self._features(X, None)
        if H.shape[0] == 0:
            raise ValueError("X must have at least one row, got none")
        if n_classes is not None:
            n_classes = validate.integer(n_classes, "n_classes", 1)
        y = inputs.target(y, type(self).__name__)
        if validate.is_soft(y):
            targets = validate.soft_targets(y, "y", H.shape[0], n_classes, threads)
            classes = np.arange(targets.shape[1])
        elif n_classes is not None:
            targets = validate.class_numbers(y, "y", H.shape[0], n_classes)
            classes = np.arange(n_classes)
        else:
            labels = inputs.labels(y, H.shape[0])
            classes = distinct(labels)
            targets = numbers_of(labels, classes)
        weights = inputs.sample_weights(sample_weight, H.shape[0])
        counts = LayerCounts(settings, classes, targets.ndim == 2, self.n_threads)
        with progress_bar(H.shape[0], "counting", progress) as bar:
            counts.add_in_chunks(H, targets, weights, bar.update)
        counts.check_mass()
        return self._take(counts, Columns.of(X, H))

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Count more rows.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``; there may be no rows.
        classes : array_like, shape (N,), optional
            All labels that will ever come; needed with the first labels, and not with soft targets.

        Returns
        -------
        SoftmaxLayer
            Itself.

        Raises
        ------
        ValueError, TypeError
            As ``fit``, except that a class without rows is an error only when weights are needed. Also if the layer
            was refined.
        """
        self._check_counted("partial_fit")
        H = self._features(X, self._columns)
        y = inputs.target(y, type(self).__name__)
        weights = validate.sample_weights(sample_weight, H.shape[0])
        targets, known = self._more_targets(y, H.shape[0], classes)
        counts = self._fitted or LayerCounts(self._checked_settings(), known, targets.ndim == 2, self.n_threads)
        counts.n_threads = self.n_threads
        counts.add(H, targets, weights)
        return self._take(counts, self._columns or Columns.of(X, H))

    def _more_targets(self, y: ArrayLike, n_rows: int, classes: ArrayLike | None) -> tuple[Array, Classes]:
        """Class numbers or soft targets of more rows, and the labels of all classes."""
        counts, soft = self._fitted, validate.is_soft(y)
        if counts is not None and soft != counts.soft:
            raise ValueError("y must stay what it was in the first call, labels or soft targets")
        known = np.empty(0, np.int64) if counts is None else counts.classes
        if classes is not None:
            known = distinct(validate.labels(classes, "classes", np.size(classes)))
            if counts is not None and not same(known, counts.classes):
                raise ValueError(f"classes must stay {counts.classes.tolist()}, got {known.tolist()}")
        if soft:
            targets = validate.soft_targets(y, "y", n_rows, known.size or None, self._threads())
            return targets, known if known.size else np.arange(targets.shape[1])
        if known.size == 0:
            raise ValueError("classes must list all labels in the first call of partial_fit")
        return numbers_of(inputs.labels(y, n_rows), known), known

    def merge(self, other: SoftmaxLayer) -> Self:
        """Add the counts of a layer fitted to other rows, as if this one had seen them too.

        Parameters
        ----------
        other : SoftmaxLayer
            A layer with the same features and classes; it stays as it is.

        Returns
        -------
        SoftmaxLayer
            Itself.

        Raises
        ------
        ValueError
            If the number of features, the classes or the kind of targets differ, or one of the two was refined.
        """
        if not isinstance(other, SoftmaxLayer):
            raise TypeError(f"other must be a SoftmaxLayer, got {type(other).__name__}")
        self._check_counted("merge")
        other._check_counted("merge")
        theirs = other._fitted
        if theirs is None:
            return self
        counts = self._fitted
        if counts is None:
            counts = LayerCounts(self._checked_settings(), theirs.classes, theirs.soft, self.n_threads)
            counts.F, counts.mass = np.zeros_like(theirs.F), np.zeros_like(theirs.mass)
        counts.merge(theirs)
        return self._take(counts, self._columns or other._columns)

    def _checked_settings(self) -> LayerSettings:
        return LayerSettings.of(self.priming, self.smoothing)

    def _check_counted(self, method: str) -> None:
        """Refuse to add counts to weights that no longer follow from them."""
        if self.history is not None:
            raise ValueError(
                f"{method} needs a SoftmaxLayer whose weights follow from its counts; this one was refined or started "
                "at random, so keep the counted layer, or fit anew"
            )

    # ---- what was found ----------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Float64:
        """The moments F (D, N), float64."""
        return self._found().F.T

    @property
    def class_mass(self) -> Float64:
        """Number, or total weight, of the rows of each class (N,)."""
        return self._found().mass

    @property
    def weights(self) -> Float64:
        """Weights (D, N)."""
        return self._found().solution().weights

    @property
    def bias(self) -> Float64:
        """Bias (N,)."""
        return self._found().solution().bias

    @property
    def scalars(self) -> dict[str, float]:
        """The fitted ``"prior"`` and ``"likelihood"``."""
        return dict(self._found().solution().scalars)

    # ---- predicting --------------------------------------------------------------------------------------------------

    def logits(self, X: Any) -> Array:
        """Logits of each row, up to a constant in each row.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Features, as in ``fit``.

        Returns
        -------
        ndarray, shape (M, N)
            In the dtype of X. Each feature's mean weight is taken away first: softmax does not see it, and what is
            left is small enough for float32.

        Raises
        ------
        ValueError
            If a feature is negative or not finite, or the columns are not those of ``fit``.
        """
        solution = self._found().solution()
        matrix = self._features(X, self._columns)
        weights = solution.weights
        centred = (weights - weights.mean(axis=1, keepdims=True)).astype(matrix.dtype)
        return np.ascontiguousarray(matrix @ centred + solution.bias.astype(matrix.dtype), matrix.dtype)

    def decision_function(self, X: Any) -> Array:
        """Logits (M, N), or of two classes the second's minus the first's (M,); see ``logits``."""
        logits = self.logits(X)
        if logits.shape[1] != 2:
            return logits
        difference: Array = logits[:, 1] - logits[:, 0]
        return difference

    def predict_log_proba(self, X: Any) -> Array:
        """Log-probability of each class, in nats, shape (M, N); see ``logits``."""
        return _core.softmax(self.logits(X), True, self._threads())

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class, shape (M, N); see ``logits``."""
        return _core.softmax(self.logits(X), False, self._threads())

    def predict(self, X: Any) -> Array:
        """Label of the most probable class of each row, shape (M,); see ``logits``."""
        labels: Array = self.classes_[self.logits(X).argmax(axis=1)]
        return labels

    # ---- refinement --------------------------------------------------------------------------------------------------

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Examples:
        """Features, in C order, and the numbers of the labels' classes."""
        classes = self.classes_
        matrix = self._features(X, self._columns)
        if validate.is_soft(y):
            raise ValueError("y must be labels, one for each row; a layer cannot be refined towards soft targets")
        return Examples(matrix, numbers_of(inputs.labels(y, matrix.shape[0]), classes), n_threads)

    def __sklearn_tags__(self) -> Any:
        """As those of every classifier here; and classes must differ in the proportions of their features."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # as MultinomialNB: clouds on one ray from zero are all alike
        return tags

    # ---- checkpoint --------------------------------------------------------------------------------------------------

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON-able metadata from which ``_from_checkpoint`` makes an equal layer."""
        arrays, metadata = layer_checkpoint.to_parts(self._found())
        names = self._known_columns().names
        return arrays, {**metadata, "history": history_to(self.history), "feature_names": names}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        """Undo ``_to_checkpoint``; ValueError if a part is missing or does not fit the others."""
        counts = layer_checkpoint.from_parts(arrays, metadata)
        columns = checkpoint.parse(Columns.from_file, counts.F.shape[1], metadata.get("feature_names"))
        history = checkpoint.parse(history_from, metadata.get("history"))
        return cls(**vars(counts.settings))._take(counts, columns, history)

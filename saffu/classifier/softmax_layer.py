"""A softmax layer solved by counting, as a classifier."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.sparse import csr_array, issparse

from saffu import _core
from saffu.classifier.examples import Batch, Examples
from saffu.classifier.labels import Classes, classes_from_file, classes_to_file, distinct, numbers_of, same
from saffu.classifier.layer_scalars import fitted_scalars
from saffu.classifier.row_sample import Primed, RowSample, keys
from saffu.classifier.softmax_mlp import product, product_transposed
from saffu.explicit.log_weights import log_weights
from saffu.explicit.moments import add_moments
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64, Int32
from saffu.utils.locks import Lock, made_once
from saffu.utils.threads import resolve_threads
from saffu.utils.validate import Matrix

SCORE_VALUES = 1 << 23  # rows times classes in one priming


@checkpoint.register("softmax-layer")
class SoftmaxLayer:
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
        ``logits = H @ weights + bias``.
    bias : ndarray of float64, shape (N,)
        Zero if ``"mean-norm"``.
    priming : str
        The mode.
    scalars : dict
        ``"prior"`` and ``"likelihood"``: alpha and lambda, both positive; 0 and 1 if ``"mean-norm"``.
    history : list of dict or None
        The epochs of :func:`saffu.refine`, if the weights come from there; None if they follow from counts. Counts
        and scalars of a refined layer are those of the layer it began as.

    Notes
    -----
    Fitting only counts; weights are solved when they are first needed. Any number of threads may predict at once, also
    then; one that counts must be alone.

    Every sum of counts takes its rows in order, in float64. So ``partial_fit`` on consecutive chunks gives the same
    bits as one ``fit``, for any features and any chunking. ``merge`` adds sums of separate streams: it gives those
    bits, in any order, when the sums are exact, that is, when all (weighted) features are multiples of one power of two
    2^-a and no sum reaches 2^(53 - a): integers up to 2^53, and for example float32 pixels k/255 of up to four million
    images. Otherwise merging in another order may change the last bits, as any sum of floats does.

    The scalars are fitted to at most 20,000 training rows, with at most 4 million feature values, which are kept. As
    long as all rows are among them, the scalars are the same bits for any order of the rows, of chunks and of merging,
    if the sums are exact. Of more rows a hash of the row's number says which are kept, from small classes a larger
    share; then any chunks still give the same bits, and so does merging the next rows, but another order of the rows
    keeps others of them, so that the scalars differ as those of any two samples do.

    A row of weight k counts as k rows, in the counts and in priming, where one of the k is left out. That is exact to
    rounding as long as all rows are kept.

    Examples
    --------
    >>> layer = SoftmaxLayer().fit([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0], [1.0, 3.0]], [7, 7, 9, 9])
    >>> layer.predict([[5.0, 1.0], [0.0, 4.0]])
    array([7, 9])
    """

    interrupted = False  # whether Ctrl-C ended the refinement that this layer comes from

    def __init__(self, priming: str = "primed", smoothing: float = 0.1, n_threads: int | None = None):
        self.priming = validate.choice(priming, "priming", ("primed", "mean-norm"))
        self.smoothing = validate.positive(smoothing, "smoothing")
        resolve_threads(n_threads)
        self.n_threads = n_threads
        self._forget()

    def _forget(self) -> None:
        self._F: Float64 | None = None  # (N, D)
        self._mass: Float64 = np.empty(0)  # (N,)
        self._classes: Classes = np.empty(0, np.int64)
        self._soft = False
        self._sample = RowSample()
        self._lock = Lock()
        self._solution: tuple[Array, Array, dict[str, float]] | None = None
        self.history: list[dict[str, Any]] | None = None

    # ---- counting ----

    def fit(
        self, H: Any, y: ArrayLike, n_classes: int | None = None, sample_weight: ArrayLike | None = None
    ) -> SoftmaxLayer:
        """Count from scratch.

        Parameters
        ----------
        H : array_like or sparse matrix, shape (M, D)
            Non-negative, finite features; float32 and float64 are used as they are, sparse matrices as CSR.
        y : array_like, shape (M,) or (M, N)
            Labels, which may stand in a column: integers, booleans or strings, in arrays of objects too, or floats with
            integral values, which become integers. Or soft targets, N > 1: rows that sum to one.
        n_classes : int, optional
            N; then labels are class numbers, 0 <= y < N. By default the classes are the distinct labels, sorted.
        sample_weight : array_like, shape (M,), optional
            A weight for each row: k stands for k such rows.

        Returns
        -------
        SoftmaxLayer
            Itself.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, labels are not of one kind or a label is missing, a feature is negative or not finite,
            a label is no class, or a class has no rows.
        """
        H = self._checked_features(H, None)
        if H.shape[0] == 0:
            raise ValueError("H must have at least one row, got none")
        if n_classes is not None:
            n_classes = validate.integer(n_classes, "n_classes", 1)
        if validate.is_soft(y):
            targets = validate.soft_targets(y, "y", H.shape[0], n_classes, self._threads())
            classes = np.arange(targets.shape[1])
        elif n_classes is not None:
            targets = validate.class_numbers(y, "y", H.shape[0], n_classes)
            classes = np.arange(n_classes)
        else:
            labels = validate.labels(y, "y", H.shape[0])
            classes = distinct(labels)
            targets = numbers_of(labels, classes)
        weights = validate.sample_weights(sample_weight, H.shape[0])
        fitted = SoftmaxLayer(self.priming, self.smoothing, self.n_threads)
        fitted._count(H, targets, weights, classes)
        fitted._check_mass()
        self.__dict__.update(fitted.__dict__)
        return self

    def partial_fit(
        self, H: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> SoftmaxLayer:
        """Count more rows.

        Parameters
        ----------
        H, y, sample_weight
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
        first = self._F is None
        H = self._checked_features(H, None if self._F is None else self._F.shape[1])
        weights = validate.sample_weights(sample_weight, H.shape[0])
        soft = validate.is_soft(y)
        if not first and soft != self._soft:
            raise ValueError("y must stay what it was in the first call, labels or soft targets")
        known = self._classes
        if classes is not None:
            known = distinct(validate.labels(classes, "classes", np.size(classes)))
            if not first and not same(known, self._classes):
                raise ValueError(f"classes must stay {self._classes.tolist()}, got {known.tolist()}")
        if soft:
            n_classes = known.size if known.size else None
            targets = validate.soft_targets(y, "y", H.shape[0], n_classes, self._threads())
            known = known if known.size else np.arange(targets.shape[1])
        else:
            if known.size == 0:
                raise ValueError("classes must list all labels in the first call of partial_fit")
            targets = numbers_of(validate.labels(y, "y", H.shape[0]), known)
        self._count(H, targets, weights, known)
        return self

    def merge(self, other: SoftmaxLayer) -> SoftmaxLayer:
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
        if other._F is None:
            return self
        if self._F is None:
            self._F, self._mass = np.zeros_like(other._F), np.zeros_like(other._mass)
            self._classes, self._soft = other._classes, other._soft
        if self._F.shape[1] != other._F.shape[1]:
            raise ValueError(f"other must have {self._F.shape[1]} features, got {other._F.shape[1]}")
        if not same(self._classes, other._classes) or self._soft != other._soft:
            raise ValueError("other must have the same classes and kind of targets")
        self._F = self._F + other._F
        self._mass = self._mass + other._mass
        self._sample.merge(other._sample)
        self._solution = None
        return self

    def _threads(self) -> int:
        return resolve_threads(self.n_threads)

    def _checked_features(self, H: Any, n_columns: int | None) -> Matrix:
        matrix = validate.features(H, "H", n_columns)
        if issparse(matrix) and not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        validate.counts_like(matrix, "H", self._threads())
        return matrix

    def _count(self, H: Matrix, targets: Array, weights, classes: Array) -> None:
        first = self._F is None
        if self._F is None:
            self._F, self._mass = np.empty((classes.size, H.shape[1])), np.empty(classes.size)
            self._classes, self._soft = classes, targets.ndim == 2
        add_moments(H, targets, weights, self._F, self._mass, not first, self._threads())
        if self.priming == "primed" and classes.size > 1:
            self._sample.add(H, targets, weights, classes.size)
        self._solution = None

    # ---- weighing and priming ----

    def _counted(self) -> Float64:
        if self._F is None:
            raise ValueError("this SoftmaxLayer has seen no data: call fit or partial_fit first")
        return self._F

    def _check_counted(self, method: str) -> None:
        """Refuse to add counts to weights that no longer follow from them."""
        if self.history is not None:
            raise ValueError(
                f"{method} needs a SoftmaxLayer whose weights follow from its counts; this one was refined or started "
                "at random, so keep the counted layer, or fit anew"
            )

    def _check_mass(self) -> None:
        empty = self._classes[~(self._mass > 0)]
        if empty.size:
            raise ValueError(f"every class needs at least one row of positive weight, but {empty.tolist()} have none")

    @made_once("_solution")
    def _solve(self) -> tuple[Array, Array, dict[str, float]]:
        if self._solution is None:
            F = self._counted()
            self._check_mass()
            with np.errstate(over="ignore"):
                if not np.isfinite(F.sum()):
                    raise ValueError(
                        "the features are too large: their sums exceed the largest float64; scale them down"
                    )
            if self.priming == "mean-norm":
                K = float(F.sum() / self._mass.sum())
                if not K > 0:
                    raise ValueError("every feature is zero, so that the mean norm K is zero too")
                U = log_weights(F.T, K, smoothing=self.smoothing, n_threads=self.n_threads)
                self._solution = U, np.zeros(self._mass.size), {"prior": 0.0, "likelihood": 1.0}
            else:
                V = log_weights(F.T, np.inf, smoothing=self.smoothing, n_threads=self.n_threads)
                log_prior = self._log_prior()
                alpha, scale = self._primed_scalars(V, log_prior)
                V *= scale
                self._solution = V, alpha * log_prior, {"prior": alpha, "likelihood": scale}
        return self._solution

    def _log_prior(self) -> Float64:
        smoothed = self._mass + self.smoothing
        return np.log(smoothed / smoothed.sum())

    def _primed_scalars(self, V: Array, log_prior: Array) -> tuple[float, float]:
        if self._mass.size == 1:
            return 1.0, 1.0
        norm = float(self._F.sum() / self._mass.sum()) if self._F is not None else 0.0
        fallback = 1.0 / norm if norm > 0 and np.isfinite(1.0 / norm) else 1.0  # one observation in a row
        rows = self._sample.primed(max(1, SCORE_VALUES // self._mass.size))
        if rows is None:
            return 1.0, fallback
        likelihood, rows = self._left_out(rows, V)
        if not rows.weights.size:
            return 1.0, fallback
        return fitted_scalars(
            log_prior, likelihood, rows.targets, rows.repeats, rows.weights, fallback, self._threads()
        )

    def _left_out(self, sample: Primed, V: Array) -> tuple[Array, Primed]:
        """Log-likelihoods (R, N) of the sampled rows, each row left out of its own class, and these rows.

        One of equal rows is left out, not all, and of a row of weight k one of its k. What would leave nothing of a
        class is not used.
        """
        targets, once = sample.targets, np.minimum(sample.repeats, 1.0)
        if targets.ndim == 1:
            rows, columns, amounts = np.arange(targets.size), targets, once
        else:
            rows, columns = np.nonzero(targets)
            amounts = targets[rows, columns].astype(np.float64) * once[rows]
        used = np.ones(targets.shape[0], bool)
        used[rows[self._mass[columns] - amounts <= 1e-9 * self._mass[columns]]] = False
        likelihood = np.ascontiguousarray(sample.features @ V)
        likelihood[rows, columns] = self._scores_left_out(
            sample.features, rows.astype(np.int32), columns.astype(np.int32), amounts
        )
        if targets.ndim == 2:
            targets = targets.astype(np.float64, copy=False)
        sample = sample._replace(targets=targets)
        if used.all():
            return likelihood, sample
        return likelihood[used], Primed(*(part[used] for part in sample))

    def _scores_left_out(self, features: Matrix, rows: Int32, columns: Int32, amounts: Float64) -> Float64:
        F, threads = self._counted(), self._threads()
        S, amounts = F.sum(axis=1), np.ascontiguousarray(amounts)
        if not issparse(features):
            return _core.leave_one_out(features, rows, columns, amounts, F, S, self.smoothing, threads)
        indptr = features.indptr.astype(np.int64, copy=False)
        indices = features.indices.astype(np.int32, copy=False)
        data = features.data.astype(np.float64, copy=False)
        return _core.leave_one_out_csr(indptr, indices, data, rows, columns, amounts, F, S, self.smoothing, threads)

    @property
    def counts(self) -> Float64:
        """The moments F (D, N), float64."""
        return self._counted().T

    @property
    def class_mass(self) -> Float64:
        """Number, or total weight, of the rows of each class (N,)."""
        self._counted()
        return self._mass

    @property
    def classes_(self) -> Classes:
        """The label of each class (N,)."""
        self._counted()
        return self._classes

    @property
    def weights(self) -> Float64:
        """Weights (D, N)."""
        return self._solve()[0]

    @property
    def bias(self) -> Float64:
        """Bias (N,)."""
        return self._solve()[1]

    @property
    def scalars(self) -> dict[str, float]:
        """The fitted ``"prior"`` and ``"likelihood"``."""
        return dict(self._solve()[2])

    # ---- predicting ----

    def logits(self, H: Any) -> Array:
        """Logits of each row, up to a constant in each row.

        Parameters
        ----------
        H : array_like or sparse matrix, shape (M, D)
            Features, as in ``fit``.

        Returns
        -------
        ndarray, shape (M, N)
            In the dtype of H. Each feature's mean weight is taken away first: softmax does not see it, and what is
            left is small enough for float32.

        Raises
        ------
        ValueError
            If a feature is negative or not finite, or the number of columns is not D.
        """
        weights, bias, _ = self._solve()
        matrix = self._checked_features(H, weights.shape[0])
        centred = (weights - weights.mean(axis=1, keepdims=True)).astype(matrix.dtype)
        return np.ascontiguousarray(matrix @ centred + bias.astype(matrix.dtype), matrix.dtype)

    def predict_log_proba(self, H: Any) -> Array:
        """Log-probability of each class, in nats, shape (M, N); see ``logits``."""
        return _core.softmax(self.logits(H), True, self._threads())

    def predict_proba(self, H: Any) -> Array:
        """Probability of each class, shape (M, N); see ``logits``."""
        return _core.softmax(self.logits(H), False, self._threads())

    def predict(self, H: Any) -> Array:
        """Label of the most probable class of each row, shape (M,); see ``logits``."""
        return self.classes_[self.logits(H).argmax(axis=1)]

    # ---- refinement ----

    def _parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        """Centred weights (D, N) and bias (N); there is no hidden layer to soften."""
        weights, bias, _ = self._solve()
        centred = weights - weights.mean(axis=1, keepdims=True)
        return {"weights": centred.astype(dtype, order="C"), "bias": (bias - bias.mean()).astype(dtype)}

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Examples:
        """Features, in C order, and the numbers of the labels' classes."""
        matrix = self._checked_features(X, self._counted().shape[1])
        if validate.is_soft(y):
            raise ValueError("y must be labels, one for each row; a layer cannot be refined towards soft targets")
        return Examples(matrix, numbers_of(validate.labels(y, "y", matrix.shape[0]), self._classes), n_threads)

    def _loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        """Write the gradients of the mean cross-entropy of a batch: H^T (p - y) and the sum of p - y; return it."""
        features, targets = batch
        logits = product(features, parameters["weights"], parameters["bias"], n_threads)
        loss = _core.cross_entropy_labels(logits, targets, n_threads).mean()
        delta = _core.softmax(logits, False, n_threads)
        delta[np.arange(targets.size), targets] -= 1
        delta /= targets.size
        product_transposed(features, delta, n_threads, gradients["weights"])
        np.sum(delta, axis=0, out=gradients["bias"])
        return float(loss)

    def _losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        """Cross-entropy of each row of a batch (M,), in nats."""
        features, targets = batch
        logits = product(features, parameters["weights"], parameters["bias"], n_threads)
        return _core.cross_entropy_labels(logits, targets, n_threads)

    def _with_parameters(self, parameters: dict[str, Array], history: list[dict[str, Any]]) -> SoftmaxLayer:
        """A layer with these weights and bias, and this one's counts and scalars."""
        layer = SoftmaxLayer(self.priming, self.smoothing, self.n_threads)
        layer._F, layer._mass, layer._classes = self._counted().copy(), self._mass.copy(), self._classes
        layer._soft = self._soft
        weights, bias = (parameters[name].astype(np.float64) for name in ("weights", "bias"))
        layer._solution = weights, bias, self.scalars
        layer.history = [dict(record) for record in history]
        return layer

    # ---- checkpoint ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the layer to one file; see :func:`saffu.load`. An existing file is replaced only when this is whole."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON-able metadata from which ``_from_checkpoint`` makes an equal layer."""
        weights, bias, scalars = self._solve()
        sample = self._sample
        classes, names = classes_to_file(self._classes)
        arrays: dict[str, Array] = {
            "counts": self._counted(),
            "class_mass": self._mass,
            "classes": classes,
            "weights": weights.T,
            "bias": bias,
            "sample.index": sample.index,
            "sample.key": sample.key,
            "sample.bound": sample.bound,
            "sample.mass": sample.mass,
            "sample.weights": sample.weights,
        }
        if sample.features is not None and sample.targets is not None:
            arrays["sample.targets"] = sample.targets
            if issparse(sample.features):
                for part in ("data", "indices", "indptr"):
                    arrays[f"sample.{part}"] = getattr(sample.features, part)
            else:
                arrays["sample.features"] = sample.features
        metadata = {
            "priming": self.priming,
            "smoothing": self.smoothing,
            "soft": self._soft,
            "scalars": dict(scalars),
            "rows_seen": sample.n_seen,
            "class_names": names,
            "history": history_to(self.history),
        }
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> SoftmaxLayer:
        """Undo ``_to_checkpoint``; ValueError if a part is missing or does not fit the others."""
        try:
            layer = cls(metadata["priming"], metadata["smoothing"])
            F, mass, weights, bias = (arrays[name] for name in ("counts", "class_mass", "weights", "bias"))
            layer._F, layer._mass = F, mass
            layer._classes = classes_from_file(arrays["classes"], metadata.get("class_names"))
            layer._soft = bool(metadata["soft"])
            layer.history = history_from(metadata.get("history"))
            layer._solution = weights.T, bias, {name: float(metadata["scalars"][name]) for name in SCALARS}
            layer._sample = _sample_from(arrays, metadata, F.shape)
        except (ValueError, KeyError, TypeError) as error:
            raise checkpoint.Damaged(f"not the checkpoint of a SoftmaxLayer: {error}") from error
        n_classes = layer._classes.size
        shapes_fit = F.ndim == 2 and F.shape == weights.shape and F.shape[0] == n_classes > 0
        if not shapes_fit or mass.shape != (n_classes,) or bias.shape != (n_classes,):
            raise checkpoint.Damaged("the arrays of this SoftmaxLayer do not fit together")
        if any(array.dtype != np.float64 for array in (F, mass, weights, bias)):
            raise checkpoint.Damaged("the arrays of this SoftmaxLayer must be float64")
        if layer._sample.targets is not None:
            _check_sample(layer._sample, n_classes, layer._soft)
        return layer


SCALARS = ("prior", "likelihood")


def _sample_from(arrays: dict[str, Array], metadata: dict[str, Any], shape: tuple[int, ...]) -> RowSample:
    features: Matrix = arrays.get("sample.features")
    index, n_seen = arrays["sample.index"], int(metadata["rows_seen"])
    if "sample.data" in arrays:
        parts = (arrays["sample.data"], arrays["sample.indices"], arrays["sample.indptr"])
        features = csr_array(parts, shape=(index.size, shape[-1]))
        features.check_format(full_check=True)
    targets = None if features is None else arrays["sample.targets"]
    if "sample.key" in arrays:
        key, bound, mass = (arrays[f"sample.{name}"] for name in ("key", "bound", "mass"))
    else:  # of a version that kept the rows whose number is a multiple of a power of two
        share = 1.0 / max(1, int(metadata["stride"]))
        key, bound, mass = keys(index) * share, np.full(shape[0], share), arrays["class_mass"].copy()
        n_seen = n_seen if int(metadata["stride"]) >= 1 else -1
    fits = n_seen >= 0 and key.shape == index.shape and bound.shape == mass.shape and bound.shape in ((1,), shape[:1])
    fits &= index.dtype == np.int64 and all(part.dtype == np.float64 for part in (key, bound, mass))
    fits &= bool((key >= 0).all() and (bound >= 0).all() and (mass >= 0).all() and np.isfinite(mass).all())
    if not fits or (features is not None and features.shape != (index.size, shape[-1])):
        raise ValueError("the sample of this SoftmaxLayer does not fit its counts")
    return RowSample(n_seen, bound, mass, index, key, features, targets, arrays["sample.weights"])


def _check_sample(sample: RowSample, n_classes: int, soft: bool) -> None:
    targets, n_rows = sample.targets, sample.index.size
    assert targets is not None
    fits = sample.weights.shape == (n_rows,)
    if soft:
        fits &= targets.shape == (n_rows, n_classes)
    else:
        fits &= targets.shape == (n_rows,) and targets.dtype == np.int32
        fits &= bool(targets.size == 0 or (targets.min() >= 0 and targets.max() < n_classes))
    if not fits:
        raise checkpoint.Damaged("the sample of this SoftmaxLayer does not fit its classes")

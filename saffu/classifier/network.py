"""ExplicitNetwork: a stack of softmax layers solved by counting, as a classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu import _core
from saffu.classifier import softmax_mlp as stack
from saffu.classifier import stack_solver
from saffu.classifier.class_rows import Rows, Source, in_memory
from saffu.classifier.examples import Batch, Examples
from saffu.classifier.held_out import Fold, folds_of, folds_of_batches
from saffu.classifier.labels import Classes, classes_from_file, classes_to_file, distinct, numbers_of
from saffu.classifier.layer_solver import Layer, Options, log_output
from saffu.explicit.moments import add_moments
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.sparse import SparseRows
from saffu.utils.threads import resolve_threads
from saffu.utils.validate import Matrix

SCALARS = ("likelihood", "share", "output")
Batches = Iterable[tuple[Any, ArrayLike]] | Callable[[], Iterable[tuple[Any, ArrayLike]]]


@checkpoint.register("explicit-network")
class ExplicitNetwork:
    """A network of hidden softmax layers on non-negative inputs, solved by counting instead of gradient descent.

    Every hidden unit stands for a sub-class of one class. EM finds the sub-classes, its M-step being the explicit
    solution of a softmax layer; corrections then move the counts of the units by observed minus expected
    co-occurrences; the next layer is solved likewise on the activations. The output is a mixture,

        h_1 = softmax(x W_1 + b_1),   h_2 = softmax(h_1 W_2 + b_2),   ...,   p = h softmax(O),

    where O are the logarithms of how often each last unit was active with each class.

    Parameters
    ----------
    hidden : tuple of int
        Units of each hidden layer, from the input up; at least as many as there are classes, which share them equally.
    rounds : int
        Rounds of EM.
    complement : bool
        Whether the absence of a feature is evidence too: features are divided by their largest value in training, and
        ``1 - x`` joins each ``x``. It costs neither time nor parameters. For counts, of words for example, say False.
    priming : {"primed", "mean-norm"}
        ``"primed"``: corrections, and three scalars a layer (how far the log-likelihood of a unit, its share and its
        opinion of the class are trusted), fitted by Newton to held-out parts of the training rows; then all
        rows are used. ``"mean-norm"``: the papers' solution as it is, every scalar 1 and no corrections.
    corrections : int
        The largest number of corrections; held-out rows say when to stop.
    shrinkage : float
        A unit counts so many rows that look like the mean of its class beside its own; positive.
    smoothing : float
        Added to the counts of all rows; positive.
    seed : int
        Where chance comes from: it deals the rows out to the sub-classes before the first round.
    n_threads : int, optional
        By default every available CPU. The solution does not depend on it.

    Attributes
    ----------
    classes_ : ndarray of int64, bool or str, shape (N,)
        The label of each class, ascending.
    weights : list of ndarray, shape (D, H_1), (H_1, H_2) ..
        Of the hidden layers, in the dtype of the features.
    biases : list of ndarray, shape (H_1,), (H_2,) ..
        Likewise.
    output : ndarray, shape (H, N)
        The logits O of the mixture's components.
    output_counts : ndarray of float64, shape (H, N)
        Activations of the last hidden layer summed by class.
    scalars : list of dict
        ``"likelihood"``, ``"share"`` and ``"output"`` of each hidden layer.
    corrections_ : list of int
        How many corrections each hidden layer took.
    history : list of dict or None
        Epochs of :func:`saffu.refine`, None if the network was solved only.

    Notes
    -----
    The explicit solution: Williams and Zhao, arXiv 2311.07498. With EM in each class it is a mixture of naive Bayes
    models, tempered by the primed scalars. Corrections: Gopalakrishnan, Kanevsky, Nadas and
    Nahamoo, "An inequality for rational functions with applications to some statistical estimation problems", IEEE
    Transactions on Information Theory 37 (1991). Kernels ``saffu_product``, ``saffu_product_double``,
    ``saffu_softmax``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> corner = rng.integers(0, 2, (400, 2))
    >>> features = np.tile(corner, 5) + rng.random((400, 10))
    >>> network = ExplicitNetwork(hidden=(8,)).fit(features, corner[:, 0] ^ corner[:, 1])
    >>> network.predict(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], 5) + 0.5)
    array([0, 1, 1, 0])
    """

    interrupted = False  # whether Ctrl-C ended the refinement that this network comes from

    def __init__(
        self,
        hidden: tuple[int, ...] = (300,),
        rounds: int = 12,
        complement: bool = True,
        priming: str = "primed",
        corrections: int = 12,
        shrinkage: float = 1.0,
        smoothing: float = 0.1,
        seed: int = 0,
        n_threads: int | None = None,
    ):
        sizes = hidden if isinstance(hidden, (tuple, list)) else (hidden,)
        self.hidden = tuple(validate.size(size, "hidden") for size in sizes)
        if not self.hidden:
            raise ValueError("hidden must name at least one layer; without any, use SoftmaxLayer")
        self.rounds = validate.integer(rounds, "rounds", 1)
        self.complement = bool(complement)
        self.priming = validate.choice(priming, "priming", ("primed", "mean-norm"))
        self.corrections = validate.integer(corrections, "corrections", 0)
        self.shrinkage = validate.positive(shrinkage, "shrinkage")
        self.smoothing = validate.positive(smoothing, "smoothing")
        self.seed = validate.integer(seed, "seed", 0)
        resolve_threads(n_threads)
        self.n_threads = n_threads
        self.history: list[dict[str, Any]] | None = None
        self._classes: Classes = np.empty(0, np.int64)
        self._layers: list[tuple[Array, Array]] = []
        self._scalars: Float64 = np.empty((0, 3))
        self._corrections: list[int] = []
        self._counts: Float64 = np.empty((0, 0))  # (N, H)
        self._output: Array | None = None  # of a refined network

    # ---- solving ----

    def fit(self, X: Any, y: ArrayLike, progress: bool = True) -> ExplicitNetwork:
        """Solve the network.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (M, D)
            Non-negative, finite features; float32 and float64 are used as they are, sparse matrices as CSR.
        y : array_like, shape (M,)
            Labels, of at least two classes; they may stand in a column. Integers, booleans or strings, in arrays of
            objects too, or floats with integral values, which become integers.
        progress : bool
            Show a bar if standard error is a terminal.

        Returns
        -------
        ExplicitNetwork
            Itself; unchanged if the solution was interrupted.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, a feature is negative or not finite, labels are not of one kind, there is only one
            class, or a layer has fewer units than there are classes.
        """
        X = self._checked(X, None)
        labels = validate.labels(y, "y", X.shape[0])
        classes = self._checked_classes(distinct(labels))
        rows = Rows(SparseRows.of(X, self._threads()), numbers_of(labels, classes), classes.size)
        folds = folds_of(rows) if self.priming == "primed" else []
        survey = _Survey(classes, rows.class_sizes, rows.features.n_columns, rows.features.dtype, 1)
        return self._solve(in_memory(rows), folds, survey, rows.features.ceiling(), progress)

    def fit_batches(self, batches: Batches, classes: ArrayLike | None = None, progress: bool = True) -> ExplicitNetwork:
        """Solve the network from rows that do not fit into memory, batch by batch.

        Parameters
        ----------
        batches : iterable or callable
            What yields ``(X, y)`` with X and y as in ``fit``, the same batches in every pass: a list of memory-mapped
            parts, say, or a function that opens files and returns a generator. There is a pass for every round of
            EM (and a few more), so a generator itself, which can be read only once, is refused.
        classes : array_like, shape (N,), optional
            All labels; by default those that come.
        progress : bool
            Show a bar if standard error is a terminal.

        Returns
        -------
        ExplicitNetwork
            Itself; unchanged if the solution was interrupted.

        Raises
        ------
        ValueError, TypeError
            As ``fit``.

        Notes
        -----
        Minibatch EM: the units are solved anew after every batch, from counts in which its share fades (stepwise EM,
        Cappe and Moulines 2009). The last round of EM, corrections and priming count all rows before they solve. Of
        deeper layers' inputs, too, only one batch is held in memory. A fifth of every batch is held out first.
        """
        if isinstance(batches, Iterator):
            raise TypeError("batches can be read only once; give a list, or a function that returns a new iterator")
        survey, ceiling = self._survey(batches, classes)

        def source() -> Iterator[Rows]:
            for X, y in _one_pass(batches):
                matrix = self._checked(X, survey.n_features).astype(survey.dtype, copy=False)
                targets = numbers_of(validate.labels(y, "y", matrix.shape[0]), survey.classes)
                yield Rows(SparseRows.of(matrix, self._threads()), targets, survey.classes.size)

        folds = folds_of_batches(source, survey.n_batches) if self.priming == "primed" else []
        return self._solve(source, folds, survey, ceiling, progress)

    def _survey(self, batches: Batches, classes: ArrayLike | None) -> tuple[_Survey, Float64]:
        """One pass that learns the sizes."""
        sizes: dict[Any, int] = {}
        ceiling: Float64 | None = None
        n_batches, dtypes = 0, []
        for X, y in _one_pass(batches):
            matrix = self._checked(X, None if ceiling is None else ceiling.size, empty=True)
            labels = validate.labels(y, "y", matrix.shape[0])
            seen = distinct(labels)
            for label, size in zip(seen.tolist(), np.bincount(numbers_of(labels, seen)), strict=True):
                sizes[label] = sizes.get(label, 0) + int(size)
            highest = SparseRows.of(matrix, self._threads()).ceiling()
            ceiling = highest if ceiling is None else np.maximum(ceiling, highest)
            n_batches += 1
            dtypes.append(matrix.dtype)
        if ceiling is None or not sizes:
            raise ValueError("batches must hold at least one row, got none")
        if len({isinstance(label, str) for label in sizes}) > 1:
            raise TypeError("y must be labels of one kind in every batch, got strings and numbers")
        seen = np.array(sorted(sizes))
        known = seen if classes is None else distinct(validate.labels(classes, "classes", np.size(classes)))
        known = self._checked_classes(known)
        numbers_of(seen, known)  # refuses a label that is none of them
        class_sizes = np.array([sizes.get(label, 0) for label in known.tolist()])
        if not class_sizes.all():
            raise ValueError(f"every class needs a row, but {known[class_sizes == 0].tolist()} have none")
        return _Survey(known, class_sizes, ceiling.size, np.result_type(*dtypes), n_batches), ceiling

    def _solve(
        self, source: Source, folds: list[Fold], survey: _Survey, ceiling: Float64, progress: bool
    ) -> ExplicitNetwork:
        ceiling = np.where(ceiling > 0, ceiling, 1.0)
        solves = (len(folds) + 1) * len(self.hidden)
        with progress_bar(solves * (self.rounds + self.corrections + 1), "solving", progress) as bar:
            options = Options(
                self.rounds,
                self.corrections,
                self.shrinkage,
                self.smoothing,
                self.seed,
                self._threads(),
                survey.n_batches,
                bar.update,
            )
            layers = stack_solver.solve(
                source,
                folds,
                self.hidden,
                survey.class_sizes,
                survey.n_features,
                ceiling if self.complement else None,
                options,
            )
        if not all(np.isfinite(layer.weights).all() and np.isfinite(layer.bias).all() for layer in layers):
            raise ValueError("the features are too large: their sums leave their dtype; scale them down")
        self._take(layers, survey.classes)
        return self

    def _take(self, layers: list[Layer], classes: Classes) -> None:
        self._classes, self.history, self._output = classes, None, None
        self._layers = [(layer.weights, layer.bias) for layer in layers]
        self._scalars = np.array([layer.scalars for layer in layers])
        self._corrections = [layer.corrections for layer in layers]
        self._counts = np.ascontiguousarray(layers[-1].output_counts.T)

    def partial_fit(self, X: Any, y: ArrayLike) -> ExplicitNetwork:
        """Count more rows in the output layer of a solved network.

        What a hidden unit says about the classes is a sum over rows, so that more rows can be added exactly: in any
        chunking they give the same bits. The hidden layers and the scalars stay as they were solved; sub-classes
        cannot be added to one row at a time.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (M, D)
            Features, as in ``fit``; there may be no rows.
        y : array_like, shape (M,)
            Labels of known classes.

        Returns
        -------
        ExplicitNetwork
            Itself.

        Raises
        ------
        ValueError, TypeError
            If the network is not solved yet, or was refined, so that its output no longer follows from counts; and as
            ``fit``.
        """
        if not self._layers:
            raise ValueError(
                "the hidden layers are found from all rows together: call fit (or fit_batches for rows that do not fit "
                "into memory) first, then partial_fit adds rows to the output layer"
            )
        if self.history is not None:
            raise ValueError("this network was refined: its output no longer follows from counts; fit it anew")
        X = self._checked(X, self._n_features, empty=True)
        targets = numbers_of(validate.labels(y, "y", X.shape[0]), self._classes)
        counts, mass = self._counts.copy(), np.zeros(self._classes.size)
        for piece, logits in self._logits(X):
            activations = _core.softmax(logits, False, self._threads())
            add_moments(activations, targets[piece], None, counts, mass, True, self._threads())
        self._counts = counts
        return self

    def _threads(self) -> int:
        return resolve_threads(self.n_threads)

    def _checked(self, X: Any, n_columns: int | None, empty: bool = False) -> Matrix:
        matrix = validate.features(X, "X", n_columns)
        validate.counts_like(matrix, "X", self._threads())
        if not empty and n_columns is None and matrix.shape[0] == 0:
            raise ValueError("X must have at least one row, got none")
        return matrix

    def _checked_classes(self, classes: Classes) -> Classes:
        if classes.size < 2:
            raise ValueError(f"y must name at least two classes, got {classes.tolist()}")
        if min(self.hidden) < classes.size:
            raise ValueError(
                f"hidden must be at least the number of classes, {classes.size}, since every class needs a unit, "
                f"got {self.hidden}"
            )
        return classes

    # ---- the solution ----

    def _solved(self) -> None:
        if not self._layers:
            raise ValueError("this ExplicitNetwork has seen no data: call fit first")

    @property
    def _n_features(self) -> int:
        self._solved()
        return self._layers[0][0].shape[0]

    @property
    def classes_(self) -> Classes:
        """The label of each class (N,)."""
        self._solved()
        return self._classes

    @property
    def weights(self) -> list[Array]:
        """Weights of the hidden layers."""
        self._solved()
        return [weights for weights, _ in self._layers]

    @property
    def biases(self) -> list[Array]:
        """Biases of the hidden layers."""
        self._solved()
        return [bias for _, bias in self._layers]

    @property
    def output_counts(self) -> Float64:
        """Activations by class (H, N)."""
        self._solved()
        return self._counts.T

    @property
    def output(self) -> Array:
        """Logits of the components (H, N): scaled log-counts, unless the network was refined."""
        self._solved()
        if self._output is not None:
            return self._output
        logits = self._scalars[-1, 2] * log_output(self._counts.T, self.smoothing)
        return np.ascontiguousarray(logits, self._layers[0][0].dtype)

    @property
    def scalars(self) -> list[dict[str, float]]:
        """The fitted scalars of each hidden layer."""
        self._solved()
        return [dict(zip(SCALARS, map(float, row), strict=True)) for row in self._scalars]

    @property
    def corrections_(self) -> list[int]:
        """How many corrections each hidden layer took."""
        self._solved()
        return list(self._corrections)

    @property
    def n_parameters(self) -> int:
        """Weights, biases and output logits."""
        return sum(weights.size + bias.size for weights, bias in zip(self.weights, self.biases, strict=True)) + (
            self._counts.size
        )

    # ---- predicting ----

    def _logits(self, X: Matrix) -> Iterator[tuple[slice, Array]]:
        """The last hidden layer's logits, in chunks of rows."""
        (weights, bias), *rest = self._layers
        for piece, logits in SparseRows.of(X.astype(weights.dtype, copy=False), self._threads()).logits(weights, bias):
            for weights, bias in rest:
                activations = _core.softmax(logits, False, self._threads())
                # Not by BLAS, in which a row's last bits depend on the rows beside it.
                logits = SparseRows.of(activations, self._threads()).product(weights, bias)
            yield piece, logits

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (M, D)
            Features, as in ``fit``.

        Returns
        -------
        ndarray, shape (M, N)
            In the dtype of the weights.

        Raises
        ------
        ValueError
            If a feature is negative or not finite, or the number of columns is not D.
        """
        matrix = self._checked(X, self._n_features)
        components = _core.softmax(self.output, False, self._threads())
        p = np.empty((matrix.shape[0], self._classes.size), components.dtype)
        for piece, logits in self._logits(matrix):
            p[piece] = _core.softmax(logits, False, self._threads()) @ components
        return p

    def predict_log_proba(self, X: Any) -> Array:
        """Log-probability of each class, in nats, shape (M, N), however small; see ``predict_proba``."""
        matrix = self._checked(X, self._n_features)
        log_components = np.ascontiguousarray(_core.softmax(self.output, True, self._threads()).T)
        log_p = np.empty((matrix.shape[0], self._classes.size), log_components.dtype)
        for piece, logits in self._logits(matrix):
            for number in range(self._classes.size):
                targets = np.full(logits.shape[0], number, np.int32)
                log_p[piece, number] = _core.mixture(logits, log_components, targets, self._threads())
        return log_p

    def predict(self, X: Any) -> Array:
        """Label of the most probable class of each row, shape (M,); see ``predict_proba``."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    # ---- refining ----

    def _parameters(self, soften: float, dtype: DTypeLike) -> dict[str, Array]:
        parameters = {}
        for depth, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            parameters[f"hidden{depth}.weights"] = (soften * weights).astype(dtype)
            parameters[f"hidden{depth}.bias"] = (soften * bias).astype(dtype)
        parameters["output.weights"] = self.output.astype(dtype)
        return parameters

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Examples:
        matrix = self._checked(X, self._n_features)
        targets = numbers_of(validate.labels(y, "y", matrix.shape[0]), self._classes)
        deep = len(self._layers) > 1
        return Examples(matrix.astype(self._layers[0][0].dtype, copy=False), targets, n_threads, blas=deep)

    def _loss_and_gradients(
        self, parameters: dict[str, Array], batch: Batch, gradients: dict[str, Array], n_threads: int
    ) -> float:
        return stack.loss_and_gradients(parameters, *batch, n_threads=n_threads, out=gradients)[0]

    def _losses(self, parameters: dict[str, Array], batch: Batch, n_threads: int) -> Float64:
        return stack.losses(parameters, *batch, n_threads)

    def _with_parameters(self, parameters: dict[str, Array], history: list[dict[str, Any]]) -> ExplicitNetwork:
        network = self._like()
        network._classes, network._scalars = self._classes, self._scalars
        network._corrections, network._counts = list(self._corrections), self._counts
        own = {name: value.astype(self._layers[0][0].dtype) for name, value in parameters.items()}
        depths = range(len(self._layers))
        network._layers = [(own[f"hidden{depth}.weights"], own[f"hidden{depth}.bias"]) for depth in depths]
        network._output = own["output.weights"]
        network.history = [dict(record) for record in history]
        return network

    def _like(self) -> ExplicitNetwork:
        """A network with these settings and no solution."""
        return ExplicitNetwork(n_threads=self.n_threads, **self._settings())

    def _settings(self) -> dict[str, Any]:
        names = ("hidden", "rounds", "complement", "priming", "corrections", "shrinkage", "smoothing", "seed")
        return {name: getattr(self, name) for name in names}

    # ---- checkpoint ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one file; see :func:`saffu.load`. An old file is replaced only when this is whole."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON-able metadata from which ``_from_checkpoint`` makes an equal network."""
        self._solved()
        classes, names = classes_to_file(self._classes)
        arrays = {"classes": classes, "scalars": self._scalars, "output.counts": self._counts}
        for depth, (weights, bias) in enumerate(self._layers):
            arrays[f"hidden{depth}.weights"], arrays[f"hidden{depth}.bias"] = weights, bias
        if self._output is not None:
            arrays["output.weights"] = self._output
        metadata = {
            "settings": self._settings(),
            "corrections": self._corrections,
            "history": history_to(self.history),
            "class_names": names,
        }
        return arrays, metadata

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> ExplicitNetwork:
        network = checkpoint.parse(lambda: cls(**metadata["settings"]))
        network.history = checkpoint.parse(history_from, metadata["history"])
        network._corrections = checkpoint.parse(
            lambda: [validate.integer(number, "corrections", 0) for number in metadata["corrections"]]
        )
        network._classes = checkpoint.parse(classes_from_file, arrays["classes"], metadata.get("class_names"))
        network._scalars = arrays["scalars"]
        network._counts, network._output = arrays["output.counts"], arrays.get("output.weights")
        depths = range(len(network.hidden))
        network._layers = [(arrays[f"hidden{depth}.weights"], arrays[f"hidden{depth}.bias"]) for depth in depths]
        if f"hidden{len(network.hidden)}.weights" in arrays or not network._is_whole():
            raise checkpoint.Damaged("the arrays of this ExplicitNetwork do not fit together")
        return network

    def _is_whole(self) -> bool:
        """Whether all parts are of the shapes, types and ranges that solving gives."""
        n_classes, dtype = self._classes.size, self._layers[0][0].dtype
        widths = [self._layers[0][0].shape[0] if self._layers[0][0].ndim == 2 else 0, *self.hidden]
        layers = zip(self._layers, widths[:-1], widths[1:], strict=True)
        shapes = all(W.shape == (below, above) and b.shape == (above,) for (W, b), below, above in layers)
        shapes &= self._classes.shape == (n_classes,) and self._scalars.shape == (len(self.hidden), 3)
        shapes &= self._counts.shape == (n_classes, self.hidden[-1]) and len(self._corrections) == len(self.hidden)
        shapes &= self._output is None or self._output.shape == (self.hidden[-1], n_classes)
        reals = [part for layer in self._layers for part in layer] + [
            part for part in [self._output] if part is not None
        ]
        types = dtype in (np.float32, np.float64) and all(part.dtype == dtype for part in reals)
        types &= self._scalars.dtype == self._counts.dtype == np.float64
        if not shapes or not types:
            return False
        finite = all(np.isfinite(part).all() for part in [*reals, self._scalars, self._counts])
        refined = (self._output is not None) == (self.history is not None)
        return bool(finite and n_classes >= 2 and refined and (self._counts >= 0).all())


class _Survey:
    """What is known of the rows before any layer is solved."""

    def __init__(
        self,
        classes: Classes,
        class_sizes: Int64,
        n_features: int,
        dtype: np.dtype[Any],
        n_batches: int,
    ):
        self.classes, self.class_sizes = classes, class_sizes
        self.n_features, self.dtype, self.n_batches = n_features, dtype, n_batches


def _one_pass(batches: Batches) -> Iterable[tuple[Any, ArrayLike]]:
    return batches() if callable(batches) else batches

"""ExplicitNetwork: a stack of softmax layers solved by counting, as a classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.classifier import inputs, network_checkpoint, network_solver
from saffu.classifier.batches import Batches, GivenBatches
from saffu.classifier.estimator import Classifier
from saffu.classifier.examples import Examples
from saffu.classifier.held_out import folds_of_batches
from saffu.classifier.inputs import Columns
from saffu.classifier.labels import Classes, distinct, numbers_of, same
from saffu.classifier.network_solution import NetworkSettings, Solution
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64

SCALARS = ("likelihood", "share", "output")


@checkpoint.register("explicit-network")
class ExplicitNetwork(Classifier[Solution]):
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
        A number is one layer.
    rounds : int
        Rounds of EM.
    complement : bool
        Whether the absence of a feature counts too: features are divided by their largest value in training, and
        ``1 - x`` joins each ``x``. It costs neither time nor parameters. For counts, as of words, choose False.
    priming : {"primed", "mean-norm"}
        ``"primed"``: corrections, and three scalars a layer (powers of the likelihood of a unit, of its share and of
        its distribution over the classes), fitted by Newton to held-out parts of the training rows; then all rows
        are used. ``"mean-norm"``: the papers' solution as it is, every scalar 1 and no corrections.
    corrections : int
        The largest number of corrections; they stop when held-out rows gain no more.
    shrinkage : float
        A unit counts so many rows that look like the mean of its class beside its own; positive.
    smoothing : float
        Added to the counts of all rows; positive.
    seed : int
        Of the random partition of the rows into sub-classes before the first round. The part of a row follows from the
        seed and its content.
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
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray of object, shape (D,)
        The names of the columns of a table (pandas, polars); there are none if the features came without.

    Notes
    -----
    It is an estimator as scikit-learn defines them, and can be used in its pipelines and searches; scikit-learn need
    not be installed. The arguments of the constructor take effect in ``fit``.

    A row of weight k is k equal rows, a row of weight zero none, and the order of the rows does not matter: ``fit``
    counts equal rows as one with the sum of their weights, and what is left to chance, the random start and the choice
    of held-out rows, follows from a hash of what a row contains.

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

    def __init__(
        self,
        hidden: tuple[int, ...] | int = (300,),
        *,
        rounds: int = 12,
        complement: bool = True,
        priming: str = "primed",
        corrections: int = 12,
        shrinkage: float = 1.0,
        smoothing: float = 0.1,
        seed: int = 0,
        n_threads: int | None = None,
    ):
        self.hidden = hidden
        self.rounds = rounds
        self.complement = complement
        self.priming = priming
        self.corrections = corrections
        self.shrinkage = shrinkage
        self.smoothing = smoothing
        self.seed = seed
        self.n_threads = n_threads

    # ---- solving -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_classes: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Solve the network.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Non-negative, finite features; float32 and float64 are used as they are, sparse matrices as CSR.
        y : array_like, shape (M,)
            Labels, of at least two classes. Integers, booleans or strings, in arrays of objects too, or floats with
            integral values, which become integers.
        sample_weight : array_like, shape (M,), optional
            A weight for each row: one of weight k counts as k rows.
        n_classes : int, optional
            N; then labels are class numbers, 0 <= y < N. By default the classes are the distinct labels, sorted.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.

        Returns
        -------
        ExplicitNetwork
            Itself; unchanged if the solution was interrupted.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, a feature is negative or not finite, labels are not of one kind, there is only one
            class, a class has no rows, a layer has fewer units than there are classes, or a setting is out of its
            range.

        Warns
        -----
        UserWarning
            If the labels stand in a column. It is scikit-learn's DataConversionWarning if scikit-learn is imported.
        """
        y = inputs.target(y, type(self).__name__)
        known = None if n_classes is None else np.arange(validate.integer(n_classes, "n_classes", 1))
        return self._fit(X, y, sample_weight, known, progress)

    def _fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, classes: Classes | None, progress: bool | None
    ) -> Self:
        """Solve the network for these classes, or for those of the labels."""
        settings, threads = self._checked_settings(), self._threads()
        matrix = self._features(X, None)
        if matrix.shape[0] == 0:
            raise ValueError("X must have at least one row, got none")
        labels = inputs.labels(y, matrix.shape[0])
        weights = inputs.sample_weights(sample_weight, matrix.shape[0])
        known = distinct(labels) if classes is None else classes
        kept, labels, weights = network_solver.with_weights(matrix, labels, weights)
        targets = numbers_of(labels, known)
        solution = network_solver.solve_in_memory(settings, kept, targets, known, weights, threads, progress)
        return self._take(solution, Columns.of(X, matrix))

    def fit_batches(
        self, batches: GivenBatches, *, classes: ArrayLike | None = None, progress: bool | None = None
    ) -> Self:
        """Solve the network from rows that do not fit into memory, batch by batch.

        Parameters
        ----------
        batches : iterable or callable
            What yields ``(X, y)`` or ``(X, y, sample_weight)``, each as in ``fit``, the same batches in every pass: a
            list of memory-mapped parts, or a function that opens files and returns a generator. There is a pass
            for every round of EM (and a few more), so a generator itself, which can be read only once, is refused.
        classes : array_like, shape (N,), optional
            All labels; by default those that come.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.

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
        settings, threads = self._checked_settings(), self._threads()
        checked = Batches(batches, self._features, threads)
        survey = checked.survey(classes, settings)
        source = checked.source(survey)
        folds = folds_of_batches(source, survey.n_batches) if settings.priming == "primed" else []
        solution = network_solver.solve(settings, source, folds, survey, threads, progress)
        return self._take(solution, checked.columns)

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Count more rows in the output layer of a solved network; the first rows of all solve it, as ``fit`` does.

        How often a hidden unit is active with a class is a sum over rows, so that more rows can be added exactly: in
        any chunking they give the same bits. The hidden layers and the scalars stay as they were solved; sub-classes
        cannot be added to one row at a time. So the first rows should be many; ``fit_batches`` finds the hidden layers
        from all rows, even if they do not fit into memory.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Features, as in ``fit``; of a solved network there may be no rows.
        y : array_like, shape (M,)
            Labels of known classes.
        sample_weight : array_like, shape (M,), optional
            A weight for each row.
        classes : array_like, shape (N,), optional
            All labels that will ever come; needed with the first rows, in which every class must occur.

        Returns
        -------
        ExplicitNetwork
            Itself.

        Raises
        ------
        ValueError, TypeError
            If the network was refined, so that its output no longer follows from counts; and as ``fit``.
        """
        y = inputs.target(y, type(self).__name__)
        known = None if classes is None else distinct(validate.labels(classes, "classes", np.size(classes)))
        if self._fitted is None:
            if known is None:
                raise ValueError(
                    "classes must list all labels in the first call of partial_fit, which solves the hidden layers; "
                    "or call fit (or fit_batches for rows that do not fit into memory) first, then partial_fit adds "
                    "rows to the output layer"
                )
            return self._fit(X, y, sample_weight, known, None)
        solution = self._fitted
        if known is not None and not same(known, solution.classes):
            raise ValueError(f"classes must stay {solution.classes.tolist()}, got {known.tolist()}")
        if self.history is not None:
            raise ValueError("this network was refined: its output no longer follows from counts; fit it anew")
        matrix = self._features(X, self._columns)
        targets = numbers_of(inputs.labels(y, matrix.shape[0]), solution.classes)
        weights = validate.sample_weights(sample_weight, matrix.shape[0])
        return self._take(solution.with_rows(matrix, targets, weights, self._threads()), self._columns)

    def _checked_settings(self) -> NetworkSettings:
        settings = {name: getattr(self, name) for name in NetworkSettings.__dataclass_fields__}
        return NetworkSettings(**settings).checked()

    # ---- what was found ----------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Array]:
        """Weights of the hidden layers."""
        return [weights for weights, _ in self._found().layers]

    @property
    def bias(self) -> list[Array]:
        """Bias of each hidden layer."""
        return [bias for _, bias in self._found().layers]

    @property
    def output_counts(self) -> Float64:
        """Activations by class (H, N)."""
        return self._found().counts.T

    @property
    def output(self) -> Array:
        """Logits of the components (H, N): scaled log-counts, unless the network was refined."""
        return self._found().logits_of_components()

    @property
    def scalars(self) -> list[dict[str, float]]:
        """The fitted scalars of each hidden layer."""
        return [dict(zip(SCALARS, map(float, row), strict=True)) for row in self._found().scalars]

    @property
    def corrections_(self) -> list[int]:
        """How many corrections each hidden layer took."""
        return list(self._found().corrections)

    @property
    def n_parameters(self) -> int:
        """The number of weights, biases and output logits."""
        layers = sum(weights.size + bias.size for weights, bias in self._found().layers)
        return layers + self._found().counts.size

    # ---- predicting --------------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Features, as in ``fit``.

        Returns
        -------
        ndarray, shape (M, N)
            In the dtype of the weights.

        Raises
        ------
        ValueError
            If a feature is negative or not finite, or the columns are not those of ``fit``.
        """
        solution = self._found()
        matrix = self._features(X, self._columns)
        return solution.probabilities(matrix, self._threads())

    def predict_log_proba(self, X: Any) -> Array:
        """Log-probability of each class, in nats, shape (M, N), however small; see ``predict_proba``."""
        solution = self._found()
        matrix = self._features(X, self._columns)
        return solution.log_probabilities(matrix, self._threads())

    def predict(self, X: Any) -> Array:
        """Label of the most probable class of each row, shape (M,); see ``predict_proba``."""
        labels: Array = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    # ---- refining ----------------------------------------------------------------------------------------------------

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Examples:
        """Features in the dtype of the weights, and the numbers of the labels' classes."""
        solution = self._found()
        matrix = self._features(X, self._columns)
        targets = numbers_of(inputs.labels(y, matrix.shape[0]), solution.classes)
        deep = len(solution.layers) > 1
        return Examples(matrix.astype(solution.dtype, copy=False), targets, n_threads, blas=deep)

    # ---- checkpoint --------------------------------------------------------------------------------------------------

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON-able metadata from which ``_from_checkpoint`` makes an equal network."""
        arrays, metadata = network_checkpoint.to_parts(self._found())
        names = self._known_columns().names
        return arrays, {**metadata, "history": history_to(self.history), "feature_names": names}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        """Undo ``_to_checkpoint``; Damaged if a part is missing or does not fit the others."""
        network = checkpoint.parse(lambda: cls(**metadata["settings"]))
        settings = checkpoint.parse(network._checked_settings)
        history = checkpoint.parse(history_from, metadata["history"])
        solution = network_checkpoint.from_parts(arrays, metadata, settings, history is not None)
        columns = checkpoint.parse(Columns.from_file, solution.n_features, metadata.get("feature_names"))
        return network.set_params(**vars(settings))._take(solution, columns, history)

"""ExplicitConvNet: a convolutional network solved by counting, as a classifier of images and signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.classifier import inputs
from saffu.classifier.estimator import Classifier
from saffu.classifier.examples import Examples
from saffu.classifier.inputs import Columns
from saffu.classifier.labels import distinct, numbers_of
from saffu.patches import convnet_checkpoint, convnet_solver
from saffu.patches.convnet_solution import ConvSettings, ConvSolution
from saffu.patches.patch_encoder import PatchEncoder, images_of
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint
from saffu.utils.arrays import Array


@checkpoint.register("explicit-convnet")
class ExplicitConvNet(Classifier[ConvSolution]):
    """A convolutional network on non-negative images or signals, solved by counting instead of gradient descent.

    A :class:`saffu.PatchEncoder` finds local softmax units by EM, without labels; their responsibilities, summed over
    the cells of a grid, are classified by a layer with a ridge, by an :class:`saffu.ExplicitNetwork`, or by both.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Of an image, a row of X in C order: (height, width), (height, width, channels), or (length,) for a signal. By
        default a row is a signal.
    patch, units, pool, stride, sharpness, rounds
        Of the encoder, see :class:`saffu.PatchEncoder`.
    normalize : {"auto", "none", "deviation", "whiten"}
        Of the encoder; ``"auto"`` takes the one that is best for held-out images.
    head : {"both", "layer", "network"}
        What makes classes of pooled responsibilities. The layer is faster, the network often better on drawings, the
        layer on photographs; both are mixed with scalars that are fitted to held-out images.
    hidden : tuple of int
        Hidden units of the network, at least as many as classes (fewer become as many).
    seed : int
        Of all that is left to chance.
    n_threads : int, optional
        By default every available CPU.

    Attributes
    ----------
    classes_ : ndarray of int64, bool or str, shape (N,)
        The label of each class, ascending.
    encoder_ : PatchEncoder
        The local units.
    normalize_ : str
        The contrast of patches that was chosen.
    powers_ : ndarray of float64
        The scalars of the layer and of the network, as far as there are both.
    history : list of dict or None
        Epochs of :func:`saffu.refine`, None if it was solved only.
    n_features_in_ : int
        D, the values of an image.
    feature_names_in_ : ndarray of object, shape (D,)
        Names of the columns of the table that was fitted to.

    Notes
    -----
    The layer is softmax regression by a sequence of least squares with one Gram matrix (Boehning 1992); the units are
    those of Williams and Zhao, arXiv 2311.07498. A fifth of the images, at most 4,000, is held out for the choices and
    scalars; then all images are used. Where a few tenths of a percent matter less than time,
    ``head="layer", normalize="none", units=150, pool=4`` takes about a third of it.
    ``refine`` needs ``head="layer"``: gradients go through the layer, the pooling and the units.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = rng.random((60, 8, 8)) / 4
    >>> y, places = np.arange(60) % 2, rng.integers(0, 7, 60)
    >>> for image, standing, place in zip(images, y, places):
    ...     image[(slice(None), place) if standing else (place, slice(None))] += 1
    >>> net = ExplicitConvNet((8, 8), patch=3, units=8, head="layer").fit(images[:40].reshape(40, 64), y[:40])
    >>> net.score(images[40:].reshape(20, 64), y[40:])
    1.0
    """

    def __init__(
        self,
        shape: int | Sequence[int] | None = None,
        *,
        patch: int | tuple[int, int] | None = None,
        units: int | None = None,
        pool: int = 3,
        stride: int = 1,
        normalize: str = "auto",
        sharpness: float = 1.0,
        rounds: int = 25,
        head: str = "both",
        hidden: tuple[int, ...] | int = (300,),
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.shape, self.patch, self.units, self.pool, self.stride = shape, patch, units, pool, stride
        self.normalize, self.sharpness, self.rounds = normalize, sharpness, rounds
        self.head, self.hidden, self.seed, self.n_threads = head, hidden, seed, n_threads

    def fit(self, X: Any, y: ArrayLike, *, progress: bool | None = None) -> Self:
        """Solve the network.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            An image in each row; non-negative and finite.
        y : array_like, shape (M,)
            Labels, of at least two classes.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.

        Returns
        -------
        ExplicitConvNet
            Itself; unchanged if the solution was interrupted.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, a value is negative or not finite, rows are no images of this shape, labels are not
            of one kind, there is only one class, or a setting is out of its range.
        """
        y = inputs.target(y, type(self).__name__)
        settings, threads = self._checked_settings(), self._threads()
        matrix = self._features(X, None)
        if matrix.shape[0] == 0:
            raise ValueError("X must have at least one row, got none")
        labels = inputs.labels(y, matrix.shape[0])
        classes = distinct(labels)
        if classes.size < 2:
            raise ValueError(f"y must have labels of at least two classes, got 1 class: {classes.tolist()}")
        solution = convnet_solver.solve(
            settings, images_of(matrix), numbers_of(labels, classes), classes, threads, progress
        )
        return self._take(solution, Columns.of(X, matrix))

    def _checked_settings(self) -> ConvSettings:
        names = ConvSettings.__dataclass_fields__
        return ConvSettings(**{name: getattr(self, name) for name in names}).checked()

    @property
    def solution(self) -> ConvSolution:
        """The encoder and the head."""
        return self._found()

    def with_solution(self, solution: ConvSolution) -> Self:
        """The same with other weights, which do not follow from counts."""
        return type(self)(**self.get_params())._take(solution, self._columns, [])

    @property
    def encoder_(self) -> PatchEncoder:
        """The local units."""
        return self._found().encoder

    @property
    def normalize_(self) -> str:
        """The contrast of patches that was chosen."""
        return self._found().encoder.normalize

    @property
    def powers_(self) -> Array:
        """The scalars of the parts of the head."""
        return self._found().head.powers.copy()

    # ---- predicting --------------------------------------------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> Array:
        """Log-probability of each class, in nats, float32 (M, N); see ``predict_proba``."""
        solution = self._found()
        return solution.log_probabilities(self._features(X, self._columns), self._threads())

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Images, as in ``fit``.

        Returns
        -------
        ndarray of float32, shape (M, N)

        Raises
        ------
        ValueError
            If a value is negative or not finite, or the columns are not those of ``fit``.
        """
        probabilities: Array = np.exp(self.predict_log_proba(X))
        return probabilities

    def predict(self, X: Any) -> Array:
        """Label of the most probable class of each image, shape (M,); see ``predict_proba``."""
        labels: Array = self.classes_[self.predict_log_proba(X).argmax(axis=1)]
        return labels

    # ---- refining and files ------------------------------------------------------------------------------------------

    def refine(self, X: Any, y: ArrayLike, **options: Any) -> Self:
        """Improve the network by backpropagation; return the refined one, and leave this one as it is.

        Parameters
        ----------
        X, y
            Images and labels, as in ``fit``.
        **options
            Arguments of :func:`saffu.refine`. Units are not softened unless ``soften`` says so: the layer was fitted
            to them as they are.

        Raises
        ------
        ValueError
            If the head is not ``"layer"``; and as :func:`saffu.refine`.
        """
        return super().refine(X, y, **{"soften": 1.0, **options})

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Examples:
        """Images and the numbers of the labels' classes."""
        solution = self._found()
        if solution.head.layer is None or solution.head.network is not None:
            raise ValueError('refine needs a network with head="layer": fit it so')
        matrix = self._features(X, self._columns)
        targets = numbers_of(inputs.labels(y, matrix.shape[0]), solution.classes)
        return Examples(images_of(matrix), targets, n_threads)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON-able metadata from which ``_from_checkpoint`` makes an equal network."""
        arrays, metadata = convnet_checkpoint.to_parts(self._found())
        names = self._known_columns().names
        return arrays, {**metadata, "history": history_to(self.history), "feature_names": names}

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        """Undo ``_to_checkpoint``; Damaged if a part is missing or does not fit the others."""
        settings = convnet_checkpoint.settings_from(metadata["settings"])
        network = checkpoint.parse(lambda: cls(**vars(settings)))
        checkpoint.parse(network._checked_settings)
        history = checkpoint.parse(history_from, metadata["history"])
        solution = convnet_checkpoint.from_parts(arrays, metadata, settings)
        names = metadata.get("feature_names")
        columns = checkpoint.parse(Columns.from_file, solution.encoder.n_features_in_, names)
        return network._take(solution, columns, history)

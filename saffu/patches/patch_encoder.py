"""PatchEncoder: images and signals as pooled responsibilities of local softmax units."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from saffu import _core
from saffu.classifier import inputs
from saffu.classifier.inputs import Columns
from saffu.classifier.transformer import ColumnTransformer
from saffu.patches.contrast import KINDS, Contrast
from saffu.patches.geometry import Geometry, usual_patch, usual_units
from saffu.patches.patch_em import EMSettings, solve_units
from saffu.utils import checkpoint, containers, validate
from saffu.utils.arrays import Array, Float32, Float64, Matrix
from saffu.utils.checkpoint import Damaged, parse
from saffu.utils.threads import resolve_threads


@checkpoint.register("patch-encoder")
class PatchEncoder(ColumnTransformer):
    """A convolutional layer of softmax units on non-negative images or signals, solved by counting, without labels.

    Each unit stands for a kind of patch. EM finds the units: its M-step is the explicit solution of a softmax layer,
    the normalised log-counts of what patches look like. An image becomes the responsibilities of the units at all its
    places, summed over the cells of a grid.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Of an image, a row of X in C order: (height, width), (height, width, channels), or (length,) for a signal. By
        default a row is a signal.
    patch : int or tuple of int, optional
        Height and width of a patch; a smaller image has one patch. By default 6, of images of fewer than 16 rows or
        columns three eighths of these, but at least 3.
    units : int, optional
        K. By default six for each value of a patch, at least 100: 216 for patches of 6 x 6, 648 if they are in colour.
    pool : int
        Rows and columns of the grid of cells.
    stride : int
        Steps between patches.
    normalize : {"none", "deviation", "whiten"}
        How the contrast of a patch is measured: as it is; divided by the patch's own deviation, so that faint patches
        count like strong ones; or decorrelated, so that fine structure counts like coarse one, which natural images
        want.
    sharpness : float
        Multiplies the log-likelihood of a patch: the larger, the more a patch belongs to one unit alone; positive.
    rounds : int
        Rounds of EM.
    smoothing : float
        So many patches that look like the mean are added to each unit; not negative.
    seed : int
        Of the choice of patches, and of those that units start from.
    n_threads : int, optional
        By default every available CPU. No result depends on it.

    Attributes
    ----------
    weights_ : ndarray of float32, shape (n_inputs, K)
        The log-rates of the units; the last row is the bias.
    n_features_in_ : int
        D, the values of an image.
    feature_names_in_ : ndarray of object, shape (D,)
        Names of the columns of the table that was fitted to.

    Notes
    -----
    With x the values of a patch, scaled to at most 1, and m their mean, units see ``max(0, z)``, ``max(0, -z)``, ``m``
    and ``1 - m``, where z is the contrast ``(x - m) / d``, or that whitened. Explicit solution of a softmax layer:
    Williams and Zhao, arXiv 2311.07498. Pooled responsibilities as features: Coates, Lee and Ng (AISTATS 2011), for
    k-means. Kernels ``saffu_patch_moments``, ``saffu_pool_patches``: patches are never stored.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((20, 8, 8))
    >>> images[:10, 2:4], images[10:, :, 2:4] = 1, 1  # lines that lie, and lines that stand
    >>> encoder = PatchEncoder((8, 8), patch=4, units=6, pool=1).fit(images.reshape(20, 64))
    >>> pooled = encoder.transform(images.reshape(20, 64))
    >>> pooled.shape, float(pooled[0].sum().round(3))
    ((20, 6), 25.0)
    >>> bool(np.abs(pooled[0] - pooled[10]).sum() > 10)
    True
    """

    _geometry: Geometry
    _contrast: Contrast
    weights_: Float32

    def __init__(
        self,
        shape: int | Sequence[int] | None = None,
        *,
        patch: int | tuple[int, int] | None = None,
        units: int | None = None,
        pool: int = 3,
        stride: int = 1,
        normalize: str = "none",
        sharpness: float = 1.0,
        rounds: int = 25,
        smoothing: float = 5.0,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.shape, self.patch, self.units, self.pool, self.stride = shape, patch, units, pool, stride
        self.normalize, self.sharpness, self.rounds, self.smoothing = normalize, sharpness, rounds, smoothing
        self.seed, self.n_threads = seed, n_threads

    def fit(self, X: Any, y: Any = None, *, progress: bool | None = None) -> Self:
        """Find the units.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            An image in each row; non-negative and finite.
        y : optional
            Without effect; pipelines give it.
        progress : bool, optional
            Whether to show a bar on a terminal; by default for work longer than half a second.

        Returns
        -------
        PatchEncoder
            Itself; unchanged if the solution was interrupted.

        Raises
        ------
        ValueError, TypeError
            If there are no rows, a value is negative or not finite, rows are no images of this shape, or a setting is
            out of its range.
        """
        threads = resolve_threads(self.n_threads)
        matrix = inputs.features(X, type(self).__name__, None, threads)
        if matrix.shape[0] == 0:
            raise ValueError("X must have at least one row, got none")
        geometry = self._checked_geometry(matrix.shape[1])
        settings = self._em_settings(geometry)
        contrast, weights = solve_units(images_of(matrix), geometry, settings, threads, progress)
        self._geometry, self._contrast, self.weights_ = geometry, contrast, weights
        self._columns = Columns.of(X, matrix)
        return self

    def transform(self, X: Any) -> Any:
        """Pool the responsibilities of the units.

        Parameters
        ----------
        X : array_like, table or sparse matrix, shape (M, D)
            Images, as in ``fit``.

        Returns
        -------
        ndarray of float32, shape (M, cells K)
            Cell by cell; the features of an image sum to the number of its patches. A table, if :meth:`set_output` or
            ``sklearn.set_config`` says so.

        Raises
        ------
        ValueError, TypeError
            If X is not as in ``fit``; scikit-learn's NotFittedError if there was no fit.
        """
        known, threads = self._known_columns(), resolve_threads(self.n_threads)
        matrix = inputs.features(X, type(self).__name__, known, threads)
        pooled = self.pooled(images_of(matrix), n_threads=threads)
        flat = pooled.reshape(len(pooled), -1)
        container = containers.chosen(self)
        names = np.empty(0, object) if container == "default" else self.get_feature_names_out()
        return containers.wrap(flat, names, X, container)

    def pooled(self, images: Float32, *, n_threads: int) -> Float32:
        """The same of images that were checked, shape (M, cells, K)."""
        core, matrix = self.core_parts(images.dtype)
        return _core.pool_patches(core, images, matrix, self.weights_, n_threads)

    def core_parts(self, dtype: np.dtype[Any]) -> tuple[_core.Patches, Array | None]:
        """What kernels take beside images and weights of this type of real: patches, and the whitening matrix."""
        return self._geometry.core(self._contrast), self._contrast.matrix(dtype)

    def unit_patches(self) -> Float64:
        """The mean patch of each unit: what it has above its own mean, or below, as units see it before any whitening.

        Returns
        -------
        ndarray of float64, shape (K, height, width, channels)
            ``(x - m) / d``, see the notes of the class.
        """
        contrast = self.contrast
        found = contrast.expected(np.exp(self.weights_[:-1].astype(np.float64).T / self.sharpness))
        return found.reshape(len(found), *self.geometry.patch, self.geometry.shape[2])

    def with_weights(self, weights: Float32) -> Self:
        """The same with other weights of its units."""
        other = copy.copy(self)
        other.weights_ = weights
        return other

    @property
    def geometry(self) -> Geometry:
        """Where patches lie, and which cells pool them."""
        self._known_columns()
        return self._geometry

    @property
    def contrast(self) -> Contrast:
        """What units see of a patch."""
        self._known_columns()
        return self._contrast

    @property
    def n_outputs(self) -> int:
        """The number of features that ``transform`` returns of an image."""
        self._known_columns()
        return self._geometry.n_cells * int(self.weights_.shape[1])

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the features, such as ``cell0_unit7``; the names of the input have no effect."""
        self._known_columns()
        cells, units = range(self._geometry.n_cells), range(self.weights_.shape[1])
        return np.array([f"cell{cell}_unit{unit}" for cell in cells for unit in units], dtype=object)

    def _em_settings(self, geometry: Geometry) -> EMSettings:
        settings = {name: getattr(self, name) for name in EMSettings.__dataclass_fields__}
        if settings["units"] is None:
            settings["units"] = usual_units(geometry.patch_size)
        return EMSettings(**settings).checked()

    def _checked_geometry(self, n_values: int) -> Geometry:
        shape = n_values if self.shape is None else self.shape
        geometry = Geometry.of(shape, self._fitting_patch(shape), self.stride, self.pool)
        if geometry.image_size != n_values:
            wanted = " x ".join(map(str, geometry.shape))
            raise ValueError(f"X must have {geometry.image_size} columns, those of images of {wanted}, got {n_values}")
        return geometry

    def _fitting_patch(self, shape: int | Sequence[int]) -> int | Sequence[int]:
        """The patch, cut to the size of an image if it is a single number or none."""
        if self.patch is not None and not isinstance(self.patch, (int, np.integer)):
            return self.patch
        sides = [shape] if isinstance(shape, (int, np.integer)) else list(shape)[:2]
        height, width = (validate.size(side, "shape") for side in ([1, *sides] if len(sides) == 1 else sides))
        size = usual_patch(height, width) if self.patch is None else validate.size(self.patch, "patch")
        return min(size, height), min(size, width)

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the encoder to one file, which :func:`saffu.load` reads; nothing in it is ever executed.

        An old file is replaced only when the new one is whole. Errors: OSError if it cannot be written, ValueError if
        there is nothing to write yet.
        """
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        columns, contrast = self._known_columns(), self._contrast
        arrays: dict[str, Array] = {"weights": self.weights_}
        if contrast.whitening is not None:
            arrays["whitening"] = contrast.whitening
        metadata = {"settings": self._plain_settings(), "scale": contrast.scale, "n_features": columns.n_features}
        return arrays, {**metadata, "spread": contrast.spread, "feature_names": columns.names}

    def _plain_settings(self) -> dict[str, Any]:
        """The settings as JSON keeps them."""
        plain = dict(self.get_params())
        for name in ("shape", "patch"):
            value = plain[name]
            plain[name] = value if value is None else np.asarray(value).tolist()
        return plain

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        """Undo ``_to_checkpoint``; Damaged if a part is missing or does not fit the others."""
        settings = dict(metadata["settings"])
        for name in ("shape", "patch"):
            settings[name] = tuple(settings[name]) if isinstance(settings.get(name), list) else settings.get(name)
        encoder = parse(lambda: cls(**settings))
        columns = parse(Columns.from_file, metadata["n_features"], metadata.get("feature_names"))
        geometry = parse(encoder._checked_geometry, columns.n_features)
        weights, white = arrays["weights"], arrays.get("whitening")
        kind = parse(validate.choice, settings["normalize"], "normalize", KINDS)
        contrast = Contrast(kind, parse(float, metadata["scale"]), parse(float, metadata["spread"]), white)
        n_units = parse(encoder._em_settings, geometry).units
        fits = weights.dtype == np.float32 and weights.shape == (geometry.n_inputs, n_units)
        fits &= (white is not None) == (kind == "whiten")
        fits &= white is None or (white.shape == (geometry.patch_size,) * 2 and white.dtype == np.float32)
        if not fits or not all(np.isfinite(part).all() for part in (weights, *([] if white is None else [white]))):
            raise Damaged("the arrays of this PatchEncoder do not fit together")
        parse(geometry.core, contrast)
        encoder._geometry, encoder._contrast, encoder.weights_ = geometry, contrast, weights
        encoder._columns = columns
        return encoder

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator: here a transformer of features that are not negative."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(sparse=True, positive_only=True),
        )


def images_of(matrix: Matrix) -> Float32:
    """Checked features as dense rows of float32; what is too large for that is infinite."""
    dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(dense, np.float32)

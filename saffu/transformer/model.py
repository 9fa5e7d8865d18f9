"""The transformer that growth is defined on: every layer may have sizes of its own; numpy, forward and backward."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu import _core
from saffu.training.history import history_from, history_to
from saffu.training.refinement import refine
from saffu.transformer.functional import ACTIVATIONS, NOTHING, backward, forward
from saffu.transformer.sequences import SequenceBatch, Sequences, windows
from saffu.transformer.sizes import Arrays, LayerSizes, layer_name, layer_shapes, sizes_of
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.initializers import initial
from saffu.utils.progress import progress_bar
from saffu.utils.threads import resolve_threads

BATCH_TOKENS = 2048
SCORED_ROWS = 16  # sequences at once in scoring


@checkpoint.register("transformer")
class Transformer:
    """A transformer on token ids whose layers may each have sizes of their own (arXiv 2308.06103, section 2).

    Parameters
    ----------
    vocab_size : int
        V, the number of token types. There is one more embedding, number V, that stands before a document.
    hidden : int
        h, the width of the states.
    layers : int
        N.
    heads, key, value, mlp : int or sequence of N int, optional
        E, k, v and p, of all layers or of each; by default one head, k = v = hidden / heads, and p = 4 hidden.
    positions : int
        S, the longest sequence.
    activation : {"relu", "gelu"}
    causal : bool
        Whether a place sees only itself and what precedes it.
    seed : int
        Of the random weights: normal, of standard deviation 1 / sqrt(inputs).
    n_threads : int, optional
        Threads of the optimiser; products are those of BLAS, which has its own.

    Attributes
    ----------
    arrays : dict of str to ndarray
        By the names of :func:`sizes_of`; not to be changed in place.
    history : list of dict or None
        Of the last refinement; see :func:`saffu.refine`.
    growth : list of dict
        What the model has grown by, oldest first; see :mod:`saffu.grow`.

    Raises
    ------
    ValueError, TypeError
        If a size is below 1 or no integer, or lists do not have an entry for each layer.

    Examples
    --------
    >>> model = Transformer(vocab_size=10, hidden=8, layers=2, heads=2, positions=4)
    >>> model.logits([[1, 2, 3]]).shape
    (1, 3, 10)
    """

    interrupted = False  # whether Ctrl-C ended the refinement that this model comes from

    def __init__(
        self,
        vocab_size: int,
        hidden: int = 64,
        layers: int = 2,
        heads: int | Sequence[int] = 1,
        key: int | Sequence[int] | None = None,
        value: int | Sequence[int] | None = None,
        mlp: int | Sequence[int] | None = None,
        positions: int = 128,
        activation: str = "relu",
        causal: bool = True,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        vocab_size = validate.size(vocab_size, "vocab_size")
        hidden = validate.size(hidden, "hidden")
        layers = validate.size(layers, "layers", 0)
        positions = validate.size(positions, "positions")
        each_heads = _each(heads, "heads", layers)
        width = [max(hidden // n, 1) for n in each_heads]
        sizes = [
            LayerSizes(*numbers)
            for numbers in zip(
                each_heads,
                width if key is None else _each(key, "key", layers),
                width if value is None else _each(value, "value", layers),
                [4 * hidden] * layers if mlp is None else _each(mlp, "mlp", layers),
                strict=True,
            )
        ]
        rng = np.random.default_rng(validate.integer(seed, "seed", 0))
        shapes: dict[str, tuple[int, ...]] = {"embedding": (vocab_size + 1, hidden), "positions": (positions, hidden)}
        for layer, size in enumerate(sizes):
            shapes |= {layer_name(layer, part): shape for part, shape in layer_shapes(hidden, size).items()}
        shapes["output"] = hidden, vocab_size
        self._set({name: initial(name, shape, rng) for name, shape in shapes.items()}, activation, causal, n_threads)

    def _set(self, arrays: Arrays, activation: str, causal: bool, n_threads: int | None) -> None:
        self.sizes = sizes_of(arrays)
        self.arrays = arrays
        self.activation = validate.choice(activation, "activation", ACTIVATIONS)
        self.causal, self.n_threads = bool(causal), n_threads
        resolve_threads(n_threads)
        self.history: list[dict[str, Any]] | None = []
        self.growth: list[dict[str, Any]] = []

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, ArrayLike],
        activation: str = "relu",
        causal: bool = True,
        n_threads: int | None = None,
    ) -> Self:
        """A model of arrays by the names of :func:`sizes_of`, all float32 or all float64; they are copied.

        Raises
        ------
        ValueError
            If one is missing, unknown, not finite, or does not fit the others.
        """
        found = {name: np.array(value, order="C") for name, value in arrays.items()}
        for name, value in found.items():
            if value.dtype not in (np.float32, np.float64) or not np.isfinite(value).all():
                raise ValueError(f"array {name!r} must be finite float32 or float64, got {value.dtype}")
        if len({value.dtype for value in found.values()}) > 1:
            raise ValueError("arrays must be all float32 or all float64, got both")
        model = cls.__new__(cls)
        model._set(found, activation, causal, n_threads)
        return model

    def with_arrays(self, arrays: Mapping[str, ArrayLike]) -> Self:
        """A model of other arrays, all else the same; its history is empty."""
        other = self.from_arrays(arrays, self.activation, self.causal, self.n_threads)
        other.growth = [dict(record) for record in self.growth]
        return other

    # ---- what it is ----

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.arrays["output"].shape[1]

    @property
    def hidden(self) -> int:
        """H."""
        return self.arrays["output"].shape[0]

    @property
    def positions(self) -> int:
        """S."""
        return len(self.arrays["positions"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the arrays."""
        return self.arrays["output"].dtype

    @property
    def n_parameters(self) -> int:
        """Numbers that the model consists of."""
        return sum(value.size for value in self.arrays.values())

    def summary(self) -> dict[str, Any]:
        """Settings and sizes."""
        return {
            "vocab_size": self.vocab_size,
            "hidden": self.hidden,
            "positions": self.positions,
            "layers": [size._asdict() for size in self.sizes],
            "activation": self.activation,
            "causal": self.causal,
            "n_parameters": self.n_parameters,
            "growth": self.growth,
            "epochs_refined": self.history[-1]["epoch"] if self.history else 0,
        }

    # ---- scoring ----

    def logits(self, ids: ArrayLike) -> Array:
        """Logits of every place of some sequences.

        Parameters
        ----------
        ids : array_like of int, shape (B, T) with T at most ``positions``
            In [0, V]; V stands before a document. -1 fills the ends of short rows.

        Returns
        -------
        ndarray, shape (B, T, V)
            Of the arrays' dtype.
        """
        return forward(self.arrays, self._rows(ids, "ids", self.vocab_size), self.causal, self.activation)[0]

    def log_prob(self, ids: ArrayLike, documents: ArrayLike | None = None, progress: bool = False) -> Float64:
        """Log-probability of every token of a text, nats, each after those before it in its window.

        A document is cut into windows of ``positions`` tokens; the first token of one sees the last one before it.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start.
        progress : bool
            Show progress on a terminal.
        """
        rows = self._text(ids, documents)
        found = []
        with progress_bar(len(rows), "score", progress) as bar:
            for begin in range(0, len(rows), SCORED_ROWS):
                batch = rows.take(slice(begin, begin + SCORED_ROWS))
                losses = self._label_losses(self.arrays, batch)
                found.append(-losses[batch.labels != NOTHING])
                bar.update(len(batch.ids))
        return np.concatenate([np.empty(0), *found])

    def perplexity(self, ids: ArrayLike, documents: ArrayLike | None = None, progress: bool = False) -> float:
        """Perplexity per token of a text; see :meth:`log_prob`."""
        log_prob = self.log_prob(ids, documents, progress)
        if log_prob.size == 0:
            raise ValueError("ids must hold at least one token to have a perplexity")
        return float(np.exp(-log_prob.mean()))

    # ---- refinement ----

    def refine(
        self,
        ids: ArrayLike,
        epochs: int = 1,
        *,
        documents: ArrayLike | None = None,
        batch_tokens: int = BATCH_TOKENS,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        **options: Any,
    ) -> Self:
        """Train on a text by backpropagation, as a causal language model; see :func:`saffu.refine`.

        Parameters
        ----------
        ids, documents
            As in :meth:`log_prob`.
        epochs : int
        batch_tokens : int
            In a step, rounded to whole windows.
        validation : (ids, documents), optional
            Other text to choose the best epoch by.
        **options
            Of :func:`saffu.refine`: ``learning_rate``, ``patience``, ``callback``, ``checkpoint``, ``seed``,
            ``progress``.

        Returns
        -------
        Transformer
            A refined model; this one stays as it is.
        """
        if not self.causal:
            raise ValueError("a model that is not causal sees what it should predict; give saffu.refine ids and labels")
        windows_a_step = max(validate.integer(batch_tokens, "batch_tokens", 1, validate.INT32_MAX) // self.positions, 1)
        X, y = self._windows(ids, documents)
        if validation is not None:
            options["validation"] = self._windows(*validation)
        options = {"batch_size": windows_a_step, "learning_rate": 1e-3, **options}
        return refine(self, X, y, epochs=epochs, n_threads=self.n_threads, **options)

    def _text(self, ids: ArrayLike, documents: ArrayLike | None) -> Sequences:
        return Sequences(*self._windows(ids, documents), self.dtype, resolve_threads(self.n_threads))

    def _windows(self, ids: ArrayLike, documents: ArrayLike | None) -> tuple[Int64, Int64]:
        checked = validate.token_ids(ids, "ids", self.vocab_size)
        starts = validate.document_starts(documents, checked.size)
        return windows(checked, starts, self.positions, self.vocab_size)

    def _rows(self, ids: ArrayLike, name: str, highest: int) -> Int64:
        found = np.asarray(ids)
        if found.ndim != 2 or found.dtype.kind not in "iu":
            raise TypeError(f"{name} must be a matrix of integers, got {found.dtype} {found.shape}")
        if found.shape[1] > self.positions:
            raise ValueError(f"{name} must have at most {self.positions} columns, got {found.shape[1]}")
        if found.size and not (found.min() >= NOTHING and found.max() <= highest):
            raise ValueError(f"{name} must be in [0, {highest}] or -1, got {found.min()} to {found.max()}")
        return found.astype(np.int64)

    # what saffu.refine asks of a model

    def _parameters(self, soften: float, dtype: DTypeLike) -> Arrays:
        return {name: value.astype(dtype) for name, value in self.arrays.items()}

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Sequences:
        ids, labels = self._rows(X, "X", self.vocab_size), self._rows(y, "y", self.vocab_size - 1)
        if ids.shape != labels.shape:
            raise ValueError(f"y must have the shape of X, {ids.shape}, got {labels.shape}")
        if (np.diff((ids == NOTHING).astype(np.int8), axis=1) < 0).any() or (ids[:, :1] == NOTHING).any():
            raise ValueError("X may hold -1 only at the ends of rows, after at least one id")
        if len(ids) and not (labels != NOTHING).any():
            raise ValueError("y must hold at least one label, got -1 alone")
        return Sequences(ids, labels, self.dtype, n_threads)

    def _loss_and_gradients(self, parameters: Arrays, batch: SequenceBatch, gradients: Arrays, n_threads: int) -> float:
        logits, states, seen = forward(parameters, batch.ids, self.causal, self.activation)
        known = batch.labels != NOTHING
        n = max(int(known.sum()), 1)
        flat = logits.reshape(-1, logits.shape[-1])
        weights = known.reshape(-1).astype(np.float64) / n
        labels = np.maximum(batch.labels, 0).reshape(-1).astype(np.int32)
        losses = _core.cross_entropy_labels(flat, labels, n_threads)
        P = _core.softmax(flat, False, n_threads)
        P[np.arange(labels.size), labels] -= 1
        P *= weights[:, None].astype(P.dtype)
        backward(parameters, batch.ids, P.reshape(logits.shape), states, seen, self.activation, gradients)
        return float(losses @ weights)

    def _label_losses(self, parameters: Arrays, batch: SequenceBatch) -> Float64:
        """Loss of each label, nats, (B, T); zero where there is none."""
        logits = forward(parameters, batch.ids, self.causal, self.activation)[0]
        labels = np.maximum(batch.labels, 0).reshape(-1).astype(np.int32)
        threads = resolve_threads(self.n_threads)
        losses = _core.cross_entropy_labels(logits.reshape(labels.size, -1), labels, threads)
        return np.where(batch.labels != NOTHING, losses.reshape(batch.labels.shape), 0.0)

    def _losses(self, parameters: Arrays, batch: SequenceBatch, n_threads: int) -> Float64:
        # Such that the mean over all rows is the mean over all labels.
        return self._label_losses(parameters, batch).sum(axis=1) / batch.labels_per_row

    def _with_parameters(self, parameters: Arrays, history: list[dict[str, Any]]) -> Self:
        other = self.with_arrays({name: np.asarray(value, self.dtype) for name, value in parameters.items()})
        other.history = history
        return other

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; an existing file is replaced only when this is whole. See :func:`saffu.load`."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[Arrays, dict[str, Any]]:
        facts = {"activation": self.activation, "causal": self.causal, "growth": self.growth}
        facts["history"] = history_to(self.history)
        return self.arrays, facts

    @classmethod
    def _from_checkpoint(cls, arrays: Arrays, metadata: dict[str, Any]) -> Self:
        model = checkpoint.parse(cls.from_arrays, arrays, metadata["activation"], metadata["causal"])
        model.history = checkpoint.parse(history_from, metadata["history"])
        model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata["growth"]])
        return model


def _each(value: int | Sequence[int], name: str, layers: int) -> list[int]:
    """A size for each layer."""
    values = [value] * layers if isinstance(value, (int, np.integer)) else list(value)
    if len(values) != layers:
        raise ValueError(f"{name} must be a number or one for each of {layers} layers, got {len(values)}")
    return [validate.size(one, name) for one in values]

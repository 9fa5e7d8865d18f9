"""Transformer: a small reference transformer in numpy, whose layers may each have sizes of their own.

Its equations are in ``functional.py``, what its arrays are called in ``sizes.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu.text import ModelVocabulary
from saffu.training import refine
from saffu.transformer import growth, scoring, serialization
from saffu.transformer.functional import ACTIVATIONS, backward, forward, loss_and_gradient
from saffu.transformer.prototypes import Prototypes
from saffu.transformer.sequences import SequenceBatch, Sequences, checked_rows, labelled_rows
from saffu.transformer.sizes import Arrays, by_name, copied, layer_sizes, shapes_of, sizes_of
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.initializers import Init, initial
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads

BATCH_TOKENS = 2048
LEARNING_RATE = 1e-3


@checkpoint.register("transformer")
class Transformer(LanguageModel):
    """A transformer on token ids whose layers may each have sizes of their own (arXiv 2308.06103, section 2).

    It starts from random weights and is trained by backpropagation alone; :meth:`grow` enlarges it without changing
    its function. It is a reference to try growth on, not a fast one.

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
        Of the random weights: normal, of standard deviation 1 / sqrt(inputs), biases zero and gains one.
    n_threads : int, optional
        Threads of the optimiser; products are those of BLAS, which has its own.

    Attributes
    ----------
    arrays : dict of str to ndarray
        By the names of :func:`saffu.transformer.sizes.sizes_of`; not to be changed in place.
    history : list of dict or None
        Of the last refinement; see :func:`saffu.refine`.
    growth : list of dict
        What the model has grown by, oldest first; see :mod:`saffu.grow`.
    vocabulary : saffu.text.Vocabulary or None
        Saved with the model if set; ValueError if it has another size than the model.

    Raises
    ------
    ValueError, TypeError
        If a size is below 1 or no integer, or lists do not have an entry for each layer.

    Examples
    --------
    >>> model = Transformer(4, hidden=8, layers=1, heads=2, positions=8)
    >>> text = [0, 1, 2, 3] * 50
    >>> trained = model.refine(text, epochs=20, batch_tokens=32, learning_rate=0.01)
    >>> int(trained.distribution([0, 1]).argmax())
    2
    >>> list(trained.generate([0], 5, temperature=0))
    [1, 2, 3, 0, 1]
    """

    vocabulary = ModelVocabulary()
    interrupted = False  # whether Ctrl-C ended the refinement that this model comes from

    def __init__(
        self,
        vocab_size: int,
        *,
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
        positions = validate.size(positions, "positions")
        sizes = layer_sizes(hidden, validate.size(layers, "layers", 0), heads, key, value, mlp)
        rng = np.random.default_rng(validate.integer(seed, "seed", 0))
        shapes = shapes_of(vocab_size, hidden, positions, sizes)
        self._set({name: initial(name, shape, rng) for name, shape in shapes.items()}, activation, causal, n_threads)
        self.seed = int(seed)

    def _set(self, arrays: Arrays, activation: str, causal: bool, n_threads: int | None) -> None:
        self.sizes = sizes_of(arrays)
        self.arrays = arrays
        self.activation = validate.choice(activation, "activation", ACTIVATIONS)
        self.causal, self.n_threads = bool(causal), n_threads
        resolve_threads(n_threads)
        self.seed = 0
        self.history: list[dict[str, Any]] | None = []
        self.growth: list[dict[str, Any]] = []
        self.vocabulary = None

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, ArrayLike],
        *,
        activation: str = "relu",
        causal: bool = True,
        n_threads: int | None = None,
    ) -> Self:
        """A model of arrays by the names of :func:`saffu.transformer.sizes.sizes_of`, which are copied.

        They are all float32 or all float64; ValueError if one is missing, unknown, not finite, or does not fit.
        """
        model = cls.__new__(cls)
        model._set(copied(arrays), activation, causal, n_threads)
        return model

    def with_arrays(self, arrays: Mapping[str, ArrayLike]) -> Self:
        """A model of other arrays for the same vocabulary, all else the same; its history is empty."""
        other = self.from_arrays(arrays, activation=self.activation, causal=self.causal, n_threads=self.n_threads)
        other.seed, other.growth = self.seed, [dict(record) for record in self.growth]
        other.vocabulary = self.vocabulary
        return other

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return len(self.arrays["output"].T)

    @property
    def hidden(self) -> int:
        """h, the width of the states."""
        return len(self.arrays["output"])

    @property
    def positions(self) -> int:
        """S, the longest sequence."""
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
        """Settings, sizes and history, as ``saffu info`` shows them."""
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

    def _settings(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocab_size,
            "hidden": self.hidden,
            "layers": len(self.sizes),
            **by_name(self.sizes),
            "positions": self.positions,
            "activation": self.activation,
            "causal": self.causal,
            "seed": self.seed,
            "n_threads": self.n_threads,
        }

    # ---- training ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Train this model on a text, in place, by one pass of :meth:`refine` from its present weights.

        ``vocab_size`` must be V if it is given: the arrays have that size. ValueError if it is not, if ids are out of
        range or absent, or if the model is not causal.
        """
        if vocab_size is not None and validate.size(vocab_size, "vocab_size") != self.vocab_size:
            raise ValueError(f"vocab_size must be {self.vocab_size}, as the model has, got {vocab_size}")
        trained = self.refine(ids, documents=documents, progress=progress)
        self.arrays, self.history, self.interrupted = trained.arrays, trained.history, trained.interrupted
        return self

    def refine(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        epochs: int = 1,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        seed: int = 0,
        progress: bool | None = None,
        batch_tokens: int = BATCH_TOKENS,
        **options: Any,
    ) -> Self:
        """Train on a text by backpropagation, as a causal language model; see :func:`saffu.refine`.

        Parameters
        ----------
        ids, documents, progress
            As in :class:`saffu.utils.language_model.LanguageModel`.
        epochs : int
            Passes over the text.
        validation : (ids, documents), optional
            Other text to choose the best epoch by.
        seed : int
            Of the order of windows.
        batch_tokens : int
            In a step, rounded to whole windows.
        **options
            Of :func:`saffu.refine`: ``learning_rate`` (0.001), ``freeze``, ``patience``, ``callback``, ``checkpoint``.

        Returns
        -------
        Transformer
            A refined model; this one stays as it is. Its ``interrupted`` tells whether Ctrl-C ended it before its time.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or absent, an option is unknown or out of range, or the model is not causal.
        """
        X, y = scoring.rows_of(self, self._stream(ids, documents))
        windows_a_step = max(validate.integer(batch_tokens, "batch_tokens", 1, validate.INT32_MAX) // self.positions, 1)
        settings: dict[str, Any] = {"batch_size": windows_a_step, "learning_rate": LEARNING_RATE, **options}
        if validation is not None:
            settings["validation"] = scoring.rows_of(self, self._stream(*validation))
        settings |= {"epochs": epochs, "seed": seed, "progress": progress, "n_threads": self.n_threads}
        return refine(self, X, y, **settings)

    def grow(
        self,
        ids: ArrayLike | None = None,
        *,
        documents: ArrayLike | None = None,
        progress: bool | None = None,
        seed: int = 0,
        init: Init | None = None,
        **sizes: int,
    ) -> Self:
        """Return a larger model of the same function, by the expansions of :mod:`saffu.grow`; this one stays as it is.

        Parameters
        ----------
        ids, documents : optional
            Text that the free new numbers are counted from, as :class:`saffu.Prototypes`.
        progress : bool, optional
            Without effect: nothing takes long.
        seed : int
            Of what is random.
        init : {"normal", "zeros"} or callable, optional
            What the free new numbers are without text; see :func:`saffu.grow.mlp`. By default normal.
        **sizes : int
            What the larger model has: ``hidden``, ``layers`` (new ones are the last), and in every layer ``heads``,
            ``key``, ``value`` and ``mlp``.

        Raises
        ------
        ValueError, TypeError
            If a name is unknown, a size is smaller than what there is, or both text and ``init`` are given.

        Examples
        --------
        >>> model = Transformer(5, hidden=4, layers=1, positions=8)
        >>> larger = model.grow(hidden=6, layers=2, mlp=20)
        >>> larger.hidden, [size.mlp for size in larger.sizes]
        (6, [20, 20])
        >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2]), atol=1e-5))
        True
        """
        if ids is not None:
            if init is not None:
                raise ValueError("init must be left out where ids are given: new numbers are counted from the text")
            init = Prototypes(self, ids, documents=documents, seed=seed)
        return growth.grown(self, sizes, seed, "normal" if init is None else init)

    # ---- answers -----------------------------------------------------------------------------------------------------

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
        rows = checked_rows(ids, "ids", self.positions, self.vocab_size)
        return forward(self.arrays, rows, self.causal, self.activation).logits

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token of a text, nats, each given those before it in its window; shape (M,).

        A document is cut into windows of ``positions`` tokens; the first token of one sees the last one before it.
        ValueError if the model is not causal.
        """
        return scoring.log_prob(self, self._stream(ids, documents), progress)

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities of all V tokens at some positions of a text in [0, M], nats, shape (N, V).

        Of a context that is one document, position M is what follows it; see :meth:`log_prob`.
        """
        return scoring.log_probs(self, self._stream(ids, documents), positions)

    def distribution(self, context: ArrayLike) -> Float64:
        """Probabilities of the token that follows ``context``, the document so far; shape (V,)."""
        return self._reader(context)[0]()

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        return scoring.reader(self, context)

    def _stream(self, ids: ArrayLike, documents: ArrayLike | None) -> TokenStream:
        return TokenStream.of(ids, documents, self.vocab_size)

    # ---- what saffu.refine asks of a model ---------------------------------------------------------------------------

    def _parameters(self, soften: float, dtype: DTypeLike) -> Arrays:
        return {name: value.astype(dtype) for name, value in self.arrays.items()}

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Sequences:
        ids = checked_rows(X, "X", self.positions, self.vocab_size)
        labels = checked_rows(y, "y", self.positions, self.vocab_size - 1)
        return labelled_rows(ids, labels, self.dtype, n_threads)

    def _loss_and_gradients(self, parameters: Arrays, batch: SequenceBatch, gradients: Arrays, n_threads: int) -> float:
        found = forward(parameters, batch.ids, self.causal, self.activation)
        loss, d_logits = loss_and_gradient(found.logits, batch.labels, n_threads)
        backward(parameters, batch.ids, d_logits, found, self.activation, gradients)
        return loss

    def _losses(self, parameters: Arrays, batch: SequenceBatch, n_threads: int) -> Float64:
        # Such that the mean over all rows is the mean over all labels.
        losses: Float64 = scoring.label_losses_of(self, parameters, batch).sum(axis=1)
        return losses / batch.labels_per_row

    def _with_parameters(self, parameters: Arrays, history: list[dict[str, Any]]) -> Self:
        other = self.with_arrays({name: np.asarray(value, self.dtype) for name, value in parameters.items()})
        other.history = history
        return other

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; an existing file is replaced only when this is whole. See :func:`saffu.load`."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[Arrays, dict[str, Any]]:
        return serialization.to_checkpoint(self)

    @classmethod
    def _from_checkpoint(cls, arrays: Arrays, metadata: dict[str, Any]) -> Transformer:
        return serialization.from_checkpoint(cls, arrays, metadata)

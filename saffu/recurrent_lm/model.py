"""RecurrentLM: an LSTM with tied embeddings, trained by backpropagation from embeddings that were counted."""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.recurrent_lm import explicit_start, network, scoring, serialization, settings, training
from saffu.recurrent_lm.network import TOKENS, Arrays
from saffu.recurrent_lm.settings import Sizes
from saffu.recurrent_lm.training import LEARNING_RATE, Plan, Training
from saffu.text import ModelVocabulary
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64, Int64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers, one_blas_thread, resolve_threads

WIDEST = 1 << 16


@checkpoint.register("recurrent-lm")
class RecurrentLM(LanguageModel):
    """Language model of long short-term memory cells, whose embeddings start from co-occurrence counts.

    An expert to stand beside a model of counts: it is trained on its own, by truncated backpropagation, and gets
    different things wrong. The same embeddings read the tokens and predict them::

        x = E[token before]    i, f, a, o = gates of x W + h R + b    c = f c + i a    h = (o tanh c) P
        p = softmax(h E^T + bias)

    Parameters
    ----------
    dim : int, optional
        Width of the embeddings and of the outputs of every layer; by default what suits the text and the time.
    cells : int, optional
        Cells of each layer; where they are not as many as ``dim``, their outputs are projected to it. By default as
        many as ``dim``, and twice as many where the text is read often.
    layers : int
    dropout : float, optional
        Probability, in [0, 1), that an input of a layer or of the output is zeroed in training; by default it grows
        with the number of epochs.
    start : {"explicit", "random"}
        Embeddings from the singular vectors of the text's co-occurrences, or drawn. The bias of the output starts from
        the unigram either way.
    seed : int
        Of the start, of the offsets at which each epoch cuts the text, and of dropout.
    epochs : int, optional
        Passes over the text; 4 if neither this nor ``budget`` is given. The result then depends on the seed alone,
        whatever the number of threads.
    budget : float, optional
        Seconds of wall time that :meth:`fit` may take, all included. The learning rate falls with the clock, so that
        the result depends on the machine and on what else it does.
    n_threads : int, optional
        By default every available CPU. Given ``epochs``, results do not depend on it.

    Attributes
    ----------
    history : list of dict or None
        A record for each epoch, or the part of one that there was time for: ``epoch``, ``seconds`` since the start,
        ``tokens`` trained on by then, ``training_loss`` (the mean over the epoch while it was trained on, with dropout)
        and ``validation_loss``, in nats per token.
    interrupted : bool
        Whether Ctrl-C ended the training that this model comes from; what had been learned by then was kept.
    vocabulary : saffu.text.Vocabulary or None
        Saved with the model if set; ValueError if it has another size than the model.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range or of the wrong type, or both ``epochs`` and ``budget`` are given.

    Notes
    -----
    LSTM with projection: arXiv 1402.1128. Tied embeddings: arXiv 1608.05859. Kernels ``saffu_lstm_step``,
    ``saffu_panel_product``,
    ``saffu_cross_entropy_backward``, ``saffu_adam_without_momentum``.

    Any number of threads may read a model at once; one that fits it must be alone.

    Examples
    --------
    >>> model = RecurrentLM(dim=8, epochs=20).fit([0, 1, 2, 3] * 100)
    >>> int(model.distribution([0, 1]).argmax())
    2
    >>> list(model.generate([0], 5, temperature=0))
    [1, 2, 3, 0, 1]
    """

    vocabulary = ModelVocabulary()
    interrupted = False

    def __init__(
        self,
        *,
        dim: int | None = None,
        cells: int | None = None,
        layers: int = 1,
        dropout: float | None = None,
        start: str = "explicit",
        seed: int = 0,
        epochs: int | None = None,
        budget: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.dim = None if dim is None else validate.integer(dim, "dim", 1, WIDEST)
        self.cells = None if cells is None else validate.integer(cells, "cells", 1, WIDEST)
        self.layers = validate.size(layers, "layers")
        self.dropout = None if dropout is None else validate.positive(dropout, "dropout", or_zero=True)
        if self.dropout is not None and self.dropout >= 1:
            raise ValueError(f"dropout must be below 1, got {dropout}")
        self.start = validate.choice(start, "start", settings.STARTS)
        self.seed = validate.integer(seed, "seed", 0)
        self.epochs = None if epochs is None else validate.integer(epochs, "epochs", 0, validate.INT32_MAX)
        self.budget = None if budget is None else validate.positive(budget, "budget")
        if epochs is not None and budget is not None:
            raise ValueError(f"epochs and budget cannot both be given, got {epochs} and {budget}")
        self.n_threads = n_threads
        resolve_threads(n_threads)
        self._arrays: Arrays | None = None
        self.history: list[dict[str, Any]] | None = None
        self.vocabulary = None

    # ---- from text ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Train on a text from the start; return the model.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids in [0, vocab_size).
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; no state is carried over one.
        vocab_size : int, optional
            V; by default that of the vocabulary, or the largest id plus one.
        validation : (ids, documents), optional
            Other text, whose perplexity is taken after every epoch; the best epoch is kept.
        progress : bool, optional
            Whether to show a bar on a terminal.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent.

        Warns
        -----
        RuntimeWarning
            If Ctrl-C ended the training; what was learned by then is kept.

        Examples
        --------
        >>> RecurrentLM(dim=4, epochs=1).fit([0, 1, 2, 0], documents=[0, 2], vocab_size=5).vocab_size
        5
        """
        began = time.perf_counter()
        size = None if vocab_size is None else validate.size(vocab_size, "vocab_size")
        size = ModelVocabulary.size(self.vocabulary, size)
        stream = TokenStream.of(ids, documents, size)
        if stream.ids.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        size = size or int(stream.ids.max()) + 1
        held_out = self._held_out(validation, size)
        workers = Workers(resolve_threads(self.n_threads))
        sizes, dropout = self._plan_sizes(stream, size, workers)
        with one_blas_thread():
            arrays = self._start(stream, size, sizes, workers)
        plan = Plan(self._n_epochs(), began, began + (self.budget or 0.0), dropout, LEARNING_RATE, self.seed)
        self._take(Training(arrays, stream, held_out, plan, workers).run(progress))
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
        learning_rate: float = LEARNING_RATE / 3,
        budget: float | None = None,
    ) -> Self:
        """Train on a text from where the model is; return the trained model, and leave this one as it is.

        Parameters
        ----------
        ids, documents, validation, progress
            As in :meth:`fit`.
        epochs : int
            Passes over the text; without effect if there is a budget.
        seed : int
            Of offsets and dropout.
        learning_rate : float
            The highest; it falls linearly to zero.
        budget : float, optional
            Seconds of wall time.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent, or a number is out of its range.

        Examples
        --------
        >>> model = RecurrentLM(dim=8, epochs=2).fit([0, 1, 2, 3] * 100)
        >>> better = model.refine([0, 1, 2, 3] * 100, epochs=10)
        >>> better.perplexity([0, 1, 2, 3] * 9) < model.perplexity([0, 1, 2, 3] * 9)
        True
        """
        began = time.perf_counter()
        stream = self._stream(ids, documents)
        if stream.ids.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        n_epochs = validate.integer(epochs, "epochs", 0, validate.INT32_MAX)
        seconds = None if budget is None else validate.positive(budget, "budget")
        seed, rate = validate.integer(seed, "seed", 0), validate.positive(learning_rate, "learning_rate")
        held_out = self._held_out(validation, self.vocab_size)
        dropout = settings.dropout_of(n_epochs) if self.dropout is None else self.dropout
        plan = Plan(None if seconds else n_epochs, began, began + (seconds or 0.0), dropout, rate, seed)
        arrays = {name: value.copy() for name, value in self._fitted.items()}
        other = copy.copy(self)
        workers = Workers(resolve_threads(self.n_threads))
        other._take(Training(arrays, stream, held_out, plan, workers).run(progress))
        other.history = [*(self.history or []), *(other.history or [])]
        return other

    # ---- answers -----------------------------------------------------------------------------------------------------

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token given those before it in its document, nats, shape (M,).

        Examples
        --------
        >>> model = RecurrentLM(dim=4, epochs=1).fit([0, 1, 2] * 50)
        >>> model.log_prob([0, 1, 2], documents=[0, 1]).shape
        (3,)
        """
        return scoring.log_prob(self._workers(), self._fitted, self._stream(ids, documents), progress)

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities of all V tokens at some positions of a text in [0, M], nats, shape (N, V).

        Examples
        --------
        >>> model = RecurrentLM(dim=4, epochs=1).fit([0, 1, 2] * 50)
        >>> model.log_probs([0, 1, 2], [1, 3]).shape
        (2, 3)
        """
        stream = self._stream(ids, documents)
        return self._log_prob_rows(stream)(stream.places(positions))

    def _log_prob_rows(self, stream: TokenStream) -> Callable[[Int64], Float64]:
        return scoring.log_prob_rows(self._workers(), self._fitted, stream)

    def distribution(self, context: ArrayLike) -> Float64:
        """Probabilities of the token that follows ``context``, the document so far; shape (V,).

        Examples
        --------
        >>> model = RecurrentLM(dim=4, epochs=1).fit([0, 1, 2] * 50)
        >>> round(float(model.distribution([0, 1]).sum()), 9)
        1.0
        """
        return self._reader(context)[0]()

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        session = scoring.Session(self._fitted, validate.token_ids(context, "context", self.vocab_size))
        return session.distribution, session.push

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return len(self._fitted[TOKENS]) - 1

    @property
    def sizes(self) -> Sizes:
        """Widths and layers of the trained network."""
        dim, gates = self._fitted["layer0.recurrent"].shape
        return Sizes(dim, gates // 4, network.n_layers(self._fitted))

    @property
    def n_parameters(self) -> int:
        """Numbers that the network consists of."""
        return sum(value.size for value in self._fitted.values())

    def summary(self) -> dict[str, Any]:
        """Settings, sizes and history, as ``saffu info`` shows them."""
        last = self.history[-1] if self.history else {}
        return {
            **self._settings(),
            **self.sizes._asdict(),
            "vocab_size": self.vocab_size,
            "n_parameters": self.n_parameters,
            "bytes_parameters": sum(value.nbytes for value in self._fitted.values()),
            "epochs_trained": len(self.history or []),
            "seconds": last.get("seconds", 0.0),
            "training_loss": last.get("training_loss"),
            "validation_loss": last.get("validation_loss"),
        }

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in serialization.SETTINGS} | {"n_threads": self.n_threads}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file; an existing file is replaced only when this is whole. See :func:`saffu.load`."""
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return serialization.to_checkpoint(self)

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        return serialization.from_checkpoint(cls, arrays, metadata)

    # ---- inside ------------------------------------------------------------------------------------------------------

    @property
    def _fitted(self) -> Arrays:
        if self._arrays is None:
            raise ValueError("the model has seen no text yet; call fit first")
        return self._arrays

    def _workers(self) -> Workers:
        return Workers(resolve_threads(self.n_threads))

    def _stream(self, ids: ArrayLike, documents: ArrayLike | None) -> TokenStream:
        return TokenStream.of(ids, documents, self.vocab_size)

    def _held_out(self, validation: tuple[ArrayLike, ArrayLike | None] | None, size: int) -> TokenStream | None:
        """The validation text, checked."""
        if validation is None:
            return None
        stream = TokenStream.of(validation[0], validation[1], size, "validation")
        if stream.ids.size == 0:
            raise ValueError("validation must hold at least one token, got none")
        return stream

    def _n_epochs(self) -> int | None:
        return self.epochs if self.epochs is not None or self.budget is not None else settings.EPOCHS

    def _plan_sizes(self, stream: TokenStream, vocab_size: int, workers: Workers) -> tuple[Sizes, float]:
        """Widths and dropout, from the settings, the text and the time."""
        n_tokens, n_epochs = stream.ids.size, self._n_epochs()
        if n_epochs is None:
            flops = settings.speed(workers) * (self.budget or 0.0)
        else:
            flops = settings.flops_of_epochs(n_tokens, vocab_size, self.dim, self.layers, n_epochs)
        sizes = settings.chosen_sizes(n_tokens, vocab_size, self.dim, self.cells, self.layers, flops)
        if self.dropout is not None:
            return sizes, self.dropout
        epochs = flops / (n_tokens * settings.flops_of_token(vocab_size, sizes)) if n_epochs is None else n_epochs
        return sizes, settings.dropout_of(epochs)

    def _start(self, stream: TokenStream, vocab_size: int, sizes: Sizes, workers: Workers) -> Arrays:
        """The arrays before training."""
        arrays = network.initial(vocab_size, *sizes, np.random.default_rng([self.seed, 1]))
        tokens = arrays[TOKENS]
        tokens[:vocab_size, -1] = explicit_start.log_unigram(stream, vocab_size)
        if self.start == "explicit":
            found = explicit_start.embeddings(stream, vocab_size, sizes.dim, self.seed, workers)
            tokens[:vocab_size, :-1] = found
        return arrays

    def _take(self, trained: training.Trained) -> None:
        """Be what was trained."""
        self._arrays, self.history, self.interrupted = trained
        if self.interrupted:
            message = f"interrupted in epoch {len(self.history) + 1}: what was learned so far is kept"
            warnings.warn(message, RuntimeWarning, stacklevel=3)

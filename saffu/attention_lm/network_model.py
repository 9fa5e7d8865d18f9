"""A network of units as a language model: its settings and its solution, and the answers that it gives."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu.attention_lm import backprop, loss, scoring, serialization, units
from saffu.attention_lm.contexts import SEGMENT, parse_contexts
from saffu.attention_lm.decoding import Session
from saffu.attention_lm.em_attention import ATTENTIONS
from saffu.attention_lm.loss import Embeddings
from saffu.attention_lm.residual import training_text
from saffu.attention_lm.segments import SegmentBatch, SegmentedText
from saffu.attention_lm.settings import DEFAULTS, Settings
from saffu.attention_lm.sufficient_statistics import Solution
from saffu.attention_lm.units import EMBEDDINGS, Network, Parameters, Sizes
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import ModelVocabulary
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.fingerprints import Multiset
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream
from saffu.utils.threads import resolve_threads


class NetworkModel(LanguageModel):
    """What is known of a network of units once it is solved; :class:`saffu.SaffuLM` adds how it comes from text.

    Parameters
    ----------
    bits, contexts, block, radius, heads, layers, hidden, residual, words, span, attention, min_count, seed, n_threads
        As for :class:`saffu.SaffuLM`.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range or of the wrong type.
    """

    vocabulary = ModelVocabulary()
    interrupted = False  # whether Ctrl-C ended the refinement that this model comes from

    def __init__(
        self,
        *,
        bits: int = DEFAULTS.bits,
        contexts: Sequence[str] = DEFAULTS.contexts,
        block: int = DEFAULTS.block,
        radius: int = DEFAULTS.radius,
        heads: int = DEFAULTS.heads,
        layers: int = DEFAULTS.layers,
        hidden: int = DEFAULTS.hidden,
        residual: ExplicitLM | None = None,
        words: int = DEFAULTS.words,
        span: int = DEFAULTS.span,
        attention: str = DEFAULTS.attention,
        min_count: int = DEFAULTS.min_count,
        seed: int = DEFAULTS.seed,
        n_threads: int | None = None,
    ) -> None:
        self.bits = validate.size(bits, "bits")
        self.contexts = parse_contexts(contexts)
        self.block = validate.size(block, "block")
        self.radius = validate.size(radius, "radius")
        self.heads = validate.size(heads, "heads")
        self.layers = validate.size(layers, "layers")
        self.hidden = validate.size(hidden, "hidden")
        self.words = validate.integer(words, "words", 1, validate.INT32_MAX)
        self.span = validate.integer(span, "span", SEGMENT, validate.LARGEST["window"])
        self.attention = validate.choice(attention, "attention", ATTENTIONS)
        self.min_count = validate.integer(min_count, "min_count", 0, validate.INT32_MAX)
        self.seed = validate.integer(seed, "seed", 0)
        self.n_threads = n_threads
        resolve_threads(n_threads)
        if residual is not None and not isinstance(residual, ExplicitLM):
            raise TypeError(f"residual must be an ExplicitLM or None, got {type(residual).__name__}")
        if self.layers > 1 and self.contexts == ("document",):
            raise ValueError("layers above the first see blocks or the last tokens: add one of them to contexts")
        self.residual = residual
        self._network = Network.of(self._sizes(), self.span)
        self._solution: Solution | None = None
        self._documents: Multiset | None = Multiset()  # fingerprints of all learned; None if an older file lacks them
        self._frozen: Embeddings | None = None  # while a refinement leaves the embeddings as they are
        self.history: list[dict[str, Any]] | None = None
        self.growth: list[dict[str, Any]] = []
        self.attention_losses: list[float] = []
        self.seconds = {"solve": 0.0, "residual": 0.0}
        self.vocabulary = None

    # ---- answers -----------------------------------------------------------------------------------------------------

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token given those before it in its document, in nats, shape (M,).

        Examples
        --------
        >>> from saffu import SaffuLM
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> model.log_prob([0, 1, 2]).shape
        (3,)
        """
        return scoring.log_prob(self, self._stream(ids, documents), np.float32, progress)

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities of all V tokens at some positions of a text, in nats, shape (N, V).

        Parameters
        ----------
        ids, documents
            The text.
        positions : array_like of int, shape (N,)
            In [0, M]; that of M is the token that would follow the text.

        Examples
        --------
        >>> from saffu import SaffuLM
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> model.log_probs([0, 1, 2], [1, 3]).argmax(axis=1).tolist()
        [1, 0]
        """
        stream = self._stream(ids, documents)
        return scoring.log_probs(self, stream, scoring.checked_positions(positions, stream.ids.size))

    def distribution(self, context: ArrayLike) -> Float64:
        """Probabilities of the token that follows ``context``, the document so far; shape (V,).

        Examples
        --------
        >>> from saffu import SaffuLM
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> round(float(model.distribution([0, 1]).sum()), 6)
        1.0
        """
        return self.session(validate.token_ids(context, "context", self.vocab_size)).distribution()

    def session(self, context: ArrayLike = ()) -> Session:
        """A document to be read token by token, its hidden states kept; it begins with ``context``.

        It stays with the parameters of this moment, whatever becomes of the model.

        Examples
        --------
        >>> from saffu import SaffuLM
        >>> session = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50).session([0, 1])
        >>> int(session.push(2).distribution().argmax())
        0
        """
        solution = self._fitted
        X = units.embeddings(solution.parameters, resolve_threads(self.n_threads))
        return Session(self._network, solution.parameters, X, self.residual, solution.output_classes).extend(context)

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        session = self.session(context)
        return session.distribution, session.push

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return len(self._fitted.parameters[EMBEDDINGS])

    @property
    def n_parameters(self) -> int:
        """Numbers that the network consists of, the residual left out."""
        return sum(value.size for value in self._fitted.parameters.values())

    @property
    def scalars(self) -> list[float]:
        """Of the unigram, or 1 on a residual, and of the output of each unit; none before there is a solution."""
        numbers: list[float] = [] if self._solution is None else self._solution.scalars.tolist()
        return numbers

    def summary(self) -> dict[str, Any]:
        """Settings, sizes and bytes; those of the residual under ``"residual"``.

        Examples
        --------
        >>> from saffu import SaffuLM
        >>> SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50).summary()["units"]
        ['radial1', 'document1']
        """
        facts = {
            **serialization.settings_of(self),
            "vocab_size": self.vocab_size,
            "units": [unit.name for unit in self._network.units],
            "n_parameters": self.n_parameters,
            "bytes_parameters": sum(value.nbytes for value in self._fitted.parameters.values()),
            "growth": self.growth,
            "epochs_refined": self.history[-1]["epoch"] if self.history else 0,
        }
        return facts if self.residual is None else facts | {"residual": self.residual.summary()}

    def _settings(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in Settings._fields}
        return settings | {"residual": self.residual, "n_threads": self.n_threads}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, with its residual and its vocabulary; see :func:`saffu.load`.

        An existing file is replaced only when this is whole.

        Examples
        --------
        >>> from saffu import SaffuLM
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).fit([0, 1, 2] * 50)
        >>> import saffu, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.saffu")
        ...     saffu.load(f"{folder}/model.saffu").vocab_size
        3
        """
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return serialization.to_checkpoint(self)

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        return serialization.from_checkpoint(cls, arrays, metadata)

    # ---- for the other files of the package --------------------------------------------------------------------------

    @property
    def _fitted(self) -> Solution:
        if self._solution is None:
            raise ValueError("the model has seen no text yet; call fit first")
        return self._solution

    def _sizes(self) -> Sizes:
        sizes = {context: {"block": self.block, "radial": self.radius}.get(context, 0) for context in self.contexts}
        return Sizes(sizes, self.heads, self.layers, self.hidden)

    def _checked_size(self, vocab_size: int | None) -> int | None:
        """V as it is given, or as the residual or the vocabulary have it; None if nothing determines it."""
        if vocab_size is not None:
            vocab_size = validate.size(vocab_size, "vocab_size")
        if self.residual is not None and self.residual.n_tokens:
            if vocab_size not in (None, self.residual.vocab_size):
                raise ValueError(f"vocab_size must be {self.residual.vocab_size}, as of the residual, got {vocab_size}")
            vocab_size = self.residual.vocab_size
        return ModelVocabulary.size(self.vocabulary, vocab_size)

    def _stream(self, ids: ArrayLike, documents: ArrayLike | None) -> TokenStream:
        return TokenStream.of(ids, documents, self._checked_size(self.vocab_size))

    def _copy(self, **changed: Any) -> Self:
        """A model with the same solution, which is never changed in place, and other settings."""
        other = copy.copy(self)
        vars(other).update(changed)
        vars(other).pop("interrupted", None)  # that of another refinement
        other.growth = [dict(record) for record in self.growth]
        other.attention_losses, other.seconds = list(self.attention_losses), dict(self.seconds)
        return other

    # ---- what the refiner asks of a model ----------------------------------------------------------------------------

    def _parameters(self, soften: float, dtype: DTypeLike) -> Parameters:
        return backprop.parameters(self, soften, dtype)

    def _prepare(self, X: Any, y: Any, n_threads: int) -> SegmentedText:
        return training_text(self, self._stream(X, y), n_threads)

    def _loss_and_gradients(
        self, parameters: Parameters, batch: SegmentBatch, gradients: Parameters, n_threads: int
    ) -> float:
        embeddings = backprop.embeddings(self, parameters, n_threads)
        return loss.loss_and_gradients(self._network, parameters, batch, embeddings, gradients)

    def _losses(self, parameters: Parameters, batch: SegmentBatch, n_threads: int) -> Float64:
        return loss.losses(self._network, parameters, batch, backprop.embeddings(self, parameters, n_threads))

    def _with_parameters(self, parameters: Parameters, history: list[dict[str, Any]]) -> Self:
        return backprop.with_parameters(self, parameters, history)

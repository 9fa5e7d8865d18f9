"""What saffu's language models have in common: one set of verbs with one set of arguments.

Only the first argument of a verb is positional, but for the positions of ``log_probs``, the number of ``top`` and the
length of ``generate``. A verb that a model cannot do raises NotImplementedError and says what to do instead.
``refine`` and ``grow`` of a model may take more keywords, all with defaults.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.utils import validate
from saffu.utils.arrays import Float64, Int32, Int64
from saffu.utils.sampling import Drawing, likeliest
from saffu.utils.streams import TokenStream


class LanguageModel(ABC):
    """A distribution over the next token of a document, given those before it.

    Everywhere, ``ids`` are token ids in ``[0, vocab_size)``, shape (M,); ``documents`` are the offsets in them at which
    documents start, by default one at 0; ``progress`` is whether to show a bar on a terminal, by default for work that
    takes longer than half a second. Logarithms are natural.
    """

    n_threads: int | None

    # ---- from text ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Solve or train the model on a text, from the start; return the model."""

    def partial_fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Go on with the next stretch of a text that comes piece by piece; return the model."""
        self._cannot("partial_fit", "fit it on the whole text")

    def update(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Learn whole new documents in time proportional to them; return the model."""
        self._cannot("update", "refine it on the new text")

    def subtract(self, ids: ArrayLike, *, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Forget documents that the model has learned; return the model."""
        self._cannot("subtract", "fit it on what is to stay")

    def merge(self, other: Self) -> Self:
        """Add what another model of the same settings has learned; return the model."""
        self._cannot("merge", "fit one model on all of the text")

    def prime(self, *, progress: bool | None = None) -> Self:
        """Fit the scalar weights of the contexts anew, by a convex fit on text that is kept; return the model."""
        self._cannot("prime", "it has no scalar weights of contexts")

    def refine(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        epochs: int = 1,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        seed: int = 0,
        progress: bool | None = None,
    ) -> Self:
        """Improve the model by backpropagation; return the refined model, and leave this one as it is."""
        self._cannot("refine", "put a SaffuLM on it, with this model as its residual, and refine that")

    def grow(
        self,
        ids: ArrayLike | None = None,
        *,
        documents: ArrayLike | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Enlarge the model; return the larger one, and leave this one as it is.

        Without text it has the same function; given text, new parts are solved on it where that lowers the loss.
        """
        self._cannot("grow", "fit a larger one")

    # ---- answers -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """Log-probability of every token given those before it in its document, shape (M,)."""

    @abstractmethod
    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Log-probabilities of all V tokens at some positions of a text, shape (N, V).

        Parameters
        ----------
        ids, documents
            The text.
        positions : array_like of int, shape (N,)
            In [0, M]; that of M is the token that would follow the text.
        """

    def perplexity(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> float:
        """Exponential of the mean negative log-probability of the tokens of a text."""
        log_prob = self.log_prob(ids, documents=documents, progress=progress)
        if log_prob.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        with np.errstate(over="ignore"):
            return float(np.exp(-log_prob.mean()))

    @abstractmethod
    def distribution(self, context: ArrayLike) -> Float64:
        """Probabilities of the token that follows ``context``, the document so far; shape (V,)."""

    def top(self, context: ArrayLike, k: int = 10) -> tuple[Int32, Float64]:
        """The k tokens that most likely follow ``context``, the document so far.

        Parameters
        ----------
        context : array_like of int
            What precedes, from the start of its document; empty at its start.
        k : int
            How many; all V if there are not so many.

        Returns
        -------
        ids : ndarray of int32, shape (k,)
            Likeliest first, of equally likely ones the smaller id first; ``model.vocabulary.decode(ids)`` names them.
        probabilities : ndarray of float64, shape (k,)

        Raises
        ------
        ValueError, TypeError
            If the context is out of range or not integers, or k is not a positive integer.

        Examples
        --------
        >>> import saffu
        >>> model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit([0, 1, 2, 1] * 50)
        >>> ids, probabilities = model.top([0, 1], 2)
        >>> ids.tolist(), bool(probabilities[0] > probabilities[1])
        ([2, 0], True)
        """
        k = validate.integer(k, "k", 1)
        p = self.distribution(context)
        ids = likeliest(p, k)
        return ids.astype(np.int32), p[ids]

    def generate(
        self,
        prompt: ArrayLike = (),
        n_tokens: int = 100,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
        exclude: ArrayLike = (),
    ) -> Iterator[int]:
        """Draw tokens one after the other; the same seed draws the same tokens.

        Parameters
        ----------
        prompt : array_like of int
            What precedes the first token drawn, from the start of its document.
        n_tokens : int
            How many to draw.
        temperature : float
            Probabilities are raised to 1 / temperature; 0 always takes the likeliest token.
        top_k : int, optional
            Draw among the k likeliest only.
        seed : int, optional
            By default another one each time.
        exclude : array_like of int
            Tokens never to draw, such as that for unknown words.

        Yields
        ------
        int
            A token id.
        """
        drawing = Drawing(self.vocab_size, n_tokens, temperature, top_k, seed, exclude)
        distribution, append = self._reader(validate.token_ids(prompt, "prompt", self.vocab_size))
        return drawing.tokens(distribution, append)

    @abstractmethod
    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        """The distribution after a document that grows: a function that gives it, and one that appends a token."""

    def _log_prob_rows(self, stream: TokenStream) -> Callable[[Int64], Float64]:
        """What :meth:`log_probs` gives for positions of a text, to be asked many times."""
        return lambda positions: self.log_probs(stream.ids, positions, documents=stream.starts)

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V, the number of token types."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The arguments of the constructor."""

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, which :func:`saffu.load` reads; nothing in it is ever executed."""

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _cannot(self, verb: str, instead: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} cannot {verb}: {instead}")

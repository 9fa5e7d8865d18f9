"""How an architecture becomes a model: what a roadmap asks of a solver, and the solver of SaffuLM."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from numpy.typing import ArrayLike

from saffu.attention_lm import SaffuLM, SharedCounts, fit_shared
from saffu.ngram_lm.model import ExplicitLM
from saffu.search.architectures import Architecture
from saffu.search.text_split import Split
from saffu.utils.threads import resolve_threads

MEMORY_BUDGET = 1 << 26  # logits held in solving: a quarter of what a model by itself takes


class Model(Protocol):
    """What a solved model must be able to do."""

    @property
    def n_parameters(self) -> int:
        """How many numbers the model consists of."""

    def perplexity(self, ids: ArrayLike, *, documents: ArrayLike | None = None) -> float:
        """Perplexity per token."""

    def refine(self, ids: ArrayLike, *, documents: ArrayLike | None = None, epochs: int = 1) -> Any:
        """Train on by gradient steps, in place or as a new model that is returned."""

    def save(self, path: str) -> None:
        """Write the model to one file."""


class Solver(Protocol):
    """What makes models of architectures."""

    def prepare(self, split: Split) -> Any:
        """What all architectures have in common; made once, and only if there is something to solve."""

    def solve(self, architecture: Architecture, split: Split, shared: Any) -> Model:
        """A model solved on the training text of a split, with what :meth:`prepare` made."""


class Shared(NamedTuple):
    """What all architectures of SaffuLM have in common: counts of the text, and the residual base."""

    counts: SharedCounts
    explicit_lm: ExplicitLM


class SaffuSolver:
    """Solves architectures of :class:`saffu.SaffuLM`.

    Parameters
    ----------
    n_threads : int, optional
        By default every available CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from saffu.utils.streams import TokenStream
    >>> text = TokenStream.of(np.arange(300) % 3)
    >>> split, solver = Split(text, text.slice(0, 30), vocab_size=3), SaffuSolver()
    >>> model = solver.solve(Architecture(bits=3, hidden=4), split, solver.prepare(split))
    >>> model.perplexity(split.held_out.ids) < split.unigram_perplexity
    True
    """

    def __init__(self, n_threads: int | None = None) -> None:
        resolve_threads(n_threads)
        self.n_threads = n_threads

    def prepare(self, split: Split) -> Shared:
        """Counts and the residual base."""
        text, threads = split.train, resolve_threads(self.n_threads)
        counts = SharedCounts(text, split.vocab_size, threads, MEMORY_BUDGET)
        explicit_lm = ExplicitLM(n_threads=self.n_threads)
        return Shared(counts, explicit_lm.fit(text.ids, vocab_size=split.vocab_size, documents=text.starts))

    def solve(self, architecture: Architecture, split: Split, shared: Shared) -> SaffuLM:
        """Solve one architecture."""
        settings = {name: value for name, value in architecture.to_dict().items() if value is not None}
        settings["residual"] = shared.explicit_lm if architecture.residual else None
        if architecture.residual and split.vocabulary is not None:
            settings["min_count"] = split.vocabulary.min_count
        model = SaffuLM(**settings, n_threads=self.n_threads)
        fit_shared(model, shared.counts, progress=False)
        model.vocabulary = split.vocabulary
        return model

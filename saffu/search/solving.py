"""How an architecture becomes a model: what a roadmap asks of a solver, and the solver of SaffuLM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from numpy.typing import ArrayLike

from saffu.attention_lm.model import SaffuLM
from saffu.attention_lm.solver import SharedCounts
from saffu.ngram_lm.model import ExplicitLM
from saffu.search.architectures import Architecture
from saffu.search.text_split import Split
from saffu.utils.threads import resolve_threads

ROOM = 1 << 26  # logits held in solving: a quarter of what a model by itself takes


class Model(Protocol):
    """What a solved model must be able to do."""

    @property
    def n_parameters(self) -> int:
        """How many numbers the model consists of."""

    def perplexity(self, ids: ArrayLike, documents: ArrayLike | None = None) -> float:
        """Perplexity per token."""

    def refine(self, ids: ArrayLike, *, epochs: int, documents: ArrayLike | None = None) -> Any:
        """Train on by gradient steps, in place or as a new model that is returned."""

    def save(self, path: str) -> None:
        """Write the model to one file."""


class Shared(NamedTuple):
    """What all architectures have in common: counts of the text, and the model that residual ones stand on."""

    counts: SharedCounts
    explicit_lm: ExplicitLM


def shared_counts(split: Split, n_threads: int | None = None) -> Shared:
    """What all architectures have in common, computed once."""
    counts = SharedCounts(split.ids, split.documents, split.vocab_size, resolve_threads(n_threads), ROOM)
    explicit_lm = ExplicitLM(n_threads=n_threads).fit(split.ids, split.vocab_size, split.documents)
    return Shared(counts, explicit_lm)


def solve_saffu(architecture: Architecture, split: Split, shared: Shared, n_threads: int | None = None) -> SaffuLM:
    """Solve one architecture of :class:`saffu.SaffuLM`."""
    settings = {name: value for name, value in architecture.to_dict().items() if value is not None}
    settings["residual"] = shared.explicit_lm if architecture.residual else None
    if architecture.residual and split.vocabulary is not None:
        settings["min_count"] = split.vocabulary.min_count
    model = SaffuLM(**settings, n_threads=n_threads)
    model.solve(split.ids, split.vocab_size, split.documents, shared=shared.counts)
    model.vocabulary = split.vocabulary
    return model


Solve = Callable[[Architecture, Split, Any], Model]

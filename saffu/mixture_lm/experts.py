"""What an expert of a mixture is: a language model of ours, or any object with ``log_prob`` and ``distribution``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike

from saffu.text import Vocabulary
from saffu.utils import validate
from saffu.utils.arrays import Array, Float64
from saffu.utils.language_model import LanguageModel
from saffu.utils.streams import TokenStream

NEEDED = ("log_prob", "distribution")


def as_experts(values: Any) -> tuple[LanguageModel, ...]:
    """Experts as language models, checked.

    Raises
    ------
    ValueError, TypeError
        If there are none, one is no language model, or two have vocabularies of different sizes.
    """
    try:
        given = list(values)
    except TypeError:
        raise TypeError(f"experts must be a sequence of language models, got {type(values).__name__}") from None
    if not given:
        raise ValueError("experts must hold at least one language model, got none")
    experts = tuple(_as_expert(value, place) for place, value in enumerate(given))
    check_sizes(experts)
    return experts


def _as_expert(value: Any, place: int) -> LanguageModel:
    if isinstance(value, LanguageModel):
        return value
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in NEEDED):
        raise TypeError(
            f"experts must be language models, or objects with log_prob and distribution, got {type(value).__name__} "
            f"at place {place}"
        )
    return OtherExpert(value)


def size_of(expert: LanguageModel) -> int | None:
    """V; None as long as the model has seen no text."""
    try:
        return expert.vocab_size
    except ValueError:
        return None


def check_sizes(experts: Sequence[LanguageModel]) -> int | None:
    """V of all of them, None if it is not known; ValueError if they differ."""
    sizes = [size_of(expert) for expert in experts]
    known = sorted({size for size in sizes if size is not None})
    if len(known) > 1:
        raise ValueError(f"experts must have one vocabulary, got sizes {', '.join(map(str, sizes))}")
    return known[0] if known else None


def distinct(experts: Sequence[LanguageModel]) -> list[LanguageModel]:
    """Each object once, those that are the residual base of another first."""
    found = list({id(expert): expert for expert in experts}.values())
    return sorted(found, key=lambda expert: getattr(expert, "residual", None) is not None)


def learners(experts: Sequence[LanguageModel]) -> list[LanguageModel]:
    """Those of them that learn a text by themselves: a residual base learns it with the model on it."""
    residuals = {id(getattr(expert, "residual", None)) for expert in experts}
    return [expert for expert in distinct(experts) if id(expert) not in residuals]


def each_that_can(experts: Sequence[LanguageModel], do: Callable[[LanguageModel], object]) -> int:
    """Do something with each expert that does not refuse it by NotImplementedError; how many did it."""
    n_done = 0
    for expert in experts:
        try:
            do(expert)
        except NotImplementedError:
            continue
        n_done += 1
    return n_done


def set_threads(experts: Sequence[LanguageModel], n_threads: int | None) -> None:
    """Let experts, and residual bases in them, use so many threads."""
    for expert in experts:
        for part in (expert, getattr(expert, "residual", None)):
            if part is not None:
                part.n_threads = n_threads


def vocabulary_of(experts: Sequence[LanguageModel]) -> Vocabulary | None:
    """The vocabulary of those experts that have one; ValueError if two have different ones."""
    all_of_them = [getattr(expert, "vocabulary", None) for expert in experts]
    found: list[Vocabulary] = [vocabulary for vocabulary in all_of_them if vocabulary is not None]
    if any(vocabulary != found[0] for vocabulary in found):
        raise ValueError("experts must have equal vocabularies; train them with one")
    return found[0] if found else None


def log_prob_of_each(experts: Sequence[LanguageModel], stream: TokenStream, progress: bool | None) -> Float64:
    """Log-probability of every token of a text under each expert, nats, shape (E, M)."""
    ids, starts = stream
    return np.stack([expert.log_prob(ids, documents=starts, progress=progress) for expert in experts])


def check_mergeable(experts: Sequence[LanguageModel], others: Sequence[LanguageModel]) -> None:
    """Refuse to merge experts one by one before any is merged.

    Raises
    ------
    ValueError
        If two differ in kind, settings or vocabulary, or one is merged with itself or has forgotten its counts.
    NotImplementedError
        If an expert cannot be merged.
    """
    for expert, other in zip(experts, others, strict=True):
        if type(expert).merge is LanguageModel.merge:
            expert.merge(other)  # which says what to do instead
        if type(expert) is not type(other) or expert._settings() != other._settings():
            raise ValueError(f"experts to merge must have equal settings, got {expert} and {other}")
        if getattr(expert, "pruning", None) is not None or getattr(other, "pruning", None) is not None:
            raise ValueError("experts to merge must not be pruned: their counts are not whole")
    check_sizes([*experts, *others])
    vocabulary_of([*experts, *others])
    if len({id(expert) for expert in [*experts, *others]}) < 2 * len(experts):
        raise ValueError("experts to merge must be different objects")


class OtherExpert(LanguageModel):
    """An object of another kind as an expert: it answers, and learns nothing.

    Parameters
    ----------
    model : object
        ``log_prob(ids, documents=starts)`` is the log-probability of every token in nats, shape (M,), and
        ``distribution(context)`` the probabilities of what follows a document so far, shape (V,); ``vocab_size``, if
        it has that, is V.

    Examples
    --------
    >>> class Uniform:
    ...     vocab_size = 4
    ...
    ...     def log_prob(self, ids, *, documents=None):
    ...         return np.full(len(ids), -np.log(4))
    ...
    ...     def distribution(self, context):
    ...         return np.full(4, 0.25)
    >>> OtherExpert(Uniform()).perplexity([0, 1, 2])
    4.0
    """

    n_threads: int | None = None

    def __init__(self, model: Any) -> None:
        self.model = model
        size = getattr(model, "vocab_size", None)
        self._size = validate.size(
            np.asarray(model.distribution(np.empty(0, np.int32))).size if size is None else size, "vocab_size"
        )

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return self._size

    def fit(
        self,
        ids: ArrayLike,
        *,
        documents: ArrayLike | None = None,
        vocab_size: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Raise NotImplementedError: nothing is known of how the object learns."""
        self._cannot("fit", "train the object itself")

    def log_prob(self, ids: ArrayLike, *, documents: ArrayLike | None = None, progress: bool | None = None) -> Float64:
        """What the object answers, checked; shape (M,)."""
        stream = TokenStream.of(ids, documents, self._size)
        return self._checked(self.model.log_prob(stream.ids, documents=stream.starts), "log_prob", stream.ids.size)

    def log_probs(self, ids: ArrayLike, positions: ArrayLike, *, documents: ArrayLike | None = None) -> Float64:
        """Logarithms of the distributions that the object gives at some positions of a text, shape (N, V)."""
        stream = TokenStream.of(ids, documents, self._size)
        places = stream.places(positions)
        found = np.empty((places.size, self._size))
        for row, begin, place in zip(found, stream.begins(places), places, strict=True):
            with np.errstate(divide="ignore"):
                np.log(self.distribution(stream.ids[begin:place]), out=row)
        return found

    def distribution(self, context: ArrayLike) -> Float64:
        """What the object answers, checked; shape (V,)."""
        seen = validate.token_ids(context, "context", self._size)
        return self._checked(self.model.distribution(seen), "distribution", self._size)

    def _checked(self, answer: Any, verb: str, size: int) -> Float64:
        found: Array = np.asarray(answer)
        if found.shape != (size,) or found.dtype.kind != "f" or np.isnan(found).any():
            name = type(self.model).__name__
            raise ValueError(f"{verb} of {name} must give {size} numbers, got {found.dtype} {found.shape}")
        return found.astype(np.float64)

    def _reader(self, context: ArrayLike) -> tuple[Callable[[], Float64], Callable[[int], object]]:
        read = np.asarray(context, np.int32).tolist()
        return lambda: self.distribution(np.array(read, np.int32)), read.append

    def _settings(self) -> dict[str, Any]:
        return {"model": self.model}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Raise TypeError: only models of saffu can be saved."""
        self._to_checkpoint()

    def _to_checkpoint(self) -> NoReturn:
        raise TypeError(f"an expert of type {type(self.model).__name__} cannot be saved: it is no model of saffu")

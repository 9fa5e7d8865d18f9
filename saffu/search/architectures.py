"""Which architectures of a self-attentive language model to try: lists of choices, and balanced samples of them.

An architecture is canonical: a choice that changes nothing, such as the width of a block where no block context is
used, is None, so that no model is solved twice under two names.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from saffu.attention_lm import CONTEXTS, DEFAULTS, parse_contexts
from saffu.utils import validate
from saffu.utils.arrays import Int64

ATTENTIVE = ("block", "radial")  # contexts whose positions are weighed by attention heads; a document is a plain sum
DEFAULT_SIZE = 252  # a multiple of the number of choices of every hyper-parameter, so that each occurs equally often
MOST = 100_000  # architectures that one file may describe
_MAIN_WEIGHT = 10_000  # how much a hyper-parameter's own balance outweighs that of the pairs


@dataclass(frozen=True)
class Architecture:
    """The hyper-parameters of one model; those that have no effect on it are None.

    Parameters
    ----------
    bits : int
        Length of the codes.
    contexts : tuple of {"block", "radial", "document"}
        In this order, each at most once, at least one.
    block, radius : int, optional
        Tokens in the block and in the radial context; None where that context is absent.
    heads : int, optional
        Attention heads; None where no context is weighed by attention.
    layers : int, optional
        A layer above the first looks at places of a block or of the last tokens; None where there are none.
    hidden : int
        Units in the hidden state of each context.
    residual : bool
        Whether an explicit language model is the model's residual base.

    Raises
    ------
    ValueError, TypeError
        If a choice is of the wrong type or out of range.

    Examples
    --------
    >>> architecture = Architecture(bits=32, contexts="document", radius=9)
    >>> str(architecture), architecture.radius
    ('32 bits, document, 64 hidden', None)
    >>> architecture == Architecture.from_dict(architecture.to_dict())
    True
    """

    bits: int = DEFAULTS.bits
    contexts: tuple[str, ...] = DEFAULTS.contexts
    block: int | None = DEFAULTS.block
    radius: int | None = DEFAULTS.radius
    heads: int | None = DEFAULTS.heads
    layers: int | None = DEFAULTS.layers
    hidden: int = DEFAULTS.hidden
    residual: bool = False

    def __post_init__(self) -> None:
        contexts = parse_contexts(self.contexts)
        used = {"block": "block" in contexts, "radius": "radial" in contexts}
        used["heads"] = used["layers"] = any(context in ATTENTIVE for context in contexts)
        values: dict[str, Any] = {"contexts": contexts}
        for name in INTEGERS:
            value = getattr(self, name)
            if value is None and name in used:
                value = getattr(DEFAULTS, name)
            values[name] = validate.size(value, name) if used.get(name, True) else None
        if not isinstance(self.residual, bool):
            raise TypeError(f"residual must be true or false, got {self.residual!r}")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, choices: Mapping[str, Any]) -> Architecture:
        """Make an architecture of some hyper-parameters by name; the others have their defaults."""
        _check_names(choices)
        return cls(**choices)

    def to_dict(self) -> dict[str, Any]:
        """Every hyper-parameter by name, as JSON can hold it."""
        return asdict(self) | {"contexts": list(self.contexts)}

    @property
    def key(self) -> str:
        """The same text for the same model, always."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        widths = {"block": f"block {self.block}", "radial": f"radial {self.radius}", "document": "document"}
        parts = [f"{self.bits} bits", " + ".join(widths[context] for context in self.contexts)]
        if self.heads is not None:
            parts.append(_plural(self.heads, "head"))
        if self.layers is not None:
            parts.append(_plural(self.layers, "layer"))
        return ", ".join([*parts, f"{self.hidden} hidden"] + ["residual"] * self.residual)


INTEGERS = ("bits", "block", "radius", "heads", "layers", "hidden")
NAMES = tuple(field.name for field in fields(Architecture))
_SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(CONTEXTS, size)]
DEFAULT_CHOICES: Mapping[str, Sequence[Any]] = {
    "bits": (16, 32, 64, 128),
    "contexts": _SUBSETS,
    "block": (2, 4, 8, 16),
    "radius": (2, 4, 8, 16),
    "heads": (1, 2, 3),
    "layers": (1, 2),
    "hidden": (16, 32, 64, 128),
    "residual": (False, True),
}


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _check_names(choices: Mapping[str, Any]) -> None:
    for name in choices:
        if name not in NAMES:
            raise ValueError(f"unknown hyper-parameter {name!r}; known are {', '.join(NAMES)}")


# ---- grids -----------------------------------------------------------------------------------------------------------


def default_grid(size: int = DEFAULT_SIZE) -> list[Architecture]:
    """A balanced sample of the product of :data:`DEFAULT_CHOICES`, always the same."""
    return balanced_sample(product(DEFAULT_CHOICES), size)


def product(choices: Mapping[str, Sequence[Any]]) -> list[Architecture]:
    """Every combination of choices, each model once.

    Parameters
    ----------
    choices : mapping of str to sequence
        For each hyper-parameter its values; those not named have their defaults.

    Returns
    -------
    list of Architecture
        In the order of :func:`itertools.product`.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, a list is empty or no list, a value is not allowed, or there are over 100,000.

    Examples
    --------
    >>> for architecture in product({"bits": [16, 32], "contexts": ["document"], "radius": [2, 4]}):
    ...     print(architecture)
    16 bits, document, 64 hidden
    32 bits, document, 64 hidden
    """
    _check_names(choices)
    for name, values in choices.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise TypeError(f"{name} must be a list of at least one value, got {values!r}")
    size = math.prod(map(len, choices.values()))
    if size > MOST:
        raise ValueError(f"the lists have {size:,} combinations, and at most {MOST:,} are allowed; shorten some")
    for name, values in choices.items():  # each value alone first, so that an unused one is checked as well
        for value in values:
            Architecture(**({"contexts": CONTEXTS} | {name: value}))
    combinations = itertools.product(*choices.values())
    return distinct(Architecture(**dict(zip(choices, combination, strict=True))) for combination in combinations)


def distinct(architectures: Iterable[Architecture]) -> list[Architecture]:
    """Each architecture once, where it stands first."""
    return list(dict.fromkeys(architectures))


def read_grid(path: str | os.PathLike[str]) -> list[Architecture]:
    """Read architectures from a JSON file.

    Parameters
    ----------
    path : str or path
        Either an object with a list of values for each hyper-parameter, of which every combination is meant, or a
        list of objects, each one architecture. What is not named has its default. Contexts are lists of names or
        joined with ``+``.

    Returns
    -------
    list of Architecture
        Each model once.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not JSON or describes no architectures; the message names the file and the place.
    """
    name = repr(os.fspath(path))
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:  # of JSON or of UTF-8
            raise ValueError(f"{name} is not JSON: {error}") from None
    try:
        if isinstance(content, dict):
            return product(content)
        if isinstance(content, list) and content:
            return distinct(_numbered(content))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None
    raise ValueError(f"{name} must hold an object of lists or a list of architectures, got {_excerpt(content)}")


def _numbered(items: Sequence[Any]) -> Iterable[Architecture]:
    for number, item in enumerate(items, 1):
        try:
            if not isinstance(item, dict):
                raise TypeError(f"an architecture must be an object, got {_excerpt(item)}")
            yield Architecture.from_dict(item)
        except (ValueError, TypeError) as error:
            raise ValueError(f"architecture {number}: {error}") from None


def _excerpt(content: Any) -> str:
    text = json.dumps(content)
    return text if len(text) <= 40 else text[:37] + "..."


# ---- samples ---------------------------------------------------------------------------------------------------------


def levels(architectures: Sequence[Architecture], name: str) -> list[Any]:
    """The values of a hyper-parameter among architectures, in ascending order, None left out."""
    values = {getattr(architecture, name) for architecture in architectures} - {None}
    return sorted(values, key=lambda value: (len(value), value) if name == "contexts" else value)


def codes(architectures: Sequence[Architecture], name: str) -> Int64:
    """For each architecture the place of its value among :func:`levels`, or -1 where it has none."""
    places: dict[Any, int] = {value: place for place, value in enumerate(levels(architectures, name))}
    return np.array([places.get(getattr(item, name), -1) for item in architectures], np.int64)


def balanced_sample(architectures: Sequence[Architecture], size: int, seed: int = 0) -> list[Architecture]:
    """Choose architectures such that every value of every hyper-parameter occurs about equally often.

    One at a time is added whose values, and next whose pairs of values, are rarest so far. So each beginning of the
    sample is balanced as well, and work that is broken off early has covered all choices.

    Parameters
    ----------
    architectures : sequence of Architecture
        Distinct.
    size : int
        How many to choose; all of them, in balanced order, where there are no more.
    seed : int
        Decides between equals.

    Returns
    -------
    list of Architecture, length min(size, len(architectures))

    Examples
    --------
    >>> sample = balanced_sample(product({"bits": [16, 32], "layers": [1, 2]}), 2)
    >>> sorted(architecture.bits for architecture in sample), sorted(architecture.layers for architecture in sample)
    ([16, 32], [1, 2])
    """
    size = min(validate.integer(size, "size", 1, validate.INT32_MAX), len(architectures))
    singles = [_Tally(codes(architectures, name), _MAIN_WEIGHT) for name in NAMES]
    tallies = singles + [one.paired(other) for one, other in itertools.combinations(singles, 2)]
    tallies = [tally for tally in tallies if tally.counts.size > 1]  # a single value is always in balance
    tie = np.random.default_rng(seed).permutation(len(architectures)) / max(len(architectures), 1)
    chosen: list[Architecture] = []
    for _ in range(size):
        cost = tie.copy()
        for tally in tallies:
            cost += tally.excess()
        place = int(np.argmin(cost))
        chosen.append(architectures[place])
        tie[place] = np.inf
        for tally in tallies:
            tally.add(place)
    return chosen


class _Tally:
    """How often each value of a column has been chosen; -1 is no value and costs nothing."""

    def __init__(self, column: Int64, weight: int) -> None:
        self.column, self.weight = column, weight
        self.counts = np.zeros(int(column.max(initial=-1)) + 1, np.int64)

    def paired(self, other: _Tally) -> _Tally:
        """The same of the pairs of values that occur."""
        pairs = self.column * other.counts.size + other.column
        pairs[(self.column < 0) | (other.column < 0)] = -1
        _, column = np.unique(np.append(pairs, -1), return_inverse=True)
        return _Tally(column[:-1] - 1, 1)

    def excess(self) -> Int64:
        """For each row, how much more often its value has been chosen than the rarest, times the weight."""
        excess = np.append(self.counts - self.counts.min(), 0)  # the last one is reached by -1
        return self.weight * excess[self.column]

    def add(self, place: int) -> None:
        """Count the row at ``place`` as chosen."""
        if self.column[place] >= 0:
            self.counts[self.column[place]] += 1

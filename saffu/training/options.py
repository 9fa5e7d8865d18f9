"""The options of a refinement, and the step sizes that they give to parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from saffu.utils import validate

LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Options:
    """What a refinement depends on besides model and rows; see :func:`saffu.refine`.

    Raises
    ------
    ValueError, TypeError
        If a number is out of its range.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float | Mapping[str, float] = LEARNING_RATE
    freeze: str | Iterable[str] = ()
    patience: int | None = None
    soften: float = 0.7
    dropout: float = 0.0
    callback: Callable[[Any], Any] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    seed: int = 0
    n_threads: int | None = None

    def __post_init__(self) -> None:
        checked = {
            "epochs": validate.integer(self.epochs, "epochs", 0, validate.INT32_MAX),
            "batch_size": validate.integer(self.batch_size, "batch_size", 1, validate.INT32_MAX),
            "soften": validate.positive(self.soften, "soften"),
            "dropout": share(self.dropout, "dropout", or_zero=True),
            "seed": validate.integer(self.seed, "seed", 0),
        }
        if self.patience is not None:
            checked["patience"] = validate.integer(self.patience, "patience", 1, validate.INT32_MAX)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, **given: Any) -> Options:
        """Options by name; TypeError names one that is unknown."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise TypeError(f"{name!r} is no option of a refinement; there are {', '.join(known)}")
        return cls(**given)

    @property
    def numbers(self) -> dict[str, Any]:
        """What the course of a refinement depends on, but for the step sizes."""
        names = ("epochs", "batch_size", "patience", "soften", "dropout", "seed")
        return {name: getattr(self, name) for name in names}

    def step_sizes(self, names: list[str]) -> dict[str, float]:
        """Largest step size of every parameter that moves; ValueError if a name is none of a layer or parameter."""
        frozen = {self.freeze} if isinstance(self.freeze, str) else set(self.freeze)
        _check_known(frozen, "freeze", names)
        moving = [name for name in names if name not in frozen and _layer(name) not in frozen]
        given = self.learning_rate
        if not isinstance(given, Mapping):
            return dict.fromkeys(moving, validate.positive(given, "learning_rate", or_zero=True))
        _check_known(given, "learning_rate", names)
        rates = {key: validate.positive(v, f"learning_rate[{key!r}]", or_zero=True) for key, v in given.items()}
        return {name: rates.get(name, rates.get(_layer(name), LEARNING_RATE)) for name in moving}


def share(value: Any, name: str, or_zero: bool = False) -> float:
    """``value`` as a number below 1, above 0 or, with ``or_zero``, 0."""
    number = validate.positive(value, name, or_zero)
    if number >= 1:
        raise ValueError(f"{name} must be below 1, got {value}")
    return number


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _check_known(names: Iterable[str], what: str, known: list[str]) -> None:
    allowed = list(dict.fromkeys(part for name in known for part in (_layer(name), name) if part))
    for name in names:
        if name not in allowed:
            raise ValueError(f"{what} must name layers or parameters out of {', '.join(allowed)}; got {name!r}")

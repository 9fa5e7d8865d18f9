"""Which contexts an ExplicitLM has, how their scalars are set, and what follows from that alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from saffu.ngram_lm.keyed_contexts import NO_KEYS, KeyedContexts
from saffu.utils import validate
from saffu.utils.arrays import Float64

FLOORS = ("kneser-ney",)
PRIMINGS = ("k-fold", "leave-one-out", "kneser-ney", "unit", "backoff")
# The largest settings. Every context has a scalar, or several, and the time to fit them grows with their square.
LARGEST_RADIUS, LARGEST_ORDER, MOST_WINDOWS = 256, 32, 64


@dataclass(frozen=True)
class Contexts:
    """The settings of an ExplicitLM; see there.

    Attributes
    ----------
    radius, order : int
    windows : tuple of int
    induction : int
    priming : str
    floor : str or None
    keys : KeyedContexts
    """

    radius: int
    order: int
    windows: tuple[int, ...]
    induction: int
    priming: str
    floor: str | None = None
    keys: KeyedContexts = NO_KEYS

    @classmethod
    def of(
        cls,
        radius: int,
        order: int,
        windows: Sequence[int],
        induction: int,
        priming: str,
        floor: str | None = None,
        keys: KeyedContexts = NO_KEYS,
    ) -> Contexts:
        """Check and convert.

        Raises
        ------
        ValueError, TypeError
            If a setting is of the wrong type or out of range.
        """
        lengths = tuple(validate.integer(length, "windows", 1, validate.LARGEST["window"]) for length in windows)
        if len(lengths) > MOST_WINDOWS:
            raise ValueError(f"windows must be at most {MOST_WINDOWS}, got {len(lengths)}")
        if floor is not None and (validate.choice(floor, "floor", FLOORS), priming)[1] != "k-fold":
            raise ValueError(f"floor needs priming='k-fold', which fits its share to text left out, got {priming!r}")
        radius = validate.integer(radius, "radius", 1, LARGEST_RADIUS)
        keys.check_radius(radius)
        if keys and priming != "k-fold":
            raise ValueError(f"skips, words and line_ends need priming='k-fold', got {priming!r}")
        return cls(
            radius,
            validate.integer(order, "order", 2, LARGEST_ORDER),
            lengths,
            validate.integer(induction, "induction", 0, validate.LARGEST["window"]),
            validate.choice(priming, "priming", PRIMINGS),
            floor,
            keys,
        )

    def settings(self) -> dict[str, Any]:
        """The settings by their names, as they are saved; without a floor, as in files of earlier versions, none."""
        settings = {name: value for name, value in asdict(self).items() if name != "keys"}
        settings |= {"windows": list(self.windows), **self.keys.settings()}
        return settings if self.floor else {name: value for name, value in settings.items() if name != "floor"}

    @property
    def is_backoff(self) -> bool:
        """Whether the model is a back-off model: suffixes only, weighed by continuation counts, in one state."""
        return self.priming in ("kneser-ney", "backoff")

    @property
    def table_radius(self) -> int:
        """The largest distance of a table of counts."""
        return 1 if self.is_backoff else self.radius

    @property
    def n_tables(self) -> int:
        """Number of tables of counts: distances, suffixes of 2, ... order - 1 tokens, and those of other contexts."""
        return self.table_radius + self.order - 2 + self.keys.n_tables

    @property
    def reach(self) -> int:
        """Tokens before a position that tables of counts depend on."""
        return max(self.table_radius, self.order - 1, self.keys.reach)

    @property
    def history(self) -> int:
        """Tokens before a position that its probabilities can depend on."""
        return max([*self.windows, self.induction, self.radius, self.order - 1, self.keys.reach])

    @property
    def start_length(self) -> int:
        """Length of the longest contexts that begin with the start token."""
        # Measured: primed suffixes that begin with it lower perplexity by another 0.3 % at most, and documents that are
        # classified by their likelihood are then distinguished less well.
        return self.order - 1 if self.is_backoff else 1

    @property
    def pooled_windows(self) -> tuple[tuple[int, ...], int]:
        """Lengths of the windows, and of that of induction, which the model has."""
        return ((), 0) if self.is_backoff else (self.windows, self.induction)

    @property
    def names(self) -> list[str]:
        """Names of the contexts that the model has, in the order of their scalars."""
        names = [f"distance {k}" for k in range(1, self.table_radius + 1)]
        names += [f"suffix {n}" for n in range(2, self.order)] + self.keys.names
        windows, induction = self.pooled_windows
        return [*names, *(f"window {length}" for length in windows), *([f"induction {induction}"] if induction else [])]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the scalars; there is one for induction whether the model has it or not."""
        names = [name for name in self.names if not name.startswith("induction")]
        return ["prior", "continuation prior", *names, "induction"]

    def constant_scalars(self) -> Float64 | None:
        """The scalars, shape (1, n_columns), of primings that need no fit."""
        if self.priming not in ("kneser-ney", "unit"):
            return None
        unigrams = [0.0, 1.0] if self.is_backoff else [1.0, 0.0]
        return np.array([[*unigrams, *[1.0] * (len(self.columns) - 2)]])

"""Facts as commands print them: lines for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from saffu.utils import checkpoint

WIDTH = 26  # of the names


@contextmanager
def opened(path: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file in UTF-8 that appears under its name when it is whole."""
    if path is None:
        yield sys.stdout
        return
    with checkpoint.replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def opened_binary(path: str | None) -> Iterator[IO[bytes]]:
    """The same for bytes."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with checkpoint.replacing(path) as temporary, open(temporary, "wb") as file:
        yield file


def write(piece: str) -> None:
    """Print a piece of a text that is still being made."""
    sys.stdout.write(piece)
    sys.stdout.flush()


def exp(value: float) -> float:
    """The exponential of a number, infinite where it is too large."""
    return math.inf if value >= 709 else math.exp(value)


def as_json(facts: Mapping[str, Any]) -> str:
    """JSON for what may hold numpy scalars and infinities (which become null, since JSON has none).

    Examples
    --------
    >>> as_json({"tokens": np.int64(3), "perplexity": math.inf})
    '{"tokens": 3, "perplexity": null}'
    """
    return json.dumps(_plain(facts), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(figures: Mapping[str, float]) -> str:
    """A line for each figure, numbers flush right."""
    return "\n".join(f"{_title(name):18}{number(value):>14}" for name, value in figures.items())


def as_columns(titles: Sequence[str], columns: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """A line of titles, then one for each figure with its numbers side by side.

    Examples
    --------
    >>> for line in as_columns(("one", "other"), ({"tokens": 3}, {"tokens": 4})):
    ...     print(line)
                                 one         other
    tokens                         3             4
    """
    yield f"{'':18}{''.join(f'{title:>14}' for title in titles)}"
    for name in dict.fromkeys(name for column in columns for name in column):
        cells = (number(column[name]) if name in column else "" for column in columns)
        yield f"{_title(name):18}{''.join(f'{cell:>14}' for cell in cells)}"


def as_lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """One line for each fact, nested ones indented."""
    for key, value in facts.items():
        name = f"{indent}{_title(key)}"
        if isinstance(value, Mapping):
            yield name
            yield from as_lines(value, indent + "  ")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            yield name
            for item in value:
                yield f"{indent}  {'  '.join(f'{k} {_plain(v)}' for k, v in item.items())}"
        elif isinstance(value, (list, tuple, np.ndarray)):
            columns = (f"{item:7.3f}" if isinstance(item, float) else number(item) for item in value)
            yield f"{name:{WIDTH}}{'  '.join(columns)}".rstrip()
        else:
            yield f"{name:{WIDTH}}{number(value)}"


def _title(name: object) -> str:
    return str(name).replace("_", " ")


def number(value: Any) -> str:
    """A number with commas and as many digits as it has meaning for a reader; else its text.

    Examples
    --------
    >>> number(12345.678), number(0.00123456), number(1000)
    ('12,346', '0.001235', '1,000')
    """
    if isinstance(value, (float, np.floating)):
        size = abs(float(value))
        return f"{value:,.4g}" if size < 1 else f"{value:,.0f}" if size >= 10_000 else f"{value:,.3f}"
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return f"{value:,}" if whole else str(value)

"""What the values of options may be: functions that parse one, and refuse the rest in one line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

from saffu.attention_lm.contexts import CONTEXTS
from saffu.text import TOKENIZERS, SubwordTokenizer
from saffu.text.subwords import LEAST_PIECES, MOST_PIECES
from saffu.utils.byte_sizes import byte_size
from saffu.utils.durations import duration
from saffu.utils.sampling import LEAST_TEMPERATURE
from saffu.utils.validate import INT32_MAX


def integer(minimum: int) -> Callable[[str], int]:
    """A parser of integers of at least ``minimum``; the models know how large they may be.

    Examples
    --------
    >>> integer(1)("8")
    8
    """

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {minimum}, got {_excerpt(text)}")
        return value

    return parse


def count(minimum: int) -> Callable[[str], int]:
    """A parser of numbers of tokens, epochs and the like, which fit into 32 bits."""

    def parse(text: str) -> int:
        value = integer(minimum)(text)
        if value > INT32_MAX:
            raise argparse.ArgumentTypeError(f"must be at most {INT32_MAX}, got {_excerpt(text)}")
        return value

    return parse


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got {_excerpt(text)}")
    return value


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {_excerpt(text)}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def share(text: str) -> float:
    """A number of at least 0 and below 1."""
    value = not_negative(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0 and below 1, got {text!r}")
    return value


def temperature(text: str) -> float:
    """0, or a number that probabilities can be raised to the inverse of."""
    value = not_negative(text)
    if 0 < value < LEAST_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"expected 0 or a number of at least {LEAST_TEMPERATURE:g}, got {text!r}")
    return value


def contexts(text: str) -> tuple[str, ...]:
    """Names of contexts of SaffuLM with a plus between.

    Examples
    --------
    >>> contexts("radial+document")
    ('radial', 'document')
    """
    names = tuple(text.split("+"))
    if not set(names) <= set(CONTEXTS) or len(set(names)) < len(names):
        known = ", ".join(CONTEXTS)
        raise argparse.ArgumentTypeError(f"expected some of {known} with + between, each once, got {text!r}")
    return names


def windows(text: str) -> tuple[int, ...]:
    """Distinct lengths with commas between; nothing for none.

    Examples
    --------
    >>> windows("60,500")
    (60, 500)
    """
    try:
        lengths = tuple(map(integer(1), text.split(","))) if text.strip() else ()
    except argparse.ArgumentTypeError:
        lengths = (0, 0)
    if len(set(lengths)) < len(lengths):
        raise argparse.ArgumentTypeError(f"expected distinct positive integers with commas between, got {text!r}")
    return lengths


def memory(text: str) -> int:
    """An amount of memory in bytes.

    Examples
    --------
    >>> memory("512M")
    536870912
    """
    try:
        return byte_size(text, "the size")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def budget(text: str) -> float:
    """An amount of time in seconds.

    Examples
    --------
    >>> budget("15m")
    900.0
    """
    try:
        return duration(text, "the time")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class BytePairs(NamedTuple):
    """Byte pair encoding that is to be trained on the text."""

    n_pieces: int


def tokenizer(text: str) -> str | SubwordTokenizer | BytePairs:
    """The name of a tokenizer, the file of one, or bpe:N.

    Examples
    --------
    >>> tokenizer("words"), tokenizer("bpe:8000")
    ('words', BytePairs(n_pieces=8000))
    """
    if text in TOKENIZERS:
        return text
    if text.startswith("bpe:"):
        try:
            n_pieces = integer(LEAST_PIECES)(text.removeprefix("bpe:"))
            if n_pieces > MOST_PIECES:
                raise argparse.ArgumentTypeError(f"must be at most {MOST_PIECES}, got {n_pieces}")
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"bpe: {error}") from None
        return BytePairs(n_pieces)
    try:
        if not text.endswith((".json", ".model")):
            names = ", ".join(TOKENIZERS)
            raise ValueError(f"expected one of {names}, a file .json or .model, or bpe:N, got {_excerpt(text)}")
        return SubwordTokenizer.read(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error.strerror}") from None
    except (ValueError, ImportError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def least_counts(text: str) -> tuple[int, ...]:
    """Counts of at least 1 that do not descend, with commas between.

    Examples
    --------
    >>> least_counts("1,1,2")
    (1, 1, 2)
    """
    try:
        counts = tuple(map(count(1), text.split(",")))
    except argparse.ArgumentTypeError:
        counts = (1, 0)
    if counts[0] != 1 or list(counts) != sorted(counts):
        raise argparse.ArgumentTypeError(
            f"expected counts that begin with 1 and do not descend, with commas between, got {text!r}"
        )
    return counts


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")

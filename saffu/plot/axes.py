"""What the figures share: axes to draw on, and tokens to write along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from saffu.text import Vocabulary
from saffu.utils import validate
from saffu.utils.arrays import Array

MOST_TICKS = 40  # tokens that are written along an axis


def axes_or_new(ax: Any, width: float, height: float) -> Any:
    """The axes to draw on; ImportError if there are none and matplotlib is not installed."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("a figure needs matplotlib; pip install 'saffu[plot]' installs it") from error
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def label_tokens(axis: Any, tokens: Sequence[str], rotation: float) -> None:
    """Write tokens along an axis, or none if they are too many to be read."""
    if len(tokens) <= MOST_TICKS:
        axis.set_ticks(range(len(tokens)), [repr(token)[1:-1] for token in tokens], rotation=rotation)


def ids_and_tokens(text: str | ArrayLike, vocabulary: Vocabulary | None) -> tuple[Array, list[str]]:
    """Ids of a text, and what is written for each."""
    if isinstance(text, str):
        if vocabulary is None:
            raise ValueError("ids must be numbers, since the model has no vocabulary; got a string")
        ids = vocabulary.encode_text(text)[0]
    else:
        ids = validate.token_ids(text)
    if not ids.size:
        raise ValueError("ids must have at least one token, got none")
    return ids, [str(i) for i in ids] if vocabulary is None else vocabulary.decode(ids)

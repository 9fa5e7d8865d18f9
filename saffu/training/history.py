"""The records of a refinement, as a model's file holds them."""

from __future__ import annotations

from typing import Any

import numpy as np


def history_to(history: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The history as JSON can hold it: a loss that is not finite, as after a divergence, is None."""
    if history is None:
        return None
    return [{key: None if value != value or value == np.inf else value for key, value in r.items()} for r in history]


def history_from(history: Any) -> list[dict[str, Any]] | None:
    """The history in a checkpoint: None, or a list of records."""
    if history is None:
        return None
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        raise ValueError("the history is damaged")
    return [r | {"training_loss": np.nan} if r.get("training_loss", 0) is None else r for r in history]

"""Rows that are held out of the solution of hidden layers, for priming and for stopping corrections."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from saffu.classifier.class_rows import Rows, Source, in_memory
from saffu.classifier.row_keys import derived, equal_parts
from saffu.utils.arrays import Int64
from saffu.utils.sparse import SparseRows

MANY_ROWS = 10_000  # different ones; from here on one fold is held out, below each of five in turn
N_FOLDS = 5
SAMPLE_ROWS = 10_000  # held-out rows that are used: three scalars need no more
SAMPLE_VALUES = 1 << 25  # rows times units
THINNING = -1  # number of the keys by which rows are chosen: none of a seed


@dataclass
class Fold:
    """Rows to solve from, and rows that are held out."""

    source: Source
    held: Rows


def folds_of(rows: Rows) -> list[Fold]:
    """Rows of every class held out: one fold where there are many rows, each of five where there are few."""
    fold = _fold_numbers(rows)
    chosen = [N_FOLDS - 1] if rows.targets.size >= MANY_ROWS else list(range(N_FOLDS))
    splits = [rows.split(fold == number) for number in chosen if (fold == number).any()]
    return [Fold(in_memory(kept), held) for kept, held in splits]


def folds_of_batches(source: Source, n_batches: int) -> list[Fold]:
    """The last fold of every batch held out, of which a sample is kept in memory."""
    held = []
    for rows in source():
        sample = rows.split(_fold_numbers(rows) == N_FOLDS - 1)[1]
        held.append(thinned(sample, max(1, SAMPLE_ROWS // n_batches)))
    features = [rows.features for rows in held]
    stacked = SparseRows.stacked(features, features[0].n_columns, features[0].dtype, features[0].n_threads)
    weights = None
    if any(rows.weights is not None for rows in held):
        weights = np.concatenate([rows.repeats for rows in held])
    targets, keys = (np.concatenate([getattr(rows, name) for rows in held]) for name in ("targets", "keys"))
    together = Rows(stacked, targets, held[0].n_classes, weights, keys)
    if not together.targets.size:
        return []
    return [Fold(lambda: (rows.split(_fold_numbers(rows) == N_FOLDS - 1)[0] for rows in source()), together)]


def _fold_numbers(rows: Rows) -> Int64:
    """The fold of each row: parts of equal weight in the order of the keys.

    The last row of a class is in the last fold, so that this is never empty, and the only row of a class in none (-1).
    So no fold has all rows of a class: its first row lies before the middle, if not alone.
    """
    fold = np.empty(rows.targets.size, np.int64)
    for first, last in pairwise(rows.starts):
        fold[first:last] = equal_parts(rows.repeats[first:last], N_FOLDS)
        fold[last - 1 : last] = -1 if last - first == 1 else N_FOLDS - 1
    return fold


def thinned(rows: Rows, n_rows: int) -> Rows:
    """At most so many rows, chosen by their keys."""
    if rows.targets.size <= n_rows:
        return rows
    return rows.take(np.sort(np.argsort(derived(rows.keys, THINNING), kind="stable")[:n_rows]))


def sampled(held: Rows, n_units: int) -> Rows:
    """Few enough rows that their values for all units fit into memory."""
    return thinned(held, max(1, min(SAMPLE_ROWS, SAMPLE_VALUES // n_units)))

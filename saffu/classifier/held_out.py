"""Rows that are held out of the solution of hidden layers, for priming and for stopping corrections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saffu.classifier.class_rows import Rows, Source, in_memory
from saffu.utils.arrays import Int64
from saffu.utils.sparse import SparseRows

MANY_ROWS = 10_000  # from here on one fold is held out, below each of five in turn
N_FOLDS = 5
SAMPLE_ROWS = 10_000  # held-out rows that are used: three scalars need no more
SAMPLE_VALUES = 1 << 25  # rows times units


@dataclass
class Fold:
    """Rows to solve from, and rows that are held out."""

    source: Source
    held: Rows


def folds_of(rows: Rows) -> list[Fold]:
    """Consecutive rows of every class held out: one fold where there are many rows, each of five where there are few.

    Rows beside each other tend to belong together (the replies to a message, the frames of a film), so that
    rows held out one by one would look easier than new ones.
    """
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
        weights = np.concatenate(
            [np.ones(len(rows.features)) if rows.weights is None else rows.weights for rows in held]
        )
    together = Rows(stacked, np.concatenate([rows.targets for rows in held]), held[0].n_classes, weights)
    if not together.targets.size:
        return []
    return [Fold(lambda: (rows.split(_fold_numbers(rows) == N_FOLDS - 1)[0] for rows in source()), together)]


def _fold_numbers(rows: Rows) -> Int64:
    """The fold of each row; a class with fewer rows than folds is in the last ones, its first row in none (-1)."""
    sizes = rows.class_sizes[rows.targets]
    rank = np.arange(rows.targets.size) - rows.starts[rows.targets]
    few = sizes < N_FOLDS
    fold = np.where(few, N_FOLDS - sizes + rank, rank * N_FOLDS // np.maximum(sizes, 1))
    return np.where(few & (rank == 0), -1, fold)


def thinned(rows: Rows, n_rows: int) -> Rows:
    """At most so many rows, by chance: evenly spaced ones can all come from one of two sources that take turns."""
    if rows.targets.size <= n_rows:
        return rows
    chosen = np.sort(np.random.default_rng(0).choice(rows.targets.size, n_rows, replace=False))
    return rows.take(chosen)


def sampled(held: Rows, n_units: int) -> Rows:
    """Few enough rows that their values for all units fit into memory."""
    return thinned(held, max(1, min(SAMPLE_ROWS, SAMPLE_VALUES // n_units)))

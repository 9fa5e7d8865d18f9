"""From counts of labelled texts to a linear classifier whose probabilities are calibrated.

The value of n-gram j in a text is ``log(1 + count) g_j``, and each text is divided by its length. g_j is an explicit
function of the counts, one of ``WEIGHTINGS``. The scores of labels are solved by least squares with a ridge
(:mod:`saffu.classifier.text_ridge`); weighting and ridge are those with the lowest loss on texts that were held out,
and so are the temperature and the offsets by which scores become log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from saffu.classifier.text_calibration import Calibration, calibrated
from saffu.classifier.text_counts import TextCounts, TextSample
from saffu.classifier.text_features import Known, Ngrams
from saffu.classifier.text_model import TextModel, weighed
from saffu.classifier.text_ridge import ridge_duals
from saffu.utils import validate
from saffu.utils.arrays import Array, Bools, Float32
from saffu.utils.sparse import SparseRows

WEIGHTINGS = ("log", "idf", "ratio", "information")
RIDGES = (0.1, 0.3, 1.0, 3.0)
FOLDS = "folds"  # a setting that held-out texts decide
COMPARED = 0.05  # tolerance of solutions that are only compared with one another
N_FOLDS = 5
MANY_TEXTS = 5_000  # different ones; from here on one fold is held out, below each of five in turn


@dataclass(frozen=True)
class TextSettings:
    """How counts become a classifier: the arguments of the constructor, checked."""

    weighting: str
    ridge: float | None
    min_count: float
    smoothing: float

    @classmethod
    def of(cls, weighting: Any, ridge: Any, min_count: Any, smoothing: Any) -> TextSettings:
        """Check the settings."""
        validate.choice(weighting, "weighting", (FOLDS, *WEIGHTINGS))
        ridge = None if isinstance(ridge, str) and ridge == FOLDS else validate.positive(ridge, "ridge")
        return cls(
            weighting, ridge, validate.positive(min_count, "min_count"), validate.positive(smoothing, "smoothing")
        )

    @property
    def candidates(self) -> list[tuple[str, tuple[float, ...]]]:
        """The weightings that are compared, each with its ridges."""
        kinds = ("idf", "information") if self.weighting == FOLDS else (self.weighting,)
        return [(kind, RIDGES if self.ridge is None else (self.ridge,)) for kind in kinds]


def scale_of(kind: str, counts: TextCounts, smoothing: float) -> Float32:
    """The weight g of each n-gram, from the numbers of texts that hold it.

    ``"log"``: 1. ``"idf"``: ``1 + log((1 + M) / (1 + m))``, m of the M texts hold it. ``"ratio"``: the root of the mean
    square over labels of the log-count ratio of Wang and Manning (2012). ``"information"``: the root of the relative
    entropy of the labels of the texts that hold it to those of all texts.
    """
    if kind == "log":
        return np.ones(counts.total.size, np.float32)
    if kind == "idf":
        return (1 + np.log((1 + counts.n_texts) / (1 + counts.total))).astype(np.float32)
    found = np.zeros(counts.total.size)
    table = counts.table
    inside = smoothing + counts.total if kind == "information" else None
    for label in range(counts.classes.size):
        n = np.zeros(counts.total.size)
        row = slice(table.indptr[label], table.indptr[label + 1])
        n[table.indices[row]] = table.data[row]
        mass = counts.mass[label]
        if inside is None:
            rest = counts.n_texts - mass
            odds = np.log((n + smoothing) / (mass + 2 * smoothing))
            odds -= np.log((counts.total - n + smoothing) / (rest + 2 * smoothing))
            found += odds * odds / counts.classes.size
        else:
            prior = (mass + smoothing) / (counts.n_texts + counts.classes.size * smoothing)
            share = (n + smoothing) / (counts.total + counts.classes.size * smoothing)
            found += share * np.log(share / prior)
    return np.sqrt(np.maximum(found, 1e-12)).astype(np.float32)


def solve(counts: TextCounts, ngrams: Ngrams, settings: TextSettings, n_threads: int) -> TextModel:
    """Solve a classifier from counts and the texts that were kept."""
    counts = _frequent(counts, settings.min_count)
    ridge, kind, calibration, facts = _chosen(counts, settings, n_threads)
    scale = scale_of(kind, counts, settings.smoothing)
    parts = _Parts.of(counts.sample, scale, n_threads)
    (dual,) = ridge_duals(parts.X, parts.X_t, parts.Y, [ridge])
    weights = parts.X_t.product(dual)
    return TextModel(ngrams, counts.classes, Known(counts.hashes), scale, weights, calibration, facts)


def _frequent(counts: TextCounts, min_count: float) -> TextCounts:
    """The counts of n-grams in enough texts, those in most texts first: the rows that are read most lie together."""
    kept = np.flatnonzero(counts.total >= min_count)
    kept = kept[np.argsort(-counts.total[kept], kind="stable")]
    column = np.full(counts.hashes.size, -1, np.int32)
    column[kept] = np.arange(kept.size, dtype=np.int32)
    sample = replace(counts.sample, features=_restricted(counts.sample.features, column, kept.size))
    table = _restricted(counts.table, column, kept.size)
    return replace(counts, hashes=counts.hashes[kept], total=counts.total[kept], table=table, sample=sample)


def _restricted(matrix: csr_array, column: Array, n_columns: int) -> csr_array:
    """The entries whose column has a place."""
    places = column[matrix.indices]
    inside = places >= 0
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(inside)])
    return csr_array((matrix.data[inside], places[inside], ends[matrix.indptr]), shape=(matrix.shape[0], n_columns))


@dataclass(frozen=True)
class _Parts:
    """Weighed rows, their transpose and their centred targets, each row times the root of its weight."""

    X: SparseRows
    X_t: SparseRows
    Y: Float32

    @classmethod
    def of(cls, sample: TextSample, scale: Float32, n_threads: int) -> _Parts:
        X = weighed(_sparse(sample.features, n_threads), scale)
        Y = sample.targets.toarray().astype(np.float32)
        total = sample.weights.sum()
        Y -= (sample.weights @ Y / max(total, 1e-30)).astype(np.float32)
        if (sample.weights != 1).any():
            roots = np.sqrt(sample.weights).astype(np.float32)
            X = SparseRows(X.indptr, X.indices, X.data * np.repeat(roots, np.diff(X.indptr)), X.n_columns, n_threads)
            Y *= roots[:, None]
        matrix = csr_array((X.data, X.indices, X.indptr), shape=(len(X), X.n_columns))
        return cls(X, _sparse(csr_array(matrix.T.tocsr()), n_threads), Y)


def _sparse(matrix: csr_array, n_threads: int) -> SparseRows:
    indptr = matrix.indptr.astype(np.int64, copy=False)
    return SparseRows(indptr, matrix.indices.astype(np.int32, copy=False), matrix.data, matrix.shape[1], n_threads)


def _folds(sample: TextSample) -> Iterator[Bools]:
    """Which texts are held out; equal ones together, by their keys."""
    first = np.concatenate([[True], sample.keys[1:] != sample.keys[:-1]])[: sample.keys.size]
    place = np.cumsum(first)
    fold = place % N_FOLDS
    for number in range(1 if place.size and place[-1] >= MANY_TEXTS else N_FOLDS):
        held = fold == number
        if held.any() and not held.all():
            yield held


def _chosen(
    counts: TextCounts, settings: TextSettings, n_threads: int
) -> tuple[float, str, Calibration, dict[str, Any]]:
    """Ridge and weighting of the lowest loss on texts that were held out, and the calibration there."""
    scores: dict[tuple[str, float], list[Float32]] = {}
    held_rows: list[TextSample] = []
    for held in _folds(counts.sample):
        rest, out = counts.sample.take(np.flatnonzero(~held)), counts.sample.take(np.flatnonzero(held))
        held_rows.append(out)
        fewer = _without_rows(counts, out, rest)
        for kind, ridges in settings.candidates:
            scale = scale_of(kind, fewer, settings.smoothing)
            scale[fewer.total < settings.min_count] = 0  # what counts only by the texts that are held out
            parts = _Parts.of(rest, scale, n_threads)
            X = weighed(_sparse(out.features, n_threads), scale)
            duals = ridge_duals(parts.X, parts.X_t, parts.Y, ridges, COMPARED)
            for ridge, dual in zip(ridges, duals, strict=True):
                scores.setdefault((kind, ridge), []).append(X.product(parts.X_t.product(dual)))
    if not scores:
        kind, ridges = settings.candidates[-1]
        return ridges[len(ridges) // 2], kind, Calibration.none(counts.classes.size, counts.several), {}
    targets = np.concatenate([rows.targets.toarray() for rows in held_rows]).astype(np.float64)
    weights = np.concatenate([rows.weights for rows in held_rows])
    best, found, loss = None, None, np.inf
    for choice, parts_of in scores.items():
        trial = calibrated(np.concatenate(parts_of), targets, weights, counts.several)
        if trial.loss < loss:
            best, found, loss = choice, trial, trial.loss
    assert best is not None
    assert found is not None
    kind, ridge = best
    return ridge, kind, found, {"weighting": kind, "ridge": ridge, "held_out_loss": loss}


def _without_rows(counts: TextCounts, out: TextSample, rest: TextSample) -> TextCounts:
    """The counts without those of the texts that are held out."""
    gone = TextCounts.of(out.features, counts.hashes, out.targets, counts.classes, counts.several, out.weights)
    return replace(
        counts,
        table=csr_array(counts.table - gone.table),
        total=counts.total - gone.total,
        mass=counts.mass - gone.mass,
        n_texts=counts.n_texts - gone.n_texts,
        sample=rest,
    )

"""What a text classifier keeps of labelled texts: in how many texts of each label each n-gram is, and a sample of rows.

The counts are sums over texts, and so are merged and subtracted exactly; so is the sample, which keeps the texts whose
keys are smallest. A key is a hash of what a text contains, so nothing depends on the order in which texts come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array, vstack

from saffu.classifier.labels import Classes, distinct
from saffu.classifier.row_sample import mixed
from saffu.utils.arrays import Float64, Int64, UInt64

SAMPLE_VALUES = 1 << 24  # n-grams of all texts that are kept: a bound on memory, and on the time of a solution
NO_BOUND = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class TextSample:
    """Texts that are kept, by ascending keys.

    Attributes
    ----------
    features : csr_array of float32, shape (M, D)
        How often each n-gram occurs.
    targets : csr_array of float32, shape (M, N)
        1 for each label of a text.
    weights : ndarray of float64, shape (M,)
    keys : ndarray of uint64, shape (M,)
    bound : int
        Texts with a key from here on are not kept.
    """

    features: csr_array
    targets: csr_array
    weights: Float64
    keys: UInt64
    bound: int = NO_BOUND

    def take(self, rows: Any) -> TextSample:
        """Some of the texts."""
        return TextSample(self.features[rows], self.targets[rows], self.weights[rows], self.keys[rows], self.bound)

    def sorted(self) -> TextSample:
        """In the order of the keys, and no more than may be kept."""
        order = np.lexsort((self.weights, self.keys))
        sample = self if (order[1:] > order[:-1]).all() else self.take(order)
        fits = np.searchsorted(np.cumsum(np.diff(sample.features.indptr)), SAMPLE_VALUES, side="right")
        bound = min(sample.bound, int(sample.keys[fits])) if fits < sample.keys.size else sample.bound
        n = int(np.searchsorted(sample.keys, np.uint64(bound)))
        if bound == NO_BOUND or n == sample.keys.size:
            return replace(sample, bound=bound)
        return replace(sample.take(slice(0, n)), bound=bound)


@dataclass(frozen=True)
class TextCounts:
    """Counts of labelled texts.

    Attributes
    ----------
    classes : ndarray, shape (N,)
        The labels, ascending.
    several : bool
        Whether a text may have several labels, or none.
    hashes : ndarray of uint64, shape (D,)
        The n-grams, ascending.
    table : csr_array of float64, shape (N, D)
        The number, or weight, of the texts of each label that hold each n-gram.
    total : ndarray of float64, shape (D,)
        The same whatever the label.
    mass : ndarray of float64, shape (N,)
        The number of texts of each label.
    n_texts : float
        The number of all texts.
    sample : TextSample
    """

    classes: Classes
    several: bool
    hashes: UInt64
    table: csr_array
    total: Float64
    mass: Float64
    n_texts: float
    sample: TextSample

    @classmethod
    def of(
        cls, features: csr_array, hashes: UInt64, targets: csr_array, classes: Classes, several: bool, weights: Float64
    ) -> TextCounts:
        """Count texts: rows (M, D) of n-grams, and of labels (M, N)."""
        present = csr_array(
            (np.repeat(weights, np.diff(features.indptr)), features.indices, features.indptr), shape=features.shape
        )
        member = csr_array((np.ones(targets.nnz), targets.indices, targets.indptr), shape=targets.shape)
        table = csr_array(member.T.tocsr() @ present)
        table.sort_indices()
        total = np.bincount(present.indices, present.data, features.shape[1]).astype(np.float64)
        mass = np.bincount(targets.indices, np.repeat(weights, np.diff(targets.indptr)), classes.size).astype(
            np.float64
        )
        keys = _keys(features, hashes, targets, classes)
        sample = TextSample(features, targets, weights, keys).sorted()
        return cls(classes, several, hashes, table, total, mass, float(weights.sum()), sample)

    def merged(self, other: TextCounts) -> TextCounts:
        """The counts of the texts of both."""
        self.check_kind(other)
        hashes = union(self.hashes, other.hashes)
        classes = distinct(np.concatenate([self.classes, other.classes]))
        a, b = (each._within(hashes, classes) for each in (self, other))
        sample = TextSample(
            csr_array(vstack([a.sample.features, b.sample.features], format="csr")),
            csr_array(vstack([a.sample.targets, b.sample.targets], format="csr")),
            np.concatenate([a.sample.weights, b.sample.weights]),
            np.concatenate([a.sample.keys, b.sample.keys]),
            min(a.sample.bound, b.sample.bound),
        )
        return TextCounts(
            classes,
            self.several or other.several,
            hashes,
            csr_array(a.table + b.table),
            a.total + b.total,
            a.mass + b.mass,
            self.n_texts + other.n_texts,
            sample.sorted(),
        )

    def without(self, other: TextCounts) -> TextCounts:
        """The counts without those of some of the texts; n-grams and labels that no text is left of are gone.

        Raises
        ------
        ValueError
            If not all of them have been counted.
        """
        self.check_kind(other)
        strange = not bool(np.isin(other.hashes, self.hashes, assume_unique=True).all())
        strange = strange or not set(other.classes.tolist()) <= set(self.classes.tolist())
        if not strange:
            b = other._within(self.hashes, self.classes)
            table, total, mass = csr_array(self.table - b.table), self.total - b.total, self.mass - b.mass
            strange = bool((total < 0).any() or (mass < 0).any() or (table.data < 0).any())
        if strange:
            raise ValueError("X must be texts that have been counted, with the labels and weights that they had")
        table.eliminate_zeros()
        sample = _sample_without(self.sample, b.sample)
        rest = TextCounts(
            self.classes, self.several, self.hashes, table, total, mass, self.n_texts - other.n_texts, sample
        )
        return rest._only(np.flatnonzero(total > 0), np.flatnonzero(mass > 0))

    def check_kind(self, other: TextCounts) -> None:
        """Raise an error unless the labels of both are of one kind."""
        kinds = [each.classes.dtype.kind == "U" for each in (self, other)]
        if self.classes.size and other.classes.size and kinds[0] != kinds[1]:
            raise TypeError("y must be labels of one kind in every call, got strings and numbers")

    def _within(self, hashes: UInt64, classes: Classes) -> TextCounts:
        """The same counts of more n-grams and labels."""
        columns = np.searchsorted(hashes, self.hashes).astype(np.int32)
        rows = np.searchsorted(classes, self.classes).astype(np.int32)
        total, mass = np.zeros(hashes.size), np.zeros(classes.size)
        total[columns], mass[rows] = self.total, self.mass
        lengths = np.zeros(classes.size, np.int64)
        lengths[rows] = np.diff(self.table.indptr)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        table = csr_array((self.table.data, columns[self.table.indices], indptr), shape=(classes.size, hashes.size))
        sample = replace(
            self.sample,
            features=moved(self.sample.features, columns, hashes.size),
            targets=moved(self.sample.targets, rows, classes.size),
        )
        return replace(self, classes=classes, hashes=hashes, table=table, total=total, mass=mass, sample=sample)

    def _only(self, columns: Int64, rows: Int64) -> TextCounts:
        """The counts of some n-grams and labels; those left out have none."""
        if columns.size == self.hashes.size and rows.size == self.classes.size:
            return self
        column = np.zeros(self.hashes.size, np.int32)
        column[columns] = np.arange(columns.size, dtype=np.int32)
        row = np.zeros(self.classes.size, np.int32)
        row[rows] = np.arange(rows.size, dtype=np.int32)
        sample = replace(
            self.sample,
            features=moved(self.sample.features, column, columns.size),
            targets=moved(self.sample.targets, row, rows.size),
        )
        return replace(
            self,
            classes=self.classes[rows],
            hashes=self.hashes[columns],
            table=moved(csr_array(self.table[rows]), column, columns.size),
            total=self.total[columns],
            mass=self.mass[rows],
            sample=sample,
        )


def union(a: UInt64, b: UInt64) -> UInt64:
    """The distinct numbers of two ascending arrays, ascending."""
    return sorted_distinct(np.concatenate([a, b]))


def sorted_distinct(numbers: UInt64) -> UInt64:
    """The distinct ones, ascending. Sorting takes a fraction of the time of numpy's unique."""
    ordered = np.sort(numbers)
    first = np.ones(ordered.size, bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def moved(matrix: csr_array, columns: Any, n_columns: int) -> csr_array:
    """The same rows, each column in another place."""
    return csr_array((matrix.data, columns[matrix.indices], matrix.indptr), shape=(matrix.shape[0], n_columns))


def _keys(features: csr_array, hashes: UInt64, targets: csr_array, classes: Classes) -> UInt64:
    """A key for each text: sums of hashes of its n-grams, as often as they occur, and of its labels."""
    digests = [
        hashlib.blake2b(repr(label).encode("utf-8", "surrogatepass"), digest_size=8) for label in classes.tolist()
    ]
    labels = np.array([int.from_bytes(digest.digest(), "little") for digest in digests], np.uint64)
    parts = (
        (features, mixed(hashes[features.indices]) * features.data.astype(np.uint64)),
        (targets, labels[targets.indices]),
    )
    keys = np.zeros(features.shape[0], np.uint64)
    for matrix, numbers in parts:
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(numbers, dtype=np.uint64)])
        keys = mixed(keys + sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]])
    return keys


def _sample_without(sample: TextSample, gone: TextSample) -> TextSample:
    """Take weights away, text by text; those that are beyond the bound were not kept."""
    gone = gone.take(slice(0, int(np.searchsorted(gone.keys, np.uint64(sample.bound)))))
    left = sample.weights.copy()
    for key, weight in zip(gone.keys, gone.weights, strict=True):
        row = int(np.searchsorted(sample.keys, key))
        while weight > 0 and row < left.size and sample.keys[row] == key:
            taken = min(weight, left[row])
            left[row] -= taken
            weight -= taken
            row += 1
        if weight > 0:
            raise ValueError("X must be texts that have been counted, with the labels and weights that they had")
    return replace(sample, weights=left).take(left > 0)

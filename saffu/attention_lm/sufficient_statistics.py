"""The sufficient statistics of a solved network: what it takes to learn more text, and to forget it.

The output weights of a unit are a scalar times a logarithm of counts, its *lift*; embeddings are expected counts,
normalised. All of these counts are sums over text, so that those of new text are added, and the weights follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.units import Parameters
from saffu.explicit.discounting import smoothed_distribution
from saffu.utils import checkpoint
from saffu.utils.arrays import Array, Float32, Float64, Int64

WORD_MASS = 3.0  # tokens of the unigram that the words of a hidden unit are smoothed by
COMPARED_MASS = 3.0  # occurrences added to what was observed and to what was expected


def lift_of_unigram(observed: Array, unigram: Float64) -> Float32:
    """By how much each hidden unit makes each word likelier than the unigram has it, a logarithm.

    Parameters
    ----------
    observed : ndarray, shape (V, hidden)
        Sums of hidden states at the places of each word.
    unigram : ndarray of float64, shape (V,)

    Returns
    -------
    ndarray of float32, shape (V, hidden)

    Notes
    -----
    arXiv 2311.07498: ``log F_wi / (S_i p(w))``, with three tokens of the unigram added to F.
    """
    mass = observed.sum(axis=0, dtype=np.float64) + WORD_MASS
    lift = (observed + WORD_MASS * unigram[:, None]) / mass / unigram[:, None]
    logarithms: Float32 = np.log(lift).astype(np.float32)
    return logarithms


def lift_of_expected(observed: Array, expected: Array) -> Float32:
    """By how much each hidden unit makes each word likelier than was expected without it, a logarithm.

    Parameters
    ----------
    observed, expected : ndarray, shape (V, hidden)
        Sums of hidden states at the places of each word, and what the model without the unit expects of them.

    Returns
    -------
    ndarray of float32, shape (V, hidden)
        ``log F_wi / E_wi``, with three occurrences added to both.
    """
    logarithms: Float32 = np.log((observed + COMPARED_MASS) / (expected + COMPARED_MASS)).astype(np.float32)
    return logarithms


@dataclass(frozen=True)
class OutputStatistics:
    """Counts that the output follows from; never changed in place.

    Attributes
    ----------
    observed : ndarray of float32, shape (n_outputs, H)
        Sums of hidden states at the places of each output, a word or a class of them.
    expected : ndarray of float32, shape (n_outputs, H') with H' <= H
        The same as the model without the unit expects them. The first H - H' hidden units, those of the first unit of a
        network without a residual, are compared with the unigram instead.
    counts : ndarray of int64, shape (V,)
        Occurrences of each word.
    curvature : ndarray of float64, shape (1 + n_units, 1 + n_units)
        By how much the scalars' own text holds them where they are: second derivatives of its loss, nats.
    """

    observed: Float32
    expected: Float32
    counts: Int64
    curvature: Float64

    @property
    def n_versus_unigram(self) -> int:
        """Hidden units that are compared with the unigram."""
        n: int = self.observed.shape[1] - self.expected.shape[1]
        return n

    @property
    def unigram(self) -> Float64:
        """Frequencies of the words, those never seen sharing that of one."""
        return smoothed_distribution(self.counts, 1.0 / (self.counts.sum() + 1.0))

    def lift(self, block: slice) -> Float32:
        """Lifts of the hidden units of one unit."""
        if block.start < self.n_versus_unigram:
            return lift_of_unigram(self.observed[:, block], self.unigram)
        return lift_of_expected(self.observed[:, block], self.expected[:, self._expected_columns(block)])

    def _expected_columns(self, block: slice) -> slice:
        return slice(block.start - self.n_versus_unigram, block.stop - self.n_versus_unigram)

    def plus(self, block: slice, observed: Array, expected: Array | None) -> OutputStatistics:
        """With counts of one unit added, which may be negative; what rounding leaves below zero is zero."""
        F, E = self.observed.copy(), self.expected.copy()
        F[:, block] = np.maximum(F[:, block] + observed, 0)
        if expected is not None:
            columns = self._expected_columns(block)
            E[:, columns] = np.maximum(E[:, columns] + expected, 0)
        return replace(self, observed=F, expected=E)

    def beside(self, more: OutputStatistics) -> OutputStatistics:
        """With the statistics of further hidden units after these; each unit's scalar is held by its own text."""
        n, m = len(self.curvature), len(more.curvature) - 1
        curvature = np.zeros((n + m, n + m))
        curvature[:n, :n], curvature[n:, n:] = self.curvature, more.curvature[1:, 1:]
        observed = np.concatenate([self.observed, more.observed], axis=1)
        expected = np.concatenate([self.expected, more.expected], axis=1)
        return OutputStatistics(observed, expected, self.counts, curvature)

    @classmethod
    def none(cls, shape: tuple[int, ...], n_units: int, counts: Int64) -> OutputStatistics:
        """Of hidden units (n_outputs, H) that nothing was counted of: their lifts are zero."""
        nothing = np.zeros(shape, np.float32)
        return cls(nothing, nothing, counts, np.zeros((1 + n_units, 1 + n_units)))

    def arrays(self) -> dict[str, Array]:
        """What a file keeps."""
        return dict(vars(self))

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, Array], vocab_size: int, shape: tuple[int, int], n_versus_unigram: int, n_units: int
    ) -> OutputStatistics:
        """Of the arrays of a file, checked; ``shape`` is that of the output."""
        observed = checkpoint.checked(arrays, "observed", np.float32, shape)
        expected = checkpoint.checked(arrays, "expected", np.float32, (shape[0], shape[1] - n_versus_unigram))
        counts = checkpoint.checked(arrays, "counts", np.int64, (vocab_size,))
        curvature = checkpoint.checked(arrays, "curvature", np.float64, (1 + n_units, 1 + n_units))
        if min(observed.min(), expected.min(initial=0), counts.min()) < 0:
            raise checkpoint.Damaged("the counts of the output are damaged")
        return cls(observed, expected, counts, curvature)


@dataclass(frozen=True)
class EmbeddingStatistics:
    """What the embeddings follow from: expected counts of the classes of each token; never changed in place.

    Attributes
    ----------
    X : ndarray of float32, shape (V, bits)
        Embeddings as they were solved. Expectations are always taken with these, so that text given back takes the very
        counts away that it brought.
    mass : ndarray of float32, shape (V,)
        Sum of the counts behind each row.
    more : ndarray of float32, shape (V, bits)
        Counts of the text that was learned since.
    words : ndarray of float32, shape (n_units, V, bits)
        Words of each class, columns of unit sum, in each unit that embeddings were solved with.
    shares : ndarray of float64, shape (n_units,)
        Of these units.
    attention : dict of str to ndarray of float32
        Of these units, by the names of their parameters.
    units : tuple of str
        Their names.
    """

    X: Float32
    mass: Float32
    more: Float32
    words: Float32
    shares: Float64
    attention: dict[str, Float32]
    units: tuple[str, ...]

    def log_embeddings(self, tokens: Int64) -> Float32:
        """Logarithms of the embeddings of some tokens, shape (n, bits)."""
        counts = np.maximum(self.X[tokens] * self.mass[tokens, None] + self.more[tokens], np.float32(1e-9))
        logarithms: Float32 = np.log(counts / counts.sum(axis=1, keepdims=True))
        return logarithms

    def plus(self, counts: Float32) -> EmbeddingStatistics:
        """With expected counts added, which may be negative."""
        return replace(self, more=self.more + counts)

    def split(self, times: int) -> EmbeddingStatistics:
        """Each class as so many equal ones: comparisons are so many times smaller, their weights larger."""
        X, more = (np.tile(array, times) / np.float32(times) for array in (self.X, self.more))
        attention = {
            name: value * np.float32(times) if name.endswith(".attention") else value
            for name, value in self.attention.items()
        }
        return replace(self, X=X, more=more, words=np.tile(self.words, times), attention=attention)

    def arrays(self) -> dict[str, Array]:
        """What a file keeps."""
        arrays = {name: getattr(self, name) for name in ("X", "mass", "more", "words", "shares")}
        return arrays | self.attention

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, Array], vocab_size: int, bits: int, units: tuple[str, ...]
    ) -> EmbeddingStatistics:
        """Of the arrays of a file, checked; the shapes of the attention are not."""
        n_units = len(units)
        X = checkpoint.checked(arrays, "X", np.float32, (vocab_size, bits))
        mass = checkpoint.checked(arrays, "mass", np.float32, (vocab_size,))
        more = checkpoint.checked(arrays, "more", np.float32, (vocab_size, bits))
        words = checkpoint.checked(arrays, "words", np.float32, (n_units, vocab_size, bits))
        shares = checkpoint.checked(arrays, "shares", np.float64, (n_units,))
        attention = {name: arrays[name] for name in arrays if "attention" in name}
        for name, array in attention.items():
            checkpoint.checked(arrays, name, np.float32, array.shape)
        if min(X.min(), mass.min(), words.min(), shares.min()) < 0:
            raise checkpoint.Damaged("the counts of the embeddings are damaged")
        return cls(X, mass, more, words, shares, attention, units)


@dataclass(frozen=True)
class Solution:
    """A solved network, and the statistics that its weights follow from; never changed in place.

    Attributes
    ----------
    parameters : dict of str to ndarray of float32
        As in :mod:`saffu.attention_lm.units`.
    output : OutputStatistics
    embeddings : EmbeddingStatistics
    scalars : ndarray of float64, shape (1 + n_units,)
        Of the unigram, or 1 on a residual, and of the output weights of each unit.
    output_classes : OutputClasses or None
        What has an output; None where each word has one.
    """

    parameters: Parameters
    output: OutputStatistics
    embeddings: EmbeddingStatistics
    scalars: Float64
    output_classes: OutputClasses | None = None

    def with_parameters(self, parameters: Parameters) -> Solution:
        """With other values of some parameters."""
        return replace(self, parameters={**self.parameters, **parameters})

"""Embeddings that start from counts: singular vectors of co-occurrences at a few distances.

For each distance the positive pointwise mutual information of a token and its neighbour, the neighbour's counts to the
power 0.75 (Levy, Goldberg and Dagan 2015), each entry shrunk by sqrt(n / (n + 1)) for its count n; the tables of all
distances side by side, and of these the leading left singular vectors U sqrt(S), found by subspace iteration (Halko,
Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4). Rows are normalised, and scaled to the deviation of a random
start. No gradient, and no text but the counts.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array, hstack

from saffu.explicit.cooccurrence import count_pairs
from saffu.utils.arrays import Array, Float32, Float64, Int64
from saffu.utils.sparse import SparseRows
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers

DISTANCES = (1, 2)  # to either side
POWER = 0.75
OVERSAMPLED, ITERATIONS = 16, 4
DEVIATION = 0.1
LEAST = 1e-8  # share of the greatest squared singular value below which there is nothing left
ROWS = 8192  # of a tall matrix that are multiplied at once


def log_unigram(stream: TokenStream, vocab_size: int) -> Float32:
    """Logarithms of the shares of all tokens, one added to each count."""
    counts = np.bincount(stream.ids, minlength=vocab_size) + 1.0
    shares: Float64 = counts / counts.sum()
    return np.log(shares).astype(np.float32)


def embeddings(stream: TokenStream, vocab_size: int, dim: int, seed: int, workers: Workers) -> Float32:
    """Embeddings of all tokens from the counts of a text.

    Parameters
    ----------
    stream : TokenStream
    vocab_size : int
    dim : int
    seed : int
        Of the first subspace, and of what is random where the counts have fewer than ``dim`` directions or say nothing
        of a token.
    workers : Workers
        Call it with one thread of BLAS: results do not depend on the number of workers.

    Returns
    -------
    ndarray of float32, shape (V, dim)
    """
    rng = np.random.default_rng([seed, 2])
    table = association(stream, vocab_size, workers.n_threads)
    vectors = leading_vectors(table, dim, rng, workers)
    lengths = np.sqrt((vectors * vectors).sum(axis=1))
    found = rng.normal(0.0, DEVIATION, (vocab_size, dim))
    known = lengths > 0
    rank = vectors.shape[1]
    # Directions that the counts lack are drawn, and small: they are free for what backpropagation finds.
    found[known] *= 0.1
    found[known, :rank] = vectors[known] * (DEVIATION * math.sqrt(dim) / lengths[known, None])
    return found.astype(np.float32)


def association(stream: TokenStream, vocab_size: int, n_threads: int) -> csr_array:
    """Shrunk positive pointwise mutual information with the neighbours at all distances, (V, 4 V) of float32."""
    tables = []
    for distance in DISTANCES:
        shape = (vocab_size, vocab_size)
        counts = count_pairs(stream, stream.ids, np.array([distance], np.int64), shape, n_threads)
        tables += [_mutual_information(counts), _mutual_information(csr_array(counts.T))]
    return csr_array(hstack(tables, format="csr"))


def _mutual_information(counts: csr_array) -> csr_array:
    """max(0, log(p(c, w) / (p(c) p(w)))), p(w) from counts to a power, times sqrt(n / (n + 1))."""
    n = counts.data.astype(np.float64)
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    row_sums = np.bincount(rows, n, counts.shape[0])
    column_sums = np.bincount(counts.indices, n, counts.shape[1]) ** POWER
    share = column_sums / max(column_sums.sum(), 1e-300)
    information = np.log(n / (row_sums[rows] * share[counts.indices]))
    values = (np.maximum(information, 0.0) * np.sqrt(n / (n + 1.0))).astype(np.float32)
    table = csr_array((values, counts.indices, counts.indptr), shape=counts.shape)
    table.eliminate_zeros()
    return table


def leading_vectors(table: csr_array, dim: int, rng: np.random.Generator, workers: Workers) -> Float64:
    """Leading left singular vectors times the roots of their values, at most ``dim`` columns.

    Parameters
    ----------
    table : csr_array of float32, shape (n, m)
    dim : int
    rng : numpy.random.Generator
        Where the first subspace is drawn.
    workers : Workers
        Call it with one thread of BLAS: results do not depend on the number of workers.

    Returns
    -------
    ndarray of float64, shape (n, rank)

    Examples
    --------
    >>> table = csr_array(np.diag([4.0, 1.0, 9.0]).astype(np.float32))
    >>> leading_vectors(table, 2, np.random.default_rng(0), Workers(1)).round(4).T.tolist()
    [[0.0, 0.0, 3.0], [2.0, 0.0, 0.0]]
    """
    forth, back = (SparseRows.of(each, workers.n_threads) for each in (table, csr_array(table.T)))
    width = min(dim + OVERSAMPLED, *table.shape)
    if width == 0 or table.nnz == 0:
        return np.zeros((table.shape[0], 0))
    Q = rng.standard_normal((table.shape[1], width)).astype(np.float32)
    for _ in range(ITERATIONS):
        Q = _orthonormal(forth.product(Q), workers)
        Q = _orthonormal(back.product(Q), workers)
    Y = forth.product(_orthonormal(Q, workers))
    # Y = A Q with Q near the leading right singular vectors: its own decomposition is that of A there.
    values, W = np.linalg.eigh(_gram(Y, workers))
    values, W = values[::-1][:dim], W[:, ::-1][:, :dim]
    kept = values > LEAST * max(values[0], 1e-300)
    scaled: Float64 = _multiplied(Y, W[:, kept] / values[kept] ** 0.25, workers).astype(np.float64)
    return _signed(scaled)


def _gram(Y: Array, workers: Workers) -> Float64:
    """Y^T Y, added block by block in float64."""
    parts = [Y[begin : begin + ROWS] for begin in range(0, len(Y), ROWS)]
    total = np.zeros((Y.shape[1], Y.shape[1]))
    for part in workers.map(lambda part: part.T @ part, parts):
        total += part
    return total


def _multiplied(Y: Array, W: Float64, workers: Workers) -> Array:
    """Y W, in the type of Y."""
    found, factor = np.empty((len(Y), W.shape[1]), Y.dtype), W.astype(Y.dtype)

    def one(begin: int) -> None:
        np.matmul(Y[begin : begin + ROWS], factor, out=found[begin : begin + ROWS])

    workers.map(one, range(0, len(Y), ROWS))
    return found


def _orthonormal(Y: Array, workers: Workers) -> Array:
    """A basis of the columns, orthonormal to rounding where they are not nearly dependent; those become small."""
    values, W = np.linalg.eigh(_gram(Y, workers))
    return _multiplied(Y, W / np.sqrt(np.maximum(values, 1e-12 * values[-1] + 1e-300)), workers)


def _signed(vectors: Float64) -> Float64:
    """Columns whose entry of the greatest size is positive: a singular vector has no sign of its own."""
    largest: Int64 = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)

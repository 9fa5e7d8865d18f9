"""Random calls of the compiled core and of what takes sparse matrices: ``python tests/helpers/fuzz.py --calls 100000``.

Every call has a number, from which all of it follows: which function, sound arguments, and what is then done to some of
them. Calls are made in child processes with 4 GB of memory; a child that dies or is silent for too long is a finding,
told with the number of the call, which ``--only NUMBER`` makes again in this process. A call may give a result, or
raise ValueError, TypeError, OverflowError or MemoryError; any other exception is a finding too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN_PLACE = [*(ROOT / "saffu").glob("_core*.so"), *(ROOT / "saffu").glob("_core*.pyd")]
if BUILT_IN_PLACE and __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import saffu  # noqa: E402
import saffu.classifier.text_features  # noqa: E402
from saffu import _core  # noqa: E402

MEMORY = 4 << 30  # bytes of address space of a child
PATIENCE = 60.0  # seconds that a call may take on a busy machine
A_CHILD = 2000  # calls
CLEAR = (ValueError, TypeError, OverflowError, MemoryError)

Rng = np.random.Generator
Call = tuple[Callable[..., Any], list[Any]]


# ---- sound arguments ---------------------------------------------------------------------------------------------


def size(rng: Rng, low: int = 0, high: int = 20) -> int:
    """A small size, now and then one that is worth a team of threads."""
    return int(rng.integers(500, 2000)) if rng.random() < 0.02 and high >= 20 else int(rng.integers(low, high + 1))


def threads(rng: Rng) -> int:
    return int(rng.choice([1, 2, 3, 7]))


def reals(rng: Rng, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


def real(rng: Rng) -> Any:
    return rng.choice([np.float32, np.float64])


def ids(rng: Rng, n: int, bound: int) -> np.ndarray:
    return rng.integers(0, max(bound, 1), n).astype(np.int32)


def csr(rng: Rng, n_rows: int, n_columns: int, dtype: Any = np.float64) -> list[np.ndarray]:
    """indptr, indices and data, with ascending columns."""
    dense = rng.integers(0, 4, (n_rows, n_columns)) * (rng.random((n_rows, n_columns)) < 0.4)
    matrix = csr_array(dense.astype(dtype))
    return [matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data]


def stream(rng: Rng) -> list[Any]:
    n, bound = size(rng, 0, 40), size(rng, 1, 12)
    documents = np.unique(np.append(rng.integers(0, n + 1, 3), 0))
    distances = np.unique(rng.integers(1, 6, rng.integers(1, 4)))
    return [ids(rng, n, bound) - (rng.random() < 0.5), ids(rng, n, bound), distances, documents, bound, bound]


def raw_count(rng: Rng) -> Call:
    return _core.count, [*stream(rng), threads(rng), int(rng.choice([1, 7, 1 << 27]))]


def count_suffixes(after: int, n_continued: int, n_threads: Any, max_pairs: int, *arguments: Any) -> Any:
    """Make a counter of suffixes, do something to the arrays it was made from, and count three tables."""
    counter = _core.SuffixCounter(*arguments)
    if after:
        spoil(arguments[after % 3], after)
    return [counter.count(n_continued if n == 1 else 0 if n == 2 else 1, n_threads, max_pairs) for n in range(3)]


def raw_suffixes(rng: Rng) -> Call:
    n, n_rows, n_cols = size(rng, 1), size(rng, 1), size(rng, 1)
    starts = np.sort(rng.choice(n, rng.integers(1, n + 1), replace=False)).astype(np.int64)
    arguments = [ids(rng, n, n_rows + 1) - 1, ids(rng, n, n_cols), starts, n_rows, n_cols, threads(rng)]
    after = int(rng.integers(1, 60)) if rng.random() < 0.2 else 0
    return count_suffixes, [after, size(rng), threads(rng), int(rng.choice([1, 7, 1 << 27])), *arguments]


def raw_merge(rng: Rng) -> Call:
    n_rows, bound = size(rng, 1, 20), size(rng, 1, 12)
    tables = []
    for _ in range(2):
        rows = np.sort(rng.choice(n_rows, rng.integers(0, n_rows + 1), replace=False)).astype(np.int64)
        tables += [*csr(rng, rows.size, bound, np.int64), rows]
    return _core.merge, [*tables, n_rows, threads(rng)]


def raw_find(rng: Rng) -> Call:
    n, bound = size(rng), size(rng, 1, 12)
    indptr, indices, _ = csr(rng, bound, bound)
    return _core.find, [indptr, indices, ids(rng, n, bound) - 1, ids(rng, n, bound), threads(rng)]


def raw_weigh(rng: Rng) -> Call:
    indptr, indices, counts = csr(rng, size(rng), 12, np.int64)
    return _core.weigh, [indptr, counts, indices, rng.random(12), np.array([0.5, 0.7, 0.9]), threads(rng)]


def raw_pack(rng: Rng) -> Call:
    return _core.pack, [*csr(rng, size(rng), size(rng, 1, 60)), threads(rng)]


def raw_packed(rng: Rng) -> Call:
    indptr, indices, data = csr(rng, size(rng), size(rng, 1, 60))
    return _core.Packed, [array.copy() for array in _core.pack(indptr, indices, data, 1)]


def batch_arguments(rng: Rng, n_rows: int, bound: int, n_contexts: int) -> list[Any]:
    n_ids = size(rng, 1, 40)
    text, n = ids(rng, n_ids, bound), size(rng)
    positions = np.sort(rng.integers(0, n_ids, n))
    begins = np.minimum(positions, rng.integers(0, n_ids, n))
    rows = rng.integers(-1, max(n_rows, 1), (n, n_contexts)).astype(np.int32)
    previous = saffu.ngram_lm.log_linear.previous_places(text) if rng.random() < 0.7 else None
    return [text, positions, begins, rows, np.zeros(n, np.int32), reals(rng, n, n_contexts), previous]


def pool_arguments(rng: Rng) -> tuple[list[Any], list[Any]]:
    n_rows, bound, n_contexts, n_windows = size(rng, 1, 10), size(rng, 1, 40), size(rng, 0, 3), int(rng.integers(0, 3))
    packed: Any = _core.pack(*csr(rng, n_rows, bound), 1)
    if rng.random() < 0.5:
        packed = tuple(array.copy() for array in packed)
    prior = np.zeros((2, -(-bound // 16) * 16))
    prior[:, :bound] = np.log(1 / bound)
    theta = rng.random((1, 3 + n_contexts + n_windows))
    window = rng.integers(1, 20, n_windows)
    pool = [packed, prior, np.full(bound, 1 / bound), theta, n_contexts, window, window + 1.0, 8, 2.0]
    return pool, batch_arguments(rng, n_rows, bound, n_contexts)


def raw_batch(rng: Rng) -> Call:
    return _core.Batch, batch_arguments(rng, 5, 9, 2)


def raw_pool(rng: Rng) -> Call:
    return _core.Pool, pool_arguments(rng)[0]


def score(pool: list[Any], batch: list[Any], name: str, n_threads: Any, after: int, flag: Any) -> Any:
    """Make both objects, do something to the arrays they were made from, and use them."""
    made, seen = _core.Pool(*pool), _core.Batch(*batch)
    arrays = [array for array in [*pool, *batch] if isinstance(array, np.ndarray)]
    if after and arrays:
        spoil(arrays[after % len(arrays)], after)
    if name == "logits":
        out = np.empty((len(batch[1]), len(pool[2])), np.float32 if flag else np.float64)
        return made.logits(seen, out, n_threads)
    arguments = [seen, flag] if name == "derivatives" else [seen]
    return getattr(made, name)(*arguments, n_threads)


def spoil(array: np.ndarray, number: int) -> None:
    """What an owner may do to an array behind the back of an object that was made from it."""
    if number % 3 == 0 and array.flags.owndata and array.ndim == 1 and array.size:
        array.resize(array.size // 2, refcheck=False)
    elif array.flags.writeable and array.size:
        array[...] = [2_000_000_000, -1, -(2**31)][number % 3]


def raw_score(rng: Rng) -> Call:
    pool, batch = pool_arguments(rng)
    name = str(rng.choice(["log_prob", "distribution", "logits", "derivatives"]))
    after = int(rng.integers(1, 60)) if rng.random() < 0.3 else 0
    if rng.random() < 0.5:
        which = pool if rng.random() < 0.5 else batch
        spoil_one(rng, which)
    return score, [pool, batch, name, threads(rng), after, bool(rng.random() < 0.5)]


def raw_moments(rng: Rng) -> Call:
    n, D, N = size(rng), size(rng), size(rng, 1, 9)
    weights = rng.random(n) if rng.random() < 0.5 else None
    tail = [weights, np.zeros((N, D)), np.zeros(N), bool(rng.random() < 0.5), threads(rng)]
    targets = ids(rng, n, N) if rng.random() < 0.5 else reals(rng, n, N, dtype=real(rng))
    if rng.random() < 0.5:
        kernel = _core.moments_labels if targets.ndim == 1 else _core.moments_soft
        return kernel, [reals(rng, n, D, dtype=real(rng)), targets, *tail]
    indptr, indices, data = csr(rng, n, D, real(rng))
    kernel = _core.moments_csr_labels if targets.ndim == 1 else _core.moments_csr_soft
    return kernel, [indptr, indices.astype(rng.choice([np.int32, np.int64])), data, targets, *tail]


def raw_lowest(rng: Rng) -> Call:
    return _core.lowest, [reals(rng, size(rng), dtype=real(rng)), threads(rng)]


def raw_log_weights(rng: Rng) -> Call:
    F = np.abs(reals(rng, size(rng), size(rng), dtype=real(rng)))
    return _core.log_weights, [F, bool(rng.random() < 0.5), 0.1, 0.5, threads(rng)]


def raw_leave_one_out(rng: Rng) -> Call:
    n, n_rows, D, N = size(rng), size(rng, 1), size(rng), size(rng, 1, 9)
    tail = [ids(rng, n, n_rows), ids(rng, n, N), rng.random(n), rng.random((N, D)), rng.random(N), 0.1, threads(rng)]
    if rng.random() < 0.5:
        return _core.leave_one_out, [reals(rng, n_rows, D, dtype=real(rng)), *tail]
    return _core.leave_one_out_csr, [*csr(rng, n_rows, D), *tail]


def raw_product(rng: Rng) -> Call:
    n, D, N, dtype = size(rng), size(rng), size(rng, 0, 40), real(rng)
    matrix, B = csr(rng, n, D, dtype), reals(rng, D, N, dtype=dtype)
    if rng.random() < 0.5:
        return _core.product_double, [*matrix, B, np.zeros((n, N)), threads(rng)]
    bias = reals(rng, N, dtype=dtype) if rng.random() < 0.5 else None
    out = [np.zeros((n, N), dtype)] if rng.random() < 0.5 else []
    return _core.product, [*matrix, B, bias, threads(rng), *out]


def raw_compress(rng: Rng) -> Call:
    return _core.compress, [np.maximum(reals(rng, size(rng), size(rng), dtype=real(rng)), 0), threads(rng)]


def raw_take_rows(rng: Rng) -> Call:
    indptr, indices, data = csr(rng, size(rng, 1), 12, real(rng))
    rows = rng.integers(0, indptr.size - 1, size(rng))
    new = np.concatenate([[0], np.cumsum(np.diff(indptr)[rows])]).astype(np.int64)
    return _core.take_rows, [indptr[:-1][rows], new, indices, data, threads(rng)]


def raw_hash_ngrams(rng: Rng) -> Call:
    text = rng.choice(np.frombuffer("ab,.' -<unk>\n7é\u0301中".encode(), np.uint8), size(rng, 0, 60))
    offsets = np.concatenate([[0], np.sort(rng.integers(0, text.size + 1, size(rng, 0, 6))), [text.size]])
    classes = saffu.classifier.text_features.character_classes()
    kinds = [int(rng.integers(0, 4)), int(rng.integers(1, 5)), 2**64 - 1]
    return _core.hash_ngrams, [text, offsets.astype(np.int64), classes, *kinds, threads(rng)]


def raw_match_ngrams(rng: Rng) -> Call:
    indptr, indices, _ = csr(rng, size(rng), 12)
    spread = np.arange(12, dtype=np.uint64) << np.uint64(60)
    bits = int(rng.integers(0, 4))
    bounds = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - max(bits, 1))
    first = np.concatenate([[0], np.searchsorted(spread, bounds), [12]]).astype(np.int32)
    return _core.match_ngrams, [indptr, spread[indices], spread, first, threads(rng)]


def raw_rows(rng: Rng) -> Call:
    """Kernels over rows of logits."""
    n, columns, dtype = size(rng), size(rng, 1, 40), real(rng)
    X, labels = reals(rng, n, columns, dtype=dtype), ids(rng, n, columns)
    T, scale = reals(rng, 4, columns, dtype=dtype), rng.random(n)
    begins = np.unique(np.append(rng.integers(0, columns + 1, 3), [0, columns]))
    cells = [X, rng.permutation(columns).astype(np.int32), begins, np.empty((n, begins.size - 1), dtype)]
    calls: list[Call] = [
        (_core.softmax, [X, bool(n % 2)]),
        (_core.logsumexp, [X]),
        (_core.cross_entropy_labels, [X, labels]),
        (_core.cross_entropy_soft, [X, np.abs(X)]),
        (_core.cross_entropy_backward, [X, labels, scale if n % 2 else None]),
        (_core.log_sums, cells),
        (_core.softmax_backward, [X, X.copy()]),
        (_core.mixture, [X, T, labels % 4]),
        (_core.mixture_backward, [X, T, labels % 4, scale]),
        (_core.exp, [X.ravel()]),
        (_core.log, [np.abs(X.ravel())]),
    ]
    kernel, arguments = calls[rng.integers(len(calls))]
    return kernel, [*arguments, threads(rng)]


def view_arguments(rng: Rng, bound: int, n: int, K: int) -> list[Any]:
    n_ids, step = size(rng, K + 1, K + 30), int(rng.choice([1, -1]))
    first = rng.integers(0, n_ids - K, n) + (K if step < 0 else 0)
    length, head = rng.integers(0, K + 1, n).astype(np.int32), rng.integers(0, n_ids, n)
    return [ids(rng, n_ids, bound), first, length, head, step, K]


def raw_view(rng: Rng) -> Call:
    return _core.View, view_arguments(rng, 9, size(rng), size(rng, 0, 9))


def attend(view: list[Any], name: str, after: int, *arguments: Any) -> Any:
    """Make windows, do something to their arrays, and read them."""
    windows = _core.View(*view)
    if after:
        spoil(view[after % 4], after)
    return getattr(_core, name)(windows, *arguments)


def raw_attend(rng: Rng) -> Call:
    bound, n, K, d, dtype = size(rng, 1, 12), size(rng), size(rng, 0, 9), size(rng, 1, 40), real(rng)
    view, X, W = view_arguments(rng, bound, n, K), reals(rng, bound, d, dtype=dtype), reals(rng, K, K, dtype=dtype)
    table = X[: bound // 2] @ X[: bound // 2].T if rng.random() < 0.5 else None
    S, A, dZ = (reals(rng, *shape, dtype=dtype) for shape in ((n, K), (n, K), (n, d)))
    given, dX = (S if rng.random() < 0.3 else None), (np.zeros_like(X) if rng.random() < 0.5 else None)
    name, arguments = [
        ("comparisons", [X, table]),
        ("attend", [X, table, W, W[0].copy() if K and n % 2 else None, given]),
        ("attend_backward", [X, W, S, A, dZ, bool(n % 2), dX]),
    ][rng.integers(3)]
    if rng.random() < 0.5:
        spoil_one(rng, view)
    return attend, [view, name, int(rng.integers(1, 60)) if rng.random() < 0.2 else 0, *arguments, threads(rng)]


def raw_compare_all(rng: Rng) -> Call:
    return _core.compare_all, [reals(rng, size(rng), size(rng, 0, 40), dtype=real(rng)), threads(rng)]


def pool_patches(geometry: list[Any], *arguments: Any) -> Any:
    return _core.pool_patches(_core.Patches(*geometry), *arguments)


def patch_moments(geometry: list[Any], *arguments: Any) -> Any:
    return _core.patch_moments(_core.Patches(*geometry), *arguments)


def raw_patches(rng: Rng) -> Call:
    height, width, channels = (int(n) for n in rng.integers(1, [10, 10, 4]))
    patch = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    stride, n, n_units, dtype = int(rng.integers(1, 4)), size(rng, 0, 6), size(rng, 1, 40), real(rng)
    rows, columns = (height - patch[0]) // stride + 1, (width - patch[1]) // stride + 1
    pool = int(rng.integers(1, rows + 1)), int(rng.integers(1, columns + 1))
    n_values = patch[0] * patch[1] * channels
    geometry = [(height, width, channels), patch, stride, pool, 1.0, 0.25, bool(rng.integers(2))]
    images, M = reals(rng, n, height * width * channels, dtype=dtype), reals(rng, n_values, n_values, dtype=dtype)
    W, some = reals(rng, 2 * n_values + 3, n_units, dtype=dtype), size(rng) if n else 0
    M = M if rng.random() < 0.5 else None
    if rng.random() < 0.4:
        return pool_patches, [geometry, images, M, W, threads(rng)]
    chosen = rng.integers(0, max(n, 1), some).astype(np.int32), rng.integers(0, rows * columns, some).astype(np.int32)
    slope = reals(rng, n, pool[0] * pool[1], n_units, dtype=dtype) if rng.random() < 0.5 else None
    places = list(chosen) if slope is None else [None, None]
    return patch_moments, [geometry, images, *places, slope, M, W, threads(rng)]


def raw_adam(rng: Rng) -> Call:
    n, dtype = size(rng), real(rng)
    return _core.adam, [*(np.abs(reals(rng, n, dtype=dtype)) for _ in range(4)), 0.1, 0.9, 0.999, 1e-8, 1, threads(rng)]


def raw_adam_without_momentum(rng: Rng) -> Call:
    n, dtype = size(rng), real(rng)
    arrays = [np.abs(reals(rng, n, dtype=dtype)) for _ in range(3)]
    return _core.adam_without_momentum, [*arrays, 0.5, 0.1, 0.999, 1e-8, 1, threads(rng)]


def raw_panels(rng: Rng) -> Call:
    n_rows, n_inner, n_columns, dtype = size(rng), size(rng, 0, 40), size(rng, 0, 80), real(rng)
    width = _core.PANEL_BYTES // np.dtype(dtype).itemsize
    panels = reals(rng, -(-n_columns // width), n_inner, width, dtype=dtype)
    A, Z = reals(rng, n_rows, n_inner, dtype=dtype), reals(rng, n_rows, n_columns, dtype=dtype)
    return _core.panel_product, [A, panels, Z, threads(rng)]


def raw_regression(rng: Rng) -> Call:
    n_rows, n_features, n_classes = size(rng), size(rng, 0, 40), size(rng, 1, 40)
    shapes = (n_rows, n_features), (n_features, n_classes), (n_classes,)
    A, W, bias = (reals(rng, *shape, dtype=np.float32) for shape in shapes)
    targets = rng.integers(0, n_classes, n_rows).astype(np.int32)
    return _core.regression_gradients, [A, W, bias, targets, bool(rng.random() < 0.5), threads(rng)]


def raw_lstm(rng: Rng) -> Call:
    n_rows, n_cells, dtype = size(rng), size(rng, 0, 40), real(rng)
    gates = [reals(rng, n_rows, 4 * n_cells, dtype=dtype) for _ in range(2)]
    cells = [reals(rng, n_rows, n_cells, dtype=dtype) for _ in range(4)]
    if rng.random() < 0.5:
        return _core.lstm_step, [gates[0], cells[0], gates[1], *cells[1:], threads(rng)]
    return _core.lstm_step_backward, [*cells[:3], gates[0], cells[3], threads(rng)]


def raw_check_csr(rng: Rng) -> Call:
    indptr, indices, data = csr(rng, size(rng), 12)
    return _core.check_csr, [indptr, indices, 12, data.size, threads(rng)]


def raw_threads(rng: Rng) -> Call:
    return _core.threads, [threads(rng)]


RAW = [value for name, value in list(globals().items()) if name.startswith("raw_")]
RAW += 4 * [raw_rows]  # eleven kernels
OBJECTS = (_core.Packed, _core.SuffixCounter, _core.Batch, _core.Pool, _core.View, _core.Patches)


# ---- public functions that take a sparse matrix ------------------------------------------------------------------


def foul_matrix(rng: Rng, n_columns: int) -> Any:
    """A sparse matrix of some kind, often with a part that does not fit the others."""
    dense = rng.integers(0, 4, (24, n_columns)) * (rng.random((24, n_columns)) < 0.5)
    kind = str(rng.choice(["csr", "csr", "csr", "csc", "bsr", "coo"]))
    matrix = coo_array(dense.astype(real(rng))).asformat(kind)
    names = {"coo": ["data"]}.get(kind, ["indptr", "indices", "data"])
    for _ in range(int(rng.integers(0, 3))):
        name = str(rng.choice(names))
        array = getattr(matrix, name).copy()
        if rng.random() < 0.7 and array.size:
            array.flat[rng.integers(array.size)] = rng.choice(edges(array.dtype))
        else:
            array = array[: rng.integers(0, array.size + 1)] if rng.random() < 0.5 else np.append(array, array[-1:])
        setattr(matrix, name, array)
    if kind == "coo" and rng.random() < 0.5:
        coords = [c.copy() for c in matrix.coords]
        coords[rng.integers(2)][rng.integers(coords[0].size)] = rng.choice(edges(coords[0].dtype))
        matrix.coords = tuple(coords)
    return matrix


def public(rng: Rng) -> Call:
    X, y, n_threads = foul_matrix(rng, 6), rng.integers(0, 3, 24), threads(rng)
    clean = rng.poisson(1.0, (24, 6)).astype(float)
    layer, network = saffu.SoftmaxLayer(n_threads=n_threads), saffu.ExplicitNetwork(n_threads=n_threads)
    calls: list[tuple[Callable[..., Any], list[Any]]] = [
        (lambda: layer.fit(X, y), []),
        (lambda: layer.partial_fit(X, y, classes=range(3)), []),
        (lambda: layer.fit(clean, y).predict(X), []),
        (lambda: layer.fit(clean, y).predict_proba(X), []),
        (lambda: saffu.refine(layer.fit(clean, y), X, y, epochs=1), []),
        (lambda: network.fit(X, y), []),
        (lambda: network.fit(clean, y).predict(X), []),
        (lambda: network.fit(clean, y).predict_log_proba(X), []),
        (lambda: saffu.moments(X, y, n_threads=n_threads), []),
        (lambda: saffu.moments(X, np.eye(3)[y], n_threads=n_threads), []),
    ]
    return calls[rng.integers(len(calls))]


# ---- what is done to them ----------------------------------------------------------------------------------------


def edges(dtype: np.dtype) -> list[Any]:
    """Numbers of this type that are apt to lead astray."""
    if dtype.kind == "f":
        return [np.nan, np.inf, -np.inf, -1.0, 0.0, np.finfo(dtype).max, np.finfo(dtype).tiny / 2]
    if dtype.kind not in "iu":
        return [0]
    limits = np.iinfo(dtype)
    found = [limits.min, limits.max, -1, 0, 1, 10**6, 10**8, 2**31 - 1, 2**31, -(2**31), 2**62]
    return [value for value in found if limits.min <= value <= limits.max]


def spoil_array(rng: Rng, array: np.ndarray) -> Any:
    way = int(rng.integers(14))
    if way <= 3 and array.size and array.dtype.kind in "fiu":
        array = array.copy()
        array.flat[rng.integers(array.size)] = rng.choice(edges(array.dtype))
    elif way == 4 and array.ndim:
        array = array[: rng.integers(0, len(array) + 1)].copy()
    elif way == 5 and array.ndim:
        array = np.concatenate([array, array[:1]])
    elif way == 6:
        array = array[::-1].copy() if array.ndim else array
    elif way == 7:
        kind = rng.choice([np.int8, np.int32, np.int64, np.uint32, np.float32, np.float64, object])
        with contextlib.suppress(OverflowError):  # objects, spoilt before, need not fit
            array = array.astype(kind)
    elif way == 8:
        array = np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    elif way == 9:
        array = array.copy()
        array.flags.writeable = False
    elif way == 10:
        array = np.asfortranarray(array) if array.ndim > 1 else array[None]
    elif way == 11 and array.dtype != object:
        room = np.zeros(array.nbytes + 1, np.uint8)
        array = np.frombuffer(room.data, array.dtype, array.size, offset=1).reshape(array.shape)
    elif way == 12:
        array = array.astype(array.dtype.newbyteorder())
    else:
        return rng.choice([None, "x", 3])  # type: ignore[arg-type]
    return array


def spoil_one(rng: Rng, arguments: list[Any]) -> None:
    """Change one of the arguments in place."""
    i = int(rng.integers(len(arguments)))
    value = arguments[i]
    if isinstance(value, list):
        spoil_one(rng, value)
    elif isinstance(value, np.ndarray):
        others = [a for a in arguments if isinstance(a, np.ndarray) and a.size and a is not value]
        if others and rng.random() < 0.1:  # the same memory twice
            other = others[rng.integers(len(others))]
            same = other.nbytes == value.nbytes and "O" not in (other.dtype.kind, value.dtype.kind)
            arguments[i] = np.ravel(other).view(value.dtype).reshape(value.shape) if same else other
        else:
            arguments[i] = spoil_array(rng, value)
    elif isinstance(value, tuple):
        parts = list(value)
        spoil_one(rng, parts)
        arguments[i] = tuple(parts)
    elif isinstance(value, (bool, int)):
        choices = [-1, 0, 1, 2, 3, -5, 40_000, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 10**30, 1.5, None, "x", True]
        arguments[i] = choices[rng.integers(len(choices))]
    elif isinstance(value, float):
        arguments[i] = [np.nan, np.inf, -1.0, 0.0, 1e308, 1e-320, None, "x"][rng.integers(8)]
    elif value is None:
        arguments[i] = [np.zeros(3), np.zeros((3, 3)), np.zeros(0, np.int32), 1, "x"][rng.integers(5)]
    if rng.random() < 0.02 and arguments:
        arguments.pop(int(rng.integers(len(arguments))))


def make(number: int) -> Call:
    """The call with this number."""
    rng = np.random.default_rng(number)
    if rng.random() < 0.08:
        return public(rng)
    function, arguments = RAW[rng.integers(len(RAW))](rng)
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        spoil_one(rng, arguments) if arguments else None
    return function, arguments


def call(number: int) -> str:
    """Make the call; '' for a result or a clear error, else what is wrong."""
    function, arguments = make(number)
    try:
        function(*arguments)
    except CLEAR:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


# ---- processes ---------------------------------------------------------------------------------------------------


def child(first: int, n: int) -> None:
    """Make n calls, telling each number before it; what is wrong follows it."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for number in range(first, first + n):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        if wrong := call(number):
            sys.stdout.write(f"wrong {' '.join(wrong.split())}\n")
    sys.stdout.write("done\n")


def watched(first: int, n: int, patience: float = PATIENCE) -> tuple[int, list[str]]:
    """Calls first .. first + n in a child process: the first that was not made, and the findings."""
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--child", str(first), str(n)]
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parent.parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    number, findings, hung, timer = first - 1, [], False, None

    def give_up() -> None:
        nonlocal hung
        hung = True
        process.kill()

    for line in process.stdout:
        if timer:
            timer.cancel()
        if line.startswith("wrong"):
            findings.append(f"call {number}: {line[6:].strip()}")
        elif line.strip() == "done":
            number += 1
        else:
            number = int(line)
        timer = threading.Timer(patience, give_up)
        timer.start()
    if timer:
        timer.cancel()
    process.stdout.close()
    code = process.wait()
    if hung:
        return number + 1, [*findings, f"call {number}: hangs"]
    if code:
        return number + 1, [*findings, f"call {number}: ends the process ({code})"]
    return number, findings


def fuzz(first: int, n: int, patience: float = PATIENCE, tell: Callable[[str], object] = print) -> list[str]:
    """Make n calls from the given number on, in as many children as it takes."""
    at, findings = first, []
    while at < first + n:
        at, found = watched(at, min(A_CHILD, first + n - at), patience)
        findings += found
        for line in found:
            tell(line)
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first call")
    parser.add_argument("--only", type=int, help="make this call alone, here")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return 0
    if arguments.only is not None:
        print(call(arguments.only) or "a result, or a clear error")
        return 0
    findings = fuzz(arguments.seed, arguments.calls)
    print(f"{arguments.calls} calls, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

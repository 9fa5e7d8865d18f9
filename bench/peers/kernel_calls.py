"""Every kernel on problems of some size, as calls that any version of the core answers: what two versions are timed on.

Each function yields the name of a problem, and what makes a call of it with a core.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import random_array

from saffu import _core

Call = Callable[[], Any]
Problem = tuple[str, Callable[[ModuleType], Call]]
N_TYPES = 20_000
FIRST = np.zeros(1, np.int64)  # one document
DISCOUNTS = np.array([0.5, 0.6, 0.7])
REALS = (np.float32, np.float64)


def core_of(path: str) -> ModuleType:
    """The compiled module of another version."""
    loader = importlib.machinery.ExtensionFileLoader("saffu._core", path)
    spec = importlib.util.spec_from_loader("saffu._core", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def zipf_ids(n: int, exponent: float = 1.3, n_types: int = N_TYPES) -> NDArray[np.int32]:
    """A text of so many tokens."""
    return (np.random.default_rng(0).zipf(exponent, n) % n_types).astype(np.int32)


def pairs(n: int) -> tuple[NDArray, NDArray, NDArray]:
    """Counts of its neighbours: indptr, indices, counts."""
    ids = zipf_ids(n)
    indptr, indices, counts = _core.count(ids, ids, np.array([1]), FIRST, N_TYPES, N_TYPES, 1)
    return indptr, indices, counts


def counting() -> Iterator[Problem]:
    """Pairs, and looking them up."""
    zipf = zipf_ids(2_000_000)
    flat = np.random.default_rng(0).integers(0, N_TYPES, 1_000_000).astype(np.int32)
    wide = np.random.default_rng(5).integers(0, 50_000, zipf.size).astype(np.int32)
    near, far = np.array([1]), np.arange(1, 11)
    for name, contexts, targets, distances, n_rows in (
        ("Zipf, 1 distance", zipf, zipf, near, N_TYPES),
        ("Zipf, 10 distances", zipf, zipf, far, N_TYPES),
        ("uniform, 1 distance", flat, flat, near, N_TYPES),
        ("uniform, 10 distances", flat, flat, far, N_TYPES),
        ("other contexts, 1 distance", wide, zipf, near, 50_000),
    ):
        yield (
            f"count, {name}",
            lambda core, a=contexts, b=targets, d=distances, n=n_rows: (
                lambda: core.count(a, b, d, FIRST, n, N_TYPES, 1)
            ),
        )
    indptr, indices, counts = pairs(2_000_000)
    rows, words, lower = zipf[:500_000].copy(), zipf[1:500_001].copy(), np.full(N_TYPES, 1 / N_TYPES)
    u = _core.weigh(indptr, counts, indices.astype(np.int32), lower, DISCOUNTS, 1)[2]
    yield "find", lambda core: lambda: core.find(indptr, indices, rows, words, 1)
    yield "weigh", lambda core: lambda: core.weigh(indptr, counts, indices.astype(np.int32), lower, DISCOUNTS, 1)
    yield "pack", lambda core: lambda: core.pack(indptr, indices, u, 1)


def softmax() -> Iterator[Problem]:
    """Softmax, its losses and their gradients; Adam."""
    rng = np.random.default_rng(0)
    for real in REALS:
        X, y = rng.normal(size=(2000, 1000)).astype(real), rng.integers(0, 1000, 2000).astype(np.int32)
        few, few_y = rng.normal(size=(20_000, 10)).astype(real), rng.integers(0, 10, 20_000).astype(np.int32)
        P, flat, name = _core.softmax(X, False, 1), X.ravel(), np.dtype(real).name
        words, begins = rng.permutation(1000).astype(np.int32), np.append(np.arange(0, 1000, 7), 1000)
        sums, state = np.empty((2000, begins.size - 1), real), [np.ones(1_000_000, real) for _ in range(4)]
        scratch = X.copy()
        for what, call in {
            "softmax": lambda core, X=X: lambda: core.softmax(X, False, 1),
            "softmax of 10": lambda core, X=few: lambda: core.softmax(X, False, 1),
            "log softmax": lambda core, X=X: lambda: core.softmax(X, True, 1),
            "logsumexp": lambda core, X=X: lambda: core.logsumexp(X, 1),
            "cross_entropy_labels": lambda core, X=X, y=y: lambda: core.cross_entropy_labels(X, y, 1),
            "cross_entropy_labels of 10": lambda core, X=few, y=few_y: lambda: core.cross_entropy_labels(X, y, 1),
            "cross_entropy_soft": lambda core, X=X, P=P: lambda: core.cross_entropy_soft(X, P, 1),
            "cross_entropy_backward": lambda core, X=scratch, y=y: lambda: core.cross_entropy_backward(X, y, None, 1),
            "softmax_backward": lambda core, P=P, X=scratch: lambda: core.softmax_backward(P, X, 1),
            "log_sums": lambda core, X=X, w=words, b=begins, Z=sums: lambda: core.log_sums(X, w, b, Z, 1),
            "exp": lambda core, x=flat: lambda: core.exp(x, 1),
            "lowest": lambda core, x=flat: lambda: core.lowest(x, 1),
            "adam": lambda core, s=state: lambda: core.adam(*s, 0.1, 0.9, 0.999, 1e-8, 3, 1),
        }.items():
            yield f"{what}, {name}", call


def classifiers() -> Iterator[Problem]:
    """Log weights, leave-one-out scores, moments and products."""
    rng = np.random.default_rng(0)
    for real in REALS:
        for shape in ((10_000, 256), (256, 10_000), (784, 10), (200_000, 10), (10, 200_000)):
            F = rng.random(shape).astype(real)
            for by_class in (True, False):
                name = f"log_weights {shape[0]:,} x {shape[1]:,}, by {'class' if by_class else 'feature'}"
                yield (
                    f"{name}, {np.dtype(real).name}",
                    lambda core, F=F, by=by_class: lambda: core.log_weights(F, by, 0.1, 0.9, 1),
                )
    H, y = rng.random((60_000, 784), np.float32), rng.integers(0, 10, 60_000).astype(np.int32)
    F, mass = np.zeros((10, 784)), np.zeros(10)
    yield "moments_labels 60,000 x 784 x 10", lambda core: lambda: core.moments_labels(H, y, None, F, mass, False, 1)
    Y, soft, soft_mass = rng.random((20_000, 40)), np.zeros((40, 784)), np.zeros(40)
    yield (
        "moments_soft 20,000 x 784 x 40",
        lambda core: lambda: core.moments_soft(H[:20_000], Y, None, soft, soft_mass, False, 1),
    )
    many, many_y = rng.random((300_000, 256), np.float32), rng.integers(0, 10_000, 300_000).astype(np.int32)
    sums, masses = np.zeros((10_000, 256)), np.zeros(10_000)
    yield (
        "moments_labels 300,000 x 256 x 10,000",
        lambda core: lambda: core.moments_labels(many, many_y, None, sums, masses, False, 1),
    )
    units, rows = rng.random((4000, 300)), rng.permutation(4000).astype(np.int32)
    counts, classes = 4000 * np.abs(rng.normal(size=(10, 300))), rng.integers(0, 10, 4000).astype(np.int32)
    left = (units, rows, classes, np.ones(4000), counts, counts.sum(1), 0.1, 1)
    yield "leave_one_out", lambda core: lambda: core.leave_one_out(*left)
    X = random_array((6000, 784), density=0.19, format="csr", dtype=np.float32, rng=1)
    csr = X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data
    labels, Z = y[:6000].copy(), rng.random((6000, 10))
    yield "moments_csr_labels", lambda core: lambda: core.moments_csr_labels(*csr, labels, None, F, mass, False, 1)
    yield "moments_csr_soft", lambda core: lambda: core.moments_csr_soft(*csr, Z, None, F, mass, False, 1)
    dense = X.toarray()
    yield "compress", lambda core: lambda: core.compress(dense, 1)
    for n in (10, 30, 64, 300):
        W, out = rng.random((784, n), np.float32), np.zeros((6000, n))
        yield f"product, {n} columns", lambda core, W=W: lambda: core.product(*csr, W, None, 1)
        yield f"product_double, {n} columns", lambda core, W=W, o=out: lambda: core.product_double(*csr, W, o, 1)


def attention() -> Iterator[Problem]:
    """Self-attentive units, mixtures of outputs, comparison of all vectors."""
    rng = np.random.default_rng(0)
    n, ids = 4096, zipf_ids(4096 + 64, 1.2, 4000)
    first = np.arange(64, 64 + n, dtype=np.int64) - 1
    for real in REALS:
        name = np.dtype(real).name
        for K in (8, 32):
            for d in (64, 256):
                X, W, b = rng.random((4000, d)).astype(real), rng.random((K, K)).astype(real), np.zeros(K, real)
                where = (ids, first, np.full(n, K, np.int32), first.copy(), -1, K)
                Z, A, S = _core.attend(_core.View(*where), X, None, W, b, None, 1)
                given = (where, X, W, b, S, A, Z.copy(), np.zeros_like(X))
                for what, kernel in {"": forward, "_backward": backward, "_backward with dX": backward_to_X}.items():
                    problem = lambda core, kernel=kernel, given=given: kernel(core, *given)  # noqa: E731
                    yield f"attend{what}, {K} x {d}, {name}", problem
        X, T = rng.normal(size=(n, 64)).astype(real), rng.normal(size=(500, 64)).astype(real)
        y, scale = rng.integers(0, 500, n).astype(np.int32), np.ones(n)
        yield f"mixture, {name}", lambda core, X=X, T=T, y=y: lambda: core.mixture(X, T, y, 1)
        yield (
            f"mixture_backward, {name}",
            lambda core, X=X, T=T, y=y, s=scale: lambda: core.mixture_backward(X.copy(), T, y, s, 1),
        )
    X = rng.random((1500, 64), np.float32)
    yield "compare_all", lambda core: lambda: core.compare_all(X, 1)


def forward(core: ModuleType, where: Any, X: Any, W: Any, b: Any, *_: Any) -> Call:
    """Calls of attend."""
    view = core.View(*where)
    return lambda: core.attend(view, X, None, W, b, None, 1)


def backward(core: ModuleType, where: Any, X: Any, W: Any, b: Any, S: Any, A: Any, dZ: Any, dX: Any) -> Call:
    """Calls of its gradient without that of the vectors."""
    view = core.View(*where)
    return lambda: core.attend_backward(view, X, W, S, A, dZ, False, None, 1)


def backward_to_X(core: ModuleType, where: Any, X: Any, W: Any, b: Any, S: Any, A: Any, dZ: Any, dX: Any) -> Call:
    """Calls of the whole gradient."""
    view = core.View(*where)
    return lambda: core.attend_backward(view, X, W, S, A, dZ, False, dX, 1)


def pools() -> Iterator[Problem]:
    """The pool of contexts: scores, derivatives and distributions, without and with windows."""
    for windows in ((), (100, 1000)):
        for verb in ("log_prob", "Hessian", "gradient", "distribution", "logits float64", "logits float32"):
            problem = lambda core, windows=windows, verb=verb: call_of_pool(core, windows, verb)  # noqa: E731
            yield f"pool, {len(windows)} windows: {verb}", problem


def call_of_pool(core: ModuleType, windows: tuple[int, ...], verb: str) -> Call:
    """Calls of one verb of a pool of two contexts."""
    rng = np.random.default_rng(0)
    ids, n = zipf_ids(500_000), 3000
    indptr, indices, counts = pairs(500_000)
    unigram = np.bincount(ids, minlength=N_TYPES) + 0.5
    unigram /= unigram.sum()
    u = core.weigh(indptr, counts, indices.astype(np.int32), unigram, DISCOUNTS, 1)[2]
    log_p = np.zeros((2, -(-N_TYPES // 16) * 16))
    log_p[:, :N_TYPES] = np.log(unigram)
    positions = np.arange(2000, 2000 + n)
    rows = np.stack([ids[positions - 1], ids[positions - 2]], 1).astype(np.int32)
    states, previous = rng.integers(0, 3, n).astype(np.int32), previous_occurrences(ids, 6000)
    theta = np.tile(np.array([1.0, 0.1, 0.6, 0.3, *[0.2] * len(windows), 0.2]), (3, 1))
    masses = np.full(len(windows), 50.0)
    packed, sizes = core.pack(indptr, indices, u, 1), np.array(windows, np.int64)
    pool = core.Pool(packed, log_p, unigram, theta, 2, sizes, masses, 500, 100.0)
    target = np.abs(rng.normal(size=(n, 2)))
    whole = core.Batch(ids, positions, np.zeros(n, np.int64), rows, states, target, previous)
    part = core.Batch(ids, positions[:300], np.zeros(300, np.int64), rows[:300], states[:300], None, previous)
    out = np.empty((300, N_TYPES), np.float32 if verb.endswith("32") else np.float64)
    return {
        "log_prob": lambda: pool.log_prob(whole, 1),
        "Hessian": lambda: pool.derivatives(whole, True, 1),
        "gradient": lambda: pool.derivatives(whole, False, 1),
        "distribution": lambda: pool.distribution(part, 1),
    }.get(verb, lambda: pool.logits(part, out, 1))


def previous_occurrences(ids: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Where each of the first n tokens occurred before it, or -1."""
    previous = np.full(ids.size, -1, np.int32)
    last: dict[int, int] = {}
    for i, word in enumerate(ids[:n].tolist()):
        previous[i] = last.get(word, -1)
        last[word] = i
    return previous


GROUPS: dict[str, Callable[[], Iterator[Problem]]] = {
    "counting": counting,
    "softmax": softmax,
    "classifiers": classifiers,
    "attention": attention,
    "pools": pools,
}

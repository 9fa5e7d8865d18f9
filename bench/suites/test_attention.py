"""Attention over windows of a stream beside numpy (gather, einsum, BLAS) and torch (gather, bmm), one thread each.

Times are those of the processor. Ratios are medians over rounds in which saffu and its peer take turns, so that both
see the same state of the machine.
"""

import time
from statistics import median

import numpy as np
import pytest

from saffu import _core
from saffu.attention_lm.windows import ComparisonCache, Windows

N, N_TYPES, N_TOKENS, ROUNDS = 4096, 20_000, 1_000_000, 15
LONG_ENOUGH = 0.3  # seconds of rounds: what takes a tenth of a millisecond needs more of them
SHAPES = [(8, 64), (8, 256), (32, 64), (32, 256)]  # K, d

pytestmark = [pytest.mark.benchmark(timer=time.process_time), pytest.mark.usefixtures("one_thread")]


class Problem:
    """Rows of a batch: random positions of a stream whose ids are as frequent as words are (Zipf)."""

    def __init__(self, K, d, n_types=N_TYPES):
        rng = np.random.default_rng(0)
        p = 1 / np.arange(1, n_types + 1)
        ids = rng.choice(n_types, N_TOKENS, p=p / p.sum())
        self.windows = Windows.radial(ids, documents=None, positions=rng.integers(K, N_TOKENS, N), radius=K)
        self.X = rng.random((n_types, d), np.float32)
        self.X /= self.X.sum(1, keepdims=True)
        self.W, self.bias = rng.normal(0, 1, (K, K)).astype(np.float32), rng.normal(0, 1, K).astype(np.float32)
        self.dZ = rng.normal(0, 1, (N, d)).astype(np.float32)
        self.K, self.d = K, d

    def context_ids(self):
        """The ids that each row sees, (N, K)."""
        return self.windows.ids[self.windows.first[:, None] - np.arange(self.K)]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: "K{}-d{}".format(*shape))
def problem(request):
    return Problem(*request.param)


def ratio(mine, peer):
    """Median over rounds of the time of the peer over mine."""
    mine(), peer()
    ratios = []
    began = time.process_time()
    while len(ratios) < ROUNDS or time.process_time() - began < LONG_ENOUGH:
        start = time.process_time()
        mine()
        middle = time.process_time()
        peer()
        ratios.append((time.process_time() - middle) / (middle - start))
    return median(ratios)


def report(benchmark, n_bytes, flops, mine, **peers):
    """Bytes gathered, flops, and how many times as long each peer takes."""
    benchmark.extra_info.update(bytes=n_bytes, flops=flops, threads=1)
    if benchmark.stats:
        seconds = benchmark.stats["median"]
        benchmark.extra_info.update(GB_per_s=n_bytes / seconds / 1e9, GFLOP_per_s=flops / seconds / 1e9)
        benchmark.extra_info.update({f"ratio_to_{name}": ratio(mine, peer) for name, peer in peers.items()})


# ---- forward and backward ------------------------------------------------------------------------------------------


def saffu_pass(p, backward):
    Z, A, S = _core.attend(p.windows.view, p.X, None, p.W, p.bias, None, 1)
    if not backward:
        return (Z,)
    dW, dbias, _ = _core.attend_backward(p.windows.view, p.X, p.W, S, A, p.dZ, False, None, 1)
    return Z, dW, dbias


def numpy_pass(p, backward):
    x = p.X[p.context_ids()]
    S = np.matmul(x, p.X[p.windows.ids[p.windows.head]][:, :, None])[:, :, 0]
    A = S @ p.W + p.bias
    A -= A.max(1, keepdims=True)
    np.exp(A, out=A)
    A /= A.sum(1, keepdims=True)
    Z = np.matmul(A[:, None], x)[:, 0]
    if not backward:
        return (Z,)
    dA = np.matmul(x, p.dZ[:, :, None])[:, :, 0]
    dL = A * (dA - np.einsum("nk,nk->n", A, dA)[:, None])
    return Z, S.T @ dL, dL.sum(0)


def einsum_pass(p, backward):
    x = p.X[p.context_ids()]
    S = np.einsum("nd,nkd->nk", p.X[p.windows.ids[p.windows.head]], x)
    A = S @ p.W + p.bias
    A -= A.max(1, keepdims=True)
    np.exp(A, out=A)
    A /= A.sum(1, keepdims=True)
    Z = np.einsum("nk,nkd->nd", A, x)
    if not backward:
        return (Z,)
    dA = np.einsum("nd,nkd->nk", p.dZ, x)
    dL = A * (dA - np.einsum("nk,nk->n", A, dA)[:, None])
    return Z, S.T @ dL, dL.sum(0)


def torch_pass(p, backward):
    """A function of no arguments: the tensors share the memory of the arrays."""
    torch = pytest.importorskip("torch")
    X, W, bias, dZ = (torch.from_numpy(array) for array in (p.X, p.W.copy(), p.bias.copy(), p.dZ))
    context = torch.from_numpy(p.context_ids())
    heads = torch.from_numpy(p.windows.ids[p.windows.head])
    W.requires_grad_(backward)
    bias.requires_grad_(backward)

    def run():
        x = X[context]
        S = torch.bmm(x, X[heads][:, :, None])[:, :, 0]
        Z = torch.bmm(torch.softmax(torch.addmm(bias, S, W), 1)[:, None], x)[:, 0]
        if not backward:
            return (Z.numpy(),)
        dW, dbias = torch.autograd.grad(Z, [W, bias], dZ)
        return Z.detach().numpy(), dW.numpy(), dbias.numpy()

    return run


def torch_on_one_thread(run):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both"])
def test_attend(benchmark, problem, backward):
    """Against both ways of numpy and torch; the results agree."""
    p, torch_run = problem, torch_pass(problem, backward)
    peers = {
        "numpy": lambda: numpy_pass(p, backward),
        "einsum": lambda: einsum_pass(p, backward),
        "torch": lambda: torch_on_one_thread(torch_run),
    }
    ours = benchmark.pedantic(saffu_pass, args=(p, backward), rounds=ROUNDS, warmup_rounds=1)
    gathered = 4 * N * (p.K + 1) * p.d * (1 + backward)
    flops = N * (4 * p.K * p.d + 2 * p.K**2 + backward * (2 * p.K * p.d + 2 * p.K**2))
    report(benchmark, gathered, flops, lambda: saffu_pass(p, backward), **peers)
    for peer in peers.values():
        for a, b in zip(ours, peer(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_thawed(benchmark, problem):
    """Backward with the gradient by the embeddings."""
    p, dX = problem, np.zeros_like(problem.X)
    _, A, S = _core.attend(p.windows.view, p.X, None, p.W, p.bias, None, 1)

    def run():
        return _core.attend_backward(p.windows.view, p.X, p.W, S, A, p.dZ, False, dX, 1)

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    report(benchmark, 4 * N * 4 * p.K * p.d, N * (8 * p.K * p.d + 4 * p.K**2), run)
    assert np.abs(dX).sum() > 0


# ---- comparisons ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "n_types"),
    [(shape, 4000) for shape in SHAPES] + [(shape, N_TYPES) for shape in SHAPES if shape[1] == 256],
    ids=lambda value: "K{}-d{}".format(*value) if isinstance(value, tuple) else "all" if value == 4000 else "frequent",
)
def test_cached_comparisons(benchmark, shape, n_types):
    """From a table of all types, or in 64 MB of the most frequent if embeddings are wide, beside the same computed."""
    p = Problem(*shape, n_types)
    cache = ComparisonCache(p.X, n_threads=1)
    cached = lambda: _core.comparisons(p.windows.view, p.X, cache.table_of(p.X), 1)  # noqa: E731
    computed = lambda: _core.comparisons(p.windows.view, p.X, None, 1)  # noqa: E731
    S = benchmark.pedantic(cached, rounds=ROUNDS, warmup_rounds=1)
    report(benchmark, 4 * N * p.K, 0, cached, computed=computed)
    n = len(cache.table)
    known = (p.context_ids() < n) & (p.windows.ids[p.windows.head] < n)[:, None]
    benchmark.extra_info.update(cached_types=n, cached_pairs=float(known.mean()))
    np.testing.assert_array_equal(S, computed())


def test_filling_the_cache(benchmark, problem):
    """The table of 64 MB beside BLAS."""
    X = problem.X[:4096]
    cache = benchmark.pedantic(
        ComparisonCache, args=(X,), kwargs={"max_bytes": 1 << 26, "n_threads": 1}, rounds=3, warmup_rounds=1
    )
    n = len(cache.table)
    report(benchmark, 4 * n**2, n**2 * problem.d, lambda: cache.refresh(X), blas=lambda: X[:n] @ X[:n].T)
    np.testing.assert_allclose(cache.table, X[:n] @ X[:n].T, rtol=1e-4)

"""What was made before a fork works after it, and does not hang: whatever number of threads it was made with."""

import functools
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import saffu
from helpers.attention import comparisons as compared
from saffu import _core
from saffu.attention_lm import windows as attention
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.utils.threads import Workers, resolve_threads

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

PATIENCE = 60  # seconds for a child on a busy machine; what hangs, hangs for ever
RNG = np.random.default_rng(0)
IDS = np.minimum(RNG.geometric(0.02, 8000) - 1, 199)
X, Y = RNG.poisson(1.0, (3000, 40)).astype(float), RNG.integers(0, 3, 3000)


def same_in_a_child(use, by="fork"):
    """``use()`` here, then in a forked child, which must find the same bits in time."""
    expected = np.asarray(use())
    if by == "multiprocessing":
        context = multiprocessing.get_context("fork")
        received, sent = context.Pipe(duplex=False)
        child = context.Process(target=lambda: sent.send(np.asarray(use())), daemon=True)
        child.start()
        found = received.recv() if received.poll(PATIENCE) else None
        child.kill()
        child.join()
        assert found is not None, "the child hangs"
        np.testing.assert_array_equal(found, expected)
        return
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if np.array_equal(np.asarray(use()), expected) else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def explicit_text():
    text = explicit_lm().read(IDS)
    return {"log_prob": lambda: text.log_prob(), "logits": lambda: text.logits(np.arange(600))}


@functools.cache
def explicit_lm():
    return saffu.ExplicitLM(order=3, radius=2, windows=(20,), priming="unit", n_threads=2).fit(IDS)


def held_out():
    found = HeldOutLogits(explicit_lm(), IDS, folds=3, n_threads=2)
    places = found.positions(1)[:600]
    return {"logits": lambda: found.logits(1, places)}


def layer():
    model = saffu.SoftmaxLayer(n_threads=2).fit(X, Y)
    return {"fit": lambda: saffu.SoftmaxLayer(n_threads=2).fit(X, Y).weights, "predict": lambda: model.predict_proba(X)}


def network():
    model = saffu.ExplicitNetwork((20,), n_threads=2).fit(X, Y, progress=False)
    return {"predict": lambda: model.predict_proba(X)}


def saffu_lm():
    model = saffu.SaffuLM(bits=8, hidden=6, block=4, radius=3, span=64, n_threads=2).fit(IDS, progress=False)
    return {"log_prob": lambda: model.log_prob(IDS[:2000])}


def transformer():
    model = saffu.Transformer(200, hidden=16, layers=1, positions=16, n_threads=2)
    return {"log_prob": lambda: model.log_prob(IDS[:2000])}


def comparisons():
    windows = attention.Windows(IDS, np.arange(2000), np.full(2000, 8), np.arange(2000))
    vectors = RNG.normal(size=(200, 16)).astype(np.float32)
    cache = attention.ComparisonCache(vectors, n_threads=2)
    return {"read": lambda: compared(windows, vectors, cache, 2)}


@pytest.mark.parametrize("make", [explicit_text, held_out, layer, network, saffu_lm, transformer, comparisons])
def test_objects_made_before_a_fork_work_after_it(make):
    for use in make().values():
        same_in_a_child(use)


def test_a_text_in_a_process_of_multiprocessing():
    for use in explicit_text().values():
        same_in_a_child(use, "multiprocessing")


def test_a_text_in_a_worker_of_a_data_loader():
    data = pytest.importorskip("torch.utils.data")
    text = explicit_lm().read(IDS)
    expected = text.log_prob()

    class Texts(data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return text.log_prob()[i]

    loader = data.DataLoader(Texts(), num_workers=2, multiprocessing_context="fork", timeout=PATIENCE)
    found = [float(value) for value in loader]
    np.testing.assert_array_equal(found, expected[:4])


@pytest.mark.kernels
def test_numbers_resolved_before_a_fork_are_lowered_where_a_kernel_is_called():
    resolved, x = resolve_threads(2), np.linspace(-1, 1, 100_000)
    same_in_a_child(lambda: _core.exp(x, resolved))
    child = os.fork()
    if child == 0:
        os._exit(0 if _core.threads(resolved) == _core.threads(7) == resolve_threads(2) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_of_a_child():
    x = np.linspace(-1, 1, 100_000)
    expected = _core.exp(x, 2)

    def nested():
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(_core.exp(x, 2), expected) else 1)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    same_in_a_child(nested)


def test_workers_of_the_parent_are_not_waited_for():
    workers = Workers(3)
    assert workers.n_threads == 3
    assert workers.map(lambda i: i * i, range(50)) == [i * i for i in range(50)]
    assert isinstance(workers._pool, ThreadPoolExecutor)
    same_in_a_child(lambda: workers.map(lambda i: i * i, range(50)))

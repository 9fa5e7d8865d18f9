"""Signals are handled while a kernel works, and cutting its work into blocks for that changes no bit."""

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import saffu
from helpers import fuzz
from saffu import _core

pytestmark = pytest.mark.kernels

LONG_CALLS = """
import signal, sys, time
import numpy as np
import saffu
from saffu import _core

I32, I64 = np.int32, np.int64
rng = np.random.default_rng(0)


def one_long_row():
    ids, distances = np.zeros(20_000_000, I32), np.arange(1, 101)
    return lambda: saffu.cooccurrence(ids, distances, vocab_size=1, n_threads=1)


def many_rows():
    ids, distances = rng.integers(0, 3000, 4_000_000).astype(I32), np.arange(1, 301)
    return lambda: saffu.cooccurrence(ids, distances, vocab_size=3000, n_threads=1)


def sparse(n, d, entries):
    return np.arange(n + 1) * entries, rng.integers(0, d, n * entries).astype(I32), np.ones(n * entries, np.float32)


def product():
    H, B = sparse(30_000, 500, 200), rng.random((500, 1000)).astype(np.float32)
    out = np.empty((30_000, 1000), np.float32)
    return lambda: [_core.product(*H, B, None, 1, out) for _ in range(3)]


def compare_all():
    X = rng.random((4000, 6000)).astype(np.float32)
    return lambda: _core.compare_all(X, 1)


def windows(n):
    ids, K = np.zeros(n + 100, I32), 100
    view = _core.View(ids, np.arange(n), np.full(n, K, I32), np.arange(n), 1, K)
    return view, rng.random((1, 300)), rng.random((K, K))


def attend():
    view, X, W = windows(60_000)
    return lambda: _core.attend(view, X, None, W, None, None, 1)


def attend_backward():
    view, X, W = windows(40_000)
    Z, A, S = _core.attend(view, X, None, W, None, None, 1)
    return lambda: _core.attend_backward(view, X, W, S, A, Z, True, np.zeros_like(X), 1)


def moments():
    H, Y, F, mass = rng.random((20_000, 500)), rng.random((20_000, 1000)), np.zeros((1000, 500)), np.zeros(1000)
    return lambda: _core.moments_soft(H, Y, None, F, mass, False, 1)


def sparse_moments():
    H, Y, F, mass = sparse(20_000, 500, 100), rng.random((20_000, 1000)), np.zeros((1000, 500)), np.zeros(1000)
    return lambda: [_core.moments_csr_soft(*H, Y, None, F, mass, False, 1) for _ in range(3)]


def leave_one_out():
    H, n = rng.random((100, 2000)), 400_000
    rows = np.zeros(n, I32)
    return lambda: _core.leave_one_out(H, rows, rows, np.zeros(n), np.ones((1, 2000)), np.ones(1), 0.1, 1)


def pool():
    V, n = 20_000, 60_000
    packed = _core.pack(np.array([0, V]), np.arange(V, dtype=I32), np.ones(V), 1)
    prior, share = np.full((2, V), -np.log(V)), np.full(V, 1 / V)
    model = _core.Pool(packed, prior, share, np.ones((1, 4)), 1, np.zeros(0, I64), np.zeros(0), 0, 2.0)
    none = np.zeros(n, I32)
    batch = _core.Batch(none, np.arange(n), np.arange(n), none[:, None], none, np.ones((n, 1)), none - 1)
    return lambda: model.log_prob(batch, 1)


class Stop(Exception):
    pass


def stop(*_):
    raise Stop


signal.signal(signal.SIGPROF, stop)  # after so much time of the processor, whatever else the machine does
for name in sys.argv[1:]:
    use = globals()[name]()
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 0.1)
    try:
        use()
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(name, "ended before it")
    except Stop:
        print(name, time.process_time() - began - 0.1)
"""
NAMES = [
    "one_long_row",
    "many_rows",
    "product",
    "compare_all",
    "attend",
    "attend_backward",
    "moments",
    "sparse_moments",
    "leave_one_out",
    "pool",
]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers")
@pytest.mark.parametrize("name", NAMES)
def test_a_signal_arrives_while_a_kernel_works(name):
    env = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parent.parent)}
    command = [sys.executable, "-P", "-c", LONG_CALLS, name]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    delay = done.stdout.split(maxsplit=1)[1].strip()
    assert delay != "ended before it"
    assert float(delay) < 1.0, "seconds late"


def arrays_of(value):
    """Every array of a result, and of arguments that a call may have written to."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, (list, tuple, _core.Packed)):
        return [array for part in value for array in arrays_of(part)]
    return []


@pytest.mark.parametrize("make", dict.fromkeys(fuzz.RAW))
def test_blocks_change_no_bit(make):
    for number in range(12):
        function, arguments = make(np.random.default_rng(number))
        found = []
        before = _core._first_block(1 << 24)
        try:
            for steps in (1 << 24, 1, 300):
                _core._first_block(steps)
                with np.errstate(all="ignore"):
                    try:
                        own = copy.deepcopy(arguments) if function not in fuzz.OBJECTS else arguments
                        found.append([*arrays_of(function(*own)), *arrays_of(own)])
                    except fuzz.CLEAR as error:  # of random arguments that do not fit
                        found.append([np.array(str(error))])
        finally:
            _core._first_block(before)
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(a, b)

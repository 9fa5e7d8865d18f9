"""The attention kernels on windows and embeddings, in the arguments of their equations."""

import numpy as np

from saffu import _core
from saffu.utils.threads import resolve_threads


def aligned(X):
    """A copy of an array that begins on a boundary of 64 bytes."""
    memory = np.empty(X.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + X.nbytes].view(X.dtype).reshape(X.shape)
    copy[...] = X
    return copy


def comparisons(windows, X, cache=None, n_threads=None):
    """Comparisons ``s_k = x_head . x_k`` of each window."""
    return _core.comparisons(windows.view, X, _table(cache, X), resolve_threads(n_threads))


def attend(windows, X, W, bias=None, cache=None, n_threads=None, comparisons=None):
    """``z = sum_k a_k x_k``, ``a = softmax(s W + bias)`` and s of each window."""
    table = _table(cache, X)
    Z, A, S = _core.attend(windows.view, X, table, W, bias, comparisons, resolve_threads(n_threads))
    return Z, A, comparisons if S is None else S


def attend_backward(windows, X, W, dZ, A, S, dX=None, n_threads=None):
    """Gradients by W, by the bias and, if dX is given, which the one by X is added to, by the comparisons."""
    return _core.attend_backward(windows.view, X, W, S, A, dZ, False, dX, resolve_threads(n_threads))


def _table(cache, X):
    return None if cache is None else cache.table_of(X)

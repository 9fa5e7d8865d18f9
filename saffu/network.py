"""ExplicitNetwork: hidden softmax layers solved by counting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from saffu import _core, _validate
from saffu._threads import resolve_threads
from saffu.explicit import Evaluation, newton
from saffu.layer import distinct, numbers_of
from saffu.sparse import SparseRows
from saffu.subclasses import Counts, Rows, SubClasses, shared_out

FOLDS = 5
SAMPLE_ROWS = 20_000
SAMPLE_VALUES = 1 << 25

def mixture_loss(ll, log_share, log_output, targets):
    M, H = ll.shape
    def evaluate(theta, derivatives):
        s, a, lam = theta
        B = _core.softmax(np.ascontiguousarray(lam * log_output), False, 1)
        mean_B = (B * log_output).sum(1, keepdims=True)
        B1 = B * (log_output - mean_B)
        value = 0.0; g = np.zeros(3); Hs = np.zeros((3, 3))
        for i in range(0, M, 2048):
            x = ll[i:i+2048].astype(np.float64)
            y = targets[i:i+2048]
            h = _core.softmax(s * x + a * log_share, False, 2)
            p = h @ B
            r = np.arange(len(y))
            py = np.maximum(p[r, y], 1e-300)
            value -= np.log(py).sum()
            if derivatives:
                hs = h * (x - (h * x).sum(1, keepdims=True))
                ha = h * (log_share - (h @ log_share)[:, None])
                T = np.stack([hs @ B, ha @ B, h @ B1])
                g -= (T[:, r, y] / py).sum(1)
                D = T / np.sqrt(np.maximum(p, 1e-300))
                Hs += np.einsum('imn,jmn->ij', D, D)
        return value / M, g / M, Hs / M
    return evaluate

class ExplicitNetwork:
    def __init__(self, hidden=(300,), rounds=12, complement=True, priming="primed", smoothing=0.1, shrinkage=1.0, seed=0, n_threads=None, em=2.0, emph=True):
        self.__dict__.update(hidden=hidden, rounds=rounds, complement=complement, smoothing=smoothing, shrinkage=shrinkage, seed=seed, n_threads=n_threads, em=em, emph=emph)
    def fit(self, X, y):
        import time
        t0=time.time()
        t = resolve_threads(self.n_threads)
        X = _validate.features(X, "X")
        _validate.counts_like(X, "X", t)
        labels = _validate.labels(y, "y", X.shape[0])
        self.classes_ = distinct(labels); targets = numbers_of(labels, self.classes_)
        A = SparseRows.of(X, t); N = self.classes_.size
        self.layers = []
        rng = np.random.default_rng(self.seed)
        for depth, n_units in enumerate(self.hidden):
            comp = self.complement and depth == 0
            rows = Rows(A, targets, N)
            W, b, O, sub = self._solve_layer(rows, N, n_units, comp, rng, t)
            self.layers.append((W.astype(A.dtype), b.astype(A.dtype)))
            self.output = O
            if depth + 1 < len(self.hidden):
                h = np.concatenate([q for _, q in A.activations(*self.layers[-1])])
                h[h < 1e-4] = 0
                A = SparseRows.of(h, t)
        self.time = time.time()-t0
        return self
    def _solve_layer(self, rows, N, n_units, comp, rng, t):
        A = rows.features; sizes = np.diff(rows.starts)
        ceiling = None
        if comp:
            ceiling = A.ceiling()
            ceiling[ceiling == 0] = 1
        dt = A.dtype
        cls = SubClasses(np.arange(N + 1), ceiling, self.shrinkage, self.smoothing, t)
        c = Counts.zeros(A.n_columns, N)
        cls.count(rows, ((i, np.ones((sizes[i], 1), dt)) for i in range(N)), None, c)
        def share_of(sub, counts): return sub.log_share(counts, False)
        theta1 = self._prime(cls, c, rows, [np.ones((n, 1), dt) for n in sizes], None, t)
        s_em = self.em * theta1[0]
        blocks = shared_out(n_units, sizes)
        sub = SubClasses(blocks, ceiling, self.shrinkage, self.smoothing, t)
        def random(i):
            K = blocks[i+1]-blocks[i]
            r = np.zeros((sizes[i], K), dt); r[np.arange(sizes[i]), rng.permutation(sizes[i]) % K] = 1
            return r
        counts = Counts.zeros(A.n_columns, n_units)
        sub.count(rows, ((i, random(i)) for i in range(N)), None, counts)
        emphasis = None
        for r in range(self.rounds):
            W, b = sub.weigh(counts)
            if self.emph and r >= self.rounds // 2:
                emphasis = sub.emphasis(rows, (theta1[0]*W).astype(dt), (theta1[0]*b + sub.log_share(counts, False)).astype(dt))
            we, be = (s_em*W).astype(dt), (s_em*b + sub.log_share(counts, True)).astype(dt)
            counts = Counts.zeros(A.n_columns, n_units)
            post = []
            def keep():
                for i, q in sub.responsibilities(rows, we, be):
                    post.append(q); yield i, q
            sub.count(rows, keep(), emphasis, counts)
        theta = self._prime(sub, counts, rows, post, emphasis, t, output=True)
        self.theta = theta1, theta
        W, b = sub.weigh(counts)
        W = theta[0]*W; b = theta[0]*b + theta[1]*sub.log_share(counts, False)
        Fo = self.Fo
        return W, b, theta[2]*self.log_out, sub
    def _prime(self, sub, counts, rows, post, emphasis, t, output=False):
        A = rows.features; M = len(A); N = rows.starts.size-1; H = sub.n_units
        stride = 1
        while M // stride > SAMPLE_ROWS or (M // stride) * H > SAMPLE_VALUES: stride *= 2
        rank = np.concatenate([np.arange(n) for n in np.diff(rows.starts)]); size = np.diff(rows.starts)[rows.targets]
        fold = rank * FOLDS // size
        take = np.arange(M) % stride == 0
        full_post = post
        lls, tg = [], []
        for f in range(FOLDS):
            idx = np.flatnonzero(take & (fold == f))
            if not idx.size: continue
            y = rows.targets[idx]
            part = Rows(A.take(idx), y, N)
            gone = Counts.zeros(A.n_columns, H)
            def pp():
                for i in range(N):
                    j = idx[y == i] - rows.starts[i]
                    if j.size: yield i, post[i][j]
            sub.count(part, pp(), None if emphasis is None else emphasis[idx], gone)
            left = counts.minus(gone)
            W, b = sub.weigh(left)
            dt = A.dtype
            lls.append(part.features.product(W.astype(dt), b.astype(dt))); tg.append(part.targets)
        ll, y = np.concatenate(lls), np.concatenate(tg)
        ll -= ll.mean(1, keepdims=True)
        ls = sub.log_share(counts, False)
        # output counts
        own = np.eye(N)[sub.owner]
        mode = getattr(self, 'outmode', 'held')
        s0 = 0.1 if not hasattr(self,'s_prev') else self.s_prev
        theta = np.array([s0, 1.0, 1.0])
        pi = np.bincount(y, minlength=N) / y.size
        for it in range(2):
            Fo = np.zeros((H, N))
            h = _core.softmax((theta[0]*ll + theta[1]*ls).astype(A.dtype), False, t)
            for i in range(N): Fo[:, i] = h[y == i].sum(0)
            P = (Fo + own * 1.0 * 0 + self.smoothing * pi) 
            P /= P.sum(1, keepdims=True)
            self.Fo, self.log_out = Fo, np.log(P)
            theta = newton(mixture_loss(ll, ls, self.log_out, y), theta, tolerance=1e-5)
        return theta
    def predict_proba(self, X):
        t = resolve_threads(self.n_threads)
        A = SparseRows.of(_validate.features(X, "X"), t)
        for W, b in self.layers:
            h = np.concatenate([q for _, q in A.activations(W, b)])
            A = None
            last = h
            if len(self.layers) > 1: A = SparseRows.of(h, t)
        return last @ _core.softmax(np.ascontiguousarray(self.output), False, t)

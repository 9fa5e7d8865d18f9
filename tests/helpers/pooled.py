"""Small pooled models and the dense features they stand for, in extended precision."""

import numpy as np

from saffu import _core

Wide = np.longdouble


class Problem:
    """A pool, a batch and the dense features x (n, 2 + n_features, V) that they stand for."""

    def __init__(
        self, rng, vocab_size, n_rows, fullness, scalars, windows, induction, n=7, others=None, dtype=np.float64
    ):
        self.dtype = dtype
        self.n_contexts = len(scalars) - 3 - len(windows)
        self.rows = rng.integers(-1, n_rows, (n, self.n_contexts)).astype(np.int32)
        self.dense = rng.gamma(1.0, 4.0, (n_rows, vocab_size)) * (rng.random((n_rows, vocab_size)) < fullness)
        self.dense[np.arange(vocab_size) >= rng.integers(0, 2 * vocab_size, n_rows)[:, None]] = 0  # rows of any length
        self.theta = np.array([scalars, rng.permutation(scalars) if others is None else others])
        self.ids = rng.integers(0, vocab_size, 40).astype(np.int32)
        self.positions = np.sort(rng.choice(40, n, replace=False)).astype(np.int64)
        self.states = rng.integers(0, 2, n).astype(np.int32)
        self.targets = self.ids[self.positions]
        self.unigram, self.continuation = rng.dirichlet(np.ones(vocab_size), 2) * 0.99 + 0.01 / vocab_size
        self.x = np.zeros((n, self.theta.shape[1], vocab_size), Wide)
        self.x[:, 0], self.x[:, 1] = np.log(self.unigram), np.log(self.continuation)
        for k in range(self.n_contexts):
            self.x[:, 2 + k] = np.where(self.rows[:, k, None] >= 0, self.dense[self.rows[:, k]], 0)
        for m, t in enumerate(self.positions):
            for k, length in enumerate(windows):
                count = np.bincount(self.ids[max(0, t - length) : t], minlength=vocab_size)
                self.x[m, 2 + self.n_contexts + k] = np.log1p(count / (length * self.unigram))
            count = np.zeros(vocab_size)
            for s in range(max(0, t - induction), t - 1):
                count[self.ids[s + 1]] += self.ids[s] == self.ids[t - 1]
            self.x[m, -1] = np.log1p(count / (2.0 * self.unigram))
        self.pool = self.make_pool(self.continuation, windows, induction)
        self.target_u = np.ascontiguousarray(rng.gamma(1.0, 4.0, self.rows.shape))
        self.batch = _core.Batch(
            self.ids, self.positions, np.zeros(n, np.int64), self.rows, self.states, self.target_u, None
        )

    def make_pool(self, continuation, windows, induction, n_threads=1):
        vocab_size = self.unigram.size
        log_prior = np.zeros((2, -(-vocab_size // _core.BLOCK) * _core.BLOCK))
        log_prior[:, :vocab_size] = np.log([self.unigram, continuation])
        row, word = np.nonzero(self.dense)
        indptr = np.searchsorted(row, np.arange(len(self.dense) + 1)).astype(np.int64)
        packed = _core.pack(indptr, word.astype(np.int32), self.dense[row, word].astype(self.dtype), 1)
        lengths = np.array(windows, np.int64)
        contexts = self.unigram, self.theta, self.n_contexts
        return _core.Pool(packed, log_prior, *contexts, lengths, lengths.astype(float), induction, 2.0, n_threads)

    def log_distribution(self, x):
        """log softmax of theta . x, shape (n, V)."""
        z = np.einsum("mk,mkw->mw", self.theta[self.states].astype(Wide), x)
        z -= z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    def left_out(self):
        """The features with the targets' own values in their rows told apart."""
        x, every = self.x.copy(), np.arange(len(self.rows))
        for k in range(self.n_contexts):
            x[every, 2 + k, self.targets] = np.where(self.rows[:, k] >= 0, self.target_u[:, k], 0)
        return x

    def derivatives(self):
        """log_prob, gradient and hessian, summed over the positions of each state."""
        x, every = self.left_out(), np.arange(len(self.rows))
        log_p = self.log_distribution(x)
        p = np.exp(log_p)
        mean = np.einsum("mw,mkw->mk", p, x)
        apart = x - mean[:, :, None]
        first, second = mean - x[every, :, self.targets], np.einsum("mw,mkw,mlw->mkl", p, apart, apart)
        of_state = self.states == np.arange(2)[:, None]
        return (
            log_p[every, self.targets],
            np.array([first[s].sum(0) for s in of_state]),
            np.array([second[s].sum(0) for s in of_state]),
        )

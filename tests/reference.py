"""Naive numpy twins of the kernels, each written as its equation."""

import numpy as np


def count(contexts, targets, distances, documents, n_rows, n_cols):
    """count[c, w] = #{(t, k) : contexts[t] = c, targets[t + k] = w, both in one document}."""
    table = np.zeros((n_rows, n_cols), np.int64)
    ends = [*documents[1:], len(contexts)]
    for start, end in zip(documents, ends, strict=True):
        for k in distances:
            for t in range(start, end - k):
                if contexts[t] >= 0:
                    table[contexts[t], targets[t + k]] += 1
    return table


# ---- moments, dense log weights, softmax -------------------------------------------------------------------------


def moments(H, Y, weights=None):
    """F = H^T Y (N, D) and the mass of each class; Y one-hot or soft."""
    H, Y = np.asarray(H, np.float64), np.asarray(Y, np.float64)
    Y = Y if weights is None else Y * weights[:, None]
    return Y.T @ H, Y.sum(0)


def one_hot(labels, n_classes):
    return np.eye(n_classes)[np.asarray(labels, int)]


def log_weights(F, K, smoothing=0.0):
    """U_ji = log F_ji - ((K - 1) / K) log S_i (D, N), nothing subtracted where S_i = 0."""
    F = np.asarray(F, np.float64) + smoothing
    S = F.sum(0)
    with np.errstate(divide="ignore"):
        return np.log(F) - (1 - 1 / K) * np.where(S > 0, np.log(S), 0.0)


def leave_one_out(H, F, mass, smoothing, y, weights):
    """Log prior and likelihood (M, N) of each row, its own share taken out of its target's counts. F is (N, D)."""
    prior, likelihood = np.empty((len(y), len(F))), np.empty((len(y), len(F)))
    log_prior = np.log((mass + smoothing) / (mass + smoothing).sum())
    for m, h in enumerate(H):
        left, left_mass = F.copy(), mass.copy()
        left[y[m]] = np.maximum(left[y[m]] - weights[m] * h, 0)
        left_mass[y[m]] -= weights[m]
        prior[m] = log_prior + np.log(left_mass + smoothing) - np.log(mass + smoothing)
        likelihood[m] = log_weights(left.T, np.inf, smoothing).T @ h
    return prior, likelihood


def logsumexp(X):
    """log sum exp of each row, -inf for a row of -inf."""
    out = np.full(len(X), -np.inf)
    for m, x in enumerate(np.asarray(X, np.float64)):
        if x.size and x.max() > -np.inf:
            out[m] = x.max() + np.log(np.exp(x - x.max()).sum())
    return out


def log_softmax(X):
    """Uniform for a row of -inf."""
    X, total = np.asarray(X, np.float64), logsumexp(X)
    nothing = total == -np.inf
    out = X - np.where(nothing, 0.0, total)[:, None]
    out[nothing] = -np.log(max(X.shape[1], 1))
    return out

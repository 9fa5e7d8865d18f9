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

"""Made-up rows of features for the tests of classifiers."""

import numpy as np


def problem(n=200, n_features=30, n_classes=4, seed=0, integer=True, alike=0.0):
    rng = np.random.default_rng(seed)
    profile = rng.dirichlet(np.full(n_features, 0.5), n_classes)
    profile = (1 - alike) * profile + alike * profile.mean(axis=0)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    H = np.array([rng.multinomial(20, profile[c]) for c in y], float)
    return (H if integer else H * 0.1 + rng.random(H.shape)), y

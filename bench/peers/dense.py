"""What the dense kernels are measured against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

MOMENT_SHAPES = [(60_000, 784, 10), (1_000_000, 256, 10_000)]  # examples, features, classes
LOG_SHAPES = [(784, 10_000), (20_000, 500)]  # features, classes


def one_hot_product(H: NDArray, y: NDArray, n_classes: int) -> NDArray:
    """Moments by scipy, a sparse one-hot matrix times H; its sums are float32."""
    Y = csr_array((np.ones(y.size, np.float32), y, np.arange(y.size + 1)), shape=(y.size, n_classes))
    return Y.T @ H


def numpy_expression(F: NDArray, K: float) -> NDArray:
    """Log weights as numpy writes them."""
    return np.log(F) - (K - 1) / K * np.log(F.sum(0))

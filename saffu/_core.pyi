"""Signatures of the compiled core; see _core/src/saffu.h for the equations and shapes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

def config() -> dict[str, Any]: ...
def count(
    contexts: Int32,
    targets: Int32,
    distances: Int64,
    documents: Int64,
    n_rows: int,
    n_cols: int,
    n_threads: int,
) -> tuple[Int64, Int32, Int64]: ...
def find(indptr: Int64, indices: Int32, rows: Int32, cols: Int32, n_threads: int) -> Int32: ...

"""Signatures of the compiled core; see _core/src/saffu.h for the equations and shapes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Float64 = NDArray[np.float64]
_Int32 = NDArray[np.int32]
_Int64 = NDArray[np.int64]

def config() -> dict[str, Any]: ...
def count(
    contexts: _Int32,
    targets: _Int32,
    distances: _Int64,
    documents: _Int64,
    n_rows: int,
    n_cols: int,
    n_threads: int,
) -> tuple[_Int64, _Int32, _Int64]: ...
def find(indptr: _Int64, indices: _Int32, rows: _Int32, cols: _Int32, n_threads: int) -> _Int32: ...

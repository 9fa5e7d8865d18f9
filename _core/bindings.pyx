# saffu._core: one def per kernel. No arithmetic here: allocate, release the GIL, call, raise from the status.
# Callers in the package saffu have validated values (ids in range, documents ascending); shapes and dtypes are
# checked again here by the typed memoryviews, so that a wrong call is an exception and never a wild read.
from libc.stdint cimport int32_t, int64_t

import numpy as np

cimport cython

cimport kernels as k


cdef int check(int status) except -1:
    """The one table from status codes to exceptions."""
    if status == k.SAFFU_OK:
        return 0
    if status == k.SAFFU_NO_MEMORY:
        raise MemoryError("a scratch buffer of the compiled core could not be allocated")
    if status == k.SAFFU_OUT_OF_RANGE:
        raise ValueError("an id is out of range")
    if status == k.SAFFU_NOT_A_COUNT:
        raise ValueError("counts must be finite and not negative")
    raise RuntimeError(f"unknown status {status} from the compiled core")


cdef int same_length(Py_ssize_t a, Py_ssize_t b, str names) except -1:
    if a != b:
        raise ValueError(f"{names} must have equal lengths, got {a} and {b}")
    return 0


def config():
    """How the core was built."""
    return {
        "compiler": (<bytes>k.SAFFU_COMPILER).decode(),
        "openmp": bool(k.SAFFU_HAS_OPENMP),
        "simd_variants": ["x86-64-v4", "x86-64-v3", "baseline"] if k.SAFFU_HAS_VARIANTS else ["baseline"],
    }


def max_threads():
    """Threads that OpenMP would use for the calling thread; 1 in a sequential build."""
    return k.saffu_max_threads()


ctypedef fused real:
    float
    double

ctypedef fused real_target:
    float
    double

ctypedef fused index:
    int32_t
    int64_t

include "count.pxi"
include "weigh.pxi"
include "pool.pxi"
include "moments.pxi"
include "product.pxi"
include "softmax.pxi"
include "attend.pxi"
include "adam.pxi"

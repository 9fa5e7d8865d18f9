# saffu._core: one def per kernel. No arithmetic here: allocate, release the GIL, call, raise from the status.
# Callers in the package saffu have validated values (ids in range, documents ascending); shapes and dtypes are
# checked again here by the typed memoryviews, so that a wrong call is an exception and never a wild read.
from libc.stdint cimport int32_t, int64_t

import numpy as np

cimport kernels as k


cdef int check(int status) except -1:
    """The one table from status codes to exceptions."""
    if status == k.SAFFU_OK:
        return 0
    if status == k.SAFFU_NO_MEMORY:
        raise MemoryError("a scratch buffer of the compiled core could not be allocated")
    if status == k.SAFFU_OUT_OF_RANGE:
        raise ValueError("an id is out of range")
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


# ---- count.c -----------------------------------------------------------------------------------------------------


def count(const int32_t[::1] contexts, const int32_t[::1] targets, const int64_t[::1] distances,
          const int64_t[::1] documents, int64_t n_rows, int64_t n_cols, int n_threads):
    """CSR counts (indptr, indices, counts) of the pairs (contexts[t], targets[t + k]), k in distances."""
    cdef int64_t n = contexts.shape[0], n_distances = distances.shape[0], n_documents = documents.shape[0]
    cdef int status
    same_length(n, targets.shape[0], "contexts and targets")
    indptr = np.zeros(n_rows + 1, np.int64)
    if n == 0 or n_rows == 0 or n_distances == 0 or n_documents == 0:
        return indptr, np.empty(0, np.int32), np.empty(0, np.int64)
    row_ptr = np.empty(n_rows + 1, np.int64)
    bucket = np.empty(n, np.int32)
    cdef int64_t[::1] row_ptr_ = row_ptr, indptr_ = indptr
    cdef int32_t[::1] bucket_ = bucket
    with nogil:
        status = k.saffu_bucket(&contexts[0], &targets[0], &distances[0], &documents[0], n, n_distances, n_documents,
                                n_rows, &row_ptr_[0], &bucket_[0], n_threads)
    check(status)
    segment = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.minimum(np.diff(row_ptr) * n_distances, n_cols), out=segment[1:])
    # Room for the worst case; pages that no row writes are never touched, and the rest is given back by resize.
    indices = np.empty(max(segment[n_rows], 1), np.int32)
    counts = np.empty(max(segment[n_rows], 1), np.int64)
    cdef int64_t[::1] segment_ = segment, counts_ = counts
    cdef int32_t[::1] indices_ = indices
    with nogil:
        status = k.saffu_count_rows(&row_ptr_[0], &bucket_[0], &targets[0], &distances[0], &documents[0],
                                    &segment_[0], n, n_distances, n_documents, n_rows, n_cols, &indptr_[0],
                                    &indices_[0], &counts_[0], n_threads)
    check(status)
    counts_ = None
    indices_ = None
    indices.resize(indptr[n_rows], refcheck=False)
    counts.resize(indptr[n_rows], refcheck=False)
    return indptr, indices, counts


def find(const int64_t[::1] indptr, const int32_t[::1] indices, const int32_t[::1] rows, const int32_t[::1] cols,
         int n_threads):
    """Place of each (rows[i], cols[i]) in a CSR matrix, int32, or -1."""
    cdef int64_t n = rows.shape[0]
    same_length(n, cols.shape[0], "rows and cols")
    entry = np.full(n, -1, np.int32)
    cdef int32_t[::1] entry_ = entry
    cdef int status
    if n and indices.shape[0]:
        with nogil:
            status = k.saffu_find(&indptr[0], &indices[0], &rows[0], &cols[0], n, &entry_[0], n_threads)
        check(status)
    return entry

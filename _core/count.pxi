# Bindings of count.c: what occurs together.

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

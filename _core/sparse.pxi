# Bindings of sparse.c: the sparse form of dense features, and rows of it.


def compress(const real[:, ::1] X not None, n_threads):
    """indptr, indices and data: the CSR form of a dense matrix."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = X.shape[0], n_columns = X.shape[1], n
    aligned(<size_t>&X[0, 0], sizeof(real))
    if n_columns > MOST:
        raise ValueError(f"a matrix must have at most {MOST} columns to be compressed, got {n_columns}")
    indptr = np.zeros(n_rows + 1, np.int64)
    cdef int64_t[::1] indptr_ = indptr
    cdef Blocks b = blocks(n_rows, n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_compress_count(&X[b.begin, 0], sizeof(real), n, n_columns, &indptr_[b.begin + 1], n_team)
        check(status)
    np.cumsum(indptr, out=indptr)
    indices, data = np.empty(indptr[n_rows], np.int32), np.empty(indptr[n_rows], dtype_of(sizeof(real)))
    cdef int32_t[::1] indices_ = indices
    cdef real[::1] data_ = data
    b = blocks(n_rows, n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_compress(&X[b.begin, 0], &indptr_[b.begin], sizeof(real), n, n_columns, &indices_[0],
                                      &data_[0], n_team)
        check(status)
    return indptr, indices, data


def take_rows(const int64_t[::1] begins not None, const int64_t[::1] indptr not None,
              const int32_t[::1] indices not None, const real[::1] data not None, n_threads):
    """indices and data of the rows of a CSR matrix that begin at begins; their ends are given by the new indptr."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = begins.shape[0], n_entries = data.shape[0], n
    same_length(n_rows + 1, indptr.shape[0], "begins and indptr (less one)")
    same_length(n_entries, indices.shape[0], "indices and data")
    # Rows may be taken more than once: the new entries can be more than the old.
    csr_rows(&indptr[0], 8, n_rows + 1, indptr[n_rows], indptr[n_rows], n_team)
    aligned(<size_t>&begins[0], 8)
    aligned(<size_t>&indices[0], 4)
    aligned(<size_t>&data[0], sizeof(real))
    if n_rows and indptr[n_rows] // n_rows > n_entries:
        taken = f"{n_rows} rows of {indptr[n_rows]} entries"
        raise ValueError(f"rows out of range: {taken} lie beyond the {n_entries} there are")
    taken_indices = np.empty(indptr[n_rows], np.int32)
    taken_data = np.empty(indptr[n_rows], dtype_of(sizeof(real)))
    cdef int32_t[::1] taken_indices_ = taken_indices
    cdef real[::1] taken_data_ = taken_data
    cdef Blocks b = row_blocks(&indptr[0], n_rows, 2)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            status = k.saffu_take_rows(&begins[b.begin], &indptr[b.begin], &indices[0], &data[0], sizeof(real), n,
                                       n_entries, &taken_indices_[0], &taken_data_[0], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"rows out of range: they must lie within the {n_entries} entries there are")
        check(status)
    return taken_indices, taken_data

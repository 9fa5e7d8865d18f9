# Bindings of find.c: lookup.


def find(const int64_t[::1] indptr not None, const int32_t[::1] indices not None, const int32_t[::1] rows not None,
         const int32_t[::1] cols not None, n_threads):
    """Place of each (rows[i], cols[i]) in a CSR matrix, int32, or -1."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = rows.shape[0], n_rows = indptr.shape[0] - 1, n_entries = indices.shape[0]
    same_length(n, cols.shape[0], "rows and cols")
    aligned(<size_t>&indptr[0], 8)
    aligned(<size_t>&indices[0] | <size_t>&rows[0] | <size_t>&cols[0], 4)
    if n_entries > MOST:
        raise ValueError(f"a table must have at most {MOST} entries to be searched, got {n_entries}")
    entry = np.full(n, -1, np.int32)
    cdef int32_t[::1] entry_ = entry
    cdef Blocks b = blocks(n, 64)
    while more(&b):
        with nogil:
            status = k.saffu_find(&indptr[0], &indices[0], &rows[b.begin], &cols[b.begin], n_rows, n_entries,
                                  b.end - b.begin, &entry_[b.begin], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError("rows out of range of the table, or its indptr of its entries")
        check(status)
    return entry

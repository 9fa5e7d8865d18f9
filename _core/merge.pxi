# Bindings of merge.c: sums of sparse tables of counts.


cdef int table_of(k.saffu_table *table, const int64_t[::1] indptr, const int32_t[::1] indices,
                  const int64_t[::1] counts, const int64_t[::1] rows, int64_t n_rows, int n) except -1:
    """A CSR table that is sound, and whose rows have these numbers, ascending and below n_rows, in the sum."""
    table.n_rows = csr_rows(&indptr[0], 8, indptr.shape[0], indices.shape[0], counts.shape[0], n)
    same_length(rows.shape[0], table.n_rows, "row numbers and rows")
    aligned(<size_t>&counts[0] | <size_t>&rows[0], 8)
    aligned(<size_t>&indices[0], 4)
    within(&rows[0], 8, table.n_rows, 0, n_rows - 1, "row numbers", n)
    ascending(&rows[0], 8, table.n_rows, True, "row numbers", n)
    table.indptr, table.indices, table.counts, table.rows = &indptr[0], &indices[0], &counts[0], &rows[0]
    return 0


def merge(const int64_t[::1] a_indptr not None, const int32_t[::1] a_indices not None,
          const int64_t[::1] a_counts not None, const int64_t[::1] a_rows not None,
          const int64_t[::1] b_indptr not None, const int32_t[::1] b_indices not None,
          const int64_t[::1] b_counts not None, const int64_t[::1] b_rows not None, int64_t n_rows, n_threads,
          bint places=True):
    """(indptr, indices, counts, a_places, b_places) of the sum of two CSR tables; places are empty if not wanted."""
    cdef int n_team = team(n_threads), status
    cdef k.saffu_table a, b
    if n_rows < 0:
        raise ValueError(f"n_rows must not be negative, got {n_rows}")
    table_of(&a, a_indptr, a_indices, a_counts, a_rows, n_rows, n_team)
    table_of(&b, b_indptr, b_indices, b_counts, b_rows, n_rows, n_team)
    cdef int64_t n_both = a_counts.shape[0] + b_counts.shape[0]
    indptr, counts, indices = np.zeros(n_rows + 1, np.int64), np.empty(n_both + 1, np.int64), np.empty(n_both + 1, np.int32)
    a_places, b_places = (np.empty(n if places else 0, np.int64) for n in (a_counts.shape[0], b_counts.shape[0]))
    cdef int64_t[::1] indptr_ = indptr, counts_ = counts, a_places_ = a_places, b_places_ = b_places
    cdef int32_t[::1] indices_ = indices
    cdef int64_t *a_to = &a_places_[0] if places else NULL
    cdef int64_t *b_to = &b_places_[0] if places else NULL
    cdef Blocks rows = blocks(n_rows, (2 + n_both // max(n_rows, 1)) * 2)
    while more(&rows):
        with nogil:
            status = k.saffu_merge(&a, &b, rows.begin, rows.end, &indptr_[0], &indices_[0], &counts_[0], a_to, b_to,
                                   n_team)
        check(status)
    del indices_, counts_
    indices.resize(indptr[n_rows], refcheck=False)
    counts.resize(indptr[n_rows], refcheck=False)
    return indptr, indices, counts, a_places, b_places

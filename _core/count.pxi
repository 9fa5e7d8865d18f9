# Bindings of count.c: what occurs together.


cdef int targets_fit(const k.saffu_stream *s, int64_t n, int n_threads) except -1:
    """The first n targets are columns."""
    return within(s.targets, 4, n, 0, s.n_cols - 1, "targets", n_threads)


cdef int bucket_all(const k.saffu_stream *s, int64_t[::1] row_ptr, int32_t[::1] bucket, int n_threads) except -1:
    """The first stage of counting, in blocks of positions of each part."""
    cdef int64_t n_parts = k.saffu_bucket_parts(s, n_threads), longest = s.n // n_parts + 1
    cursors = np.zeros(n_parts * s.n_rows, np.int64)
    cdef int64_t[::1] cursors_ = cursors
    cdef Blocks b = blocks(longest, 4)
    cdef int status
    while more(&b):
        with nogil:
            status = k.saffu_bucket_count(s, b.begin, b.end, n_parts, &cursors_[0])
        if status == k.SAFFU_OUT_OF_RANGE:
            raise ValueError(f"contexts out of range: they must be below {s.n_rows}, the number of rows")
        check(status)
    with nogil:
        status = k.saffu_bucket_rows(s, n_parts, &cursors_[0], &row_ptr[0])
    check(status)
    b = blocks(longest, 16)
    while more(&b):
        with nogil:
            status = k.saffu_bucket_place(s, b.begin, b.end, n_parts, &cursors_[0], &bucket[0])
        if status == k.SAFFU_OUT_OF_RANGE:
            targets_fit(s, s.n, n_threads)
        check(status)
    return 0


cdef int count_all(const k.saffu_stream *s, const int64_t[::1] row_ptr, const int32_t[::1] bucket,
                   const int64_t[::1] segment, int64_t max_pairs, int64_t[::1] indptr, int32_t[::1] indices,
                   int64_t[::1] counts, int n_threads) except -1:
    """The second stage: rows in blocks of positions, then the long rows, each in blocks of its own positions."""
    cdef int64_t n_rows = s.n_rows, n_cols = s.n_cols, steps = s.n_distances, row
    cdef int64_t n_positions = row_ptr[n_rows], length = 0
    cdef k.saffu_counters all
    cdef int status
    all.team = k.saffu_team(n_threads, n_positions * s.n_distances)
    cdef int64_t long_row = k.saffu_long_row(s, n_positions, max_pairs, all.team)
    all.stride = n_cols + 64
    cdef int32_t[:, ::1] counter = np.zeros((all.team, all.stride), np.int32)
    cdef int32_t[:, ::1] seen = np.empty((all.team, all.stride), np.int32)
    cdef uint64_t[:, ::1] bits = np.zeros((all.team, all.stride // 64 + 16), np.uint64)
    all.counter, all.seen, all.bits = &counter[0, 0], &seen[0, 0], &bits[0, 0]
    cdef Blocks b = row_blocks(&row_ptr[0], n_rows, 4 * steps), part
    while more(&b):
        with nogil:
            status = k.saffu_count_rows(s, &row_ptr[0], &bucket[0], &segment[0], b.begin, b.end, long_row, &all,
                                        &indptr[1], &indices[0], &counts[0])
        check(status)
    long_rows = np.flatnonzero(np.diff(row_ptr) > long_row)
    cdef int64_t[::1] totals = np.zeros(n_cols if len(long_rows) else 0, np.int64)
    for row in long_rows:
        part = blocks(row_ptr[row + 1] - row_ptr[row], steps)
        part.most = max(1, max_pairs // steps)
        while more(&part):
            with nogil:
                status = k.saffu_count_long(s, &bucket[0], row_ptr[row] + part.begin, row_ptr[row] + part.end, &all,
                                            &totals[0])
            check(status)
        with nogil:
            status = k.saffu_emit_long(n_cols, &totals[0], &length, &indices[segment[row]], &counts[segment[row]],
                                       n_threads)
        check(status)
        indptr[row + 1] = length
    b = row_blocks(&row_ptr[0], n_rows, 4)
    while more(&b):
        with nogil:
            status = k.saffu_compact(&segment[0], b.begin, b.end, &indptr[0], &indices[0], &counts[0])
        check(status)
    return 0


def count(const int32_t[::1] contexts not None, const int32_t[::1] targets not None,
          const int64_t[::1] distances not None, const int64_t[::1] documents not None, n_rows, n_cols, n_threads,
          max_pairs=k.SAFFU_MAX_PAIRS):
    """CSR counts (indptr, indices, counts) of the pairs (contexts[t], targets[t + k]), k in distances.

    A row of more pairs than max_pairs is counted in pieces of at most so many.
    """
    cdef int n_team = team(n_threads)
    cdef int64_t most = whole(max_pairs, "max_pairs", 1, MOST)
    cdef k.saffu_stream s
    s.n, s.n_distances, s.n_documents = contexts.shape[0], distances.shape[0], documents.shape[0]
    s.n_rows, s.n_cols = whole(n_rows, "n_rows", 0, MOST), whole(n_cols, "n_cols", 0, MOST)
    same_length(s.n, targets.shape[0], "contexts and targets")
    if s.n > MOST:
        raise ValueError(f"contexts and targets must be at most {MOST} long, got {s.n}")
    within(&distances[0], 8, s.n_distances, 1, INT64_MAX, "distances", n_team)
    ascending(&distances[0], 8, s.n_distances, True, "distances", n_team)
    within(&documents[0], 8, s.n_documents, 0, s.n, "documents", n_team)
    ascending(&documents[0], 8, s.n_documents, False, "documents", n_team)
    aligned(<size_t>&contexts[0] | <size_t>&targets[0], 4)
    s.contexts, s.targets, s.distances, s.documents = &contexts[0], &targets[0], &distances[0], &documents[0]
    # At one distance the first stage reads the targets of all documents, and looks at them on the way.
    targets_fit(&s, documents[0] if s.n_distances == 1 and s.n_documents else s.n, n_team)
    indptr = np.zeros(s.n_rows + 1, np.int64)
    if s.n == 0 or s.n_distances == 0 or s.n_documents == 0:
        return indptr, np.empty(0, np.int32), np.empty(0, np.int64)
    row_ptr, bucket = np.zeros(s.n_rows + 1, np.int64), np.empty(s.n, np.int32)
    bucket_all(&s, row_ptr, bucket, n_team)
    segment = np.zeros(s.n_rows + 1, np.int64)
    np.cumsum(np.minimum(np.diff(row_ptr) * s.n_distances, s.n_cols), out=segment[1:])
    # Space for the worst case; pages that no row writes are never touched, and the rest is given back by resize.
    indices = np.empty(max(segment[s.n_rows], 1), np.int32)
    counts = np.empty(max(segment[s.n_rows], 1), np.int64)
    count_all(&s, row_ptr, bucket, segment, most, indptr, indices, counts, n_team)
    indices.resize(indptr[s.n_rows], refcheck=False)
    counts.resize(indptr[s.n_rows], refcheck=False)
    return indptr, indices, counts

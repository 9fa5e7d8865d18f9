# Bindings of weigh.c: counts to logarithms.


def weigh(const int64_t[::1] indptr not None, const int64_t[::1] counts not None, const int32_t[::1] parent not None,
          const double[::1] lower not None, const double[::1] discounts not None, n_threads):
    """(total, mass, u, p) of a whole CSR table of counts."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = counts.shape[0]
    cdef int64_t n_rows = csr_rows(&indptr[0], 8, indptr.shape[0], parent.shape[0], n, n_team)
    same_length(discounts.shape[0], 3, "discounts and (1, 2, 3+)")
    if not all(0 <= d <= n_d for d, n_d in zip(discounts, (1, 2, 3))):
        raise ValueError(f"discounts must lie between 0 and 1, 2 and 3, got {list(discounts)}")
    aligned(<size_t>&counts[0] | <size_t>&lower[0] | <size_t>&discounts[0], 8)
    aligned(<size_t>&parent[0], 4)
    total, mass, u, p = np.zeros(n_rows), np.zeros(n_rows), np.empty(n), np.empty(n)
    cdef double[::1] total_ = total, mass_ = mass, u_ = u, p_ = p
    cdef Blocks b = row_blocks(&indptr[0], n_rows, 16)
    while more(&b):
        with nogil:
            status = k.saffu_weigh(&indptr[b.begin], &counts[0], &parent[0], &lower[0], &discounts[0],
                                   b.end - b.begin, lower.shape[0], &total_[b.begin], &mass_[b.begin], &u_[0],
                                   &p_[0], n_team)
        if status == k.SAFFU_OUT_OF_RANGE:
            within(&parent[0], 4, n, 0, lower.shape[0] - 1, "parent", n_team)
        check(status)
    return total, mass, u, p


def log_weights(const real[:, ::1] F not None, bint by_class, double smoothing, double exponent, n_threads):
    """U like F, and S (N) float64: log(F + smoothing) - exponent log S; classes are rows if by_class, else columns."""
    aligned(<size_t>&F[0, 0], sizeof(real))
    U = np.empty((F.shape[0], F.shape[1]), np.float32 if real is float else np.float64)
    S = np.zeros(F.shape[0] if by_class else F.shape[1])
    if by_class:
        log_weights_by_class[real](F, smoothing, exponent, U, S, team(n_threads))
    else:
        log_weights_by_feature[real](F, smoothing, exponent, U, S, team(n_threads))
    return U, S


cdef int log_weights_by_class(const real[:, ::1] F, double smoothing, double exponent, real[:, ::1] U, double[::1] S,
                              int n_threads) except -1:
    cdef int64_t n_columns = F.shape[1], n
    cdef Blocks b = blocks(F.shape[0], 4 * n_columns)
    cdef int status
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if real is float:
                status = k.saffu_log_weights_by_class_f32(&F[b.begin, 0], smoothing, exponent, n, n_columns,
                                                          &U[b.begin, 0], &S[b.begin], n_threads)
            else:
                status = k.saffu_log_weights_by_class_f64(&F[b.begin, 0], smoothing, exponent, n, n_columns,
                                                          &U[b.begin, 0], &S[b.begin], n_threads)
        check(status)
    return 0


cdef int log_weights_by_feature(const real[:, ::1] F, double smoothing, double exponent, real[:, ::1] U, double[::1] S,
                                int n_threads) except -1:
    cdef int64_t n_rows = F.shape[0], n_columns = F.shape[1], n
    cdef double[::1] shift
    cdef double *shift_ = NULL
    cdef Blocks b = blocks(n_rows, n_columns, 4)
    cdef int status, large = 0
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if real is float:
                status = k.saffu_sums_by_feature_f32(&F[b.begin, 0], smoothing, n, n_columns, &S[0], n_threads)
            else:
                status = k.saffu_sums_by_feature_f64(&F[b.begin, 0], smoothing, n, n_columns, &S[0], n_threads)
        check(status)
    while True:  # once, or a second time with shifts for large sums
        with nogil:
            if real is float:
                status = k.saffu_large_by_feature_f32(&F[0, 0], smoothing, exponent, n_rows, n_columns, &S[0], shift_,
                                                      &large)
            else:
                status = k.saffu_large_by_feature_f64(&F[0, 0], smoothing, exponent, n_rows, n_columns, &S[0], shift_,
                                                      &large)
        check(status)
        if not large or shift_ != NULL:
            break
        shift = np.empty(n_columns)
        shift_ = &shift[0]
    b = blocks(n_rows, 4 * n_columns)
    while more(&b):
        n = b.end - b.begin
        with nogil:
            if real is float:
                status = k.saffu_logs_by_feature_f32(&F[b.begin, 0], &S[0], shift_, smoothing, exponent, n,
                                                     n_columns, &U[b.begin, 0], n_threads)
            else:
                status = k.saffu_logs_by_feature_f64(&F[b.begin, 0], &S[0], shift_, smoothing, exponent, n,
                                                     n_columns, &U[b.begin, 0], n_threads)
        check(status)
    return 0


def leave_one_out(const real[:, ::1] H not None, const int32_t[::1] rows not None, const int32_t[::1] classes not None,
                  const double[::1] amounts not None, const double[:, ::1] F not None, const double[::1] S not None,
                  double smoothing, n_threads):
    """Scores of dense rows for their classes, each without its own share of the counts."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = rows.shape[0]
    same_length(n, classes.shape[0], "rows and classes")
    same_length(n, amounts.shape[0], "rows and amounts")
    same_length(F.shape[0], S.shape[0], "F and S")
    same_length(F.shape[1], H.shape[1], "the rows of F and of the features")
    aligned(<size_t>&H[0, 0], sizeof(real))
    aligned(<size_t>&rows[0] | <size_t>&classes[0], 4)
    aligned(<size_t>&amounts[0] | <size_t>&F[0, 0] | <size_t>&S[0], 8)
    scores = np.zeros(n)
    cdef double[::1] scores_ = scores
    cdef Blocks b = blocks(n, 8 * H.shape[1])
    while more(&b):
        with nogil:
            status = k.saffu_leave_one_out(&H[0, 0], sizeof(real), &rows[b.begin], &classes[b.begin],
                                           &amounts[b.begin], &F[0, 0], &S[0], smoothing, b.end - b.begin, H.shape[0],
                                           H.shape[1], F.shape[0], &scores_[b.begin], n_team)
        check(status)
    return scores


def leave_one_out_csr(const int64_t[::1] indptr not None, const int32_t[::1] indices not None,
                      const double[::1] data not None, const int32_t[::1] rows not None,
                      const int32_t[::1] classes not None, const double[::1] amounts not None,
                      const double[:, ::1] F not None, const double[::1] S not None, double smoothing, n_threads):
    """Scores of CSR rows for their classes, each without its own share."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = rows.shape[0]
    cdef int64_t n_rows = csr_rows(&indptr[0], 8, indptr.shape[0], indices.shape[0], data.shape[0], n_team)
    same_length(n, classes.shape[0], "rows and classes")
    same_length(n, amounts.shape[0], "rows and amounts")
    same_length(F.shape[0], S.shape[0], "F and S")
    aligned(<size_t>&indices[0] | <size_t>&rows[0] | <size_t>&classes[0], 4)
    aligned(<size_t>&data[0] | <size_t>&amounts[0] | <size_t>&F[0, 0] | <size_t>&S[0], 8)
    scores = np.zeros(n)
    cdef double[::1] scores_ = scores
    cdef Blocks b = blocks(n, 1000)
    while more(&b):
        with nogil:
            status = k.saffu_leave_one_out_csr(&indptr[0], &indices[0], &data[0], &rows[b.begin], &classes[b.begin],
                                               &amounts[b.begin], &F[0, 0], &S[0], smoothing, b.end - b.begin, n_rows,
                                               F.shape[1], F.shape[0], &scores_[b.begin], n_team)
        check(status)
    return scores

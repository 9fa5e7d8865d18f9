# Bindings of weigh.c: counts to logarithms.

def weigh(const int64_t[::1] indptr, const int64_t[::1] counts, const int32_t[::1] parent, const double[::1] lower,
          const double[::1] discounts, int n_threads):
    """(total, mass, u, p) of a whole CSR table of counts."""
    cdef int64_t n_rows = indptr.shape[0] - 1, n = counts.shape[0]
    cdef int status
    same_length(n, parent.shape[0], "counts and parent")
    same_length(discounts.shape[0], 3, "discounts and (1, 2, 3+)")
    total, mass, u, p = np.zeros(n_rows), np.zeros(n_rows), np.empty(n), np.empty(n)
    cdef double[::1] total_ = total, mass_ = mass, u_ = u, p_ = p
    if n:
        with nogil:
            status = k.saffu_weigh(&indptr[0], &counts[0], &parent[0], &lower[0], &discounts[0], n_rows, &total_[0],
                                   &mass_[0], &u_[0], &p_[0], n_threads)
        check(status)
    return total, mass, u, p


def log_weights(const real[:, ::1] F, bint by_class, double smoothing, double exponent, int n_threads):
    """U like F, and S (N) float64: log(F + smoothing) - exponent log S; classes are rows if by_class, else columns."""
    cdef int64_t n_rows = F.shape[0], n_columns = F.shape[1]
    cdef int status
    U = np.empty((n_rows, n_columns), np.float32 if real is float else np.float64)
    S = np.zeros(n_rows if by_class else n_columns)
    cdef real[:, ::1] U_ = U
    cdef double[::1] S_ = S
    with nogil:
        if real is float:
            if by_class:
                status = k.saffu_log_weights_by_class_f32(&F[0, 0], smoothing, exponent, n_rows, n_columns, &U_[0, 0],
                                                          &S_[0], n_threads)
            else:
                status = k.saffu_log_weights_by_feature_f32(&F[0, 0], smoothing, exponent, n_rows, n_columns,
                                                            &U_[0, 0], &S_[0], n_threads)
        else:
            if by_class:
                status = k.saffu_log_weights_by_class_f64(&F[0, 0], smoothing, exponent, n_rows, n_columns, &U_[0, 0],
                                                          &S_[0], n_threads)
            else:
                status = k.saffu_log_weights_by_feature_f64(&F[0, 0], smoothing, exponent, n_rows, n_columns,
                                                            &U_[0, 0], &S_[0], n_threads)
    check(status)
    return U, S


def leave_one_out(const real[:, ::1] H, const int32_t[::1] rows, const int32_t[::1] classes,
                  const double[::1] amounts, const double[:, ::1] F, const double[::1] S, double smoothing,
                  int n_threads):
    """Scores of dense rows for their classes, each without its own share of the counts."""
    cdef int64_t n = rows.shape[0]
    cdef int status
    same_length(n, classes.shape[0], "rows and classes")
    same_length(n, amounts.shape[0], "rows and amounts")
    same_length(F.shape[0], S.shape[0], "F and S")
    same_length(F.shape[1], H.shape[1], "the rows of F and of the features")
    scores = np.zeros(n)
    cdef double[::1] scores_ = scores
    with nogil:
        status = k.saffu_leave_one_out(&H[0, 0], sizeof(real), &rows[0], &classes[0], &amounts[0], &F[0, 0], &S[0],
                                       smoothing, n, H.shape[0], H.shape[1], F.shape[0], &scores_[0], n_threads)
    check(status)
    return scores


def leave_one_out_csr(const int64_t[::1] indptr, const int32_t[::1] indices, const double[::1] data,
                      const int32_t[::1] rows, const int32_t[::1] classes, const double[::1] amounts,
                      const double[:, ::1] F, const double[::1] S, double smoothing, int n_threads):
    """Scores of CSR rows (a valid indptr, int32 indices) for their classes, each without its own share."""
    cdef int64_t n = rows.shape[0], n_rows = indptr.shape[0] - 1
    cdef int status
    same_length(n, classes.shape[0], "rows and classes")
    same_length(n, amounts.shape[0], "rows and amounts")
    same_length(F.shape[0], S.shape[0], "F and S")
    same_length(indices.shape[0], data.shape[0], "indices and data")
    if n_rows < 0 or indptr[0] < 0 or indptr[n_rows] > data.shape[0] or (np.diff(indptr) < 0).any():
        raise ValueError("indptr does not fit indices and data")
    scores = np.zeros(n)
    cdef double[::1] scores_ = scores
    with nogil:
        status = k.saffu_leave_one_out_csr(&indptr[0], &indices[0], &data[0], &rows[0], &classes[0], &amounts[0],
                                           &F[0, 0], &S[0], smoothing, n, n_rows, F.shape[1], F.shape[0],
                                           &scores_[0], n_threads)
    check(status)
    return scores

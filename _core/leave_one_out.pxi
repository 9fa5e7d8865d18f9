# Bindings of leave_one_out.c: scores without an example's own share of the counts.


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

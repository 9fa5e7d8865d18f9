# Bindings of log_weights.c: counts to logarithms.


def log_weights(const real[:, ::1] F not None, bint by_class, double smoothing, double exponent, n_threads):
    """U like F, and S (N) float64: log(F + smoothing) - exponent log S; classes are rows if by_class, else columns."""
    cdef int n_team = team(n_threads)
    aligned(<size_t>&F[0, 0], sizeof(real))
    cdef int size = sizeof(real)
    cdef int64_t n_rows = F.shape[0], n_columns = F.shape[1]
    U, S = np.empty((n_rows, n_columns), dtype_of(size)), np.zeros(n_rows if by_class else n_columns)
    cdef real[:, ::1] U_ = U
    if by_class:
        log_weights_by_class(&F[0, 0], smoothing, exponent, size, n_rows, n_columns, &U_[0, 0], S, n_team)
    else:
        log_weights_by_feature(&F[0, 0], smoothing, exponent, size, n_rows, n_columns, &U_[0, 0], S, n_team)
    return U, S


cdef int log_weights_by_class(const void *F, double smoothing, double exponent, int size, int64_t n_classes,
                              int64_t n_features, void *U, double[::1] S, int n_threads) except -1:
    cdef Blocks b = blocks(n_classes, 4 * n_features)
    cdef int status
    while more(&b):
        with nogil:
            status = k.saffu_log_weights_by_class(at_row(F, size, n_features, b.begin), smoothing, exponent, size,
                                                  b.end - b.begin, n_features, at_row(U, size, n_features, b.begin),
                                                  &S[b.begin], n_threads)
        check(status)
    return 0


cdef int log_weights_by_feature(const void *F, double smoothing, double exponent, int size, int64_t n_features,
                                int64_t n_classes, void *U, double[::1] S, int n_threads) except -1:
    cdef double[::1] shifts
    cdef double *shift = NULL
    cdef Blocks b = blocks(n_features, n_classes, 4)
    cdef int status, large = 0
    while more(&b):
        with nogil:
            status = k.saffu_sums_by_feature(at_row(F, size, n_classes, b.begin), smoothing, size, b.end - b.begin,
                                             n_classes, &S[0], n_threads)
        check(status)
    with nogil:
        status = k.saffu_large_by_feature(F, smoothing, exponent, size, n_features, n_classes, &S[0], NULL, &large)
    check(status)
    if large:
        shifts = np.empty(n_classes)
        shift = &shifts[0]
        with nogil:
            status = k.saffu_large_by_feature(F, smoothing, exponent, size, n_features, n_classes, &S[0], shift, &large)
        check(status)
    b = blocks(n_features, 4 * n_classes)
    while more(&b):
        with nogil:
            status = k.saffu_logs_by_feature(at_row(F, size, n_classes, b.begin), &S[0], shift, smoothing, exponent,
                                             size, b.end - b.begin, n_classes, at_row(U, size, n_classes, b.begin),
                                             n_threads)
        check(status)
    return 0

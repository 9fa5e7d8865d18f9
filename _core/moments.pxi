# Bindings of moments.c: features and classes.


cdef const double *optional(const double[::1] weights, Py_ssize_t n) except? NULL:
    """The weights as a pointer, NULL for None."""
    if weights is None:
        return NULL
    same_length(weights.shape[0], n, "sample_weight and the examples")
    aligned(<size_t>&weights[0], 8)
    return &weights[0]


cdef int sums_apart(double[:, ::1] F, double[::1] mass, const void *x, int64_t n_bytes, str name) except -1:
    """Neither F nor mass shares memory with what is read."""
    apart(&F[0, 0], 8 * F.shape[0] * F.shape[1], x, n_bytes, f"F and {name}")
    return apart(&mass[0], 8 * mass.shape[0], x, n_bytes, f"mass and {name}")


cdef int sums_fit(double[:, ::1] F, double[::1] mass, const double *weights, int64_t n,
                  Py_ssize_t n_features) except -1:
    """F and mass are of one shape, and apart from one another and the weights."""
    same_length(F.shape[1], n_features, "the rows of F and of the features")
    same_length(F.shape[0], mass.shape[0], "F and mass")
    aligned(<size_t>&F[0, 0] | <size_t>&mass[0], 8)
    apart(&F[0, 0], 8 * F.shape[0] * F.shape[1], &mass[0], 8 * mass.shape[0], "F and mass")
    return sums_apart(F, mass, weights, 0 if weights == NULL else 8 * n, "sample_weight")


cdef int64_t examples_at_once(const double[:, ::1] F) noexcept:
    """A block sums into all of F: so many examples that this traffic is little beside theirs. It may stay in cache."""
    return 1 if 8 * F.shape[0] * F.shape[1] <= 1 << 19 else 64 * F.shape[0]


def moments_labels(const real[:, ::1] H not None, const int32_t[::1] labels not None, const double[::1] weights,
                   double[:, ::1] F not None, double[::1] mass not None, bint add, n_threads):
    """F (N, D) and mass (N) from dense features and labels, in place."""
    cdef int n_team = team(n_threads), status, goes_on
    cdef int64_t n = H.shape[0], n_features = H.shape[1], n_classes = F.shape[0], size
    cdef const double *w = optional(weights, n)
    same_length(n, labels.shape[0], "features and labels")
    sums_fit(F, mass, w, n, n_features)
    sums_apart(F, mass, &H[0, 0], n * n_features * sizeof(real), "the features")
    sums_apart(F, mass, &labels[0], 4 * n, "labels")
    aligned(<size_t>&H[0, 0], sizeof(real))
    within(&labels[0], 4, n, 0, n_classes - 1, "labels", n_team)
    # A block of examples covers all features, unless F is so large that one would take far longer than a block may.
    cdef Blocks columns = blocks(max(n_features, 1), min(n, examples_at_once(F)) // 16, 64), b
    cdef int64_t width
    cdef double *total = &mass[0]
    while more(&columns):
        width = min(columns.end, n_features) - columns.begin
        b = blocks(max(n, 1), width + 16, examples_at_once(F))
        b.most = MOST // b.grain * b.grain
        goes_on = add
        while more(&b):
            size = min(b.end, n) - b.begin
            with nogil:
                status = k.saffu_moments_labels(&H[0, 0] + b.begin * n_features + columns.begin, sizeof(real),
                                                &labels[b.begin], from_row(w, b.begin), size, width,
                                                n_classes, n_features, goes_on, &F[0, 0] + columns.begin, total,
                                                n_team)
            check(status)
            goes_on = 1
        total = NULL


def moments_soft(const real[:, ::1] H not None, const real_target[:, ::1] Y not None, const double[::1] weights,
                 double[:, ::1] F not None, double[::1] mass not None, bint add, n_threads):
    """F (N, D) and mass (N) from dense features and soft targets, in place."""
    cdef int n_team = team(n_threads), status, goes_on = add
    cdef int64_t n = H.shape[0], n_features = H.shape[1], n_classes = F.shape[0], size
    cdef const double *w = optional(weights, n)
    same_length(n, Y.shape[0], "features and targets")
    same_length(n_classes, Y.shape[1], "F and the columns of the targets")
    sums_fit(F, mass, w, n, n_features)
    sums_apart(F, mass, &H[0, 0], n * n_features * sizeof(real), "the features")
    sums_apart(F, mass, &Y[0, 0], n * n_classes * sizeof(real_target), "the targets")
    aligned(<size_t>&H[0, 0], sizeof(real))
    aligned(<size_t>&Y[0, 0], sizeof(real_target))
    cdef Blocks b = blocks(max(n, 1), (n_features + 1) * n_classes, 64)
    while more(&b):
        size = min(b.end, n) - b.begin
        with nogil:
            status = k.saffu_moments_soft(&H[b.begin, 0], sizeof(real), &Y[b.begin, 0], sizeof(real_target),
                                          from_row(w, b.begin), size, n_features, n_classes, goes_on,
                                          &F[0, 0], &mass[0], n_team)
        check(status)
        goes_on = 1


def moments_csr_labels(const int64_t[::1] indptr not None, const index[::1] indices not None,
                       const real[::1] data not None, const int32_t[::1] labels not None, const double[::1] weights,
                       double[:, ::1] F not None, double[::1] mass not None, bint add, n_threads):
    """F (N, D) and mass (N) from CSR features and labels, in place."""
    cdef int n_team = team(n_threads), status, goes_on = add
    cdef int64_t n = labels.shape[0], n_features = F.shape[1], n_classes = F.shape[0], n_entries = data.shape[0], size
    cdef const double *w = optional(weights, n)
    same_length(n + 1, indptr.shape[0], "labels and rows (and one)")
    csr_rows(&indptr[0], 8, n + 1, indices.shape[0], n_entries, n_team)
    sums_fit(F, mass, w, n, n_features)
    sums_apart(F, mass, &indptr[0], 8 * (n + 1), "indptr")
    sums_apart(F, mass, &indices[0], n_entries * sizeof(index), "indices")
    sums_apart(F, mass, &data[0], n_entries * sizeof(real), "data")
    sums_apart(F, mass, &labels[0], 4 * n, "labels")
    aligned(<size_t>&data[0], sizeof(real))
    within(&indices[0], sizeof(index), n_entries, 0, n_features - 1, "column indices", n_team)
    within(&labels[0], 4, n, 0, n_classes - 1, "labels", n_team)
    cdef Blocks b = row_blocks(&indptr[0], n, 4)
    if n == 0:
        b = blocks(1, 1)
    b.most = MOST
    b.grain = examples_at_once(F)
    while more(&b):
        size = min(b.end, n) - b.begin
        with nogil:
            status = k.saffu_moments_csr_labels(&indptr[b.begin], &indices[0], sizeof(index), &data[0], sizeof(real),
                                                &labels[b.begin], from_row(w, b.begin), size,
                                                n_features, n_classes, goes_on, &F[0, 0], &mass[0], n_team)
        check(status)
        goes_on = 1


def moments_csr_soft(const int64_t[::1] indptr not None, const index[::1] indices not None,
                     const real[::1] data not None, const real_target[:, ::1] Y not None, const double[::1] weights,
                     double[:, ::1] F not None, double[::1] mass not None, bint add, n_threads):
    """F (N, D) and mass (N) from CSR features and soft targets, in place."""
    cdef int n_team = team(n_threads), status, goes_on
    cdef int64_t n = Y.shape[0], n_features = F.shape[1], n_classes = F.shape[0], n_entries = data.shape[0], size
    cdef const double *w = optional(weights, n)
    same_length(n + 1, indptr.shape[0], "targets and rows (and one)")
    same_length(n_classes, Y.shape[1], "F and the columns of the targets")
    csr_rows(&indptr[0], 8, n + 1, indices.shape[0], n_entries, n_team)
    sums_fit(F, mass, w, n, n_features)
    sums_apart(F, mass, &indptr[0], 8 * (n + 1), "indptr")
    sums_apart(F, mass, &indices[0], n_entries * sizeof(index), "indices")
    sums_apart(F, mass, &data[0], n_entries * sizeof(real), "data")
    sums_apart(F, mass, &Y[0, 0], n * n_classes * sizeof(real_target), "the targets")
    aligned(<size_t>&data[0], sizeof(real))
    aligned(<size_t>&Y[0, 0], sizeof(real_target))
    within(&indices[0], sizeof(index), n_entries, 0, n_features - 1, "column indices", n_team)
    # The sums of 8 classes at a time are turned over and back for each block of rows, which is to cost little.
    cdef Blocks classes = blocks(n_classes, 8 * (n_entries + n + 1), 8 * n_team), b
    while more(&classes):
        b = row_blocks(&indptr[0], n, 8)
        if n == 0:
            b = blocks(1, 1)
        b.grain = 32 * n_features
        goes_on = add
        while more(&b):
            size = min(b.end, n) - b.begin
            with nogil:
                status = k.saffu_moments_csr_soft(&indptr[b.begin], &indices[0], sizeof(index), &data[0],
                                                  sizeof(real), &Y[b.begin, classes.begin], sizeof(real_target),
                                                  n_classes, from_row(w, b.begin), size, n_features,
                                                  classes.end - classes.begin, goes_on, &F[classes.begin, 0],
                                                  &mass[classes.begin], n_team)
            check(status)
            goes_on = 1


def lowest(const real[::1] x not None, n_threads):
    """The least entry; NaN if one is NaN or infinite, inf if there is none."""
    cdef int n_team = team(n_threads), status
    cdef double result = np.inf
    aligned(<size_t>&x[0], sizeof(real))
    cdef Blocks b = blocks(x.shape[0], 1, 1 << 16)
    while more(&b):
        with nogil:
            status = k.saffu_lowest(&x[b.begin], sizeof(real), b.end - b.begin, &result, n_team)
        check(status)
    return result

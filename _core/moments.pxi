# Bindings of moments.c: features and classes.

cdef const double *optional(const double[::1] weights, Py_ssize_t n) except? NULL:
    """The weights as a pointer, NULL for None."""
    if weights is None:
        return NULL
    same_length(weights.shape[0], n, "sample_weight and the examples")
    return &weights[0]


cdef int same_shape(double[:, ::1] F, double[::1] mass, Py_ssize_t n_features) except -1:
    same_length(F.shape[1], n_features, "the rows of F and of the features")
    same_length(F.shape[0], mass.shape[0], "F and mass")
    return 0


def moments_labels(const real[:, ::1] H, const int32_t[::1] labels, const double[::1] weights, double[:, ::1] F,
                   double[::1] mass, bint add, int n_threads):
    """F (N, D) and mass (N) from dense features and labels, in place."""
    cdef int64_t n = H.shape[0], n_features = H.shape[1], n_classes = F.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n, labels.shape[0], "features and labels")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_labels(&H[0, 0], sizeof(real), &labels[0], w, n, n_features, n_classes, add,
                                        &F[0, 0], &mass[0], n_threads)
    check(status)


def moments_soft(const real[:, ::1] H, const real_target[:, ::1] Y, const double[::1] weights, double[:, ::1] F,
                 double[::1] mass, bint add, int n_threads):
    """F (N, D) and mass (N) from dense features and soft targets, in place."""
    cdef int64_t n = H.shape[0], n_features = H.shape[1], n_classes = F.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n, Y.shape[0], "features and targets")
    same_length(n_classes, Y.shape[1], "F and the columns of the targets")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_soft(&H[0, 0], sizeof(real), &Y[0, 0], sizeof(real_target), w, n, n_features,
                                      n_classes, add, &F[0, 0], &mass[0], n_threads)
    check(status)


def moments_csr_labels(const int64_t[::1] indptr, const index[::1] indices, const real[::1] data,
                       const int32_t[::1] labels, const double[::1] weights, double[:, ::1] F, double[::1] mass,
                       bint add, int n_threads):
    """F (N, D) and mass (N) from CSR features and labels, in place."""
    cdef int64_t n = labels.shape[0], n_features = F.shape[1], n_classes = F.shape[0], n_entries = data.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n + 1, indptr.shape[0], "labels and rows (and one)")
    same_length(n_entries, indices.shape[0], "data and indices")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_csr_labels(&indptr[0], &indices[0], sizeof(index), &data[0], sizeof(real),
                                            &labels[0], w, n, n_entries, n_features, n_classes, add, &F[0, 0],
                                            &mass[0], n_threads)
    check(status)


def moments_csr_soft(const int64_t[::1] indptr, const index[::1] indices, const real[::1] data,
                     const real_target[:, ::1] Y, const double[::1] weights, double[:, ::1] F, double[::1] mass,
                     bint add, int n_threads):
    """F (N, D) and mass (N) from CSR features and soft targets, in place."""
    cdef int64_t n = Y.shape[0], n_features = F.shape[1], n_classes = F.shape[0], n_entries = data.shape[0]
    cdef const double *w = optional(weights, n)
    cdef int status
    same_length(n + 1, indptr.shape[0], "targets and rows (and one)")
    same_length(n_entries, indices.shape[0], "data and indices")
    same_length(n_classes, Y.shape[1], "F and the columns of the targets")
    same_shape(F, mass, n_features)
    with nogil:
        status = k.saffu_moments_csr_soft(&indptr[0], &indices[0], sizeof(index), &data[0], sizeof(real), &Y[0, 0],
                                          sizeof(real_target), w, n, n_entries, n_features, n_classes, add,
                                          &F[0, 0], &mass[0], n_threads)
    check(status)


def lowest(const real[::1] x, int n_threads):
    """The least entry; NaN if one is NaN or infinite, inf if there is none."""
    cdef double result = 0.0
    cdef int64_t n = x.shape[0]
    cdef int status
    with nogil:
        status = k.saffu_lowest(&x[0], sizeof(real), n, &result, n_threads)
    check(status)
    return result

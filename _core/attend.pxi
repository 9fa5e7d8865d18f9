# Bindings of attend.c: attention over windows of a stream.

@cython.final
@cython.auto_pickle(False)
cdef class View:
    """Windows of a stream: views of the arrays of saffu_view, kept alive."""

    cdef k.saffu_view c
    cdef object kept

    def __init__(self, const int32_t[::1] ids, const int64_t[::1] first, const int32_t[::1] length,
                 const int64_t[::1] head, int64_t step, int64_t n_positions):
        cdef int64_t n = first.shape[0]
        same_length(n, length.shape[0], "first and length")
        same_length(n, head.shape[0], "first and head")
        if step * step != 1 or n_positions < 0:
            raise ValueError("step must be 1 or -1, and n_positions not negative")
        self.kept = (ids, first, length, head)
        self.c.n, self.c.n_ids, self.c.n_positions, self.c.step = n, ids.shape[0], n_positions, step
        self.c.ids, self.c.first, self.c.length, self.c.head = &ids[0], &first[0], &length[0], &head[0]


cdef int table_size(Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t n_types) except -1:
    """Cached ids of a square table."""
    same_length(n_rows, n_columns, "the sides of the table of comparisons")
    if n_rows > n_types:
        raise ValueError("the table of comparisons is larger than the vocabulary")
    return 0


cdef int positions_fit(View view, Py_ssize_t n_rows, Py_ssize_t n_columns, str name) except -1:
    same_length(n_rows, view.c.n, f"the rows of {name} and windows")
    same_length(n_columns, view.c.n_positions, f"the columns of {name} and positions")
    return 0


def compare_all(const real[:, ::1] X, int n_threads):
    """X X^T: the table of comparisons."""
    cdef int64_t n = X.shape[0], d = X.shape[1]
    cdef int status
    C = np.empty((n, n), np.float32 if real is float else np.float64)
    cdef real[:, ::1] C_ = C
    with nogil:
        if real is float:
            status = k.saffu_compare_all_f32(&X[0, 0], n, d, &C_[0, 0], n_threads)
        else:
            status = k.saffu_compare_all_f64(&X[0, 0], n, d, &C_[0, 0], n_threads)
    check(status)
    return C


def comparisons(View view, const real[:, ::1] X, const real[:, ::1] cache, int n_threads):
    """S (n, K): the comparisons of each window; cache may be None."""
    cdef int64_t n_types = X.shape[0], d = X.shape[1], n_cached = 0
    cdef const real *table = NULL
    cdef int status
    if cache is not None:
        table_size(cache.shape[0], cache.shape[1], n_types)
        table, n_cached = &cache[0, 0], cache.shape[0]
    S = np.empty((view.c.n, view.c.n_positions), np.float32 if real is float else np.float64)
    cdef real[:, ::1] S_ = S
    with nogil:
        if real is float:
            status = k.saffu_comparisons_f32(&view.c, &X[0, 0], table, n_types, d, n_cached, &S_[0, 0], n_threads)
        else:
            status = k.saffu_comparisons_f64(&view.c, &X[0, 0], table, n_types, d, n_cached, &S_[0, 0], n_threads)
    check(status)
    return S


def attend(View view, const real[:, ::1] X, const real[:, ::1] cache, const real[:, ::1] W, const real[::1] bias,
           const real[:, ::1] given, int n_threads):
    """(Z, A, S) of each window; cache, bias and given may be None. Comparisons that are given are not returned."""
    cdef int64_t n = view.c.n, n_positions = view.c.n_positions, n_types = X.shape[0], d = X.shape[1], n_cached = 0
    cdef const real *table = NULL
    cdef const real *b = NULL
    cdef int status, with_s = given is not None
    same_length(W.shape[0], n_positions, "the rows of W and positions")
    same_length(W.shape[1], n_positions, "the columns of W and positions")
    if cache is not None:
        table_size(cache.shape[0], cache.shape[1], n_types)
        table, n_cached = &cache[0, 0], cache.shape[0]
    if bias is not None:
        same_length(bias.shape[0], n_positions, "bias and positions")
        b = &bias[0]
    dtype = np.float32 if real is float else np.float64
    Z, A = np.empty((n, d), dtype), np.empty((n, n_positions), dtype)
    S = np.empty((n, n_positions), dtype) if given is None else None
    cdef real[:, ::1] Z_ = Z, A_ = A
    cdef real *s
    cdef real[:, ::1] S_
    if given is None:
        S_ = S
        s = &S_[0, 0]
    else:
        positions_fit(view, given.shape[0], given.shape[1], "the comparisons")
        s = <real *>&given[0, 0]  # only read
    with nogil:
        if real is float:
            status = k.saffu_attend_f32(&view.c, &X[0, 0], table, &W[0, 0], b, n_types, d, n_cached, with_s, s,
                                        &A_[0, 0], &Z_[0, 0], n_threads)
        else:
            status = k.saffu_attend_f64(&view.c, &X[0, 0], table, &W[0, 0], b, n_types, d, n_cached, with_s, s,
                                        &A_[0, 0], &Z_[0, 0], n_threads)
    check(status)
    return Z, A, S


def attend_backward(View view, const real[:, ::1] X, const real[:, ::1] W, const real[:, ::1] S,
                    const real[:, ::1] A, const real[:, ::1] dZ, bint by_comparisons, real[:, ::1] dX, int n_threads):
    """(dW, dbias, dS or None); dX, where it is not None, is added to in place."""
    cdef int64_t n = view.c.n, n_positions = view.c.n_positions, n_types = X.shape[0], d = X.shape[1]
    cdef real *dx = NULL
    cdef real *ds = NULL
    cdef int status
    same_length(W.shape[0], n_positions, "the rows of W and positions")
    same_length(W.shape[1], n_positions, "the columns of W and positions")
    positions_fit(view, S.shape[0], S.shape[1], "S")
    positions_fit(view, A.shape[0], A.shape[1], "A")
    same_length(dZ.shape[0], n, "the rows of dZ and windows")
    same_length(dZ.shape[1], d, "the columns of dZ and X")
    dtype = np.float32 if real is float else np.float64
    dW, dbias = np.empty((n_positions, n_positions), dtype), np.empty(n_positions, dtype)
    dS = np.empty((n, n_positions), dtype) if by_comparisons or dX is not None else None
    cdef real[:, ::1] dW_ = dW, dS_
    cdef real[::1] dbias_ = dbias
    if dS is not None:
        dS_ = dS
        ds = &dS_[0, 0]
    if dX is not None:
        same_length(dX.shape[0], n_types, "the rows of dX and X")
        same_length(dX.shape[1], d, "the columns of dX and X")
        dx = &dX[0, 0]
    with nogil:
        if real is float:
            status = k.saffu_attend_backward_f32(&view.c, &X[0, 0], &W[0, 0], &S[0, 0], &A[0, 0], &dZ[0, 0], n_types,
                                                 d, &dW_[0, 0], &dbias_[0], ds, dx, n_threads)
        else:
            status = k.saffu_attend_backward_f64(&view.c, &X[0, 0], &W[0, 0], &S[0, 0], &A[0, 0], &dZ[0, 0], n_types,
                                                 d, &dW_[0, 0], &dbias_[0], ds, dx, n_threads)
    check(status)
    return dW, dbias, dS

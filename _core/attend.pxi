# Bindings of attend.c: attention over windows of a stream.


@cython.final
@cython.auto_pickle(False)
cdef class View:
    """Windows of a stream. Their arrays are taken anew for each call; kernels look at every place they then follow."""

    cdef object ids, first, length, head
    cdef int64_t n, n_positions, step

    def __cinit__(self, const int32_t[::1] ids not None, const int64_t[::1] first not None,
                  const int32_t[::1] length not None, const int64_t[::1] head not None, step, n_positions):
        self.n = first.shape[0]
        same_length(self.n, length.shape[0], "first and length")
        same_length(self.n, head.shape[0], "first and head")
        self.step, self.n_positions = whole(step, "step", -1, 1), whole(n_positions, "n_positions", 0, MOST)
        if self.step == 0:
            raise ValueError("step must be 1 or -1, got 0")
        self.ids, self.first, self.length, self.head = ids.base, first.base, length.base, head.base

    cdef k.saffu_view at(self, const int32_t[::1] ids, const int64_t[::1] first, const int32_t[::1] length,
                         const int64_t[::1] head) except *:
        """The windows for the kernels, on these arrays."""
        cdef k.saffu_view c
        same_length(self.n, first.shape[0], "first and the windows")
        same_length(self.n, length.shape[0], "length and the windows")
        same_length(self.n, head.shape[0], "head and the windows")
        aligned(<size_t>&ids[0] | <size_t>&length[0], 4)
        aligned(<size_t>&first[0] | <size_t>&head[0], 8)
        c.n, c.n_ids, c.n_positions, c.step = self.n, ids.shape[0], self.n_positions, self.step
        c.ids, c.first, c.length, c.head = &ids[0], &first[0], &length[0], &head[0]
        return c


cdef k.saffu_view windows_of(const k.saffu_view *all, int64_t begin, int64_t end) noexcept nogil:
    """Some of the windows, one after the other."""
    cdef k.saffu_view c = all[0]
    c.n, c.first, c.length, c.head = end - begin, all.first + begin, all.length + begin, all.head + begin
    return c


cdef int windows_good(int status) except -1:
    if status == k.SAFFU_OUT_OF_RANGE:
        raise ValueError("a window is out of range of the stream, or an id in it of the rows of X")
    return check(status)


cdef int view_apart(const void *x, int64_t n_bytes, const k.saffu_view *view, str name) except -1:
    """An array that is written shares no memory with the windows."""
    apart(x, n_bytes, view.ids, 4 * view.n_ids, f"{name} and ids")
    apart(x, n_bytes, view.first, 8 * view.n, f"{name} and first")
    apart(x, n_bytes, view.length, 4 * view.n, f"{name} and length")
    return apart(x, n_bytes, view.head, 8 * view.n, f"{name} and head")


cdef int table_size(Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t n_types) except -1:
    """Cached ids of a square table."""
    same_length(n_rows, n_columns, "the sides of the table of comparisons")
    if n_rows > n_types:
        raise ValueError("the table of comparisons is larger than the vocabulary")
    return 0


cdef int positions_fit(View view, Py_ssize_t n_rows, Py_ssize_t n_columns, str name) except -1:
    same_length(n_rows, view.n, f"the rows of {name} and windows")
    same_length(n_columns, view.n_positions, f"the columns of {name} and positions")
    return 0


def compare_all(const real[:, ::1] X not None, n_threads):
    """X X^T: the table of comparisons."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = X.shape[0], d = X.shape[1]
    aligned(<size_t>&X[0, 0], sizeof(real))
    C = np.empty((n, n), dtype_of(sizeof(real)))
    cdef real[:, ::1] C_ = C
    cdef Blocks b = blocks(n, n * d // 4 + n, 8 if n_team == 1 else 32 * n_team)
    while more(&b):
        with nogil:
            status = k.saffu_compare_all(&X[0, 0], sizeof(real), n, d, b.begin, b.end, &C_[0, 0], n_team)
        check(status)
    return C


def comparisons(View view not None, const real[:, ::1] X not None, const real[:, ::1] cache, n_threads):
    """S (n, K): the comparisons of each window; cache may be None."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_types = X.shape[0], d = X.shape[1], n_cached = 0
    cdef const real *table = NULL
    cdef const int32_t[::1] ids = view.ids, length = view.length
    cdef const int64_t[::1] first = view.first, head = view.head
    cdef k.saffu_view all = view.at(ids, first, length, head), c
    if cache is not None:
        table_size(cache.shape[0], cache.shape[1], n_types)
        table, n_cached = &cache[0, 0], cache.shape[0]
    aligned(<size_t>&X[0, 0] | <size_t>table, sizeof(real))
    S = np.empty((view.n, view.n_positions), dtype_of(sizeof(real)))
    cdef real[:, ::1] S_ = S
    cdef Blocks b = blocks(view.n, view.n_positions * (d // 2 + 2), 64 * n_team)
    while more(&b):
        with nogil:
            c = windows_of(&all, b.begin, b.end)
            status = k.saffu_comparisons(&c, &X[0, 0], table, sizeof(real), n_types, d, n_cached, &S_[b.begin, 0],
                                         n_team)
        windows_good(status)
    return S


def attend(View view not None, const real[:, ::1] X not None, const real[:, ::1] cache,
           const real[:, ::1] W not None, const real[::1] bias, const real[:, ::1] given, n_threads):
    """(Z, A, S) of each window; cache, bias and given may be None. Comparisons that are given are not returned."""
    cdef int n_team = team(n_threads), status, with_s = given is not None
    cdef int64_t n = view.n, n_positions = view.n_positions, n_types = X.shape[0], d = X.shape[1], n_cached = 0
    cdef const real *table = NULL
    cdef const real *bias_ = NULL
    cdef const int32_t[::1] ids = view.ids, length = view.length
    cdef const int64_t[::1] first = view.first, head = view.head
    cdef k.saffu_view all = view.at(ids, first, length, head), c
    same_length(W.shape[0], n_positions, "the rows of W and positions")
    same_length(W.shape[1], n_positions, "the columns of W and positions")
    if cache is not None:
        table_size(cache.shape[0], cache.shape[1], n_types)
        table, n_cached = &cache[0, 0], cache.shape[0]
    if bias is not None:
        same_length(bias.shape[0], n_positions, "bias and positions")
        bias_ = &bias[0]
    dtype = dtype_of(sizeof(real))
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
    aligned(<size_t>&X[0, 0] | <size_t>table | <size_t>&W[0, 0] | <size_t>bias_ | <size_t>s, sizeof(real))
    cdef Blocks b = blocks(n, n_positions * (d + n_positions // 4 + 4) + d, 64 * n_team)
    while more(&b):
        with nogil:
            c = windows_of(&all, b.begin, b.end)
            status = k.saffu_attend(&c, &X[0, 0], table, &W[0, 0], bias_, sizeof(real), n_types, d, n_cached, with_s,
                                    s + b.begin * n_positions, &A_[b.begin, 0], &Z_[b.begin, 0], n_team)
        windows_good(status)
    return Z, A, S


def attend_backward(View view not None, const real[:, ::1] X not None, const real[:, ::1] W not None,
                    const real[:, ::1] S not None, const real[:, ::1] A not None, const real[:, ::1] dZ not None,
                    bint by_comparisons, real[:, ::1] dX, n_threads):
    """(dW, dbias, dS or None); dX, where it is not None, is added to in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = view.n, n_positions = view.n_positions, n_types = X.shape[0], d = X.shape[1], x_bytes
    cdef real *ds = NULL
    cdef const int32_t[::1] ids = view.ids, length = view.length
    cdef const int64_t[::1] first = view.first, head = view.head
    cdef k.saffu_view all = view.at(ids, first, length, head), c
    cdef k.saffu_attend_plan plan = k.saffu_plan_attend(n, n_positions)
    same_length(W.shape[0], n_positions, "the rows of W and positions")
    same_length(W.shape[1], n_positions, "the columns of W and positions")
    positions_fit(view, S.shape[0], S.shape[1], "S")
    positions_fit(view, A.shape[0], A.shape[1], "A")
    same_length(dZ.shape[0], n, "the rows of dZ and windows")
    same_length(dZ.shape[1], d, "the columns of dZ and X")
    aligned(<size_t>&X[0, 0] | <size_t>&W[0, 0] | <size_t>&S[0, 0] | <size_t>&A[0, 0] | <size_t>&dZ[0, 0], sizeof(real))
    if dX is not None:
        same_length(dX.shape[0], n_types, "the rows of dX and X")
        same_length(dX.shape[1], d, "the columns of dX and X")
        aligned(<size_t>&dX[0, 0], sizeof(real))
        x_bytes = n_types * d * sizeof(real)
        apart(&dX[0, 0], x_bytes, &X[0, 0], x_bytes, "dX and X")
        apart(&dX[0, 0], x_bytes, &W[0, 0], n_positions * n_positions * sizeof(real), "dX and W")
        apart(&dX[0, 0], x_bytes, &S[0, 0], n * n_positions * sizeof(real), "dX and S")
        apart(&dX[0, 0], x_bytes, &A[0, 0], n * n_positions * sizeof(real), "dX and A")
        apart(&dX[0, 0], x_bytes, &dZ[0, 0], n * d * sizeof(real), "dX and dZ")
        view_apart(&dX[0, 0], x_bytes, &all, "dX")
    dtype = dtype_of(sizeof(real))
    dW, dbias = np.empty((n_positions, n_positions), dtype), np.empty(n_positions, dtype)
    dS = np.empty((n, n_positions), dtype) if by_comparisons or dX is not None else None
    cdef double[:, ::1] sums = np.zeros((plan.n_chunks, plan.size))
    cdef real[:, ::1] dW_ = dW, dS_
    cdef real[::1] dbias_ = dbias
    if dS is not None:
        dS_ = dS
        ds = &dS_[0, 0]
    # Windows of every chunk at once, as the chunks are what the team shares.
    cdef Blocks b = blocks(min(plan.chunk, n), plan.n_chunks * (n_positions * (d + n_positions // 4 + 4) + d), 64)
    while more(&b):
        with nogil:
            status = k.saffu_attend_backward(&all, &X[0, 0], &W[0, 0], &S[0, 0], &A[0, 0], &dZ[0, 0], sizeof(real),
                                             n_types, d, b.begin, b.end, &sums[0, 0], ds, n_team)
        windows_good(status)
    with nogil:
        status = k.saffu_attend_weights(&all, sizeof(real), &sums[0, 0], &dW_[0, 0], &dbias_[0])
    check(status)
    if dX is None:
        return dW, dbias, dS
    b = blocks(n, 2 * n_positions * d, 64)
    while more(&b):
        with nogil:
            c = windows_of(&all, b.begin, b.end)
            status = k.saffu_attend_embeddings(&c, &X[0, 0], &dZ[b.begin, 0], &A[b.begin, 0],
                                               ds + b.begin * n_positions, sizeof(real), d, &dX[0, 0], n_team)
        check(status)
    return dW, dbias, dS

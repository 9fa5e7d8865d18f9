# Bindings of lstm.c: a time step of a long short-term memory.


cdef int cells_fit(Py_ssize_t n_rows, Py_ssize_t n_cells, Py_ssize_t rows, Py_ssize_t columns, str name) except -1:
    same_length(rows, n_rows, f"the rows of {name} and of G")
    same_length(columns, n_cells, f"the columns of {name} and a quarter of those of G")
    return 0


def lstm_step(const real[:, ::1] R not None, const real[:, ::1] C_before not None, real[:, ::1] G not None,
              real[:, ::1] C not None, real[:, ::1] tanh_C not None, real[:, ::1] M not None, n_threads):
    """The gates G + R become [in, forget, candidate, out] in G; C, tanh C and M = out tanh C are written."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = G.shape[0], n_cells = G.shape[1] // 4
    cdef int64_t size = n_rows * n_cells * sizeof(real)
    same_length(G.shape[1], 4 * n_cells, "the columns of G and four times the cells")
    same_length(R.shape[0], n_rows, "the rows of R and of G")
    same_length(R.shape[1], 4 * n_cells, "the columns of R and of G")
    cells_fit(n_rows, n_cells, C_before.shape[0], C_before.shape[1], "C_before")
    cells_fit(n_rows, n_cells, C.shape[0], C.shape[1], "C")
    cells_fit(n_rows, n_cells, tanh_C.shape[0], tanh_C.shape[1], "tanh_C")
    cells_fit(n_rows, n_cells, M.shape[0], M.shape[1], "M")
    aligned(<size_t>&R[0, 0] | <size_t>&C_before[0, 0] | <size_t>&G[0, 0], sizeof(real))
    aligned(<size_t>&C[0, 0] | <size_t>&tanh_C[0, 0] | <size_t>&M[0, 0], sizeof(real))
    apart(&G[0, 0], 4 * size, &R[0, 0], 4 * size, "G and R")
    apart(&G[0, 0], 4 * size, &C_before[0, 0], size, "G and C_before")
    apart(&C[0, 0], size, &C_before[0, 0], size, "C and C_before")
    apart(&tanh_C[0, 0], size, &C_before[0, 0], size, "tanh_C and C_before")
    apart(&M[0, 0], size, &C_before[0, 0], size, "M and C_before")
    apart(&C[0, 0], size, &R[0, 0], 4 * size, "C and R")
    apart(&tanh_C[0, 0], size, &R[0, 0], 4 * size, "tanh_C and R")
    apart(&M[0, 0], size, &R[0, 0], 4 * size, "M and R")
    apart(&G[0, 0], 4 * size, &C[0, 0], size, "G and C")
    apart(&G[0, 0], 4 * size, &tanh_C[0, 0], size, "G and tanh_C")
    apart(&G[0, 0], 4 * size, &M[0, 0], size, "G and M")
    apart(&C[0, 0], size, &tanh_C[0, 0], size, "C and tanh_C")
    apart(&C[0, 0], size, &M[0, 0], size, "C and M")
    apart(&tanh_C[0, 0], size, &M[0, 0], size, "tanh_C and M")
    cdef Blocks b = blocks(n_rows, 20 * n_cells)
    while more(&b):
        with nogil:
            status = k.saffu_lstm_step(&R[b.begin, 0], &C_before[b.begin, 0], sizeof(real), b.end - b.begin, n_cells,
                                       &G[b.begin, 0], &C[b.begin, 0], &tanh_C[b.begin, 0], &M[b.begin, 0], n_team)
        check(status)


def lstm_step_backward(const real[:, ::1] C_before not None, const real[:, ::1] tanh_C not None,
                       const real[:, ::1] dM not None, real[:, ::1] G not None, real[:, ::1] dC not None, n_threads):
    """G as lstm_step left it becomes the gradient by the gates, dC, by the cells, that by C_before, both in place."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = G.shape[0], n_cells = G.shape[1] // 4
    cdef int64_t size = n_rows * n_cells * sizeof(real)
    same_length(G.shape[1], 4 * n_cells, "the columns of G and four times the cells")
    cells_fit(n_rows, n_cells, C_before.shape[0], C_before.shape[1], "C_before")
    cells_fit(n_rows, n_cells, tanh_C.shape[0], tanh_C.shape[1], "tanh_C")
    cells_fit(n_rows, n_cells, dM.shape[0], dM.shape[1], "dM")
    cells_fit(n_rows, n_cells, dC.shape[0], dC.shape[1], "dC")
    aligned(<size_t>&C_before[0, 0] | <size_t>&tanh_C[0, 0] | <size_t>&dM[0, 0], sizeof(real))
    aligned(<size_t>&G[0, 0] | <size_t>&dC[0, 0], sizeof(real))
    apart(&G[0, 0], 4 * size, &C_before[0, 0], size, "G and C_before")
    apart(&G[0, 0], 4 * size, &tanh_C[0, 0], size, "G and tanh_C")
    apart(&G[0, 0], 4 * size, &dM[0, 0], size, "G and dM")
    apart(&G[0, 0], 4 * size, &dC[0, 0], size, "G and dC")
    apart(&dC[0, 0], size, &C_before[0, 0], size, "dC and C_before")
    apart(&dC[0, 0], size, &tanh_C[0, 0], size, "dC and tanh_C")
    apart(&dC[0, 0], size, &dM[0, 0], size, "dC and dM")
    cdef Blocks b = blocks(n_rows, 8 * n_cells)
    while more(&b):
        with nogil:
            status = k.saffu_lstm_step_backward(&C_before[b.begin, 0], &tanh_C[b.begin, 0], &dM[b.begin, 0],
                                                sizeof(real), b.end - b.begin, n_cells, &G[b.begin, 0],
                                                &dC[b.begin, 0], n_team)
        check(status)

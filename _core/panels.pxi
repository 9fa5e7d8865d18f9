# Bindings of panels.c: products of a few rows with a matrix that was packed once.

PANEL_BYTES = 128  # of a row of a panel: two vectors


def panel_product(const real[:, ::1] A not None, const real[:, :, ::1] panels not None, real[:, ::1] Z not None,
                  n_threads):
    """Z = A B for B (n_inner, n_columns) in panels (ceil(n_columns / width), n_inner, width), the last one padded."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n_rows = A.shape[0], n_inner = A.shape[1], n_columns = Z.shape[1]
    cdef int64_t width = 128 // <int64_t>sizeof(real), n_panels = (n_columns + width - 1) // width
    cdef int64_t z_bytes = n_rows * n_columns * sizeof(real)
    same_length(Z.shape[0], n_rows, "the rows of Z and of A")
    same_length(panels.shape[0], n_panels, "panels and the panels of Z")
    same_length(panels.shape[1], n_inner, "the rows of panels and the columns of A")
    same_length(panels.shape[2], width, "the columns of a panel and two vectors")
    aligned(<size_t>&A[0, 0] | <size_t>&panels[0, 0, 0] | <size_t>&Z[0, 0], sizeof(real))
    apart(&Z[0, 0], z_bytes, &A[0, 0], n_rows * n_inner * sizeof(real), "Z and A")
    apart(&Z[0, 0], z_bytes, &panels[0, 0, 0], n_panels * n_inner * width * sizeof(real), "Z and panels")
    cdef Blocks b = blocks(n_rows, n_inner * n_columns // 8 + 1, 8)
    while more(&b):
        with nogil:
            status = k.saffu_panel_product(&A[b.begin, 0], &panels[0, 0, 0], sizeof(real), b.end - b.begin, n_inner,
                                           n_columns, &Z[b.begin, 0], n_team)
        check(status)

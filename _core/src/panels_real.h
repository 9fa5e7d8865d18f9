/* Products with a matrix in panels for one type of real: included by panels.c with REAL, WIDTH and NAME(name) defined. */

/* sum (rows, 2 vectors) = A B for some rows of A, row by row a_stride apart, and a panel b (n_inner, 2 vectors). */
SAFFU_INLINE void NAME(panel_tile)(const REAL *A, int64_t a_stride, const REAL *b, int64_t n_inner, int rows,
                                   NAME(Vector) sum[ROWS][2]) {
    memset(sum, 0, (size_t)rows * sizeof *sum);
    for (int64_t k = 0; k < n_inner; k++) {
        NAME(Vector) b0 = NAME(load_vector)(b + k * 2 * WIDTH), b1 = NAME(load_vector)(b + k * 2 * WIDTH + WIDTH);
        for (int r = 0; r < rows; r++) {
            sum[r][0] = NAME(multiply_add_one)(sum[r][0], A[r * a_stride + k], b0);
            sum[r][1] = NAME(multiply_add_one)(sum[r][1], A[r * a_stride + k], b1);
        }
    }
}

/* The same, stored to the first n columns of a panel of Z. */
SAFFU_INLINE void NAME(store_tile)(const REAL *A, const REAL *b, int64_t n_inner, int64_t z_stride, int64_t n, int rows,
                                   REAL *Z) {
    NAME(Vector) sum[ROWS][2];
    NAME(panel_tile)(A, n_inner, b, n_inner, rows, sum);
    for (int r = 0; r < rows; r++) memcpy(Z + r * z_stride, sum[r], (size_t)n * sizeof *Z);
}

SAFFU_SIMD static int NAME(panel_product)(const REAL *A, const REAL *panels, int64_t n_rows, int64_t n_inner,
                                          int64_t n_columns, REAL *Z, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_inner * (n_columns / WIDTH));
    int64_t n_panels = (n_columns + 2 * WIDTH - 1) / (2 * WIDTH);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t p = 0; p < n_panels; p++) {
        const REAL *b = panels + p * n_inner * 2 * WIDTH;
        int64_t first = p * 2 * WIDTH, n = saffu_min(2 * WIDTH, n_columns - first), m = 0;
        for (; m + ROWS <= n_rows; m += ROWS)
            NAME(store_tile)(A + m * n_inner, b, n_inner, n_columns, n, ROWS, Z + m * n_columns + first);
        for (; m + ROWS / 2 <= n_rows; m += ROWS / 2)
            NAME(store_tile)(A + m * n_inner, b, n_inner, n_columns, n, ROWS / 2, Z + m * n_columns + first);
        for (; m < n_rows; m++)
            NAME(store_tile)(A + m * n_inner, b, n_inner, n_columns, n, 1, Z + m * n_columns + first);
    }
    return SAFFU_OK;
}

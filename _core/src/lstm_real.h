/* A time step of an LSTM for one type of real: included by lstm.c with REAL, EXP and NAME(name) defined. */

SAFFU_INLINE REAL NAME(logistic)(REAL x) { return 1 / (1 + EXP(-x)); }

/* One row: the gates, side by side, become what their functions give; c, tanh c and m = o tanh c. */
SAFFU_INLINE void NAME(lstm_row)(const REAL *restrict r, const REAL *restrict c_before, int64_t n, REAL *restrict g,
                                 REAL *restrict c, REAL *restrict tanh_c, REAL *restrict m) {
    for (int64_t k = 0; k < n; k++) {
        REAL in = NAME(logistic)(g[k] + r[k]), forget = NAME(logistic)(g[n + k] + r[n + k]);
        REAL candidate = 2 * NAME(logistic)(2 * (g[2 * n + k] + r[2 * n + k])) - 1;
        REAL out = NAME(logistic)(g[3 * n + k] + r[3 * n + k]), cell = forget * c_before[k] + in * candidate;
        REAL squashed = 2 * NAME(logistic)(2 * cell) - 1;
        g[k] = in;
        g[n + k] = forget;
        g[2 * n + k] = candidate;
        g[3 * n + k] = out;
        c[k] = cell;
        tanh_c[k] = squashed;
        m[k] = out * squashed;
    }
}

/* One row: the gates become their gradients before the functions, dc that by the cells before. */
SAFFU_INLINE void NAME(lstm_row_backward)(const REAL *restrict c_before, const REAL *restrict tanh_c,
                                          const REAL *restrict dm, int64_t n, REAL *restrict g, REAL *restrict dc) {
    for (int64_t k = 0; k < n; k++) {
        REAL in = g[k], forget = g[n + k], candidate = g[2 * n + k], out = g[3 * n + k], squashed = tanh_c[k];
        REAL d = dc[k] + dm[k] * out * (1 - squashed * squashed);
        g[k] = d * candidate * in * (1 - in);
        g[n + k] = d * c_before[k] * forget * (1 - forget);
        g[2 * n + k] = d * in * (1 - candidate * candidate);
        g[3 * n + k] = dm[k] * squashed * out * (1 - out);
        dc[k] = d * forget;
    }
}

SAFFU_SIMD static int NAME(lstm_step)(const REAL *R, const REAL *C_before, int64_t n_rows, int64_t n_cells, REAL *G,
                                      REAL *C, REAL *tanh_C, REAL *M, int n_threads) {
    int team = saffu_team(n_threads, 8 * n_rows * n_cells);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t s = 0; s < n_rows; s++)
        NAME(lstm_row)(R + 4 * s * n_cells, C_before + s * n_cells, n_cells, G + 4 * s * n_cells, C + s * n_cells,
                       tanh_C + s * n_cells, M + s * n_cells);
    return SAFFU_OK;
}

SAFFU_SIMD static int NAME(lstm_step_backward)(const REAL *C_before, const REAL *tanh_C, const REAL *dM,
                                               int64_t n_rows, int64_t n_cells, REAL *G, REAL *dC, int n_threads) {
    int team = saffu_team(n_threads, 4 * n_rows * n_cells);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t s = 0; s < n_rows; s++)
        NAME(lstm_row_backward)(C_before + s * n_cells, tanh_C + s * n_cells, dM + s * n_cells, n_cells,
                                G + 4 * s * n_cells, dC + s * n_cells);
    return SAFFU_OK;
}

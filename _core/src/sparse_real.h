/* Sparse forms for one type of real: included by sparse.c with REAL and NAME(name) defined. */

SAFFU_SIMD static int NAME(compress_count)(const REAL *X, int64_t n_rows, int64_t n_columns, int64_t *counts,
                                            int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns / 8);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        int32_t n = 0;
        for (int64_t j = 0; j < n_columns; j++) n += x[j] != 0;
        counts[m] = n;
    }
    return SAFFU_OK;
}

static int NAME(compress)(const REAL *X, const int64_t *indptr, int64_t n_rows, int64_t n_columns, int32_t *indices,
                          REAL *data, int n_threads) {
    int team = saffu_team(n_threads, n_rows * n_columns);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t m = 0; m < n_rows; m++) {
        const REAL *x = X + m * n_columns;
        for (int64_t j = 0, e = indptr[m]; e < indptr[m + 1]; j++) {
            /* Written whether or not it is kept: a branch on each pixel would be mispredicted too often. */
            indices[e] = (int32_t)j;
            data[e] = x[j];
            e += x[j] != 0;
        }
    }
    return SAFFU_OK;
}

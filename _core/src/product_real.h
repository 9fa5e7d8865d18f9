/* Sparse products for one type of real: included by product.c with REAL and NAME(name) defined. */

/* One tile of rows [from, to) of Z. */
SAFFU_INLINE void NAME(multiply_tile)(const NAME(Product) *p, NAME(Tile) b, int n_vectors, int has_edge, int64_t from,
                                      int64_t to, REAL *Z) {
    const int64_t *indptr = p->indptr, n_columns = p->n_columns;
    const int32_t *indices = p->indices;
    const REAL *data = p->data, *bias = p->bias ? p->bias + b.first : NULL;
    size_t size = (size_t)saffu_min(n_columns, n_vectors * NAME(WIDTH)) * sizeof(REAL);
    for (int64_t m = from; m < to; m++) {
        NAME(Vector) z[N_VECTORS];
        memset(z, 0, sizeof z);
        if (bias) memcpy(z, bias, size);
        NAME(multiply_entries)
        (indices + indptr[m], data + indptr[m], indptr[m + 1] - indptr[m], b.B, b.stride, b.edge,
         b.n_safe, n_vectors, has_edge, z);
        memcpy(Z + m * n_columns, z, size);
    }
}

/* The same in double, F = sums: floats are added in segments, so that a sum over many rows keeps its digits. */
SAFFU_INLINE void NAME(multiply_tile_double)(const NAME(Product) *p, NAME(Tile) b, int n_vectors, int has_edge,
                                             int64_t from, int64_t to, int64_t f_stride, double *F) {
    const int64_t *indptr = p->indptr;
    const int32_t *indices = p->indices;
    const REAL *data = p->data;
    int64_t width = saffu_min(p->n_columns, n_vectors * NAME(WIDTH));
    for (int64_t m = from; m < to; m++) {
        double sum[N_VECTORS * NAME(WIDTH)];
        for (int64_t k = 0; k < n_vectors * NAME(WIDTH); k++) sum[k] = 0.0;
        for (int64_t e = indptr[m]; e < indptr[m + 1]; e += SEGMENT) {
            NAME(Vector) z[N_VECTORS];
            REAL part[N_VECTORS * NAME(WIDTH)];
            memset(z, 0, (size_t)n_vectors * sizeof *z);
            NAME(multiply_entries)
            (indices + e, data + e, saffu_min(SEGMENT, indptr[m + 1] - e), b.B, b.stride, b.edge, b.n_safe,
             n_vectors, has_edge, z);
            memcpy(part, z, sizeof part);
            for (int64_t k = 0; k < n_vectors * NAME(WIDTH); k++) sum[k] += (double)part[k];
        }
        memcpy(F + m * f_stride, sum, (size_t)width * sizeof(double));
    }
}

/* One tile of rows [from, to) of Z, or of F unless that is NULL; the number of vectors is to be a constant. */
SAFFU_INLINE void NAME(multiply_either)(const NAME(Product) *p, NAME(Tile) b, int n_vectors, int has_edge, int64_t from,
                                        int64_t to, int64_t f_stride, REAL *Z, double *F) {
    if (F) NAME(multiply_tile_double)(p, b, n_vectors, has_edge, from, to, f_stride, F + b.first);
    else NAME(multiply_tile)(p, b, n_vectors, has_edge, from, to, Z + b.first);
}

/* Columns from t on of rows [from, to), tile by tile. */
SAFFU_INLINE void NAME(multiply_rows)(const NAME(Product) *p, const NAME(Edge) *edge, int64_t t, int64_t from,
                                      int64_t to, int64_t f_stride, REAL *Z, double *F) {
    int has_edge = edge != NULL;
    for (; t < p->n_columns; t += N_VECTORS * NAME(WIDTH)) {
        NAME(Tile) b = NAME(tile_at)(p, edge, t);
        switch (b.n_vectors) {
        case 1: NAME(multiply_either)(p, b, 1, has_edge, from, to, f_stride, Z, F); break;
        case 2: NAME(multiply_either)(p, b, 2, has_edge, from, to, f_stride, Z, F); break;
        case 3: NAME(multiply_either)(p, b, 3, has_edge, from, to, f_stride, Z, F); break;
        default: NAME(multiply_either)(p, b, 4, has_edge, from, to, f_stride, Z, F); break;
        }
    }
}

/* The same for a B that has an edge, few rows: apart from the loops above, so that those stay as tight as they are. */
SAFFU_SIMD static void NAME(multiply_few)(const NAME(Product) *p, const NAME(Edge) *edge, int64_t from, int64_t to,
                                          int64_t f_stride, REAL *Z, double *F) {
    const NAME(Edge) here = *edge;
    NAME(multiply_rows)(p, &here, 0, from, to, f_stride, Z, F);
}

SAFFU_SIMD static int NAME(product)(const int64_t *indptr, const int32_t *indices, const REAL *data, const REAL *B,
                                    const REAL *copy, const REAL *bias, int64_t n_rows, int64_t n_inner,
                                    int64_t n_columns, int64_t b_stride, REAL *Z, int n_threads) {
    const NAME(Product) p = {indptr, indices, data, B, copy, bias, n_inner, n_columns, b_stride};
    NAME(Edge) edge;
    int64_t n_entries = indptr[n_rows] - indptr[0];
    int team = saffu_team(n_threads, n_entries * n_columns / 8 + n_rows), bad = 0, few = NAME(copy_edge)(&p, &edge);
    int64_t chunk = saffu_max(1, saffu_min(ROWS_AT_MOST, n_rows / (4 * team))), size = NAME(dense_size)(&p, n_rows);
    REAL *scratch = size ? malloc((size_t)(team * size) * sizeof *scratch) : NULL; /* without it rows stay sparse */
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += chunk) {
        int64_t to = saffu_min(n_rows, from + chunk), done = 0, next[ROWS_AT_MOST];
        if (!indices_fit(indices, indptr[from], indptr[to], n_inner)) bad |= 1;
        else if (few) NAME(multiply_few)(&p, &edge, from, to, 0, Z, NULL);
        else {
            if (scratch && NAME(ascend)(&p, from, to))
                done = NAME(multiply_dense)(&p, from, to, scratch + saffu_thread() * size, next, Z);
            NAME(multiply_rows)(&p, NULL, done, from, to, 0, Z, NULL);
        }
    }
    free(scratch);
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD static int NAME(product_double)(const int64_t *indptr, const int32_t *indices, const REAL *data,
                                           const REAL *B, const REAL *copy, int64_t n_rows, int64_t n_inner,
                                           int64_t n_columns, int64_t b_stride, int64_t f_stride, double *F,
                                           int n_threads) {
    const NAME(Product) p = {indptr, indices, data, B, copy, NULL, n_inner, n_columns, b_stride};
    NAME(Edge) edge;
    int64_t n_entries = indptr[n_rows] - indptr[0];
    int team = saffu_team(n_threads, n_entries * n_columns / 8 + n_rows), bad = 0, few = NAME(copy_edge)(&p, &edge);
    int64_t chunk = saffu_max(1, saffu_min(ROWS_AT_MOST, n_rows / (16 * team)));
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += chunk) {
        int64_t to = saffu_min(n_rows, from + chunk);
        if (!indices_fit(indices, indptr[from], indptr[to], n_inner)) bad |= 1;
        else if (few) NAME(multiply_few)(&p, &edge, from, to, f_stride, NULL, F);
        else NAME(multiply_rows)(&p, NULL, 0, from, to, f_stride, NULL, F);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

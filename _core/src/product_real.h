/* Sparse products for one type of real: included by product.c with REAL and NAME(name) defined. */

/* z (n_vectors) += sum_e data[e] B[indices[e], tile], the even and the odd entries in sums of their own when the tile
 * is too narrow to hide the latency of an addition. */
SAFFU_INLINE void NAME(multiply_entries)(const int32_t *restrict indices, const REAL *restrict data, int64_t n_entries,
                                    const REAL *restrict B, int64_t stride, int n_vectors, NAME(Vector) *z) {
    NAME(Vector) even[N_VECTORS], odd[N_VECTORS];
    const REAL zeros[NAME(WIDTH)] = {0};
    int64_t e = 0;
    for (int v = 0; v < n_vectors; v++) even[v] = z[v];
    if (n_vectors <= N_VECTORS / 2) {
        for (int v = 0; v < n_vectors; v++) memcpy(odd + v, zeros, sizeof zeros);
        for (; e + 2 <= n_entries; e += 2) {
            const REAL *b = B + indices[e] * stride, *c = B + indices[e + 1] * stride;
            for (int v = 0; v < n_vectors; v++)
                even[v] = NAME(multiply_add_one)(even[v], data[e], NAME(load_vector)(b + v * NAME(WIDTH)));
            for (int v = 0; v < n_vectors; v++)
                odd[v] = NAME(multiply_add_one)(odd[v], data[e + 1], NAME(load_vector)(c + v * NAME(WIDTH)));
        }
        for (int v = 0; v < n_vectors; v++) even[v] = NAME(multiply_add_one)(even[v], 1, odd[v]);
    }
    for (; e < n_entries; e++) {
        const REAL *b = B + indices[e] * stride;
        for (int v = 0; v < n_vectors; v++)
            even[v] = NAME(multiply_add_one)(even[v], data[e], NAME(load_vector)(b + v * NAME(WIDTH)));
    }
    for (int v = 0; v < n_vectors; v++) z[v] = even[v];
}

SAFFU_INLINE int64_t NAME(whole_vectors)(int64_t n_columns) {
    return (n_columns + NAME(WIDTH) - 1) / NAME(WIDTH) * NAME(WIDTH);
}

/* A copy is needed where a single tile is wider than B and would read beyond its end, and worth its time when rows of B
 * that are apart, and may fall into the same sets of the cache, are read many times over. */
static int64_t NAME(copy_size)(int64_t n_entries, int64_t n_inner, int64_t n_columns) {
    int wanted = n_columns <= N_VECTORS * NAME(WIDTH) ? n_columns % NAME(WIDTH) != 0 : n_entries >= 8 * n_inner;
    return wanted ? n_inner * NAME(whole_vectors)(n_columns) : 0;
}

/* B tile by tile, each tile's rows beside one another, a tile wider than B filled with zeros. */
static int NAME(copy_tiles)(const REAL *B, int64_t b_stride, int64_t n_inner, int64_t n_columns, REAL *copy) {
    int64_t tile = N_VECTORS * NAME(WIDTH), columns = NAME(whole_vectors)(n_columns);
    for (int64_t t = 0; t < columns; t += tile) {
        int64_t width = saffu_min(tile, columns - t), first = saffu_max(0, saffu_min(t, n_columns - width));
        for (int64_t j = 0; j < n_inner; j++, copy += width)
            memcpy(copy, B + j * b_stride + first, (size_t)saffu_min(width, n_columns) * sizeof *copy);
    }
    return SAFFU_OK;
}

/* The product of a CSR matrix and B, or its copy. */
typedef struct {
    const int64_t *indptr;
    const int32_t *indices;
    const REAL *data, *B, *copy, *bias;
    int64_t n_inner, n_columns, b_stride;
} NAME(Product);

/* Some adjacent columns of B: the first entry, the distance of its rows, the first column and the number of vectors. */
typedef struct {
    const REAL *B;
    int64_t stride, first, n_vectors;
} NAME(Tile);

/* The tile that begins in column t, or before it so as to end with the row. */
SAFFU_INLINE NAME(Tile) NAME(tile_at)(const NAME(Product) *p, int64_t t) {
    int64_t left = p->n_columns - t, n = saffu_min(N_VECTORS, (left + NAME(WIDTH) - 1) / NAME(WIDTH));
    int64_t first = saffu_max(0, saffu_min(t, p->n_columns - n * NAME(WIDTH)));
    if (p->copy) return (NAME(Tile)){p->copy + p->n_inner * t, n * NAME(WIDTH), first, n};
    return (NAME(Tile)){p->B + first, p->b_stride, first, n};
}

/* One tile of rows [from, to) of Z. */
SAFFU_INLINE void NAME(multiply_tile)(const int64_t *indptr, const int32_t *indices, const REAL *data, const REAL *B,
                                      int64_t stride, const REAL *bias, int64_t from, int64_t to, int64_t n_columns,
                                      int n_vectors, REAL *Z) {
    size_t size = (size_t)saffu_min(n_columns, n_vectors * NAME(WIDTH)) * sizeof(REAL);
    for (int64_t m = from; m < to; m++) {
        NAME(Vector) z[N_VECTORS];
        memset(z, 0, sizeof z);
        if (bias) memcpy(z, bias, size);
        NAME(multiply_entries)
        (indices + indptr[m], data + indptr[m], indptr[m + 1] - indptr[m], B, stride, n_vectors, z);
        memcpy(Z + m * n_columns, z, size);
    }
}

/* The same in double, F = sums: floats are added in segments, so that a sum over many rows keeps its digits. */
SAFFU_INLINE void NAME(multiply_tile_double)(const int64_t *indptr, const int32_t *indices, const REAL *data,
                                             const REAL *B, int64_t stride, int64_t from, int64_t to,
                                             int64_t n_columns, int64_t f_stride, int n_vectors, double *F) {
    int64_t width = saffu_min(n_columns, n_vectors * NAME(WIDTH));
    for (int64_t m = from; m < to; m++) {
        double sum[N_VECTORS * NAME(WIDTH)] = {0};
        for (int64_t e = indptr[m]; e < indptr[m + 1]; e += SEGMENT) {
            NAME(Vector) z[N_VECTORS];
            REAL part[N_VECTORS * NAME(WIDTH)];
            memset(z, 0, sizeof z);
            NAME(multiply_entries)
            (indices + e, data + e, saffu_min(SEGMENT, indptr[m + 1] - e), B, stride, n_vectors, z);
            memcpy(part, z, sizeof part);
            for (int64_t k = 0; k < n_vectors * NAME(WIDTH); k++) sum[k] += (double)part[k];
        }
        memcpy(F + m * f_stride, sum, (size_t)width * sizeof(double));
    }
}

/* One tile of rows [from, to) of Z, or of F unless that is NULL; the number of vectors is to be a constant. */
SAFFU_INLINE void NAME(multiply_either)(const NAME(Product) *p, NAME(Tile) b, int n_vectors, int64_t from, int64_t to,
                                        int64_t f_stride, REAL *Z, double *F) {
    if (F)
        NAME(multiply_tile_double)(p->indptr, p->indices, p->data, b.B, b.stride, from, to, p->n_columns, f_stride,
                                   n_vectors, F + b.first);
    else
        NAME(multiply_tile)(p->indptr, p->indices, p->data, b.B, b.stride, p->bias ? p->bias + b.first : NULL, from, to,
                            p->n_columns, n_vectors, Z + b.first);
}

/* Rows [from, to), tile by tile. */
SAFFU_INLINE void NAME(multiply_rows)(const NAME(Product) *p, int64_t from, int64_t to, int64_t f_stride, REAL *Z,
                                      double *F) {
    for (int64_t t = 0; t < p->n_columns; t += N_VECTORS * NAME(WIDTH)) {
        NAME(Tile) b = NAME(tile_at)(p, t);
        switch (b.n_vectors) {
        case 1: NAME(multiply_either)(p, b, 1, from, to, f_stride, Z, F); break;
        case 2: NAME(multiply_either)(p, b, 2, from, to, f_stride, Z, F); break;
        case 3: NAME(multiply_either)(p, b, 3, from, to, f_stride, Z, F); break;
        default: NAME(multiply_either)(p, b, 4, from, to, f_stride, Z, F); break;
        }
    }
}

SAFFU_SIMD static int NAME(product)(const int64_t *indptr, const int32_t *indices, const REAL *data, const REAL *B,
                                    const REAL *copy, const REAL *bias, int64_t n_rows, int64_t n_inner,
                                    int64_t n_columns, int64_t b_stride, REAL *Z, int n_threads) {
    const NAME(Product) p = {indptr, indices, data, B, copy, bias, n_inner, n_columns, b_stride};
    int64_t n_entries = indptr[n_rows] - indptr[0];
    int team = saffu_team(n_threads, n_entries * n_columns / 8 + n_rows), bad = 0;
    int64_t chunk = saffu_max(1, saffu_min(ROWS_AT_MOST, n_rows / (4 * team)));
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += chunk) {
        int64_t to = saffu_min(n_rows, from + chunk);
        if (indices_fit(indices, indptr[from], indptr[to], n_inner))
            NAME(multiply_rows)(&p, from, to, 0, Z, NULL);
        else bad |= 1;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD static int NAME(product_double)(const int64_t *indptr, const int32_t *indices, const REAL *data,
                                           const REAL *B, const REAL *copy, int64_t n_rows, int64_t n_inner,
                                           int64_t n_columns, int64_t b_stride, int64_t f_stride, double *F,
                                           int n_threads) {
    const NAME(Product) p = {indptr, indices, data, B, copy, NULL, n_inner, n_columns, b_stride};
    int64_t n_entries = indptr[n_rows] - indptr[0];
    int team = saffu_team(n_threads, n_entries * n_columns / 8 + n_rows), bad = 0;
    int64_t chunk = saffu_max(1, saffu_min(ROWS_AT_MOST, n_rows / (16 * team)));
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += chunk) {
        int64_t to = saffu_min(n_rows, from + chunk);
        if (indices_fit(indices, indptr[from], indptr[to], n_inner))
            NAME(multiply_rows)(&p, from, to, f_stride, NULL, F);
        else bad |= 1;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

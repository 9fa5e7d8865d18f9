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
SAFFU_INLINE NAME(Tile) NAME(tile_at)(NAME(Product) p, int64_t t) {
    int64_t left = p.n_columns - t, n = saffu_min(N_VECTORS, (left + NAME(WIDTH) - 1) / NAME(WIDTH));
    int64_t first = saffu_max(0, saffu_min(t, p.n_columns - n * NAME(WIDTH)));
    if (p.copy) return (NAME(Tile)){p.copy + p.n_inner * t, n * NAME(WIDTH), first, n};
    return (NAME(Tile)){p.B + first, p.b_stride, first, n};
}

/* One tile of rows [from, to) of Z. */
SAFFU_INLINE void NAME(multiply_tile)(NAME(Product) p, NAME(Tile) b, int n_vectors, int64_t from, int64_t to, REAL *Z) {
    size_t size = (size_t)saffu_min(p.n_columns, n_vectors * NAME(WIDTH)) * sizeof(REAL);
    const REAL *bias = p.bias ? p.bias + b.first : NULL;
    for (int64_t m = from; m < to; m++) {
        NAME(Vector) z[N_VECTORS];
        int64_t first = p.indptr[m], n_entries = p.indptr[m + 1] - first;
        memset(z, 0, sizeof z);
        if (bias) memcpy(z, bias, size);
        NAME(multiply_entries)(p.indices + first, p.data + first, n_entries, b.B, b.stride, n_vectors, z);
        memcpy(Z + m * p.n_columns + b.first, z, size);
    }
}

/* The same in double, F = sums: floats are added in segments, so that a sum over many rows keeps its digits. */
SAFFU_INLINE void NAME(multiply_tile_double)(NAME(Product) p, NAME(Tile) b, int n_vectors, int64_t from, int64_t to,
                                             int64_t f_stride, double *F) {
    int64_t width = saffu_min(p.n_columns, n_vectors * NAME(WIDTH));
    for (int64_t m = from; m < to; m++) {
        double sum[N_VECTORS * NAME(WIDTH)] = {0};
        for (int64_t e = p.indptr[m]; e < p.indptr[m + 1]; e += SEGMENT) {
            NAME(Vector) z[N_VECTORS];
            REAL part[N_VECTORS * NAME(WIDTH)];
            int64_t n = saffu_min(SEGMENT, p.indptr[m + 1] - e);
            memset(z, 0, sizeof z);
            NAME(multiply_entries)(p.indices + e, p.data + e, n, b.B, b.stride, n_vectors, z);
            memcpy(part, z, sizeof part);
            for (int64_t k = 0; k < n_vectors * NAME(WIDTH); k++) sum[k] += (double)part[k];
        }
        memcpy(F + m * f_stride + b.first, sum, (size_t)width * sizeof(double));
    }
}

/* Rows [from, to) of Z, tile by tile; the number of vectors is a constant wherever a tile is multiplied. */
SAFFU_INLINE void NAME(multiply_rows)(NAME(Product) p, int64_t from, int64_t to, REAL *Z) {
    for (int64_t t = 0; t < p.n_columns; t += N_VECTORS * NAME(WIDTH)) {
        NAME(Tile) b = NAME(tile_at)(p, t);
        switch (b.n_vectors) {
        case 1: NAME(multiply_tile)(p, b, 1, from, to, Z); break;
        case 2: NAME(multiply_tile)(p, b, 2, from, to, Z); break;
        case 3: NAME(multiply_tile)(p, b, 3, from, to, Z); break;
        default: NAME(multiply_tile)(p, b, 4, from, to, Z); break;
        }
    }
}

SAFFU_INLINE void NAME(multiply_rows_double)(NAME(Product) p, int64_t from, int64_t to, int64_t f_stride, double *F) {
    for (int64_t t = 0; t < p.n_columns; t += N_VECTORS * NAME(WIDTH)) {
        NAME(Tile) b = NAME(tile_at)(p, t);
        switch (b.n_vectors) {
        case 1: NAME(multiply_tile_double)(p, b, 1, from, to, f_stride, F); break;
        case 2: NAME(multiply_tile_double)(p, b, 2, from, to, f_stride, F); break;
        case 3: NAME(multiply_tile_double)(p, b, 3, from, to, f_stride, F); break;
        default: NAME(multiply_tile_double)(p, b, 4, from, to, f_stride, F); break;
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
        if (indices_fit(indices, indptr[from], indptr[to], n_inner)) NAME(multiply_rows)(p, from, to, Z);
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
            NAME(multiply_rows_double)(p, from, to, f_stride, F);
        else bad |= 1;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

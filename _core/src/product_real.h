/* Sparse products for one type of real: included by product.c with REAL and NAME(name) defined. */

/* Some adjacent columns of B: the first entry, the distance of its rows, the first column and the number of vectors. Of
 * rows from n_safe on, whose vectors would reach beyond the end of B, edge has copies n_vectors wide. */
typedef struct {
    const REAL *B, *edge;
    int64_t stride, first, n_vectors, n_safe;
} NAME(Tile);

/* Row j of a tile of B. */
SAFFU_INLINE const REAL *NAME(row_of)(const REAL *B, int64_t stride, const REAL *edge, int64_t n_safe, int n_vectors,
                                      int has_edge, int64_t j) {
    return has_edge && j >= n_safe ? edge + (j - n_safe) * n_vectors * NAME(WIDTH) : B + j * stride;
}

/* z (n_vectors) += sum_e data[e] B[indices[e], tile], the even and the odd entries in sums of their own when the tile
 * is too narrow to hide the latency of an addition. */
SAFFU_INLINE void NAME(multiply_entries)(const int32_t *restrict indices, const REAL *restrict data, int64_t n_entries,
                                         const REAL *restrict B, int64_t stride, const REAL *edge, int64_t n_safe,
                                         int n_vectors, int has_edge, NAME(Vector) *z) {
    NAME(Vector) even[N_VECTORS], odd[N_VECTORS];
    const REAL zeros[NAME(WIDTH)] = {0};
    int64_t e = 0;
    for (int v = 0; v < n_vectors; v++) even[v] = z[v];
    if (n_vectors <= N_VECTORS / 2) {
        for (int v = 0; v < n_vectors; v++) memcpy(odd + v, zeros, sizeof zeros);
        for (; e + 2 <= n_entries; e += 2) {
            const REAL *b = NAME(row_of)(B, stride, edge, n_safe, n_vectors, has_edge, indices[e]);
            const REAL *c = NAME(row_of)(B, stride, edge, n_safe, n_vectors, has_edge, indices[e + 1]);
            for (int v = 0; v < n_vectors; v++)
                even[v] = NAME(multiply_add_one)(even[v], data[e], NAME(load_vector)(b + v * NAME(WIDTH)));
            for (int v = 0; v < n_vectors; v++)
                odd[v] = NAME(multiply_add_one)(odd[v], data[e + 1], NAME(load_vector)(c + v * NAME(WIDTH)));
        }
        for (int v = 0; v < n_vectors; v++) even[v] = NAME(multiply_add_one)(even[v], 1, odd[v]);
    }
    for (; e < n_entries; e++) {
        const REAL *b = NAME(row_of)(B, stride, edge, n_safe, n_vectors, has_edge, indices[e]);
        for (int v = 0; v < n_vectors; v++)
            even[v] = NAME(multiply_add_one)(even[v], data[e], NAME(load_vector)(b + v * NAME(WIDTH)));
    }
    for (int v = 0; v < n_vectors; v++) z[v] = even[v];
}

SAFFU_INLINE int64_t NAME(whole_vectors)(int64_t n_columns) {
    return (n_columns + NAME(WIDTH) - 1) / NAME(WIDTH) * NAME(WIDTH);
}

/* A copy is worth its time when rows of B that are apart, and may fall into the same sets of the cache or straddle its
 * lines, are read many times over. */
static int64_t NAME(copy_size)(int64_t n_entries, int64_t n_inner, int64_t n_columns) {
    int whole = n_columns <= N_VECTORS * NAME(WIDTH) && n_columns % NAME(WIDTH) == 0;
    return !whole && n_entries >= 8 * n_inner ? n_inner * NAME(whole_vectors)(n_columns) : 0;
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

/* The last rows of a B that is narrower than its one tile, from n_safe on, whose vectors would reach beyond its end:
 * at most so many, copied. */
typedef struct {
    int64_t n_safe;
    const REAL *B;
    REAL rows[N_VECTORS * NAME(WIDTH) * NAME(WIDTH)];
} NAME(Edge);

/* Is there an edge? B, where all of its rows are one, begins anew in the copy. */
static int NAME(copy_edge)(const NAME(Product) *p, NAME(Edge) *edge) {
    int64_t width = NAME(whole_vectors)(p->n_columns), beyond = width - p->n_columns, stride = p->b_stride;
    if (p->copy || beyond == 0 || width > N_VECTORS * NAME(WIDTH) || p->n_inner == 0) return 0;
    edge->n_safe = stride ? saffu_max(0, p->n_inner - (beyond + stride - 1) / stride) : p->n_inner - 1;
    memset(edge->rows, 0, sizeof edge->rows);
    for (int64_t j = edge->n_safe; j < p->n_inner; j++)
        memcpy(edge->rows + (j - edge->n_safe) * width, p->B + j * stride, (size_t)p->n_columns * sizeof *p->B);
    edge->B = stride ? p->B : edge->rows;
    return 1;
}

/* The tile that begins in column t, or before it so as to end with the row. */
SAFFU_INLINE NAME(Tile) NAME(tile_at)(const NAME(Product) *p, const NAME(Edge) *edge, int64_t t) {
    int64_t left = p->n_columns - t, n = saffu_min(N_VECTORS, (left + NAME(WIDTH) - 1) / NAME(WIDTH));
    int64_t first = saffu_max(0, saffu_min(t, p->n_columns - n * NAME(WIDTH)));
    if (edge) return (NAME(Tile)){edge->B, edge->rows, p->b_stride, 0, n, edge->n_safe};
    if (p->copy) return (NAME(Tile)){p->copy + p->n_inner * t, NULL, n * NAME(WIDTH), first, n, p->n_inner};
    return (NAME(Tile)){p->B + first, NULL, p->b_stride, first, n, p->n_inner};
}

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

#include "product_dense_real.h"

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

/* Sparse products for one type of real: included by product.c with REAL and NAME(name) defined. */

#include "vectors.h"

/* z (n_vectors) += sum_e data[e] B[indices[e], tile], the even and the odd entries in sums of their own when the tile
 * is too narrow to hide the latency of an addition. */
SAFFU_INLINE void NAME(add_entries)(const int32_t *restrict indices, const REAL *restrict data, int64_t n_entries,
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
                even[v] = NAME(multiply_add_one)(even[v], data[e], NAME(load)(b + v * NAME(WIDTH)));
            for (int v = 0; v < n_vectors; v++)
                odd[v] = NAME(multiply_add_one)(odd[v], data[e + 1], NAME(load)(c + v * NAME(WIDTH)));
        }
        for (int v = 0; v < n_vectors; v++) even[v] = NAME(multiply_add_one)(even[v], 1, odd[v]);
    }
    for (; e < n_entries; e++) {
        const REAL *b = B + indices[e] * stride;
        for (int v = 0; v < n_vectors; v++)
            even[v] = NAME(multiply_add_one)(even[v], data[e], NAME(load)(b + v * NAME(WIDTH)));
    }
    for (int v = 0; v < n_vectors; v++) z[v] = even[v];
}

/* One tile of rows [from, to) of Z. */
SAFFU_INLINE void NAME(add_tile)(const int64_t *indptr, const int32_t *indices, const REAL *data, const REAL *B,
                                 int64_t stride, const REAL *bias, int64_t from, int64_t to, int64_t n_columns,
                                 int n_vectors, REAL *Z) {
    size_t size = (size_t)saffu_min(n_columns, n_vectors * NAME(WIDTH)) * sizeof(REAL);
    for (int64_t m = from; m < to; m++) {
        NAME(Vector) z[N_VECTORS];
        memset(z, 0, sizeof z);
        if (bias) memcpy(z, bias, size);
        NAME(add_entries)
        (indices + indptr[m], data + indptr[m], indptr[m + 1] - indptr[m], B, stride, n_vectors, z);
        memcpy(Z + m * n_columns, z, size);
    }
}

/* The same in double, F += sums: floats are added in segments, so that a sum over many rows keeps its digits. */
SAFFU_INLINE void NAME(add_tile_double)(const int64_t *indptr, const int32_t *indices, const REAL *data, const REAL *B,
                                        int64_t stride, int64_t from, int64_t to, int64_t n_columns, int64_t f_stride,
                                        int n_vectors, double *F) {
    int64_t width = saffu_min(n_columns, n_vectors * NAME(WIDTH));
    for (int64_t m = from; m < to; m++) {
        double sum[N_VECTORS * NAME(WIDTH)] = {0};
        for (int64_t e = indptr[m]; e < indptr[m + 1]; e += SEGMENT) {
            NAME(Vector) z[N_VECTORS];
            REAL part[N_VECTORS * NAME(WIDTH)];
            memset(z, 0, sizeof z);
            NAME(add_entries)
            (indices + e, data + e, saffu_min(SEGMENT, indptr[m + 1] - e), B, stride, n_vectors, z);
            memcpy(part, z, sizeof part);
            for (int64_t k = 0; k < n_vectors * NAME(WIDTH); k++) sum[k] += (double)part[k];
        }
        memcpy(F + m * f_stride, sum, (size_t)width * sizeof(double));
    }
}

SAFFU_INLINE int64_t NAME(whole_vectors)(int64_t n_columns) {
    return (n_columns + NAME(WIDTH) - 1) / NAME(WIDTH) * NAME(WIDTH);
}

/* A copy is needed where a single tile is wider than B and would read beyond its end, and worth its time when rows of B
 * that are apart, and may fall into the same sets of the cache, are read many times over. */
int64_t NAME(saffu_copy_size)(int64_t n_entries, int64_t n_inner, int64_t n_columns) {
    int wanted = n_columns <= N_VECTORS * NAME(WIDTH) ? n_columns % NAME(WIDTH) != 0 : n_entries >= 8 * n_inner;
    return wanted ? n_inner * NAME(whole_vectors)(n_columns) : 0;
}

/* B tile by tile, each tile's rows beside one another, a tile wider than B filled with zeros. */
int NAME(saffu_copy)(const REAL *B, int64_t b_stride, int64_t n_inner, int64_t n_columns, REAL *copy) {
    int64_t tile = N_VECTORS * NAME(WIDTH), columns = NAME(whole_vectors)(n_columns);
    for (int64_t t = 0; t < columns; t += tile) {
        int64_t width = saffu_min(tile, columns - t), first = saffu_max(0, saffu_min(t, n_columns - width));
        for (int64_t j = 0; j < n_inner; j++, copy += width)
            memcpy(copy, B + j * b_stride + first, (size_t)saffu_min(width, n_columns) * sizeof *copy);
    }
    return SAFFU_OK;
}

/* Calls ADD(tile of B, distance of its rows, first column, vectors) for the tiles that cover n_columns. */
#define FOR_TILES(ADD)                                                                                  \
    for (int64_t t = 0; t < n_columns; t += N_VECTORS * NAME(WIDTH)) {                                  \
        int64_t left = n_columns - t, n = saffu_min(N_VECTORS, (left + NAME(WIDTH) - 1) / NAME(WIDTH)); \
        int64_t first = saffu_max(0, saffu_min(t, n_columns - n * NAME(WIDTH)));                        \
        int64_t stride = copy ? n * NAME(WIDTH) : b_stride;                                             \
        const REAL *b = copy ? copy + n_inner * t : B + first;                                          \
        switch (n) {                                                                                    \
        case 1: ADD(b, stride, first, 1); break;                                                        \
        case 2: ADD(b, stride, first, 2); break;                                                        \
        case 3: ADD(b, stride, first, 3); break;                                                        \
        default: ADD(b, stride, first, 4); break;                                                       \
        }                                                                                               \
    }

SAFFU_SIMD int NAME(saffu_product)(const int64_t *indptr, const int32_t *indices, const REAL *data, const REAL *B,
                                   int64_t b_stride, const REAL *copy, const REAL *bias, int64_t n_rows,
                                   int64_t n_inner, int64_t n_columns, REAL *Z, int n_threads) {
    int64_t n_entries = indptr[n_rows] - indptr[0];
    int team = saffu_team(n_threads, n_entries * n_columns / 8 + n_rows), bad = 0;
    int64_t chunk = saffu_max(1, saffu_min(ROWS, n_rows / (4 * team)));
#define ADD(b, stride, first, n)                                                                                 \
    NAME(add_tile)(indptr, indices, data, b, stride, bias ? bias + first : NULL, from, to, n_columns, n, Z + first)
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += chunk) {
        int64_t to = saffu_min(n_rows, from + chunk);
        if (indices_fit(indices, indptr[from], indptr[to], n_inner))
            FOR_TILES(ADD)
        else
            bad |= 1;
    }
#undef ADD
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

SAFFU_SIMD int NAME(saffu_product_double)(const int64_t *indptr, const int32_t *indices, const REAL *data,
                                          const REAL *B, int64_t b_stride, const REAL *copy, int64_t n_rows,
                                          int64_t n_inner, int64_t n_columns, double *F, int64_t f_stride,
                                          int n_threads) {
    int64_t n_entries = indptr[n_rows] - indptr[0];
    int team = saffu_team(n_threads, n_entries * n_columns / 8 + n_rows), bad = 0;
    int64_t chunk = saffu_max(1, saffu_min(ROWS, n_rows / (16 * team)));
#define ADD(b, stride, first, n) \
    NAME(add_tile_double)(indptr, indices, data, b, stride, from, to, n_columns, f_stride, n, F + first)
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += chunk) {
        int64_t to = saffu_min(n_rows, from + chunk);
        if (indices_fit(indices, indptr[from], indptr[to], n_inner))
            FOR_TILES(ADD)
        else
            bad |= 1;
    }
#undef ADD
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}
#undef FOR_TILES

SAFFU_SIMD int NAME(saffu_compress_count)(const REAL *X, int64_t n_rows, int64_t n_columns, int64_t *counts,
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

int NAME(saffu_compress)(const REAL *X, const int64_t *indptr, int64_t n_rows, int64_t n_columns, int32_t *indices,
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

int NAME(saffu_take_rows)(const int64_t *begins, const int64_t *indptr, const int32_t *indices, const REAL *data,
                          int64_t n_rows, int64_t n_entries, int32_t *taken_indices, REAL *taken_data, int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows]), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t m = 0; m < n_rows; m++) {
        int64_t n = indptr[m + 1] - indptr[m];
        if (begins[m] < 0 || n < 0 || begins[m] > n_entries - n) {
            bad |= 1;
            continue;
        }
        memcpy(taken_indices + indptr[m], indices + begins[m], (size_t)n * sizeof *indices);
        memcpy(taken_data + indptr[m], data + begins[m], (size_t)n * sizeof *data);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* Rows of a sparse matrix that are nearly full, for one type of real: included by product.c.
 *
 * Their entries are laid out with zeros between them, so that a load of B serves GROUP rows; most pieces of rows lack no
 * entry and are copied as they are. DEPTH rows of B at a time stay in cache for all rows of a chunk. Every sum has the order of the sparse loop, and a zero
 * times a finite number changes none: its bits are the same. So B must be finite, and columns ascend within a row. */

/* Tiles of at least three vectors: the sums of narrower ones have another order. */
SAFFU_INLINE int64_t NAME(wide_tiles)(int64_t n_columns) {
    return (n_columns + 2 * NAME(WIDTH) - 1) / (N_VECTORS * NAME(WIDTH));
}

/* Are all of B's entries finite? x - x is 0 for these alone. */
SAFFU_INLINE int NAME(all_finite)(const REAL *B, int64_t stride, int64_t n_inner, int64_t n_columns) {
    REAL sum = 0;
    for (int64_t j = 0; j < n_inner && sum == 0; j++)
        for (int64_t i = 0; i < n_columns; i++) sum += B[j * stride + i] - B[j * stride + i];
    return sum == 0;
}

/* Do columns ascend within each of rows [from, to)? */
SAFFU_INLINE int NAME(ascend)(const NAME(Product) *p, int64_t from, int64_t to) {
    int descents = 0;
    for (int64_t m = from; m < to; m++)
        for (int64_t e = p->indptr[m] + 1; e < p->indptr[m + 1]; e++) descents |= p->indices[e] <= p->indices[e - 1];
    return !descents;
}

/* a_mi (rows, DEPTH): rows [from, to) of H, columns [first, first + DEPTH), rows beyond them zeros; next (to - from) is
 * where each row goes on. */
SAFFU_INLINE void NAME(spread)(const NAME(Product) *p, int64_t from, int64_t to, int64_t first, int64_t *restrict next,
                               REAL *restrict a_mi) {
    for (int64_t m = from; m < to; m++, a_mi += DEPTH) {
        int64_t e = next[m - from], left = p->indptr[m + 1] - e, last = e + DEPTH - 1;
        if (left >= DEPTH && p->indices[e] == first && p->indices[last] == first + DEPTH - 1) { /* none is missing */
            memcpy(a_mi, p->data + e, DEPTH * sizeof *a_mi);
            next[m - from] = e + DEPTH;
            continue;
        }
        memset(a_mi, 0, DEPTH * sizeof *a_mi);
        for (; left > 0 && p->indices[e] < first + DEPTH; e++, left--) a_mi[p->indices[e] - first] = p->data[e];
        next[m - from] = e;
    }
    for (; (to - from) % GROUP; to++, a_mi += DEPTH) memset(a_mi, 0, DEPTH * sizeof *a_mi);
}

/* z_rk (GROUP, n_vectors of a tile) += sum_i a_ri b_ik. */
SAFFU_INLINE void NAME(multiply_group)(const REAL *a_ri, const REAL *b_ik, int64_t stride, int64_t n, int n_vectors,
                                       REAL *restrict z_rk) {
    NAME(Vector) sum[GROUP][2];
    for (int r = 0; r < GROUP; r++)
        for (int v = 0; v < n_vectors; v++) sum[r][v] = NAME(load_vector)(z_rk + (r * N_VECTORS + v) * NAME(WIDTH));
    for (int64_t i = 0; i < n; i++) {
        NAME(Vector) b[2];
        for (int v = 0; v < n_vectors; v++) b[v] = NAME(load_vector)(b_ik + i * stride + v * NAME(WIDTH));
        for (int r = 0; r < GROUP; r++)
            for (int v = 0; v < n_vectors; v++) sum[r][v] = NAME(multiply_add_one)(sum[r][v], a_ri[r * DEPTH + i], b[v]);
    }
    for (int r = 0; r < GROUP; r++) memcpy(z_rk + r * N_VECTORS * NAME(WIDTH), sum[r], (size_t)n_vectors * sizeof **sum);
}

/* Rows of a tile: its sums begin with the bias. */
SAFFU_INLINE void NAME(begin_sums)(const NAME(Product) *p, NAME(Tile) b, int64_t n_rows, REAL *restrict z) {
    int64_t width = N_VECTORS * NAME(WIDTH), n = saffu_min(b.n_vectors * NAME(WIDTH), p->n_columns);
    for (int64_t m = 0; m < n_rows; m++)
        for (int64_t i = 0; i < width; i++) z[m * width + i] = p->bias && i < n ? p->bias[b.first + i] : 0;
}

/* Tiles of at least three vectors of rows [from, to), at most ROWS_AT_MOST; the result is the first column that is
 * left. scratch has the size of dense_size, next one entry a row. */
SAFFU_INLINE int64_t NAME(multiply_dense)(const NAME(Product) *p, int64_t from, int64_t to, REAL *scratch, int64_t *next,
                                          REAL *Z) {
    int64_t width = N_VECTORS * NAME(WIDTH), n_tiles = NAME(wide_tiles)(p->n_columns);
    int64_t n_rows = to - from, size = ROWS_AT_MOST * width;
    REAL *a_mi = scratch + n_tiles * size;
    for (int64_t t = 0; t < n_tiles; t++)
        NAME(begin_sums)(p, NAME(tile_at)(p, NULL, t * width), (n_rows + GROUP - 1) / GROUP * GROUP, scratch + t * size);
    memcpy(next, p->indptr + from, (size_t)n_rows * sizeof *next);
    for (int64_t first = 0; first < p->n_inner; first += DEPTH) {
        int64_t depth = saffu_min(DEPTH, p->n_inner - first);
        NAME(spread)(p, from, to, first, next, a_mi);
        for (int64_t t = 0; t < n_tiles; t++) {
            NAME(Tile) b = NAME(tile_at)(p, NULL, t * width);
            const REAL *b_ik = b.B + first * b.stride;
            for (int64_t v = 0; v < b.n_vectors; v += 2)
                for (int64_t g = 0; g < n_rows; g += GROUP) {
                    REAL *z = scratch + t * size + g * width + v * NAME(WIDTH);
                    const REAL *a_ri = a_mi + g * DEPTH, *b_iv = b_ik + v * NAME(WIDTH);
                    if (v + 1 < b.n_vectors) NAME(multiply_group)(a_ri, b_iv, b.stride, depth, 2, z);
                    else NAME(multiply_group)(a_ri, b_iv, b.stride, depth, 1, z);
                }
        }
    }
    for (int64_t t = 0; t < n_tiles; t++) {
        NAME(Tile) b = NAME(tile_at)(p, NULL, t * width);
        size_t n = (size_t)saffu_min(b.n_vectors * NAME(WIDTH), p->n_columns);
        for (int64_t m = 0; m < n_rows; m++)
            memcpy(Z + (from + m) * p->n_columns + b.first, scratch + t * size + m * width, n * sizeof *Z);
    }
    return n_tiles * width;
}

/* Reals that a thread needs for multiply_dense, or 0 where rows are too sparse, too few or too narrow for it. */
static int64_t NAME(dense_size)(const NAME(Product) *p, int64_t n_rows) {
    int64_t n_tiles = NAME(wide_tiles)(p->n_columns), n_entries = p->indptr[n_rows] - p->indptr[0];
    if (!p->copy || n_tiles == 0 || FULL * n_entries < n_rows * p->n_inner) return 0;
    if (!NAME(all_finite)(p->B, p->b_stride, p->n_inner, p->n_columns)) return 0;
    return ROWS_AT_MOST * (n_tiles * N_VECTORS * NAME(WIDTH) + DEPTH);
}

/* The operands of sparse products, and tiles of B, for one type of real: included by product.c with REAL and NAME(name)
 * defined. */

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

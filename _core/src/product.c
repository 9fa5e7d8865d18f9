/* Products of a sparse matrix and a dense one.
 *
 * Decisions. A row of Z is a sum of rows of B: a tile of 4 vectors of 64 bytes stays in registers while
 * the entries of the row stream by, two multiply-adds a load. Rows go in chunks, tiles within a chunk, so that a
 * tile of B stays in the L2 cache for all rows of the chunk. The last tile of a row overlaps the one before instead of
 * being masked. Where B is narrower than its one tile, vectors reach into its next row, and what they add there is not
 * stored; only its last rows are copied with zeros beside them. All of B is copied where its rows are read many times.
 * The bits of a row depend on the number of columns, never on the rows beside it, on a copy or on the threads.
 *
 * Rows that are nearly full, as activations are, are spread into zeros, and a load of B serves several of them.
 *
 * The transposed product, H^T R, is the same kernel on the transpose of H: each sum has one owner and one order.
 */
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vectors.h"

enum { ROWS_AT_MOST = 256, SEGMENT = 256 };
enum { GROUP = 8, DEPTH = 256, FULL = 3 }; /* of nearly full rows: at least an entry in FULL columns */

/* Is every index of entries [from, to) a row of B? */
SAFFU_INLINE int indices_fit(const int32_t *indices, int64_t from, int64_t to, int64_t n_inner) {
    uint32_t high = 0;
    for (int64_t e = from; e < to; e++) high = (uint32_t)indices[e] > high ? (uint32_t)indices[e] : high;
    return from >= to || (int64_t)high < n_inner;
}

#define REAL float
#define NAME(name) name##_f32
#include "product_tiles_real.h"
#include "product_dense_real.h"
#include "product_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "product_tiles_real.h"
#include "product_dense_real.h"
#include "product_real.h"
#undef REAL
#undef NAME

int64_t saffu_copy_size(int size, int64_t n_entries, int64_t n_inner, int64_t n_columns) {
    return BY_SIZE(size, copy_size, n_entries, n_inner, n_columns);
}

int saffu_copy(const void *B, int size, int64_t n_inner, int64_t n_columns, int64_t b_stride, void *copy) {
    return BY_SIZE(size, copy_tiles, B, b_stride, n_inner, n_columns, copy);
}

int saffu_product(const int64_t *indptr, const int32_t *indices, const void *data, const void *B, const void *copy,
                  const void *bias, int size, int64_t n_rows, int64_t n_inner, int64_t n_columns, int64_t b_stride,
                  void *Z, int n_threads) {
    return BY_SIZE(size, product, indptr, indices, data, B, copy, bias, n_rows, n_inner, n_columns, b_stride, Z,
                   n_threads);
}

int saffu_product_double(const int64_t *indptr, const int32_t *indices, const void *data, const void *B,
                         const void *copy, int size, int64_t n_rows, int64_t n_inner, int64_t n_columns,
                         int64_t b_stride, int64_t f_stride, double *F, int n_threads) {
    return BY_SIZE(size, product_double, indptr, indices, data, B, copy, n_rows, n_inner, n_columns, b_stride, f_stride,
                   F, n_threads);
}

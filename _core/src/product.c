/* Products of a sparse matrix and a dense one, and the sparse form of dense features.
 *
 * Decisions. Features are non-negative and mostly zero (pixels, words), so every layer reads them as CSR, dense ones
 * after saffu_compress. A row of Z is a sum of rows of B: a tile of 4 vectors of 64 bytes stays in registers while
 * the entries of the row stream by, two multiply-adds a load. Rows go in chunks, tiles within a chunk, so that a
 * tile of B stays in the L2 cache for all rows of the chunk. The last tile of a row overlaps the one before instead of
 * being masked. Where B is narrower than a vector it is copied with zeros beside it. The bits of a row depend on the
 * number of columns, never on the rows beside it or on the threads.
 *
 * The transposed product, H^T R, is the same kernel on the transpose of H: each sum has one owner and one order.
 */
#include <string.h>

#include "parallel.h"
#include "saffu.h"

enum { N_VECTORS = 4, ROWS = 256, SEGMENT = 256 };

/* Is every index of entries [from, to) a row of B? */
SAFFU_INLINE int indices_fit(const int32_t *indices, int64_t from, int64_t to, int64_t n_inner) {
    uint32_t high = 0;
    for (int64_t e = from; e < to; e++) high = (uint32_t)indices[e] > high ? (uint32_t)indices[e] : high;
    return from >= to || (int64_t)high < n_inner;
}

#define REAL float
#define NAME(name) name##_f32
#include "product_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "product_real.h"
#undef REAL
#undef NAME

/* The sparse form of dense features, and rows of a sparse matrix.
 *
 * Decisions. Features are non-negative and mostly zero (pixels, words), so every layer reads them as CSR, dense ones
 * after saffu_compress. Two passes, as the second can only write where the first has counted; both run at the speed of
 * memory.
 */
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"

#define REAL float
#define NAME(name) name##_f32
#include "sparse_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "sparse_real.h"
#undef REAL
#undef NAME

int saffu_compress_count(const void *X, int size, int64_t n_rows, int64_t n_columns, int64_t *counts, int n_threads) {
    return BY_SIZE(size, compress_count, X, n_rows, n_columns, counts, n_threads);
}

int saffu_compress(const void *X, const int64_t *indptr, int size, int64_t n_rows, int64_t n_columns, int32_t *indices,
                   void *data, int n_threads) {
    return BY_SIZE(size, compress, X, indptr, n_rows, n_columns, indices, data, n_threads);
}

int saffu_take_rows(const int64_t *begins, const int64_t *indptr, const int32_t *indices, const void *data, int size,
                    int64_t n_rows, int64_t n_entries, int32_t *taken_indices, void *taken_data, int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows] - indptr[0]), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t m = 0; m < n_rows; m++) {
        int64_t n = indptr[m + 1] - indptr[m];
        if (begins[m] < 0 || n < 0 || begins[m] > n_entries - n) {
            bad |= 1;
            continue;
        }
        memcpy(taken_indices + indptr[m], indices + begins[m], (size_t)n * sizeof *indices);
        memcpy((char *)taken_data + indptr[m] * size, real_from(data, size, begins[m]), (size_t)(n * size));
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* Attention over windows of a stream: a = softmax(s W + bias), z = sum_k a_k x_k, with comparisons s_k = x_head . x_k.
 *
 * Decisions. A window is a place in the stream, never a block of embeddings: rows go in groups of 16, which collect
 * pointers to the rows of X they read; everything else of them (comparisons, logits, attention) stays in the L1 cache.
 * Logits and softmax of a group have a row in each lane, so that nothing is summed across lanes. Sums a X hold a tile
 * of 4 vectors of 64 bytes in registers. Dot products are folded four or eight at a time by a tree of shuffles; the
 * order of every sum depends on the shape only, so that x . y has the same bits wherever it is computed, y . x too, and
 * a table of comparisons changes no bit. Where d is less than a vector, the rows of a window are copied with zeros
 * beside them.
 *
 * The gradient of W is summed in REAL over blocks of 64 rows and in double over these, in chunks on a grid that depends
 * on the number of rows alone. The gradient of X goes by columns: a thread owns some columns of all types.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vectors.h"
#include "vmath.h"

enum { AT_ONCE = 4, ROWS_OF_BLOCK = 64, MAX_CHUNKS = 32, MIN_CHUNK = 128, WINDOWS_AHEAD = 16 };

SAFFU_INLINE int64_t whole_lanes(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

saffu_attend_plan saffu_plan_attend(int64_t n, int64_t n_positions) {
    int64_t n_blocks = ((n + MAX_CHUNKS - 1) / MAX_CHUNKS + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    int64_t chunk = saffu_max(MIN_CHUNK, n_blocks * ROWS_OF_BLOCK);
    return (saffu_attend_plan){chunk, saffu_max(1, (n + chunk - 1) / chunk),
                               (n_positions + 1) * whole_lanes(saffu_max(n_positions, 1))};
}

/* The length of window m, or -1 if it reaches out of the stream. */
SAFFU_INLINE int64_t window_length(const saffu_view *v, int64_t m) {
    int64_t n = v->length[m], first = v->first[m], head = v->head[m];
    if (n < 0 || n > v->n_positions || (v->step != 1 && v->step != -1)) return -1;
    if (n == 0) return 0;
    if (first < 0 || first >= v->n_ids || head < 0 || head >= v->n_ids) return -1;
    int64_t last = first + v->step * (n - 1);
    return last < 0 || last >= v->n_ids ? -1 : n;
}

/* Windows may lie anywhere in a long stream: have the ids of window m at hand when their turn comes. */
SAFFU_INLINE void prefetch_ids(const saffu_view *v, int64_t m) {
    if (m >= v->n || v->first[m] < 0 || v->first[m] >= v->n_ids) return;
    int64_t first = v->first[m], last = first + v->step * v->length[m];
    SAFFU_PREFETCH(v->ids + first);
    SAFFU_PREFETCH(v->ids + saffu_max(0, saffu_min(last, v->n_ids - 1)));
}

SAFFU_INLINE int64_t id_at(const saffu_view *v, int64_t m, int64_t k) { return v->ids[v->first[m] + v->step * k]; }

/* The n ids of window m, and the highest of them; one below zero is higher than any. */
SAFFU_INLINE uint32_t copy_ids(const saffu_view *v, int64_t m, int64_t n, int32_t *ids) {
    const int32_t *from = v->ids + v->first[m];
    int64_t step = v->step;
    uint32_t high = 0;
    for (int64_t k = 0; k < n; k++, from += step) {
        ids[k] = *from;
        high = (uint32_t)*from > high ? (uint32_t)*from : high;
    }
    return high;
}

#define REAL float
#define EXP vexpf
#define NAME(name) name##_f32
#include "attend_sums_real.h"
#include "attend_group_real.h"
#include "attend_real.h"
#include "attend_backward_real.h"
#undef REAL
#undef EXP
#undef NAME

#define REAL double
#define EXP vexp
#define NAME(name) name##_f64
#include "attend_sums_real.h"
#include "attend_group_real.h"
#include "attend_real.h"
#include "attend_backward_real.h"
#undef REAL
#undef EXP
#undef NAME

int saffu_compare_all(const void *X, int size, int64_t n, int64_t d, int64_t from, int64_t to, void *C, int n_threads) {
    return BY_SIZE(size, compare_all, X, n, d, from, to, C, n_threads);
}

int saffu_comparisons(const saffu_view *view, const void *X, const void *cache, int size, int64_t n_types, int64_t d,
                      int64_t n_cached, void *S, int n_threads) {
    return BY_SIZE(size, compare_windows, view, X, cache, n_types, d, n_cached, S, n_threads);
}

int saffu_attend(const saffu_view *view, const void *X, const void *cache, const void *W, const void *bias, int size,
                 int64_t n_types, int64_t d, int64_t n_cached, int given, void *S, void *A, void *Z, int n_threads) {
    return BY_SIZE(size, attend_windows, view, X, cache, W, bias, n_types, d, n_cached, given, S, A, Z, n_threads);
}

int saffu_attend_backward(const saffu_view *view, const void *X, const void *W, const void *S, const void *A,
                          const void *dZ, int size, int64_t n_types, int64_t d, int64_t from, int64_t to, double *sums,
                          void *dS, int n_threads) {
    return BY_SIZE(size, attend_back, view, X, W, S, A, dZ, n_types, d, from, to, sums, dS, n_threads);
}

int saffu_attend_weights(const saffu_view *view, int size, double *sums, void *dW, void *dbias) {
    return BY_SIZE(size, fold_weights, view, sums, dW, dbias);
}

int saffu_attend_embeddings(const saffu_view *view, const void *X, const void *dZ, const void *A, const void *dS,
                            int size, int64_t d, void *dX, int n_threads) {
    return BY_SIZE(size, attend_back_embeddings, view, X, dZ, A, dS, d, dX, n_threads);
}

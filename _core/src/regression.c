/* Softmax regression on dense features: losses and gradients in one pass over the features.
 *
 * Decisions. With few classes a product of matrices is as fast as its features come from memory, and gradients need
 * two, or three. So BLOCK rows, which stay in the second level of cache, pass through all of them at once: their
 * logits, their errors, the moments of features and errors, and the slopes of the features. Each product keeps 8 or 16
 * vectors of sums in registers. Sums over the rows of a block are of the type of the features, those over blocks
 * double.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vectors.h"
#include "vmath.h"

enum { BLOCK = 64, ROWS = 8, N_CHUNKS = 16, LEAST_CHUNK = 512 };
#define NEVER -1e30 /* a logit whose exponential is zero */

SAFFU_INLINE int64_t round_up(int64_t n, int64_t size) { return (n + size - 1) / size * size; }

saffu_regression_plan saffu_plan_regression(int64_t n, int64_t n_features, int64_t n_classes) {
    int64_t chunk = saffu_max(LEAST_CHUNK, round_up((n + N_CHUNKS - 1) / N_CHUNKS, BLOCK));
    saffu_regression_plan plan = {n, chunk, (n + chunk - 1) / chunk, n_features, n_classes, round_up(n_classes, LANES)};
    return plan;
}

#define REAL float
#define EXP(x) vexp2f_bounded((x) * (float)LOG2_E)
#define FAR -60.0f
#define WIDTH WIDTH_f32
#define NAME(name) name##_f32
#include "regression_real.h"
#undef REAL
#undef EXP
#undef FAR
#undef WIDTH
#undef NAME

#define REAL double
#define EXP(x) vexp_bounded(x)
#define FAR -500.0
#define WIDTH WIDTH_f64
#define NAME(name) name##_f64
#include "regression_real.h"
#undef REAL
#undef EXP
#undef FAR
#undef WIDTH
#undef NAME

int saffu_regression_gradients(const void *A, const void *W, const void *bias, const int32_t *targets,
                               const saffu_regression_plan *plan, int size, int64_t from, int64_t to, double *losses,
                               void *dA, double *sums, int n_threads) {
    return BY_SIZE(size, regression_gradients, A, W, bias, targets, plan, from, to, losses, dA, sums, n_threads);
}

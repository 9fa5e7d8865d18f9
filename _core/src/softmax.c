/* Dense softmax, logsumexp and cross-entropy over rows, and exp and log element by element.
 *
 * Decisions. Rows are shifted by their maximum. A row is walked in groups of 16 lanes, the last one padded with -inf,
 * so that ten classes cost one group and no scalar loop; sums are double, one per lane, folded in order, so that their
 * bits do not depend on the instruction set's width or on the threads. Every kernel treats rows without a greatest
 * finite entry by the same rule (row_terms): nothing but -inf tells no entries apart, so its softmax is uniform and its
 * logsumexp -inf; a NaN, or an entry of +inf, makes all that follows from the row NaN, so that no divergence passes
 * unseen. Only the logsumexp of a row with +inf and no NaN is a number, +inf. But for the uniform row, which is NaN
 * there, that is what scipy.special and torch do.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vmath.h"

enum { SPAN_OF_EXP = 4096 };

#define REAL float
#define EXP vexpf
#define LOG vlogf
#define NAME(name) name##_f32
#include "softmax_real.h"
#undef REAL
#undef EXP
#undef LOG
#undef NAME

#define REAL double
#define EXP vexp
#define LOG vlog
#define NAME(name) name##_f64
#include "softmax_real.h"
#undef REAL
#undef EXP
#undef LOG
#undef NAME

int saffu_softmax(const void *X, int size, int64_t n_rows, int64_t n_columns, void *P, int n_threads) {
    return BY_SIZE(size, softmax_rows, X, n_rows, n_columns, P, n_threads);
}

int saffu_log_softmax(const void *X, int size, int64_t n_rows, int64_t n_columns, void *P, int n_threads) {
    return BY_SIZE(size, log_softmax_rows, X, n_rows, n_columns, P, n_threads);
}

int saffu_logsumexp(const void *X, int size, int64_t n_rows, int64_t n_columns, double *total, int n_threads) {
    return BY_SIZE(size, logsumexp_rows, X, n_rows, n_columns, total, n_threads);
}

int saffu_cross_entropy_labels(const void *X, const int32_t *labels, int size, int64_t n_rows, int64_t n_columns,
                               double *loss, int n_threads) {
    return BY_SIZE(size, losses_of_labels, X, labels, n_rows, n_columns, loss, n_threads);
}

int saffu_cross_entropy_soft(const void *X, const void *T, int size, int64_t n_rows, int64_t n_columns, double *loss,
                             int n_threads) {
    return BY_SIZE(size, losses_of_targets, X, T, n_rows, n_columns, loss, n_threads);
}

int saffu_cross_entropy_backward(const void *X, const int32_t *labels, const double *scale, int size, int64_t n_rows,
                                 int64_t n_columns, double *loss, void *dX, int n_threads) {
    return BY_SIZE(size, gradients_of_labels, X, labels, scale, n_rows, n_columns, loss, dX, n_threads);
}

int saffu_log_sums(const void *X, const int32_t *words, const int64_t *begins, int size, int64_t n_rows,
                   int64_t n_columns, int64_t n_cells, void *Z, int n_threads) {
    return BY_SIZE(size, log_sums_rows, X, words, begins, n_rows, n_columns, n_cells, Z, n_threads);
}

int saffu_softmax_backward(const void *P, const void *dP, int size, int64_t n_rows, int64_t n_columns, void *dX,
                           int n_threads) {
    return BY_SIZE(size, softmax_gradients, P, dP, n_rows, n_columns, dX, n_threads);
}

int saffu_mixture(const void *X, const void *T, const int32_t *labels, const double *scale, int size, int64_t n_rows,
                  int64_t n_columns, int64_t n_classes, double *log_prob, void *R, void *dX, int n_threads) {
    return BY_SIZE(size, mixture_rows, X, T, labels, scale, n_rows, n_columns, n_classes, log_prob, R, dX, n_threads);
}

int saffu_exp(const void *x, int size, int64_t n, void *y, int n_threads) {
    return BY_SIZE(size, exp_all, x, n, y, n_threads);
}

int saffu_log(const void *x, int size, int64_t n, void *y, int n_threads) {
    return BY_SIZE(size, log_all, x, n, y, n_threads);
}

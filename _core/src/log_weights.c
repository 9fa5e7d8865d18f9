/* Dense log weights: the logarithms of counts less those of their sums.
 *
 * Decisions. With S_i the column sums of F, the explicit solution is naive Bayes: U_ji = log F_ji - shift_i,
 * where shift_i = ((K - 1) / K) log S_i, or log S_i when the prior is kept apart (K infinite). A row of a class-major F
 * is summed and turned while it is in cache: one read and one write. Columns of a feature-major F are summed in a first
 * stream over F and turned in a second; narrow blocks of columns that stay in cache were slower, because they defeat
 * prefetching. The smoothing is added on the way. A negative or non-finite entry is noticed by the summing pass, from
 * its sign bit or its sum. A class whose sum exceeds the largest real is done again in double with scaled sums, so that
 * every table of finite counts has its weights. Sums are double, in lanes of a fixed number, folded in order.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vmath.h"

#define SCALE 0x1p-64 /* 2^63 of the largest doubles add up to a double in these units */

enum { NARROW = 64, WIDE = 4096 }; /* columns of a feature-major F that a thread sums at a time, at least and at most */

SAFFU_INLINE int is_count(double x) { return x >= 0.0 && x < (double)INFINITY; }

/* log(a + b), where the sum may exceed the largest double. */
static double log_of_sum(double a, double b) {
    return a + b < (double)INFINITY ? log(a + b) : log(0.5 * a + 0.5 * b) + LN_2;
}

/* ((K - 1) / K) log S, and nothing where S is 0: an empty class has weights -inf, not NaN. */
SAFFU_INLINE double shift_of(double sum, double exponent) { return sum > 0.0 ? exponent * log(sum) : 0.0; }

#define REAL float
#define LARGEST ((double)FLT_MAX)
#define BITS uint32_t
#define BITS_OF bits_of_f32
#define LOG vlogf
#define NAME(name) name##_f32
#include "log_weights_real.h"
#undef REAL
#undef LARGEST
#undef BITS
#undef BITS_OF
#undef LOG
#undef NAME

#define REAL double
#define LARGEST DBL_MAX
#define BITS uint64_t
#define BITS_OF bits_of
#define LOG vlog
#define NAME(name) name##_f64
#include "log_weights_real.h"
#undef REAL
#undef LARGEST
#undef BITS
#undef BITS_OF
#undef LOG
#undef NAME

int saffu_log_weights_by_class(const void *F, double smoothing, double exponent, int size, int64_t n_classes,
                               int64_t n_features, void *U, double *S, int n_threads) {
    return BY_SIZE(size, log_weights_by_class, F, smoothing, exponent, n_classes, n_features, U, S, n_threads);
}

int saffu_sums_by_feature(const void *F, double smoothing, int size, int64_t n_features, int64_t n_classes, double *S,
                          int n_threads) {
    return BY_SIZE(size, sums_by_feature, F, smoothing, n_features, n_classes, S, n_threads);
}

int saffu_large_by_feature(const void *F, double smoothing, double exponent, int size, int64_t n_features,
                           int64_t n_classes, double *S, double *shift, int *large) {
    return BY_SIZE(size, large_by_feature, F, smoothing, exponent, n_features, n_classes, S, shift, large);
}

int saffu_logs_by_feature(const void *F, const double *S, const double *shift, double smoothing, double exponent,
                          int size, int64_t n_features, int64_t n_classes, void *U, int n_threads) {
    return BY_SIZE(size, logs_by_feature, F, S, shift, smoothing, exponent, n_features, n_classes, U, n_threads);
}

/* Adam: one fused pass over a parameter, its gradient and its two moments.
 *
 * Decisions. The bias corrections are folded into two scalars in double, so that an entry costs one square root and one
 * division. Moments of a parameter whose gradient stays zero decay until they are denormal, which many processors are
 * slow at; below TINY, where they move nothing, they become zero. Spans lie on a fixed grid, so that no element changes
 * sides between a vector loop and its remainder.
 */
#include <math.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"

enum { ENTRIES_OF_SPAN = 4096 };

#define REAL float
#define SQRT sqrtf
#define TINY 1e-36f
#define NAME(name) name##_f32
#include "adam_real.h"
#undef REAL
#undef SQRT
#undef TINY
#undef NAME

#define REAL double
#define SQRT sqrt
#define TINY 1e-300
#define NAME(name) name##_f64
#include "adam_real.h"
#undef REAL
#undef SQRT
#undef TINY
#undef NAME

int saffu_adam(const void *gradient, double learning_rate, double beta1, double beta2, double epsilon, int64_t step,
               int size, int64_t n, void *x, void *first, void *second, int n_threads) {
    return BY_SIZE(size, adam, gradient, learning_rate, beta1, beta2, epsilon, step, n, x, first, second, n_threads);
}

int saffu_adam_without_momentum(const void *gradient, double scale, double learning_rate, double beta2, double epsilon,
                                int64_t step, int size, int64_t n, void *x, void *second, int n_threads) {
    return BY_SIZE(size, adam_without_momentum, gradient, scale, learning_rate, beta2, epsilon, step, n, x, second,
                   n_threads);
}

/* A time step of a long short-term memory: what is done to its gates element by element, forward and backward.
 *
 * Decisions. The gates come as two sums, of the inputs of a whole segment and of the state, which is added here. They
 * are overwritten by what their functions give, and those on the way back by their gradients, so that a segment needs
 * one such matrix. A tangent is 2 s(2 x) - 1 of the logistic function s: its error is absolute, 1e-7 in float, which
 * is what a state that is summed needs. NaN stays NaN.
 */
#include <math.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vmath.h"

#define REAL float
#define EXP vexpf
#define NAME(name) name##_f32
#include "lstm_real.h"
#undef REAL
#undef EXP
#undef NAME

#define REAL double
#define EXP vexp
#define NAME(name) name##_f64
#include "lstm_real.h"
#undef REAL
#undef EXP
#undef NAME

int saffu_lstm_step(const void *R, const void *C_before, int size, int64_t n_rows, int64_t n_cells, void *G, void *C,
                    void *tanh_C, void *M, int n_threads) {
    return BY_SIZE(size, lstm_step, R, C_before, n_rows, n_cells, G, C, tanh_C, M, n_threads);
}

int saffu_lstm_step_backward(const void *C_before, const void *tanh_C, const void *dM, int size, int64_t n_rows,
                             int64_t n_cells, void *G, void *dC, int n_threads) {
    return BY_SIZE(size, lstm_step_backward, C_before, tanh_C, dM, n_rows, n_cells, G, dC, n_threads);
}

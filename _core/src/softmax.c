/* Dense softmax, logsumexp and cross-entropy over rows, and exp and log element by element.
 *
 * Decisions. Rows are shifted by their maximum. A row is walked in groups of 16 lanes, the last one padded with -inf,
 * so that ten classes cost one group and no scalar loop; sums are double, one per lane, folded in order, so that
 * their bits do not depend on the instruction set's width or on the threads. Every kernel treats
 * rows without a greatest finite entry by the same rule (row_terms): nothing but -inf says nothing, so its softmax is
 * uniform and its logsumexp -inf; a NaN, or an entry of +inf, makes all that follows from the row NaN, so that no
 * divergence passes unseen. Only the logsumexp of a row with +inf and no NaN is a number, +inf. But for the uniform
 * row, which is NaN there, that is what scipy.special and torch do.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "saffu.h"
#include "vmath.h"

enum { LANES = 16, CHUNK = 4096 };

SAFFU_INLINE double fold(const double lane[LANES]) {
    double sum = 0.0;
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

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

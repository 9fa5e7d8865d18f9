/* Numbers of either size: float or double, int32_t or int64_t.
 *
 * A kernel for reals is written once, in a file NAME_real.h that is included for float and for double with
 * REAL and NAME(name) defined, or as an inline body whose `size` is a constant wherever it is inlined.
 */
#ifndef SAFFU_REALS_H
#define SAFFU_REALS_H

#include <stdint.h>

#include "parallel.h"

#define LN_2 0.6931471805599453   /* nats in a bit */
#define LOG2_E 1.4426950408889634 /* bits in a nat */

enum { LANES = 16 }; /* partial sums of a row, each of every sixteenth entry */

/* The one of two functions that is for reals of this size in bytes. */
#define BY_SIZE(size, name, ...) ((size) == 4 ? name##_f32(__VA_ARGS__) : name##_f64(__VA_ARGS__))

SAFFU_INLINE double real_at(const void *x, int size, int64_t i) {
    return size == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

/* Eight adjacent entries, widened. */
SAFFU_INLINE Doubles doubles_at(const void *x, int size, int64_t i) {
    if (size == 8) return doubles_load((const double *)x + i);
#if defined(__GNUC__)
    typedef float Floats __attribute__((vector_size(32), aligned(4)));
    Floats a;
    memcpy(&a, (const float *)x + i, sizeof a);
    return __builtin_convertvector(a, Doubles);
#else
    Doubles a;
    for (int l = 0; l < N_DOUBLES; l++) a.v[l] = (double)((const float *)x)[i + l];
    return a;
#endif
}

SAFFU_INLINE const void *real_from(const void *x, int size, int64_t i) { return (const char *)x + i * size; }

SAFFU_INLINE int64_t integer_at(const void *x, int size, int64_t i) {
    return size == 4 ? ((const int32_t *)x)[i] : ((const int64_t *)x)[i];
}

/* The sum of all lanes, in order. */
SAFFU_INLINE double sum_lanes(const double lane[LANES]) {
    double sum = lane[0];
    for (int l = 1; l < LANES; l++) sum += lane[l];
    return sum;
}

#endif

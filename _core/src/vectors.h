/* Vectors of 64 bytes for both types of real, and the sums of their lanes.
 *
 * Decisions. Dot products leave a sum in each lane. Those of several vectors are folded together: halves are added to
 * halves by a tree of shuffles, until the sums of all lie side by side in one vector; a sum of lanes one by one would
 * take longer than the product. A shuffle's places are literals, without which compilers make scalar code of it.
 */
#ifndef SAFFU_VECTORS_H
#define SAFFU_VECTORS_H

#include <string.h>

#include "parallel.h"

enum { N_VECTORS = 4 }; /* vectors of a tile: their sums stay in registers */

#define REAL float
#define NAME(name) name##_f32
#include "vectors_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "vectors_real.h"
#undef REAL
#undef NAME

#if defined(__GNUC__) && !defined(__clang__)
typedef float Half_f32 __attribute__((vector_size(32), aligned(sizeof(float))));
typedef double Half_f64 __attribute__((vector_size(32), aligned(sizeof(double))));
typedef int32_t Places_f32 __attribute__((vector_size(32)));
typedef int64_t Places_f64 __attribute__((vector_size(32)));

/* Lanes hold blocks of this many: the sums of the halves of blocks, those of a beside those of b. */
SAFFU_INLINE Half_f32 pair_8_f32(Half_f32 a, Half_f32 b) {
    return __builtin_shuffle(a, b, (Places_f32){0, 1, 2, 3, 8, 9, 10, 11}) +
           __builtin_shuffle(a, b, (Places_f32){4, 5, 6, 7, 12, 13, 14, 15});
}

SAFFU_INLINE Half_f32 pair_4_f32(Half_f32 a, Half_f32 b) {
    return __builtin_shuffle(a, b, (Places_f32){0, 1, 8, 9, 4, 5, 12, 13}) +
           __builtin_shuffle(a, b, (Places_f32){2, 3, 10, 11, 6, 7, 14, 15});
}

SAFFU_INLINE Half_f32 pair_2_f32(Half_f32 a, Half_f32 b) {
    return __builtin_shuffle(a, b, (Places_f32){0, 8, 2, 10, 4, 12, 6, 14}) +
           __builtin_shuffle(a, b, (Places_f32){1, 9, 3, 11, 5, 13, 7, 15});
}

SAFFU_INLINE Half_f64 pair_4_f64(Half_f64 a, Half_f64 b) {
    return __builtin_shuffle(a, b, (Places_f64){0, 1, 4, 5}) + __builtin_shuffle(a, b, (Places_f64){2, 3, 6, 7});
}

SAFFU_INLINE Half_f64 pair_2_f64(Half_f64 a, Half_f64 b) {
    return __builtin_shuffle(a, b, (Places_f64){0, 4, 2, 6}) + __builtin_shuffle(a, b, (Places_f64){1, 5, 3, 7});
}

/* out[i] = the sum of part[i], i < FOLD. */
SAFFU_INLINE void fold_vectors_f32(const Vector_f32 *part, float *out) {
    Half_f32 v[FOLD_f32];
    for (int i = 0; i < FOLD_f32; i++) {
        Half_f32 low, high;
        memcpy(&low, (const float *)(part + i), sizeof low);
        memcpy(&high, (const float *)(part + i) + FOLD_f32, sizeof high);
        v[i] = low + high;
    }
    for (int i = 0; i < 4; i++) v[i] = pair_8_f32(v[i], v[i + 4]);
    for (int i = 0; i < 2; i++) v[i] = pair_4_f32(v[i], v[i + 2]);
    v[0] = pair_2_f32(v[0], v[1]);
    memcpy(out, v, sizeof *v);
}

SAFFU_INLINE void fold_vectors_f64(const Vector_f64 *part, double *out) {
    Half_f64 v[FOLD_f64];
    for (int i = 0; i < FOLD_f64; i++) {
        Half_f64 low, high;
        memcpy(&low, (const double *)(part + i), sizeof low);
        memcpy(&high, (const double *)(part + i) + FOLD_f64, sizeof high);
        v[i] = low + high;
    }
    for (int i = 0; i < 2; i++) v[i] = pair_4_f64(v[i], v[i + 2]);
    v[0] = pair_2_f64(v[0], v[1]);
    memcpy(out, v, sizeof *v);
}
#else
SAFFU_INLINE void fold_vectors_f32(const Vector_f32 *part, float *out) {
    for (int i = 0; i < FOLD_f32; i++) {
        float v[WIDTH_f32];
        memcpy(v, part + i, sizeof v);
        for (int half = FOLD_f32; half > 0; half /= 2)
            for (int l = 0; l < half; l++) v[l] += v[l + half];
        out[i] = v[0];
    }
}

SAFFU_INLINE void fold_vectors_f64(const Vector_f64 *part, double *out) {
    for (int i = 0; i < FOLD_f64; i++) {
        double v[WIDTH_f64];
        memcpy(v, part + i, sizeof v);
        for (int half = FOLD_f64; half > 0; half /= 2)
            for (int l = 0; l < half; l++) v[l] += v[l + half];
        out[i] = v[0];
    }
}
#endif

#endif

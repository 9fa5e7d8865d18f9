/* Local softmax units on patches of images: pooled responsibilities, and the moments of patches and units.
 *
 * Decisions. Patches are never stored: those of BLOCK positions are gathered, their contrast is taken, and one product
 * of small matrices, which stay in the first two levels of cache, gives the logits of all units; softmax and pooling
 * follow at once. The product keeps ROWS x 2 vectors of sums in registers. It serves the moments too, with patches in
 * the place of inputs. Sums over the patches of a block are of the type of the images, and those over blocks double.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vectors.h"
#include "vmath.h"

enum { BLOCK = 64, ROWS = 8, N_CHUNKS = 16, PADDING = 32 };
#define NEVER -1e30 /* a logit whose exponential is zero */

SAFFU_INLINE int64_t round_up(int64_t n, int64_t size) { return (n + size - 1) / size * size; }
SAFFU_INLINE int64_t values_of(const saffu_patches *s) { return s->patch_height * s->patch_width * s->channels; }
SAFFU_INLINE int64_t inputs_of(const saffu_patches *s) { return 2 * values_of(s) + 3; }

saffu_patch_plan saffu_plan_patches(const saffu_patches *s, int64_t n, int64_t n_units) {
    int64_t chunk = saffu_max(BLOCK, round_up((n + N_CHUNKS - 1) / N_CHUNKS, BLOCK));
    saffu_patch_plan plan = {n, chunk, (n + chunk - 1) / chunk, inputs_of(s), round_up(n_units, PADDING)};
    return plan;
}

#define REAL float
#define EXP(x) vexp2f_bounded((x) * (float)LOG2_E)
#define FAR -60.0f
#define ROOT sqrtf
#define WIDTH WIDTH_f32
#define NAME(name) name##_f32
#include "patches_real.h"
#undef REAL
#undef EXP
#undef FAR
#undef ROOT
#undef WIDTH
#undef NAME

#define REAL double
#define EXP(x) vexp_bounded(x)
#define FAR -500.0
#define ROOT sqrt
#define WIDTH WIDTH_f64
#define NAME(name) name##_f64
#include "patches_real.h"
#undef REAL
#undef EXP
#undef FAR
#undef ROOT
#undef WIDTH
#undef NAME

int saffu_pool_patches(const saffu_patches *s, const void *images, const void *M, const void *W, int size, int64_t n,
                       int64_t n_units, void *pooled, int n_threads) {
    return BY_SIZE(size, pool_patches, s, images, M, W, n, n_units, pooled, n_threads);
}

int saffu_patch_moments(const saffu_patches *s, const void *images, const int32_t *image_of, const int32_t *place_of,
                        const void *slope, const void *M, const void *W, const saffu_patch_plan *plan, int size,
                        int64_t n_units, int64_t from, int64_t to, double *sums, int n_threads) {
    return BY_SIZE(size, patch_moments, s, images, image_of, place_of, slope, M, W, plan, n_units, from, to, sums,
                   n_threads);
}

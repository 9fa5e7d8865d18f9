/* Softmax regression on dense features: losses and gradients in one pass over the features.
 *
 * Decisions. With few classes a product of matrices is as fast as its features come from memory, and gradients need
 * two, or three. So BLOCK rows, which stay in the second level of cache, pass through all of them at once: their
 * logits, their errors, the moments of features and errors, and the slopes of the features. Each product keeps 8
 * vectors of sums in registers: twice as many would not fit into those of AVX2. Sums over the rows of a block are
 * float, those over blocks double.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vectors.h"
#include "vmath.h"

enum { BLOCK = 64, ROWS = 4, N_CHUNKS = 16, LEAST_CHUNK = 512 };
#define NEVER -1e30f /* a logit whose exponential is zero */
#define FAR -60.0f   /* from the largest logit: no share of a sum in float */

SAFFU_INLINE int64_t round_up(int64_t n, int64_t size) { return (n + size - 1) / size * size; }

saffu_regression_plan saffu_plan_regression(int64_t n, int64_t n_features, int64_t n_classes) {
    int64_t chunk = saffu_max(LEAST_CHUNK, round_up((n + N_CHUNKS - 1) / N_CHUNKS, BLOCK));
    saffu_regression_plan plan = {n, chunk, (n + chunk - 1) / chunk, n_features, n_classes, round_up(n_classes, LANES)};
    return plan;
}

/* sum (rows, pairs) += sum over i of a[i a_step + r a_stride + v a_pair] b[i b_stride + v b_pair, lanes], in ascending
 * order of i: all but the strides of rows are to be constants. The two of a pair share either b or a. */
SAFFU_INLINE void add_products(const float *a, int64_t a_step, int64_t a_stride, int a_pair, const float *b,
                               int64_t b_stride, int b_pair, int64_t n, int rows, int pair,
                               Vector_f32 sum[ROWS][2]) {
    for (int64_t i = 0; i < n; i++) {
        Vector_f32 b_v[2];
        for (int v = 0; v < pair; v++) b_v[v] = load_vector_f32(b + i * b_stride + v * b_pair);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < pair; v++)
                sum[r][v] = multiply_add_one_f32(sum[r][v], a[i * a_step + r * a_stride + v * a_pair], b_v[v]);
    }
}

/* z_mk (BLOCK, padded), some vectors of some of its rows: rows of A times W, and the bias. */
SAFFU_INLINE void add_logits(const float *A, const float *w_jk, int64_t n_features, int64_t padded, int rows,
                             int n_vectors, float *restrict z_mk) {
    Vector_f32 sum[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < n_vectors; v++) sum[r][v] = load_vector_f32(w_jk + n_features * padded + v * WIDTH_f32);
    add_products(A, 1, n_features, 0, w_jk, padded, WIDTH_f32, n_features, rows, n_vectors, sum);
    for (int r = 0; r < rows; r++) memcpy(z_mk + r * padded, sum[r], (size_t)n_vectors * sizeof **sum);
}

/* The same for all n rows of a block. */
SAFFU_INLINE void all_logits(const float *A, const float *w_jk, int64_t n, int64_t n_features, int64_t padded,
                             int n_vectors, float *restrict z_mk) {
    int64_t m = 0;
    for (; m + ROWS <= n; m += ROWS)
        add_logits(A + m * n_features, w_jk, n_features, padded, ROWS, n_vectors, z_mk + m * padded);
    for (; m < n; m++)
        add_logits(A + m * n_features, w_jk, n_features, padded, 1, n_vectors, z_mk + m * padded);
}

/* z_k <- softmax(z_k) less one for the target; returns the cross-entropy. */
SAFFU_INLINE double error_row(int64_t padded, int32_t target, float *restrict z_k) {
    float high[LANES], sum[LANES] = {0}, total = 0, at_target = z_k[target];
    for (int l = 0; l < LANES; l++) high[l] = z_k[l];
    for (int64_t k = LANES; k < padded; k += LANES) {
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) high[l] = z_k[k + l] > high[l] ? z_k[k + l] : high[l];
    }
    for (int l = 1; l < LANES; l++) high[0] = high[l] > high[0] ? high[l] : high[0];
    float most = high[0];
    for (int64_t k = 0; k < padded; k += LANES) {
        float term[LANES];
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) term[l] = z_k[k + l] - most < FAR ? 0 : vexp2f_bounded((z_k[k + l] - most) * (float)LOG2_E);
        memcpy(z_k + k, term, sizeof term);
        SAFFU_LANES
        for (int l = 0; l < LANES; l++) sum[l] += term[l];
    }
    for (int l = 0; l < LANES; l++) total += sum[l];
    for (int64_t k = 0; k < padded; k++) z_k[k] /= total;
    z_k[target] -= 1;
    return log((double)total) + (double)(most - at_target);
}

/* sum_k, a vector of it, += z. */
SAFFU_INLINE void add_vector(const Vector_f32 *z, double *restrict sum_k) {
    for (int l = 0; l < WIDTH_f32; l += N_DOUBLES) {
        Doubles more = doubles_add(doubles_load(sum_k + l), doubles_at(z, sizeof(float), l));
        memcpy(sum_k + l, &more, sizeof more);
    }
}

/* sum_jk += sum over the n rows m of A_mj e_mk: two vectors of each of some rows, or with `apart` set one vector each of
 * those rows and of the next ROWS. */
SAFFU_INLINE void add_moments(const float *A, const float *e_mk, int64_t n, int64_t n_features, int64_t padded,
                              int rows, int pair, int apart, double *restrict sum_jk) {
    Vector_f32 sum[ROWS][2];
    memset(sum, 0, sizeof sum);
    add_products(A, n_features, 1, apart ? ROWS : 0, e_mk, padded, apart ? 0 : WIDTH_f32, n, rows, pair, sum);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < pair; v++)
            add_vector(sum[r] + v, sum_jk + (r + v * (apart ? ROWS : 0)) * padded + v * (apart ? 0 : WIDTH_f32));
}

/* The same for all features and classes: 8 vectors of sums at a time. */
SAFFU_INLINE void all_moments(const float *A, const float *e_mk, int64_t n, int64_t n_features, int64_t padded,
                              double *restrict sum_jk) {
    int64_t paired = padded - padded % (2 * WIDTH_f32), j = 0;
    for (; j + 2 * ROWS <= n_features; j += 2 * ROWS) {
        for (int64_t k = 0; k < paired; k += 2 * WIDTH_f32)
            for (int64_t i = j; i < j + 2 * ROWS; i += ROWS)
                add_moments(A + i, e_mk + k, n, n_features, padded, ROWS, 2, 0, sum_jk + i * padded + k);
        if (paired < padded)
            add_moments(A + j, e_mk + paired, n, n_features, padded, ROWS, 2, 1, sum_jk + j * padded + paired);
    }
    for (; j < n_features; j++)
        for (int64_t k = 0; k < padded; k += WIDTH_f32)
            add_moments(A + j, e_mk + k, n, n_features, padded, 1, 1, 0, sum_jk + j * padded + k);
}

/* ROWS rows of dA from m on, of n, = e W': two vectors from column j on. */
SAFFU_INLINE void put_slopes(const float *e_mk, const float *v_kj, int64_t m, int64_t n, int64_t j, int64_t wide,
                             const saffu_regression_plan *plan, float *dA) {
    Vector_f32 sum[ROWS][2];
    int64_t padded = plan->padded, d = plan->n_features;
    memset(sum, 0, sizeof sum);
    add_products(e_mk + m * padded, 1, padded, 0, v_kj + j, wide, WIDTH_f32, plan->n_classes, ROWS, 2, sum);
    for (int r = 0; r < ROWS && m + r < n; r++)
        memcpy(dA + (m + r) * d + j, sum[r], (size_t)saffu_min(d - j, 2 * WIDTH_f32) * sizeof(float));
}

/* A block of n rows: their losses, and their shares of the sums; dA may be NULL. */
SAFFU_INLINE void regress_block(const saffu_regression_plan *plan, const float *A, const float *w_jk,
                                const float *v_kj, const int32_t *targets, int64_t n, double *losses, float *dA,
                                float *restrict z_mk, double *restrict sum_jk) {
    int64_t d = plan->n_features, padded = plan->padded, wide = round_up(d, 2 * WIDTH_f32), k = 0;
    for (; k + 2 * WIDTH_f32 <= padded; k += 2 * WIDTH_f32) all_logits(A, w_jk + k, n, d, padded, 2, z_mk + k);
    if (k < padded) all_logits(A, w_jk + k, n, d, padded, 1, z_mk + k);
    for (int64_t m = 0; m < n; m++) losses[m] = error_row(padded, targets[m], z_mk + m * padded);
    for (int64_t m = 0; m < n; m++)
        for (int64_t i = 0; i < padded; i++) sum_jk[d * padded + i] += (double)z_mk[m * padded + i];
    all_moments(A, z_mk, n, d, padded, sum_jk);
    for (int64_t m = 0; dA && m < n; m += ROWS)
        for (int64_t j = 0; j < d; j += 2 * WIDTH_f32)
            put_slopes(z_mk, v_kj, m, n, j, wide, plan, dA);
}

/* w_jk (n_features + 1, padded): W, and the bias as its last row; a class more than there are is never likely. */
static void pad_classes(const float *W, const float *bias, const saffu_regression_plan *plan, float *w_jk) {
    int64_t n = plan->n_classes;
    for (int64_t j = 0; j <= plan->n_features; j++, w_jk += plan->padded) {
        memcpy(w_jk, j < plan->n_features ? W + j * n : bias, (size_t)n * sizeof *W);
        for (int64_t k = n; k < plan->padded; k++) w_jk[k] = j < plan->n_features ? 0 : NEVER;
    }
}

SAFFU_SIMD int saffu_regression_gradients(const float *A, const float *W, const float *bias,
                                          const int32_t *targets, const saffu_regression_plan *plan,
                                          int64_t from, int64_t to, double *losses, float *dA, double *sums,
                                          int n_threads) {
    int64_t d = plan->n_features, padded = plan->padded, wide = round_up(d, 2 * WIDTH_f32);
    int64_t sums_size = (d + 1) * padded, shared = sums_size + (dA ? plan->n_classes * wide : 0);
    int team = (int)saffu_min(saffu_team(n_threads, (to - from) * d * padded / 16), plan->n_chunks);
    float *scratch = malloc((size_t)(shared + team * BLOCK * padded) * sizeof *scratch), *v_kj = scratch + sums_size;
    if (!scratch) return SAFFU_NO_MEMORY;
    pad_classes(W, bias, plan, scratch);
    for (int64_t k = 0; dA && k < plan->n_classes; k++)
        for (int64_t j = 0; j < wide; j++) v_kj[k * wide + j] = j < d ? W[j * plan->n_classes + k] : 0;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 1))
    for (int64_t chunk = 0; chunk < plan->n_chunks; chunk++) {
        int64_t end = saffu_min(chunk * plan->chunk + to, saffu_min((chunk + 1) * plan->chunk, plan->n));
        for (int64_t m = chunk * plan->chunk + from; m < end; m += BLOCK)
            regress_block(plan, A + m * d, scratch, v_kj, targets + m, saffu_min(BLOCK, end - m), losses + m,
                                dA ? dA + m * d : NULL, scratch + shared + saffu_thread() * BLOCK * padded,
                                sums + chunk * sums_size);
    }
    free(scratch);
    return SAFFU_OK;
}

/* Derivatives of the pooled softmax by the scalars of its features, which priming needs.
 *
 * Decisions. The moments of the features under the distribution of a position come from the touched blocks, and from
 * those of the prior elsewhere. The target's own term is kept apart, as its features leave a count out. Of each pair of
 * rows the longer is spread out, the shorter one read. A chunk has sums of its own, which are added up in order.
 *
 * Features k of a position: 0 and 1 are the dense log-priors, then the rows. In the scratch of a thread are mean,
 * E_p[x_k], second, E_p[x_k x_l] (lower triangle), and target, x_k(y).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

/* ---- one row with a vector over all words ------------------------------------------------------------------------ */

#define REAL float
#define NAME(name) name##_f32
#include "pool_derivatives_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "pool_derivatives_real.h"
#undef REAL
#undef NAME

/* sum_w x(w) y(w) */
SAFFU_INLINE double dot_row(Row x, const double *y) { return BY_SIZE(x.size, dot_row, x, y); }

/* y = x p; undone by clear_row */
SAFFU_INLINE void multiply_row(Row x, const double *p, double *y) { BY_SIZE(x.size, multiply_row, x, p, y); }

SAFFU_INLINE double word_of_row(Row x, int32_t target) { return BY_SIZE(x.size, word_of_row, x, target); }

/* sum_w x(w) p(w) {1, x_0(w), x_1(w)} */
SAFFU_INLINE void dot_dense(Row x, const double *p, const double *x0, const double *x1, double *sum) {
    BY_SIZE(x.size, dot_dense, x, p, x0, x1, sum);
}

SAFFU_INLINE void clear_row(Row x, double *restrict y) {
    memset(y, 0, (size_t)x.n_head * sizeof *y);
    for (int64_t i = 0; i < x.n_tail; i++) y[x.word[i]] = 0.0;
}

SAFFU_INLINE int64_t length_of(Row x) { return x.n_head + x.n_tail; }

/* x_k(y) of every feature: of contexts as given, with a count left out; of windows as they are. */
static void gather_targets(const Job *job, int64_t i, Scratch *s) {
    const saffu_pool *pool = job->pool;
    int32_t target = job->batch->ids[job->batch->positions[i]];
    const int32_t *row = job->batch->rows + i * pool->n_contexts;
    const double *target_u = job->batch->target_u + i * pool->n_contexts;
    s->target[0] = pool->log_prior[target];
    s->target[1] = pool->log_prior[job->n_blocks * BLOCK + target];
    for (int64_t k = 0; k < pool->n_contexts; k++) s->target[2 + k] = row[k] >= 0 ? target_u[k] : 0.0;
    for (int64_t k = pool->n_contexts; k < pool->n_features; k++) s->target[2 + k] = word_of_row(s->row[k], target);
}

/* z -> 2^(z + g) on the touched blocks, except the target's own cell, which becomes 0. moments receives those of the
 * dense features over all words but the target: the first is Z less the target's own term. */
SAFFU_INLINE void exponentiate(Prior prior, const double *x0, const double *x1, int64_t n, int32_t target,
                               Scratch *s, double *moments) {
    Doubles sum[N_MOMENTS];
    for (int m = 0; m < N_MOMENTS; m++) sum[m] = doubles_zero();
    memcpy(moments, prior.total, N_MOMENTS * sizeof *moments);
    s->z[target] = -(double)INFINITY;
    for (int64_t j = 0; j < n; j++) {
        int64_t b = s->block[j];
        double *restrict z = s->z + b * BLOCK;
        const double *restrict g = prior.g + b * BLOCK;
        for (int w = 0; w < BLOCK; w++) z[w] = vexp2_bounded(z[w] + g[w]);
        for (int w = 0; w < BLOCK; w += N_DOUBLES) {
            Doubles p = doubles_load(z + w), a = doubles_load(x0 + b * BLOCK + w), c = doubles_load(x1 + b * BLOCK + w);
            Doubles pa = doubles_multiply(p, a), pc = doubles_multiply(p, c);
            sum[0] = doubles_add(sum[0], p);
            sum[1] = doubles_add(sum[1], pa);
            sum[2] = doubles_add(sum[2], pc);
            sum[3] = doubles_add(sum[3], doubles_multiply(pa, a));
            sum[4] = doubles_add(sum[4], doubles_multiply(pa, c));
            sum[5] = doubles_add(sum[5], doubles_multiply(pc, c));
        }
        for (int m = 0; m < N_MOMENTS; m++) moments[m] -= prior.moments[b * N_MOMENTS + m];
    }
    for (int m = 0; m < N_MOMENTS; m++) moments[m] += doubles_sum(sum[m]);
}

/* The same for position i with no assumption about its scalars: every block is touched, all logits and the target's
 * own, bits, are shifted by their maximum, which is returned. */
SAFFU_RARE static double exponentiate_anew(const Job *job, int64_t i, int32_t target, double own, Scratch *s,
                                           double *moments) {
    const double *g = prior_of(job->pool, job->batch->states[i]).g, *x0 = job->pool->log_prior;
    const double *x1 = x0 + job->n_blocks * BLOCK;
    double *z = s->z, high = own;
    clear_words(job, s);
    add_rows(job, i, s);
    for (int64_t w = 0; w < job->pool->vocab_size; w++) {
        z[w] = w == target ? -(double)INFINITY : z[w] + g[w];
        high = z[w] > high ? z[w] : high;
    }
    memset(moments, 0, N_MOMENTS * sizeof *moments);
    for (int64_t w = 0; w < job->pool->vocab_size; w++) {
        z[w] = w == target ? 0.0 : vexp2_bounded(z[w] - high);
        add_moments(moments, z[w], x0[w], x1[w]);
    }
    for (int64_t b = 0; b < job->n_blocks; b++) s->block[b] = (int32_t)b;
    return high;
}

/* pair[k, l] = sum_w p(w) x_k(w) x_l(w) for l <= k: of each pair the longer row is spread out, the shorter one read. */
SAFFU_INLINE void sum_pairs(int64_t n_features, Scratch *s, double *pair, int64_t stride) {
    for (int64_t i = 0; i < n_features; i++) { /* longest first */
        int32_t k = (int32_t)i;
        int64_t j = i;
        for (; j > 0 && length_of(s->row[s->order[j - 1]]) < length_of(s->row[k]); j--) s->order[j] = s->order[j - 1];
        s->order[j] = k;
    }
    for (int64_t i = 0; i < n_features; i++) {
        int64_t k = s->order[i];
        multiply_row(s->row[k], s->z, s->y);
        for (int64_t j = i; j < n_features; j++) {
            int64_t l = s->order[j];
            pair[saffu_max(k, l) * stride + saffu_min(k, l)] = dot_row(s->row[l], s->y);
        }
        clear_row(s->row[k], s->y);
    }
}

/* Moments of the features under p = s->z, not normalised, the target's own term apart: the rows first, then pairs. */
SAFFU_INLINE void sum_moments(const Job *job, const double *dense, int second, Scratch *s) {
    int64_t n_local = job->pool->n_features + 2;
    const double *x0 = job->pool->log_prior, *x1 = x0 + job->n_blocks * BLOCK;
    double *restrict mean = s->mean, *restrict pair = s->second, dots[3];
    mean[0] = dense[1];
    mean[1] = dense[2];
    if (!second) {
        for (int64_t k = 2; k < n_local; k++) mean[k] = dot_row(s->row[k - 2], s->z);
        return;
    }
    pair[0] = dense[3];
    pair[n_local] = dense[4];
    pair[n_local + 1] = dense[5];
    for (int64_t k = 2; k < n_local; k++) {
        dot_dense(s->row[k - 2], s->z, x0, x1, dots);
        mean[k] = dots[0];
        pair[k * n_local] = dots[1];
        pair[k * n_local + 1] = dots[2];
    }
    sum_pairs(n_local - 2, s, pair + 2 * n_local + 2, n_local);
}

/* Moments of all features at position i; returns log p(y). */
SAFFU_INLINE double position_moments(const Job *job, int64_t i, int second, Scratch *s) {
    const saffu_batch *batch = job->batch;
    Prior prior = prior_of(job->pool, batch->states[i]);
    const double *theta = theta_of(job->pool, batch->states[i]);
    int32_t target = batch->ids[batch->positions[i]];
    int64_t n_local = job->pool->n_features + 2;
    double dense[N_MOMENTS], z = LN_2 * prior.g[target], high = 0.0;
    s->flag[target / BLOCK] = 1;
    int64_t n = add_rows(job, i, s);
    gather_targets(job, i, s);
    for (int64_t k = 2; k < n_local; k++) z += theta[k] * s->target[k];
    exponentiate(prior, job->pool->log_prior, job->pool->log_prior + job->n_blocks * BLOCK, n, target, s, dense);
    double own = vexp2_bounded(LOG2_E * z), total = dense[0] + own;
    if (!is_safe(total, prior.total[0])) {
        high = exponentiate_anew(job, i, target, LOG2_E * z, s, dense);
        n = job->n_blocks;
        own = vexp2_bounded(LOG2_E * z - high);
        total = dense[0] + own;
    }
    sum_moments(job, dense, second, s);
    for (int64_t j = 0; j < n; j++) memset(s->z + s->block[j] * BLOCK, 0, BLOCK * sizeof *s->z);
    for (int64_t k = 0; k < n_local; k++) {
        s->mean[k] = (s->mean[k] + own * s->target[k]) / total;
        for (int64_t l = 0; second && l <= k; l++) {
            double *pair = s->second + k * n_local + l;
            *pair = (*pair + own * s->target[k] * s->target[l]) / total;
        }
    }
    return (z - LN_2 * high) - vlog(total);
}

/* Where the results of all chunks go. */
typedef struct {
    double *log_prob, *sums; /* (n); (n_chunks, stride): of each chunk first derivatives, then second ones if wanted */
    int64_t n_first, stride;
} Derivatives;

SAFFU_SIMD static void derive_chunk(const Job *job, int64_t from, int64_t to, Scratch *s, void *out) {
    const Derivatives *d = out;
    int64_t n_local = job->pool->n_features + 2;
    int with_second = d->stride > d->n_first;
    double *gradient = d->sums + from / job->chunk * d->stride, *hessian = gradient + d->n_first;
    for (int64_t i = from; i < to; i++) {
        int64_t state = job->batch->states[i];
        double *first = gradient + state * n_local, *second = hessian + state * n_local * n_local;
        d->log_prob[i] = position_moments(job, i, with_second, s);
        for (int64_t k = 0; k < n_local; k++) {
            first[k] += s->mean[k] - s->target[k];
            for (int64_t l = 0; with_second && l <= k; l++) {
                double covariance = s->second[k * n_local + l] - s->mean[k] * s->mean[l];
                second[k * n_local + l] += covariance;
                if (k != l) second[l * n_local + k] += covariance;
            }
        }
    }
}

/* total (n) += the rows of parts (n_parts, stride), in order. */
static void add_parts(const double *parts, int64_t n_parts, int64_t stride, int64_t n, double *total) {
    for (int64_t m = 0; m < n_parts; m++)
        for (int64_t j = 0; j < n; j++) total[j] += parts[m * stride + j];
}

int saffu_pool_derivatives(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, double *gradient,
                           double *hessian, int n_threads) {
    int64_t n_local = pool->n_features + 2, n_first = pool->n_states * n_local;
    int64_t n_second = hessian ? n_first * n_local : 0, n_chunks = (batch->n + batch->chunk - 1) / batch->chunk;
    Derivatives all = {log_prob, NULL, n_first, n_first + n_second};
    all.sums = calloc((size_t)(n_chunks * all.stride) + 1, sizeof *all.sums);
    if (!all.sums) return SAFFU_NO_MEMORY;
    int status = run(pool, batch, derive_chunk, &all, n_threads);
    if (status == SAFFU_OK) {
        add_parts(all.sums, n_chunks, all.stride, n_first, gradient);
        if (hessian) add_parts(all.sums + n_first, n_chunks, all.stride, n_second, hessian);
    }
    free(all.sums);
    return status;
}

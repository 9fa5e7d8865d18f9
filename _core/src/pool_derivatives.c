/* Derivatives of the pooled softmax by the scalars of its features, which priming needs.
 *
 * Decisions. Moments of the features under the distribution of a position are sums over three kinds of words. Those of
 * (word, value) pairs are gathered into a panel that has all features of each. The others that a dense beginning covers
 * are read where they are, a tile at a time: logits, probabilities and the products of all pairs of rows while the tile
 * is in cache. Of all further words the prior has the sums. Numbers are of the type of the rows, and sums of a tile, too;
 * these are added up as doubles. A position with extreme scalars is computed anew in doubles over all words. The target's
 * own term is kept apart, as its features leave a count out. A chunk has sums of its own, which are added up in order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "pool_panel.h"
#include "vectors.h"

#define REAL float
#define EXP2 vexp2f_bounded
#define NAME(name) name##_f32
#include "pool_derivatives_real.h"
#undef REAL
#undef EXP2
#undef NAME

#define REAL double
#define EXP2 vexp2_bounded
#define NAME(name) name##_f64
#include "pool_derivatives_real.h"
#undef REAL
#undef EXP2
#undef NAME

/* What the positions of a call share, and where the results of all chunks go. */
typedef struct {
    void *log_prior; /* (2, n_blocks * BLOCK) of the type of the rows, and the same transposed */
    double *rest;    /* (n_states, n_blocks + 1, N_MOMENTS) moments of the prior from each block on */
    double *log_prob, *sums; /* (n); (n_chunks, stride): of each chunk first derivatives, then second ones if wanted */
    int64_t n_first, stride;
    int status; /* of the chunks */
} Derivatives;

/* ---- positions with extreme scalars ------------------------------------------------------------------------------ */

/* sum_w x(w) y(w) */
static double dot_row(Row x, const double *y) {
    double sum = 0.0;
    for (int64_t w = 0; w < x.n_head; w++) sum += real_at(x.head, x.size, w) * y[w];
    for (int64_t i = 0; i < x.n_tail; i++) sum += real_at(x.u, x.size, i) * y[x.word[i]];
    return sum;
}

/* z += scale x */
static void add_row(Row x, double scale, double *z) {
    for (int64_t w = 0; w < x.n_head; w++) z[w] += scale * real_at(x.head, x.size, w);
    for (int64_t i = 0; i < x.n_tail; i++) z[x.word[i]] += scale * real_at(x.u, x.size, i);
}

/* Feature r of a position: the log-priors are dense rows. */
static Row feature(const Job *job, const Scratch *s, int64_t r) {
    int64_t n = job->n_blocks * BLOCK;
    if (r >= N_DENSE) return s->row[r - N_DENSE];
    return (Row){job->pool->log_prior + (r - 1) * n, NULL, NULL, n, 0, sizeof(double)};
}

/* panel->p = 2^(z - the maximum of z and own), z the logits of position i in bits, but zero for the target; returns
 * that maximum. */
static double exponentiate_anew(const Job *job, const double *theta, double own, const Scratch *s, Panel *panel) {
    int64_t n_words = job->pool->vocab_size;
    double *p = panel->p, high = own;
    memset(p, 0, (size_t)job->n_blocks * BLOCK * sizeof *p);
    for (int64_t r = 1; r < panel->n_rows; r++) add_row(feature(job, s, r), LOG2_E * theta[r - 1], p);
    p[panel->target] = -(double)INFINITY;
    for (int64_t w = 0; w < n_words; w++) high = p[w] > high ? p[w] : high;
    for (int64_t w = 0; w < n_words; w++) p[w] = w == panel->target ? 0.0 : vexp2_bounded(p[w] - high);
    for (int64_t w = n_words; w < job->n_blocks * BLOCK; w++) p[w] = 0.0;
    return high;
}

/* The sums of a position with no assumption about its scalars: all logits and the target's own, bits, are shifted by
 * their maximum, which is returned. */
SAFFU_RARE static double sum_anew(const Job *job, const double *theta, double own, int second, const Scratch *s,
                                  Panel *panel) {
    double high = exponentiate_anew(job, theta, own, s, panel), *p = panel->p, *y = panel->y, *sums = panel->sums;
    int64_t n = panel->n_rows, n_words = job->n_blocks * BLOCK;
    sums[0] = 0.0;
    for (int64_t w = 0; w < n_words; w++) sums[0] += p[w];
    for (int64_t r = 1; r < n; r++) {
        sums[r * n] = dot_row(feature(job, s, r), p);
        if (!second) continue;
        memset(y, 0, (size_t)n_words * sizeof *y);
        add_row(feature(job, s, r), 1.0, y);
        for (int64_t w = 0; w < n_words; w++) y[w] *= p[w];
        for (int64_t q = 1; q <= r; q++) sums[r * n + q] = dot_row(feature(job, s, q), y);
    }
    return high;
}

/* ---- one position ------------------------------------------------------------------------------------------------ */

/* x_k(y) of every feature: of contexts as given, with a count left out; of windows as they are. */
SAFFU_INLINE void gather_targets(const Job *job, int64_t i, const Scratch *s, Panel *panel) {
    const saffu_pool *pool = job->pool;
    int64_t n_contexts = pool->n_contexts, size = pool->row_size;
    const int32_t *row = job->batch->rows + i * n_contexts;
    const double *target_u = job->batch->target_u + i * n_contexts;
    panel->of_target[0] = pool->log_prior[panel->target];
    panel->of_target[1] = pool->log_prior[job->n_blocks * BLOCK + panel->target];
    for (int64_t k = 0; k < n_contexts; k++) panel->of_target[2 + k] = row[k] >= 0 ? target_u[k] : 0.0;
    for (int64_t k = n_contexts; k < pool->n_features; k++) {
        int64_t place = (N_DENSE + k) * panel->stride + panel->target_column;
        panel->of_target[2 + k] = is_empty(s->row[k]) ? 0.0 : real_at(panel->x, (int)size, place);
    }
}

/* Begin the sums with the moments of the prior over the words that no dense beginning covers. */
SAFFU_INLINE void begin_sums(const double *rest, Panel *panel) {
    int64_t n = panel->n_rows;
    double *sums = panel->sums;
    memset(sums, 0, (size_t)(n * n) * sizeof *sums);
    sums[0] = rest[0];
    sums[n] = rest[1];
    sums[2 * n] = rest[2];
    sums[n + 1] = rest[3];
    sums[2 * n + 1] = rest[4];
    sums[2 * n + 2] = rest[5];
}

/* As is_safe; floats are clamped within 2^126, and a sixteenth of the prior's words may be lost to a difference. */
SAFFU_INLINE int is_safe_for(int64_t size, double sum, double before) {
    return size == 4 ? sum > 0x1p-60 && sum < 0x1p60 && sum > 0x1p-4 * before : is_safe(sum, before);
}

/* Moments of all features at position i, normalised, in panel->mean and panel->sums, and log p(y); a status. */
SAFFU_INLINE int position_moments(const Job *job, int64_t i, const Derivatives *d, int second, Scratch *s,
                                  Panel *panel) {
    const saffu_pool *pool = job->pool;
    int64_t state = job->batch->states[i], n = panel->n_rows;
    const double *theta = theta_of(pool, state);
    gather_rows(job, i, s);
    if (fit_panel(job, s, panel) != SAFFU_OK) return SAFFU_NO_MEMORY;
    const double *rest = d->rest + (state * (job->n_blocks + 1) + panel->longest / BLOCK) * N_MOMENTS;
    panel->target = job->batch->ids[job->batch->positions[i]];
    double *sums = panel->sums, z = LN_2 * prior_of(pool, state).g[panel->target], high = 0.0;
    begin_sums(rest, panel);
    BY_SIZE(pool->row_size, sum_position, job, theta, d->log_prior, second, s, panel);
    panel->first += (int32_t)panel->n;
    gather_targets(job, i, s, panel);
    for (int64_t k = 2; k < n - 1; k++) z += theta[k] * panel->of_target[k];
    double own = vexp2_bounded(LOG2_E * z), total = sums[0] + own;
    if (!is_safe_for(pool->row_size, total, rest[0])) {
        high = sum_anew(job, theta, LOG2_E * z, second, s, panel);
        own = vexp2_bounded(LOG2_E * z - high);
        total = sums[0] + own;
    }
    for (int64_t k = 0; k < n - 1; k++) {
        panel->mean[k] = (sums[(k + 1) * n] + own * panel->of_target[k]) / total;
        for (int64_t l = 0; second && l <= k; l++) {
            double *pair = sums + (k + 1) * n + l + 1;
            *pair = (*pair + own * panel->of_target[k] * panel->of_target[l]) / total;
        }
    }
    d->log_prob[i] = (z - LN_2 * high) - vlog(total);
    return SAFFU_OK;
}

/* ---- all positions ----------------------------------------------------------------------------------------------- */

/* Add the derivatives at position i, whose moments are in the panel. */
SAFFU_INLINE void add_derivatives(const Panel *panel, int second, double *restrict gradient, double *restrict hessian) {
    const double *mean = panel->mean;
    int64_t n_local = panel->n_rows - 1;
    for (int64_t k = 0; k < n_local; k++) {
        const double *pair = panel->sums + (k + 1) * panel->n_rows + 1;
        gradient[k] += mean[k] - panel->of_target[k];
        for (int64_t l = 0; second && l <= k; l++) {
            double covariance = pair[l] - mean[k] * mean[l];
            hessian[k * n_local + l] += covariance;
            if (k != l) hessian[l * n_local + k] += covariance;
        }
    }
}

SAFFU_SIMD static void derive_chunk(const Job *job, int64_t from, int64_t to, Scratch *s, void *out) {
    Derivatives *d = out;
    Panel panel;
    int64_t n_local = job->pool->n_features + 2;
    int second = d->stride > d->n_first, status = new_panel(job, &panel);
    double *gradient = d->sums + from / job->chunk * d->stride, *hessian = gradient + d->n_first;
    for (int64_t i = from; status == SAFFU_OK && i < to; i++) {
        int64_t state = job->batch->states[i];
        status = position_moments(job, i, d, second, s, &panel);
        if (status == SAFFU_OK)
            add_derivatives(&panel, second, gradient + state * n_local, hessian + state * n_local * n_local);
    }
    free_panel(&panel);
    if (status != SAFFU_OK) {
        SAFFU_OMP(atomic write)
        d->status = status;
    }
}

/* total (n) += the rows of parts (n_parts, stride), in order. */
static void add_parts(const double *parts, int64_t n_parts, int64_t stride, int64_t n, double *total) {
    for (int64_t m = 0; m < n_parts; m++)
        for (int64_t j = 0; j < n; j++) total[j] += parts[m * stride + j];
}

/* rest[s, b] = the sum of the moments of the prior of state s over blocks b, b + 1, ... */
static void sum_rest(const saffu_pool *pool, double *rest, int n_threads) {
    int64_t n_blocks = blocks_of(pool);
    int team = saffu_team(n_threads, pool->n_states * n_blocks * N_MOMENTS);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t state = 0; state < pool->n_states; state++) {
        const double *moments = prior_of(pool, state).moments;
        double *of_state = rest + state * (n_blocks + 1) * N_MOMENTS;
        memset(of_state + n_blocks * N_MOMENTS, 0, N_MOMENTS * sizeof *rest);
        for (int64_t j = n_blocks * N_MOMENTS - 1; j >= 0; j--) of_state[j] = of_state[j + N_MOMENTS] + moments[j];
    }
}

/* The log-priors in the type of the rows, and transposed. */
static void convert_log_prior(const saffu_pool *pool, void *out) {
    int64_t n = blocks_of(pool) * BLOCK;
    float *narrow = out;
    double *wide = out;
    for (int64_t m = 0; m < 2; m++)
        for (int64_t w = 0; w < n; w++) {
            double x = pool->log_prior[m * n + w];
            if (pool->row_size == 4)
                narrow[m * n + w] = narrow[2 * n + 2 * w + m] = (float)x;
            else
                wide[m * n + w] = wide[2 * n + 2 * w + m] = x;
        }
}

int saffu_pool_derivatives(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, double *gradient,
                           double *hessian, int n_threads) {
    int64_t n_local = pool->n_features + 2, n_first = pool->n_states * n_local, n_blocks = blocks_of(pool);
    int64_t n_second = hessian ? n_first * n_local : 0, n_chunks = (batch->n + batch->chunk - 1) / batch->chunk;
    Derivatives all = {NULL, NULL, log_prob, NULL, n_first, n_first + n_second, SAFFU_OK};
    int status = SAFFU_OK;
    all.log_prior = malloc((size_t)(4 * n_blocks * BLOCK * pool->row_size));
    all.rest = malloc((size_t)(pool->n_states * (n_blocks + 1) * N_MOMENTS) * sizeof *all.rest);
    all.sums = calloc((size_t)(n_chunks * all.stride) + 1, sizeof *all.sums);
    if (!all.log_prior || !all.rest || !all.sums) status = SAFFU_NO_MEMORY;
    if (status == SAFFU_OK) {
        convert_log_prior(pool, all.log_prior);
        sum_rest(pool, all.rest, n_threads);
        status = run(pool, batch, derive_chunk, &all, n_threads);
        status = worse(status, all.status);
    }
    if (status == SAFFU_OK) {
        add_parts(all.sums, n_chunks, all.stride, n_first, gradient);
        if (hessian) add_parts(all.sums + n_first, n_chunks, all.stride, n_second, hessian);
    }
    free(all.log_prior);
    free(all.rest);
    free(all.sums);
    return status;
}

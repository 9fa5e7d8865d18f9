/* The pooled sparse softmax: many sparse rows, one scalar each, an exact normaliser over seen words only.
 *
 *     z(w) = alpha_s log p(w) + beta_s log p_cont(w) + sum_k lambda_sk x_k(w),      y_hat = softmax(z)
 *
 * Features x_k: one explicit row u(c_k, .) for each context of the position, then the document windows, then the
 * induction window. All are zero outside the words they have seen, so with g = alpha_s log p + beta_s log p_cont
 *
 *     Z = Z_g + sum over touched blocks of ( sum_w exp z(w) - sum_w exp g(w) ),
 *
 * where a block is BLOCK consecutive words: fine enough to skip the unseen, wide enough for vectors.
 *
 * Decisions. A row has a dense beginning, one fused multiply-add per word, and (word, value) pairs (pack.c). Scattering
 * is branch-free: a flag per block replaces a list of touched words. Logits are kept in bits, so that an exponential
 * needs no change of base. They are exponentiated as they are while Z is of ordinary size and no small remainder of
 * Z_g; a position with extreme scalars, whose exponentials overflow, vanish or cancel, is computed anew over all words,
 * its logits shifted by their maximum. Positions are processed in chunks on a grid set by their number; a chunk owns
 * its results and begins its windows afresh, so that no bit depends on the number of threads.
 */
#include <math.h>
#include <string.h>

#include "pool.h"

enum { SHORTEST_CHUNK = 64, LONGEST_CHUNK = 512, TILE = 64 * BLOCK, HEAD_TILE = 128 * BLOCK, FUSED = 6, LINE = 64, FETCHED = 4 };

/* Chunks long enough to begin windows seldom, and short enough to keep a team busy; no matter how large a team. */
int64_t saffu_pool_chunk(int64_t n) { return saffu_max(SHORTEST_CHUNK, saffu_min(LONGEST_CHUNK, n / 16)); }

/* ---- the prior of each state ------------------------------------------------------------------------------------- */

SAFFU_SIMD static void fill_prior(const saffu_pool *pool, double alpha, double beta, double *g, double *moments,
                                  double *beyond, float *narrow) {
    int64_t n_blocks = blocks_of(pool);
    const double *x0 = pool->log_prior, *x1 = pool->log_prior + n_blocks * BLOCK;
    double *total = moments + n_blocks * N_MOMENTS;
    for (int64_t w = 0; w < n_blocks * BLOCK; w++)
        g[w] = w < pool->vocab_size ? LOG2_E * (alpha * x0[w] + beta * x1[w]) : -(double)INFINITY;
    memset(moments, 0, (size_t)(n_blocks + 1) * N_MOMENTS * sizeof *moments);
    for (int64_t b = 0; b < n_blocks; b++) {
        double *m = moments + b * N_MOMENTS, mass[BLOCK];
        for (int i = 0; i < BLOCK; i++) mass[i] = vexp2_bounded(g[b * BLOCK + i]);
        for (int i = 0; i < BLOCK; i++) add_moments(m, mass[i], x0[b * BLOCK + i], x1[b * BLOCK + i]);
        for (int j = 0; j < N_MOMENTS; j++) total[j] += m[j];
    }
    beyond[n_blocks] = 0.0;
    for (int64_t b = n_blocks - 1; b >= 0; b--) beyond[b] = beyond[b + 1] + moments[b * N_MOMENTS];
    for (int64_t w = 0; narrow && w < n_blocks * BLOCK; w++) narrow[w] = (float)g[w];
}

int saffu_pool_prior(const saffu_pool *pool, double *prior, double *moments, double *beyond, float *narrow,
                     int n_threads) {
    int64_t n_blocks = blocks_of(pool);
    int team = saffu_team(n_threads, pool->n_states * pool->vocab_size * 8);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t s = 0; s < pool->n_states; s++)
        fill_prior(pool, theta_of(pool, s)[0], theta_of(pool, s)[1], prior + s * n_blocks * BLOCK,
                   moments + s * (n_blocks + 1) * N_MOMENTS, beyond + s * (n_blocks + 1),
                   narrow ? narrow + s * n_blocks * BLOCK : NULL);
    return SAFFU_OK;
}

/* ---- positions with extreme scalars ------------------------------------------------------------------------------ */

/* Position i once more, with no assumption about its scalars: s->z becomes z + g less its maximum, in bits, for all
 * words; returns log Z of what is left, nats. z was zero, and is cleared by the caller. */
SAFFU_RARE static double normalise_anew(const Job *job, int64_t i, Scratch *s) {
    const double *g = prior_of(job->pool, job->batch->states[i]).g;
    double *z = s->z, high = -(double)INFINITY, sum = 0.0;
    int64_t n = job->pool->vocab_size;
    add_rows(job, i, s);
    for (int64_t w = 0; w < n; w++) {
        z[w] += g[w];
        high = z[w] > high ? z[w] : high;
    }
    for (int64_t w = 0; w < n; w++) {
        z[w] -= high;
        sum += vexp2_bounded(z[w]);
    }
    return vlog(sum);
}

/* ---- log-probabilities ------------------------------------------------------------------------------------------- */

SAFFU_RARE static double score_anew(const Job *job, int64_t i, int32_t target, Scratch *s) {
    double log_sum = normalise_anew(job, i, s), log_prob = LN_2 * s->z[target] - log_sum;
    clear_words(job, s);
    return log_prob;
}

/* Rows lie anywhere in memory: where those of position i are, and then the first lines of them, are fetched while earlier
 * positions are scored. What follows comes by itself. */
SAFFU_INLINE void fetch_offsets(const Job *job, int64_t i) {
    const saffu_pool *pool = job->pool;
    for (int64_t k = 0; k < pool->n_contexts; k++) {
        int64_t c = saffu_max(job->batch->rows[i * pool->n_contexts + k], 0);
        SAFFU_PREFETCH(pool->head_ptr + c);
        SAFFU_PREFETCH(pool->tail_ptr + c);
    }
}

SAFFU_INLINE void fetch_lines(const void *start, int64_t n_bytes) {
    for (int64_t at = 0; at < saffu_min(n_bytes, FETCHED * LINE); at += LINE) SAFFU_PREFETCH((const char *)start + at);
}

SAFFU_INLINE void fetch_rows(const Job *job, int64_t i) {
    const saffu_pool *pool = job->pool;
    int size = (int)pool->row_size;
    for (int64_t k = 0; k < pool->n_contexts; k++) {
        int64_t c = job->batch->rows[i * pool->n_contexts + k];
        if (c < 0) continue;
        int64_t head = pool->head_ptr[c], tail = pool->tail_ptr[c], n_tail = pool->tail_ptr[c + 1] - tail;
        fetch_lines(pool->tail_word + tail, n_tail * (int64_t)sizeof *pool->tail_word);
        fetch_lines(real_from(pool->tail_u, size, tail), n_tail * size);
        fetch_lines(real_from(pool->head, size, head), (pool->head_ptr[c + 1] - head) * size);
    }
}

#define REAL float
#define EXP2 vexp2f_bounded
#define NAME(name) name##_f32
#include "pool_score_real.h"
#undef REAL
#undef EXP2
#undef NAME

#define REAL double
#define EXP2 vexp2_bounded
#define NAME(name) name##_f64
#include "pool_score_real.h"
#undef REAL
#undef EXP2
#undef NAME

int saffu_pool_log_prob(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, int n_threads) {
    return run(pool, batch, pool->row_size == 4 ? score_chunk_f32 : score_chunk_f64, log_prob, n_threads);
}

/* ---- whole distributions ----------------------------------------------------------------------------------------- */

SAFFU_RARE static void distribution_anew(const Job *job, int64_t i, Scratch *s, double *p) {
    clear_words(job, s);
    double log_sum = normalise_anew(job, i, s);
    for (int64_t w = 0; w < job->pool->vocab_size; w++) p[w] = vexp(LN_2 * s->z[w] - log_sum);
}

SAFFU_SIMD static void distribution_chunk(const Job *job, int64_t from, int64_t to, Scratch *s, void *out) {
    int64_t n = job->n_blocks * BLOCK, n_words = job->pool->vocab_size;
    for (int64_t i = from; i < to; i++) {
        Prior prior = prior_of(job->pool, job->batch->states[i]);
        double *restrict z = s->z, total = 0.0, *p = (double *)out + i * n_words;
        add_rows(job, i, s);
        for (int64_t w = 0; w < n; w++) z[w] = vexp2_bounded(z[w] + prior.g[w]);
        for (int64_t w = 0; w < n; w++) total += z[w];
        if (is_safe(total, 0.0))
            for (int64_t w = 0; w < n_words; w++) p[w] = z[w] / total;
        else
            distribution_anew(job, i, s, p);
        clear_words(job, s);
    }
}

int saffu_pool_distribution(const saffu_pool *pool, const saffu_batch *batch, double *distribution, int n_threads) {
    return run(pool, batch, distribution_chunk, distribution, n_threads);
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

#define REAL float
#define NAME(name) name##_f32
#include "pool_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "pool_real.h"
#undef REAL
#undef NAME

int saffu_pool_logits(const saffu_pool *pool, const saffu_batch *batch, int size, void *logits, int n_threads) {
    return run(pool, batch, size == 4 ? logits_chunk_f32 : logits_chunk_f64, logits, n_threads);
}

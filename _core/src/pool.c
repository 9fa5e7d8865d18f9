/* The pooled sparse softmax: many sparse rows, one scalar each, an exact normaliser over seen words only.
 *
 *     z(w) = alpha_s log p(w) + beta_s log p_cont(w) + sum_k lambda_sk x_k(w),      y_hat = softmax(z)
 *
 * Features x_k: one explicit row u(c_k, .) for each context of the position, then the document windows, then the
 * induction window. All are zero outside the words they have seen, so with g = alpha_s log p + beta_s log p_cont and
 * x = sum_k lambda_sk x_k, and n words in the longest dense beginning of the position (pack.c),
 *
 *     Z = sum_{w < n} e^g(w) e^x(w) + sum_{w >= n} e^g(w) + sum over seen words w >= n of e^g(w) (e^x(w) - 1).
 *
 * Decisions. The masses e^g of a state, and their sums from each block of BLOCK words on, are made once. The (word,
 * value) pairs of all rows are scattered first; then one pass over the dense beginnings adds up to six of them, takes
 * the exponential and sums in registers: for each word 4 or 8 bytes of each row and of the mass, and 12 operations and
 * one for each row, a vector of 64 bytes at a time. Last come the words of the pairs beyond, gathered and then
 * exponentiated; one that comes again has been cleared, and e^0 - 1 is 0, so that no list of distinct words is needed.
 * A pair costs about 11 operations on single numbers in all. Rows of float are added up and exponentiated in float,
 * sums of exponentials kept in double; the target's own logit is summed in double.
 *
 * Logits are kept in bits, so that an exponential needs no change of base. They are exponentiated as they are while Z
 * is of ordinary size and no small remainder of the mass of the prior; a position with extreme scalars, whose
 * exponentials overflow, vanish or cancel, is computed anew over all words in double, its logits shifted by their
 * maximum. Positions are processed in chunks on a grid set by their number; a chunk owns its results and begins its
 * windows afresh, so that no bit depends on the number of threads.
 */
#include <math.h>
#include <string.h>

#include "pool.h"

enum { SHORTEST_CHUNK = 64, LONGEST_CHUNK = 512, TILE = 64 * BLOCK, PRIOR_PART = 64 * BLOCK };
enum { HEAD_TILE = 128 * BLOCK, FUSED = 6, GATHERED = 256 }; /* words and dense beginnings of a pass; words gathered */
enum { LINE = 64, FETCHED = 4 };                             /* bytes of a line of cache; lines fetched of each row */

/* Bits below which a prior leaves too little to the exponentials of rows: those are clamped at 2^126 (2^1022), and with
 * a mass not below these a clamped one shows, as Z is then above what is_accurate lets pass. */
#define LEAST_FLOAT (-60.0)
#define LEAST_DOUBLE (-500.0)
#define MOST_SCALAR 0x1p64 /* products with weights stay finite in float, too */

/* Chunks long enough to begin windows seldom, and short enough to keep a team busy; no matter how large a team. */
int64_t saffu_pool_chunk(int64_t n) { return saffu_max(SHORTEST_CHUNK, saffu_min(LONGEST_CHUNK, n / 16)); }

/* ---- the prior of each state ------------------------------------------------------------------------------------- */

/* Moments of words from `first` on, whose masses are p, by block. */
SAFFU_INLINE void fill_moments(const double *restrict p, const double *restrict x0, const double *restrict x1,
                               int64_t n, double *restrict moments) {
    for (int64_t w = 0; w < n; w += BLOCK, moments += N_MOMENTS) {
        Doubles m[N_MOMENTS];
        for (int j = 0; j < N_MOMENTS; j++) m[j] = doubles_zero();
        add_moments_of(doubles_load(p + w), doubles_load(x0 + w), doubles_load(x1 + w), m);
        add_moments_of(doubles_load(p + w + N_DOUBLES), doubles_load(x0 + w + N_DOUBLES),
                       doubles_load(x1 + w + N_DOUBLES), m);
        for (int j = 0; j < N_MOMENTS; j++) moments[j] = doubles_sum(m[j]);
    }
}

/* Words [first, first + n) of a state, n at most PRIOR_PART: their logits, masses, and the moments of their blocks. */
SAFFU_SIMD static void fill_prior(const saffu_pool *pool, int64_t state, int64_t first, int64_t n, double *restrict g,
                                  double *moments, void *mass) {
    const double *restrict x0 = pool->log_prior + first, *restrict x1 = x0 + blocks_of(pool) * BLOCK;
    double alpha = theta_of(pool, state)[0], beta = theta_of(pool, state)[1], p[PRIOR_PART];
    for (int64_t w = 0; w < n; w++) g[w] = LOG2_E * (alpha * x0[w] + beta * x1[w]);
    for (int64_t w = saffu_max(pool->vocab_size - first, 0); w < n; w++) g[w] = -(double)INFINITY;
    for (int64_t w = 0; w < n; w++) p[w] = vexp2_bounded(g[w]);
    fill_moments(p, x0, x1, n, moments);
    if (pool->row_size == 4)
        for (int64_t w = 0; w < n; w++) ((float *)mass)[w] = (float)p[w];
    else
        memcpy(mass, p, (size_t)n * sizeof *p);
}

/* The sums over all blocks behind those of each, and the mass of each block and all behind it: not a number, so that
 * every position is computed anew, where a word's own is too small for the type of the rows or a scalar too large. */
SAFFU_SIMD static void sum_prior(const saffu_pool *pool, const double *theta, const double *restrict g, double *moments,
                                 double *beyond) {
    int64_t n_blocks = blocks_of(pool);
    double *total = moments + n_blocks * N_MOMENTS, least = pool->row_size == 4 ? LEAST_FLOAT : LEAST_DOUBLE;
    int extreme = 0;
    for (int64_t w = 0; w < pool->vocab_size; w++) extreme |= !(g[w] >= least);
    for (int64_t j = 0; j < pool->n_features + 2; j++) extreme |= !(fabs(theta[j]) <= MOST_SCALAR);
    memset(total, 0, N_MOMENTS * sizeof *total);
    for (int64_t b = 0; b < n_blocks; b++)
        for (int m = 0; m < N_MOMENTS; m++) total[m] += moments[b * N_MOMENTS + m];
    beyond[n_blocks] = extreme ? (double)NAN : 0.0;
    for (int64_t b = n_blocks - 1; b >= 0; b--) beyond[b] = beyond[b + 1] + moments[b * N_MOMENTS];
}

int saffu_pool_prior(const saffu_pool *pool, double *prior, double *moments, double *beyond, void *mass,
                     int n_threads) {
    int64_t n_blocks = blocks_of(pool), n = n_blocks * BLOCK, n_parts = (n + PRIOR_PART - 1) / PRIOR_PART;
    int team = saffu_team(n_threads, pool->n_states * n * 8);
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t j = 0; j < pool->n_states * n_parts; j++) {
        int64_t s = j / n_parts, first = j % n_parts * PRIOR_PART, place = s * n + first;
        fill_prior(pool, s, first, saffu_min(n - first, PRIOR_PART), prior + place,
                   moments + (s * (n_blocks + 1) + first / BLOCK) * N_MOMENTS, (char *)mass + place * pool->row_size);
    }
    SAFFU_PARALLEL_FOR(team, schedule(static))
    for (int64_t s = 0; s < pool->n_states; s++)
        sum_prior(pool, theta_of(pool, s), prior + s * n, moments + s * (n_blocks + 1) * N_MOMENTS,
                  beyond + s * (n_blocks + 1));
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

/* Rows lie anywhere in memory: where those of position i are, and then the first lines of them, are fetched while
 * earlier positions are scored. What follows comes by itself. */
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
        double *restrict z = s->z, *restrict p = (double *)out + i * n_words;
        Doubles low = doubles_zero(), high = doubles_zero();
        add_rows(job, i, s);
        for (int64_t w = 0; w < n; w++) z[w] = vexp2_bounded(z[w] + prior.g[w]);
        for (int64_t w = 0; w < n; w += BLOCK) {
            low = doubles_add(low, doubles_load(z + w));
            high = doubles_add(high, doubles_load(z + w + N_DOUBLES));
        }
        double total = doubles_sum(doubles_add(low, high)), share = 1.0 / total;
        if (is_safe(total, 0.0))
            for (int64_t w = 0; w < n_words; w++) p[w] = z[w] * share;
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

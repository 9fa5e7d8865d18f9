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
 * Decisions. A row stores its dense beginning as a vector (frequent words have small ids, so long rows are nearly full
 * there: one fused multiply-add per word, no index) and the rest as (word, value) pairs. Scattering is branch-free: a
 * flag per block replaces a list of touched words. Logits are kept in bits, so that an exponential needs no change of
 * base. They are exponentiated as they are while Z is of ordinary size and no small remainder of Z_g; a position with
 * extreme scalars, whose exponentials overflow, vanish or cancel, is computed anew over all words, its logits shifted
 * by their maximum. Positions are processed in chunks on a grid set by their number; a chunk owns its results and begins its
 * windows afresh, so that no bit depends on the number of threads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "saffu.h"
#include "vmath.h"
#include "windows.h"

#define LOG2_E 1.4426950408889634 /* bits in a nat */
#define LN_2 0.6931471805599453

enum { BLOCK = SAFFU_BLOCK, SHORTEST_CHUNK = 64, LONGEST_CHUNK = 512, TILE = 64 * BLOCK };

/* Chunks long enough to begin windows seldom, and short enough to keep a team busy; no matter how large a team. */
SAFFU_INLINE int64_t chunk_length(int64_t n) {
    return saffu_max(SHORTEST_CHUNK, saffu_min(LONGEST_CHUNK, n / 16));
}

int64_t saffu_pool_chunk(int64_t n) { return chunk_length(n); }

/* (alpha, beta, lambda ...) of a state */
SAFFU_INLINE const double *theta_of(const saffu_pool *pool, int64_t state) {
    return pool->theta + state * (pool->n_features + 2);
}

/* ---- packing rows ------------------------------------------------------------------------------------------------ */

enum { ROWS_AT_ONCE = 256, SCAN = 1024 };

/* How many entries of words [from, to) are not above the one before? */
SAFFU_INLINE int64_t count_descents(const int32_t *words, int64_t from, int64_t to) {
    int64_t n = 0;
    for (int64_t i = from; i < to; i += SCAN) {
        int32_t some = 0; /* few enough for narrow lanes */
        for (int64_t j = i; j < saffu_min(to, i + SCAN); j++) some += words[j] <= words[j - 1];
        n += some;
    }
    return n;
}

/* Do the words of rows [from, to) ascend, from 0 to at most what places of 32 bits can pad to a block? Then all descents
 * are at the beginnings of rows: many short rows are looked at as one long one. */
SAFFU_SIMD static int rows_ascend(const int64_t *indptr, const int32_t *words, int64_t from, int64_t to) {
    int64_t first = indptr[from], n_descents = count_descents(words, first + 1, indptr[to]);
    int bad = 0;
    for (int64_t c = from; c < to; c++) {
        int64_t begin = indptr[c], end = indptr[c + 1];
        if (begin == end) continue;
        n_descents -= begin > first && words[begin] <= words[begin - 1];
        bad |= (words[begin] < 0) | (words[end - 1] > INT32_MAX - BLOCK);
    }
    return !bad && n_descents == 0;
}

/* Length of the dense beginning of a row, the largest multiple of BLOCK of which at least half is seen; *inside words lie
 * in it. A word that has a place there is below twice the number of words up to it. */
SAFFU_INLINE int64_t head_length(const int32_t *words, int64_t n, int64_t *inside) {
    int64_t best = 0; /* words that lie within the longest beginning so far */
    for (int64_t i = 0; i < n && words[i] < 2 * n; i++)
        best = 2 * (i + 1) >= ((int64_t)words[i] / BLOCK + 1) * BLOCK ? i + 1 : best;
    *inside = best;
    return best ? ((int64_t)words[best - 1] / BLOCK + 1) * BLOCK : 0;
}

int saffu_pack_sizes(const int64_t *indptr, const int32_t *words, int64_t n_rows, int64_t *head_ptr, int64_t *tail_ptr,
                     int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows] - indptr[0]), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += ROWS_AT_ONCE) {
        int64_t to = saffu_min(n_rows, from + ROWS_AT_ONCE), inside;
        bad |= !rows_ascend(indptr, words, from, to);
        for (int64_t c = from; c < to; c++) {
            int64_t n = indptr[c + 1] - indptr[c];
            head_ptr[c + 1] = head_length(words + indptr[c], n, &inside);
            tail_ptr[c + 1] = n - inside;
        }
    }
    if (bad) return SAFFU_OUT_OF_RANGE;
    for (int64_t c = 0; c < n_rows; c++) { /* on from the ends of the rows before */
        head_ptr[c + 1] += head_ptr[c];
        tail_ptr[c + 1] += tail_ptr[c];
    }
    return SAFFU_OK;
}

int saffu_pack(const int64_t *indptr, const int32_t *words, const double *u, const int64_t *head_ptr,
               const int64_t *tail_ptr, int64_t n_rows, double *head, int32_t *tail_word, double *tail_u,
               int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows] - indptr[0]);
    SAFFU_PARALLEL_FOR(team, schedule(static, 256))
    for (int64_t c = 0; c < n_rows; c++) {
        int64_t n_tail = tail_ptr[c + 1] - tail_ptr[c], first_tail = indptr[c + 1] - n_tail;
        double *restrict dense = head + head_ptr[c];
        memset(dense, 0, (size_t)(head_ptr[c + 1] - head_ptr[c]) * sizeof *dense);
        for (int64_t i = indptr[c]; i < first_tail; i++) dense[words[i]] = u[i];
        memcpy(tail_word + tail_ptr[c], words + first_tail, (size_t)n_tail * sizeof *words);
        memcpy(tail_u + tail_ptr[c], u + first_tail, (size_t)n_tail * sizeof *u);
    }
    return SAFFU_OK;
}

/* ---- the prior --------------------------------------------------------------------------------------------------- */

/* Moments of the dense features under exp g: 1, x_0, x_1, x_0^2, x_0 x_1, x_1^2. */
enum { N_MOMENTS = SAFFU_MOMENTS };

typedef struct {
    const double *g;       /* (n_blocks * BLOCK) logits of the prior in bits, -inf beyond the vocabulary */
    const double *moments; /* (n_blocks, N_MOMENTS) */
    const double *total;   /* (N_MOMENTS) */
} Prior;

SAFFU_INLINE int64_t blocks_of(const saffu_pool *pool) { return (pool->vocab_size + BLOCK - 1) / BLOCK; }

/* The prior of a state; the sums over all blocks follow those of each. */
SAFFU_INLINE Prior prior_of(const saffu_pool *pool, int64_t state) {
    int64_t n_blocks = blocks_of(pool);
    const double *moments = pool->prior_moments + state * (n_blocks + 1) * N_MOMENTS;
    return (Prior){pool->prior + state * n_blocks * BLOCK, moments, moments + n_blocks * N_MOMENTS};
}

SAFFU_INLINE void add_moments(double *restrict m, double mass, double x0, double x1) {
    m[0] += mass;
    m[1] += mass * x0;
    m[2] += mass * x1;
    m[3] += mass * x0 * x0;
    m[4] += mass * x0 * x1;
    m[5] += mass * x1 * x1;
}

SAFFU_SIMD static void fill_prior(const saffu_pool *pool, double alpha, double beta, double *g, double *moments) {
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
}

int saffu_pool_prior(const saffu_pool *pool, double *prior, double *moments) {
    int64_t n_blocks = blocks_of(pool);
    for (int64_t s = 0; s < pool->n_states; s++)
        fill_prior(pool, theta_of(pool, s)[0], theta_of(pool, s)[1], prior + s * n_blocks * BLOCK,
                   moments + s * (n_blocks + 1) * N_MOMENTS);
    return SAFFU_OK;
}

/* ---- the features of one position -------------------------------------------------------------------------------- */

/* One feature x_k: a dense beginning and (word, value) pairs; an absent one is empty. */
typedef struct {
    const double *head, *u;
    const int32_t *word;
    int64_t n_head, n_tail;
} Row;

typedef struct {
    double *z;      /* (n_blocks * BLOCK) zero between positions */
    double *y;      /* (n_blocks * BLOCK) zero between uses; derivatives only */
    uint8_t *flag;  /* (n_blocks) zero between positions */
    int32_t *block; /* (n_blocks) touched blocks of this position */
    Row *row;       /* (n_features) */
    int32_t *order; /* (n_features) */
    Windows windows;
} Scratch;

SAFFU_INLINE int worse(int a, int b) { return a < b ? a : b; }

/* What the positions of a batch share. */
typedef struct {
    const saffu_pool *pool;
    const saffu_batch *batch;
    const int32_t *previous; /* (n_ids) */
    int32_t *own_previous;   /* the same if found here */
    int64_t n_blocks, chunk, n_chunks;
} Job;

static void free_job(Job *job) { free(job->own_previous); }

static int new_job(const saffu_pool *pool, const saffu_batch *batch, int64_t chunk, Job *job) {
    int32_t *own = batch->previous ? NULL : new_previous(pool, batch);
    *job = (Job){pool, batch, batch->previous ? batch->previous : own, own, blocks_of(pool), chunk,
                 (batch->n + chunk - 1) / chunk};
    return job->previous ? SAFFU_OK : SAFFU_NO_MEMORY;
}

static void free_scratch(Scratch *s) {
    free(s->z);
    free(s->y);
    free(s->flag);
    free(s->block);
    free(s->row);
    free(s->order);
    free_windows(&s->windows);
}

static int new_scratch(const Job *job, Scratch *s) {
    size_t n_blocks = (size_t)job->n_blocks, n_features = (size_t)job->pool->n_features;
    memset(s, 0, sizeof *s);
    s->z = calloc(n_blocks * BLOCK + 1, sizeof(double));
    s->y = calloc(n_blocks * BLOCK + 1, sizeof(double));
    s->flag = calloc(n_blocks + 1, 1);
    s->block = malloc((n_blocks + 1) * sizeof(int32_t));
    s->row = malloc(n_features * sizeof(Row));
    s->order = malloc(n_features * sizeof(int32_t));
    if (!s->z || !s->y || !s->flag || !s->block || !s->row || !s->order) return SAFFU_NO_MEMORY;
    return new_windows(job->pool, &s->windows);
}

/* Point s->row at the contexts, document windows and induction window of position i. */
static void gather_rows(const Job *job, int64_t i, Scratch *s) {
    const saffu_pool *pool = job->pool;
    const saffu_batch *batch = job->batch;
    int64_t n_contexts = pool->n_contexts, n_windows = pool->n_windows;
    Windows *v = &s->windows;
    for (int64_t f = 0; f < n_contexts; f++) {
        int64_t c = batch->rows[i * n_contexts + f];
        if (c < 0) {
            s->row[f] = (Row){NULL, NULL, NULL, 0, 0};
            continue;
        }
        int64_t head = pool->head_ptr[c], tail = pool->tail_ptr[c];
        s->row[f] = (Row){pool->head + head, pool->tail_u + tail, pool->tail_word + tail, pool->head_ptr[c + 1] - head,
                          pool->tail_ptr[c + 1] - tail};
    }
    windows_move(pool, batch, v, batch->positions[i], batch->begins[i]);
    windows_follow(pool, batch, job->previous, v, batch->positions[i], batch->begins[i]);
    for (int64_t l = 0; l < n_windows; l++)
        s->row[n_contexts + l] = (Row){NULL, v->u + l * v->capacity, v->word, 0, v->n_words};
    s->row[n_contexts + n_windows] = (Row){NULL, v->follow_u, v->follow_word, 0, v->n_follow};
}

/* z += lambda head over the dense beginnings, two rows a pass; in bits. */
SAFFU_INLINE void add_heads(const Row *row, const double *lambda, int64_t n_rows, double *restrict z,
                            uint8_t *restrict flag) {
    int64_t longest = 0;
    for (int64_t k = 0; k < n_rows; k++) longest = saffu_max(longest, row[k].n_head);
    for (int64_t k = 0; k < n_rows; k++) {
        const double *restrict head = row[k].head;
        double scale = LOG2_E * lambda[k];
        if (k + 1 < n_rows && row[k].n_head && row[k + 1].n_head) {
            int64_t shared = saffu_min(row[k].n_head, row[k + 1].n_head);
            const double *restrict next = row[k + 1].head;
            double next_scale = LOG2_E * lambda[k + 1];
            for (int64_t w = 0; w < shared; w++) z[w] += scale * head[w] + next_scale * next[w];
            for (int64_t w = shared; w < row[k].n_head; w++) z[w] += scale * head[w];
            for (int64_t w = shared; w < row[k + 1].n_head; w++) z[w] += next_scale * next[w];
            k++;
        } else {
            for (int64_t w = 0; w < row[k].n_head; w++) z[w] += scale * head[w];
        }
    }
    memset(flag, 1, (size_t)(longest / BLOCK));
}

/* z += lambda x over the (word, value) pairs, in bits, flagging the touched blocks */
SAFFU_INLINE void add_tail(Row x, double lambda, double *restrict z, uint8_t *restrict flag) {
    double scale = LOG2_E * lambda;
    const double *restrict u = x.u;
    const int32_t *restrict word = x.word;
    for (int64_t i = 0; i < x.n_tail; i++) {
        z[word[i]] += scale * u[i];
        flag[(uint32_t)word[i] / BLOCK] = 1;
    }
}

/* List and clear the flagged blocks. */
SAFFU_INLINE int64_t collect(uint8_t *restrict flag, int64_t n_blocks, int32_t *restrict block) {
    int64_t n = 0;
    for (int64_t b = 0; b < n_blocks; b++) {
        block[n] = (int32_t)b;
        n += flag[b];
        flag[b] = 0;
    }
    return n;
}

/* The document windows share their words: one row of sum_l lambda_l u_l. */
SAFFU_INLINE Row all_windows(Windows *v, const double *lambda, int64_t n_windows) {
    double *restrict sum = v->u + n_windows * v->capacity;
    for (int64_t i = 0; i < v->n_words; i++) sum[i] = lambda[0] * v->u[i];
    for (int64_t l = 1; l < n_windows; l++) {
        const double *restrict u = v->u + l * v->capacity;
        for (int64_t i = 0; i < v->n_words; i++) sum[i] += lambda[l] * u[i];
    }
    return (Row){NULL, sum, v->word, 0, v->n_words};
}

/* Logits less the prior of position i in s->z, in bits; returns the number of touched blocks, listed in s->block. */
SAFFU_INLINE int64_t add_rows(const Job *job, int64_t i, Scratch *s) {
    const double *lambda = theta_of(job->pool, job->batch->states[i]) + 2;
    int64_t n_contexts = job->pool->n_contexts, n_windows = job->pool->n_windows;
    gather_rows(job, i, s);
    add_heads(s->row, lambda, n_contexts, s->z, s->flag);
    for (int64_t k = 0; k < n_contexts; k++) add_tail(s->row[k], lambda[k], s->z, s->flag);
    if (n_windows) add_tail(all_windows(&s->windows, lambda + n_contexts, n_windows), 1.0, s->z, s->flag);
    add_tail(s->row[n_contexts + n_windows], lambda[n_contexts + n_windows], s->z, s->flag);
    return collect(s->flag, job->n_blocks, s->block);
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

/* What becomes of the positions of one chunk; out is the result of all. */
typedef void Work(const Job *job, int64_t from, int64_t to, Scratch *s, void *out);

static int run(const saffu_pool *pool, const saffu_batch *batch, int64_t chunk, Work *work, void *out, int n_threads) {
    Job job;
    int ready = new_job(pool, batch, chunk, &job), status = ready, team = job.n_chunks > 1 ? n_threads : 1;
    SAFFU_PARALLEL(team, reduction(min : status)) {
        Scratch s;
        status = worse(ready, new_scratch(&job, &s));
        SAFFU_OMP(for schedule(dynamic, 1))
        for (int64_t m = 0; m < job.n_chunks; m++) {
            if (status != SAFFU_OK) continue;
            s.windows.begin = -1; /* afresh: the order of its words must not depend on what this thread did before */
            work(&job, m * job.chunk, saffu_min((m + 1) * job.chunk, batch->n), &s, out);
        }
        free_scratch(&s);
    }
    free_job(&job);
    return status;
}

/* ---- normalisers that need care ---------------------------------------------------------------------------------- */

/* May sum be used, which replaced parts of before? Exponents are clamped far outside of these bounds, and a sum below
 * before / 4096 would have lost more than 12 bits to the subtraction. Not if one of them is NaN or infinite. */
SAFFU_INLINE int is_safe(double sum, double before) {
    return sum > 0x1p-500 && sum < 0x1p500 && sum > 0x1p-12 * before;
}

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

SAFFU_INLINE void clear_words(const Job *job, Scratch *s) {
    memset(s->z, 0, (size_t)job->n_blocks * BLOCK * sizeof *s->z);
}

/* ---- log-probabilities ------------------------------------------------------------------------------------------- */

/* sum over touched blocks of (sum 2^(z + g) - sum 2^g), clearing z. */
SAFFU_INLINE double seen_mass(Prior prior, const int32_t *restrict block, int64_t n, double *restrict z) {
    Lanes low = lanes_zero(), high = lanes_zero();
    double before = 0.0;
    for (int64_t j = 0; j < n; j++) {
        double *restrict zb = z + (int64_t)block[j] * BLOCK, p[BLOCK];
        const double *restrict gb = prior.g + (int64_t)block[j] * BLOCK;
        for (int i = 0; i < BLOCK; i++) p[i] = vexp2_bounded(zb[i] + gb[i]);
        low = lanes_add(low, lanes_load(p));
        high = lanes_add(high, lanes_load(p + N_LANES));
        memset(zb, 0, BLOCK * sizeof *zb);
        before += prior.moments[(int64_t)block[j] * N_MOMENTS];
    }
    return lanes_sum(lanes_add(low, high)) - before;
}

SAFFU_RARE static double score_anew(const Job *job, int64_t i, int32_t target, Scratch *s) {
    double log_sum = normalise_anew(job, i, s), log_prob = LN_2 * s->z[target] - log_sum;
    clear_words(job, s);
    return log_prob;
}

SAFFU_SIMD static void score_chunk(const Job *job, int64_t from, int64_t to, Scratch *s, void *out) {
    const saffu_batch *batch = job->batch;
    double *log_prob = out;
    for (int64_t i = from; i < to; i++) {
        Prior prior = prior_of(job->pool, batch->states[i]);
        int64_t n = add_rows(job, i, s);
        int32_t target = batch->ids[batch->positions[i]];
        double z = LN_2 * (s->z[target] + prior.g[target]);
        double sum = prior.total[0] + seen_mass(prior, s->block, n, s->z);
        log_prob[i] = is_safe(sum, prior.total[0]) ? z - vlog(sum) : score_anew(job, i, target, s);
    }
}

int saffu_pool_log_prob(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, int n_threads) {
    return run(pool, batch, batch->chunk, score_chunk, log_prob, n_threads);
}

/* ---- whole distributions ----------------------------------------------------------------------------------------- */

SAFFU_RARE static void distribution_anew(const Job *job, int64_t i, Scratch *s, double *p) {
    clear_words(job, s);
    double log_sum = normalise_anew(job, i, s);
    for (int64_t w = 0; w < job->pool->vocab_size; w++) p[w] = vexp(LN_2 * s->z[w] - log_sum);
}

/* A chunk is one position. */
SAFFU_SIMD static void distribution_row(const Job *job, int64_t i, int64_t to, Scratch *s, void *out) {
    Prior prior = prior_of(job->pool, job->batch->states[i]);
    int64_t n = job->n_blocks * BLOCK, n_words = job->pool->vocab_size;
    double *restrict z = s->z, total = 0.0, *p = (double *)out + i * n_words;
    (void)to;
    add_rows(job, i, s);
    for (int64_t w = 0; w < n; w++) z[w] = vexp2_bounded(z[w] + prior.g[w]);
    for (int64_t w = 0; w < n; w++) total += z[w];
    if (is_safe(total, 0.0))
        for (int64_t w = 0; w < n_words; w++) p[w] = z[w] / total;
    else
        distribution_anew(job, i, s, p);
    clear_words(job, s);
}

int saffu_pool_distribution(const saffu_pool *pool, const saffu_batch *batch, double *distribution, int n_threads) {
    return run(pool, batch, 1, distribution_row, distribution, n_threads);
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

int saffu_pool_logits(const saffu_pool *pool, const saffu_batch *batch, void *logits, int size, int n_threads) {
    Work *work = size == (int)sizeof(float) ? logits_chunk_f32 : logits_chunk_f64;
    return run(pool, batch, batch->chunk, work, logits, n_threads);
}

/* ---- derivatives of the priming scalars -------------------------------------------------------------------------- */

/* Features of one position under its own distribution; k = 0, 1 are the dense log-priors, then the rows. */
typedef struct {
    double *mean;   /* (n_local) E_p[x_k] */
    double *second; /* (n_local, n_local) E_p[x_k x_l], lower triangle */
    double *target; /* (n_local) x_k(y) */
} Local;

/* sum_w x(w) y(w) */
SAFFU_INLINE double dot_row(Row x, const double *restrict y) {
    const double *restrict head = x.head, *restrict u = x.u;
    const int32_t *restrict word = x.word;
    Lanes low = lanes_zero(), high = lanes_zero();
    double even = 0.0, odd = 0.0;
    int64_t i = 0;
    for (int64_t w = 0; w < x.n_head; w += BLOCK) {
        low = lanes_add(low, lanes_multiply(lanes_load(head + w), lanes_load(y + w)));
        high = lanes_add(high, lanes_multiply(lanes_load(head + w + N_LANES), lanes_load(y + w + N_LANES)));
    }
    for (; i + 1 < x.n_tail; i += 2) {
        even += u[i] * y[word[i]];
        odd += u[i + 1] * y[word[i + 1]];
    }
    if (i < x.n_tail) even += u[i] * y[word[i]];
    return lanes_sum(lanes_add(low, high)) + (even + odd);
}

/* y = x p; undone by clear_row */
SAFFU_INLINE void multiply_row(Row x, const double *restrict p, double *restrict y) {
    for (int64_t w = 0; w < x.n_head; w++) y[w] = x.head[w] * p[w];
    for (int64_t i = 0; i < x.n_tail; i++) y[x.word[i]] = x.u[i] * p[x.word[i]];
}

SAFFU_INLINE void clear_row(Row x, double *restrict y) {
    memset(y, 0, (size_t)x.n_head * sizeof *y);
    for (int64_t i = 0; i < x.n_tail; i++) y[x.word[i]] = 0.0;
}

SAFFU_INLINE int64_t length_of(Row x) { return x.n_head + x.n_tail; }

SAFFU_INLINE double word_of_row(Row x, int32_t target) {
    if (target < x.n_head) return x.head[target];
    double found = 0.0;
    for (int64_t i = 0; i < x.n_tail; i++) found = x.word[i] == target ? x.u[i] : found;
    return found;
}

/* x_k(y) of every feature: contexts as told (a count left out), windows as they are. */
static void gather_targets(const Job *job, int64_t i, const Scratch *s, Local *local) {
    const saffu_pool *pool = job->pool;
    int32_t target = job->batch->ids[job->batch->positions[i]];
    const int32_t *row = job->batch->rows + i * pool->n_contexts;
    const double *target_u = job->batch->target_u + i * pool->n_contexts;
    local->target[0] = pool->log_prior[target];
    local->target[1] = pool->log_prior[job->n_blocks * BLOCK + target];
    for (int64_t k = 0; k < pool->n_contexts; k++) local->target[2 + k] = row[k] >= 0 ? target_u[k] : 0.0;
    for (int64_t k = pool->n_contexts; k < pool->n_features; k++) local->target[2 + k] = word_of_row(s->row[k], target);
}

/* z -> 2^(z + g) on the touched blocks, except the target's own cell, which becomes 0. moments receives those of the
 * dense features over all words but the target: the first is Z less the target's own term. */
SAFFU_INLINE void exponentiate(Prior prior, const double *x0, const double *x1, int64_t n, int32_t target,
                               Scratch *s, double *moments) {
    Lanes sum[N_MOMENTS];
    for (int m = 0; m < N_MOMENTS; m++) sum[m] = lanes_zero();
    memcpy(moments, prior.total, N_MOMENTS * sizeof *moments);
    s->z[target] = -(double)INFINITY;
    for (int64_t j = 0; j < n; j++) {
        int64_t b = s->block[j];
        double *restrict z = s->z + b * BLOCK;
        const double *restrict g = prior.g + b * BLOCK;
        for (int w = 0; w < BLOCK; w++) z[w] = vexp2_bounded(z[w] + g[w]);
        for (int w = 0; w < BLOCK; w += N_LANES) {
            Lanes p = lanes_load(z + w), a = lanes_load(x0 + b * BLOCK + w), c = lanes_load(x1 + b * BLOCK + w);
            Lanes pa = lanes_multiply(p, a), pc = lanes_multiply(p, c);
            sum[0] = lanes_add(sum[0], p);
            sum[1] = lanes_add(sum[1], pa);
            sum[2] = lanes_add(sum[2], pc);
            sum[3] = lanes_add(sum[3], lanes_multiply(pa, a));
            sum[4] = lanes_add(sum[4], lanes_multiply(pa, c));
            sum[5] = lanes_add(sum[5], lanes_multiply(pc, c));
        }
        for (int m = 0; m < N_MOMENTS; m++) moments[m] -= prior.moments[b * N_MOMENTS + m];
    }
    for (int m = 0; m < N_MOMENTS; m++) moments[m] += lanes_sum(sum[m]);
}

/* The same for position i with no assumption about its scalars: every block is touched, all logits and the target's own,
 * bits, are shifted by their maximum, which is returned. */
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

/* sum_w x(w) p(w) {1, x_0(w), x_1(w)} */
SAFFU_INLINE void dot_dense(Row x, const double *p, const double *x0, const double *x1, double *sum) {
    Lanes lane[3] = {lanes_zero(), lanes_zero(), lanes_zero()};
    double tail[3] = {0.0, 0.0, 0.0};
    for (int64_t w = 0; w < x.n_head; w += N_LANES) {
        Lanes y = lanes_multiply(lanes_load(x.head + w), lanes_load(p + w));
        lane[0] = lanes_add(lane[0], y);
        lane[1] = lanes_add(lane[1], lanes_multiply(y, lanes_load(x0 + w)));
        lane[2] = lanes_add(lane[2], lanes_multiply(y, lanes_load(x1 + w)));
    }
    for (int64_t i = 0; i < x.n_tail; i++) {
        double y = x.u[i] * p[x.word[i]];
        tail[0] += y;
        tail[1] += y * x0[x.word[i]];
        tail[2] += y * x1[x.word[i]];
    }
    for (int m = 0; m < 3; m++) sum[m] = lanes_sum(lane[m]) + tail[m];
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
SAFFU_INLINE void sum_moments(const Job *job, const double *dense, int second, Scratch *s, Local *local) {
    int64_t n_local = job->pool->n_features + 2;
    const double *x0 = job->pool->log_prior, *x1 = x0 + job->n_blocks * BLOCK;
    double *restrict mean = local->mean, *restrict pair = local->second, dots[3];
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
SAFFU_INLINE double local_moments(const Job *job, int64_t i, int second, Scratch *s, Local *local) {
    const saffu_batch *batch = job->batch;
    Prior prior = prior_of(job->pool, batch->states[i]);
    const double *theta = theta_of(job->pool, batch->states[i]);
    int32_t target = batch->ids[batch->positions[i]];
    int64_t n_local = job->pool->n_features + 2;
    double dense[N_MOMENTS], z = LN_2 * prior.g[target], high = 0.0;
    s->flag[target / BLOCK] = 1;
    int64_t n = add_rows(job, i, s);
    gather_targets(job, i, s, local);
    for (int64_t k = 2; k < n_local; k++) z += theta[k] * local->target[k];
    exponentiate(prior, job->pool->log_prior, job->pool->log_prior + job->n_blocks * BLOCK, n, target, s, dense);
    double own = vexp2_bounded(LOG2_E * z), total = dense[0] + own;
    if (!is_safe(total, prior.total[0])) {
        high = exponentiate_anew(job, i, target, LOG2_E * z, s, dense);
        n = job->n_blocks;
        own = vexp2_bounded(LOG2_E * z - high);
        total = dense[0] + own;
    }
    sum_moments(job, dense, second, s, local);
    for (int64_t j = 0; j < n; j++) memset(s->z + s->block[j] * BLOCK, 0, BLOCK * sizeof *s->z);
    for (int64_t k = 0; k < n_local; k++) {
        local->mean[k] = (local->mean[k] + own * local->target[k]) / total;
        for (int64_t l = 0; second && l <= k; l++) {
            double *pair = local->second + k * n_local + l;
            *pair = (*pair + own * local->target[k] * local->target[l]) / total;
        }
    }
    return (z - LN_2 * high) - vlog(total);
}

SAFFU_SIMD static void derive_chunk(const Job *job, int64_t from, int64_t to, Scratch *s, Local *local,
                                    double *log_prob, double *gradient, double *hessian) {
    int64_t n_local = job->pool->n_features + 2;
    s->windows.begin = -1;
    for (int64_t i = from; i < to; i++) {
        int64_t state = job->batch->states[i];
        double *first = gradient + state * n_local, *second = hessian ? hessian + state * n_local * n_local : NULL;
        log_prob[i] = local_moments(job, i, hessian != NULL, s, local);
        for (int64_t k = 0; k < n_local; k++) {
            first[k] += local->mean[k] - local->target[k];
            for (int64_t l = 0; hessian && l <= k; l++) {
                double covariance = local->second[k * n_local + l] - local->mean[k] * local->mean[l];
                second[k * n_local + l] += covariance;
                if (k != l) second[l * n_local + k] += covariance;
            }
        }
    }
}

static void free_local(Local *local) {
    free(local->mean);
    free(local->second);
    free(local->target);
}

static int new_local(int64_t n_local, Local *local) {
    local->mean = malloc((size_t)n_local * sizeof(double));
    local->second = malloc((size_t)(n_local * n_local) * sizeof(double));
    local->target = malloc((size_t)n_local * sizeof(double));
    return local->mean && local->second && local->target ? SAFFU_OK : SAFFU_NO_MEMORY;
}

/* total (n) += the rows of parts (n_parts, stride), folded in order. */
static void fold(const double *parts, int64_t n_parts, int64_t stride, int64_t n, double *total) {
    for (int64_t m = 0; m < n_parts; m++)
        for (int64_t j = 0; j < n; j++) total[j] += parts[m * stride + j];
}

int saffu_pool_derivatives(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, double *gradient,
                           double *hessian, int n_threads) {
    Job job;
    int64_t n_local = pool->n_features + 2, n_first = pool->n_states * n_local;
    int64_t n_second = hessian ? n_first * n_local : 0, stride = n_first + n_second;
    int ready = new_job(pool, batch, batch->chunk, &job);
    double *sums = calloc((size_t)(job.n_chunks * stride) + 1, sizeof *sums); /* one row a chunk */
    if (!sums) ready = SAFFU_NO_MEMORY;
    int team = job.n_chunks > 1 ? n_threads : 1, status = ready;
    SAFFU_PARALLEL(team, reduction(min : status)) {
        Scratch s;
        Local local;
        status = worse(ready, worse(new_scratch(&job, &s), new_local(n_local, &local)));
        SAFFU_OMP(for schedule(dynamic, 1))
        for (int64_t m = 0; m < job.n_chunks; m++)
            if (status == SAFFU_OK)
                derive_chunk(&job, m * job.chunk, saffu_min((m + 1) * job.chunk, batch->n), &s, &local, log_prob,
                             sums + m * stride, hessian ? sums + m * stride + n_first : NULL);
        free_scratch(&s);
        free_local(&local);
    }
    if (status == SAFFU_OK) {
        fold(sums, job.n_chunks, stride, n_first, gradient);
        if (hessian) fold(sums + n_first, job.n_chunks, stride, n_second, hessian);
    }
    free_job(&job);
    free(sums);
    return status;
}

/* One position of the pooled softmax: its features, and how positions are shared out. Included by pool.c and
 * pool_derivatives.c.
 */
#ifndef SAFFU_POOL_H
#define SAFFU_POOL_H

#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vmath.h"
#include "windows.h"

enum { BLOCK = SAFFU_BLOCK };

/* (alpha, beta, lambda ...) of a state */
SAFFU_INLINE const double *theta_of(const saffu_pool *pool, int64_t state) {
    return pool->theta + state * (pool->n_features + 2);
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
    double *mean, *target, *second; /* (n_features + 2), and squared; derivatives only */
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

static int new_job(const saffu_pool *pool, const saffu_batch *batch, Job *job) {
    int64_t chunk = batch->chunk;
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
    free(s->mean);
    free(s->target);
    free(s->second);
    free_windows(&s->windows);
}

static int new_scratch(const Job *job, Scratch *s) {
    size_t n_blocks = (size_t)job->n_blocks, n_features = (size_t)job->pool->n_features, n_local = n_features + 2;
    memset(s, 0, sizeof *s);
    s->z = calloc(n_blocks * BLOCK + 1, sizeof(double));
    s->y = calloc(n_blocks * BLOCK + 1, sizeof(double));
    s->flag = calloc(n_blocks + 1, 1);
    s->block = malloc((n_blocks + 1) * sizeof(int32_t));
    s->row = malloc(n_features * sizeof(Row));
    s->order = malloc(n_features * sizeof(int32_t));
    s->mean = malloc(n_local * sizeof(double));
    s->target = malloc(n_local * sizeof(double));
    s->second = malloc(n_local * n_local * sizeof(double)); /* no page of it exists until it is written */
    if (!s->z || !s->y || !s->flag || !s->block || !s->row || !s->order) return SAFFU_NO_MEMORY;
    if (!s->mean || !s->target || !s->second) return SAFFU_NO_MEMORY;
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

/* What becomes of positions [from, to), a chunk; out is the result of all. */
typedef void ChunkTask(const Job *job, int64_t from, int64_t to, Scratch *s, void *out);

static int run(const saffu_pool *pool, const saffu_batch *batch, ChunkTask *task, void *out, int n_threads) {
    Job job;
    int ready = new_job(pool, batch, &job), status = ready, team = job.n_chunks > 1 ? n_threads : 1;
    SAFFU_PARALLEL(team, reduction(min : status)) {
        Scratch s;
        status = worse(ready, new_scratch(&job, &s));
        SAFFU_OMP(for schedule(dynamic, 1))
        for (int64_t m = 0; m < job.n_chunks; m++) {
            if (status != SAFFU_OK) continue;
            s.windows.begin = -1; /* afresh: the order of its words must not depend on what this thread did before */
            task(&job, m * job.chunk, saffu_min((m + 1) * job.chunk, batch->n), &s, out);
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

SAFFU_INLINE void clear_words(const Job *job, Scratch *s) {
    memset(s->z, 0, (size_t)job->n_blocks * BLOCK * sizeof *s->z);
}

#endif

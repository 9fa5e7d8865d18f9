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

enum { BLOCK = SAFFU_BLOCK, FLAGS = 8 }; /* flags that are looked at together */

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

/* The same of eight words, each in a lane. */
SAFFU_INLINE void add_moments_of(Doubles mass, Doubles x0, Doubles x1, Doubles m[N_MOMENTS]) {
    Doubles a = doubles_multiply(mass, x0), c = doubles_multiply(mass, x1);
    m[0] = doubles_add(m[0], mass);
    m[1] = doubles_add(m[1], a);
    m[2] = doubles_add(m[2], c);
    m[3] = doubles_add(m[3], doubles_multiply(a, x0));
    m[4] = doubles_add(m[4], doubles_multiply(a, x1));
    m[5] = doubles_add(m[5], doubles_multiply(c, x1));
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

/* One feature x_k: a dense beginning and (word, value) pairs, numbers of `size` bytes; an absent one is empty. */
typedef struct {
    const void *head, *u;
    const int32_t *word;
    int64_t n_head, n_tail;
    int size;
} Row;

/* A dense beginning and its scalar, bits. */
typedef struct {
    const void *start;
    int64_t length;
    double scale;
} Head;

/* Words of some pairs. */
typedef struct {
    const int32_t *word;
    int64_t n;
} List;

typedef struct {
    double *z;      /* (n_blocks * BLOCK) zero between positions */
    uint8_t *flag;  /* (n_blocks) zero between positions */
    int32_t *block; /* (n_blocks) touched blocks of this position */
    Row *row;       /* (n_features) */
    Head *head;     /* (n_features) */
    List *list;     /* (n_features + 1) */
    void *row_z;    /* (n_blocks * BLOCK) of the type of the rows, zero between positions; log-probabilities only */
    void *row_sum;  /* (capacity of the windows) of that type */
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
    free(s->flag);
    free(s->block);
    free(s->row);
    free(s->head);
    free(s->list);
    free(s->row_z);
    free(s->row_sum);
    free_windows(&s->windows);
}

static int new_scratch(const Job *job, Scratch *s) {
    size_t n_blocks = (size_t)job->n_blocks, n_features = (size_t)job->pool->n_features;
    memset(s, 0, sizeof *s);
    s->z = calloc(n_blocks * BLOCK + 1, sizeof(double));
    s->flag = calloc(n_blocks + FLAGS, 1);
    s->block = malloc((n_blocks + FLAGS) * sizeof(int32_t));
    s->row = malloc(n_features * sizeof(Row));
    s->head = malloc(n_features * sizeof(Head));
    s->list = malloc((n_features + 1) * sizeof(List));
    s->row_z = calloc(n_blocks * BLOCK + 1, (size_t)job->pool->row_size);
    s->row_sum = malloc((size_t)longest_window(job->pool) * sizeof(double) + sizeof(double));
    if (!s->z || !s->flag || !s->block || !s->row || !s->head || !s->list) return SAFFU_NO_MEMORY;
    if (!s->row_z || !s->row_sum) return SAFFU_NO_MEMORY;
    return new_windows(job->pool, &s->windows);
}

/* Bring the windows to position i. */
SAFFU_INLINE void move_windows(const Job *job, int64_t i, Scratch *s) {
    const saffu_batch *batch = job->batch;
    windows_move(job->pool, batch, &s->windows, batch->positions[i], batch->begins[i]);
    windows_follow(job->pool, batch, job->previous, &s->windows, batch->positions[i], batch->begins[i]);
}

/* Point s->row at the contexts, document windows and induction window of position i. */
static void gather_rows(const Job *job, int64_t i, Scratch *s) {
    const saffu_pool *pool = job->pool;
    const saffu_batch *batch = job->batch;
    int64_t n_contexts = pool->n_contexts, n_windows = pool->n_windows;
    int size = (int)pool->row_size;
    Windows *v = &s->windows;
    for (int64_t f = 0; f < n_contexts; f++) {
        int64_t c = batch->rows[i * n_contexts + f];
        if (c < 0) {
            s->row[f] = (Row){NULL, NULL, NULL, 0, 0, size};
            continue;
        }
        int64_t head = pool->head_ptr[c], tail = pool->tail_ptr[c];
        s->row[f] = (Row){real_from(pool->head, size, head), real_from(pool->tail_u, size, tail),
                          pool->tail_word + tail, pool->head_ptr[c + 1] - head, pool->tail_ptr[c + 1] - tail, size};
    }
    move_windows(job, i, s);
    for (int64_t l = 0; l < n_windows; l++)
        s->row[n_contexts + l] = (Row){NULL, v->u + l * v->capacity, v->word, 0, v->n_words, sizeof *v->u};
    s->row[n_contexts + n_windows] =
        (Row){NULL, v->follow_u, v->follow_word, 0, v->n_follow, sizeof *v->follow_u};
}

#define REAL float
#define NAME(name) name##_f32
#include "pool_rows_real.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_f64
#include "pool_rows_real.h"
#undef REAL
#undef NAME

/* List and clear the flagged blocks; of many words most stretches have none. */
SAFFU_INLINE int64_t collect(uint8_t *restrict flag, int64_t n_blocks, int32_t *restrict block) {
    int64_t n = 0;
    for (int64_t from = 0; from < n_blocks; from += FLAGS) {
        uint64_t any;
        memcpy(&any, flag + from, sizeof any);
        if (!any) continue;
        for (int64_t b = from; b < from + FLAGS; b++) {
            block[n] = (int32_t)b;
            n += flag[b];
        }
        memset(flag + from, 0, sizeof any);
    }
    return n;
}

/* The first of ascending words that is not below `least`, or their number. */
SAFFU_INLINE int64_t first_from(List list, int64_t least) {
    int64_t low = 0, high = list.n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (list.word[middle] < least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Put a dense beginning among the others, longest first; returns their number. */
SAFFU_INLINE int64_t insert_head(Head new, Head *head, int64_t n) {
    int64_t j = n;
    for (; j > 0 && head[j - 1].length < new.length; j--) head[j] = head[j - 1];
    head[j] = new;
    return n + 1;
}

/* The document windows share their words: one row of sum_l lambda_l u_l. */
SAFFU_INLINE Row all_windows(Windows *v, const double *lambda, int64_t n_windows) {
    double *restrict sum = v->u + n_windows * v->capacity;
    for (int64_t i = 0; i < v->n_words; i++) sum[i] = lambda[0] * v->u[i];
    for (int64_t l = 1; l < n_windows; l++) {
        const double *restrict u = v->u + l * v->capacity;
        for (int64_t i = 0; i < v->n_words; i++) sum[i] += lambda[l] * u[i];
    }
    return (Row){NULL, sum, v->word, 0, v->n_words, sizeof *sum};
}

/* Logits less the prior of position i in s->z, in bits; returns the number of touched blocks, listed in s->block. */
SAFFU_INLINE int64_t add_rows(const Job *job, int64_t i, Scratch *s) {
    const double *lambda = theta_of(job->pool, job->batch->states[i]) + 2;
    int64_t n_contexts = job->pool->n_contexts, n_windows = job->pool->n_windows;
    gather_rows(job, i, s);
    BY_SIZE(job->pool->row_size, add_heads, s->row, lambda, n_contexts, s->z, s->flag);
    for (int64_t k = 0; k < n_contexts; k++)
        BY_SIZE(job->pool->row_size, add_tail, s->row[k], lambda[k], s->z, s->flag);
    if (n_windows) add_tail_f64(all_windows(&s->windows, lambda + n_contexts, n_windows), 1.0, s->z, s->flag);
    add_tail_f64(s->row[n_contexts + n_windows], lambda[n_contexts + n_windows], s->z, s->flag);
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

/* The words that a position gives a feature beside the dense beginnings of its rows, gathered. Included by
 * pool_derivatives.c alone.
 */
#ifndef SAFFU_POOL_PANEL_H
#define SAFFU_POOL_PANEL_H

#include <stdlib.h>
#include <string.h>

#include "pool.h"

enum {
    TILE = 512,   /* words whose moments are summed in the type of the rows, before they are added up as doubles */
    COLUMNS = 16, /* of a panel are whole vectors */
    N_DENSE = 3   /* features before those of the rows: one, and the log-priors */
};

/* Features of a position: 0 is one, 1 and 2 are the log-priors, then its rows. Every word of a (word, value) pair has a
 * column, and so has the target. Numbers of the panel are of the type of the rows. */
typedef struct {
    void *x;                  /* (n_rows, stride) features of the words that have a column */
    int32_t *word;            /* (n_blocks * BLOCK + COLUMNS) word of each column */
    int32_t *place;           /* (n_blocks * BLOCK) place[w] - first: column of a word, below zero for none */
    int32_t first;            /* raised from position to position, so that nothing has to be cleared */
    int32_t target;           /* word, and its column */
    int64_t target_column;
    int64_t n_rows, stride;   /* N_DENSE + n_features; numbers of a row */
    int64_t capacity;         /* numbers of x */
    int64_t n, n_padded;      /* columns of this position; rounded up to COLUMNS */
    int64_t n_unordered;      /* the first ones; after them the words of each row of a context ascend */
    int64_t *n_entered;       /* (n_features) columns there were when a row had been entered */
    int64_t longest;          /* length of the longest dense beginning */
    const void **tile;        /* (n_rows + 3) where rows are in a tile */
    int32_t *number;          /* (n_rows + 3) which features these are */
    const void *zeros, *ones; /* (TILE) */
    void *constant;           /* both */
    void *theta;              /* (n_rows) scalars, bits */
    double *sums;             /* (n_rows, n_rows) sum_w p(w) x_k(w) x_l(w) for l <= k, p not normalised */
    double *p, *y;            /* (n_blocks * BLOCK) no page of them exists until it is written */
    double *mean, *of_target; /* (n_rows) of the log-priors and rows */
} Panel;

static void free_panel(Panel *panel) {
    free(panel->x);
    free(panel->word);
    free(panel->place);
    free(panel->n_entered);
    free(panel->tile);
    free(panel->number);
    free(panel->constant);
    free(panel->theta);
    free(panel->sums);
    free(panel->p);
    free(panel->y);
    free(panel->mean);
    free(panel->of_target);
}

/* No word has a column; those that fill the last block are never without. */
static void clear_places(const Job *job, Panel *panel) {
    int64_t n_words = job->n_blocks * BLOCK;
    memset(panel->place, -1, (size_t)n_words * sizeof *panel->place);
    for (int64_t w = job->pool->vocab_size; w < n_words; w++) panel->place[w] = INT32_MAX;
    panel->first = 0;
}

static int new_panel(const Job *job, Panel *panel) {
    size_t n_words = (size_t)job->n_blocks * BLOCK, n_rows = (size_t)job->pool->n_features + N_DENSE;
    int size = (int)job->pool->row_size;
    memset(panel, 0, sizeof *panel);
    panel->n_rows = (int64_t)n_rows;
    panel->word = malloc((n_words + COLUMNS) * sizeof(int32_t));
    panel->place = malloc(n_words * sizeof(int32_t));
    panel->n_entered = malloc(n_rows * sizeof(int64_t));
    panel->tile = malloc((n_rows + 3) * sizeof(void *));
    panel->number = malloc((n_rows + 3) * sizeof(int32_t));
    panel->constant = calloc(2 * TILE, (size_t)size);
    panel->theta = malloc(n_rows * (size_t)size);
    panel->sums = malloc(n_rows * n_rows * sizeof(double));
    panel->p = malloc(n_words * sizeof(double));
    panel->y = malloc(n_words * sizeof(double));
    panel->mean = malloc(n_rows * sizeof(double));
    panel->of_target = malloc(n_rows * sizeof(double));
    if (!panel->word || !panel->place || !panel->n_entered || !panel->tile || !panel->number || !panel->constant)
        return SAFFU_NO_MEMORY;
    if (!panel->theta || !panel->sums || !panel->p || !panel->y || !panel->mean || !panel->of_target)
        return SAFFU_NO_MEMORY;
    clear_places(job, panel);
    for (int64_t w = TILE; w < 2 * TILE; w++) {
        if (size == 4)
            ((float *)panel->constant)[w] = 1.0f;
        else
            ((double *)panel->constant)[w] = 1.0;
    }
    panel->zeros = panel->constant;
    panel->ones = real_from(panel->constant, size, TILE);
    return SAFFU_OK;
}

/* Make the panel wide enough for the pairs of this position, and its target. */
static int fit_panel(const Job *job, const Scratch *s, Panel *panel) {
    int64_t n_pairs = 1;
    panel->longest = 0;
    for (int64_t k = 0; k < job->pool->n_features; k++) {
        n_pairs += s->row[k].n_tail;
        panel->longest = saffu_max(panel->longest, s->row[k].n_head);
    }
    int64_t most = saffu_min(n_pairs, job->pool->vocab_size);
    panel->stride = (most / COLUMNS + 2) * COLUMNS;
    if (panel->first > INT32_MAX - panel->stride) clear_places(job, panel);
    if (panel->stride * panel->n_rows <= panel->capacity) return SAFFU_OK;
    free(panel->x);
    panel->capacity = 2 * panel->stride * panel->n_rows;
    panel->x = malloc((size_t)(panel->capacity * job->pool->row_size));
    if (!panel->x) panel->capacity = 0;
    return panel->x ? SAFFU_OK : SAFFU_NO_MEMORY;
}

SAFFU_INLINE int is_empty(Row x) { return x.n_head + x.n_tail == 0; }

#endif

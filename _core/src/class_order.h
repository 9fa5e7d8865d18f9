/* The numbers of labelled examples sorted by class, chunk by chunk: a counting sort. */
#ifndef SAFFU_CLASS_ORDER_H
#define SAFFU_CLASS_ORDER_H

#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "saffu.h"

/* start (n_classes + 1): the examples of class c in [from, to) become order[start[c] .. start[c + 1]), ascending. */
static int sort_by_class(const int32_t *labels, int64_t from, int64_t to, int64_t n_classes, int64_t *start,
                         int32_t *order) {
    memset(start, 0, (size_t)(n_classes + 1) * sizeof *start);
    for (int64_t m = from; m < to; m++) {
        if (labels[m] < 0 || labels[m] >= n_classes) return SAFFU_OUT_OF_RANGE;
        start[labels[m] + 1]++;
    }
    start[0] = from;
    for (int64_t c = 0; c < n_classes; c++) start[c + 1] += start[c];
    for (int64_t m = from; m < to; m++) order[start[labels[m]]++] = (int32_t)m;
    for (int64_t c = n_classes; c > 0; c--) start[c] = start[c - 1]; /* a cursor stopped where the next class begins */
    start[0] = from;
    return SAFFU_OK;
}

typedef struct {
    int64_t n, chunk, n_chunks, n_classes; /* n examples in chunks of `chunk` */
    int64_t *start;                        /* (n_chunks, n_classes + 1) */
    int32_t *order;                        /* (n) sorted by chunk, then class, then number */
} Order;

static void free_order(Order *o) {
    free(o->start);
    free(o->order);
}

/* The same for all n examples, cut into parts that have histograms of their own, cursors (n_parts, n_classes). */
static int sort_in_parts(const int32_t *labels, int64_t n, int64_t n_classes, int64_t *start, int32_t *order,
                         int64_t n_parts, int64_t *cursors) {
    int bad = 0;
    int64_t place = 0;
    SAFFU_PARALLEL_FOR((int)n_parts, schedule(static, 1) reduction(| : bad))
    for (int64_t part = 0; part < n_parts; part++) {
        int64_t *cursor = cursors + part * n_classes;
        memset(cursor, 0, (size_t)n_classes * sizeof *cursor);
        for (int64_t m = n * part / n_parts; m < n * (part + 1) / n_parts; m++) {
            if (labels[m] < 0 || labels[m] >= n_classes) bad |= 1;
            else cursor[labels[m]]++;
        }
    }
    if (bad) return SAFFU_OUT_OF_RANGE;
    for (int64_t c = 0; c < n_classes; c++) {
        start[c] = place;
        for (int64_t part = 0; part < n_parts; part++) {
            int64_t count = cursors[part * n_classes + c];
            cursors[part * n_classes + c] = place;
            place += count;
        }
    }
    start[n_classes] = place;
    SAFFU_PARALLEL_FOR((int)n_parts, schedule(static, 1))
    for (int64_t part = 0; part < n_parts; part++) {
        int64_t *cursor = cursors + part * n_classes;
        for (int64_t m = n * part / n_parts; m < n * (part + 1) / n_parts; m++) order[cursor[labels[m]]++] = (int32_t)m;
    }
    return SAFFU_OK;
}

/* Chunks side by side, or one in parts while their histograms are far shorter than it. */
static int sort_chunks(const int32_t *labels, Order *o, int team) {
    int64_t n_parts = saffu_min(team, o->n / (8 * (o->n_classes + 1)));
    int status = SAFFU_OK;
    if (o->n_chunks == 1 && n_parts > 1) {
        int64_t *cursors = malloc((size_t)(n_parts * o->n_classes) * sizeof *cursors);
        if (!cursors) return SAFFU_NO_MEMORY;
        status = sort_in_parts(labels, o->n, o->n_classes, o->start, o->order, n_parts, cursors);
        free(cursors);
        return status;
    }
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(min : status))
    for (int64_t b = 0; b < o->n_chunks; b++) {
        int done = sort_by_class(labels, b * o->chunk, saffu_min(o->n, (b + 1) * o->chunk), o->n_classes,
                                 o->start + b * (o->n_classes + 1), o->order);
        status = done < status ? done : status;
    }
    return status;
}

static int new_order(const int32_t *labels, int64_t n, int64_t chunk, int64_t n_classes, int n_threads, Order *o) {
    int64_t n_chunks = n ? (n + chunk - 1) / chunk : 1;
    if (n > INT32_MAX) return SAFFU_TOO_LARGE;
    o->n = n, o->chunk = chunk, o->n_chunks = n_chunks, o->n_classes = n_classes;
    o->start = malloc((size_t)(n_chunks * (n_classes + 1)) * sizeof *o->start);
    o->order = malloc((size_t)(n + 1) * sizeof *o->order);
    int status = o->start && o->order ? SAFFU_OK : SAFFU_NO_MEMORY;
    if (status == SAFFU_OK) status = sort_chunks(labels, o, saffu_team(n_threads, n));
    if (status != SAFFU_OK) free_order(o);
    return status;
}

#endif

/* One row of a table of counts: its positions -> columns, ascending, and their counts. */
#ifndef SAFFU_COUNT_ROW_H
#define SAFFU_COUNT_ROW_H

#include "counters.h"
#include "parallel.h"
#include "saffu.h"

enum { AHEAD = 16 }; /* positions whose targets are fetched before they are needed */

/* Fetch the target of a position some places behind i. */
SAFFU_INLINE void fetch_ahead(const saffu_stream *p, const int32_t *bucket, int64_t i, int64_t end) {
    int64_t ahead = i + AHEAD < end ? bucket[i + AHEAD] : 0;
    SAFFU_PREFETCH(p->targets + (ahead < 0 ? ~ahead : ahead));
}

/* The target at a position that is kept, negative if it does not count. */
SAFFU_INLINE int32_t target_at(const saffu_stream *p, int64_t t) {
    int32_t w = p->targets[t];
    return p->first_table && w < 0 ? ~w : w;
}

/* Accumulate bucket[from .. to) and return the number of distinct columns; bucket ends at end. */
SAFFU_INLINE int64_t accumulate(const saffu_stream *p, const int32_t *bucket, int64_t from, int64_t to, int64_t end,
                                Counters s) {
    int64_t n_seen = 0;
    if (p->keep_positions) {
        for (int64_t i = from; i < to; i++) {
            int32_t w = target_at(p, bucket[i]);
            fetch_ahead(p, bucket, i, end);
            if (w >= 0) n_seen = touch(s, w, n_seen);
        }
        return n_seen;
    }
    if (p->n_distances == 1) {
        for (int64_t i = from; i < to; i++) n_seen = touch(s, bucket[i], n_seen);
        return n_seen;
    }
    for (int64_t i = from; i < to; i++) {
        int64_t t = bucket[i];
        fetch_ahead(p, bucket, i, end);
        if (t >= 0) {
            for (int64_t j = 0; j < p->n_distances; j++) n_seen = touch(s, p->targets[t + p->distances[j]], n_seen);
        } else {
            t = ~t;
            int64_t left = document_end(p, document_of(p, t)) - t;
            for (int64_t j = 0; j < p->n_distances && p->distances[j] < left; j++)
                n_seen = touch(s, p->targets[t + p->distances[j]], n_seen);
        }
    }
    return n_seen;
}

/* Where rows are written: places is NULL unless positions are kept. */
typedef struct {
    int32_t *indices, *places;
    int64_t *counts;
} Place;

/* The entries [n, ..) of indices and counts, and the positions [n_placed, ..) of places. */
SAFFU_INLINE Place place_at(const Place *p, int64_t n, int64_t n_placed) {
    return (Place){p->indices + n, p->places ? p->places + n_placed : NULL, p->counts + n};
}

/* A row of few positions that are kept: sorted by column, then position. */
static int64_t count_few(const saffu_stream *s, const int32_t *bucket, int64_t from, int64_t to, int64_t end,
                         Place out) {
    uint64_t key[FEW];
    int64_t n = 0, n_seen = 0;
    for (int64_t i = from; i < to; i++) {
        int32_t t = bucket[i], w = target_at(s, t);
        fetch_ahead(s, bucket, i, end);
        if (w < 0) continue;
        uint64_t v = (uint64_t)w << 32 | (uint32_t)(t + 1);
        int64_t j = n++;
        for (; j > 0 && key[j - 1] > v; j--) key[j] = key[j - 1];
        key[j] = v;
    }
    for (int64_t i = 0; i < n; i++) {
        int32_t w = (int32_t)(key[i] >> 32);
        if (out.places) out.places[i] = (int32_t)key[i];
        if (i > 0 && w == out.indices[n_seen - 1]) {
            out.counts[n_seen - 1]++;
        } else {
            out.indices[n_seen] = w;
            out.counts[n_seen++] = 1;
        }
    }
    return n_seen;
}

/* One row: its columns, ascending, and their counts; their number. If positions are kept, those behind each of its
 * pairs, in the order of the columns. */
SAFFU_INLINE int64_t count_row(const saffu_stream *s, const int32_t *bucket, int64_t from, int64_t to, int64_t end,
                               Counters mine, Place out) {
    if (s->keep_positions && to - from <= FEW) return count_few(s, bucket, from, to, end, out);
    if (to - from == 1 && s->n_distances == 1) {
        out.indices[0] = bucket[from];
        out.counts[0] = 1;
        return 1;
    }
    int64_t n_seen = accumulate(s, bucket, from, to, end, mine);
    sort_seen(mine, n_seen);
    if (!out.places) {
        for (int64_t i = 0; i < n_seen; i++) {
            int32_t column = mine.seen[i];
            out.indices[i] = column;
            out.counts[i] = mine.counter[column];
            mine.counter[column] = 0;
        }
        return n_seen;
    }
    int32_t begin = 0; /* the counter of a column becomes the first free place of its positions */
    for (int64_t i = 0; i < n_seen; i++) {
        int32_t column = mine.seen[i], count = mine.counter[column];
        out.indices[i] = column;
        out.counts[i] = count;
        mine.counter[column] = begin;
        begin += count;
    }
    for (int64_t i = from; i < to; i++) {
        int32_t w = target_at(s, bucket[i]);
        if (w >= 0) out.places[mine.counter[w]++] = bucket[i] + 1;
    }
    for (int64_t i = 0; i < n_seen; i++) mine.counter[mine.seen[i]] = 0;
    return n_seen;
}

#endif

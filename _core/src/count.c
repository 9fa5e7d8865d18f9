/* Counting: token streams -> sorted sparse counts.
 *
 * Decisions. Positions are sorted by context with a counting sort, then each row is accumulated in a dense scratch of
 * counters that stays in cache, and emitted in ascending order: no hash table, no atomics, no copy of the result per
 * thread. A row has one owner, so the result is the same for every number of threads; the few rows that hold a large
 * share of all pairs (the commonest words) are counted by the whole team, one after the other.
 *
 * Counters are 32 bits wide, so that twice as many stay in cache. A row of fewer pairs than SAFFU_MAX_PAIRS cannot
 * make one wrap; a longer one is counted in pieces, each added to totals of 64 bits before the next begins.
 *
 * Every stage takes a range of positions or rows, so that a caller can stop between two of them.
 */
#include <string.h>

#include "parallel.h"
#include "saffu.h"

/* ---- stage 1: bucket --------------------------------------------------------------------------------------------- */

SAFFU_INLINE int64_t document_end(const saffu_stream *s, int64_t d) {
    return d + 1 < s->n_documents ? s->documents[d + 1] : s->n;
}

/* The document that holds position t: the last start <= t. */
static int64_t document_of(const saffu_stream *s, int64_t t) {
    int64_t low = 0, high = s->n_documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (s->documents[middle] <= t) low = middle;
        else high = middle;
    }
    return low;
}

/* Add the usable positions of [from, to) to the histogram of their contexts: one pass over the documents it touches. */
static int count_positions(const saffu_stream *s, int64_t from, int64_t to, int64_t *restrict cursor) {
    int64_t nearest = s->distances[0];
    if (from >= to) return SAFFU_OK;
    for (int64_t d = document_of(s, from); d < s->n_documents && s->documents[d] < to; d++) {
        int64_t t = saffu_max(s->documents[d], from), stop = saffu_min(document_end(s, d) - nearest, to);
        for (; t < stop; t++) {
            int32_t c = s->contexts[t];
            if (c < 0) continue;
            if (c >= s->n_rows) return SAFFU_OUT_OF_RANGE;
            cursor[c]++;
        }
    }
    return SAFFU_OK;
}

/* Place the usable positions of [from, to). */
static void place_positions(const saffu_stream *s, int64_t from, int64_t to, int64_t *restrict cursor,
                            int32_t *restrict bucket) {
    int64_t nearest = s->distances[0], farthest = s->distances[s->n_distances - 1];
    if (from >= to) return;
    for (int64_t d = document_of(s, from); d < s->n_documents && s->documents[d] < to; d++) {
        int64_t end = document_end(s, d), inner = end - farthest;
        int64_t t = saffu_max(s->documents[d], from), stop = saffu_min(end - nearest, to);
        for (; t < stop; t++) {
            int32_t c = s->contexts[t];
            if (c >= 0) bucket[cursor[c]++] = (int32_t)(t < inner ? t : ~t);
        }
    }
}

/* Place the targets of the usable positions of [from, to), at the one distance; the highest of all targets at that
 * distance and of those that no position of their document is before. One below 0 is higher than any. */
static uint32_t place_targets(const saffu_stream *s, int64_t from, int64_t to, int64_t *restrict cursor,
                              int32_t *restrict bucket) {
    int64_t nearest = s->distances[0];
    uint32_t high = 0;
    if (from >= to) return 0;
    for (int64_t d = document_of(s, from); d < s->n_documents && s->documents[d] < to; d++) {
        int64_t begin = s->documents[d], end = document_end(s, d);
        int64_t t = saffu_max(begin, from), stop = saffu_min(end - nearest, to);
        for (int64_t i = begin; begin >= from && i < end && i - begin < nearest; i++)
            high = (uint32_t)s->targets[i] > high ? (uint32_t)s->targets[i] : high;
        for (; t < stop; t++) {
            int32_t c = s->contexts[t], w = s->targets[t + nearest];
            high = (uint32_t)w > high ? (uint32_t)w : high;
            if (c >= 0) bucket[cursor[c]++] = w;
        }
    }
    return high;
}

/* Where the given position of part m lies in the stream, at most where the part ends. */
SAFFU_INLINE int64_t place_in_part(const saffu_stream *s, int64_t m, int64_t n_parts, int64_t position) {
    int64_t begin = s->n * m / n_parts, end = s->n * (m + 1) / n_parts;
    return begin + saffu_min(position, end - begin);
}

int64_t saffu_bucket_parts(const saffu_stream *s, int n_threads) {
    /* A histogram per team member pays while the histograms are shorter than the stream. */
    return saffu_max(1, saffu_min(saffu_team(n_threads, s->n), s->n / (s->n_rows + 1)));
}

int saffu_bucket_count(const saffu_stream *s, int64_t from, int64_t to, int64_t n_parts, int64_t *cursors) {
    int status = SAFFU_OK;
    SAFFU_PARALLEL_FOR((int)n_parts, schedule(static, 1) reduction(min : status))
    for (int64_t m = 0; m < n_parts; m++) {
        int mine = count_positions(s, place_in_part(s, m, n_parts, from), place_in_part(s, m, n_parts, to),
                                   cursors + m * s->n_rows);
        status = mine < status ? mine : status;
    }
    return status;
}

int saffu_bucket_rows(const saffu_stream *s, int64_t n_parts, int64_t *cursors, int64_t *row_ptr) {
    int64_t total = 0; /* histograms -> first free place of each part in each row */
    for (int64_t c = 0; c < s->n_rows; c++) {
        row_ptr[c] = total;
        for (int64_t m = 0; m < n_parts; m++) {
            int64_t count = cursors[m * s->n_rows + c];
            cursors[m * s->n_rows + c] = total;
            total += count;
        }
    }
    row_ptr[s->n_rows] = total;
    return SAFFU_OK;
}

int saffu_bucket_place(const saffu_stream *s, int64_t from, int64_t to, int64_t n_parts, int64_t *cursors,
                       int32_t *bucket) {
    int bad = 0;
    SAFFU_PARALLEL_FOR((int)n_parts, schedule(static, 1) reduction(| : bad))
    for (int64_t m = 0; m < n_parts; m++) {
        int64_t first = place_in_part(s, m, n_parts, from), end = place_in_part(s, m, n_parts, to);
        int64_t *cursor = cursors + m * s->n_rows;
        if (first >= end) continue;
        if (s->n_distances == 1) bad |= (int64_t)place_targets(s, first, end, cursor, bucket) >= s->n_cols;
        else place_positions(s, first, end, cursor, bucket);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

/* ---- stage 2: rows ----------------------------------------------------------------------------------------------- */

/* What one thread counts in. */
typedef struct {
    int32_t *counter; /* (n_cols) zero between rows */
    int32_t *seen;    /* (n_cols + 1) the columns of this row, by first touch */
    uint64_t *bits;   /* (n_cols / 64 + 1) zero between rows */
} Counters;

SAFFU_INLINE Counters counters_of(const saffu_counters *all, int64_t thread) {
    return (Counters){all->counter + thread * all->stride, all->seen + thread * all->stride,
                     all->bits + thread * (all->stride / 64 + 16)};
}

/* Add one pair; branch-free, so that a first touch costs no misprediction. */
SAFFU_INLINE int64_t touch(Counters s, int32_t column, int64_t n_seen) {
    int32_t before = s.counter[column];
    s.seen[n_seen] = column;
    s.counter[column] = before + 1;
    return n_seen + (before == 0);
}

/* Accumulate bucket[from .. to) and return the number of distinct columns. */
static int64_t accumulate(const saffu_stream *p, const int32_t *bucket, int64_t from, int64_t to, Counters s) {
    int64_t n_seen = 0;
    if (p->n_distances == 1) {
        for (int64_t i = from; i < to; i++) n_seen = touch(s, bucket[i], n_seen);
        return n_seen;
    }
    for (int64_t i = from; i < to; i++) {
        int64_t t = bucket[i];
        if (i + 8 < to) {
            int64_t ahead = bucket[i + 8];
            SAFFU_PREFETCH(p->targets + (ahead < 0 ? ~ahead : ahead));
        }
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

static void sort_few(int32_t *x, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        int32_t v = x[i];
        int64_t j = i;
        for (; j > 0 && x[j - 1] > v; j--) x[j] = x[j - 1];
        x[j] = v;
    }
}

SAFFU_INLINE int lowest_bit(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_ctzll(word);
#else
    int place = 0;
    while (!(word & 1)) word >>= 1, place++;
    return place;
#endif
}

/* Write the seen columns in ascending order and clear the scratch. Few are sorted; many pass through a bitmap. */
static void emit(Counters s, int64_t n_seen, int32_t *restrict indices, int64_t *restrict counts) {
    if (n_seen <= 24) {
        sort_few(s.seen, n_seen);
    } else {
        int64_t low = INT64_MAX, high = 0, out = 0;
        for (int64_t i = 0; i < n_seen; i++) {
            int64_t word = s.seen[i] >> 6;
            s.bits[word] |= 1ULL << (s.seen[i] & 63);
            low = saffu_min(low, word);
            high = saffu_max(high, word);
        }
        for (int64_t word = low; word <= high; word++) {
            for (uint64_t rest = s.bits[word]; rest; rest &= rest - 1)
                s.seen[out++] = (int32_t)(word * 64 + lowest_bit(rest));
            s.bits[word] = 0;
        }
    }
    for (int64_t i = 0; i < n_seen; i++) {
        int32_t column = s.seen[i];
        indices[i] = column;
        counts[i] = s.counter[column];
        s.counter[column] = 0;
    }
}

int64_t saffu_long_row(const saffu_stream *s, int64_t n_positions, int64_t n_pairs, int team) {
    /* Alone, a row is long if it would keep one thread busy after the others are done. */
    int64_t uneven = team == 1 ? INT64_MAX : saffu_max(n_positions / (8 * team), 4 * s->n_cols / s->n_distances);
    return saffu_min(uneven, saffu_max(1, n_pairs / s->n_distances));
}

int saffu_count_rows(const saffu_stream *s, const int64_t *row_ptr, const int32_t *bucket, const int64_t *segment,
                     int64_t from, int64_t to, int64_t long_row, const saffu_counters *all, int64_t *length,
                     int32_t *indices, int64_t *counts) {
    SAFFU_PARALLEL_FOR(all->team, schedule(dynamic, 16))
    for (int64_t c = from; c < to; c++) {
        int64_t first = row_ptr[c], end = row_ptr[c + 1];
        if (end - first > long_row) continue;
        Counters mine = counters_of(all, saffu_thread());
        int64_t n_seen = accumulate(s, bucket, first, end, mine);
        emit(mine, n_seen, indices + segment[c], counts + segment[c]);
        length[c] = n_seen;
    }
    return SAFFU_OK;
}

/* Slices of the occurrences into separate counters, then slices of the columns into the totals. */
int saffu_count_long(const saffu_stream *s, const int32_t *bucket, int64_t from, int64_t to, const saffu_counters *all,
                     int64_t *totals) {
    int64_t team = all->team, n_cols = s->n_cols;
    SAFFU_PARALLEL(all->team, default(shared)) {
        SAFFU_OMP(for schedule(static, 1))
        for (int64_t m = 0; m < team; m++)
            accumulate(s, bucket, from + (to - from) * m / team, from + (to - from) * (m + 1) / team,
                       counters_of(all, m));
        SAFFU_OMP(for schedule(static, 1))
        for (int64_t m = 0; m < team; m++)
            for (int64_t other = 0; other < team; other++) {
                int32_t *restrict counter = counters_of(all, other).counter;
                for (int64_t w = n_cols * m / team; w < n_cols * (m + 1) / team; w++) {
                    totals[w] += counter[w];
                    counter[w] = 0;
                }
            }
    }
    return SAFFU_OK;
}

enum { PARTS = 16 };

int saffu_emit_long(int64_t n_cols, int64_t *totals, int64_t *length, int32_t *indices, int64_t *counts,
                    int n_threads) {
    int64_t begin[PARTS + 1] = {0};
    int team = saffu_team(n_threads, n_cols);
    SAFFU_PARALLEL(team, default(shared)) {
        SAFFU_OMP(for schedule(static))
        for (int64_t m = 0; m < PARTS; m++) {
            int64_t n_found = 0;
            for (int64_t w = n_cols * m / PARTS; w < n_cols * (m + 1) / PARTS; w++) n_found += totals[w] != 0;
            begin[m + 1] = n_found;
        }
        SAFFU_OMP(single)
        for (int64_t m = 0; m < PARTS; m++) begin[m + 1] += begin[m];
        SAFFU_OMP(for schedule(static))
        for (int64_t m = 0; m < PARTS; m++) {
            int64_t out = begin[m];
            for (int64_t w = n_cols * m / PARTS; w < n_cols * (m + 1) / PARTS; w++) {
                if (totals[w] == 0) continue;
                indices[out] = (int32_t)w;
                counts[out++] = totals[w];
                totals[w] = 0;
            }
        }
    }
    *length = begin[PARTS];
    return SAFFU_OK;
}

int saffu_compact(const int64_t *segment, int64_t from, int64_t to, int64_t *indptr, int32_t *indices,
                  int64_t *counts) {
    for (int64_t c = from; c < to; c++) {
        int64_t n_row = indptr[c + 1], place = indptr[c];
        if (n_row && place != segment[c]) {
            memmove(indices + place, indices + segment[c], (size_t)n_row * sizeof *indices);
            memmove(counts + place, counts + segment[c], (size_t)n_row * sizeof *counts);
        }
        indptr[c + 1] = place + n_row;
    }
    return SAFFU_OK;
}

/* The first stage of counting: the positions of a stream sorted by their context.
 *
 * Decisions. A counting sort: no comparison, and the positions of a row stay in ascending order. The stream is cut into
 * parts that have histograms of their own, so that no thread waits for another; what the threads do in turn is a
 * running sum over the rows, and that, too, is cut into pieces.
 */
#include "counters.h"
#include "parallel.h"
#include "saffu.h"

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
    /* A histogram per team member pays while the histograms are not much longer than the stream. */
    return saffu_max(1, saffu_min(saffu_team(n_threads, s->n), 4 * s->n / (s->n_rows + 1)));
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

/* Rows [from, to): the histograms of all parts become first free places, counted from begin on; where they end. */
static int64_t first_places(int64_t from, int64_t to, int64_t begin, int64_t n_rows, int64_t n_parts,
                            int64_t *restrict cursors, int64_t *restrict row_ptr) {
    for (int64_t c = from; c < to; c++) {
        row_ptr[c] = begin;
        for (int64_t m = 0; m < n_parts; m++) {
            int64_t count = cursors[m * n_rows + c];
            cursors[m * n_rows + c] = begin;
            begin += count;
        }
    }
    return begin;
}

enum { PIECES = 64 }; /* of the rows, in which their sums run side by side */

int saffu_bucket_rows(const saffu_stream *s, int64_t n_parts, int64_t *cursors, int64_t *row_ptr, int n_threads) {
    int64_t n_rows = s->n_rows, begin[PIECES + 1] = {0};
    int team = saffu_team(n_threads, n_rows * n_parts);
    if (team == 1) {
        row_ptr[n_rows] = first_places(0, n_rows, 0, n_rows, n_parts, cursors, row_ptr);
        return SAFFU_OK;
    }
    SAFFU_PARALLEL(team, default(shared)) {
        SAFFU_OMP(for schedule(static))
        for (int64_t i = 0; i < PIECES; i++) {
            int64_t total = 0;
            for (int64_t m = 0; m < n_parts; m++)
                for (int64_t c = n_rows * i / PIECES; c < n_rows * (i + 1) / PIECES; c++)
                    total += cursors[m * n_rows + c];
            begin[i + 1] = total;
        }
        SAFFU_OMP(single)
        for (int64_t i = 0; i < PIECES; i++) begin[i + 1] += begin[i];
        SAFFU_OMP(for schedule(static))
        for (int64_t i = 0; i < PIECES; i++)
            first_places(n_rows * i / PIECES, n_rows * (i + 1) / PIECES, begin[i], n_rows, n_parts, cursors, row_ptr);
    }
    row_ptr[n_rows] = begin[PIECES];
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
        if (s->n_distances == 1 && !s->keep_positions)
            bad |= (int64_t)place_targets(s, first, end, cursor, bucket) >= s->n_cols;
        else place_positions(s, first, end, cursor, bucket);
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

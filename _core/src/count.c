/* The second stage of counting: rows of positions -> sorted sparse counts.
 *
 * Decisions. Each row is accumulated in a dense scratch of counters that stays in cache, and emitted in ascending
 * order: no hash table, no atomics. A row has one owner, so the result is the same for every number of threads. Rows go
 * to the threads in chunks of equal work; what a chunk holds is written to a scratch that stays in cache, and once the
 * chunks before it are known, to where it stays: nothing is moved in memory afterwards. One thread writes there at
 * once.
 *
 * The few rows of many positions (the commonest words) would keep a thread busy after the others are done: they are
 * counted apart beforehand, the longest by the whole team, and put between the others when their turn comes.
 *
 * Counters are 32 bits wide, so that twice as many stay in cache. A row of fewer pairs than SAFFU_MAX_PAIRS cannot
 * make one wrap; a longer one is counted in pieces, each added to totals of 64 bits before the next begins.
 *
 * Every stage takes a range of positions or rows, so that a caller can stop between two of them.
 */
#include <string.h>

#include "count_row.h"
#include "parallel.h"
#include "saffu.h"

/* The work of counting, and what comes out of it. */
typedef struct {
    const saffu_stream *s;
    const int64_t *row_ptr;
    const int32_t *bucket;
    const saffu_apart *apart;
    const saffu_counted *out;
} Rows;

/* The number of rows before c that were counted apart. */
static int64_t apart_before(const saffu_apart *apart, int64_t c) {
    int64_t low = 0, high = apart->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (apart->rows[middle] < c) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The pairs of the rows before c that are not counted apart, and a step for each row: no less than their entries. */
static int64_t work_before(const Rows *r, int64_t c) {
    int64_t apart = r->apart->before[apart_before(r->apart, c)];
    return (r->row_ptr[c] - apart) * r->s->n_distances + c;
}

/* The last of the rows [low, high] that no more than so much work is before. */
static int64_t row_at(const Rows *r, int64_t low, int64_t high, int64_t work) {
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (work_before(r, middle) <= work) low = middle;
        else high = middle - 1;
    }
    return low;
}

/* Is row c the k-th that was counted apart? */
SAFFU_INLINE int is_apart(const Rows *r, int64_t k, int64_t c) { return k < r->apart->n && r->apart->rows[k] == c; }

/* Entries [n, n + length) have their counts: the places of their positions begin where those before end. */
SAFFU_INLINE int64_t add_places(const saffu_counted *out, int64_t n, int64_t length, int64_t n_placed) {
    for (int64_t e = n; e < n + length; e++) out->place_ptr[e + 1] = n_placed += out->counts[e];
    return n_placed;
}

/* Copy entries and positions to where they stay. */
static void settle(const saffu_counted *out, Place from, int64_t length, int64_t n, int64_t n_placed, int64_t *end) {
    memcpy(out->indices + n, from.indices, (size_t)length * sizeof *from.indices);
    memcpy(out->counts + n, from.counts, (size_t)length * sizeof *from.counts);
    *end = n_placed;
    if (!out->places) return;
    *end = add_places(out, n, length, n_placed);
    memcpy(out->places + n_placed, from.places, (size_t)(*end - n_placed) * sizeof *from.places);
}

SAFFU_INLINE Place place_apart(const saffu_apart *apart, int64_t k) {
    const Place out = {apart->indices, apart->places, apart->counts};
    return place_at(&out, apart->segment[k], apart->before[k]);
}

/* Rows [from, to) by one thread, to where they stay. */
static void count_in_place(const Rows *r, int64_t from, int64_t to, Counters mine) {
    const saffu_counted *out = r->out;
    const Place all = {out->indices, out->places, out->counts};
    int64_t k = apart_before(r->apart, from), n = out->indptr[from], n_placed = out->places ? out->place_ptr[n] : 0;
    for (int64_t c = from; c < to; c++) {
        int64_t length;
        if (is_apart(r, k, c)) {
            length = r->apart->length[k];
            settle(out, place_apart(r->apart, k), length, n, n_placed, &n_placed);
            k++;
        } else {
            length = count_row(r->s, r->bucket, r->row_ptr[c], r->row_ptr[c + 1], r->row_ptr[r->s->n_rows], mine,
                               place_at(&all, n, n_placed));
            if (out->places) n_placed = add_places(out, n, length, n_placed);
        }
        out->indptr[c + 1] = n += length;
    }
}

/* Entries and positions of a chunk. */
typedef struct {
    int64_t n, n_placed;
} Sizes;

/* Rows [from, to) into the scratch; the lengths of all, and the sizes of the chunk. */
static Sizes count_chunk(const Rows *r, int64_t from, int64_t to, Counters mine, Place scratch) {
    int64_t k = apart_before(r->apart, from), n = 0, n_placed = 0;
    Sizes apart = {0, 0};
    for (int64_t c = from; c < to; c++) {
        if (is_apart(r, k, c)) {
            apart.n += r->out->indptr[c + 1] = r->apart->length[k];
            for (int64_t e = 0; r->out->places && e < r->apart->length[k]; e++)
                apart.n_placed += r->apart->counts[r->apart->segment[k] + e];
            k++;
            continue;
        }
        Place row = place_at(&scratch, n, n_placed);
        int64_t length = count_row(r->s, r->bucket, r->row_ptr[c], r->row_ptr[c + 1], r->row_ptr[r->s->n_rows], mine,
                                   row);
        for (int64_t e = 0; r->out->places && e < length; e++) n_placed += row.counts[e];
        r->out->indptr[c + 1] = length;
        n += length;
    }
    return (Sizes){n + apart.n, n_placed + apart.n_placed};
}

/* Rows [from, to) from the scratch to where they stay; those that were counted apart from there. */
static void settle_chunk(const Rows *r, int64_t from, int64_t to, Place scratch, Sizes begin) {
    int64_t k = apart_before(r->apart, from), n = begin.n, n_placed = begin.n_placed;
    for (int64_t c = from; c < to;) {
        int64_t length = 0, end = n_placed, stop = k < r->apart->n ? saffu_min(to, r->apart->rows[k]) : to;
        for (; c < stop; c++) {
            length += r->out->indptr[c + 1];
            r->out->indptr[c + 1] = n + length;
        }
        settle(r->out, scratch, length, n, n_placed, &end);
        scratch = place_at(&scratch, length, end - n_placed);
        n += length, n_placed = end;
        if (c == to) break;
        settle(r->out, place_apart(r->apart, k), r->apart->length[k], n, n_placed, &n_placed);
        r->out->indptr[++c] = n += r->apart->length[k++];
    }
}

enum { CHUNKS = 512 }; /* at most, of the rows that go to the scratch together */

/* Rows [from, to), whose work fits the scratch, by the team. */
static void count_together(const Rows *r, int64_t from, int64_t to, const saffu_counters *all) {
    int64_t n_chunks = saffu_min(CHUNKS, 8 * all->team), start = work_before(r, from);
    int64_t work = work_before(r, to) - start;
    Sizes begin[CHUNKS + 1];
    begin[0] = (Sizes){r->out->indptr[from], r->out->places ? r->out->place_ptr[r->out->indptr[from]] : 0};
    SAFFU_PARALLEL(all->team, default(shared)) {
        for (int stage = 0; stage < 2; stage++) {
            SAFFU_OMP(for schedule(dynamic, 1))
            for (int64_t i = 0; i < n_chunks; i++) {
                int64_t first = i ? row_at(r, from, to, start + work * i / n_chunks) : from;
                int64_t last = i + 1 < n_chunks ? row_at(r, from, to, start + work * (i + 1) / n_chunks) : to;
                int64_t place = work_before(r, first) - start;
                int32_t *places = r->out->places ? all->places + place : NULL;
                Place scratch = {all->indices + place, places, all->counts + place};
                if (stage == 0) begin[i + 1] = count_chunk(r, first, last, counters_of(all, saffu_thread()), scratch);
                else settle_chunk(r, first, last, scratch, begin[i]);
            }
            SAFFU_OMP(single)
            for (int64_t i = 0; stage == 0 && i < n_chunks; i++) {
                begin[i + 1].n += begin[i].n;
                begin[i + 1].n_placed += begin[i].n_placed;
            }
        }
    }
}

int saffu_count_rows(const saffu_stream *s, const int64_t *row_ptr, const int32_t *bucket, const saffu_apart *apart,
                     int64_t from, int64_t to, const saffu_counters *all, const saffu_counted *out) {
    const Rows r = {s, row_ptr, bucket, apart, out};
    if (all->team == 1) {
        count_in_place(&r, from, to, counters_of(all, 0));
        return SAFFU_OK;
    }
    while (from < to) {
        int64_t end = saffu_max(from + 1, row_at(&r, from, to, work_before(&r, from) + all->capacity));
        count_together(&r, from, end, all);
        from = end;
    }
    return SAFFU_OK;
}

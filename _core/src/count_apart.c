/* Rows of so many positions that they would keep a thread busy after the others are done, counted before all others.
 *
 * Decisions. A thread counts such a row alone, beside the others, while that is done sooner than by the whole team,
 * whose counters have to be added up for every column. The longest rows go to the team, one after the other: slices of
 * their occurrences into the counters of the threads, then slices of the columns into totals.
 */
#include <string.h>

#include "count_row.h"
#include "parallel.h"
#include "saffu.h"

int64_t saffu_long_row(const saffu_stream *s, int64_t n_positions, int64_t n_pairs, int64_t capacity, int team) {
    int64_t fits = capacity / (2 * s->n_distances), pieces = saffu_max(1, n_pairs / s->n_distances);
    if (team == 1) return pieces;
    int64_t uneven = saffu_max(1024, saffu_min(n_positions, 2 * fits) / (8 * team));
    return saffu_max(1, saffu_min(saffu_min(uneven, fits), pieces));
}

int64_t saffu_team_row(const saffu_stream *s, int64_t n_positions, int64_t n_pairs, int team) {
    /* By the whole team, where that is sooner done than by one thread beside the others. */
    int64_t uneven = team == 1 ? INT64_MAX : saffu_max(n_positions / (8 * team), s->n_cols / s->n_distances);
    return saffu_min(uneven, saffu_max(1, n_pairs / s->n_distances));
}

enum { PIECES = 64 }; /* of the rows, that are looked through side by side */

int64_t saffu_longer_rows(const saffu_stream *s, const int64_t *row_ptr, int64_t long_row, int64_t *n_most,
                          int64_t *rows, int n_threads) {
    int64_t n_rows = s->n_rows, begin[PIECES + 1] = {0}, most = 0;
    int team = saffu_team(n_threads, n_rows);
    SAFFU_PARALLEL(team, default(shared)) {
        SAFFU_OMP(for schedule(static) reduction(+ : most))
        for (int64_t i = 0; i < PIECES; i++) {
            int64_t n_longer = 0;
            for (int64_t c = n_rows * i / PIECES; c < n_rows * (i + 1) / PIECES; c++) {
                int64_t n = row_ptr[c + 1] - row_ptr[c];
                n_longer += n > long_row;
                most += saffu_min(n * s->n_distances, s->n_cols);
            }
            begin[i + 1] = n_longer;
        }
        SAFFU_OMP(single)
        for (int64_t i = 0; i < PIECES; i++) begin[i + 1] += begin[i];
        SAFFU_OMP(for schedule(static))
        for (int64_t i = 0; i < PIECES; i++)
            for (int64_t c = n_rows * i / PIECES, n = begin[i]; n < begin[i + 1]; c++)
                if (row_ptr[c + 1] - row_ptr[c] > long_row) rows[n++] = c;
    }
    *n_most = most;
    return begin[PIECES];
}

int saffu_count_apart(const saffu_stream *s, const int64_t *row_ptr, const int32_t *bucket, int64_t from, int64_t to,
                      int64_t team_row, const saffu_counters *all, saffu_apart *apart) {
    const Place out = {apart->indices, apart->places, apart->counts};
    SAFFU_PARALLEL_FOR(all->team, schedule(dynamic, 1))
    for (int64_t k = from; k < to; k++) {
        int64_t begin = row_ptr[apart->rows[k]], end = row_ptr[apart->rows[k] + 1];
        if (end - begin > team_row) continue;
        apart->length[k] = count_row(s, bucket, begin, end, end, counters_of(all, saffu_thread()),
                                     place_at(&out, apart->segment[k], apart->before[k]));
    }
    return SAFFU_OK;
}

/* Slice m of the occurrences, one for each member of the team, into its counter. */
SAFFU_INLINE void accumulate_slice(const saffu_stream *s, const int32_t *bucket, int64_t from, int64_t to, int64_t m,
                                   const saffu_counters *all) {
    int64_t n = to - from, team = all->team;
    accumulate(s, bucket, from + n * m / team, from + n * (m + 1) / team, to, counters_of(all, m));
}

/* Slices of the occurrences into separate counters, then slices of the columns into the totals. */
int saffu_count_long(const saffu_stream *s, const int32_t *bucket, int64_t from, int64_t to, const saffu_counters *all,
                     int64_t *totals) {
    int64_t team = all->team, n_cols = s->n_cols;
    SAFFU_PARALLEL(all->team, default(shared)) {
        SAFFU_OMP(for schedule(static, 1))
        for (int64_t m = 0; m < team; m++) accumulate_slice(s, bucket, from, to, m, all);
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

int saffu_emit_long(int64_t n_cols, int keep_positions, int64_t *totals, int64_t *length, int32_t *indices,
                    int64_t *counts, int n_threads) {
    int64_t begin[PARTS + 1] = {0}, placed[PARTS + 1] = {0};
    int team = saffu_team(n_threads, n_cols);
    SAFFU_PARALLEL(team, default(shared)) {
        SAFFU_OMP(for schedule(static))
        for (int64_t m = 0; m < PARTS; m++) {
            int64_t n_found = 0, sum = 0;
            for (int64_t w = n_cols * m / PARTS; w < n_cols * (m + 1) / PARTS; w++) {
                n_found += totals[w] != 0;
                sum += totals[w];
            }
            begin[m + 1] = n_found;
            placed[m + 1] = sum;
        }
        SAFFU_OMP(single)
        for (int64_t m = 0; m < PARTS; m++) {
            begin[m + 1] += begin[m];
            placed[m + 1] += placed[m];
        }
        SAFFU_OMP(for schedule(static))
        for (int64_t m = 0; m < PARTS; m++) {
            int64_t out = begin[m], place = placed[m];
            for (int64_t w = n_cols * m / PARTS; w < n_cols * (m + 1) / PARTS; w++) {
                int64_t count = totals[w];
                totals[w] = keep_positions ? place : 0;
                place += count;
                if (count == 0) continue;
                indices[out] = (int32_t)w;
                counts[out++] = count;
            }
        }
    }
    *length = begin[PARTS];
    return SAFFU_OK;
}

/* Every slice of the positions has first free places of its own in each column. */
int saffu_place_long(const saffu_stream *s, const int32_t *bucket, int64_t from, int64_t to, const saffu_counters *all,
                     int64_t *first, int32_t *places) {
    int64_t team = all->team, n_cols = s->n_cols;
    SAFFU_PARALLEL(all->team, default(shared)) {
        SAFFU_OMP(for schedule(static, 1))
        for (int64_t m = 0; m < team; m++) accumulate_slice(s, bucket, from, to, m, all);
        SAFFU_OMP(for schedule(static, 1))
        for (int64_t m = 0; m < team; m++)
            for (int64_t w = n_cols * m / team; w < n_cols * (m + 1) / team; w++)
                for (int64_t other = 0; other < team; other++) {
                    int32_t *counter = counters_of(all, other).counter + w, count = *counter;
                    *counter = (int32_t)first[w];
                    first[w] += count;
                }
        SAFFU_OMP(for schedule(static, 1))
        for (int64_t m = 0; m < team; m++) {
            int32_t *counter = counters_of(all, m).counter;
            for (int64_t i = from + (to - from) * m / team; i < from + (to - from) * (m + 1) / team; i++) {
                int32_t w = target_at(s, bucket[i]);
                if (w >= 0) places[counter[w]++] = bucket[i] + 1;
            }
            memset(counter, 0, (size_t)n_cols * sizeof *counter);
        }
    }
    return SAFFU_OK;
}

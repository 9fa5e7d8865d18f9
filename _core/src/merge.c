/* The sum of two sparse tables of counts, whose rows and columns both ascend: one pass over both.
 *
 * Decisions. Rows of a table of suffixes hold one or two entries, those of a table of tokens up to all of the
 * vocabulary. So a thread takes a range of rows of the sum, finds where the two tables enter it by a binary search, and
 * then walks through both side by side; the dynamic schedule evens out long rows. Within a row, both columns are
 * compared and the places move on by the comparison's result: there is no branch that the processor could guess wrong.
 * Where one row is far shorter than the other, its columns are searched for, and what lies between them is copied.
 *
 * Several threads have to know where a row begins before they write it: they look at all columns twice. One thread
 * writes rows one behind the other, at half of the time.
 */
#include <string.h>

#include "parallel.h"
#include "saffu.h"

enum { ROWS = 1024 }; /* of the sum that a thread takes at a time */

/* The first of n ascending rows that is not below row. */
SAFFU_INLINE int64_t first_from(const int64_t *rows, int64_t n, int64_t row) {
    int64_t low = 0;
    while (low < n) {
        int64_t middle = low + (n - low) / 2;
        if (rows[middle] < row) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return low;
}

/* The entries [*from, *to) of the row that table has for row r of the sum, if any; *i is its next row. */
SAFFU_INLINE void take_row(const saffu_table *table, int64_t r, int64_t *i, int64_t *from, int64_t *to) {
    *from = *to = 0;
    if (*i < table->n_rows && table->rows[*i] == r) {
        *from = table->indptr[*i];
        *to = table->indptr[*i + 1];
        *i += 1;
    }
}

enum { FEW = 4, FAR_SHORTER = 16 }; /* entries; times */

/* The first place in [from, to) with a column that is not below w; steps that double, and then a binary search. */
SAFFU_INLINE int64_t first_column(const int32_t *indices, int64_t from, int64_t to, int32_t w) {
    int64_t step = 1;
    while (from + step <= to && indices[from + step - 1] < w) {
        from += step;
        step *= 2;
    }
    int64_t length = saffu_min(step - 1, to - from);
    while (length > 0) {
        int64_t half = length / 2;
        if (indices[from + half] < w) {
            from += half + 1;
            length -= half + 1;
        } else {
            length = half;
        }
    }
    return from;
}

/* Columns of the shorter row that the longer has, too. */
SAFFU_INLINE int64_t n_common(const int32_t *longer, int64_t i, int64_t i_end, const int32_t *shorter, int64_t j,
                              int64_t j_end) {
    int64_t n = 0;
    for (; j < j_end; j++) {
        i = first_column(longer, i, i_end, shorter[j]);
        n += i < i_end && longer[i] == shorter[j];
    }
    return n;
}

SAFFU_INLINE int64_t n_distinct(const saffu_table *a, const saffu_table *b, int64_t i, int64_t a_end, int64_t j,
                                int64_t b_end) {
    int64_t n_a = a_end - i, n_b = b_end - j, n = 0;
    if (n_b * FAR_SHORTER < n_a) return n_a + n_b - n_common(a->indices, i, a_end, b->indices, j, b_end);
    if (n_a * FAR_SHORTER < n_b) return n_a + n_b - n_common(b->indices, j, b_end, a->indices, i, a_end);
    while (i < a_end && j < b_end) {
        int32_t x = a->indices[i], y = b->indices[j];
        i += x <= y;
        j += y <= x;
        n++;
    }
    return n + (a_end - i) + (b_end - j);
}

int saffu_merge_lengths(const saffu_table *a, const saffu_table *b, int64_t from, int64_t to, int64_t *lengths,
                        int n_threads) {
    int team = saffu_team(n_threads, to - from);
    int64_t n_ranges = (to - from + ROWS - 1) / ROWS;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic))
    for (int64_t range = 0; range < n_ranges; range++) {
        int64_t first = from + range * ROWS, last = saffu_min(first + ROWS, to), a_from, a_to, b_from, b_to;
        int64_t i = first_from(a->rows, a->n_rows, first), j = first_from(b->rows, b->n_rows, first);
        for (int64_t r = first; r < last; r++) {
            take_row(a, r, &i, &a_from, &a_to);
            take_row(b, r, &j, &b_from, &b_to);
            lengths[r] = n_distinct(a, b, a_from, a_to, b_from, b_to);
        }
    }
    return SAFFU_OK;
}

/* Entries [i, end) of one table, which the other has none beside, from place n of the sum on. */
SAFFU_INLINE void copy_rest(const saffu_table *table, int64_t i, int64_t end, int64_t n, int32_t *restrict indices,
                            int64_t *restrict counts, int64_t *restrict places) {
    if (end - i < 8) {
        for (; i < end; i++, n++) {
            indices[n] = table->indices[i];
            counts[n] = table->counts[i];
            places[i] = n;
        }
        return;
    }
    memcpy(indices + n, table->indices + i, (size_t)(end - i) * sizeof *indices);
    memcpy(counts + n, table->counts + i, (size_t)(end - i) * sizeof *counts);
    for (int64_t k = 0; k < end - i; k++) places[i + k] = n + k;
}

/* A row that is far longer than the other; where the sum ends. */
SAFFU_INLINE int64_t insert_row(const saffu_table *longer, const saffu_table *shorter, int64_t i, int64_t i_end,
                                int64_t j, int64_t j_end, int64_t n, int32_t *indices, int64_t *counts,
                                int64_t *i_places, int64_t *j_places) {
    for (; j < j_end; j++) {
        int64_t next = first_column(longer->indices, i, i_end, shorter->indices[j]);
        copy_rest(longer, i, next, n, indices, counts, i_places);
        n += next - i;
        i = next;
        indices[n] = shorter->indices[j];
        counts[n] = shorter->counts[j];
        j_places[j] = n;
        if (i < i_end && longer->indices[i] == shorter->indices[j]) {
            counts[n] += longer->counts[i];
            i_places[i++] = n;
        }
        n++;
    }
    copy_rest(longer, i, i_end, n, indices, counts, i_places);
    return n + i_end - i;
}

/* A row of few entries: an entry that a table has not any more is read, and its place written, beside the table, so
 * that the only branch is the end of the row. */
SAFFU_INLINE int64_t merge_few(const saffu_table *a, const saffu_table *b, int64_t i, int64_t a_end, int64_t j,
                               int64_t b_end, int64_t n, int32_t *indices, int64_t *counts, int64_t *a_places,
                               int64_t *b_places) {
    const int32_t beyond = INT32_MAX;
    const int64_t none = 0;
    int64_t nowhere;
    while (i < a_end || j < b_end) {
        int in_a = i < a_end, in_b = j < b_end;
        int32_t x = *(in_a ? a->indices + i : &beyond), y = *(in_b ? b->indices + j : &beyond);
        int of_a = in_a & (!in_b | (x <= y)), of_b = in_b & (!in_a | (y <= x));
        indices[n] = of_a ? x : y;
        counts[n] = *(of_a ? a->counts + i : &none) + *(of_b ? b->counts + j : &none);
        *(of_a ? a_places + i : &nowhere) = n;
        *(of_b ? b_places + j : &nowhere) = n;
        i += of_a;
        j += of_b;
        n++;
    }
    return n;
}

/* A row of the sum from place n on; where it ends. */
SAFFU_INLINE int64_t merge_row(const saffu_table *a, const saffu_table *b, int64_t i, int64_t a_end, int64_t j,
                               int64_t b_end, int64_t n, int32_t *restrict indices, int64_t *restrict counts,
                               int64_t *restrict a_places, int64_t *restrict b_places) {
    const int32_t *a_columns = a->indices, *b_columns = b->indices;
    const int64_t *a_counts = a->counts, *b_counts = b->counts;
    if (a_end - i + b_end - j <= FEW)
        return merge_few(a, b, i, a_end, j, b_end, n, indices, counts, a_places, b_places);
    if ((b_end - j) * FAR_SHORTER < a_end - i)
        return insert_row(a, b, i, a_end, j, b_end, n, indices, counts, a_places, b_places);
    if ((a_end - i) * FAR_SHORTER < b_end - j)
        return insert_row(b, a, j, b_end, i, a_end, n, indices, counts, b_places, a_places);
    while (i < a_end && j < b_end) {
        int32_t x = a_columns[i], y = b_columns[j];
        int64_t of_a = x <= y, of_b = y <= x;
        indices[n] = of_a ? x : y;
        counts[n] = (a_counts[i] & -of_a) + (b_counts[j] & -of_b);
        a_places[i] = n; /* of an entry that stays, written again when it is taken */
        b_places[j] = n;
        i += of_a;
        j += of_b;
        n++;
    }
    int64_t more = a_end - i;
    copy_rest(a, i, a_end, n, indices, counts, a_places);
    copy_rest(b, j, b_end, n + more, indices, counts, b_places);
    return n + more + b_end - j;
}

int saffu_merge_in_turn(const saffu_table *a, const saffu_table *b, int64_t from, int64_t to, int64_t *indptr,
                        int32_t *indices, int64_t *counts, int64_t *a_places, int64_t *b_places) {
    int64_t i = first_from(a->rows, a->n_rows, from), j = first_from(b->rows, b->n_rows, from), n = indptr[from];
    for (int64_t r = from; r < to; r++) {
        int64_t a_from, a_to, b_from, b_to;
        take_row(a, r, &i, &a_from, &a_to);
        take_row(b, r, &j, &b_from, &b_to);
        indptr[r + 1] = n = merge_row(a, b, a_from, a_to, b_from, b_to, n, indices, counts, a_places, b_places);
    }
    return SAFFU_OK;
}

int saffu_merge(const saffu_table *a, const saffu_table *b, const int64_t *indptr, int64_t from, int64_t to,
                int32_t *indices, int64_t *counts, int64_t *a_places, int64_t *b_places, int n_threads) {
    int team = saffu_team(n_threads, indptr[to] - indptr[from] + to - from);
    int64_t n_ranges = (to - from + ROWS - 1) / ROWS;
    SAFFU_PARALLEL_FOR(team, schedule(dynamic))
    for (int64_t range = 0; range < n_ranges; range++) {
        int64_t first = from + range * ROWS, last = saffu_min(first + ROWS, to), a_from, a_to, b_from, b_to;
        int64_t i = first_from(a->rows, a->n_rows, first), j = first_from(b->rows, b->n_rows, first);
        for (int64_t r = first; r < last; r++) {
            take_row(a, r, &i, &a_from, &a_to);
            take_row(b, r, &j, &b_from, &b_to);
            merge_row(a, b, a_from, a_to, b_from, b_to, indptr[r], indices, counts, a_places, b_places);
        }
    }
    return SAFFU_OK;
}

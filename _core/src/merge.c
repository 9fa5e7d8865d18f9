/* The sum of two sparse tables of counts, whose rows and columns both ascend: one pass over both.
 *
 * Decisions. Rows of a table of suffixes hold one or two entries, those of a table of tokens up to all of the vocabulary.
 * So a thread takes a range of rows of the sum, finds where the two tables enter it by a binary search, and then walks
 * through both side by side; the dynamic schedule evens out long rows. Within a row, both columns are compared and the
 * places move on by the comparison's result: there is no branch that the processor could guess wrong.
 */
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

SAFFU_INLINE int64_t n_distinct(const saffu_table *a, const saffu_table *b, int64_t i, int64_t a_end, int64_t j,
                                int64_t b_end) {
    int64_t n = 0;
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
SAFFU_INLINE void copy_rest(const saffu_table *table, int64_t i, int64_t end, int64_t n, int32_t *indices,
                            int64_t *counts, int64_t *places) {
    for (; i < end; i++, n++) {
        indices[n] = table->indices[i];
        counts[n] = table->counts[i];
        places[i] = n;
    }
}

SAFFU_INLINE void merge_row(const saffu_table *a, const saffu_table *b, int64_t i, int64_t a_end, int64_t j,
                            int64_t b_end, int64_t n, int32_t *indices, int64_t *counts, int64_t *a_places,
                            int64_t *b_places) {
    while (i < a_end && j < b_end) {
        int32_t x = a->indices[i], y = b->indices[j];
        int64_t of_a = x <= y, of_b = y <= x;
        indices[n] = of_a ? x : y;
        counts[n] = (a->counts[i] & -of_a) + (b->counts[j] & -of_b);
        a_places[i] = n; /* of an entry that stays, written again when it is taken */
        b_places[j] = n;
        i += of_a;
        j += of_b;
        n++;
    }
    int64_t more = a_end - i;
    copy_rest(a, i, a_end, n, indices, counts, a_places);
    copy_rest(b, j, b_end, n + more, indices, counts, b_places);
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

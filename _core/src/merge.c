/* The sum of two sparse tables of counts, whose rows and columns both ascend: one pass over both.
 *
 * Decisions. Rows of a table of suffixes hold one or two entries, those of a table of tokens up to all of the
 * vocabulary. Within a row, both columns are compared and the places move on by the comparison's result: there is no
 * branch that the processor could guess wrong. Where one row is far shorter than the other, its columns are searched
 * for, and what lies between them is copied.
 *
 * Where a row of the sum begins is known when the rows before it are merged. So each thread merges rows that have about
 * as many entries, and writes them where they would be if no entry were in both tables; then they are moved together.
 * That is cheaper than to count what is in both tables first, which takes as long as the merge.
 */
#include <string.h>

#include "parallel.h"
#include "saffu.h"

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

/* Entries [i, end) of one table, which the other has none beside, from place n of the sum on. */
SAFFU_INLINE void copy_rest(const saffu_table *table, int64_t i, int64_t end, int64_t n, int32_t *restrict indices,
                            int64_t *restrict counts, int64_t *restrict places) {
    if (end - i < 8) {
        for (; i < end; i++, n++) {
            indices[n] = table->indices[i];
            counts[n] = table->counts[i];
            if (places) places[i] = n;
        }
        return;
    }
    memcpy(indices + n, table->indices + i, (size_t)(end - i) * sizeof *indices);
    memcpy(counts + n, table->counts + i, (size_t)(end - i) * sizeof *counts);
    for (int64_t k = 0; places && k < end - i; k++) places[i + k] = n + k;
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
        if (j_places) j_places[j] = n;
        if (i < i_end && longer->indices[i] == shorter->indices[j]) {
            counts[n] += longer->counts[i];
            if (i_places) i_places[i] = n;
            i++;
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
        if (a_places) *(of_a ? a_places + i : &nowhere) = n;
        if (b_places) *(of_b ? b_places + j : &nowhere) = n;
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
        if (a_places) a_places[i] = n; /* of an entry that stays, written again when it is taken */
        if (b_places) b_places[j] = n;
        i += of_a;
        j += of_b;
        n++;
    }
    int64_t more = a_end - i;
    copy_rest(a, i, a_end, n, indices, counts, a_places);
    copy_rest(b, j, b_end, n + more, indices, counts, b_places);
    return n + more + b_end - j;
}

/* Rows [from, to) of the sum, from place n on; where they end. Without places where these are NULL, which is known
 * when this is compiled. */
SAFFU_INLINE int64_t merge_rows(const saffu_table *a, const saffu_table *b, int64_t from, int64_t to, int64_t n,
                                int64_t *indptr, int32_t *indices, int64_t *counts, int64_t *a_places,
                                int64_t *b_places) {
    int64_t i = first_from(a->rows, a->n_rows, from), j = first_from(b->rows, b->n_rows, from);
    for (int64_t r = from; r < to; r++) {
        int64_t a_from, a_to, b_from, b_to;
        take_row(a, r, &i, &a_from, &a_to);
        take_row(b, r, &j, &b_from, &b_to);
        indptr[r + 1] = n = merge_row(a, b, a_from, a_to, b_from, b_to, n, indices, counts, a_places, b_places);
    }
    return n;
}

enum { MOST_PIECES = 64 };

/* Rows that one thread merges; where their entries begin in both tables. */
typedef struct {
    int64_t first_row, a_from, b_from;
    int64_t begin; /* the place that they are written from: no entry is in both tables */
    int64_t end;
    int64_t final; /* the place that they are moved to */
} Piece;

/* The piece that begins with this row; as many entries before it as both tables have there, plus shift. */
SAFFU_INLINE Piece piece_from(const saffu_table *a, const saffu_table *b, int64_t row, int64_t shift) {
    Piece piece = {.first_row = row};
    piece.a_from = a->indptr[first_from(a->rows, a->n_rows, row)];
    piece.b_from = b->indptr[first_from(b->rows, b->n_rows, row)];
    piece.begin = piece.a_from + piece.b_from + shift;
    return piece;
}

/* Cuts rows [from, to) into pieces of about as many entries and rows; n_pieces + 1 of them, the last is the end. */
static void cut(const saffu_table *a, const saffu_table *b, int64_t from, int64_t to, int64_t begin, int n_pieces,
                Piece *pieces) {
    Piece first = piece_from(a, b, from, 0);
    int64_t shift = begin - first.begin;
    pieces[0] = piece_from(a, b, from, shift);
    pieces[n_pieces] = piece_from(a, b, to, shift);
    int64_t work = pieces[n_pieces].begin - begin + to - from;
    for (int p = 1; p < n_pieces; p++) {
        int64_t low = pieces[p - 1].first_row, high = to;
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (piece_from(a, b, middle, shift).begin - begin + middle - from < work / n_pieces * p) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        pieces[p] = piece_from(a, b, low, shift);
    }
}

static void subtract(int64_t *x, int64_t n, int64_t value) {
    for (int64_t k = 0; k < n; k++) x[k] -= value;
}

/* Moves the pieces together: counts and columns piece after piece, as they overlap, and the numbers of their places. */
static void move(const Piece *pieces, int n_pieces, int64_t *indptr, int32_t *indices, int64_t *counts,
                 int64_t *a_places, int64_t *b_places, int team) {
    SAFFU_PARALLEL_FOR(team, schedule(dynamic))
    for (int task = 0; task < n_pieces + 1; task++) {
        if (task < 2) {
            for (const Piece *p = pieces + 1; p < pieces + n_pieces; p++) {
                size_t n = (size_t)(p->end - p->begin);
                if (task == 0) memmove(counts + p->final, counts + p->begin, n * sizeof *counts);
                if (task == 1) memmove(indices + p->final, indices + p->begin, n * sizeof *indices);
            }
        } else {
            const Piece *p = pieces + task - 1;
            int64_t gap = p->begin - p->final;
            subtract(indptr + p->first_row + 1, p[1].first_row - p->first_row, gap);
            if (a_places) subtract(a_places + p->a_from, p[1].a_from - p->a_from, gap);
            if (b_places) subtract(b_places + p->b_from, p[1].b_from - p->b_from, gap);
        }
    }
}

int saffu_merge(const saffu_table *a, const saffu_table *b, int64_t from, int64_t to, int64_t *indptr,
                int32_t *indices, int64_t *counts, int64_t *a_places, int64_t *b_places, int n_threads) {
    Piece pieces[MOST_PIECES + 1];
    cut(a, b, from, to, indptr[from], 1, pieces);
    int team = saffu_team(n_threads, pieces[1].begin - pieces[0].begin + to - from);
    int n_pieces = team < MOST_PIECES ? team : MOST_PIECES;
    cut(a, b, from, to, indptr[from], n_pieces, pieces);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic))
    for (int k = 0; k < n_pieces; k++) {
        Piece *p = pieces + k;
        int64_t last = p[1].first_row;
        if (a_places) {
            p->end = merge_rows(a, b, p->first_row, last, p->begin, indptr, indices, counts, a_places, b_places);
        } else {
            p->end = merge_rows(a, b, p->first_row, last, p->begin, indptr, indices, counts, NULL, NULL);
        }
    }
    pieces[0].final = pieces[0].begin;
    for (int k = 1; k < n_pieces; k++) pieces[k].final = pieces[k - 1].final + pieces[k - 1].end - pieces[k - 1].begin;
    if (n_pieces > 1) move(pieces, n_pieces, indptr, indices, counts, a_places, b_places, team);
    return SAFFU_OK;
}

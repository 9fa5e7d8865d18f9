/* Counting: token streams -> sorted sparse counts.
 *
 * Decisions. Positions are sorted by context with a counting sort, then each row is accumulated in a dense scratch of
 * counters that stays in cache, and emitted in ascending order: no hash table, no atomics, no copy of the result per
 * thread. A row has one owner, so the result is the same for every number of threads; the few rows that hold a large
 * share of all pairs (the commonest words) are counted by the whole team, one after the other.
 */
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "saffu.h"

/* ---- stage 1: bucket --------------------------------------------------------------------------------------------- */

SAFFU_INLINE int64_t document_end(const int64_t *documents, int64_t n_documents, int64_t n, int64_t d) {
    return d + 1 < n_documents ? documents[d + 1] : n;
}

/* The document that holds position t: the last start <= t. */
static int64_t document_of(const int64_t *documents, int64_t n_documents, int64_t t) {
    int64_t low = 0, high = n_documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (documents[middle] <= t) low = middle;
        else high = middle;
    }
    return low;
}

typedef struct {
    const int32_t *contexts, *targets;
    const int64_t *documents;
    int64_t n, n_documents, n_rows, nearest, farthest;
    int single;
} Stream;

/* Count (bucket == NULL) or place the usable positions of [from, to): one pass over the documents it touches. */
static int visit(const Stream *s, int64_t from, int64_t to, int64_t *restrict cursor, int32_t *restrict bucket) {
    if (from >= to) return SAFFU_OK;
    for (int64_t d = document_of(s->documents, s->n_documents, from); d < s->n_documents; d++) {
        int64_t end = document_end(s->documents, s->n_documents, s->n, d);
        int64_t t = saffu_max(s->documents[d], from), stop = saffu_min(end - s->nearest, to);
        if (s->documents[d] >= to) break;
        if (!bucket) {
            for (; t < stop; t++) {
                int32_t c = s->contexts[t];
                if (c < 0) continue;
                if (c >= s->n_rows) return SAFFU_OUT_OF_RANGE;
                cursor[c]++;
            }
        } else if (s->single) {
            for (; t < stop; t++) {
                int32_t c = s->contexts[t];
                if (c >= 0) bucket[cursor[c]++] = s->targets[t + s->nearest];
            }
        } else {
            int64_t inner = end - s->farthest;
            for (; t < stop; t++) {
                int32_t c = s->contexts[t];
                if (c >= 0) bucket[cursor[c]++] = (int32_t)(t < inner ? t : ~t);
            }
        }
    }
    return SAFFU_OK;
}

int saffu_bucket(const int32_t *contexts, const int32_t *targets, const int64_t *distances, const int64_t *documents,
                 int64_t n, int64_t n_distances, int64_t n_documents, int64_t n_rows, int64_t *row_ptr,
                 int32_t *bucket, int n_threads) {
    Stream s = {contexts,    targets, documents,    n, n_documents, n_rows, distances[0], distances[n_distances - 1],
                n_distances == 1};
    /* A histogram per team member pays while the histograms are shorter than the stream. */
    int64_t team = saffu_team(n_threads, n);
    team = saffu_max(1, saffu_min(team, n / (n_rows + 1)));
    int64_t *cursors = calloc((size_t)(team * n_rows + 1), sizeof *cursors);
    if (!cursors) return SAFFU_NO_MEMORY;
    int status = SAFFU_OK;

    SAFFU_OMP(parallel for num_threads(team) schedule(static, 1) reduction(min : status))
    for (int64_t m = 0; m < team; m++) {
        int mine = visit(&s, n * m / team, n * (m + 1) / team, cursors + m * n_rows, NULL);
        status = mine < status ? mine : status;
    }
    if (status == SAFFU_OK) {
        int64_t total = 0; /* histograms -> first free place of each member in each row */
        for (int64_t c = 0; c < n_rows; c++) {
            row_ptr[c] = total;
            for (int64_t m = 0; m < team; m++) {
                int64_t count = cursors[m * n_rows + c];
                cursors[m * n_rows + c] = total;
                total += count;
            }
        }
        row_ptr[n_rows] = total;
        SAFFU_OMP(parallel for num_threads(team) schedule(static, 1))
        for (int64_t m = 0; m < team; m++)
            visit(&s, n * m / team, n * (m + 1) / team, cursors + m * n_rows, bucket);
    }
    free(cursors);
    return status;
}

/* ---- stage 2: rows ----------------------------------------------------------------------------------------------- */

typedef struct {
    const int32_t *bucket, *targets;
    const int64_t *distances, *documents;
    int64_t n, n_distances, n_documents;
} Pairs;

typedef struct {
    int32_t *counter; /* (n_cols) zero between rows */
    int32_t *seen;    /* (n_cols + 1) the columns of this row, by first touch */
    uint64_t *bits;   /* (n_cols / 64 + 1) zero between rows */
} Scratch;

/* Add one pair; branch-free, so that a first touch costs no misprediction. */
SAFFU_INLINE int64_t touch(Scratch s, int32_t column, int64_t n_seen) {
    int32_t before = s.counter[column];
    s.seen[n_seen] = column;
    s.counter[column] = before + 1;
    return n_seen + (before == 0);
}

/* Accumulate bucket[from .. to) and return the number of distinct columns. */
static int64_t accumulate(const Pairs *p, int64_t from, int64_t to, Scratch s) {
    int64_t n_seen = 0;
    if (p->n_distances == 1) {
        for (int64_t i = from; i < to; i++) n_seen = touch(s, p->bucket[i], n_seen);
        return n_seen;
    }
    for (int64_t i = from; i < to; i++) {
        int64_t t = p->bucket[i];
        if (i + 8 < to) {
            int64_t ahead = p->bucket[i + 8];
            SAFFU_PREFETCH(p->targets + (ahead < 0 ? ~ahead : ahead));
        }
        if (t >= 0) {
            for (int64_t j = 0; j < p->n_distances; j++) n_seen = touch(s, p->targets[t + p->distances[j]], n_seen);
        } else {
            t = ~t;
            int64_t d = document_of(p->documents, p->n_documents, t);
            int64_t end = document_end(p->documents, p->n_documents, p->n, d);
            for (int64_t j = 0; j < p->n_distances && t + p->distances[j] < end; j++)
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
static void emit(Scratch s, int64_t n_seen, int32_t *restrict indices, int64_t *restrict counts) {
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

/* One long row by the whole team: slices of its occurrences into separate counters, then slices of the columns. */
static int64_t count_long_row(const Pairs *p, int64_t from, int64_t to, int64_t n_cols, Scratch *scratch, int team,
                              int64_t *n_mine, int32_t *indices, int64_t *counts) {
    SAFFU_OMP(parallel num_threads(team)) {
        SAFFU_OMP(for schedule(static, 1))
        for (int m = 0; m < team; m++)
            accumulate(p, from + (to - from) * m / team, from + (to - from) * (m + 1) / team, scratch[m]);
        SAFFU_OMP(for schedule(static, 1))
        for (int m = 0; m < team; m++) {
            int64_t n_found = 0, first = n_cols * m / team;
            int32_t *total = scratch[0].counter;
            for (int64_t w = first; w < n_cols * (m + 1) / team; w++) {
                for (int other = 1; other < team; other++) {
                    total[w] += scratch[other].counter[w];
                    scratch[other].counter[w] = 0;
                }
                scratch[0].seen[first + n_found] = (int32_t)w;
                n_found += total[w] != 0;
            }
            n_mine[m] = n_found;
        }
    }
    int64_t out = 0;
    for (int m = 0; m < team; m++) {
        int32_t *found = scratch[0].seen + n_cols * m / team;
        for (int64_t i = 0; i < n_mine[m]; i++, out++) {
            indices[out] = found[i];
            counts[out] = scratch[0].counter[found[i]];
            scratch[0].counter[found[i]] = 0;
        }
    }
    return out;
}

static void free_scratch(Scratch *scratch, int team) {
    for (int m = 0; scratch && m < team; m++) {
        free(scratch[m].counter);
        free(scratch[m].seen);
        free(scratch[m].bits);
    }
    free(scratch);
}

static Scratch *new_scratch(int team, int64_t n_cols) {
    Scratch *scratch = calloc((size_t)team, sizeof *scratch);
    if (!scratch) return NULL;
    for (int m = 0; m < team; m++) {
        scratch[m].counter = calloc((size_t)n_cols + 1, sizeof(int32_t));
        scratch[m].seen = malloc(((size_t)n_cols + 1) * sizeof(int32_t));
        scratch[m].bits = calloc((size_t)n_cols / 64 + 1, sizeof(uint64_t));
        if (!scratch[m].counter || !scratch[m].seen || !scratch[m].bits) {
            free_scratch(scratch, team);
            return NULL;
        }
    }
    return scratch;
}

/* Close the gaps between the segments; length[c + 1] holds the length of row c and becomes its end. */
static void compact(const int64_t *segment, int64_t n_rows, int64_t *length, int32_t *indices, int64_t *counts) {
    length[0] = 0;
    for (int64_t c = 0; c < n_rows; c++) {
        int64_t n_row = length[c + 1], to = length[c];
        if (n_row && to != segment[c]) {
            memmove(indices + to, indices + segment[c], (size_t)n_row * sizeof *indices);
            memmove(counts + to, counts + segment[c], (size_t)n_row * sizeof *counts);
        }
        length[c + 1] = to + n_row;
    }
}

int saffu_count_rows(const int64_t *row_ptr, const int32_t *bucket, const int32_t *targets, const int64_t *distances,
                     const int64_t *documents, const int64_t *segment, int64_t n, int64_t n_distances,
                     int64_t n_documents, int64_t n_rows, int64_t n_cols, int64_t *indptr, int32_t *indices,
                     int64_t *counts, int n_threads) {
    Pairs p = {bucket, targets, distances, documents, n, n_distances, n_documents};
    int64_t n_positions = row_ptr[n_rows];
    int team = saffu_team(n_threads, n_positions * n_distances);
    Scratch *scratch = new_scratch(team, n_cols);
    int64_t *n_mine = malloc((size_t)team * sizeof *n_mine);
    if (!scratch || !n_mine) {
        free_scratch(scratch, team);
        free(n_mine);
        return SAFFU_NO_MEMORY;
    }
    /* Alone, a row is long if it would keep one thread busy after the others are done. */
    int64_t long_row = team == 1 ? INT64_MAX : saffu_max(n_positions / (8 * team), 4 * n_cols / n_distances);
    SAFFU_OMP(parallel for num_threads(team) schedule(dynamic, 16))
    for (int64_t c = 0; c < n_rows; c++) {
        int64_t from = row_ptr[c], to = row_ptr[c + 1];
        if (to - from > long_row) continue;
        Scratch mine = scratch[saffu_thread()];
        int64_t n_seen = accumulate(&p, from, to, mine);
        emit(mine, n_seen, indices + segment[c], counts + segment[c]);
        indptr[c + 1] = n_seen;
    }
    for (int64_t c = 0; team > 1 && c < n_rows; c++)
        if (row_ptr[c + 1] - row_ptr[c] > long_row)
            indptr[c + 1] = count_long_row(&p, row_ptr[c], row_ptr[c + 1], n_cols, scratch, team, n_mine,
                                           indices + segment[c], counts + segment[c]);
    compact(segment, n_rows, indptr, indices, counts);
    free_scratch(scratch, team);
    free(n_mine);
    return SAFFU_OK;
}

/* ---- lookup ------------------------------------------------------------------------------------------------------ */

int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols, int64_t n,
               int32_t *entry, int n_threads) {
    int team = saffu_team(n_threads, n * 4);
    (void)team;
    SAFFU_OMP(parallel for num_threads(team) schedule(static))
    for (int64_t i = 0; i < n; i++) {
        int32_t c = rows[i], w = cols[i];
        entry[i] = -1;
        if (c < 0) continue;
        int64_t low = indptr[c], length = indptr[c + 1] - low, end = indptr[c + 1];
        while (length > 0) { /* first place with a column >= w */
            int64_t half = length / 2;
            if (indices[low + half] < w) {
                low += half + 1;
                length -= half + 1;
            } else {
                length = half;
            }
        }
        if (low < end && indices[low] == w) entry[i] = (int32_t)low;
    }
    return SAFFU_OK;
}

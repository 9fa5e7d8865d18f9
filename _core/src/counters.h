/* What counting a row needs: a counter for each column, and the columns that were touched in ascending order.
 *
 * Decisions. Few columns are sorted by insertion. Many pass through a bitmap; where they lie far apart a second one
 * tells which words of the first are not empty, so that a row costs its own columns and a bit for each 4,096 of all,
 * not a sweep of everything between its first column and its last.
 */
#ifndef SAFFU_COUNTERS_H
#define SAFFU_COUNTERS_H

#include "parallel.h"
#include "saffu.h"

enum { FEW = 12, FEW_FAR = 24 }; /* columns that are sorted sooner than they pass through a bitmap, near or far apart */

SAFFU_INLINE int64_t document_end(const saffu_stream *s, int64_t d) {
    return d + 1 < s->n_documents ? s->documents[d + 1] : s->n;
}

/* The document that holds position t: the last start <= t. */
SAFFU_INLINE int64_t document_of(const saffu_stream *s, int64_t t) {
    int64_t low = 0, high = s->n_documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (s->documents[middle] <= t) low = middle;
        else high = middle;
    }
    return low;
}

/* What one thread counts in. */
typedef struct {
    int32_t *counter; /* (n_cols) zero between rows */
    int32_t *seen;    /* (n_cols + 1) the columns of this row, by first touch */
    uint64_t *bits;   /* (n_cols / 64 + 1) zero between rows */
    uint64_t *words;  /* (n_cols / 4096 + 1) zero between rows: which words of bits are not empty */
} Counters;

SAFFU_INLINE Counters counters_of(const saffu_counters *all, int64_t thread) {
    return (Counters){all->counter + thread * all->stride, all->seen + thread * all->stride,
                     all->bits + thread * (all->stride / 64 + 16), all->words + thread * (all->stride / 4096 + 16)};
}

/* Add one pair; branch-free, so that a first touch costs no misprediction. */
SAFFU_INLINE int64_t touch(Counters s, int32_t column, int64_t n_seen) {
    int32_t before = s.counter[column];
    s.seen[n_seen] = column;
    s.counter[column] = before + 1;
    return n_seen + (before == 0);
}

SAFFU_INLINE void sort_few(int32_t *x, int64_t n) {
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

/* Write the places of the bits of a word, which becomes zero; the number written so far. */
SAFFU_INLINE int64_t empty_word(uint64_t *bits, int64_t word, int32_t *seen, int64_t out) {
    for (uint64_t rest = bits[word]; rest; rest &= rest - 1) seen[out++] = (int32_t)(word * 64 + lowest_bit(rest));
    bits[word] = 0;
    return out;
}

/* Columns of words that are not near one another: of words first to last, those that are not empty are marked. */
static void sort_far(Counters s, int64_t n_seen, int64_t first, int64_t last) {
    int64_t out = 0;
    for (int64_t i = 0; i < n_seen; i++) s.words[s.seen[i] >> 12] |= 1ULL << (s.seen[i] >> 6 & 63);
    for (int64_t group = first >> 6; group <= last >> 6; group++) {
        for (uint64_t rest = s.words[group]; rest; rest &= rest - 1)
            out = empty_word(s.bits, group * 64 + lowest_bit(rest), s.seen, out);
        s.words[group] = 0;
    }
}

SAFFU_INLINE int far_apart(const int32_t *seen, int64_t n_seen) {
    int64_t low = INT64_MAX, high = 0;
    for (int64_t i = 0; i < n_seen; i++) {
        low = saffu_min(low, seen[i] >> 6);
        high = saffu_max(high, seen[i] >> 6);
    }
    return high - low > 4 * n_seen;
}

/* The seen columns in ascending order. */
SAFFU_INLINE void sort_seen(Counters s, int64_t n_seen) {
    int64_t low = INT64_MAX, high = 0, out = 0;
    if (n_seen <= FEW || (n_seen <= FEW_FAR && far_apart(s.seen, n_seen))) {
        sort_few(s.seen, n_seen);
        return;
    }
    for (int64_t i = 0; i < n_seen; i++) {
        int64_t word = s.seen[i] >> 6;
        s.bits[word] |= 1ULL << (s.seen[i] & 63);
        low = saffu_min(low, word);
        high = saffu_max(high, word);
    }
    if (high - low > 4 * n_seen) sort_far(s, n_seen, low, high);
    else
        for (int64_t word = low; word <= high; word++) out = empty_word(s.bits, word, s.seen, out);
}

#endif

/* Packing rows: the sparse rows of all tables in the form that the pooled softmax adds up.
 *
 * Decisions. Frequent words have small ids, so a long row is nearly full at its beginning: that is stored as a vector,
 * without indices, and the rest as (word, value) pairs. The exponential of a word takes a cycle as float and two as
 * double, and another half to bring its 4 or 8 bytes from where rows lie that do not fit the caches; a pair takes three
 * to five cycles in all. So the vector ends where fewer than a third (float) or half (double) of its words are seen.
 * That words ascend is looked at while they are in cache, for many short rows together.
 */
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"

enum { BLOCK = SAFFU_BLOCK, PACKED_AT_ONCE = 256, SCAN = 1024, WORDS_PER_FLOAT = 3, WORDS_PER_DOUBLE = 2 };

/* How many entries of words [from, to) are not above the one before? */
SAFFU_INLINE int64_t count_descents(const int32_t *words, int64_t from, int64_t to) {
    int64_t n = 0;
    for (int64_t i = from; i < to; i += SCAN) {
        int32_t some = 0; /* few enough for narrow lanes */
        for (int64_t j = i; j < saffu_min(to, i + SCAN); j++) some += words[j] <= words[j - 1];
        n += some;
    }
    return n;
}

/* Do the words of rows [from, to) ascend, from 0 to at most what places of 32 bits can pad to a block? Then all
 * descents are at the beginnings of rows: many short rows are looked at as one long one. */
SAFFU_SIMD static int rows_ascend(const int64_t *indptr, const int32_t *words, int64_t from, int64_t to) {
    int64_t first = indptr[from], n_descents = count_descents(words, first + 1, indptr[to]);
    int bad = 0;
    for (int64_t c = from; c < to; c++) {
        int64_t begin = indptr[c], end = indptr[c + 1];
        if (begin == end) continue;
        n_descents -= begin > first && words[begin] <= words[begin - 1];
        bad |= (words[begin] < 0) | (words[end - 1] > INT32_MAX - BLOCK);
    }
    return !bad && n_descents == 0;
}

/* Length of the dense beginning of a row, the largest multiple of BLOCK with at most so many words to one that is seen;
 * *inside words lie in it. A word that has a place there is below that multiple of the number of words up to it. */
SAFFU_INLINE int64_t head_length(const int32_t *words, int64_t n, int64_t most, int64_t *inside) {
    int64_t best = 0; /* words that lie within the longest beginning so far */
    for (int64_t i = 0; i < n && words[i] < most * n; i++)
        best = most * (i + 1) >= ((int64_t)words[i] / BLOCK + 1) * BLOCK ? i + 1 : best;
    *inside = best;
    return best ? ((int64_t)words[best - 1] / BLOCK + 1) * BLOCK : 0;
}

int saffu_pack_sizes(const int64_t *indptr, const int32_t *words, int size, int64_t n_rows, int64_t *head_ptr,
                     int64_t *tail_ptr, int n_threads) {
    int64_t most = size == 4 ? WORDS_PER_FLOAT : WORDS_PER_DOUBLE;
    int team = saffu_team(n_threads, indptr[n_rows] - indptr[0]), bad = 0;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t from = 0; from < n_rows; from += PACKED_AT_ONCE) {
        int64_t to = saffu_min(n_rows, from + PACKED_AT_ONCE), inside;
        bad |= !rows_ascend(indptr, words, from, to);
        for (int64_t c = from; c < to; c++) {
            int64_t n = indptr[c + 1] - indptr[c];
            head_ptr[c + 1] = head_length(words + indptr[c], n, most, &inside);
            tail_ptr[c + 1] = n - inside;
        }
    }
    if (bad) return SAFFU_OUT_OF_RANGE;
    for (int64_t c = 0; c < n_rows; c++) { /* on from the ends of the rows before */
        head_ptr[c + 1] += head_ptr[c];
        tail_ptr[c + 1] += tail_ptr[c];
    }
    return SAFFU_OK;
}

/* One row, whose entries begin at words and u: those before the n_tail last ones lie in its dense beginning. */
SAFFU_INLINE void pack_row(const int32_t *words, const void *u, int size, int64_t n, int64_t n_tail, void *head,
                           int64_t n_head, int32_t *tail_word, void *tail_u) {
    int64_t inside = n - n_tail;
    memset(head, 0, (size_t)(n_head * size));
    if (size == 4)
        for (int64_t i = 0; i < inside; i++) ((float *)head)[words[i]] = ((const float *)u)[i];
    else
        for (int64_t i = 0; i < inside; i++) ((double *)head)[words[i]] = ((const double *)u)[i];
    memcpy(tail_word, words + inside, (size_t)n_tail * sizeof *words);
    memcpy(tail_u, real_from(u, size, inside), (size_t)(n_tail * size));
}

int saffu_pack(const int64_t *indptr, const int32_t *words, const void *u, int size, const int64_t *head_ptr,
               const int64_t *tail_ptr, int64_t n_rows, void *head, int32_t *tail_word, void *tail_u, int n_threads) {
    int team = saffu_team(n_threads, indptr[n_rows] - indptr[0]);
    SAFFU_PARALLEL_FOR(team, schedule(static, 256))
    for (int64_t c = 0; c < n_rows; c++) {
        int64_t n = indptr[c + 1] - indptr[c], n_tail = tail_ptr[c + 1] - tail_ptr[c];
        int64_t n_head = head_ptr[c + 1] - head_ptr[c];
        pack_row(words + indptr[c], real_from(u, size, indptr[c]), size, n, n_tail,
                 (char *)head + head_ptr[c] * size, n_head, tail_word + tail_ptr[c],
                 (char *)tail_u + tail_ptr[c] * size);
    }
    return SAFFU_OK;
}

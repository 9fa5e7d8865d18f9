/* Lookup: the places of entries in a sparse matrix.
 *
 * Decisions. A binary search of a row is a chain of dependent reads, each of which may miss the cache; the chains of
 * consecutive entries are independent, and the processor follows several at a time. The offsets
 * of a row are checked entry by entry, beside that.
 */
#include "parallel.h"
#include "saffu.h"

/* The first of n ascending columns that is not below w. */
SAFFU_INLINE int64_t lower_bound(const int32_t *columns, int64_t n, int32_t w) {
    int64_t low = 0;
    while (n > 0) {
        int64_t half = n / 2;
        if (columns[low + half] < w) {
            low += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return low;
}

int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols,
               int64_t n_rows, int64_t n_entries, int64_t n, int32_t *entry, int n_threads) {
    int team = saffu_team(n_threads, n * 4), bad = 0;
    if (n_entries > INT32_MAX) return SAFFU_TOO_LARGE;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t i = 0; i < n; i++) {
        int32_t c = rows[i], w = cols[i];
        entry[i] = -1;
        if (c < 0) continue;
        if (c >= n_rows || indptr[c] < 0 || indptr[c] > indptr[c + 1] || indptr[c + 1] > n_entries) {
            bad |= 1;
            continue;
        }
        int64_t end = indptr[c + 1], place = indptr[c] + lower_bound(indices + indptr[c], end - indptr[c], w);
        if (place < end && indices[place] == w) entry[i] = (int32_t)place;
    }
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}

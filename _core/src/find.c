/* Lookup: the places of entries in a sparse matrix.
 *
 * Decisions. A binary search of a row is a chain of dependent reads, each of which may miss the cache; the chains of
 * consecutive entries are independent, and the processor follows several at a time. The offsets
 * of a row are checked entry by entry, beside that.
 */
#include "parallel.h"
#include "saffu.h"

int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols,
               int64_t n_rows, int64_t n_entries, int64_t n, int32_t *entry, int n_threads) {
    int team = saffu_team(n_threads, n * 4), bad = 0;
    if (n_entries > INT32_MAX) return SAFFU_TOO_LARGE;
    SAFFU_PARALLEL_FOR(team, schedule(static) reduction(| : bad))
    for (int64_t i = 0; i < n; i++) {
        int32_t c = rows[i], w = cols[i];
        entry[i] = -1;
        if (c < 0) continue;
        if (c >= n_rows) {
            bad |= 1;
            continue;
        }
        int64_t low = indptr[c], end = indptr[c + 1], length = end - low;
        if (low < 0 || low > end || end > n_entries) {
            bad |= 1;
            continue;
        }
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
    return bad ? SAFFU_OUT_OF_RANGE : SAFFU_OK;
}
